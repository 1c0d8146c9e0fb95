//! The kinds of costs that an instruction has: for the harness, which explains single instructions,
//! and for the TCG plugin, which counts them.
#![forbid(unsafe_code)]

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register,
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
    /// Writes a model-specific register. The bases of FS and GS, which have instructions of their
    /// own, are not.
    pub msr_write: bool,
    /// Writes a control register.
    pub cr_write: bool,
    /// The instructions that Intel's manual calls serialising, and others for which a processor
    /// waits as long: fences, flushes of cache lines, ports, and saving or loading extended state.
    pub serialising: bool,
}

/// Returns the kinds of the instruction with which these bytes begin.
pub fn class_of(bytes: &[u8]) -> Class {
    class(&Decoder::new(64, bytes, DecoderOptions::NONE).decode())
}

/// Instructions that Intel's manual (volume 3, "Serializing Instructions") names, as far as a
/// kernel has them. That WRMSR does not serialise for some registers (the timer's deadline,
/// x2APIC's) is not seen: RCX is not recorded.
fn is_serialising(instruction: &Instruction) -> bool {
    use Mnemonic::{Cpuid, Invlpg, Invpcid, Iretq, Lgdt, Lidt, Lldt, Ltr, Wbinvd, Wrmsr};
    matches!(
        instruction.mnemonic(),
        Cpuid | Invlpg | Invpcid | Iretq | Lgdt | Lidt | Lldt | Ltr | Wbinvd | Wrmsr
    ) || instruction.mnemonic() == Mnemonic::Mov
        && (instruction.op0_register().is_cr() && instruction.op0_register() != Register::CR8
            || instruction.op0_register().is_dr())
}

/// Returns whether an instruction takes as long as a serialising one, but serialises less or
/// nothing.
fn is_as_slow(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    let fence = matches!(mnemonic, M::Lfence | M::Mfence | M::Sfence);
    let flush = matches!(mnemonic, M::Clflush | M::Clflushopt | M::Clwb | M::Wbnoinvd);
    let port =
        matches!(mnemonic, M::In | M::Insb | M::Insd | M::Insw | M::Out | M::Outsb | M::Outsd | M::Outsw);
    let save = matches!(mnemonic, M::Fxsave64 | M::Xsave64 | M::Xsavec64 | M::Xsaveopt64 | M::Xsaves64);
    let load = matches!(mnemonic, M::Fxrstor64 | M::Xrstor64 | M::Xrstors64);
    fence || flush || port || save || load
}

/// Returns the kinds of a decoded instruction.
pub fn class(instruction: &Instruction) -> Class {
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
        serialising: is_serialising(instruction) || is_as_slow(instruction.mnemonic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // mfence, sfence, clflush [rax], clflushopt [rax], out dx al, in al dx, xrstor64 [rbx]
        for slow in [
            &[0x0f, 0xae, 0xf0][..],
            &[0x0f, 0xae, 0xf8],
            &[0x0f, 0xae, 0x38],
            &[0x66, 0x0f, 0xae, 0x38],
            &[0xee],
            &[0xec],
            &[0x48, 0x0f, 0xae, 0x2b],
        ] {
            assert!(class_of(slow).serialising, "{slow:x?}");
        }
        assert!(!class_of(&[0x90]).serialising); // nop
    }
}
