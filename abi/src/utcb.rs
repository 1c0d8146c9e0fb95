//! The UTCB: one page per task that its process and the kernel share.
//!
//! It holds data that does not fit in registers. The kernel reads each word once and trusts none.

use core::sync::atomic::AtomicU64;

use crate::{GRANTS_MAX, MSG_UTCB_WORDS, RANGES_MAX};

/// Bytes of a UTCB: one page.
pub const UTCB_SIZE: usize = 4096;
/// Bytes that [`Op::MachineLog`](crate::Op::MachineLog) takes from [`Utcb::bulk`] at most.
pub const LOG_MAX: usize = 1024;

const USER_WORDS: usize = 512 - MSG_UTCB_WORDS - 8 - 256 - 2 * RANGES_MAX - 2 - 2 * GRANTS_MAX;

/// Layout of the page. All words are atomics because both sides write; `Relaxed` is enough, the
/// system call orders them.
#[repr(C, align(4096))]
pub struct Utcb {
    /// Words of the message beyond the message registers.
    pub msg: [AtomicU64; MSG_UTCB_WORDS],
    /// Not 0: the slice of this task is over, and it is asked to yield
    /// ([`Op::Yield`](crate::Op::Yield)). Until when it may run on, in TSC ticks, as it was when it
    /// was asked, and if its time does not stop before. Written by the kernel; the task sets it to
    /// 0 before it yields.
    pub preempt_pending: AtomicU64,
    /// This task's id, written once when it is configured.
    pub task_id: AtomicU64,
    /// This task's home CPU, written when it is configured and when it moves.
    pub home_cpu: AtomicU64,
    /// Where pages of messages may arrive: address and bytes, both multiples of 4 KiB.
    pub window: [AtomicU64; 2],
    /// How many of `ranges` there are.
    pub range_count: AtomicU64,
    /// How many of `grants` there are.
    pub grant_count: AtomicU64,
    /// Where capabilities of messages may arrive: see [`Listening`](crate::Listening).
    pub listening: AtomicU64,
    /// Register sets, log text and other long arguments and results.
    pub bulk: [AtomicU64; 256],
    /// Pages of the message: see [`PageRange`](crate::PageRange).
    pub ranges: [[AtomicU64; 2]; RANGES_MAX],
    /// Capabilities of the message: see [`Grant`](crate::Grant), and [`Received`](crate::Received).
    pub grants: [[AtomicU64; 2]; GRANTS_MAX],
    /// The fate of those that this task has sent: a byte each, a [`Fate`](crate::Fate) or 0.
    pub grant_fates: AtomicU64,
    /// Not 0: at the end of a slice this task wants a notice, in `preempt_pending`, and some time
    /// to yield by itself.
    pub wants_notice: AtomicU64,
    /// For the process: thread-local storage.
    pub user: [AtomicU64; USER_WORDS],
}

const _: () = assert!(core::mem::size_of::<Utcb>() == UTCB_SIZE);

impl Default for Utcb {
    fn default() -> Self {
        Utcb::new()
    }
}

impl Utcb {
    /// Makes a UTCB of zeros.
    pub const fn new() -> Utcb {
        Utcb {
            msg: [const { AtomicU64::new(0) }; MSG_UTCB_WORDS],
            preempt_pending: AtomicU64::new(0),
            task_id: AtomicU64::new(0),
            home_cpu: AtomicU64::new(0),
            window: [const { AtomicU64::new(0) }; 2],
            range_count: AtomicU64::new(0),
            grant_count: AtomicU64::new(0),
            listening: AtomicU64::new(0),
            bulk: [const { AtomicU64::new(0) }; 256],
            ranges: [const { [const { AtomicU64::new(0) }; 2] }; RANGES_MAX],
            grants: [const { [const { AtomicU64::new(0) }; 2] }; GRANTS_MAX],
            grant_fates: AtomicU64::new(0),
            wants_notice: AtomicU64::new(0),
            user: [const { AtomicU64::new(0) }; USER_WORDS],
        }
    }
}

/// Order of a task's registers in [`Utcb::bulk`] for
/// [`Op::TaskWriteRegs`](crate::Op::TaskWriteRegs) and
/// [`Op::TaskReadRegs`](crate::Op::TaskReadRegs).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum RegIndex {
    Rax = 0,
    Rbx = 1,
    Rcx = 2,
    Rdx = 3,
    Rsi = 4,
    Rdi = 5,
    Rbp = 6,
    R8 = 7,
    R9 = 8,
    R10 = 9,
    R11 = 10,
    R12 = 11,
    R13 = 12,
    R14 = 13,
    R15 = 14,
    Rip = 15,
    Rsp = 16,
    Rflags = 17,
    FsBase = 18,
    GsBase = 19,
}

/// Words of vector registers that [`Op::TaskReadVector`](crate::Op::TaskReadVector) and
/// [`Op::TaskWriteVector`](crate::Op::TaskWriteVector) take at a time.
pub const VECTOR_WORDS_AT_ONCE: usize = 256;

/// Words in a register set.
pub const REG_COUNT: usize = 20;
