//! The stack pointer, and running on another stack.

use core::arch::asm;
use core::mem::{ManuallyDrop, MaybeUninit};

/// A piece of memory for a stack that a keeper gave, and nobody else runs on. Its top is on a page
/// boundary.
#[derive(Debug)]
pub(crate) struct Piece {
    pub low: u64,
    pub top: u64,
}

impl Piece {
    /// Makes a piece of stack of the addresses from `low` to `top`.
    /// Requires: a keeper of this address space has given them to the caller.
    pub(crate) fn new(low: u64, top: u64) -> Piece {
        Piece { low, top }
    }
}

/// Returns the stack pointer.
#[inline(always)]
pub fn pointer() -> u64 {
    let rsp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}

/// What goes in and comes out.
union Parcel<F, R> {
    work: ManuallyDrop<F>,
    result: ManuallyDrop<MaybeUninit<R>>,
}

/// Calls `work` with its stack in `piece`.
pub(crate) fn call_on<F: FnOnce() -> R, R>(piece: &Piece, work: F) -> R {
    extern "C" fn open<F: FnOnce() -> R, R>(parcel: *mut Parcel<F, R>) {
        // SAFETY: `call_on` calls this once, with its own parcel, in which it put the work; the
        // result goes there when the work was taken out, and `call_on` does not look before.
        unsafe {
            let work = ManuallyDrop::take(&mut (*parcel).work);
            (*parcel).result = ManuallyDrop::new(MaybeUninit::new(work()));
        }
    }
    let mut parcel = Parcel::<F, R> { work: ManuallyDrop::new(work) };
    // SAFETY: the piece is memory that nobody else uses (its maker says so); its pages are mapped,
    // or will be when they are touched. The old stack pointer is in a register that the callee
    // saves, and is put back; programs are built to abort on panics, so nothing unwinds from there.
    // Without a red zone (the target has none) nothing lies below it.
    unsafe {
        asm!(
            "mov r12, rsp",
            "mov rsp, {top}",
            "call {open}",
            "mov rsp, r12",
            top = in(reg) piece.top,
            open = in(reg) open::<F, R> as extern "C" fn(*mut Parcel<F, R>),
            in("rdi") &raw mut parcel,
            out("r12") _,
            clobber_abi("C"),
        );
        ManuallyDrop::take(&mut parcel.result).assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_there_and_its_result_comes_back() {
        let memory = vec![0u128; 0x4000];
        let low = memory.as_ptr() as u64;
        let top = low + (memory.len() * size_of::<u128>()) as u64;
        let piece = Piece::new(low, top & !0xfff);
        let words: Vec<String> = vec!["moved".into(), "there".into()];
        let before = pointer();
        let (inside, text) = call_on(&piece, move || (pointer(), words.join(" ")));
        assert!((low..top).contains(&inside), "{inside:#x} is not in {low:#x}-{top:#x}");
        assert_eq!(text, "moved there");
        assert!(before.abs_diff(pointer()) < 0x1000, "it is not back");
    }
}
