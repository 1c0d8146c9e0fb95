//! What a roomer does: it operates in windows, and looks for marks that no task sent it.
//!
//! It checks registers and UTCB after each system call, and the event pool after every few. Between
//! windows, when no task takes pages away, it checks pages. It also checks its exposures, which it
//! never withdraws itself, so that only others could have changed them.

use core::sync::atomic::Ordering::Relaxed;

use abi::audit::CapEntry;
use abi::events::{CELLS_LOG2_MIN, Window};
use abi::{Error, FLAG_CAPS, FLAG_PAGES, Listening, LockWord, ObjType, Op, Rights, Target};
use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::arch::{Answer, Args, memory, syscall};
use user_rt::cap::{EventPool, Frame, Group, Handle, Notification, Task, Untyped};
use user_rt::events::Pool;
use user_rt::invoke::Pins;
use user_rt::layout::task_slot;
use user_rt::report;
use user_rt::spawn::own;
use user_rt::utcb;

use super::choice::{self, Act, Chooser, KINDS, PAGES_AT, WINDOW_AT, WINDOW_PAGES};
use super::marks::{self, For};
use super::{
    MEMORY, MEMORY_LOG2, PAGE, PLAYED, POOL, ROOM, ROOM_PROCESSES, SHOW, SHOWING, SHOWN, TOYS, VIEWING, WAKER,
};
use crate::board::{Board, Of, Total};
use crate::worker::{Gate, ROUND};

/// Most operations of a roomer in a window.
const WINDOW: u64 = 24;
/// Windows after which all toys are renewed.
const RENEWED: u64 = 4;
const PLAYED_LOG2: u8 = MEMORY_LOG2 - 1;
/// Operations after which the long arguments and the event pool are checked.
const SELDOM: u64 = 8;
const POOL_AT: u64 = 0x3100_0000;
const POOL_BITS: u64 = 1;
/// Words of a page that are written and checked.
const PAGE_WORDS: usize = 64;
const BULK_WORDS: usize = 256;
/// Most objects of others that a roomer remembers as reported.
const TOLD: usize = 64;
/// Slots where capabilities of messages may arrive, and those of events.
const ARRIVE: Listening = Listening { next: abi::Cap(TOYS.end - 12), count: 6 };
const COME: Listening = Listening { next: abi::Cap(TOYS.end - 6), count: 6 };

struct Roomer {
    board: &'static Board,
    /// Its number among all tasks that pass barriers, and among the roomers.
    worker: usize,
    number: usize,
    random: Random,
    pool: Pool,
    /// Reported objects that are not of its room, by identity, with all rights.
    told: [(u64, Rights); TOLD],
    /// Marks written, and operations done.
    written: u64,
    done: u64,
}

/// Entry of every roomer.
pub extern "C" fn roomer(number: u64) -> ! {
    let board = Board::open();
    let number = number as usize;
    let worker = super::worker(board, number);
    let (memory, cnode) = (Untyped::at(MEMORY), own::cnode());
    memory.retype::<Untyped>(u64::from(PLAYED_LOG2), cnode.slot(PLAYED), 1).expect("a roomer's memory");
    memory.retype::<Notification>(0, cnode.slot(WAKER), 1).expect("a roomer's Notification");
    memory.retype::<Notification>(0, cnode.slot(SHOWN), 1).expect("what a roomer exposes");
    let cells = CELLS_LOG2_MIN;
    memory.retype::<EventPool>(u64::from(cells), cnode.slot(POOL), 1).expect("a roomer's event pool");
    let task = Task::at(task_slot(1));
    let pool = Pool::bind(EventPool::at(POOL), cells, &own::process(), &task, POOL_AT, POOL_BITS);
    let gate = Gate::new(board, worker, Notification::at(WAKER)).expect("an exposure for each roomer");
    expose(number).expect("an exposure of each roomer");
    let random = Random::new(board.get(Total::Seed), 1 << 16 | number as u64);
    board.workers[worker].set(Of::Identity, utcb::current().task_id().raw());
    let pool = pool.expect("an event pool for each roomer");
    Roomer { board, worker, number, random, pool, told: [(0, Rights::NONE); TOLD], written: 0, done: 0 }
        .live(gate)
}

fn expose(number: usize) -> user_rt::Result<()> {
    Group::at(SHOW).expose_notification(number as u32, &Notification::at(SHOWN))
}

impl Roomer {
    fn live(&mut self, mut gate: Gate) -> ! {
        gate.pass(true);
        for window in 0.. {
            self.renew(window);
            gate.pass(false);
            self.operate();
            gate.pass(false);
            self.look_at_holdings();
            if window % RENEWED == RENEWED - 1 {
                self.look_at_pages();
            }
            self.look_at_exposure();
            gate.pass(false);
            gate.pass(window % ROUND == ROUND - 1);
            if self.board.get(Total::Over) != 0 {
                break;
            }
        }
        gate.end()
    }

    fn room(&self) -> usize {
        marks::room_of(self.number)
    }

    fn mark(&mut self, whom: For) -> u64 {
        self.written += 1;
        marks::mark(self.number, whom, self.written)
    }

    // --- operating -------------------------------------------------------------------------------

    /// Operates until the window's operations are done, or half of the other tasks are done.
    fn operate(&mut self) {
        let (board, patience) = (self.board, choice::patience());
        let first = self.done;
        while self.done - first < WINDOW && board.get(Total::Arrived) * 2 < board.get(Total::Workers) {
            let ids = self.ids_of_room();
            let act = Chooser { number: self.number, patience, random: &mut self.random, ids }.act();
            self.write(&act);
            let args = self.with_marks(&act);
            if args.info.0 as u8 == Op::LockWait as u8 && self.random.chance(80) {
                write_lock(&args);
            }
            board.workers[self.worker].set(Of::Doing, args.info.0 & 0xff);
            board.workers[self.worker].set(Of::First, args.rdi);
            board.workers[self.worker].set(Of::Second, args.rsi);
            let answer = syscall(args);
            self.done += 1;
            self.look(&args, &answer);
        }
        board.add(Total::Ops, self.done - first);
        board.add(Total::Life, 1);
    }

    /// Returns the ids of the room's tasks, as far as these have begun.
    fn ids_of_room(&self) -> [u64; ROOM_PROCESSES] {
        let first = self.worker - self.number % ROOM_PROCESSES;
        core::array::from_fn(|n| self.board.workers[first + n].get(Of::Identity))
    }

    /// Fills the UTCB: the payload of the act, and marks for no reader after it.
    fn write(&mut self, act: &Act) {
        let (sent, utcb) = (act.args.info.words(), utcb::current());
        let (for_them, for_nobody) = (self.mark(act.whom), self.mark(For::Nobody));
        for (at, word) in utcb.message().iter().enumerate() {
            word.store(if at < sent { for_them } else { for_nobody }, Relaxed);
        }
        if self.done.is_multiple_of(SELDOM) {
            // Registers for the room's toys: the room may read them.
            let bulk = [self.mark(For::Room); BULK_WORDS];
            utcb.write_bulk(&bulk);
        }
        utcb.listen(ARRIVE);
        utcb.open_window(WINDOW_AT, WINDOW_PAGES * abi::PAGE_SIZE);
        if act.args.info.has(FLAG_CAPS) {
            utcb.send_grants(&act.grants);
        }
        if act.args.info.has(FLAG_PAGES) {
            utcb.send_ranges(&act.ranges);
        }
    }

    /// Returns the registers of an act, with marks in those that it does not use.
    fn with_marks(&mut self, act: &Act) -> Args {
        let mut args = act.args;
        let whom = if act.is_message { act.whom } else { For::Nobody };
        for (position, register) in
            [&mut args.rdx, &mut args.r8, &mut args.r9, &mut args.r10].into_iter().enumerate()
        {
            if act.is_message || position + 2 >= act.used {
                *register = self.mark(whom);
            }
        }
        args
    }

    // --- looking ---------------------------------------------------------------------------------

    fn look(&mut self, args: &Args, answer: &Answer) {
        let a = answer;
        let registers = [a.rdi, a.rsi, a.rdx, a.r8, a.r9, a.r10, a.r12];
        let utcb = utcb::current();
        self.judge("registers", args, registers);
        self.judge("the UTCB", args, utcb.message().iter().map(|word| word.load(Relaxed)));
        if !self.done.is_multiple_of(SELDOM) {
            return;
        }
        let mut bulk = [0; BULK_WORDS];
        utcb.read_bulk(&mut bulk);
        self.judge("long arguments", args, bulk);
        self.pool.listen(COME);
        self.pool.open_window(Window { address: PAGES_AT, pages: WINDOW_PAGES });
        let (board, number) = (self.board, self.number);
        while let Some(came) = self.pool.read() {
            let words = came.event.regs.into_iter().chain(came.words());
            judge(board, number, "its event pool", args, words);
        }
    }

    fn judge(&self, place: &str, args: &Args, words: impl IntoIterator<Item = u64>) {
        judge(self.board, self.number, place, args, words);
    }

    /// Reports to the harness the capabilities that its room has not made, if they are new.
    fn look_at_holdings(&mut self) {
        let mut next = Some(ROOM);
        while let Some(first) = next {
            // A kernel that cannot list refuses: then the harness judges the last snapshot.
            let Ok(piece) = own::process().list(first) else { return };
            for entry in piece.entries() {
                self.tell(entry);
            }
            next = piece.next;
        }
    }

    fn tell(&mut self, entry: &CapEntry) {
        let CapEntry { identity, label, rights, .. } = *entry;
        if label == super::label(self.room()) {
            return;
        }
        let free = self.told.iter().position(|(it, _)| *it == identity || *it == 0);
        let Some((it, told)) = free.and_then(|at| self.told.get_mut(at)) else { return };
        if *it != identity || !told.contains(rights) {
            (*it, *told) = (identity, told.union(rights));
            let done = self.board.get(Total::Ops);
            report!("holds {} {identity} {label} {} {done}", self.number, rights.0);
        }
    }

    /// Checks that the pages of its capabilities hold nothing of another room.
    fn look_at_pages(&mut self) {
        for slot in TOYS.map(abi::Cap).chain([PAGE]) {
            let Ok(Some(found)) = own::cnode().inspect(slot) else { continue };
            if found.object != ObjType::Frame {
                continue;
            }
            let read = |page: &[u8]| {
                judge(self.board, self.number, "a page", &Args::new(Op::Map), words_of(page));
            };
            // The kernel refuses if the page is in a pool, or if the capability does not allow
            // mapping.
            let _ = memory::read_page(&own::vspace(), &Frame::at(slot), 0, read);
        }
        let writes = || memory::with_frame(&own::vspace(), &Frame::at(PAGE), |_| ());
        if self.room() == VIEWING && writes().is_ok() {
            let (number, done) = (self.number, self.board.get(Total::Ops));
            let what =
                format_args!("roomer {number} may write a page it may only read, after {done} operations");
            self.board.complain(Total::Exceeded, what);
        }
    }

    /// Checks that its exposure is still there: no other task has REMOVE.
    fn look_at_exposure(&mut self) {
        let shown = Group::at(SHOW).exposure(self.number as u32).notify(1);
        if shown.is_err_and(|refusal| refusal.error == Error::NoExposure) {
            let (number, done) = (self.number, self.board.get(Total::Ops));
            let what =
                format_args!("somebody has taken back what roomer {number} exposes, after {done} operations");
            self.board.complain(Total::Exceeded, what);
            let _ = expose(self.number);
        }
        let _ = Notification::at(SHOWN).poll();
    }

    // --- renewing the toys -----------------------------------------------------------------------

    /// Deletes all toys and makes new ones, every few windows. New frames are empty.
    fn renew(&mut self, window: u64) {
        if !window.is_multiple_of(RENEWED) {
            return;
        }
        let memory = Untyped::at(PLAYED);
        let free = memory.reset(Pins::Hold);
        if free != Ok(1 << PLAYED_LOG2) {
            let what = format_args!("reset by roomer {}: {free:x?}", self.number);
            self.board.complain(Total::LeakedPages, what);
        }
        for slot in TOYS.map(abi::Cap) {
            let _ = own::cnode().delete(slot);
        }
        for (slot, (what, size)) in TOYS.zip(KINDS) {
            let (from, to) = (Target::new(PLAYED, what as u32).0, own::cnode().slot(abi::Cap(slot)).0.0);
            let made = syscall(Args::plain(Op::Retype, from, size, to, 1)).check();
            if let Err(refusal) = made {
                let what = format_args!("roomer {} making a {what:?}: {refusal}", self.number);
                self.board.complain(Total::LeakedPages, what);
            } else if what == ObjType::Frame {
                self.fill(abi::Cap(slot), For::Room, true);
            }
        }
        if self.room() == SHOWING {
            self.fill(PAGE, For::Viewers, false);
        }
    }

    fn fill(&mut self, frame: abi::Cap, whom: For, is_new: bool) {
        let mark = self.mark(whom);
        let mut found = 0;
        // The kernel refuses if a pool has the page.
        let _ = memory::with_frame(&own::vspace(), &Frame::at(frame), |page| {
            found = words_of(page).find(|word| *word != 0).unwrap_or(0);
            for word in page.chunks_exact_mut(8).take(PAGE_WORDS) {
                word.copy_from_slice(&mark.to_ne_bytes());
            }
        });
        if is_new && found != 0 {
            let (number, done) = (self.number, self.board.get(Total::Ops));
            let what = format_args!("a new frame of roomer {number} has {found:#x}, after {done} operations");
            self.board.complain(Total::LeakedMarks, what);
        }
    }
}

/// Writes the word that a LockWait names into the page that it names, if that is possible: so the
/// task does wait.
fn write_lock(args: &Args) {
    let (place, word) = (Target(args.rdx), LockWord(args.r8));
    // The kernel refuses if a pool has the page, or the capability does not allow it.
    let _ = memory::with_frame(&own::vspace(), &Frame::at(place.cap()), |page| {
        let words = page.chunks_exact_mut(8);
        words.skip(place.index() as usize).take(1).for_each(|at| at.copy_from_slice(&word.0.to_ne_bytes()));
    });
}

fn words_of(page: &[u8]) -> impl Iterator<Item = u64> {
    let words = page.chunks_exact(8).take(PAGE_WORDS);
    words.map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()))
}

fn judge(
    board: &'static Board,
    number: usize,
    place: &str,
    args: &Args,
    words: impl IntoIterator<Item = u64>,
) {
    // One word is enough: if one leaked, all others of the act did.
    let leaked = words.into_iter().find(|word| !marks::may_see(number, *word));
    if let Some(word) = leaked {
        let op = Op::from_raw(args.info.0 as u8);
        let (first, done) = (args.rdi, board.get(Total::Ops));
        let what = format_args!(
            "roomer {number} sees {word:#x} in {place} behind {op:?} of {first:#x}, after {done} operations"
        );
        board.complain(Total::LeakedMarks, what);
    }
}
