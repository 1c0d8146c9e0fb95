//! Identifiers that are unique for as long as the machine runs.

/// Identity of a process for ever: number (24 bits) and generation (12 bits) of its slot.
///
/// A slot whose generations run out is retired, so no key is ever given twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[repr(transparent)]
pub struct ProcessKey(u64);

impl ProcessKey {
    pub const BITS: u32 = 36;
    /// Process 1's: the kernel makes it first.
    pub const FIRST: ProcessKey = ProcessKey::new(1, 0);

    pub const fn new(number: u32, generation: u16) -> ProcessKey {
        ProcessKey(((number as u64 & 0xff_ffff) << 12) | (generation as u64 & 0xfff))
    }

    pub const fn from_raw(raw: u64) -> ProcessKey {
        ProcessKey(raw & ((1 << Self::BITS) - 1))
    }

    pub const fn raw(self) -> u64 {
        self.0
    }

    pub const fn number(self) -> u32 {
        (self.0 >> 12) as u32
    }

    pub const fn generation(self) -> u16 {
        (self.0 & 0xfff) as u16
    }
}

/// Identity of a task for ever.
///
/// ```text
///  63        40 39     24 23            12 11         0
/// +------------+---------+----------------+------------+
/// | process 24 | task 16 | process gen 12 | task gen 12|
/// +------------+---------+----------------+------------+
/// ```
/// The two generations together are the id's 24 generation bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[repr(transparent)]
pub struct TaskId(u64);

impl TaskId {
    /// No task: the sender of kernel-made messages.
    pub const NONE: TaskId = TaskId(0);

    /// Both generations: the low bits.
    pub const GENERATION_BITS: u32 = 24;

    pub const fn new(process: ProcessKey, task: u16, generation: u16) -> TaskId {
        TaskId(
            ((process.number() as u64) << 40)
                | ((task as u64) << 24)
                | ((process.generation() as u64) << 12)
                | (generation as u64 & 0xfff),
        )
    }

    pub const fn from_raw(raw: u64) -> TaskId {
        TaskId(raw)
    }

    pub const fn raw(self) -> u64 {
        self.0
    }

    pub const fn process(self) -> ProcessKey {
        ProcessKey::new((self.0 >> 40) as u32, ((self.0 >> 12) & 0xfff) as u16)
    }

    pub const fn task(self) -> u16 {
        ((self.0 >> 24) & 0xffff) as u16
    }

    /// Returns both generations: 24 bits.
    pub const fn generation(self) -> u32 {
        (self.0 & 0xff_ffff) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_id_gives_back_its_parts() {
        let key = ProcessKey::new(0xab_cdef, 0x123);
        let id = TaskId::new(key, 0xbeef, 0x456);
        assert_eq!(id.process(), key);
        assert_eq!(id.task(), 0xbeef);
        assert_eq!(id.generation(), 0x12_3456);
        assert_eq!(ProcessKey::from_raw(key.raw()), key);
    }
}
