//! How much of the kernel's state a test build exports.

/// What [`Op::MachineDump`](abi::Op::MachineDump) exports: its second argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Dump {
    /// Everything.
    All = 0,
    /// No Untypeds, CNodes, VSpaces and frames, and nothing of memory.
    WithoutMemory = 1,
}

impl Dump {
    pub const ALL: [Dump; 2] = [Dump::All, Dump::WithoutMemory];

    pub fn from_raw(raw: u64) -> Option<Dump> {
        Dump::ALL.get(usize::try_from(raw).ok()?).copied()
    }
}
