//! A task's register set, as user level reads and writes it.

use core::cell::Cell;

use abi::{Error, RegIndex};
use kern_base::task::{RegFrame, TaskHot};
use smp::sync::Ordering::Relaxed;
#[expect(clippy::disallowed_types, reason = "user level shares it")]
use smp::sync::UserWord;

use crate::{Refusal, Result, refuse_if};

/// RFLAGS bits that user level may write: those that a program can set itself (the arithmetic
/// flags, DF, TF, AC, ID; NT is not among them), and RF, which lets it pass a breakpoint.
pub const USER_FLAGS: u64 = 0x0024_0dd5 | abi::RFLAGS_RESUME;

/// The bit that is always one, and interrupts on.
pub const FIXED_FLAGS: u64 = 0x202;

/// Returns the registers of a register set, each with its index in the UTCB. RFLAGS is not among
/// them, because it is checked separately; the declared bases follow FS and GS as interrupted.
#[inline(always)]
pub fn registers(regs: &RegFrame) -> [(RegIndex, &Cell<u64>); abi::REG_COUNT] {
    [
        (RegIndex::Rax, &regs.rax),
        (RegIndex::Rbx, &regs.rbx),
        (RegIndex::Rcx, &regs.rcx),
        (RegIndex::Rdx, &regs.rdx),
        (RegIndex::Rsi, &regs.rsi),
        (RegIndex::Rdi, &regs.rdi),
        (RegIndex::Rbp, &regs.rbp),
        (RegIndex::R8, &regs.r8),
        (RegIndex::R9, &regs.r9),
        (RegIndex::R10, &regs.r10),
        (RegIndex::R11, &regs.r11),
        (RegIndex::R12, &regs.r12),
        (RegIndex::R13, &regs.r13),
        (RegIndex::R14, &regs.r14),
        (RegIndex::R15, &regs.r15),
        (RegIndex::Rip, &regs.rip),
        (RegIndex::Rsp, &regs.rsp),
        (RegIndex::Rflags, &regs.rflags),
        (RegIndex::FsBase, &regs.fs),
        (RegIndex::GsBase, &regs.gs),
    ]
}

/// Reads a register set from UTCB bulk words, each once. Refuses a set that could not be loaded;
/// the detail names the register that is no user address.
#[expect(clippy::disallowed_types, reason = "user level shares it")]
pub fn read_registers(bulk: &[UserWord; 256]) -> Result<[u64; abi::REG_COUNT]> {
    let words: [u64; abi::REG_COUNT] = core::array::from_fn(|i| bulk[i].load(Relaxed));
    for address in [RegIndex::Rip, RegIndex::Rsp, RegIndex::FsBase, RegIndex::GsBase] {
        refuse_if(words[address as usize] >= abi::USER_TOP, Refusal::new(Error::BadAddress, address as u64))?;
    }
    Ok(words)
}

/// Writes a register set to a task; `word` returns the set's value at an index.
pub fn load_registers(hot: &TaskHot, word: impl Fn(usize) -> u64) {
    for (register, cell) in registers(&hot.regs) {
        cell.set(word(register as usize));
    }
    hot.regs.rflags.set((hot.regs.rflags.get() & USER_FLAGS) | FIXED_FLAGS);
    hot.fs_base.set(hot.regs.fs.get());
    hot.gs_base.set(hot.regs.gs.get());
    hot.regs.full.set(1);
}
