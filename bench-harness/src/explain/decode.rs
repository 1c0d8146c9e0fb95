//! Instructions as text, and what kinds of costs they are.

use iced_x86::{
    Code as Opcode, Decoder, DecoderOptions, FlowControl, Formatter, InstructionInfoFactory, IntelFormatter,
    Mnemonic, OpAccess, OpKind, Register,
};
use serde::Serialize;

/// What an instruction is, apart from where it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Class {
    pub loads: bool,
    pub stores: bool,
    pub branch: bool,
    /// A branch that may or may not be taken.
    pub conditional: bool,
    /// Locked, or an exchange with memory.
    pub atomic: bool,
    /// Writes a model-specific register. The bases of FS and GS, which have instructions of their own, are not.
    pub msr_write: bool,
    /// Writes a control register.
    pub cr_write: bool,
    /// The instructions that Intel's manual calls serialising, and LFENCE, behind which nothing starts before.
    pub serialising: bool,
}

/// A decoded instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    pub text: String,
    /// The same for GNU's assembler, jumps going nowhere in particular.
    pub gas: String,
    /// Mnemonic, operand kinds and registers: what stays the same when code and structures move.
    pub shape: String,
    pub mnemonic: Mnemonic,
    pub class: Class,
    pub length: u64,
}

impl Decoded {
    /// The mnemonic, as it is written.
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

/// Instructions that Intel's manual (volume 3, "Serializing Instructions") names, as far as a kernel has them. That WRMSR
/// does not serialise for some registers (the timer's deadline, x2APIC's) is not seen: RCX is not recorded.
fn is_serialising(instruction: &iced_x86::Instruction) -> bool {
    use Mnemonic::{Cpuid, Invlpg, Invpcid, Iretq, Lfence, Lgdt, Lidt, Lldt, Ltr, Wbinvd, Wrmsr};
    matches!(
        instruction.mnemonic(),
        Cpuid | Invlpg | Invpcid | Iretq | Lfence | Lgdt | Lidt | Lldt | Ltr | Wbinvd | Wrmsr
    ) || instruction.mnemonic() == Mnemonic::Mov
        && (instruction.op0_register().is_cr() && instruction.op0_register() != Register::CR8
            || instruction.op0_register().is_dr())
}

fn class(instruction: &iced_x86::Instruction) -> Class {
    let mut info = InstructionInfoFactory::new();
    let memory = info.info(instruction).used_memory().to_vec();
    let access = |kinds: &[OpAccess]| memory.iter().any(|used| kinds.contains(&used.access()));
    let stores =
        access(&[OpAccess::Write, OpAccess::CondWrite, OpAccess::ReadWrite, OpAccess::ReadCondWrite]);
    let conditional = instruction.flow_control() == FlowControl::ConditionalBranch;
    Class {
        loads: access(&[OpAccess::Read, OpAccess::CondRead, OpAccess::ReadWrite, OpAccess::ReadCondWrite]),
        stores,
        branch: !matches!(instruction.flow_control(), FlowControl::Next | FlowControl::Exception),
        conditional,
        atomic: instruction.has_lock_prefix() || instruction.mnemonic() == Mnemonic::Xchg && stores,
        msr_write: instruction.mnemonic() == Mnemonic::Wrmsr,
        cr_write: instruction.mnemonic() == Mnemonic::Mov && instruction.op0_register().is_cr()
            || matches!(instruction.mnemonic(), Mnemonic::Clts | Mnemonic::Lmsw),
        serialising: is_serialising(instruction),
    }
}

/// As GNU's assembler takes it; addresses of code are of no interest to who reads it.
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

    fn class_of(bytes: &[u8]) -> Class {
        decode(0x1000, bytes).class
    }

    #[test]
    fn text_reads_like_the_source() {
        assert_eq!(decode(0, &[0x4d, 0x8b, 0x77, 0x40]).text, "mov r14, [r15 + 0x40]");
        assert_eq!(decode(0x1000, &[0xeb, 0x10]).text, "jmp short 0x1012");
        assert_eq!(decode(0, &[0x0f, 0x05]).text, "syscall");
    }

    #[test]
    fn loads_stores_and_both() {
        let load = class_of(&[0x48, 0x8b, 0x03]); // mov rax, [rbx]
        assert!(load.loads && !load.stores);
        let both = class_of(&[0x48, 0xff, 0x03]); // inc qword ptr [rbx]
        assert!(both.loads && both.stores && !both.atomic);
        let neither = class_of(&[0x48, 0x8d, 0x03]); // lea rax, [rbx]
        assert!(!neither.loads && !neither.stores);
        assert!(class_of(&[0x53]).stores); // push rbx
    }

    #[test]
    fn an_exchange_with_memory_is_atomic_without_a_prefix() {
        assert!(class_of(&[0x48, 0x87, 0x03]).atomic); // xchg [rbx], rax
        assert!(!class_of(&[0x48, 0x87, 0xc3]).atomic); // xchg rbx, rax
        assert!(class_of(&[0xf0, 0x48, 0xff, 0x03]).atomic); // lock inc qword ptr [rbx]
    }

    #[test]
    fn branches_are_told_from_what_falls_through() {
        let conditional = class_of(&[0x74, 0x02]);
        assert!(conditional.branch && conditional.conditional);
        for always in [&[0xeb, 0x02][..], &[0xc3], &[0x0f, 0x05], &[0x48, 0x0f, 0x07]] {
            assert!(class_of(always).branch && !class_of(always).conditional, "{always:x?}");
        }
        assert!(!class_of(&[0x90]).branch);
    }

    #[test]
    fn privileged_writes_and_serialising_instructions() {
        let cr3 = class_of(&[0x0f, 0x22, 0xdb]);
        assert!(cr3.cr_write && cr3.serialising && !cr3.msr_write);
        assert!(!class_of(&[0x0f, 0x20, 0xdb]).cr_write); // mov rbx, cr3
        assert!(!class_of(&[0x44, 0x0f, 0x22, 0xc0]).serialising); // mov cr8, rax
        assert!(class_of(&[0x0f, 0x30]).msr_write && class_of(&[0x0f, 0x30]).serialising);
        let base = class_of(&[0xf3, 0x48, 0x0f, 0xae, 0xd3]); // wrfsbase rbx
        assert!(!base.msr_write && !base.serialising);
        assert!(class_of(&[0x48, 0xcf]).serialising); // iretq
        assert!(class_of(&[0x0f, 0xae, 0xe8]).serialising); // lfence
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
