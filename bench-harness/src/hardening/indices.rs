//! Checks that the entry code makes no address from an unbounded user register, on any path,
//! including paths that only a misprediction takes.
//!
//! The check follows all paths from each entry point, both ways at every branch, and tracks which
//! values each register can hold. A value from user level may be stored, compared and passed on. It
//! may become part of an address only after it was bounded without a branch: by a conditional move
//! after a comparison with the length, by a mask, or by taking one byte of it for a table that has
//! an entry for every byte.

use std::collections::HashSet;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use iced_x86::{
    FlowControl, Instruction, InstructionInfo, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
    UsedMemory,
};

use super::text::Text;

/// Where user level gets in, or where a table leads; those that a kernel has.
const ROOTS: &[&str] = &[
    "syscall_entry",
    "syscall_plain",
    "syscall_slow",
    "trap_common",
    "trap_timer",
    "fast_send",
    "direct_map",
    "direct_unmap",
    "direct_copy",
    "direct_delete",
    "direct_retype",
];
/// Without this root nothing was looked at.
const FIRST_ROOT: &str = "syscall_entry";
/// On these ways in the CPU has loaded the kernel's stack pointer.
const WITH_STACK: &[&str] = &["trap_common", "trap_timer"];

/// How far user level chose what a register holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Trust {
    /// Not at all, or it is confined to a table.
    Kernel,
    /// One byte of it.
    Byte,
    /// The low half is confined.
    HighHalf,
    User,
}
use Trust::{Byte, HighHalf, Kernel, User};

/// What is known before an instruction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    registers: [Trust; 16],
    /// The register that the flags compare with memory of the kernel, and the comparison's size.
    compared: Option<(usize, usize)>,
}

fn number(register: Register) -> Option<usize> {
    register.full_register().is_gpr64().then(|| register.full_register().number())
}

impl State {
    fn of_root(name: &str) -> State {
        let mut state = State { registers: [User; 16], compared: None };
        let known = if WITH_STACK.contains(&name) { Register::RSP } else { Register::R15 };
        state.set(known, Kernel);
        state
    }

    fn get(&self, register: Register) -> Trust {
        number(register).map_or(Kernel, |number| self.registers[number])
    }

    fn set(&mut self, register: Register, trust: Trust) {
        if let Some(number) = number(register) {
            // What stands above a byte or a word stays.
            let kept = if register.size() < 4 { self.registers[number] } else { Kernel };
            self.registers[number] = trust.max(kept);
        }
    }

    /// Returns whether user level cannot influence the address of this access.
    fn allows(&self, memory: &UsedMemory) -> bool {
        let (base, index) = (self.get(memory.base()), self.get(memory.index()));
        let is_table = memory.base() == Register::None && memory.scale() == 8;
        base == Kernel && (index == Kernel || index == Byte && is_table)
    }

    /// Returns how far an operand can be trusted as a source.
    fn source(&self, instruction: &Instruction, operand: u32) -> Trust {
        match instruction.op_kind(operand) {
            OpKind::Register if number(instruction.op_register(operand)).is_none() => User,
            OpKind::Register => self.get(instruction.op_register(operand)),
            _ => Kernel,
        }
    }

    /// Executes an instruction, as far as registers are concerned.
    fn step(&mut self, instruction: &Instruction, info: &InstructionInfo) {
        let compared = self.compared;
        if instruction.rflags_modified() != 0 {
            self.compared = None;
        }
        let to = instruction.op0_register();
        match instruction.mnemonic() {
            Mnemonic::Cmp => self.compare(instruction),
            Mnemonic::Cmovae if compared.is_some_and(|(register, _)| number(to) == Some(register)) => {
                let whole = compared.is_some_and(|(_, size)| size == 8);
                self.set(to, if whole { Kernel } else { HighHalf });
            }
            Mnemonic::Mov => {
                let from = self.source(instruction, 1);
                self.set(to, if from == HighHalf && to.size() == 4 { Kernel } else { from });
            }
            Mnemonic::Movzx => {
                let is_byte =
                    instruction.op_kind(1) == OpKind::Register && instruction.op1_register().size() == 1;
                let from = self.source(instruction, 1);
                self.set(to, if is_byte { from.min(Byte) } else { from });
            }
            Mnemonic::Xor
                if instruction.op1_kind() == OpKind::Register && to == instruction.op1_register() =>
            {
                self.set(to, Kernel);
            }
            Mnemonic::And => {
                let mask =
                    instruction.op1_kind() == OpKind::Register && self.source(instruction, 1) == Kernel;
                let kept = self.get(to);
                self.set(to, if mask { Kernel } else { kept });
            }
            Mnemonic::Xchg | Mnemonic::Rdtsc | Mnemonic::Xgetbv | Mnemonic::Pop => {
                self.write_all(info, Kernel)
            }
            Mnemonic::Cmpxchg => self.set(Register::RAX, Kernel),
            Mnemonic::Call => self.call(),
            _ => self.combine(info),
        }
    }

    fn compare(&mut self, instruction: &Instruction) {
        let with_memory = instruction.op1_kind() == OpKind::Memory;
        let register = number(instruction.op0_register()).filter(|_| with_memory);
        self.compared = register.map(|register| (register, instruction.op0_register().size()));
    }

    /// Forgets all registers that a call of Rust code may change.
    fn call(&mut self) {
        use Register::{R8, R9, R10, R11, RAX, RCX, RDI, RDX, RSI};
        for register in [RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11] {
            self.set(register, User);
        }
    }

    fn write_all(&mut self, info: &InstructionInfo, trust: Trust) {
        for used in info.used_registers() {
            if writes(used.access()) && used.register() != Register::RSP {
                self.set(used.register(), trust);
            }
        }
    }

    /// Marks a computed value: it is trusted as little as its worst source.
    fn combine(&mut self, info: &InstructionInfo) {
        let reads = info.used_registers().iter().filter(|used| reads(used.access()));
        let worst = reads.map(|used| self.get(used.register())).max().unwrap_or(Kernel);
        self.write_all(info, if worst == Kernel { Kernel } else { User });
    }
}

/// Returns whether an operand is read. An operand that is written only under a condition may keep
/// its value, so it counts as read.
fn reads(access: OpAccess) -> bool {
    !matches!(access, OpAccess::Write | OpAccess::NoMemAccess | OpAccess::None)
}

fn writes(access: OpAccess) -> bool {
    !matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None)
}

/// Returns where the code can continue.
fn nexts(instruction: &Instruction) -> Vec<u64> {
    match instruction.flow_control() {
        FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => vec![instruction.next_ip()],
        FlowControl::ConditionalBranch => vec![instruction.next_ip(), instruction.near_branch_target()],
        FlowControl::UnconditionalBranch => vec![instruction.near_branch_target()],
        _ => Vec::new(),
    }
}

/// Returns whether an instruction accesses memory at an address that user level can influence.
fn offends(state: &State, instruction: &Instruction, info: &InstructionInfo) -> bool {
    // How often a string instruction goes on, too, user level may choose in a byte only.
    let count = instruction.has_rep_prefix() && state.get(Register::RCX) > Byte;
    let used = info.used_memory().iter().filter(|memory| memory.access() != OpAccess::NoMemAccess);
    count || used.into_iter().any(|memory| !state.allows(memory))
}

/// Follows all paths of the entry code.
/// Errors: names the instructions that access memory at an address that user level can influence.
pub fn check(text: &Text) -> Result<()> {
    text.address_of(FIRST_ROOT).with_context(|| format!("no symbol {FIRST_ROOT}"))?;
    let places = offences(text, &text.entry()?);
    ensure!(places.is_empty(), "{}", places.join(", "));
    Ok(())
}

fn offences(text: &Text, range: &Range<u64>) -> Vec<String> {
    let roots = ROOTS.iter().filter_map(|name| Some((text.address_of(name)?, State::of_root(name))));
    let mut todo: Vec<(u64, State)> = roots.collect();
    let mut seen: HashSet<(u64, State)> = todo.iter().cloned().collect();
    let mut factory = InstructionInfoFactory::new();
    let mut places = Vec::new();
    while let Some((address, mut state)) = todo.pop() {
        let Some(instruction) = text.instruction(address).filter(|_| range.contains(&address)) else {
            continue;
        };
        let info = factory.info(&instruction);
        if offends(&state, &instruction, info) {
            places.push(format!("{} ({instruction})", text.place(address)));
            continue;
        }
        state.step(&instruction, info);
        for next in nexts(&instruction) {
            let step = (next, state.clone());
            if seen.insert(step.clone()) {
                todo.push(step);
            }
        }
    }
    places.sort();
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSRET: &[u8] = &[0x48, 0x0f, 0x07];
    const SHR_RDI_32: &[u8] = &[0x48, 0xc1, 0xef, 0x20];
    const CMP_RDI_LEN: &[u8] = &[0x49, 0x3b, 0x7f, 0x08]; // cmp rdi, [r15 + 8]
    const CMP_EDI_LEN: &[u8] = &[0x41, 0x3b, 0x7f, 0x08];
    const JAE_END: &[u8] = &[0x73, 0x08];
    const CMOVAE_RDI_ZERO: &[u8] = &[0x49, 0x0f, 0x43, 0x7f, 0x10]; // cmovae rdi, [r15 + 16]
    const MOV_EBX_EDI: &[u8] = &[0x89, 0xfb];
    const LOAD_BY_RDI: &[u8] = &[0x49, 0x8b, 0x04, 0x3f]; // mov rax, [r15 + rdi]
    const LOAD_BY_RBX: &[u8] = &[0x49, 0x8b, 0x04, 0x1f];

    fn offences_of(code: &[&[u8]]) -> Vec<String> {
        let bytes = code.concat();
        let end = 0x1000 + bytes.len() as u64;
        let text = Text::new(0x1000, bytes, vec![(0x1000, FIRST_ROOT.to_owned())]);
        offences(&text, &(0x1000..end))
    }

    #[test]
    fn a_comparison_alone_confines_nothing() {
        assert_eq!(offences_of(&[SHR_RDI_32, CMP_RDI_LEN, JAE_END, LOAD_BY_RDI, SYSRET]).len(), 1);
        assert_eq!(offences_of(&[LOAD_BY_RDI, SYSRET]).len(), 1);
    }

    #[test]
    fn a_conditional_move_confines_what_was_compared() {
        assert!(offences_of(&[CMP_RDI_LEN, JAE_END, CMOVAE_RDI_ZERO, LOAD_BY_RDI, SYSRET]).is_empty());
        // The comparison of half a register confines that half.
        assert_eq!(offences_of(&[CMP_EDI_LEN, CMOVAE_RDI_ZERO, LOAD_BY_RDI, SYSRET]).len(), 1);
        assert!(offences_of(&[CMP_EDI_LEN, CMOVAE_RDI_ZERO, MOV_EBX_EDI, LOAD_BY_RBX, SYSRET]).is_empty());
        // Flags of another instruction are no comparison.
        assert_eq!(offences_of(&[CMP_RDI_LEN, SHR_RDI_32, CMOVAE_RDI_ZERO, LOAD_BY_RDI, SYSRET]).len(), 1);
    }

    #[test]
    fn both_ways_of_a_branch_are_followed() {
        let jz_over = [0x74, 0x04];
        assert_eq!(offences_of(&[&jz_over, LOAD_BY_RDI, SYSRET]).len(), 1);
        assert_eq!(offences_of(&[&[0x74, 0x03], SYSRET, LOAD_BY_RDI, SYSRET]).len(), 1);
    }

    #[test]
    fn a_table_by_a_byte() {
        let movzx_ebx_al = [0x0f, 0xb6, 0xd8];
        let call_by_rbx = [0xff, 0x14, 0xdd, 0, 0, 0, 0x10]; // call [rbx * 8 + …]
        let mov_rsp = [0x49, 0x8b, 0x67, 0x20]; // mov rsp, [r15 + 32]
        assert!(offences_of(&[&mov_rsp, &movzx_ebx_al, &call_by_rbx, SYSRET]).is_empty());
        assert_eq!(offences_of(&[&mov_rsp, &call_by_rbx, SYSRET]).len(), 1);
        assert_eq!(offences_of(&[&mov_rsp, &movzx_ebx_al, LOAD_BY_RBX, SYSRET]).len(), 1);
        // The stack is user level's at first.
        assert_eq!(offences_of(&[&movzx_ebx_al, &call_by_rbx, SYSRET]).len(), 1);
    }
}
