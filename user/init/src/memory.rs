//! Process 1's memory, of which it gives the processes of a system theirs.
//!
//! The kernel hands over Untypeds of falling sizes. Process 1 builds its own objects in one of
//! them. Each process gets an Untyped out of the smallest one that has enough left. The process
//! that gets the rest of the memory gets a whole one: the largest, if process 1 can do with the
//! others.

use abi::{Cap, Error};
use user_rt::Result;
use user_rt::boot;
use user_rt::cap::{Handle, Untyped};
use user_rt::layout::slot;
use user_rt::spawn::Nursery;

/// An Untyped smaller than this (as logarithm) cannot hold what process 1 builds.
const OWN_LOG2: u8 = 23;

/// The memory that is left to give.
pub struct Memory {
    /// Where process 1 builds its own objects.
    pub own: Nursery,
    /// First of the Untypeds of the kernel that are left, from the largest on, and how many.
    sources: (u32, u32),
    rest: Option<(Untyped, u8)>,
}

impl Memory {
    /// Divides the machine's memory. `with_rest`: a process gets the rest. Returns `None` if there
    /// is too little for that.
    pub fn divide(with_rest: bool) -> Result<Option<Memory>> {
        let facts = boot::facts();
        let sizes = &facts.untyped_log2[..(facts.untyped_count as usize).min(abi::BOOT_UNTYPED_MAX)];
        let count = sizes.len() as u32;
        let (own, first, whole) = match *sizes {
            [largest, second, ..] if with_rest && second >= OWN_LOG2 => {
                (Nursery::of_program(1), 1, Some((Untyped::at(slot::UNTYPED), largest)))
            }
            [largest, ..] if largest > OWN_LOG2 => (Nursery::of_program(0), 0, None),
            _ => return Ok(None),
        };
        let halves = with_rest && whole.is_none();
        let mut memory = Memory { own, sources: (first, count - first), rest: whole };
        if halves {
            let half = sizes[0] - 1;
            memory.rest = Some((memory.own.make(u64::from(half))?, half));
        }
        Ok(Some(memory))
    }

    /// Returns an Untyped of `1 << log2` bytes.
    /// Errors: [`Error::NoMemory`].
    pub fn take(&mut self, log2: u8) -> Result<Untyped> {
        let (first, count) = self.sources;
        for number in (first..first + count).rev() {
            if boot::facts().untyped_log2[number as usize] < log2 {
                continue;
            }
            let source = Untyped::at(Cap(slot::UNTYPED.0 + number));
            match self.own.make_of::<Untyped>(&source, log2.into()) {
                Err(refusal) if refusal.error == Error::NoMemory => {}
                other => return other,
            }
        }
        Err(user_rt::Refusal::local(Error::NoMemory, 1 << log2))
    }

    /// Returns the rest of the memory, and its size as a logarithm. There is one.
    pub fn take_rest(&mut self) -> Option<(Untyped, u8)> {
        self.rest.take()
    }
}
