//! Exceptions and interrupts.
//!
//! # Where each is handled
//! * From user mode: the entry saves the registers directly in the current task's frame, and then
//!   calls the kernel's hook (`entry.s`).
//! * From the idle loop: the handler acknowledges an interrupt, and returns it to the loop as a bit
//!   ([`idle`](crate::cpu::idle)).
//! * NMI, machine check and double fault, from anywhere, are handled on their own stacks and never
//!   go to a task. The last two end the run.
//! * Any other exception in kernel mode is a bug: the kernel prints a dump and ends the run.
//!   [`meaning`] has the two cases that are no bugs.

#[cfg(all(target_os = "none", feature = "faults"))]
pub mod attempt;
#[cfg(target_os = "none")]
pub mod dump;
#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
mod epitaph;
pub mod frame;
#[cfg(target_os = "none")]
mod handlers;

use frame::KernelFrame;
#[cfg(target_os = "none")]
pub use handlers::{begin_to_die, die_of_panic, freeze};

pub const DEBUG: u8 = 1;
pub const NMI: u8 = 2;
pub const BREAKPOINT: u8 = 3;
pub const DOUBLE_FAULT: u8 = 8;
pub const GENERAL_PROTECTION: u8 = 13;
pub const PAGE_FAULT: u8 = 14;
pub const MACHINE_CHECK: u8 = 18;
/// First vector that is an interrupt.
pub const FIRST_INTERRUPT: u8 = 32;

/// Another CPU wrote to this one's mailbox.
pub const WAKE: u8 = 0x70;
/// The local APIC's timer. It comes before mail if both wait, so that work that goes on by mail
/// delays no deadline.
pub const TIMER: u8 = 0x71;
/// The local APIC found an error.
pub const APIC_ERROR: u8 = 0x72;
/// The vectors of devices' interrupts: one for each place in a CPU's table. They come after mail
/// and timer if both wait, and keep neither out while they are served.
pub const FIRST_DEVICE: u8 = 0x30;
/// The local APIC took an interrupt back.
pub const SPURIOUS: u8 = 0xff;

/// Returns the place in the CPU's table of the device whose interrupt has this vector.
pub fn device_of(vector: u64) -> Option<usize> {
    let place = (vector as usize).wrapping_sub(FIRST_DEVICE.into());
    Some(place).filter(|place| *place < abi::devices::CPU_LINES)
}

/// What an exception means that interrupted the kernel, or user code at a place where the entry
/// could not save its registers in the task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// A non-maskable interrupt. The interrupted code continues, wherever it was.
    NonMaskable,
    /// A debug exception of user code, which MOV SS delayed past a kernel entry.
    LateDebug,
    /// The exit's IRET refused the current task's frame: the task's own fault.
    FrameRefused,
    /// A fault of the kernel or of the machine: the run ends.
    KernelFault,
}

/// Classifies an exception that may be the refusal of a task's frame by IRET. `exit_iret` is the
/// address of the IRET with which the kernel leaves.
///
/// The address alone says nothing: any exception may arrive at that instruction, and a program may
/// have jumped there just before a machine check. IRET refuses a frame in one way only, by a
/// protection fault. Its error code is zero, because the selectors in the frame are the kernel's
/// own.
pub fn meaning(frame: &KernelFrame, exit_iret: u64) -> Meaning {
    let at_exit = !frame.from_user() && frame.rip == exit_iret;
    match frame.vector as u8 {
        NMI => Meaning::NonMaskable,
        DEBUG => Meaning::LateDebug,
        GENERAL_PROTECTION if at_exit && frame.error == 0 => Meaning::FrameRefused,
        _ => Meaning::KernelFault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: u64 = 0xffff_ffff_8010_0000;
    const KERNEL_CODE: u64 = 0x08;
    const USER_CODE: u64 = 0x2b;

    fn judge(vector: u8, error: u64, cs: u64, rip: u64) -> Meaning {
        let frame = KernelFrame { vector: vector.into(), error, cs, rip, ..KernelFrame::default() };
        meaning(&frame, EXIT)
    }

    #[test]
    fn only_a_protection_fault_of_iret_is_the_tasks_fault() {
        for vector in 0..FIRST_INTERRUPT {
            let expected = match vector {
                NMI => Meaning::NonMaskable,
                DEBUG => Meaning::LateDebug,
                GENERAL_PROTECTION => Meaning::FrameRefused,
                _ => Meaning::KernelFault,
            };
            assert_eq!(judge(vector, 0, KERNEL_CODE, EXIT), expected, "vector {vector}");
        }
        // A selector in the error code: the kernel's descriptors are broken.
        assert_eq!(judge(GENERAL_PROTECTION, USER_CODE, KERNEL_CODE, EXIT), Meaning::KernelFault);
    }

    #[test]
    fn other_places_are_not_the_exit() {
        for rip in [EXIT - 1, EXIT + 1, 0] {
            assert_eq!(judge(GENERAL_PROTECTION, 0, KERNEL_CODE, rip), Meaning::KernelFault);
        }
        // A program that jumped to the exit's address.
        for vector in [MACHINE_CHECK, DOUBLE_FAULT, GENERAL_PROTECTION] {
            assert_eq!(judge(vector, 0, USER_CODE, EXIT), Meaning::KernelFault, "vector {vector}");
        }
    }
}
