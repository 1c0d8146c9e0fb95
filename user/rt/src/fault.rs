//! Faults of other tasks: what a handler receives, and what it may answer.
//!
//! A task becomes the handler of a process or of a single task by an exposure in a group of which
//! the process is a member, with SEND and STRING: [`Process::fault_handler`](crate::cap::Process),
//! [`Task::fault_handler`](crate::cap::Task). The handler may be a task of that process, but not
//! the task that faults. Then each fault is a call, which the handler receives like other calls:
//!
//! ```text
//! match recv()? {
//!     Event::Call(call) => match Fault::of(&call) {
//!         Some(fault) => Verdict::ResumeAt(fault.rip + length).reply()?,
//!         None => serve(call),
//!     },
//!     Event::Bits(bits) => …
//! }
//! ```

use abi::{FaultAnswer, FaultKind, REG_COUNT, RegIndex};

use crate::Result;
use crate::cap::Reply;
use crate::ipc::{Event, Message, Received, reply, reply_recv};
use crate::utcb;

/// A fault, of the message's sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    /// The address that could not be accessed; of a step or a breakpoint: which, as DR6 has it.
    pub address: u64,
    pub rip: u64,
    pub rsp: u64,
    /// The CPU's number of the exception, and its error code.
    pub exception: u8,
    pub error: u32,
}

impl Fault {
    /// Returns the fault that was received, or `None` if the message is an ordinary call.
    pub fn of(received: &Received) -> Option<Fault> {
        let [address, rip, about, rsp] = received.message.regs;
        let kind = FaultKind::from_label(received.message.label).filter(|_| received.fault)?;
        Some(Fault { kind, address, rip, rsp, exception: (about >> 32) as u8, error: about as u32 })
    }
}

/// Returns the registers that came with the fault just received, by [`RegIndex`]. They are in this
/// task's UTCB, where the next log record or register set overwrites them.
pub fn registers() -> [u64; REG_COUNT] {
    let mut regs = [0; REG_COUNT];
    utcb::current().read_bulk(&mut regs);
    regs
}

/// The fate of the task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on as it is.
    Resume,
    /// The task continues at another address.
    ResumeAt(u64),
    /// It goes on as it is for one instruction.
    Step,
    /// It goes on with these registers, by [`RegIndex`].
    Registers([u64; REG_COUNT]),
    Kill,
    /// Its process ends.
    TearDown,
}

impl Verdict {
    /// Makes the answer to a fault of the verdict, and puts its registers into the UTCB.
    fn message(&self) -> Message {
        let answer = match self {
            Verdict::Resume => FaultAnswer::Resume,
            Verdict::ResumeAt(_) => FaultAnswer::ResumeAt,
            Verdict::Step => FaultAnswer::Step,
            Verdict::Registers(_) => FaultAnswer::Registers,
            Verdict::Kill => FaultAnswer::Kill,
            Verdict::TearDown => FaultAnswer::TearDown,
        };
        let rip = match self {
            Verdict::ResumeAt(rip) => *rip,
            Verdict::Registers(regs) => {
                utcb::current().write_bulk(regs);
                regs[RegIndex::Rip as usize]
            }
            _ => 0,
        };
        Message::new(answer.label(), [0, rip, 0, 0])
    }

    /// Answers the current call, which is a fault.
    pub fn reply(&self) -> Result<()> {
        reply(&self.message())
    }

    /// Answers the fault, then waits for the next call.
    pub fn reply_recv(&self) -> Result<Event> {
        reply_recv(&self.message())
    }

    /// Answers a fault that a Reply object keeps.
    pub fn reply_to(&self, kept: &Reply) -> Result<()> {
        kept.reply(&self.message())
    }
}
