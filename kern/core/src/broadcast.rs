//! Broadcast: one message to every process that listens in a group.
//!
//! The members are gone through in the order of their records, a bounded number of them an entry. How far it came stands in the
//! caller's own argument register ([`Progress`]): an entry that ends in between, by its bound or because the caller waits for
//! room in a member's pool, leaves a system call that only has to be made again, by whoever has the registers.
//!
//! A record is visited once, so each member gets the message at most once; one whose record is there all the time is
//! visited. Where it cannot get the message the call stops there, and says so.
//!
//! A caller that waits for room does so as in a [send](crate::events), its message block queued at the pool's reader. When the
//! message is in the pool the register is moved on, on the caller's CPU; whatever else ends the wait leaves it.

use abi::events::{BROADCAST, Progress};
use abi::{Error, FLAG_CAPS, FLAG_EVENT, FLAG_PAGES, MsgInfo, Target};
use kern_base::events::EventPool;
use kern_base::group::{Group, Member};
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::task::{Message, Stage, Task, TaskHot};
use smp::door::Ref;
use smp::events::Turn;

use crate::caps::InGroup;
use crate::carry::rights_of_words;
use crate::ipc::{From, Words};
use crate::syscall::Args;
use crate::{Answer, Cx, Me, Refusal, Result};

/// Members that get the message in one entry.
const SENT_BOUND: u16 = 16;
/// Member records that one entry looks at.
const RECORDS_BOUND: usize = 128;

/// Whether a message block, which is queued or has come back, is of a broadcast.
pub fn is_broadcast(msg: &Message) -> bool {
    msg.info.get().has(FLAG_EVENT) && msg.target.get().index() == BROADCAST
}

/// How far the broadcast of a task has come: what its errors tell.
pub fn progress_of(hot: &TaskHot) -> u64 {
    u64::from(Target(hot.regs.rdi.get()).index())
}

fn set_progress(hot: &TaskHot, progress: Progress) {
    hot.regs.rdi.set(Target::new(Target(hot.regs.rdi.get()).cap(), progress.raw()).0);
}

/// How the part of a broadcast ended that one entry does.
enum Part<'k> {
    /// There are no more members.
    Over,
    /// There may be.
    More,
    /// The next member has no room.
    Full(Ref<'k, EventPool>),
}

impl<'k, M: Machine> Cx<'k, M> {
    /// [`abi::Op::Broadcast`].
    pub fn broadcast(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        let words = Words::new(args)?;
        if MsgInfo(args.info).has(FLAG_PAGES) {
            return Err(Refusal::new(Error::NoPage, 0));
        }
        if MsgInfo(args.info).has(FLAG_CAPS) {
            return Err(Refusal::new(Error::NoCapability, 0));
        }
        let InGroup { group, custom } = self.find_group(me, args.cap(), rights_of_words(words.info))?;
        let from = From { sender: me.task.get().id(), target: Target::new(args.cap(), BROADCAST), custom };
        let begun = Progress::from_raw(Target(args.a0).index());
        let (part, progress) = self.send_to_some(me, group, words, from, begun);
        set_progress(me.hot, progress);
        match part {
            Part::Over => Ok(Answer::one(u64::from(progress.sent))),
            Part::More => Err(Refusal::More),
            // Who was told of an event may be running by now: it is waited for in an entry of its own.
            Part::Full(_) if progress != begun => Err(Refusal::More),
            Part::Full(pool) => self.wait_for_member(me, args, group, pool, words, from, progress),
        }
    }

    /// Sends to the next members, a bounded number.
    fn send_to_some(
        self,
        me: Me<'k>,
        group: Ref<'k, Group>,
        words: Words,
        from: From,
        begun: Progress,
    ) -> (Part<'k>, Progress) {
        let event = words.as_event(from, group.get().header.identity());
        let (plain, own) = (event.info.words() == 0, me.process.get().key_word());
        let (first, mut sent) = (usize::from(begun.next), 0);
        let at = |next: usize, sent: u16| Progress { next: next as u16, sent: begun.sent.wrapping_add(sent) };
        for next in first..first + RECORDS_BOUND {
            let Some(member) = group.get().member(self.pin(), next) else {
                return (Part::Over, at(next, sent));
            };
            if !member.listens_besides(own) {
                continue;
            }
            let Some(pool) = self.pool_of_member(member) else { continue };
            if sent == SENT_BOUND {
                return (Part::More, at(next, sent));
            }
            let has_room = match plain {
                true => self.put_registers(pool, event),
                false => self.put_event(pool, me.task, event, Turn::Any),
            };
            if !has_room {
                return (Part::Full(pool), at(next, sent));
            }
            sent += 1;
        }
        (Part::More, at(first + RECORDS_BOUND, sent))
    }

    /// The pool of a member's process, where that lives and has one.
    #[inline(always)]
    fn pool_of_member(self, member: Member) -> Option<Ref<'k, EventPool>> {
        let process = self.k.processes.process(self.pin(), member.key())?.get();
        process.pool.get(self.pin()).filter(|_| member.is_of(process.key_word()))
    }

    /// The next member has no room, and nobody was sent anything in this entry.
    #[cold]
    #[allow(clippy::too_many_arguments, reason = "one decoded system call")]
    fn wait_for_member(
        self,
        me: Me<'k>,
        args: &Args,
        group: Ref<'k, Group>,
        pool: Ref<'k, EventPool>,
        words: Words,
        from: From,
        progress: Progress,
    ) -> Result<Answer> {
        let process = pool.get().process.get(self.pin());
        if process.is_none_or(|process| process.get().header.has_flag(FLAG_DYING)) {
            // It is no member any more, though its record is there.
            set_progress(me.hot, progress.past(false));
            return Err(Refusal::More);
        }
        if let Some(msg) = me.task.get().msg.open(self.pin()) {
            msg.group.set(group.get().header.identity());
        }
        self.wait_for_room(me, args, pool, words, from).map_err(|refusal| match refusal {
            Refusal::Error { error, who, .. } => {
                Refusal::Error { error, detail: u64::from(progress.raw()), who }
            }
            other => other,
        })
    }

    /// The message of a task that waited for room is where it was to go: the task goes on with the next member.
    pub fn go_on_behind(self, hot: &TaskHot) {
        let progress = Progress::from_raw(Target(hot.regs.rdi.get()).index());
        set_progress(hot, progress.past(true));
        self.rewind(hot);
    }

    /// Whether a task of this CPU waits in a broadcast for room, in a pool whose reader is of this CPU.
    pub fn waits_in_broadcast(self, task: Ref<'k, Task>) -> bool {
        let queued = |msg: &&Message| msg.stage.get() == Stage::Queued && is_broadcast(msg);
        task.get().msg.open(self.pin()).filter(queued).is_some()
    }
}
