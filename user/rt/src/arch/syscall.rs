//! The general system call stub: passes every register that the ABI defines, in and out.
//!
//! A system call clears all registers that it does not define, callee-saved ones included. The stub
//! declares them as clobbers, except rbx and rbp, which inline assembly cannot name as clobbers.
//! The stub saves these two itself.

use abi::{MsgInfo, Op, TaskId};

use crate::{Refusal, Result};

/// What a system call takes, by register. `info` is rax.
#[derive(Clone, Copy, Default, Debug)]
pub struct Args {
    pub info: MsgInfo,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
}

impl Args {
    pub const fn new(op: Op) -> Args {
        Args { info: MsgInfo(op as u64), rdi: 0, rsi: 0, rdx: 0, r8: 0, r9: 0, r10: 0 }
    }

    /// Makes the arguments of a system call with up to four plain ones, in the order of the ABI.
    pub const fn plain(op: Op, rdi: u64, rsi: u64, rdx: u64, r8: u64) -> Args {
        Args { info: MsgInfo(op as u64), rdi, rsi, rdx, r8, r9: 0, r10: 0 }
    }
}

/// What a system call gives, by register.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub info: MsgInfo,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r12: u64,
}

impl Answer {
    #[inline(always)]
    pub fn check(self) -> Result<Answer> {
        match self.info.status() {
            Ok(()) => Ok(self),
            Err(error) => Err(Refusal { error, detail: self.rdi, who: TaskId::from_raw(self.rsi) }),
        }
    }

    #[inline(always)]
    pub fn done(self) -> Result<()> {
        self.check().map(|_| ())
    }

    pub fn message_registers(&self) -> [u64; 4] {
        [self.rdx, self.r8, self.r9, self.r10]
    }
}

/// Executes SYSCALL with the given operands. All other registers are clobbered, or saved by this
/// code.
macro_rules! enter_kernel {
    ($($operand:tt)*) => {
        core::arch::asm!(
            "push rbx",
            "push rbp",
            "syscall",
            "pop rbp",
            "pop rbx",
            $($operand)*
            lateout("rcx") _,
            lateout("r11") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
        )
    };
}
pub(super) use enter_kernel;

/// Makes a system call, and returns its answer.
#[inline(always)]
pub fn syscall(args: Args) -> Answer {
    let (info, rdi, rsi, rdx, r8, r9, r10, r12): (u64, u64, u64, u64, u64, u64, u64, u64);
    // SAFETY: the kernel leaves rsp and all memory of this task but its UTCB (atomics) alone,
    // unless asked to change mappings, about which the crate's documentation speaks. Every register
    // that it changes is an output or a clobber, or saved here (rbx, rbp).
    unsafe {
        enter_kernel! {
            inlateout("rax") args.info.0 => info,
            inlateout("rdi") args.rdi => rdi,
            inlateout("rsi") args.rsi => rsi,
            inlateout("rdx") args.rdx => rdx,
            inlateout("r8") args.r8 => r8,
            inlateout("r9") args.r9 => r9,
            inlateout("r10") args.r10 => r10,
            lateout("r12") r12,
        }
    }
    Answer { info: MsgInfo(info), rdi, rsi, rdx, r8, r9, r10, r12 }
}
