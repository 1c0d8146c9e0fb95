//! What the task in a seat does: it sends its share of the messages and serves in between. When all
//! are sent, it only serves. It checks all that it receives.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use abi::Error;
use user_rt::cap::{Group, Handle, Reply, SchedContext, Untyped};
use user_rt::invoke::copy_raw;
use user_rt::ipc::{self, Message, Patience, Received};
use user_rt::layout::slot;
use user_rt::spawn::own;
use user_rt::{arch, utcb};

use crate::board::{Board, Event, NOBODY, NOTE_BITS, Of, Pair, Total};
use crate::cast::{
    CHURN, EXPOSURE_DONE, GROUPS, SEAT_RIGHTS, custom, note_exposure, seat_slots, task_exposure,
};
use crate::judge::Standing;
use crate::message::{Kind, Letter};
use guest_tests::random::{Random, mix};
use guest_tests::run::Run as _;

/// Most nested calls of a seat.
const DEPTH: u32 = 2;
/// Longest deadline, in TSC ticks.
const PATIENCE: u64 = 60_000;

/// The capability through which a message goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Group(usize),
    /// The slot that is deleted and filled again all the time.
    Churn,
}

struct Worker {
    board: &'static Board,
    me: usize,
    seats: usize,
    process: usize,
    random: Random,
    reply: Option<Reply>,
    sched: SchedContext,
}

/// Entry of every seat's task; the argument is its seat and incarnation.
pub extern "C" fn worker(argument: u64) -> ! {
    let board = Board::open();
    let me = argument as usize & 0xfff;
    let mut worker = Worker {
        board,
        me,
        seats: board.seat_count(),
        process: board.seats[me].get(Of::Process) as usize,
        random: Random::new(board.get(Total::Seed), argument),
        reply: None,
        sched: SchedContext::at(seat_slots(me).sched),
    };
    worker.live()
}

impl Worker {
    fn live(&mut self) -> ! {
        self.note(Event::Born, NOBODY, 0);
        self.make_reply();
        while self.me + 1 < self.seats && self.take_message() {
            self.board.add(Total::Sent, 1);
            self.board.seats[self.me].word(Of::Sent).fetch_add(1, Relaxed);
            self.send();
            self.serve_a_little();
        }
        self.board.seats[self.me].set(Of::Finished, 1);
        // This fails only if this task is being ended.
        let _ = Group::at(GROUPS[0]).exposure(EXPOSURE_DONE).notify(1);
        self.serve_for_ever()
    }

    fn note(&self, event: Event, peer: usize, detail: u64) {
        self.board.event(self.me, event, peer, detail);
    }

    /// A Reply object belongs to the CPU of the task that made it.
    fn make_reply(&mut self) {
        let slots = seat_slots(self.me);
        let made = Untyped::at(slots.untyped).retype::<Reply>(0, own::cnode().slot(slots.reply), 1);
        match made {
            Ok(_) => self.reply = Some(Reply::at(slots.reply)),
            Err(refusal) => {
                let what = format_args!("seat {} making its Reply object: {refusal}", self.me);
                self.board.complain(Total::Corrupted, what);
            }
        }
    }

    /// Takes a message to send, if one is left.
    fn take_message(&self) -> bool {
        let goal = self.board.get(Total::Goal);
        self.board.get(Total::Begun) < goal
            && self.board.totals().word(Total::Begun).fetch_add(1, AcqRel) < goal
    }

    /// Sends one message, and sometimes does something else first.
    fn send(&mut self) {
        match self.random.below(100) {
            0..3 => self.churn(),
            3..5 => self.yield_to(),
            5..7 => self.change_priority(),
            _ => {}
        }
        if self.random.chance(15) { self.notify() } else { self.call(0) }
    }

    /// Picks a seat that may be called.
    fn pick(&mut self) -> usize {
        let above = (self.seats - self.me - 1) as u64;
        // For a while all seats prefer the same one, so that its messages arrive together.
        let liked = mix(self.board.get(Total::Begun) >> 6) as usize % self.seats;
        if liked > self.me && self.random.chance(40) {
            return liked;
        }
        // Half of the calls go to a neighbour, so that some pairs exchange many messages.
        let near = if self.random.chance(50) { above.min(3) } else { above };
        self.me + 1 + self.random.below(near) as usize
    }

    fn way(&mut self) -> Way {
        match self.random.below(4) {
            0 | 1 => Way::Group(0),
            2 => Way::Group(1),
            _ => Way::Churn,
        }
    }

    fn group(way: Way) -> Group {
        Group::at(match way {
            Way::Group(which) => GROUPS[which],
            Way::Churn => CHURN,
        })
    }

    /// Returns the custom bits that the receiver of a message must see.
    fn custom(&self, way: Way) -> u16 {
        match way {
            Way::Group(which) => custom(which, self.process),
            Way::Churn => 0,
        }
    }

    fn words(&mut self) -> u8 {
        match self.random.below(8) {
            0..5 => 0,
            5 => 64,
            _ => self.random.below(65) as u8,
        }
    }

    fn patience(&mut self, standing: &mut Standing) -> Patience {
        match self.random.below(20) {
            0..4 => {
                let deadline = arch::now() + self.random.below(PATIENCE);
                standing.deadline = Some(deadline);
                Patience::Until(deadline)
            }
            4 => {
                standing.nonblock = true;
                Patience::None
            }
            _ => Patience::Forever,
        }
    }

    /// Returns the next number of a pair.
    fn number(&self, to: usize) -> u64 {
        self.board.pair(Pair::Sent, self.me, to).fetch_add(1, Relaxed) + 1
    }

    /// Makes a call, and checks its answer; `depth` calls are being served meanwhile.
    fn call(&mut self, depth: u32) {
        let to = self.pick();
        let way = self.way();
        let last = self.seats - 1;
        let kind = match self.random.below(100) {
            0..15 if to < last => Kind::Forward,
            15..25 if to < last && depth < DEPTH => Kind::Nested,
            25..35 => Kind::Kept,
            _ => Kind::Plain,
        };
        let (goal, extra) = if kind == Kind::Forward {
            let goal = to + 1 + self.random.below((last - to) as u64) as usize;
            (goal, goal as u64 | self.number(goal) << 12)
        } else {
            (to, utcb::current().task_id().raw())
        };
        let number = self.number(to);
        let letter = Letter {
            from: self.me,
            to,
            kind,
            custom: self.custom(way),
            number,
            extra,
            salt: self.random.next() as u32,
            words: self.words(),
        };
        let mut standing = Standing::new(self.board, self.me, to);
        standing.churned = way == Way::Churn;
        let patience = self.patience(&mut standing);
        let message = letter.write();
        self.note(Event::Call, to, number);
        match Self::group(way).exposure(task_exposure(to)).call_within(&message, patience) {
            Ok(answer) => {
                self.note(Event::Answered, to, number);
                self.check_answer(&letter, goal, &answer);
            }
            Err(refusal) => {
                self.note(Event::Refused, to, refusal.error as u64);
                standing.judge(self.board, &refusal);
            }
        }
    }

    /// Checks that an answer is to this call, from the seat that it went to.
    fn check_answer(&self, letter: &Letter, goal: usize, answer: &Message) {
        let (to, number) = (letter.to, letter.number);
        let read = match Letter::read(answer) {
            Ok(read) => read,
            Err(damage) => {
                self.board.complain(
                    Total::Corrupted,
                    format_args!("answer to seat {}'s {number} to {to}: {damage:?}", self.me),
                );
                return;
            }
        };
        let wanted = match read.kind {
            Kind::Answer if letter.kind == Kind::Forward => (goal, letter.extra >> 12),
            Kind::Answer | Kind::NotForwarded => (to, number),
            _ => (NOBODY, 0),
        };
        if (read.from, read.number) != wanted
            || read.to != self.me
            || read.extra != u64::from(letter.salt)
            || (read.kind == Kind::NotForwarded && letter.kind != Kind::Forward)
        {
            self.board.complain(
                Total::Corrupted,
                format_args!("seat {} sent {letter:?} and was answered {read:?}", self.me),
            );
            return;
        }
        self.board.pair(Pair::Answered, self.me, wanted.0).store(wanted.1, Release);
    }

    fn notify(&mut self) {
        let to = self.pick();
        let way = self.way();
        let mut standing = Standing::new(self.board, self.me, to);
        standing.churned = way == Way::Churn;
        let noted = self.board.pair(Pair::Noted, self.me, to);
        self.board.seats[self.me].set(Of::Intent, to as u64 + 1);
        let count = noted.fetch_add(1, AcqRel) + 1;
        self.note(Event::Notify, to, count);
        let bit = 1 << (self.me % NOTE_BITS);
        let done = Self::group(way).exposure(note_exposure(self.seats, to)).notify(bit);
        if let Err(refusal) = done {
            noted.fetch_sub(1, AcqRel);
            standing.judge(self.board, &refusal);
        }
        self.board.seats[self.me].set(Of::Intent, 0);
        self.note(Event::Notified, to, count);
    }

    /// Deletes the process's churned capability and fills the slot with a capability of another
    /// group, while other tasks of the process use it.
    fn churn(&mut self) {
        self.note(Event::Churn, NOBODY, 0);
        let source = GROUPS[self.random.below(2) as usize];
        let emptied = own::cnode().delete(CHURN);
        let filled = copy_raw(source, own::cnode().slot(CHURN), SEAT_RIGHTS, 0);
        self.board.add(Total::Churns, 1);
        let expected = |error| matches!(error, Error::SlotOccupied | Error::Cancelled);
        for refusal in [emptied.err(), filled.err()].into_iter().flatten() {
            if !expected(refusal.error) {
                self.board.complain(
                    Total::Corrupted,
                    format_args!("seat {} filling a slot again: {refusal}", self.me),
                );
            }
        }
    }

    fn yield_to(&mut self) {
        let to = self.pick();
        self.note(Event::YieldTo, to, 0);
        let mut standing = Standing::new(self.board, self.me, to);
        standing.nonblock = true;
        if let Err(refusal) = Group::at(GROUPS[0]).exposure(task_exposure(to)).yield_to() {
            standing.judge(self.board, &refusal);
        }
    }

    fn change_priority(&mut self) {
        let priority = 10 + self.random.below(150) as u8;
        self.note(Event::RaisePriority, NOBODY, u64::from(priority));
        match self.sched.configure(priority, 5_000 + self.random.below(500_000)) {
            Ok(()) => self.board.seats[self.me].set(Of::Priority, u64::from(priority)),
            Err(refusal) => {
                let what = format_args!("seat {} changing its priority: {refusal}", self.me);
                self.board.complain(Total::Corrupted, what);
            }
        }
    }

    /// Serves pending calls, without waiting long for more.
    fn serve_a_little(&mut self) {
        for _ in 0..=self.random.below(4) {
            let mut standing = Standing::new(self.board, self.me, self.me);
            let patience = if self.random.chance(70) {
                standing.nonblock = true;
                Patience::None
            } else {
                let deadline = arch::now() + self.random.below(PATIENCE / 4);
                standing.deadline = Some(deadline);
                Patience::Until(deadline)
            };
            self.note(Event::Receive, NOBODY, 0);
            match ipc::recv_within(patience) {
                Ok(event) => self.serve_and_reply(event, 0),
                Err(refusal) => {
                    standing.judge(self.board, &refusal);
                    return;
                }
            }
        }
    }

    fn serve_and_reply(&mut self, event: ipc::Event, depth: u32) {
        let Some(answer) = self.serve(event, depth) else { return };
        let done = ipc::reply(&answer);
        self.check_reply(done);
    }

    /// Checks a reply: the only error that is allowed is that the caller is gone.
    fn check_reply(&self, done: user_rt::Result<()>) {
        if let Err(refusal) = done
            && refusal.error != Error::Gone
        {
            self.board.complain(Total::Corrupted, format_args!("seat {} replying: {refusal}", self.me));
        }
    }

    fn serve_for_ever(&mut self) -> ! {
        let mut next = self.receive(None);
        loop {
            let answer = match next {
                Ok(event) => self.serve(event, 0),
                Err(refusal) => {
                    Standing::new(self.board, self.me, self.me).judge(self.board, &refusal);
                    None
                }
            };
            next = self.receive(answer);
        }
    }

    fn receive(&mut self, answer: Option<Message>) -> user_rt::Result<ipc::Event> {
        self.note(Event::Receive, NOBODY, u64::from(answer.is_some()));
        match answer {
            Some(answer) if self.random.chance(90) => ipc::reply_recv(&answer),
            Some(answer) => {
                let done = ipc::reply(&answer);
                self.check_reply(done);
                ipc::recv()
            }
            None => ipc::recv(),
        }
    }

    /// Serves an event. Returns the answer that the seat owes, if it owes one.
    fn serve(&mut self, event: ipc::Event, depth: u32) -> Option<Message> {
        match event {
            ipc::Event::Bits(bits) => {
                self.take_bits(bits);
                None
            }
            ipc::Event::Call(call) => {
                let letter = self.check_call(&call)?;
                self.board.served_by(utcb::current().home_cpu() as usize).fetch_add(1, Relaxed);
                self.board.seats[self.me].word(Of::Served).fetch_add(1, Relaxed);
                match letter.kind {
                    Kind::Nested if depth < DEPTH && self.me + 1 < self.seats => self.call(depth + 1),
                    Kind::Kept => return self.keep(&letter, depth),
                    Kind::Forward => return self.forward(&letter, &call),
                    _ => {}
                }
                Some(self.answer(&letter, Kind::Answer))
            }
        }
    }

    /// Checks a received call. Returns its letter, if it can be answered.
    fn check_call(&mut self, call: &Received) -> Option<Letter> {
        let letter = match Letter::read(&call.message) {
            Ok(letter) => letter,
            Err(damage) => {
                let custom = call.custom;
                self.board.complain(
                    Total::Corrupted,
                    format_args!("call to seat {} (custom {custom:#x}): {damage:?}", self.me),
                );
                return None;
            }
        };
        self.note(Event::Came, letter.from, letter.number);
        let sender_is = letter.kind == Kind::Forward || letter.extra == call.sender.raw();
        let custom_is = letter.custom == 0 || letter.custom == call.custom;
        let for_me = letter.to == self.me && call.exposure == task_exposure(self.me) && letter.from < self.me;
        if !sender_is || !custom_is || !for_me || call.fault {
            self.board
                .complain(Total::Corrupted, format_args!("seat {} got {letter:?} as {call:?}", self.me));
            return None;
        }
        self.check_order(&letter);
        Some(letter)
    }

    fn check_order(&self, letter: &Letter) {
        let cell = self.board.pair(Pair::Came, letter.from, self.me);
        let (last, number) = (cell.load(Acquire), letter.number);
        if number <= last {
            let count = if number == last { Total::Duplicated } else { Total::Reordered };
            self.board.complain(
                count,
                format_args!("seat {} got {number} of seat {} behind {last}", self.me, letter.from),
            );
            return;
        }
        if self.board.pair(Pair::Answered, letter.from, self.me).load(Acquire) > last {
            self.board.complain(
                Total::Lost,
                format_args!("seat {} never got what seat {} was answered", self.me, letter.from),
            );
        }
        cell.store(number, Release);
    }

    fn answer(&mut self, letter: &Letter, kind: Kind) -> Message {
        let words = self.words();
        let answer = Letter {
            from: self.me,
            to: letter.from,
            kind,
            custom: 0,
            number: letter.number,
            extra: u64::from(letter.salt),
            salt: self.random.next() as u32,
            words,
        };
        self.note(Event::Reply, letter.from, letter.number);
        answer.write()
    }

    /// Keeps a call, serves another one, then answers the kept call.
    fn keep(&mut self, letter: &Letter, depth: u32) -> Option<Message> {
        let Some(reply) = self.reply.take() else { return Some(self.answer(letter, Kind::Answer)) };
        self.note(Event::Save, letter.from, letter.number);
        if let Err(refusal) = reply.save() {
            self.reply = Some(reply);
            self.check_reply(Err(refusal));
            return None;
        }
        if let Ok(event) = ipc::recv_within(Patience::None) {
            self.serve_and_reply(event, depth.max(1));
        }
        let answer = self.answer(letter, Kind::Answer);
        self.check_reply(reply.reply(&answer));
        self.reply = Some(reply);
        None
    }

    /// Forwards a call. Returns the answer that the seat owes if that is refused.
    fn forward(&mut self, letter: &Letter, call: &Received) -> Option<Message> {
        let goal = letter.extra as usize & 0xfff;
        let way = self.way();
        let onward = Letter {
            to: goal,
            kind: Kind::Forwarded,
            custom: self.custom(way),
            number: letter.extra >> 12,
            extra: call.sender.raw(),
            ..*letter
        };
        let mut standing = Standing::new(self.board, self.me, goal);
        standing.churned = way == Way::Churn;
        self.note(Event::Forward, goal, onward.number);
        let sent = Self::group(way).exposure(task_exposure(goal)).forward(&onward.message());
        let refusal = sent.err()?;
        if refusal.error == Error::Gone {
            return None;
        }
        standing.judge(self.board, &refusal);
        Some(self.answer(letter, Kind::NotForwarded))
    }

    /// Checks bits of the seat's Notification: seats must have raised them, at least as often as
    /// they came.
    fn take_bits(&self, bits: u64) {
        self.note(Event::Bits, NOBODY, bits);
        if bits == 0 || bits >> NOTE_BITS != 0 {
            self.board.complain(Total::Corrupted, format_args!("seat {} was told bits {bits:#x}", self.me));
        }
        for bit in (0..NOTE_BITS).filter(|bit| bits >> bit & 1 != 0) {
            let mut begun = 0;
            for from in (bit..self.seats).step_by(NOTE_BITS) {
                let noted = self.board.pair(Pair::Noted, from, self.me).load(Acquire);
                self.board.pair(Pair::Heard, from, self.me).store(noted, Release);
                begun += noted;
            }
            let came = self.board.pair(Pair::Bits, bit, self.me).fetch_add(1, AcqRel) + 1;
            if came > begun {
                self.board.complain(
                    Total::Duplicated,
                    format_args!("seat {} was told of bit {bit} {came} times, raised {begun} times", self.me),
                );
            }
        }
    }
}

const _: () = assert!(slot::GROUPS.0 == GROUPS[0].0 && CHURN.0 < slot::UNTYPED.0);
