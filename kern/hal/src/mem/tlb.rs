//! The TLB: CR3 values, PCIDs, flushing. All functions act on the calling CPU only; callers decide
//! which CPU flushes what, and when.
//!
//! The kernel's own translations are global: loading CR3 keeps them. They change at boot only
//! ([`flush_kernel`]).
//!
//! A PCID belongs to one VSpace on all CPUs. PCID 0 is for the kernel's own tables, and for every
//! VSpace without a PCID: loading a CR3 with PCID 0 always flushes.

use x86_64::instructions::tlb::{self, InvPcidCommand};
use x86_64::registers::control::{Cr3, Cr4, Cr4Flags};

use super::pcids::{PCIDS, Pcids};
use crate::cpu::features::Features;
use crate::cpu::percpu;

/// In a CR3 value: keep the translations of its PCID. Only where CR4.PCIDE is on.
pub const NO_FLUSH: u64 = 1 << 63;
/// The PCID in a CR3 value.
pub const PCID_MASK: u64 = PCIDS as u64 - 1;

pub static TAKEN: Pcids = Pcids::new();

/// Takes a free PCID; 0 if the CPU has none or all are taken.
pub fn take_pcid(features: Features) -> u16 {
    if features.contains(Features::PCID) { TAKEN.take() } else { 0 }
}

/// Returns how many PCIDs the address spaces of programs can have in all: process 1 has one, too.
pub fn pcids_of_programs() -> u64 {
    let has_pcids = percpu::this().is_some_and(|cpu| cpu.features.contains(Features::PCID));
    if has_pcids { PCIDS as u64 - 2 } else { 0 }
}

/// Switches to the address space that `cr3` names. With [`NO_FLUSH`] its PCID's translations stay.
///
/// # Safety
/// The tables share the kernel's half and stay allocated until this CPU has left them; `NO_FLUSH`
/// only with a PCID other than 0 on a CPU that has PCIDs, and only where no stale translation of it
/// can matter.
#[inline]
pub unsafe fn switch_to(cr3: u64) {
    // SAFETY: the caller's promise.
    unsafe { core::arch::asm!("mov cr3, {}", in(reg) cr3, options(nostack, preserves_flags)) }
}

/// Returns the address space that this CPU has loaded, from CR3 (never with [`NO_FLUSH`]).
pub fn current() -> u64 {
    let (frame, low) = Cr3::read_raw();
    frame.start_address().as_u64() | u64::from(low)
}

/// Drops the translation of one user page in the current address space.
#[inline]
pub fn flush_page(address: u64) {
    // SAFETY: drops a translation, which is looked up again; of an address that none can have, it
    // does nothing.
    unsafe { core::arch::asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) }
}

/// Drops every translation of the current address space (not the kernel's global ones).
pub fn flush_current() {
    // SAFETY: the same tables again.
    unsafe { switch_to(current()) }
}

/// Drops every user translation of every address space on this CPU.
pub fn flush_everything(features: Features) {
    if features.contains(Features::INVPCID) {
        // SAFETY: INVPCID is there; dropping translations is always allowed. (Its "all but global"
        // form: the kernel's own do not change after boot.)
        unsafe { tlb::flush_pcid(InvPcidCommand::AllExceptGlobal) };
    } else if features.contains(Features::PCID) {
        flush_kernel();
    } else {
        flush_current();
    }
}

/// Drops every translation on this CPU, the kernel's global ones, too.
///
/// Requires: [`enable::control_registers`](crate::cpu::enable::control_registers) has run here.
pub fn flush_kernel() {
    // A change of CR4.PGE drops everything, whatever its PCID.
    // SAFETY: global pages are off for two instructions and then as before.
    unsafe {
        let cr4 = Cr4::read_raw();
        Cr4::write_raw(cr4 & !Cr4Flags::PAGE_GLOBAL.bits());
        Cr4::write_raw(cr4);
    }
}
