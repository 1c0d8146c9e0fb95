//! What a test build of the kernel tries that its protections forbid.

/// What the kernel can be asked to try by [`Op::MachineAttempt`](abi::Op::MachineAttempt).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Attempt {
    /// Read a byte at the address.
    Read = 0,
    /// Write a return instruction's byte to the address.
    Write = 1,
    /// Call the address. Where it gets there, a return instruction has to be there.
    Execute = 2,
    /// Write to its own text, where such a byte is.
    WriteText = 3,
    /// Write to its own text where all memory is mapped.
    WriteTextAlias = 4,
    /// Write to a constant of its own.
    WriteConstant = 5,
    /// Call a return instruction in its own data.
    ExecuteData = 6,
    /// Call the same where all memory is mapped.
    ExecuteDataAlias = 7,
    /// Write to what was sealed at boot, right after, on a CPU that had written there right before. Tried at boot: this
    /// tells what came of it.
    WriteSealed = 8,
}

impl Attempt {
    pub const ALL: [Attempt; 9] = [
        Attempt::Read,
        Attempt::Write,
        Attempt::Execute,
        Attempt::WriteText,
        Attempt::WriteTextAlias,
        Attempt::WriteConstant,
        Attempt::ExecuteData,
        Attempt::ExecuteDataAlias,
        Attempt::WriteSealed,
    ];

    pub fn from_raw(raw: u64) -> Option<Attempt> {
        Attempt::ALL.get(usize::try_from(raw).ok()?).copied()
    }
}
