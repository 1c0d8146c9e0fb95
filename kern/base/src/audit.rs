//! The memory of the audit: one ring of records for each CPU, by the protocol of [`smp::ring`].
//!
//! The memory is carved from an Untyped, like an object. No capability refers to it. The kernel
//! refers to it until that Untyped, or an Untyped that contains it, is reset.

use smp::sync::AtomicU64;

use abi::TaskId;
use abi::audit::{RECORD_WORDS, Record};
use smp::cpu::{CpuId, Pin};
use smp::door::{Cleared, Piece, Ref, Table};
use smp::ring::{Read, Reader, write};

/// The actor of an event: a task, by its name, which no later task gets; and its process's security
/// label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Actor {
    pub task: TaskId,
    pub label: u32,
}

impl Actor {
    /// No actor, or an unknown one.
    pub const NONE: Actor = Actor { task: TaskId::NONE, label: 0 };
}

/// One CPU's ring.
#[repr(C, align(64))]
struct Ring {
    /// Records that were written. Only that CPU does.
    head: AtomicU64,
}

smp::zeroed! { Ring { head } }

/// All rings.
#[repr(C, align(64))]
pub struct Audit {
    rings: Table<Ring>,
    words: Table<AtomicU64>,
    log2: u8,
}

impl Audit {
    /// Returns the bytes of a piece for the audit rings of `cpus` CPUs, with room for `1 << log2`
    /// records in each ring.
    pub const fn bytes(cpus: usize, log2: u8) -> u64 {
        let ring = ((RECORD_WORDS as u64) << log2) * 8;
        size_of::<Audit>() as u64 + cpus as u64 * (size_of::<Ring>() as u64 + ring)
    }

    /// Makes an audit with a ring of `1 << log2` records for each CPU, in a block of
    /// [`Audit::bytes`]: the front for the `Audit`, and the rest.
    pub fn make<'k>(
        (head, mut rest): (Piece, Cleared),
        pin: Pin<'k>,
        cpus: usize,
        log2: u8,
    ) -> Option<Ref<'k, Audit>> {
        let rings = rest.split(cpus as u64 * size_of::<Ring>() as u64)?;
        let rings = rings.into_table()?;
        head.emplace(pin, Audit { rings, words: rest.into_table()?, log2 })
    }

    /// Returns the number of records that one ring has room for.
    pub fn places(&self) -> u64 {
        1 << self.log2
    }

    fn ring<'k>(&'k self, pin: Pin<'k>, cpu: CpuId) -> Option<(&'k Ring, &'k [AtomicU64])> {
        let words = RECORD_WORDS << self.log2;
        let ring = self.rings.get(pin, cpu.index())?.get();
        Some((ring, self.words.row(pin, cpu.index() * words, words)?))
    }

    /// Writes a record into this CPU's ring, over the oldest record if the ring is full.
    pub fn write(&self, pin: Pin<'_>, record: &Record) {
        if let Some((ring, words)) = self.ring(pin, pin.cpu()) {
            write(words, &ring.head, record.words());
        }
    }

    /// Reads the next record of a CPU's ring, after those that `reader` has read.
    pub fn read(&self, pin: Pin<'_>, cpu: CpuId, reader: &mut Reader) -> Option<Read<RECORD_WORDS>> {
        let (ring, words) = self.ring(pin, cpu)?;
        reader.read(words, &ring.head)
    }
}
