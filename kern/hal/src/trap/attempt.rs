//! Test builds: the kernel tries what its protections forbid, and continues when it is stopped
//! ([`test_abi::Attempt`]).
//!
//! One CPU tries at a time. While it does, an exception on it ends the attempt: the trap handler
//! moves it past the forbidden instruction and notes the exception. The attempts write and call
//! return instructions, so a successful attempt does no harm.

use core::arch::{asm, naked_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;
use test_abi::Attempt;

use super::frame::KernelFrame;
use super::{DEBUG, DOUBLE_FAULT, FIRST_INTERRUPT, MACHINE_CHECK, NMI};
use crate::cpu::percpu;
use crate::cpu::syscall::SLOTS;
use crate::layout::DIRECT_MAP;
use crate::mem::kernel;

/// The address where a stopped attempt continues. Written by the CPU that tries.
#[repr(C)]
struct Refuge {
    /// 0: no attempt.
    rip: AtomicU64,
    rsp: AtomicU64,
    /// One more than the number of the CPU.
    cpu: AtomicU64,
    /// What stopped it; 0: nothing did.
    cause: AtomicU64,
}

static REFUGE: Refuge = Refuge {
    rip: AtomicU64::new(0),
    rsp: AtomicU64::new(0),
    cpu: AtomicU64::new(0),
    cause: AtomicU64::new(0),
};
/// Held during an attempt.
static TRIES: Mutex<()> = Mutex::new(());
/// In what is written until the kernel is sealed.
#[unsafe(link_section = ".sealed")]
static SEALED: AtomicU64 = AtomicU64::new(0);

const RETURN: u8 = 0xc3;
static CONSTANT: [u8; 16] = [RETURN; 16];
/// In the kernel's data, which is written.
static DATA: AtomicU64 = AtomicU64::new(u64::from_le_bytes([RETURN; 8]));

/// Text that no CPU executes, so that a write has no effect.
#[unsafe(naked)]
extern "C" fn text() {
    naked_asm!("ret", "int3")
}

fn this_cpu() -> u64 {
    percpu::this().map_or(0, |cpu| cpu.id.index() as u64 + 1)
}

/// Returns whether an exception ended an attempt of [`run`], which then continues.
pub(super) fn stopped(frame: &mut KernelFrame) -> bool {
    let vector = frame.vector as u8;
    let rip = REFUGE.rip.load(Ordering::Relaxed);
    if rip == 0
        || REFUGE.cpu.load(Ordering::Relaxed) != this_cpu()
        || matches!(vector, DEBUG | NMI | DOUBLE_FAULT | MACHINE_CHECK | FIRST_INTERRUPT..)
    {
        return false;
    }
    REFUGE.cause.store(frame.vector << 32 | frame.error, Ordering::Relaxed);
    (frame.rip, frame.rsp) = (rip, REFUGE.rsp.load(Ordering::Relaxed));
    true
}

/// Returns the address in the direct map of something in the image.
fn alias(at: *const u8) -> u64 {
    DIRECT_MAP + kernel::image_address(at)
}

/// Returns the places that the CPU may write until the kernel is sealed: its text, a constant and a
/// word after the code of an entry slot, in the direct map, and sealed data.
fn sealed_places() -> [u64; 4] {
    let text = text as *const () as *const u8;
    let slot = SLOTS.0[0][3].as_ptr().cast_const().cast();
    [alias(text), alias(CONSTANT.as_ptr()), alias(slot), SEALED.as_ptr() as u64]
}

/// Writes to each place that [`kernel::seal`] will make read-only, so that this CPU has
/// translations that allow writing.
pub fn write_before_sealing() {
    for address in sealed_places() {
        let stopped = run(Attempt::Write, address);
        assert!(stopped == 0, "nothing is sealed, and {stopped:#x} stops a write to {address:#x}");
    }
}

/// Writes to each place that [`kernel::seal`] has made read-only, and notes what stopped the
/// writes.
pub fn write_after_sealing() {
    let Some(cpu) = percpu::this() else { return };
    for address in sealed_places() {
        let stopped = run(Attempt::Write, address);
        let before = cpu.sealed_by.load(Ordering::Relaxed);
        // One that went through counts.
        cpu.sealed_by.store(if before == 0 { 0 } else { stopped }, Ordering::Relaxed);
    }
}

/// Tries what a protection forbids. Returns 0 if that succeeded, or else what stopped it.
pub fn run(what: Attempt, address: u64) -> u64 {
    if what == Attempt::Hang {
        loop {
            core::hint::spin_loop();
        }
    }
    let _alone = TRIES.lock();
    let (text, data) = (text as *const () as *const u8, DATA.as_ptr().cast_const().cast::<u8>());
    REFUGE.cause.store(0, Ordering::Relaxed);
    REFUGE.cpu.store(this_cpu(), Ordering::Relaxed);
    match what {
        Attempt::Read => read(address),
        Attempt::Write => write(address),
        Attempt::Execute => execute(address),
        Attempt::WriteText => write(text as u64),
        Attempt::WriteTextAlias => write(alias(text)),
        Attempt::WriteConstant => write(CONSTANT.as_ptr() as u64),
        Attempt::ExecuteData => execute(data as u64),
        Attempt::ExecuteDataAlias => execute(alias(data)),
        Attempt::WriteSealed => {
            return percpu::this().map_or(0, |cpu| cpu.sealed_by.load(Ordering::Relaxed));
        }
        // Never comes here.
        Attempt::Hang => {}
    }
    REFUGE.cause.load(Ordering::Relaxed)
}

/// One instruction that may be stopped, with the refuge open just around it.
macro_rules! attempt {
    ($address:expr, $instruction:literal) => {
        // SAFETY: this is forbidden: either it is stopped and continues at `2:` with the stack as
        // it was, or it succeeds and has changed only registers that are named here.
        unsafe {
            asm!(
                "lea rax, [rip + 2f]",
                "mov [rcx + {rsp}], rsp",
                "mov [rcx + {rip}], rax",
                $instruction,
                "2:",
                "mov qword ptr [rcx + {rip}], 0",
                rsp = const offset_of!(Refuge, rsp),
                rip = const offset_of!(Refuge, rip),
                in("rcx") &raw const REFUGE,
                in("rdx") $address,
                out("rax") _,
            )
        }
    };
}

#[inline(never)]
fn read(address: u64) {
    attempt!(address, "mov al, [rdx]");
}

#[inline(never)]
fn write(address: u64) {
    attempt!(address, "mov byte ptr [rdx], 0xc3");
}

#[inline(never)]
fn execute(address: u64) {
    attempt!(address, "call rdx");
}
