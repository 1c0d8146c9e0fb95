//! The initial state of process 1: capabilities in fixed slots, and a boot page that describes the
//! machine.

use crate::Cap;

/// Process 1's own CNode.
pub const INIT_CNODE: Cap = Cap(1);
pub const INIT_VSPACE: Cap = Cap(2);
pub const INIT_PROCESS: Cap = Cap(3);
pub const INIT_TASK: Cap = Cap(4);
pub const INIT_SCHED: Cap = Cap(5);
/// The Machine, all rights. It has no badge, so that copies can be given channels of their own; its
/// own log channel is 1.
pub const INIT_MACHINE: Cap = Cap(6);
/// Authority over CPU time that allows every priority on every CPU.
pub const INIT_SCHED_CONTROL: Cap = Cap(7);
/// First of [`BootPage::untyped_count`] Untypeds, largest first.
pub const INIT_UNTYPED: Cap = Cap(17);
/// Slots in process 1's CSpace.
pub const INIT_CNODE_SLOTS: usize = 4096;

/// Where the kernel maps the boot page in process 1, read-only.
pub const BOOT_PAGE_VA: u64 = 0x1000_0000;
/// Where process 1 finds its own UTCB.
pub const INIT_UTCB_VA: u64 = 0x1000_2000;
/// Where the boot archive is mapped in process 1, read-only.
pub const ARCHIVE_VA: u64 = 0x2000_0000;
/// Process 1's stack: top and size in bytes.
pub const INIT_STACK_TOP: u64 = 0x1100_0000;
pub const INIT_STACK_SIZE: u64 = 0x4_0000;

/// Highest user address plus one: the last page of the lower half is never mapped.
pub const USER_TOP: u64 = 0x0000_7fff_ffff_f000;
pub const PAGE_LOG2: u8 = 12;
pub const LARGE_PAGE_LOG2: u8 = 21;
pub const PAGE_SIZE: u64 = 1 << PAGE_LOG2;
pub const LARGE_PAGE_SIZE: u64 = 1 << LARGE_PAGE_LOG2;
/// Most pages of 4 KiB that one frame has.
pub const FRAME_PAGES_MAX: u32 = 512;

/// The most Untypeds that process 1 gets.
pub const BOOT_UNTYPED_MAX: usize = 64;
/// Longest kernel command line that is passed on.
pub const CMDLINE_MAX: usize = 1024;

/// `BootPage::magic`: "AURORA" and the layout's version.
pub const BOOT_MAGIC: u64 = 0x4155_524f_5241_0002;

/// One page of facts for process 1.
#[repr(C, align(4096))]
#[derive(Clone, Copy)]
pub struct BootPage {
    pub magic: u64,
    /// CPUs that came up, numbered from 0.
    pub cpus: u64,
    /// TSC ticks a second.
    pub tsc_hz: u64,
    pub archive_len: u64,
    pub untyped_count: u64,
    /// Bytes of XSAVE state a task with vector state carries.
    pub xsave_bytes: u64,
    /// Bit set of [`cpu_features`].
    pub features: u64,
    pub cmdline_len: u64,
    /// TSC ticks that a million turns of a two-instruction loop took in kernel mode at boot: tells
    /// an emulated kernel mode from a real one.
    pub kernel_loop_ticks: u64,
    pub power: Power,
    /// Base-2 logarithm of each Untyped's size, in slot order.
    pub untyped_log2: [u8; BOOT_UNTYPED_MAX],
    pub cmdline: [u8; CMDLINE_MAX],
}

/// Where the machine is switched off and reset, as firmware's tables say (ACPI 6.5, 5.2.9). A port
/// is 0 where there is none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Power {
    /// Physical address of the table of firmware's methods (DSDT), in which the values of the sleep
    /// registers are; 0: none.
    pub methods: u64,
    /// Bytes of that table.
    pub methods_len: u32,
    /// First ports of the registers that control sleep (PM1a, PM1b), of two bytes each.
    pub sleep: [u16; 2],
    /// The write that resets the machine.
    pub reset: PortWrite,
    /// The write by which firmware hands over the sleep registers.
    pub hand_over: PortWrite,
}

/// A byte that is written to a port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortWrite {
    pub port: u16,
    pub value: u16,
}

impl Power {
    /// Returns the first and the last port of each range that firmware names: of both sleep
    /// registers, the reset, and the hand-over.
    pub fn ports(&self) -> impl Iterator<Item = (u16, u16)> {
        let sleep = self.sleep.map(|first| (first, first.saturating_add(1)));
        let writes = [self.reset, self.hand_over].map(|write| (write.port, write.port));
        sleep.into_iter().chain(writes).filter(|(first, _)| *first != 0)
    }
}

/// Bits of [`BootPage::features`].
pub mod cpu_features {
    pub const PCID: u64 = 1 << 0;
    pub const INVPCID: u64 = 1 << 1;
    pub const X2APIC: u64 = 1 << 2;
    pub const TSC_DEADLINE: u64 = 1 << 3;
    pub const XGETBV1: u64 = 1 << 4;
    pub const SMEP: u64 = 1 << 5;
    pub const SMAP: u64 = 1 << 6;
    pub const UMIP: u64 = 1 << 7;
    pub const AVX: u64 = 1 << 8;
    /// The kernel was built with the assembly fastpath.
    pub const FASTPATH: u64 = 1 << 32;
    /// The kernel writes events into rings (tracing build).
    pub const TRACE: u64 = 1 << 35;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ports_that_firmware_names_are_ranges() {
        assert_eq!(Power::default().ports().count(), 0);
        let power =
            Power { sleep: [0x604, 0], reset: PortWrite { port: 0xcf9, value: 15 }, ..Power::default() };
        assert!(power.ports().eq([(0x604, 0x605), (0xcf9, 0xcf9)]));
    }
}
