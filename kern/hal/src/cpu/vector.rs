//! Vector, x87 and MXCSR state of user tasks. The kernel itself uses none of it.
//!
//! Save areas are in the standard (not compacted) XSAVE format, so that a zeroed header and MXCSR
//! are an initial image on every CPU. Switching is eager: CR0.TS is set only while a process
//! without vector state runs, so that its first vector instruction faults.

use core::arch::asm;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use kern_base::machine::VectorFormat;
use raw_cpuid::cpuid;
use x86_64::registers::control::{Cr0, Cr0Flags};
use x86_64::registers::xcontrol::XCr0;

use super::features::Features;

/// Standard XRSTOR loads MXCSR from the area even where the header says that SSE state is initial.
pub use kern_base::task::INITIAL_MXCSR;
/// Where MXCSR is in an area.
const MXCSR_OFFSET: usize = 24;
/// Legacy region and header: what XRSTOR reads where no component is marked present.
const HEAD: usize = 576;
/// The alignment that XSAVE asks for.
pub const AREA_ALIGN: usize = 64;

/// Whether XGETBV with ECX = 1 exists. Boot code writes it, for all CPUs.
pub static HAS_XGETBV1: AtomicBool = AtomicBool::new(false);

#[repr(C, align(64))]
pub struct InitialImage([u32; HEAD / 4]);

pub static INITIAL: InitialImage = {
    let mut image = [0; HEAD / 4];
    image[MXCSR_OFFSET / 4] = INITIAL_MXCSR;
    InitialImage(image)
};

/// Returns the number of bytes that a vector save area needs with the components that are on.
pub fn area_size() -> usize {
    cpuid!(0xd, 0).ebx as usize
}

/// Returns the format of vector save areas on this machine.
pub fn format() -> VectorFormat {
    VectorFormat { words: area_size() / size_of::<u64>(), components: XCr0::read_raw(), mxcsr: mxcsr_mask() }
}

/// Returns the existing bits of MXCSR, from FXSAVE.
fn mxcsr_mask() -> u32 {
    #[repr(C, align(16))]
    struct Saved([u32; 128]);
    /// The mask's offset, and the mask to use where it is 0.
    const MASK: usize = MXCSR_OFFSET / 4 + 1;
    const DEFAULT: u32 = 0xffbf;
    let mut saved = Saved([0; 128]);
    let ts = Cr0::read_raw() & Cr0Flags::TASK_SWITCHED.bits() != 0;
    clear_ts();
    // SAFETY: 512 bytes, aligned, exclusively ours; TS is clear. It changes no register.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut saved, options(nostack, preserves_flags)) };
    if ts {
        set_ts();
    }
    if saved.0[MASK] == 0 { DEFAULT } else { saved.0[MASK] }
}

/// Saves this CPU's vector registers to a save area.
///
/// # Safety
/// `area` is [`AREA_ALIGN`]ed, [`area_size`] bytes long and exclusively ours; its header is zeroed
/// or was written by an earlier save. CR0.TS is clear.
#[inline]
pub unsafe fn save(features: Features, area: *mut u8) {
    let all = u32::MAX;
    // SAFETY: the caller's promise; the instruction is there: XSAVE is a required feature. Written
    // as assembly because the intrinsics need target features that the kernel is not compiled for.
    unsafe {
        if features.contains(Features::XSAVEOPT) {
            asm!("xsaveopt64 [{}]", in(reg) area, in("eax") all, in("edx") all, options(nostack, preserves_flags));
        } else {
            asm!("xsave64 [{}]", in(reg) area, in("eax") all, in("edx") all, options(nostack, preserves_flags));
        }
    }
}

/// Loads this CPU's vector registers from a save area.
///
/// # Safety
/// `area` was filled by [`save`] or [`init_area`] on this machine. CR0.TS is clear.
#[inline]
pub unsafe fn restore(area: *const u8) {
    // SAFETY: the caller's promise; XSAVE is a required feature. Written as assembly because the
    // intrinsic needs a target feature that the kernel is not compiled for, and would be a call.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX,
             options(readonly, nostack, preserves_flags));
    }
}

/// Writes the initial contents of the vector registers to a save area.
///
/// # Safety
/// `area` is [`AREA_ALIGN`]ed, at least [`area_size`] bytes long and exclusively ours.
pub unsafe fn init_area(area: *mut u8) {
    // SAFETY: the caller's promise; areas are never shorter than their head.
    unsafe { core::ptr::copy_nonoverlapping(INITIAL.0.as_ptr().cast(), area, HEAD) }
}

/// Resets this CPU's vector registers to their initial contents, unless they have these already as
/// far as the CPU shows.
///
/// # Safety
/// CR0.TS is clear, and the owner of the live state has saved it or given it up.
#[inline]
pub unsafe fn reset() {
    if HAS_XGETBV1.load(Relaxed) && is_initial() {
        return;
    }
    // SAFETY: a valid image; the rest is the caller's promise.
    unsafe { restore(INITIAL.0.as_ptr().cast()) }
}

/// Returns whether the CPU reports that all state components are initial. It does not track MXCSR.
fn is_initial() -> bool {
    let mut mxcsr = 0u32;
    // SAFETY: stores MXCSR to a local; SSE is on and CR0.TS clear (callers).
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags)) };
    if mxcsr != INITIAL_MXCSR {
        return false;
    }
    let (low, high): (u32, u32);
    // SAFETY: XGETBV(1) exists where this is called; OSXSAVE is on.
    unsafe {
        asm!("xgetbv", in("ecx") 1, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    low | high == 0
}

/// Makes the next vector instruction fault.
#[inline]
pub fn set_ts() {
    // SAFETY: changes only when vector instructions fault.
    unsafe { Cr0::write_raw(Cr0::read_raw() | Cr0Flags::TASK_SWITCHED.bits()) }
}

/// Lets vector instructions run.
#[inline]
pub fn clear_ts() {
    // SAFETY: as in `set_ts`.
    unsafe { asm!("clts", options(nomem, nostack, preserves_flags)) }
}
