//! Plays one case: an operation stops at one of its points, others run, the first continues, and
//! everything is destroyed.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use abi::{Cap, Fate, Op};
use kern_base::memory::Untyped;
use kern_core::door::entry::Interrupt;
use kern_core::ipc::faults::Fault;
use smp::chaos::Point;
use smp::host_test;

use crate::cast::{CHILD_LOG2, Cast, Tasks};
use crate::deeds::{self, By, Deed, What};
use crate::facts::{Facts, MEMORY, half_dead};
use crate::orders::Said;
use crate::states::{State, memory_log2};
use crate::words::{Names, Notes, Use, Words, place_of};
use crate::world::gate::Why;
use crate::world::stop::{Part, Stop};
use crate::world::{Regs, Tcb, World, check};

const CPUS: usize = 3;
/// Steps that a CPU takes beside an operation that stands still.
const STEPS: usize = 60;
/// Ticks after which every deadline of a case is over.
pub const LONG: u64 = 1_000_000;

/// What a case does.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub state: State,
    pub first: &'a Deed,
    pub second: Option<&'a Deed>,
    /// What another CPU does behind the second.
    pub third: Option<&'a Deed>,
    /// At which of its points the first stops; `None`: at none.
    pub at: Option<usize>,
    /// After how many kernel entries the second makes way for the first; `None`: when it is over.
    pub entries: Option<usize>,
    /// The words that the second writes whatever it does ([`usual`]).
    pub usual: &'a Words,
}

impl<'a> Case<'a> {
    fn alone(state: State, first: &'a Deed, usual: &'a Words) -> Case<'a> {
        Case { state, first, second: None, third: None, at: None, entries: None, usual }
    }
}

/// What has become of it.
#[derive(Clone, Default)]
pub struct Outcome {
    /// Where the first stopped, if it did.
    pub stopped: Option<String>,
    /// How often the second wrote what CPUs share, besides what every entry writes.
    pub writes: u64,
    /// The points of the first at which it can stop, where it was not stopped.
    pub points: Vec<usize>,
    /// Those of them that are between two of its kernel entries.
    pub breaks: Vec<usize>,
    /// The shared words that the first uses.
    pub uses: Vec<Use>,
    /// What the first two were answered, and what has come of it.
    pub said: [Said; 2],
    pub facts: Facts,
    /// What is about to end and is named by a capability, though all are answered: nobody ends it.
    pub half_dead: Option<&'static str>,
    /// A sender has kept a capability that was to go, because others were busy with its tree for
    /// long; or it was gone.
    pub kept: bool,
}

impl Outcome {
    /// Whether the case shows something: the first was stopped, and the second changed something
    /// meanwhile.
    pub fn counts(&self) -> bool {
        self.stopped.is_some() && self.writes > 0
    }

    /// Why a case that does not count shows nothing.
    pub fn idle(&self) -> String {
        match &self.stopped {
            None => String::from("the first was over before its point"),
            Some(_) => format!("the second changed nothing: {:?}", self.said[1]),
        }
    }
}

/// Which points of an operation are worth a stop: those behind which it has read or written since
/// the last.
#[derive(Default)]
struct Points {
    /// Number of points that it has reached.
    seen: Cell<usize>,
    /// It has read or written since the last that is worth it.
    moved: Cell<bool>,
    worth: std::cell::RefCell<Vec<usize>>,
    breaks: std::cell::RefCell<Vec<usize>>,
    /// Which words it uses, where somebody wants to know.
    notes: Option<Notes>,
}

impl Points {
    fn pass(&self, point: Point) -> usize {
        let number = self.seen.replace(self.seen.get() + 1);
        if let Some(notes) = &self.notes {
            notes.pass(point, number);
        }
        if point != Point::BeforeRead && self.moved.take() {
            self.worth.borrow_mut().push(number);
        }
        if matches!(point, Point::BeforeRead | Point::BeforeWrite | Point::BeforeLock) {
            self.moved.set(true);
        }
        number
    }
}

/// A case under way.
struct Play<'a> {
    w: World,
    cast: Cast,
    case: &'a Case<'a>,
    outcome: Outcome,
    /// The CPU that does something is the second operation's.
    own: Rc<Cell<bool>>,
    /// The last system call of a pair of calls that has made way before it.
    last: Option<Last>,
}

/// A system call that is still to be made.
struct Last {
    actor: Tcb,
    cpu: usize,
    regs: Regs,
}

/// Where the first operation stands.
enum Standing {
    In(Part),
    /// Between two kernel entries.
    Between,
    Over,
}

/// Plays one operation alone. Returns: where it can stop, and which words it uses.
pub fn alone(state: State, deed: &Deed, names: &mut Names) -> Result<Outcome, String> {
    let none = Words::new();
    let case = Case::alone(state, deed, &none);
    caught(|| Play::new(&case).all(Some(names)))
}

/// Lets one operation run beside others that do nothing. Returns: the words that it uses, and that
/// CPUs use because of it; and how many kernel entries it takes.
pub fn uses_of(state: State, deed: &Deed, names: &mut Names) -> Result<(Vec<Use>, usize), String> {
    noted(state, deed, |notes, w, entries| (notes.uses(w, names), entries))
}

/// Lets one operation run beside others that do nothing, and looks at what is noted of it, and at
/// how many kernel entries it has taken.
fn noted<R>(state: State, deed: &Deed, look: impl FnOnce(Notes, &World, usize) -> R) -> Result<R, String> {
    let none = Words::new();
    let case = Case::alone(state, deed, &none);
    caught(|| {
        let mut play = Play::new(&case);
        let cpu = deed.by.cpu().unwrap_or(1);
        let actor = play.actor(deed, cpu);
        let notes = Notes::default();
        let mut run = || play.run_other(deed, actor, (cpu, 1), STEPS);
        let entries = host_test::at_points(&mut |point| notes.pass(point, 0), &mut run);
        look(notes, &play.w, entries)
    })
}

/// The words that a task writes by a system call which does nothing: what every entry writes.
pub fn usual(state: State, by: By) -> Result<Words, String> {
    noted(state, &null(by), |notes, w, _| notes.written(w))
}

/// How two operations are played that do not meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The second behind the first, immediately or when the CPUs have taken their mail.
    Behind {
        settled: bool,
    },
    /// The second before the first, immediately or when the CPUs have taken their mail.
    Before {
        settled: bool,
    },
    /// The first between the two system calls of the second.
    Between,
    FirstAlone,
    SecondAlone,
}

/// All of them.
pub const WAYS: [Way; 7] = [
    Way::Behind { settled: false },
    Way::Before { settled: false },
    Way::Behind { settled: true },
    Way::Before { settled: true },
    Way::Between,
    Way::FirstAlone,
    Way::SecondAlone,
];

impl Way {
    /// Whether the operations of a case can be played so.
    pub fn fits(self, case: &Case<'_>) -> bool {
        self != Way::Between || case.second.is_some_and(|deed| matches!(deed.what, What::Calls(_)))
    }
}

/// Plays the two operations of a case so that they do not meet.
pub fn one_behind_the_other(case: &Case<'_>, way: Way) -> Result<Outcome, String> {
    caught(|| Play::new(case).in_order(way)).map_err(|wrong| format!("{way:?}: {wrong}"))
}

/// Operations of the kernel that are left out of cases, for no reason.
pub fn missing() -> Vec<Op> {
    let mut w = World::small(CPUS, 4 << memory_log2(State::Quiet));
    deeds::missing(&Cast::new(&mut w, State::Quiet))
}

/// Lets one operation go to its end, with nobody beside it: what it was answered, and what is so
/// then.
pub fn effects(state: State, deed: &Deed) -> Result<(Said, Facts), String> {
    let none = Words::new();
    let case = Case::alone(state, deed, &none);
    caught(|| Play::new(&case).play_first()).map(|outcome| (outcome.said[0], outcome.facts))
}

/// A system call that changes nothing.
pub const NULL: Deed = null(By::Hand);

const fn null(by: By) -> Deed {
    Deed { name: "Null", by, what: What::Call(|_, _| Regs::op(Op::Null, &[])), of: &[] }
}

/// Plays a case.
pub fn play(case: &Case<'_>) -> Result<Outcome, String> {
    caught(|| Play::new(case).all(None))
}

fn caught<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| text_of(&*panic))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| String::from(*text))).unwrap_or_default()
}

impl<'a> Play<'a> {
    fn new(case: &'a Case<'a>) -> Play<'a> {
        let mut w = World::small(CPUS, 4 << memory_log2(case.state));
        let cast = Cast::new(&mut w, case.state);
        Play { w, cast, case, outcome: Outcome::default(), own: Rc::default(), last: None }
    }

    /// Plays it to the end. Notes which words the first operation uses, where there are `names` for
    /// them.
    fn all(mut self, names: Option<&mut Names>) -> Outcome {
        let cpu = self.case.first.by.cpu().unwrap_or(0);
        let beside = usize::from(cpu == 0);
        let first = self.actor(self.case.first, cpu);
        let second = self.case.second.map(|deed| (deed, self.actor(deed, beside)));
        let third = self.case.third.map(|deed| (deed, self.actor(deed, 2)));
        let points = Rc::new(Points { notes: names.is_some().then(Notes::default), ..Points::default() });
        let standing = self.run_first(cpu, first, &points);
        if self.case.second.is_none() {
            self.is_over(first);
        }
        if !matches!(standing, Standing::Over) {
            let between = matches!(standing, Standing::Between);
            self.w.hold(Some(cpu));
            self.audit(between);
            let (mut writes, own, regions) = (0, self.own.clone(), self.w.regions.clone());
            let mut count = |point| {
                let place = place_of(&regions, host_test::word()).filter(|_| own.get());
                let is_usual = place.is_none_or(|place| self.case.usual.contains(&place));
                writes += u64::from(point == Point::AfterWrite && !is_usual);
            };
            let mut others = |play: &mut Self| {
                host_test::at_points(&mut count, || {
                    if let Some((deed, actor)) = second {
                        play.run_other(deed, actor, (beside, 1), play.case.entries.unwrap_or(STEPS));
                    }
                });
                play.audit(between);
                if let Some((deed, actor)) = third {
                    play.run_other(deed, actor, (2, 2), STEPS);
                    play.audit(between);
                }
            };
            match standing {
                Standing::In(mut part) => {
                    part.beside(|| others(&mut self));
                    part.finish();
                }
                _ => others(&mut self),
            }
            self.w.hold(None);
            self.outcome.writes = writes;
        }
        self.outcome.points = points.worth.take();
        self.outcome.breaks = points.breaks.take();
        if let (Some(notes), Some(names)) = (&points.notes, names) {
            self.outcome.uses = notes.uses(&self.w, names);
        }
        let actors = [Some(first), second.map(|(_, actor)| actor)];
        self.run_to_end(&actors.into_iter().flatten().collect::<Vec<_>>());
        self.answers(first, actors[1]);
        check::all(&self.w);
        if !self.outcome.said.iter().any(|said| matches!(said, Said::Silent(_))) {
            self.outcome.half_dead = half_dead(&self.w);
        }
        if self.case.third.is_none() && self.outcome.counts() {
            self.look(actors);
        }
        self.destroy();
        self.outcome
    }

    /// Checks an operation that was done alone: no program reaches anything through stale
    /// translations of its CPU.
    fn is_over(&self, first: Tcb) {
        let done = first.is_through() && first.regs().error().is_none();
        if let Some((n, address)) = self.w.stale().filter(|_| done) {
            panic!("it is over, and cpu{n} still reaches {address:#x}");
        }
    }

    /// Checks the invariants while the first operation stands still: `between` two of its entries
    /// all of them, and inside of one those that hold at any time.
    fn audit(&mut self, between: bool) {
        let cpu = self.case.first.by.cpu().unwrap_or(0);
        if between {
            self.w.hold(None);
            check::all(&self.w);
            self.w.hold(Some(cpu));
        } else {
            check::always(&self.w);
        }
    }

    /// The task that does something, which runs on its CPU.
    fn actor(&mut self, deed: &Deed, cpu: usize) -> Tcb {
        match deed.by.task(&self.cast) {
            Some(task) => task,
            None => self.cast.hand(&mut self.w, cpu),
        }
    }

    /// The first operation, up to where it is to stop.
    fn run_first(&mut self, cpu: usize, actor: Tcb, points: &Rc<Points>) -> Standing {
        if !self.w.runs(cpu, &actor) {
            return Standing::Over;
        }
        let mut why = match self.case.first.what {
            What::Call(regs) => {
                self.w.prepare(cpu, regs(&self.cast, 0));
                Why::SystemCall
            }
            What::Calls(_) => return Standing::Over,
            What::Fault(address) => Why::Fault(Fault { vector: 14, error: 4, address }),
            What::Timer => {
                self.w.advance(LONG);
                Why::Interrupt(Interrupt::Timer)
            }
            What::Mail => Why::Interrupt(Interrupt::Mail),
        };
        let at = self.case.at;
        for _ in 0..STEPS {
            let inside = points.clone();
            let part = Part::begin(&self.w.gate, cpu, why, move |point| Some(inside.pass(point)) == at);
            if let Some(stop) = part.stop() {
                self.outcome.stopped = Some(name_of(stop));
                return Standing::In(part);
            }
            if actor.is_through() || !self.waits(cpu, &actor) {
                return Standing::Over;
            }
            points.moved.set(true);
            let number = points.pass(Point::Unlocked);
            points.breaks.borrow_mut().push(number);
            if Some(number) == at {
                self.outcome.stopped = Some(String::from("between two entries"));
                return Standing::Between;
            }
            if !self.w.runs(cpu, &actor) {
                // It waits for other CPUs.
                self.w.hold(Some(cpu));
                (0..STEPS).all(|_| (0..CPUS).filter(|n| self.w.step(*n)).count() > 0);
                self.w.hold(None);
                while !self.w.must_restart(cpu) && self.w.event(cpu) {}
            }
            if !(self.w.runs(cpu, &actor) && self.w.must_restart(cpu)) {
                return Standing::Over;
            }
            why = Why::SystemCall;
        }
        Standing::Over
    }

    /// Whether a task's system call is not over, and may go on by itself.
    fn waits(&self, cpu: usize, actor: &Tcb) -> bool {
        actor.object.get().hot.home().index() == cpu
            && matches!(actor.state(), kern_base::task::State::Ready | kern_base::task::State::Restart)
    }

    /// What another CPU does, from its beginning to its end, or to where it has to wait for the CPU
    /// that stands still; or so many of its kernel entries, at most. Returns how many it was.
    /// `number` tells it apart from others of the case.
    fn run_other(&mut self, deed: &Deed, actor: Tcb, (cpu, number): (usize, usize), most: usize) -> usize {
        let runs = self.w.runs(cpu, &actor) && !self.w.must_restart(cpu);
        self.own.set(true);
        let mut next = None;
        match deed.what {
            What::Call(regs) if runs => {
                let regs: Regs = regs(&self.cast, number);
                self.w.issue(cpu, regs);
            }
            What::Calls([before, last]) if runs => {
                let regs: Regs = before(&self.cast, number);
                self.w.issue(cpu, regs);
                next = Some(last);
            }
            What::Fault(address) if runs => self.w.fault(cpu, address),
            What::Timer => {
                self.w.advance(LONG);
                self.w.interrupt(cpu, Interrupt::Timer);
            }
            _ => {}
        }
        let mut entries = 1;
        for _ in 0..STEPS {
            let is_through = self.w.runs(cpu, &actor) && actor.is_through();
            if let Some(last) = next.take_if(|_| is_through && entries < most) {
                self.own.set(true);
                self.w.issue(cpu, last(&self.cast, number));
                entries += 1;
                continue;
            }
            let mut step = |n: usize| {
                self.own.set(n == cpu);
                let moved = (n != cpu || entries < most) && self.w.step(n);
                entries += usize::from(n == cpu && moved);
                moved
            };
            let moved = (0..CPUS).filter(|n| step(*n)).count() > 0;
            if !moved || (self.w.runs(cpu, &actor) && actor.is_through() && next.is_none()) {
                break;
            }
        }
        self.last = next.map(|last| Last { actor, cpu, regs: last(&self.cast, number) }).or(self.last.take());
        entries
    }

    /// Lets the tasks run that are ready behind others of their rank, until each system call of
    /// `actors` is over or waits, and the one whose last call is still to come runs: else the
    /// result would say who was ready first.
    fn give_turns(&mut self, actors: &[Tcb]) {
        const TURNS: usize = 8;
        for actor in actors {
            for _ in 0..TURNS {
                let n = actor.home();
                let last = self.last.as_ref().map(|last| last.actor.object);
                let has_more = last == Some(actor.object);
                let is_ready = actor.state() == kern_base::task::State::Ready;
                let is_behind = is_ready && (has_more || !actor.is_through());
                if !is_behind || self.w.runs(n, actor) || self.w.must_restart(n) {
                    break;
                }
                let Some(task) = self.w.current(n) else { break };
                let frame = &task.get().hot.here(host_test::pin(n)).regs;
                let cells =
                    [&frame.rax, &frame.rdi, &frame.rsi, &frame.rdx, &frame.r8, &frame.r9, &frame.r10];
                let before = cells.map(|cell| cell.get());
                self.w.issue(n, Regs::op(Op::Yield, &[]));
                // What others gave this task is still there.
                cells.iter().zip(before).for_each(|(cell, value)| cell.set(value));
                self.w.run();
            }
        }
    }

    /// Runs all CPUs until nothing is left to do.
    fn run_to_end(&mut self, actors: &[Tcb]) {
        self.w.run();
        self.give_turns(actors);
        if let Some(Last { actor, cpu, regs }) = self.last.take()
            && self.w.runs(cpu, &actor)
            && actor.is_through()
        {
            self.w.issue(cpu, regs);
            self.w.run();
        }
    }

    /// Plays both operations, or one of them, to the end.
    fn in_order(mut self, way: Way) -> Outcome {
        let cpu = self.case.first.by.cpu().unwrap_or(0);
        let beside = usize::from(cpu == 0);
        let first = self.actor(self.case.first, cpu);
        let Some(deed) = self.case.second else { return self.outcome };
        let second = self.actor(deed, beside);
        let points = Rc::new(Points::default());
        // Whether all is settled in between, and how many entries of the second come first.
        let (before, behind) = match way {
            Way::Behind { settled } => (Some(settled), None),
            Way::Before { settled } => (None, Some((settled, STEPS))),
            Way::Between => (None, Some((false, 1))),
            Way::FirstAlone => (None, None),
            Way::SecondAlone => (Some(false), None),
        };
        if let Some((settled, entries)) = behind {
            self.w.hold((!settled).then_some(cpu));
            self.run_other(deed, second, (beside, 1), entries);
            self.w.hold(None);
            if settled {
                self.w.run();
            }
        }
        if way != Way::SecondAlone {
            self.run_first(cpu, first, &points);
        }
        if let Some(settled) = before {
            if settled {
                self.w.run();
            }
            self.run_other(deed, second, (beside, 1), STEPS);
        }
        self.run_to_end(&[first, second]);
        self.answers(first, Some(second));
        self.look([Some(first), Some(second)]);
        self.outcome
    }

    /// Plays the first operation, and nothing else.
    fn play_first(mut self) -> Outcome {
        let cpu = self.case.first.by.cpu().unwrap_or(0);
        let first = self.actor(self.case.first, cpu);
        match self.case.first.what {
            What::Calls(_) => _ = self.run_other(self.case.first, first, (cpu, 0), STEPS),
            _ => _ = self.run_first(cpu, first, &Rc::default()),
        }
        self.run_to_end(&[first]);
        self.answers(first, None);
        self.look([Some(first), None]);
        self.outcome
    }

    /// Notes what has come of it, when all tasks have had their turn.
    fn look(&mut self, actors: [Option<Tcb>; 2]) {
        let mut facts = Facts::default();
        for (n, actor) in actors.iter().enumerate().filter(|(n, _)| self.outcome.said[*n] == Said::Done) {
            actor.iter().for_each(|actor| facts.note_registers(&self.w, n, actor));
        }
        for n in 0..CPUS {
            let hand = self.cast.hands[n].filter(|hand| self.w.runs(n, hand) && hand.is_through());
            if hand.is_some() {
                self.w.issue(n, Regs::op(Op::Recv, &[]));
            }
        }
        self.w.run();
        let Tasks { client, other, server, helper, .. } = self.cast.tasks;
        for (n, task) in (actors.len()..).zip([client, other, server, helper].iter()) {
            if !actors.contains(&Some(*task)) {
                facts.note_registers(&self.w, n, task);
            }
            // Who was refused still has what was to be sent.
            let refused = |(a, actor): (usize, &Option<Tcb>)| {
                *actor == Some(*task) && self.outcome.said[a] != Said::Done
            };
            if actors.iter().enumerate().any(refused) {
                continue;
            }
            let utcb = task.object.get().utcb(task.pin());
            let fates = utcb.grant_fates.load(Relaxed);
            self.outcome.kept |= (0..8)
                .map_while(|n| Fate::in_word(fates, n))
                .any(|fate| matches!(fate, Fate::Kept | Fate::Gone));
            for (name, word) in [
                ("capabilities", &utcb.grant_count),
                ("fates", &utcb.grant_fates),
                ("offer", &utcb.listening),
                ("pages", &utcb.range_count),
            ] {
                facts.note(MEMORY, n, name, word.load(Relaxed));
            }
        }
        facts.note_state(&self.w);
        self.outcome.facts = facts;
    }

    fn answers(&mut self, first: Tcb, second: Option<Tcb>) {
        let said = |actor: Tcb| match actor.is_through() {
            true => actor.regs().error().map_or(Said::Done, Said::Refused),
            false => Said::Silent(actor.state()),
        };
        self.outcome.said = [said(first), second.map(said).unwrap_or_default()];
    }

    /// Resets the memory of the cast, first the inner one: nothing refers to it then, and all of it
    /// is free.
    fn destroy(&mut self) {
        self.reset(self.cast.child, CHILD_LOG2);
        self.reset(self.cast.memory, memory_log2(self.case.state));
    }

    /// Resets one memory, unless its capability is gone. Capabilities may have moved.
    fn reset(&mut self, cap: Cap, log2: u64) {
        let places = [&[cap][..], &self.cast.empty].concat();
        let is_it =
            |cap: &Cap| self.w.object::<Untyped>(*cap).is_some_and(|u| u64::from(u.get().log2) == log2);
        let Some(memory) = places.into_iter().find(is_it) else { return };
        let reset = self.w.ask(2, Op::UntypedReset, &[memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]);
        let free = reset.map(|regs| regs.rdi);
        assert_eq!(free, Ok(1 << log2), "the memory does not come back");
        check::all(&self.w);
        if let Some(untyped) = self.w.object::<Untyped>(memory) {
            let untyped = untyped.get();
            self.w.nobody_remembers(untyped.base()..untyped.base() + untyped.size());
        }
    }
}

fn name_of(stop: Stop) -> String {
    match stop {
        Stop::At(point, place) => format!("{point:?} at {}", short(place)),
        Stop::Blocked => String::from("before a lock"),
    }
}

fn short(place: &Location<'_>) -> String {
    format!("{}:{}", place.file(), place.line())
}
