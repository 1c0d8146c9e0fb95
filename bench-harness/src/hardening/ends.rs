//! Checks that `int3` follows the end of each path of the entry code. A CPU that speculatively
//! continues after a jump whose target it does not know yet stops there.
//!
//! A path ends with a return to user level, a jump through a register or memory, and a call that
//! does not return. The entry's calls through fixed words of `AURORA_HANDLERS` do not return.
//! Another call counts as one that does not return if no code of the same piece follows it.

use anyhow::{Result, ensure};
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::text::Text;

/// Labels within a piece of code (see [`crate::explain::phase`]).
const INNER_LABEL: &str = "phase.";
/// A piece that the one before it falls into, behind a call that returns.
const FALLEN_INTO: &str = "trap_resume";

/// Checks that all ends of paths in a kernel's code have a stop.
/// Errors: names those without.
pub fn check(text: &Text) -> Result<()> {
    let places = offences(text, &text.entry()?);
    ensure!(places.is_empty(), "{}", places.join(", "));
    Ok(())
}

fn offences(text: &Text, range: &std::ops::Range<u64>) -> Vec<String> {
    let ends = text.instructions(range.clone()).filter(|instruction| is_end(text, instruction));
    let open = ends.filter(|end| mnemonic_at(text, end.next_ip()) != Some(Mnemonic::Int3));
    open.map(|end| format!("{} ({end})", text.place(end.ip()))).collect()
}

fn mnemonic_at(text: &Text, address: u64) -> Option<Mnemonic> {
    text.instruction(address).map(|instruction| instruction.mnemonic())
}

fn is_end(text: &Text, instruction: &Instruction) -> bool {
    match instruction.flow_control() {
        FlowControl::IndirectBranch | FlowControl::Return => true,
        FlowControl::IndirectCall => is_fixed_word(instruction) || nothing_follows(text, instruction),
        FlowControl::Call if instruction.mnemonic() == Mnemonic::Call => nothing_follows(text, instruction),
        _ => false,
    }
}

fn is_fixed_word(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Memory
        && matches!(instruction.memory_base(), Register::None | Register::RIP)
        && instruction.memory_index() == Register::None
}

/// Returns whether an instruction ends its code: another piece of code or only filling follows,
/// whether or not a stop is there.
fn nothing_follows(text: &Text, instruction: &Instruction) -> bool {
    let next = instruction.next_ip();
    let begins = text.symbols_at(next).any(|name| !name.starts_with(INNER_LABEL) && name != FALLEN_INTO);
    begins || matches!(mnemonic_at(text, next), None | Some(Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::Ud2))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const INT3: &[u8] = &[0xcc];
    const NOP: &[u8] = &[0x90];

    fn open_ends(code: &[&[u8]], symbols: &[(u64, &str)]) -> usize {
        let bytes = code.concat();
        let end = 0x1000 + bytes.len() as u64;
        let symbols = symbols.iter().map(|(address, name)| (*address, (*name).to_owned())).collect();
        offences(&Text::new(0x1000, bytes, symbols), &(0x1000..end)).len()
    }

    #[test]
    fn each_way_out_needs_a_stop() {
        let sysretq: &[u8] = &[0x48, 0x0f, 0x07];
        let iretq: &[u8] = &[0x48, 0xcf];
        let jump_by_register: &[u8] = &[0xff, 0xe0];
        let jump_by_table: &[u8] = &[0xff, 0x24, 0xc5, 0, 0, 0, 0x10];
        let call_by_word: &[u8] = &[0xff, 0x14, 0x25, 0, 0, 0, 0x10];
        for end in [sysretq, iretq, jump_by_register, jump_by_table, call_by_word, &[0xc3]] {
            assert_eq!(open_ends(&[end, INT3, NOP], &[]), 0, "{end:x?}");
            assert_eq!(open_ends(&[end, NOP], &[]), 1, "{end:x?}");
            assert_eq!(open_ends(&[end], &[]), 1, "{end:x?}");
        }
    }

    #[test]
    fn calls_that_return_need_none() {
        let call: &[u8] = &[0xe8, 0, 0, 0, 0];
        let call_by_table: &[u8] = &[0xff, 0x14, 0xdd, 0, 0, 0, 0x10];
        let load: &[u8] = &[0x48, 0x8b, 0x03];
        assert_eq!(open_ends(&[call, load], &[]), 0);
        assert_eq!(open_ends(&[call_by_table, load], &[(0x1007, "phase.exit.slow")]), 0);
        assert_eq!(open_ends(&[call, load], &[(0x1005, "another")]), 1);
        assert_eq!(open_ends(&[call, NOP], &[]), 1);
        assert_eq!(open_ends(&[call, INT3], &[(0x1006, "another")]), 0);
    }

    /// The code of the boot, too, which is not in the kernel's text.
    #[test]
    fn all_assembly_has_its_stops() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let files = ["ipc-fast/src", "kern/hal/src/boot", "kern/hal/src/cpu", "kern/hal/src/trap"]
            .iter()
            .flat_map(|directory| std::fs::read_dir(root.join(directory)).expect("a directory"))
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "s"));
        let (mut ends, mut open) = (0, Vec::new());
        for path in files {
            let content = std::fs::read_to_string(&path).expect("a source file");
            let lines: Vec<&str> = content.lines().map(str::trim).collect();
            for (number, line) in lines.iter().enumerate() {
                let is_end = ["sysretq", "iretq", "jmp [", "jmp *", "ljmp", "ret"]
                    .iter()
                    .any(|end| line.starts_with(end));
                ends += usize::from(is_end);
                if is_end && lines.get(number + 1) != Some(&"int3") {
                    open.push(format!("{}:{}: {line}", path.display(), number + 1));
                }
            }
        }
        assert!(ends >= 10, "only {ends}");
        assert!(open.is_empty(), "{open:#?}");
    }
}
