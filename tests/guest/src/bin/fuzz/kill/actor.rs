//! What the tasks of a scene do, and which refusals they accept.
//!
//! Before each system call that may wait, a task notes what it is about to do. A refusal must have
//! a cause: if the kernel reports a task as dead, the task must have been marked as doomed by then;
//! if an exposure is gone, it must have belonged to a doomed task.

use core::cell::Cell;
use core::sync::atomic::Ordering::SeqCst;

use abi::{Cap, Error, PAGE_SIZE, PageMode, PageRange, Rights, TaskId};
use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::Refusal;
use user_rt::arch;
use user_rt::arch::{FAULT_LENGTH, fault_once, memory};
use user_rt::cap::{
    Access, Frame, Group, Handle, Notification, Process, Reply, SchedContext, Task, Untyped, VSpace,
};
use user_rt::fault::{Fault, Verdict};
use user_rt::invoke::{Pins, copy_raw};
use user_rt::ipc::{self, Event, Message, Patience, Received};
use user_rt::locks::{Held, LockPage, User};
use user_rt::pages::Pooled;
use user_rt::spawn::own;
use user_rt::utcb;

use super::board::{ACTORS, Board, Doing, Doom, Killer, LOCKS, Of, Total};
use super::scene::{
    FRAME, FRAME_VA, GROUP, LANDING_VA, LOCK_PAGE, LOCKS_VA, MEMORY, NOTE, PEER_PROCESS, PEER_SPACE, PLAY,
    PLAYS, POOL_PAGES, POOL_VA, SERVER_MEMORY, SERVER_REPLY, SERVERS, STRIDE, WAKER, WINDOW_VA, house_of,
    plays,
};

/// Requests to a server, as labels of calls.
const PLAIN: u32 = 0;
const SPIN: u32 = 1;
const KEEP: u32 = 2;
const FORWARD: u32 = 3;
const NESTED: u32 = 4;
const ASKS: u64 = 5;
/// Events that a task sends one after the other: more than the pool has room for.
const SENDS: u32 = 8;
/// Longest deadline, in TSC ticks.
const LONGEST: u64 = 200_000;

struct Actor {
    board: &'static Board,
    killer: usize,
    me: usize,
    plays: u64,
    random: Random,
    /// Pages of its own that it still has.
    pages: u64,
    /// Whether the task that it calls was doomed when the call began.
    knew: Cell<bool>,
}

/// Entry of every task of a scene.
pub extern "C" fn actor(argument: u64) -> ! {
    let board = Board::open();
    let (killer, me) = (argument as usize >> 8, argument as usize & 0xff);
    let plays = board.killers[killer].get(Killer::Plays);
    let salt = board.killers[killer].get(Killer::Scene) << 16 | argument << 1 | 1;
    let random = Random::new(board.get(Total::Seed), salt);
    let mut actor = Actor { board, killer, me, plays, random, pages: POOL_PAGES, knew: Cell::new(false) };
    utcb::current().open_window(WINDOW_VA + me as u64 * STRIDE, STRIDE);
    if me < SERVERS { actor.serve_for_ever() } else { actor.play() }
}

fn exposure(of: usize) -> user_rt::cap::Exposure {
    Group::at(GROUP).exposure(of as u32)
}

impl Actor {
    fn about(&self, what: Doing, peer: usize) {
        self.knew.set(self.board.is_doomed(self.killer, peer));
        self.board.actors[self.killer][self.me].set(Of::Peer, peer as u64);
        self.board.actors[self.killer][self.me].set(Of::Doing, what as u64);
    }

    fn wrong(&self, what: Doing, peer: usize, refusal: &Refusal) {
        if self.board.is_doomed(self.killer, self.me) {
            // The task is being killed: its process has lost its capabilities.
            return;
        }
        self.board.complain(
            Total::Wrong,
            format_args!("killer {} task {} in {what:?} with {peer}: {refusal}", self.killer, self.me),
        );
    }

    /// Whether a task of the scene is about to be killed, or has been.
    fn is_doomed(&self, task: TaskId) -> bool {
        let is = |actor: usize| self.board.actors[self.killer][actor].get(Of::Id) == task.raw();
        (0..ACTORS).any(|actor| is(actor) && self.board.is_doomed(self.killer, actor))
    }

    /// Reports a refusal that has no cause. `besides` are errors that need none.
    fn judge(&self, what: Doing, peer: usize, refusal: &Refusal, besides: &[Error]) {
        let doomed = self.board.is_doomed(self.killer, peer);
        let may_be = match refusal.error {
            Error::Dead => self.is_doomed(refusal.who),
            Error::NoExposure => doomed,
            Error::Gone if what == Doing::Send => doomed,
            other => besides.contains(&other),
        };
        if !may_be {
            return self.wrong(what, peer, refusal);
        }
        if matches!(refusal.error, Error::Dead | Error::Gone) && !self.knew.get() {
            self.board.add(Total::Woken, 1);
        }
    }

    // --- clients ---------------------------------------------------------------------------------

    fn play(&mut self) -> ! {
        while self.board.killers[self.killer].get(Killer::Over) == 0 {
            match self.random.below(100) {
                0..50 => self.call(),
                50..60 => self.wait(),
                _ => self.special(),
            }
        }
        self.about(Doing::Nothing, 0);
        self.board.actors[self.killer][self.me].set(Of::Done, 1);
        let _ = exposure(WAKER as usize).notify(1);
        loop {
            let _ = ipc::recv();
        }
    }

    fn special(&mut self) {
        let nth = self.random.below(u64::from(self.plays.count_ones().max(1)));
        // Picks one of the scene's plays.
        let which = (0..nth).fold(self.plays, |left, _| left & left.wrapping_sub(1));
        match which & which.wrapping_neg() {
            plays::KILLS if self.me + 2 >= ACTORS && self.random.chance(30) => self.kill_the_others(),
            plays::FAULTS if house_of(self.me) == 0 => self.fault(),
            plays::EVENTS => self.send(),
            plays::PAGES => self.call_with_pages(),
            plays::SPACES if self.random.chance(70) => self.protect(),
            plays::SPACES => self.transfer(),
            plays::OBJECTS => self.use_memory(),
            plays::LOCKS => self.lock(true),
            _ => self.call(),
        }
    }

    fn message(&mut self) -> Message {
        let words = if self.random.chance(30) { self.random.below(65) as u8 } else { 0 };
        let ask = self.random.below(ASKS) as u32;
        Message::with_words(ask, [self.random.next(), 2, 3, self.me as u64], words)
    }

    fn patience(&mut self) -> Patience {
        match self.random.below(10) {
            0 => Patience::Until(arch::now() + self.random.below(LONGEST)),
            1 => Patience::None,
            _ => Patience::Forever,
        }
    }

    fn call(&mut self) {
        let to = self.random.below(SERVERS as u64) as usize;
        let message = self.message();
        let patience = self.patience();
        self.about(Doing::Call, to);
        match exposure(to).call_within(&message, patience) {
            Ok(answer) => self.check(Doing::Call, to, &message, &answer),
            Err(refusal) => self.judge(Doing::Call, to, &refusal, impatient(patience)),
        }
    }

    /// Checks that an answer belongs to this call.
    fn check(&self, what: Doing, to: usize, message: &Message, answer: &Message) {
        self.board.add(Total::Answered, 1);
        if answer.regs[0] != message.regs[0] || answer.regs[3] != self.me as u64 {
            self.board.complain(
                Total::Wrong,
                format_args!(
                    "killer {} task {} in {what:?} with {to}: asked {message:x?}, answered {answer:x?}",
                    self.killer, self.me
                ),
            );
        }
    }

    fn call_with_pages(&mut self) {
        if self.pages == 0 {
            return self.call();
        }
        let to = self.random.below(SERVERS as u64) as usize;
        let mode = self.page_mode();
        let address = POOL_VA + self.me as u64 * STRIDE + (self.pages - 1) * abi::PAGE_SIZE;
        utcb::current().send_ranges(&[PageRange::new(mode, address, 1)]);
        let message = Message { words: 0, ..self.message() }.with_pages();
        self.about(Doing::CallWithPages, to);
        let outcome = exposure(to).call(&message);
        if mode == PageMode::Move {
            self.pages -= 1;
        }
        match outcome {
            Ok(answer) => {
                self.check(Doing::CallWithPages, to, &message, &answer);
                if answer.pages {
                    self.take_pages();
                }
            }
            // The receiver may have had no room, or an earlier message may have filled it.
            Err(refusal) => self.judge(Doing::CallWithPages, to, &refusal, &PAGE_ERRORS),
        }
    }

    fn page_mode(&mut self) -> PageMode {
        match self.random.below(4) {
            0 => PageMode::Share,
            1 => PageMode::Copy,
            _ => PageMode::Move,
        }
    }

    /// Unmaps the pages that came with a message.
    fn take_pages(&self) {
        for range in utcb::current().ranges() {
            self.board.add(Total::Moved, range.count);
            let _ = own::vspace().drop_pages(Pooled::of(&range));
        }
    }

    fn fault(&mut self) {
        self.about(Doing::Fault, 0);
        fault_once();
    }

    fn send(&mut self) {
        for _ in 0..SENDS {
            self.send_one();
        }
    }

    fn send_one(&mut self) {
        let message = Message::with_words(7, [1, 2, 3, 4], 64);
        let patience = self.patience();
        self.about(Doing::Send, 0);
        if let Err(refusal) = exposure(0).send_within(&message, patience) {
            // If the reader's process is dead, its pool is gone.
            let mut besides = [Error::NoPool, Error::NoPool, Error::NoPool];
            besides[1..1 + impatient(patience).len()].copy_from_slice(impatient(patience));
            self.judge(Doing::Send, 0, &refusal, &besides);
        }
    }

    fn wait(&mut self) {
        let deadline = arch::now() + self.random.below(LONGEST / 4);
        self.about(Doing::Wait, 0);
        if let Err(refusal) = Notification::at(NOTE).wait_until(deadline) {
            self.judge(Doing::Wait, self.me, &refusal, &[Error::Timeout, Error::WrongCpu, Error::InUse]);
        }
    }

    /// Protects a page that all tasks of the process have mapped, so that CPUs in that address
    /// space must flush it.
    fn protect(&mut self) {
        let access = if self.random.chance(50) { Access::Read } else { Access::Write };
        self.about(Doing::Protect, 0);
        if let Err(refusal) = own::vspace().protect(&Frame::at(FRAME), FRAME_VA, access) {
            self.judge(Doing::Protect, self.me, &refusal, &[]);
        }
    }

    /// Transfers an own page into the other process.
    fn transfer(&mut self) {
        if self.pages == 0 {
            return self.protect();
        }
        let mode = self.page_mode();
        self.pages -= 1;
        let at = self.me as u64 * STRIDE + self.pages * abi::PAGE_SIZE;
        let range = PageRange::new(mode, POOL_VA + at, 1);
        self.about(Doing::Transfer, 0);
        match own::vspace().transfer(range, &VSpace::at(PEER_SPACE), LANDING_VA + at) {
            Ok(()) => drop(self.board.add(Total::Moved, 1)),
            Err(refusal) => {
                let gone = [Error::Dying, Error::NoCapability];
                let besides = if self.peer_may_be_gone() { &gone[..] } else { &[] };
                self.judge(Doing::Transfer, self.me, &refusal, besides);
            }
        }
    }

    /// Kills the other process, or as many of its tasks as there is time for.
    fn kill_the_others(&mut self) {
        let is_peer = |actor: &usize| house_of(*actor) != house_of(self.me);
        for actor in (0..ACTORS).filter(is_peer) {
            self.board.doom_perhaps(self.killer, actor);
            self.board.doom(self.killer, actor, Doom::Killed);
        }
        self.about(Doing::Kill, self.me);
        if let Err(refusal) = Process::at(PEER_PROCESS).kill() {
            self.wrong(Doing::Kill, self.me, &refusal);
        }
    }

    /// Whether the other process may have been killed.
    fn peer_may_be_gone(&self) -> bool {
        let is_peer = |actor: &usize| house_of(*actor) != house_of(self.me);
        (0..ACTORS).filter(is_peer).any(|actor| self.board.is_doomed(self.killer, actor))
    }

    /// Makes, copies, deletes and resets objects. All tasks of the process do so, so the objects
    /// belong to several CPUs and slots are used again. The model judges the results; here the
    /// operations only have to end.
    fn use_memory(&mut self) {
        let memory = Untyped::at(MEMORY);
        let slot = Cap(PLAY.0 + self.random.below(PLAYS) as u32);
        let place = own::cnode().slot(slot);
        self.about(Doing::Memory, 0);
        for _ in 0..3 {
            let _ = match self.random.below(12) {
                0..2 => memory.retype::<Notification>(0, place, 1).map(drop),
                2 => memory.retype::<Reply>(0, place, 1).map(drop),
                3 => memory.retype::<SchedContext>(0, place, 1).map(drop),
                4 => memory.retype::<Task>(0, place, 1).map(drop),
                5..7 => copy_raw(NOTE, place, Rights::ALL, 0),
                7..11 => own::cnode().delete(slot),
                _ => memory.reset(Pins::Hold).map(drop),
            };
        }
    }

    /// Takes a lock, works under it, and gives it back. Sometimes takes another one meanwhile, so
    /// that tasks may wait for each other.
    fn lock(&mut self, may_nest: bool) {
        // SAFETY: the killer has mapped the page there, for as long as this task lives, and all
        // access it as atomics.
        let words = unsafe { memory::mapped_words(LOCKS_VA, PAGE_SIZE as usize / 8) };
        let page = LockPage::new(&Group::at(GROUP), &Frame::at(LOCK_PAGE), words);
        let user = User::new(utcb::current().task_id(), self.me as u32);
        let number = self.random.below(LOCKS as u64) as usize;
        let patience = self.patience();
        self.about(Doing::Lock, self.me);
        match page.mutex(number as u32).lock_within(user, patience) {
            Ok(held) => {
                self.enter(number, &held);
                match self.random.below(8) {
                    0 => self.call(),
                    1 => self.wait(),
                    2 | 3 if may_nest => self.lock(false),
                    4 => self.protect(),
                    _ => self.spin(),
                }
                self.about(Doing::Lock, self.me);
                self.leave(number);
                drop(held);
            }
            // An owner may wait for a lock of this task's.
            Err(refusal) if refusal.error == Error::Deadlock && !may_nest => {}
            Err(refusal) => self.judge(Doing::Lock, self.me, &refusal, impatient(patience)),
        }
    }

    /// Notes that this task has a lock: no other may have it, except one that died with it.
    fn enter(&self, number: usize, held: &Held<'_>) {
        let before = self.board.holders[self.killer][number].swap(self.me as u64 + 1, SeqCst);
        self.board.add(Total::Locked, 1);
        self.board.add(Total::Inherited, u64::from(held.is_abandoned()));
        let is_dead = |holder: u64| self.board.is_doomed(self.killer, holder as usize - 1);
        if before != 0 && !(held.is_abandoned() && is_dead(before)) {
            self.two_have_it(number, before);
        }
    }

    /// Notes that this task is about to give a lock back.
    fn leave(&self, number: usize) {
        let holder = &self.board.holders[self.killer][number];
        if let Err(other) = holder.compare_exchange(self.me as u64 + 1, 0, SeqCst, SeqCst) {
            self.two_have_it(number, other);
        }
    }

    fn two_have_it(&self, number: usize, other: u64) {
        let Actor { board, killer, me, .. } = *self;
        let dooms: [u64; ACTORS] = core::array::from_fn(|actor| board.actors[killer][actor].get(Of::Doomed));
        let has_ended = |actor: u64| dooms.get(actor as usize) == Some(&(Doom::Ended as u64));
        if has_ended(me as u64) || has_ended(other.wrapping_sub(1)) {
            // Others take a lock over from an owner that is not exposed any more, and still runs.
            return;
        }
        let way = board.killers[killer].get(Killer::Detail) >> 8;
        board.complain(
            Total::Wrong,
            format_args!(
                "killer {killer}: tasks {me} + 1 and {other} have lock {number}; dooms {dooms:?}, the last by {way}"
            ),
        );
    }

    // --- servers ---------------------------------------------------------------------------------

    fn serve_for_ever(&mut self) -> ! {
        let memory = Untyped::at(Cap(SERVER_MEMORY.0 + self.me as u32));
        let slot = Cap(SERVER_REPLY.0 + self.me as u32);
        if let Err(refusal) = memory.retype::<Reply>(0, own::cnode().slot(slot), 1) {
            self.wrong(Doing::Memory, self.me, &refusal);
        }
        let mut kept = None;
        let mut answer = None;
        loop {
            self.about(Doing::Receive, 0);
            let event = match answer.take() {
                Some(message) if self.random.chance(70) => ipc::reply_recv(&message),
                Some(message) => {
                    self.reply(&message);
                    self.about(Doing::Receive, 0);
                    ipc::recv()
                }
                None => ipc::recv(),
            };
            match event {
                Ok(Event::Call(call)) => answer = self.serve(&call, &mut kept),
                Ok(Event::Bits(_)) => {}
                Err(refusal) => self.wrong(Doing::Receive, self.me, &refusal),
            }
        }
    }

    /// Serves a call. Returns the answer that the server owes, if it owes one.
    fn serve(&mut self, call: &Received, kept: &mut Option<Owed>) -> Option<Message> {
        self.about(Doing::Serve, 0);
        if let Some(fault) = Fault::of(call) {
            return self.serve_fault(fault, kept);
        }
        if call.message.pages {
            self.take_pages();
        }
        let answer = Message::new(0, call.message.regs);
        match call.message.label {
            SPIN => self.spin(),
            KEEP => {
                self.keep(Owed::Answer(answer), kept);
                return None;
            }
            FORWARD if self.me == 0 => return self.forward(answer),
            NESTED if self.me == 0 => self.ask_the_other(),
            _ => {}
        }
        Some(answer)
    }

    fn spin(&mut self) {
        for _ in 0..self.random.below(2000) {
            arch::pause();
        }
    }

    fn serve_fault(&mut self, fault: Fault, kept: &mut Option<Owed>) -> Option<Message> {
        let goes_on = Verdict::ResumeAt(fault.rip + FAULT_LENGTH);
        match self.random.below(4) {
            0..2 => {
                self.keep(Owed::Verdict(goes_on), kept);
                return None;
            }
            2 => self.spin(),
            _ => {}
        }
        self.about(Doing::Reply, 0);
        if let Err(refusal) = goes_on.reply() {
            self.judge(Doing::Reply, self.me, &refusal, &[Error::Gone]);
        }
        None
    }

    /// Keeps the call, and answers the call that it kept before.
    fn keep(&mut self, owed: Owed, kept: &mut Option<Owed>) {
        let reply = Reply::at(Cap(SERVER_REPLY.0 + self.me as u32));
        if let Some(before) = kept.take() {
            self.about(Doing::Reply, 0);
            let done = match before {
                Owed::Answer(message) => reply.reply(&message),
                Owed::Verdict(verdict) => verdict.reply_to(&reply),
            };
            if let Err(refusal) = done
                && refusal.error != Error::Gone
            {
                self.wrong(Doing::Reply, self.me, &refusal);
            }
        }
        self.about(Doing::Serve, 0);
        match reply.save() {
            Ok(()) => *kept = Some(owed),
            Err(refusal) if refusal.error == Error::Gone => {}
            Err(refusal) => self.wrong(Doing::Serve, self.me, &refusal),
        }
    }

    fn forward(&mut self, answer: Message) -> Option<Message> {
        self.about(Doing::Serve, 1);
        match exposure(1).forward(&Message::new(PLAIN, answer.regs)) {
            Ok(()) => None,
            Err(refusal) => {
                // The caller may be gone.
                self.judge(Doing::Serve, 1, &refusal, &[Error::Gone]);
                Some(answer)
            }
        }
    }

    fn ask_the_other(&mut self) {
        let message = Message::new(SPIN, [self.random.next(), 0, 0, self.me as u64]);
        self.about(Doing::Serve, 1);
        match exposure(1).call(&message) {
            Ok(answer) => self.check(Doing::Serve, 1, &message, &answer),
            Err(refusal) => self.judge(Doing::Serve, 1, &refusal, &[]),
        }
    }

    fn reply(&self, message: &Message) {
        self.about(Doing::Reply, 0);
        if let Err(refusal) = ipc::reply(message)
            && refusal.error != Error::Gone
        {
            self.wrong(Doing::Reply, self.me, &refusal);
        }
    }
}

/// What a server owes to a caller whose call it keeps.
enum Owed {
    Answer(Message),
    Verdict(Verdict),
}

/// Errors that a message with pages may return.
const PAGE_ERRORS: [Error; 6] =
    [Error::NoRoom, Error::NoPage, Error::InUse, Error::Full, Error::Dying, Error::BadAddress];

/// Returns the errors of a call that does not wait forever.
fn impatient(patience: Patience) -> &'static [Error] {
    match patience {
        Patience::Forever => &[],
        Patience::Until(_) => &[Error::Timeout],
        Patience::None => &[Error::WouldBlock],
    }
}
