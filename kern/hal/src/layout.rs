//! The kernel's address map: one table, used by the linker script, the page tables and the
//! assembly.
//!
//! ```text
//! PML4   address                       what
//! 0-255  0000_0000_0000_1000 ...       user; page 0 and the last page are never mapped
//! 256-   ffff_8000_0000_0000 + 64 TiB  direct map: all RAM, NX; kernel text and constants read-only; text screen
//! 511    ffff_ffff_8000_0000 + 1 GiB   kernel image, loaded at 1 MiB
//! 511    ffff_ffff_c000_0000 + 256 KiB per CPU: stacks with guards, tables of the CPU
//! 511    ffff_ffff_e000_0000 + 256 MiB device registers and firmware tables
//! 511    ffff_ffff_f000_0000 + 64 KiB  one SYSCALL entry slot per CPU, RX
//! ```
//!
//! Everything from the image on lies in the last 2 GiB, so the kernel code model reaches all of it,
//! and a slot's `jmp rel32` reaches the kernel text.

use kern_base::process::ProcessKey;

/// Where the image's physical address 0 would be.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// Where physical address 0 is in the direct map.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Most physical memory that the direct map can show.
pub const DIRECT_MAP_SIZE: u64 = 1 << 46;

/// Window of CPU `n`: `CPU_WINDOWS + n * CPU_WINDOW_SIZE`.
pub const CPU_WINDOWS: u64 = 0xffff_ffff_c000_0000;
/// Address space per CPU.
pub const CPU_WINDOW_SIZE: u64 = 16 * STACK_SIZE;
/// Where in a CPU's window its tables start (after the stacks and their guards).
pub const CPU_DATA_OFFSET: u64 = 2 * STACK_SIZE * STACK_COUNT as u64;

/// Device registers and firmware tables.
pub const DEVICE_WINDOW: u64 = 0xffff_ffff_e000_0000;
/// Room for them.
pub const DEVICE_WINDOW_SIZE: u64 = 256 << 20;

/// SYSCALL entry slots.
pub const ENTRY_SLOTS: u64 = 0xffff_ffff_f000_0000;
/// Bytes of code per CPU.
pub const ENTRY_SLOT_SIZE: u64 = 32;

/// Size and alignment of each kernel stack. The word at its base is the address of the CPU's block.
///
/// Code that is compiled fast keeps more on the stack (feature `quick`).
pub const STACK_SIZE: u64 = if cfg!(feature = "quick") { 32 << 10 } else { 16 << 10 };
/// Stacks per CPU: the kernel's, then one for each interrupt stack table entry in use.
pub const STACK_COUNT: usize = 5;

/// Last address that a user program may have mapped, exclusive: the page below the hole in the
/// address space stays free, so no SYSCALL can return to a non-canonical address.
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;

/// Page sizes.
pub const PAGE: u64 = 4 << 10;
pub const LARGE_PAGE: u64 = 2 << 20;
pub const HUGE_PAGE: u64 = 1 << 30;

/// Returns the index of `address` in the table of `level` (4 = PML4 … 1 = page table).
pub const fn table_index(address: u64, level: u32) -> usize {
    ((address >> (12 + 9 * (level - 1))) & 0x1ff) as usize
}

/// Returns the first address of stack `which` (0 = kernel stack, then the IST stacks) of CPU `cpu`.
pub const fn stack_base(cpu: usize, which: usize) -> u64 {
    CPU_WINDOWS + cpu as u64 * CPU_WINDOW_SIZE + (2 * which as u64 + 1) * STACK_SIZE
}

/// Returns the first address of CPU `cpu`'s data.
pub const fn cpu_data(cpu: usize) -> u64 {
    CPU_WINDOWS + cpu as u64 * CPU_WINDOW_SIZE + CPU_DATA_OFFSET
}

const _: () = {
    assert!(STACK_SIZE.is_power_of_two());
    assert!(CPU_WINDOWS.is_multiple_of(CPU_WINDOW_SIZE) && CPU_WINDOW_SIZE.is_multiple_of(STACK_SIZE));
    assert!(CPU_DATA_OFFSET + 4 * PAGE <= CPU_WINDOW_SIZE);
    assert!(CPU_WINDOWS + smp::cpu::MAX_CPUS as u64 * CPU_WINDOW_SIZE <= DEVICE_WINDOW);
    assert!(DEVICE_WINDOW + DEVICE_WINDOW_SIZE <= ENTRY_SLOTS);
    // The key of a process is its place in the direct map.
    let places = 1 << ProcessKey::PLACE_BITS;
    assert!(DIRECT_MAP.is_multiple_of(places) && DIRECT_MAP_SIZE <= places);
    assert!(table_index(DIRECT_MAP, 4) == 256 && table_index(KERNEL_BASE, 4) == 511);
};
