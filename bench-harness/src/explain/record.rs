//! Reads the file that the plugin recorded.
//!
//! The layout of the file is in the plugin's `recorder` and in the book's chapter on measuring.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

const MAGIC: &[u8] = b"AURREC1\n";
/// Bits of an access's kind.
const WRITE: u8 = 1;
const DEVICE: u8 = 2;

/// An instruction as it stands in the guest's memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Code {
    pub pc: u64,
    /// Where it lies in the host's memory: the same `pc` in two address spaces need not be the
    /// same.
    pub place: u64,
    pub bytes: Vec<u8>,
}

/// One access to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Access {
    /// Physical; of a device: virtual.
    pub address: u64,
    pub bytes: u64,
    pub write: bool,
    pub device: bool,
}

/// One executed instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    pub cpu: u8,
    /// Index in [`Recording::codes`].
    pub code: u32,
    pub accesses: Vec<Access>,
}

/// Everything that was executed in one operation.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Operation {
    /// The CPU whose operation it is.
    pub owner: u8,
    pub steps: Vec<Step>,
}

/// A whole file.
#[derive(Default, Debug)]
pub struct Recording {
    pub codes: Vec<Code>,
    pub operations: Vec<Operation>,
}

impl Recording {
    pub fn read(path: &Path) -> Result<Recording> {
        let bytes =
            std::fs::read(path).with_context(|| format!("the plugin wrote nothing to {}", path.display()))?;
        Recording::parse(&bytes).with_context(|| format!("what the plugin wrote to {}", path.display()))
    }

    /// Reads a recording. Leaves out operations without an end, which were cut off.
    pub fn parse(bytes: &[u8]) -> Result<Recording> {
        let mut input = Input(bytes.strip_prefix(MAGIC).context("this is no recording")?);
        let mut recording = Recording::default();
        let mut open: Option<Operation> = None;
        while !input.0.is_empty() {
            match (input.byte()?, &mut open) {
                (b'C', _) => recording.codes.push(input.code()?),
                (b'B', _) => open = Some(Operation { owner: input.byte()?, steps: Vec::new() }),
                (b'E', _) => {
                    input.byte()?;
                    recording.operations.extend(open.take());
                }
                (b'I', Some(operation)) => {
                    let (cpu, code) = (input.byte()?, u32::from_le_bytes(input.array()?));
                    if code as usize >= recording.codes.len() {
                        bail!("instruction {code} has not been described");
                    }
                    operation.steps.push(Step { cpu, code, accesses: Vec::new() });
                }
                (b'M', Some(operation)) => {
                    let (cpu, access) = input.access()?;
                    // The access of an instruction that had begun before the operation did is not
                    // of it.
                    if let Some(step) = operation.steps.iter_mut().rev().find(|step| step.cpu == cpu) {
                        step.accesses.push(access);
                    }
                }
                (tag, _) => bail!("a record of kind {tag:#x} does not belong here"),
            }
        }
        Ok(recording)
    }

    pub fn code(&self, step: &Step) -> &Code {
        &self.codes[step.code as usize]
    }
}

/// The bytes that are not read yet.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count).context("it ends in the middle of a record")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn code(&mut self) -> Result<Code> {
        let (pc, place) = (u64::from_le_bytes(self.array()?), u64::from_le_bytes(self.array()?));
        let length = self.byte()?;
        Ok(Code { pc, place, bytes: self.take(usize::from(length))?.to_vec() })
    }

    fn access(&mut self) -> Result<(u8, Access)> {
        let [cpu, kind, log2] = self.array()?;
        let address = u64::from_le_bytes(self.array()?);
        let bytes = 1_u64.checked_shl(u32::from(log2)).context("an access of impossible size")?;
        Ok((cpu, Access { address, bytes, write: kind & WRITE != 0, device: kind & DEVICE != 0 }))
    }
}

/// A recording of instructions that other tests make up.
#[cfg(test)]
pub mod examples {
    use super::*;

    /// Makes an operation of CPU 0 of these instructions: CPU, address, bytes.
    pub fn recording(steps: &[(u8, u64, &[u8])]) -> Recording {
        let mut recording = Recording::default();
        let mut operation = Operation::default();
        for (cpu, pc, bytes) in steps {
            let code = Code { pc: *pc, place: *pc, bytes: bytes.to_vec() };
            let known = recording.codes.iter().position(|other| *other == code);
            let number = known.unwrap_or_else(|| {
                recording.codes.push(code);
                recording.codes.len() - 1
            });
            operation.steps.push(Step { cpu: *cpu, code: number as u32, accesses: Vec::new() });
        }
        recording.operations.push(operation);
        recording
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.push(b'C');
        file.extend(0x40_0000_u64.to_le_bytes());
        file.extend(7_u64.to_le_bytes());
        file.extend([2, 0x0f, 0x05]);
        file.extend(*b"B\x01");
        file.extend(*b"I\x01\0\0\0\0");
        file.extend(*b"I\x02\0\0\0\0");
        file.extend(*b"M\x01\x03\x03");
        file.extend(0x1000_u64.to_le_bytes());
        file.extend(*b"E\x01");
        file
    }

    #[test]
    fn an_access_belongs_to_the_last_instruction_of_its_cpu() {
        let recording = Recording::parse(&file()).expect("parses");
        assert_eq!(recording.codes, [Code { pc: 0x40_0000, place: 7, bytes: vec![0x0f, 0x05] }]);
        let [operation] = &recording.operations[..] else { panic!("one operation") };
        assert_eq!(operation.owner, 1);
        let access = Access { address: 0x1000, bytes: 8, write: true, device: true };
        assert_eq!(operation.steps[0].accesses, [access]);
        assert!(operation.steps[1].accesses.is_empty());
    }

    #[test]
    fn what_is_cut_off_is_no_operation() {
        let file = file();
        let recording = Recording::parse(&file[..file.len() - 2]).expect("parses");
        assert!(recording.operations.is_empty());
    }

    #[test]
    fn damage_is_an_error() {
        let file = file();
        assert!(Recording::parse(b"{}").is_err());
        assert!(Recording::parse(&file[..file.len() - 3]).is_err());
        let mut strange = file.clone();
        strange.extend(*b"I\0\0\0\0\0"); // outside an operation
        assert!(Recording::parse(&strange).is_err());
    }
}
