//! Decodes instructions to text and to their kinds of costs.

use iced_x86::{Code as Opcode, Decoder, DecoderOptions, Formatter, IntelFormatter, Mnemonic, OpKind};
use instructions::{Class, class};

/// A decoded instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    pub text: String,
    /// The instruction for GNU's assembler; jumps have no real target.
    pub gas: String,
    /// Mnemonic, operand kinds and registers: what stays the same when code and structures move.
    pub shape: String,
    pub mnemonic: Mnemonic,
    pub class: Class,
    pub length: u64,
}

impl Decoded {
    /// Returns the mnemonic as it is written.
    pub fn name(&self) -> String {
        format!("{:?}", self.mnemonic).to_lowercase()
    }
}

/// Decodes the bytes at `pc`; bytes behind the instruction do not matter.
pub fn decode(pc: u64, bytes: &[u8]) -> Decoded {
    let instruction = Decoder::with_ip(64, bytes, pc, DecoderOptions::NONE).decode();
    let mut text = String::new();
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    options.set_space_between_memory_add_operators(true);
    options.set_branch_leading_zeros(false);
    formatter.format(&instruction, &mut text);
    Decoded {
        gas: gas(&instruction),
        shape: shape(&instruction),
        mnemonic: instruction.mnemonic(),
        class: class(&instruction),
        length: instruction.len() as u64,
        text,
    }
}

/// Writes an instruction for GNU's assembler. Addresses of code do not matter to its reader.
fn gas(instruction: &iced_x86::Instruction) -> String {
    if instruction.op_kinds().any(|kind| matches!(kind, OpKind::NearBranch64 | OpKind::NearBranch32)) {
        return format!("{} .", format!("{:?}", instruction.mnemonic()).to_lowercase());
    }
    let mut relative = *instruction;
    if relative.is_ip_rel_memory_operand() {
        relative.set_memory_displacement64(relative.next_ip().wrapping_add(64));
    }
    let mut text = String::new();
    iced_x86::GasFormatter::new().format(&relative, &mut text);
    text
}

fn shape(instruction: &iced_x86::Instruction) -> String {
    let mut shape = format!("{:?}", instruction.code());
    for operand in 0..instruction.op_count() {
        match instruction.op_kind(operand) {
            OpKind::Register => shape += &format!(" {:?}", instruction.op_register(operand)),
            OpKind::Memory => {
                shape += &format!(" [{:?}+{:?}]", instruction.memory_base(), instruction.memory_index());
            }
            kind => shape += &format!(" {kind:?}"),
        }
    }
    if instruction.code() == Opcode::INVALID { "invalid".to_owned() } else { shape }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_like_the_source() {
        assert_eq!(decode(0, &[0x4d, 0x8b, 0x77, 0x40]).text, "mov r14, [r15 + 0x40]");
        assert_eq!(decode(0x1000, &[0xeb, 0x10]).text, "jmp short 0x1012");
        assert_eq!(decode(0, &[0x0f, 0x05]).text, "syscall");
    }

    #[test]
    fn a_shape_does_not_know_displacements_and_targets() {
        let shape = |pc, bytes: &[u8]| decode(pc, bytes).shape;
        assert_eq!(shape(0, &[0x4d, 0x8b, 0x77, 0x40]), shape(9, &[0x4d, 0x8b, 0x77, 0x48]));
        assert_ne!(shape(0, &[0x4d, 0x8b, 0x77, 0x40]), shape(0, &[0x4d, 0x8b, 0x75, 0x40]));
        assert_eq!(shape(0, &[0x74, 0x02]), shape(0, &[0x74, 0x12]));
    }

    #[test]
    fn an_assembler_can_read_it() {
        assert_eq!(decode(0x1000, &[0x74, 0x02]).gas, "je .");
        assert_eq!(decode(0, &[0x4d, 0x8b, 0x77, 0x40]).gas, "mov 0x40(%r15),%r14");
    }

    #[test]
    fn what_is_no_instruction_says_so() {
        assert_eq!(decode(0, &[0x06]).shape, "invalid");
    }
}
