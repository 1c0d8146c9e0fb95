//! The leanest stubs: messages in registers only, no deadline.
//!
//! Between two of these calls the compiler leaves the message in its registers. So a client's round
//! trip takes seven instructions at user level (target, operation, four to save rbx and rbp,
//! SYSCALL), and a server's loop seven (operation, four, SYSCALL, jump).

use abi::{FaultAnswer, MsgInfo, Op, Target};

use super::syscall::enter_kernel;

/// What came back: the message word and the message registers. Its status is to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Short {
    pub info: MsgInfo,
    pub regs: [u64; 4],
}

impl Short {
    pub const EMPTY: Short = Short { info: MsgInfo(0), regs: [0; 4] };
}

/// Makes the system call [`Op::Call`] with an empty label. Returns the reply.
#[inline(always)]
pub fn call(target: Target, regs: [u64; 4]) -> Short {
    let (info, rdx, r8, r9, r10): (u64, u64, u64, u64, u64);
    // SAFETY: as in `super::syscall`; `Call` asks for nothing that changes mappings.
    unsafe {
        enter_kernel! {
            inlateout("rax") Op::Call as u64 => info,
            inlateout("rdi") target.0 => _,
            inlateout("rdx") regs[0] => rdx,
            inlateout("r8") regs[1] => r8,
            inlateout("r9") regs[2] => r9,
            inlateout("r10") regs[3] => r10,
            lateout("rsi") _,
            lateout("r12") _,
        }
    }
    Short { info: MsgInfo(info), regs: [rdx, r8, r9, r10] }
}

/// Makes the system call [`Op::Send`] with an empty label. Returns the message word of the answer.
#[inline(always)]
pub fn send(target: Target, regs: [u64; 4]) -> MsgInfo {
    message(Op::Send, target, regs).0
}

/// Makes the system call [`Op::Broadcast`] with an empty label. Returns the message word of the
/// answer, and how many members got the message.
#[inline(always)]
pub fn broadcast(group: Target, regs: [u64; 4]) -> (MsgInfo, u64) {
    message(Op::Broadcast, group, regs)
}

/// Makes the system call `op`, which sends a message without reply. Returns the message word and
/// rdi of the answer.
#[inline(always)]
fn message(op: Op, target: Target, regs: [u64; 4]) -> (MsgInfo, u64) {
    let (info, rdi): (u64, u64);
    // SAFETY: as in `super::syscall`.
    unsafe {
        enter_kernel! {
            inlateout("rax") op as u64 => info,
            inlateout("rdi") target.0 => rdi,
            inlateout("rdx") regs[0] => _,
            inlateout("r8") regs[1] => _,
            inlateout("r9") regs[2] => _,
            inlateout("r10") regs[3] => _,
            lateout("rsi") _,
            lateout("r12") _,
        }
    }
    (MsgInfo(info), rdi)
}

/// Makes the system call [`Op::ReplyRecv`] with an empty label. Returns the call that is received
/// next.
#[inline(always)]
pub fn reply_recv(regs: [u64; 4]) -> Short {
    let (info, rdx, r8, r9, r10): (u64, u64, u64, u64, u64);
    // SAFETY: as in `super::syscall`; `ReplyRecv` asks for nothing that changes mappings.
    unsafe {
        enter_kernel! {
            inlateout("rax") Op::ReplyRecv as u64 => info,
            inlateout("rdx") regs[0] => rdx,
            inlateout("r8") regs[1] => r8,
            inlateout("r9") regs[2] => r9,
            inlateout("r10") regs[3] => r10,
            lateout("rdi") _,
            lateout("rsi") _,
            lateout("r12") _,
        }
    }
    Short { info: MsgInfo(info), regs: [rdx, r8, r9, r10] }
}

/// Makes the system call [`Op::ReplyRecv`], and answers a fault by [`FaultAnswer::ResumeAt`].
/// Returns the call that is received next.
#[inline(always)]
pub fn resume_at(rip: u64) -> Short {
    let (info, rdx, r8, r9, r10): (u64, u64, u64, u64, u64);
    // SAFETY: as in `super::syscall`; whatever the other message registers hold, the answer
    // ignores.
    unsafe {
        enter_kernel! {
            inlateout("rax") MsgInfo::new(FaultAnswer::ResumeAt.label(), 0).op(Op::ReplyRecv).0 => info,
            inlateout("r8") rip => r8,
            lateout("rdx") rdx,
            lateout("r9") r9,
            lateout("r10") r10,
            lateout("rdi") _,
            lateout("rsi") _,
            lateout("r12") _,
        }
    }
    Short { info: MsgInfo(info), regs: [rdx, r8, r9, r10] }
}

/// Makes the system call `op`, which has up to two plain arguments. Returns the message word and
/// rdx of the answer.
#[inline(always)]
pub fn plain(op: Op, rdi: u64, rsi: u64) -> (MsgInfo, u64) {
    let (info, rdx): (u64, u64);
    // SAFETY: as in `super::syscall`.
    unsafe {
        enter_kernel! {
            inlateout("rax") op as u64 => info,
            inlateout("rdi") rdi => _,
            inlateout("rsi") rsi => _,
            lateout("rdx") rdx,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r12") _,
        }
    }
    (MsgInfo(info), rdx)
}

/// Makes the system call `op`, which has four plain arguments and no results. Returns the message
/// word of the answer.
#[inline(always)]
pub fn order(op: Op, [rdi, rsi, rdx, r8]: [u64; 4]) -> MsgInfo {
    let info: u64;
    // SAFETY: as in `super::syscall`; whatever the other argument registers hold, the operation
    // ignores.
    unsafe {
        enter_kernel! {
            inlateout("rax") op as u64 => info,
            inlateout("rdi") rdi => _,
            inlateout("rsi") rsi => _,
            inlateout("rdx") rdx => _,
            inlateout("r8") r8 => _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r12") _,
        }
    }
    MsgInfo(info)
}

/// Makes the system call `op`, which has one plain argument. Returns the message word and rdx of
/// the answer.
#[inline(always)]
pub fn on(op: Op, rdi: u64) -> (MsgInfo, u64) {
    let (info, rdx): (u64, u64);
    // SAFETY: as in `super::syscall`; whatever the other argument registers hold, the operation
    // ignores.
    unsafe {
        enter_kernel! {
            inlateout("rax") op as u64 => info,
            inlateout("rdi") rdi => _,
            lateout("rdx") rdx,
            lateout("rsi") _,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r12") _,
        }
    }
    (MsgInfo(info), rdx)
}

/// Makes the system call `op`, which has no arguments. Returns the message word of the answer.
#[inline(always)]
pub fn bare(op: Op) -> MsgInfo {
    let info: u64;
    // SAFETY: as in `super::syscall`; whatever the argument registers hold, the operation ignores.
    unsafe {
        enter_kernel! {
            inlateout("rax") op as u64 => info,
            lateout("rdi") _,
            lateout("rsi") _,
            lateout("rdx") _,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r12") _,
        }
    }
    MsgInfo(info)
}
