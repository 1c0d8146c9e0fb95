//! Operations that the protections of the kernel forbid, and that a test build tries.

/// An operation that [`Op::MachineAttempt`](abi::Op::MachineAttempt) makes the kernel try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Attempt {
    /// Reads a byte at the address.
    Read = 0,
    /// Writes a return instruction's byte to the address.
    Write = 1,
    /// Calls the address, which must hold a return instruction.
    Execute = 2,
    /// Writes a return instruction's byte over one in its own text.
    WriteText = 3,
    /// Writes to its own text through the direct map.
    WriteTextAlias = 4,
    /// Writes to a constant of its own.
    WriteConstant = 5,
    /// Calls a return instruction in its own data.
    ExecuteData = 6,
    /// Calls a return instruction in its own data, through the direct map.
    ExecuteDataAlias = 7,
    /// Writes to memory that was sealed at boot, right after sealing, on a CPU that had written
    /// there just before. The attempt is made at boot; this returns its result.
    WriteSealed = 8,
    /// Stops the CPU for ever, with interrupts off.
    Hang = 9,
}

impl Attempt {
    pub const ALL: [Attempt; 10] = [
        Attempt::Read,
        Attempt::Write,
        Attempt::Execute,
        Attempt::WriteText,
        Attempt::WriteTextAlias,
        Attempt::WriteConstant,
        Attempt::ExecuteData,
        Attempt::ExecuteDataAlias,
        Attempt::WriteSealed,
        Attempt::Hang,
    ];

    pub fn from_raw(raw: u64) -> Option<Attempt> {
        Attempt::ALL.get(usize::try_from(raw).ok()?).copied()
    }
}
