//! Judges the end of every call.
//!
//! A call is *out* from the moment at which it is made until its caller continues. Meanwhile at
//! most one task *has* it: a task that received the call and has neither answered, forwarded nor
//! dropped it. The model uses only the answers that tasks get. It does not need to know what the
//! kernel does in between.

use std::collections::BTreeMap;

use abi::{
    Error, FLAG_CAPS, FLAG_DEADLINE, FLAG_NONBLOCK, FLAG_NOTIFICATION, FLAG_PAGES, MsgInfo, Op, TaskId,
};

use crate::world::{Regs, Tcb};

/// A task's call.
#[derive(Clone, Debug)]
pub struct Call {
    pub caller: TaskId,
    /// The possible callees: the first one, and those that it was forwarded to.
    pub towards: Vec<TaskId>,
    /// The task that received it last, and has not released it.
    pub with: Option<TaskId>,
    /// What it was answered.
    pub answers: Vec<u64>,
    /// The task that had it received again without an answer, or the object that kept it was
    /// deleted.
    pub dropped: bool,
    pub deadline: Option<u64>,
    pub nonblock: bool,
    /// What it carries, in flags.
    pub load: MsgInfo,
    /// It is a fault: it has no outcome but that the task goes on, or ends.
    pub fault: bool,
}

/// A task as the model knows it.
#[derive(Default, Debug)]
struct Player {
    /// The system call it is in, as it was made.
    doing: Option<Regs>,
    /// The call it is in.
    call: Option<u64>,
    /// The call it received and owes an answer.
    serves: Option<u64>,
    /// Cancels it was asked for and has not shown.
    cancels: u32,
    dead: bool,
    /// It was made with CPU time of its own.
    own_time: bool,
    /// It may have ended in ways that the model does not follow.
    lost: bool,
}

#[derive(Default)]
pub struct Model {
    players: BTreeMap<u64, Player>,
    pub calls: BTreeMap<u64, Call>,
    next: u64,
    /// By Reply: the call that was saved there last.
    pub kept: BTreeMap<usize, Option<u64>>,
    /// Something was deleted that calls depend on.
    pub deleted: bool,
}

impl Model {
    pub fn add(&mut self, task: Tcb) {
        self.players
            .insert(task.id.raw(), Player { own_time: task.sc != abi::Cap::NULL, ..Player::default() });
    }

    fn player(&mut self, id: TaskId) -> &mut Player {
        match self.players.get_mut(&id.raw()) {
            Some(player) => player,
            None => panic!("the kernel names a task that does not exist: {id:?}"),
        }
    }

    pub fn lives(&self, task: Tcb) -> bool {
        self.players.get(&task.id.raw()).is_some_and(|p| !p.dead)
    }

    pub fn may_be_gone(&self, task: Tcb) -> bool {
        self.players.get(&task.id.raw()).is_some_and(|p| p.lost || p.dead)
    }

    pub fn is_idle(&self, task: Tcb) -> bool {
        self.players.get(&task.id.raw()).is_some_and(|p| p.doing.is_none())
    }

    pub fn serves(&self, task: Tcb) -> Option<u64> {
        self.players.get(&task.id.raw())?.serves
    }

    /// A number that no call had.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    // --- what tasks do ---------------------------------------------------------------------------

    /// `task` makes a system call.
    pub fn makes(&mut self, task: Tcb, args: Regs) {
        let player = self.player(task.id);
        assert!(player.doing.is_none(), "{task:?} does two things");
        player.doing = Some(args);
    }

    /// It calls `callee`; the call's number is its first word.
    pub fn calls(&mut self, task: Tcb, callee: TaskId, args: Regs) {
        self.makes(task, args);
        let number = args.rdx;
        self.player(task.id).call = Some(number);
        let has = |flag| args.info().has(flag);
        let call = Call {
            caller: task.id,
            towards: vec![callee],
            with: None,
            answers: Vec::new(),
            dropped: false,
            deadline: has(FLAG_DEADLINE).then_some(args.rsi),
            nonblock: has(FLAG_NONBLOCK),
            load: args.info(),
            fault: false,
        };
        self.calls.insert(number, call);
    }

    /// It faults, with a handler or not.
    pub fn faults(&mut self, task: Tcb, number: u64, handler: Option<TaskId>) {
        let args = Regs::message(Op::Call, abi::Target(0), [number, 0, 0, 0]);
        self.calls(task, handler.unwrap_or(TaskId::NONE), args);
        if let Some(call) = self.calls.get_mut(&number) {
            call.fault = true;
        }
    }

    pub fn is_fault(&self, number: u64) -> bool {
        self.calls.get(&number).is_some_and(|call| call.fault)
    }

    pub fn caller_of(&self, number: u64) -> Option<TaskId> {
        self.calls.get(&number).map(|call| call.caller)
    }

    /// The kernel says that nobody handles a task's fault.
    pub fn fault_failed(&mut self, task: TaskId, why: Option<Error>) {
        let number = self.players.get(&task.raw()).and_then(|p| p.call);
        let Some(call) = number.and_then(|number| self.calls.get(&number)) else { return };
        assert!(call.fault, "the fault of {task:?} failed, which is in {call:?}");
        let dead = |id: &TaskId| self.players.get(&id.raw()).is_none_or(|p| p.dead || p.lost);
        let right = match why {
            None => call.towards == [TaskId::NONE],
            Some(Error::SelfCall) => call.towards == [task],
            Some(Error::Dead) => call.towards.iter().any(dead),
            Some(Error::Gone) => call.dropped || self.deleted,
            Some(Error::NoExposure | Error::NoCapability) => self.deleted,
            Some(Error::NoTime) => true,
            _ => false,
        };
        assert!(right, "the fault of {task:?} failed by {why:?}: {call:?}");
    }

    /// A task ends, if it has not ended yet.
    pub fn lose_one(&mut self, id: TaskId) {
        if let Some(player) = self.players.get_mut(&id.raw()) {
            (player.dead, player.lost, player.doing, player.serves) = (true, true, None, None);
            if let Some(number) = player.call.take() {
                self.calls.remove(&number);
            }
        }
    }

    /// It answers the call it serves, with its number as second word. The kernel may find the
    /// caller gone.
    pub fn answers(&mut self, task: Tcb, number: Option<u64>, answer: u64) {
        if let Some(call) = number.and_then(|number| self.calls.get_mut(&number)) {
            call.answers.push(answer);
            call.with = None;
        }
        let player = self.player(task.id);
        if player.serves == number {
            player.serves = None;
        }
    }

    /// It lets go of the call it serves, without an answer.
    pub fn drops(&mut self, task: Tcb) {
        if let Some(number) = self.player(task.id).serves.take()
            && let Some(call) = self.calls.get_mut(&number)
        {
            call.dropped = true;
            call.with = None;
        }
    }

    /// It keeps the call it serves in a Reply.
    pub fn keeps(&mut self, task: Tcb) -> Option<u64> {
        self.player(task.id).serves.take()
    }

    /// The call may be handed on: the new callee may have it before that is known.
    pub fn may_go_to(&mut self, number: u64, to: TaskId) {
        if let Some(call) = self.calls.get_mut(&number) {
            call.towards.push(to);
            call.with = None;
        }
    }

    /// Tasks that may have ended, or will.
    pub fn lose(&mut self, tasks: Vec<Tcb>) {
        for task in tasks {
            self.killed(task);
            self.player(task.id).lost = true;
        }
    }

    /// It hands the call it serves on.
    pub fn forwards(&mut self, task: Tcb, to: TaskId) {
        if let Some(number) = self.player(task.id).serves.take()
            && let Some(call) = self.calls.get_mut(&number)
        {
            call.towards.push(to);
            call.with = None;
        }
    }

    pub fn cancelled(&mut self, task: Tcb) {
        self.player(task.id).cancels += 1;
    }

    pub fn killed(&mut self, task: Tcb) {
        let player = self.player(task.id);
        player.dead = true;
        player.doing = None;
        player.serves = None;
        if let Some(number) = player.call.take() {
            self.calls.remove(&number);
        }
    }

    // --- what comes back -------------------------------------------------------------------------

    /// Whether `task` is in a system call, as far as the model knows.
    pub fn doing(&self, task: Tcb) -> Option<Regs> {
        self.players.get(&task.id.raw())?.doing
    }

    /// `task` is back from its system call, with `regs`, at time `now`.
    pub fn is_back(&mut self, task: Tcb, regs: Regs, now: u64) {
        let player = self.player(task.id);
        let Some(args) = player.doing.take() else { return };
        let cancelled = player.cancels > 0;
        if regs.error() == Some(Error::Cancelled) {
            player.cancels = player.cancels.saturating_sub(1);
        }
        if regs.error().is_some_and(|error| is_of_load(error, args.info())) {
            self.load_stayed(task, args);
        }
        match Op::from_raw(args.rax as u8) {
            Some(Op::Call) => self.call_is_over(task, regs, now, cancelled),
            Some(Op::Recv | Op::ReplyRecv) => self.received(task, args, regs, now, cancelled),
            // A call that is refused is noted before anybody else acts.
            Some(Op::Wait) if regs.error() == Some(Error::NoTime) => assert_eq!(task.own_time(), 0),
            Some(Op::Wait) => waited(args, regs, now, cancelled, self.deleted),
            Some(Op::LockWait) => self.lock_wait_is_over(args, regs, now, cancelled),
            _ => {}
        }
    }

    /// What an answer carried could not go, so the call is not answered.
    fn load_stayed(&mut self, task: Tcb, args: Regs) {
        let (token, number) = (args.rdx, args.r8);
        if !matches!(Op::from_raw(args.rax as u8), Some(Op::Reply | Op::ReplyRecv)) {
            return;
        }
        if let Some(call) = self.calls.get_mut(&number) {
            call.answers.retain(|answer| *answer != token);
            call.with = Some(task.id);
        }
        self.player(task.id).serves = Some(number);
    }

    fn call_is_over(&mut self, task: Tcb, regs: Regs, now: u64, cancelled: bool) {
        let Some(number) = self.player(task.id).call.take() else { panic!("{task:?} is back from no call") };
        let Some(call) = self.calls.remove(&number) else { panic!("{task:?} is back from a call twice") };
        if call.fault {
            assert!(
                !call.answers.is_empty(),
                "{task:?} goes on after a fault that nobody answered: {call:?}"
            );
            return;
        }
        let Some(error) = regs.error() else {
            assert!(call.answers.contains(&regs.rdx), "{task:?} was answered {:#x}: {call:?}", regs.rdx);
            assert_eq!(regs.r8, number, "{task:?} got the answer to another call");
            return;
        };
        assert_eq!(regs.msg(), [0; 4], "an error with words");
        let dead = |id: TaskId| self.players.get(&id.raw()).is_some_and(|p| p.dead || p.lost);
        let right = match error {
            Error::Timeout => call.deadline.is_some_and(|at| at <= now),
            Error::Cancelled => cancelled,
            Error::WouldBlock => call.nonblock,
            Error::Dead => call.towards.contains(&regs.sender()) && dead(regs.sender()),
            Error::Gone => call.dropped || self.deleted,
            Error::NoExposure => self.deleted,
            Error::SelfCall => call.towards == [task.id],
            error if is_of_load(error, call.load) => true,
            Error::NoTime => {
                self.deleted
                    || call.towards.iter().any(|id| self.players.get(&id.raw()).is_none_or(|p| !p.own_time))
            }
            _ => false,
        };
        assert!(right, "{task:?}: {error:?} from {:?} for {call:?} at {now}", regs.sender());
    }

    fn received(&mut self, task: Tcb, args: Regs, regs: Regs, now: u64, cancelled: bool) {
        if let Some(error) = regs.error() {
            let right = match error {
                Error::Timeout => args.info().has(FLAG_DEADLINE) && args.rsi <= now,
                Error::WouldBlock => args.info().has(FLAG_NONBLOCK),
                Error::Cancelled => cancelled,
                // Who was answered is being killed, and so forgotten here: it may have faulted.
                Error::BadArgument => carries(args.info()) && !self.calls.contains_key(&args.r8),
                error if is_of_load(error, args.info()) => true,
                _ => false,
            };
            assert!(right, "{task:?}: {error:?} from {args:?} at {now}");
            return;
        }
        if regs.info().has(FLAG_NOTIFICATION) {
            assert!(regs.rdx != 0 || self.deleted, "{task:?} got no bits");
            return;
        }
        let number = regs.rdx;
        // The caller may have given up since, and even made another call.
        if let Some(call) = self.calls.get_mut(&number) {
            assert_eq!(call.caller, regs.sender(), "{task:?} got a call with a wrong sender");
            assert!(call.towards.contains(&task.id), "{task:?} got the call of somebody else: {call:?}");
            assert!(call.with.is_none(), "{task:?} got a call that another has: {call:?}");
            call.with = Some(task.id);
        }
        self.player(task.id).serves = Some(number);
    }

    fn lock_wait_is_over(&mut self, args: Regs, regs: Regs, now: u64, cancelled: bool) {
        let Some(error) = regs.error() else { return };
        let dead = |id: TaskId| self.players.get(&id.raw()).is_some_and(|p| p.dead || p.lost);
        let right = match error {
            Error::Timeout => args.info().has(FLAG_DEADLINE) && args.rsi <= now,
            Error::WouldBlock => args.info().has(FLAG_NONBLOCK),
            Error::Cancelled => cancelled,
            Error::OwnerDied => regs.sender() == TaskId::NONE || dead(regs.sender()),
            Error::Deadlock => true,
            Error::NotMember | Error::NoCapability => self.deleted,
            _ => false,
        };
        assert!(right, "a wait for a lock ended with {error:?}: {args:?} at {now}");
    }

    /// In the end: no caller that lives waits for anybody.
    pub fn nobody_waits(&self) {
        for (number, call) in &self.calls {
            let waits = self.players.get(&call.caller.raw()).is_some_and(|p| !p.dead && !p.lost);
            assert!(!waits, "call {number} was never answered: {call:?}");
        }
    }
}

/// Whether a message carries capabilities or pages.
const fn carries(info: MsgInfo) -> bool {
    info.has(FLAG_PAGES) || info.has(FLAG_CAPS)
}

/// Whether that is why what a message carries may not go.
const fn is_of_load(error: Error, load: MsgInfo) -> bool {
    use Error::{Amplifies, Dying, Full, InUse, NoCapability, NoPage, NoRight, NoRoom, WrongType};
    let pages = matches!(error, NoPage | NoRoom | InUse | Full | Dying);
    let caps = matches!(error, NoCapability | WrongType | NoRight | Amplifies | Full | Dying);
    pages && load.has(FLAG_PAGES) || caps && load.has(FLAG_CAPS)
}

fn waited(args: Regs, regs: Regs, now: u64, cancelled: bool, deleted: bool) {
    let Some(error) = regs.error() else {
        assert!(regs.rdx != 0, "a wait that ended without bits");
        return;
    };
    let right = match error {
        Error::Timeout => args.info().has(FLAG_DEADLINE) && args.rsi <= now,
        Error::WouldBlock => args.info().has(FLAG_NONBLOCK),
        Error::Cancelled => cancelled,
        Error::Gone | Error::NoCapability | Error::Dying => deleted,
        Error::WrongCpu | Error::InUse => true,
        _ => false,
    };
    assert!(right, "a wait ended with {error:?}: {args:?} at {now}");
}
