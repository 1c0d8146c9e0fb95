//! Messages: calls and their replies, receives, forwards.
//!
//! The words of a message beyond four are in the UTCB ([`crate::utcb::Current::message`]): write
//! them there, then pass their number. [`crate::arch::fast`] has the shortest stubs for register
//! messages.

use abi::{
    FLAG_CAPS, FLAG_DEADLINE, FLAG_LISTEN, FLAG_NONBLOCK, FLAG_NOTIFICATION, FLAG_PAGES, FLAG_UNTAKEN,
    MsgInfo, Op, TaskId,
};

use crate::Result;
use crate::arch::{Answer, Args, syscall};
use crate::cap::{Exposure, Handle, Reply};

/// A message as it is sent and as a reply comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// For the two sides: what it is.
    pub label: u32,
    /// Words in the UTCB.
    pub words: u8,
    pub regs: [u64; 4],
    /// It carries pages: those that the UTCB lists ([`crate::pages`]).
    pub pages: bool,
    /// It carries capabilities: those that the UTCB lists ([`crate::grants`]).
    pub caps: bool,
    /// For a call: the caller listens for capabilities of the reply, and first waits until the
    /// slots that it offers can be filled.
    pub listens: bool,
    /// Whether the reply came without its payload, for which the caller had no place.
    pub untaken: bool,
}

impl Message {
    pub const fn new(label: u32, regs: [u64; 4]) -> Message {
        Message::with_words(label, regs, 0)
    }

    pub const fn with_words(label: u32, regs: [u64; 4], words: u8) -> Message {
        Message { label, words, regs, pages: false, caps: false, listens: false, untaken: false }
    }

    /// Returns the message with the pages that the UTCB lists.
    pub const fn with_pages(self) -> Message {
        Message { pages: true, ..self }
    }

    /// Returns the message with the capabilities that the UTCB lists.
    pub const fn with_caps(self) -> Message {
        Message { caps: true, ..self }
    }

    /// Returns the message of a caller that listens for capabilities of the reply.
    pub const fn that_listens(self) -> Message {
        Message { listens: true, ..self }
    }

    pub(crate) fn args(&self, op: Op, rdi: u64) -> Args {
        let [rdx, r8, r9, r10] = self.regs;
        let info = MsgInfo::new(self.label, self.words).op(op);
        let info = if self.pages { info.flag(FLAG_PAGES) } else { info };
        let info = if self.caps { info.flag(FLAG_CAPS) } else { info };
        let info = if self.listens { info.flag(FLAG_LISTEN) } else { info };
        Args { info, rdi, rsi: 0, rdx, r8, r9, r10 }
    }

    fn of(answer: &Answer) -> Message {
        Message {
            label: answer.info.label(),
            words: answer.info.words() as u8,
            regs: answer.message_registers(),
            pages: answer.info.has(FLAG_PAGES),
            caps: answer.info.has(FLAG_CAPS),
            listens: false,
            untaken: answer.info.has(FLAG_UNTAKEN),
        }
    }
}

/// How long to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    Forever,
    /// Until this time in TSC ticks.
    Until(u64),
    /// Not at all: [`abi::Error::WouldBlock`].
    None,
}

impl Patience {
    pub(crate) fn apply(self, args: &mut Args) {
        match self {
            Patience::Forever => {}
            Patience::Until(deadline) => {
                args.info = args.info.flag(FLAG_DEADLINE);
                args.rsi = deadline;
            }
            Patience::None => args.info = args.info.flag(FLAG_NONBLOCK),
        }
    }
}

impl Exposure {
    /// Calls the task that is exposed here: sends a message and waits for the reply.
    pub fn call(self, message: &Message) -> Result<Message> {
        self.call_within(message, Patience::Forever)
    }

    pub fn call_within(self, message: &Message, patience: Patience) -> Result<Message> {
        let mut args = message.args(Op::Call, self.0.0);
        patience.apply(&mut args);
        Ok(Message::of(&syscall(args).check()?))
    }

    /// Forwards the call that the calling task serves to the task that is exposed here, with the
    /// caller's words. The receiver sees that it was [forwarded](Received::forwarded).
    pub fn forward(self, message: &Message) -> Result<()> {
        syscall(message.args(Op::Forward, self.0.0)).done()
    }
}

/// A call that was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    pub message: Message,
    /// Through which exposure.
    pub exposure: u32,
    pub sender: TaskId,
    /// The sender's custom bits in that group.
    pub custom: u16,
    /// The kernel says that the sender faulted.
    pub fault: bool,
    /// The kernel says that somebody handed the sender's call on: message and custom bits are that
    /// one's.
    pub forwarded: bool,
}

/// What a receive returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Call(Received),
    /// Bits of the bound Notification.
    Bits(u64),
}

impl Event {
    fn of(answer: &Answer) -> Event {
        if answer.info.has(FLAG_NOTIFICATION) {
            return Event::Bits(answer.rdx);
        }
        Event::Call(Received {
            message: Message::of(answer),
            exposure: answer.rdi as u32,
            sender: TaskId::from_raw(answer.rsi),
            custom: answer.r12 as u16,
            fault: answer.info.has(abi::FLAG_FAULT),
            forwarded: answer.info.has(abi::FLAG_FORWARDED),
        })
    }
}

/// Waits for a call, or for bits of the Notification bound to this task.
pub fn recv() -> Result<Event> {
    recv_within(Patience::Forever)
}

pub fn recv_within(patience: Patience) -> Result<Event> {
    let mut args = Args::new(Op::Recv);
    patience.apply(&mut args);
    Ok(Event::of(&syscall(args).check()?))
}

/// Answers the call that this task serves, then waits for the next.
pub fn reply_recv(message: &Message) -> Result<Event> {
    Ok(Event::of(&syscall(message.args(Op::ReplyRecv, 0)).check()?))
}

/// Answers the call that this task serves.
pub fn reply(message: &Message) -> Result<()> {
    syscall(message.args(Op::Reply, 0)).done()
}

impl Reply {
    /// Saves the call that this task serves in the Reply object.
    pub fn save(&self) -> Result<()> {
        syscall(Args::plain(Op::SaveReply, self.arg(), 0, 0, 0)).done()
    }

    /// Answers the call that the Reply object keeps.
    pub fn reply(&self, message: &Message) -> Result<()> {
        syscall(message.args(Op::Reply, self.arg())).done()
    }
}
