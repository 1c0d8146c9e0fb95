//! Boards: memory that all tasks of a run share, in which they note what they do and count what
//! they find.
//!
//! A board is a struct of [`Row`]s and plain words, which [`board!`](crate::board!) declares. A row
//! is a table of words with names, which [`words!`](crate::words!) declares:
//!
//! ```text
//! words! {
//!     pub enum Of: Published { Cpu, Doing }
//! }
//! board! {
//!     pub struct Board {
//!         pub workers: [Row<Of>; 8],
//!         pub seen: [AtomicU64; 4],
//!     }
//! }
//!
//! board.workers[3].set(Of::Cpu, 1);
//! ```
//!
//! The program's first process makes the memory ([`pages`]) and maps it in each process that it
//! starts; every task then [opens](open) the board at the same address. New memory is zero, and so
//! is every word at first.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::PAGE_SIZE;
use user_rt::layout::SHARED_VA;

/// A part of a board.
///
/// # Safety
/// The type is `repr(C)` or `repr(transparent)` and consists of [`AtomicU64`]s alone: every bit
/// pattern is valid, any task of any process may change it, and it has no padding.
pub unsafe trait Part: Sized + Sync + 'static {
    /// Returns all its words.
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the part consists of that many words and nothing else, as the trait requires.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast(), size_of::<Self>() / 8) }
    }

    /// Sets all its words to zero.
    fn clear(&self) {
        self.words().iter().for_each(|word| word.store(0, Ordering::Release));
    }
}

// SAFETY: it is one word.
unsafe impl Part for AtomicU64 {}

// SAFETY: an array of parts has nothing between them.
unsafe impl<P: Part, const COUNT: usize> Part for [P; COUNT] {}

/// How the words of a row are read and written.
///
/// On x86 only [`Sequential`](Order::Sequential) stores cost something: each is a full barrier,
/// which may hide a barrier that the kernel lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// A system call separates writer and reader: it is a barrier.
    Relaxed,
    /// A reader of a word sees all that its writer wrote before it.
    Published,
    /// All tasks see all reads and writes in one order.
    Sequential,
}

impl Order {
    const fn of_reads(self) -> Ordering {
        match self {
            Order::Relaxed => Ordering::Relaxed,
            Order::Published => Ordering::Acquire,
            Order::Sequential => Ordering::SeqCst,
        }
    }

    const fn of_writes(self) -> Ordering {
        match self {
            Order::Relaxed => Ordering::Relaxed,
            Order::Published => Ordering::Release,
            Order::Sequential => Ordering::SeqCst,
        }
    }

    const fn of_both(self) -> Ordering {
        match self {
            Order::Relaxed => Ordering::Relaxed,
            Order::Published => Ordering::AcqRel,
            Order::Sequential => Ordering::SeqCst,
        }
    }
}

/// Names of the words of a row: an enum that [`words!`](crate::words!) declares.
pub trait Name: Copy + fmt::Debug + Sync + 'static {
    /// One word for each name.
    type Words: Part;
    const ORDER: Order;

    fn place(self) -> usize;
}

/// Words with names.
#[repr(transparent)]
pub struct Row<N: Name>(N::Words);

// SAFETY: it is its words, which are a part.
unsafe impl<N: Name> Part for Row<N> {}

impl<N: Name> Row<N> {
    /// Returns the word itself, for other orders and operations than the row's.
    #[inline]
    pub fn word(&self, which: N) -> &AtomicU64 {
        &self.words()[which.place()]
    }

    #[inline]
    pub fn get(&self, which: N) -> u64 {
        self.word(which).load(N::ORDER.of_reads())
    }

    #[inline]
    pub fn set(&self, which: N, value: u64) {
        self.word(which).store(value, N::ORDER.of_writes());
    }

    /// Adds to a word.
    ///
    /// Returns: the word's value before.
    #[inline]
    pub fn add(&self, which: N, count: u64) -> u64 {
        self.word(which).fetch_add(count, N::ORDER.of_both())
    }
}

/// Declares names of words, each with the [`Order`] in which its words are read and written.
#[macro_export]
macro_rules! words {
    ($(
        $(#[$meta:meta])*
        $visible:vis enum $name:ident: $order:ident { $($(#[$doc:meta])* $word:ident),* $(,)? }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        $visible enum $name { $($(#[$doc])* $word),* }

        impl $crate::board::Name for $name {
            type Words = [core::sync::atomic::AtomicU64; [$($name::$word),*].len()];
            const ORDER: $crate::board::Order = $crate::board::Order::$order;

            #[inline]
            fn place(self) -> usize {
                self as usize
            }
        }
    )*};
}

/// Declares a board, or a part of one: a struct of parts.
#[macro_export]
macro_rules! board {
    ($(
        $(#[$meta:meta])*
        $visible:vis struct $name:ident { $($(#[$doc:meta])* $field_visible:vis $field:ident: $part:ty),* $(,)? }
    )*) => {$(
        $(#[$meta])*
        #[repr(C)]
        $visible struct $name { $($(#[$doc])* $field_visible $field: $part),* }

        // SAFETY: the struct is `repr(C)`, and each of its fields is a part with the alignment of a
        // word: the function below does not compile otherwise.
        unsafe impl $crate::board::Part for $name {}

        const _: () = {
            const fn part<P: $crate::board::Part>() {}
            $(part::<$part>();)*
        };
    )*};
}

/// Returns how many pages of shared memory a board takes.
pub const fn pages<B: Part>() -> u32 {
    size_of::<B>().div_ceil(PAGE_SIZE as usize) as u32
}

/// Returns the board of a program, in any of its processes.
///
/// # Safety
/// The program's first process made at least [`pages`] of shared memory
/// ([`Shared::new`](user_rt::arch::shared::Shared::new)) and, where the caller is another process,
/// mapped them there ([`Shared::map_into`](user_rt::arch::shared::Shared::map_into)). Its processes
/// open no other board.
pub unsafe fn open<B: Part>() -> &'static B {
    // SAFETY: the caller guarantees that the memory is mapped, and it stays mapped while the
    // process lives. A board consists of words that are valid with any contents, and all users see
    // atomics.
    unsafe { &*(SHARED_VA as *const B) }
}

#[cfg(test)]
mod tests {
    use super::*;

    words! {
        enum Total: Sequential { Seed, Ops }
        enum Of: Published { Cpu, Doing, Done }
    }

    board! {
        struct Board {
            totals: Row<Total>,
            seen: [[AtomicU64; 2]; 4],
            workers: [Row<Of>; 5],
        }
    }

    fn empty() -> Board {
        // SAFETY: a board consists of words, each of which may be zero.
        unsafe { core::mem::zeroed() }
    }

    #[test]
    fn a_board_is_its_words_one_behind_the_other() {
        let board = empty();
        assert_eq!(board.words().len(), 2 + 2 * 4 + 3 * 5);
        board.totals.set(Total::Ops, 1);
        board.seen[3][1].store(2, Ordering::Relaxed);
        board.workers[4].set(Of::Done, 3);
        let at: Vec<_> = board.words().iter().map(|word| word.load(Ordering::Relaxed)).collect();
        assert_eq!((at[1], at[9], at[24]), (1, 2, 3));
        assert_eq!(at.iter().sum::<u64>(), 6);
    }

    #[test]
    fn words_are_read_and_added_to_by_name() {
        let of = &empty().workers[2];
        of.set(Of::Doing, 7);
        assert_eq!((of.add(Of::Doing, 5), of.get(Of::Doing), of.get(Of::Cpu)), (7, 12, 0));
        assert_eq!(of.word(Of::Doing).load(Ordering::Relaxed), 12);
    }

    #[test]
    fn what_is_cleared_is_zero_and_nothing_else_is() {
        let board = empty();
        board.totals.set(Total::Seed, 9);
        board.workers.iter().for_each(|of| of.set(Of::Cpu, 1));
        board.workers.clear();
        assert!(board.workers.iter().all(|of| of.get(Of::Cpu) == 0));
        assert_eq!(board.totals.get(Total::Seed), 9);
    }

    #[test]
    fn a_board_takes_whole_pages() {
        assert_eq!(pages::<[AtomicU64; 512]>(), 1);
        assert_eq!(pages::<[AtomicU64; 513]>(), 2);
    }
}
