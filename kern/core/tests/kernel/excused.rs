//! What interrupts cost: the program that they interrupt does not pay for it.

use abi::{Cap, Counter, ObjType, Op};
use kern_base::sched_context::OpenTime;
use kern_core::door::entry::Interrupt;
use smp::chaos::Point;

use crate::scene::Scene;
use crate::world::make::CONTROL;
use crate::world::{Regs, Tcb};

/// The program's CPU, and the one from which mail comes.
const HERE: usize = 0;
const AFAR: usize = 1;
const NOTE: Cap = Cap(40);
const PRIORITY: u64 = 100;
/// Ticks that pass in the middle of each interrupt.
const LONG: u64 = 5_000;
/// Ticks between two readings of the clock, and the most of them that an interrupt may cost the
/// program: what comes before the first reading and after the last.
const PACE: u64 = 10;
const AT_MOST: u64 = 12 * PACE;

struct Busy {
    s: Scene,
    program: Tcb,
    sender: Tcb,
}

/// A program with a slice and a budget runs. A better task of another CPU can raise bits of a
/// Notification of this CPU, for which nobody waits: its mail is urgent.
fn busy(slice: u64, budget: [u64; 2]) -> Busy {
    let mut s = Scene::new(2);
    let (program, _) = s.running(HERE, PRIORITY);
    s.w.must(HERE, Op::SchedConfigure, &[CONTROL, program.sc.arg(), PRIORITY, slice, budget[0], budget[1]]);
    s.w.run();
    let (process, sender) = s.somebody(AFAR, PRIORITY + 50);
    let note = s.w.make(HERE, ObjType::Notification, 0);
    s.w.give(note, process, NOTE);
    s.w.run();
    assert!(s.w.runs(HERE, &program));
    s.w.k.machine.hardware().pace = PACE;
    Busy { s, program, sender }
}

impl Busy {
    /// The program's time.
    fn time(&self) -> OpenTime<'static> {
        self.time_of(&self.program)
    }

    fn time_of(&self, task: &Tcb) -> OpenTime<'static> {
        let time = self.s.w.object(task.sc).expect("time");
        self.s.w.look(HERE).time().open_time(time).expect("here")
    }

    /// What the program has used.
    fn used(&self) -> u64 {
        self.used_by(&self.program)
    }

    fn used_by(&self, task: &Tcb) -> u64 {
        self.s.w.look(HERE).time().charge();
        self.time_of(task).state.consumed()
    }

    fn excused(&self) -> u64 {
        self.s.w.block(HERE).counters[Counter::InterruptTicks as usize].racy()
    }

    /// Mail interrupts the program, and takes long.
    fn interrupt(&mut self) {
        self.s.w.does(&self.sender, Regs::op(Op::Notify, &[NOTE.arg(), 1]));
        self.take_mail();
    }

    /// The program's CPU takes bits by mail, and takes long.
    fn take_mail(&mut self) {
        let taken = self.s.w.torn_mail(HERE, |at| at == Point::BitsPopped, |w| w.advance(LONG));
        assert!(taken, "it takes mail");
    }

    /// A better task of this CPU, and a Notification that it can wait for.
    fn better(&mut self) -> (Tcb, Cap) {
        let (process, better) = self.s.somebody(HERE, PRIORITY + 10);
        let note = self.s.w.make(HERE, ObjType::Notification, 0);
        self.s.w.give(note, process, NOTE);
        (better, note)
    }
}

#[test]
fn mail_is_not_charged_to_the_program() {
    for budget in [[0, 0], [400_000, 1_000_000]] {
        let mut b = busy(200_000, budget);
        let (used, excused) = (b.used(), b.excused());
        b.interrupt();
        let used = b.used() - used;
        assert!(used <= AT_MOST, "it is charged {used}");
        let excused = b.excused() - excused;
        assert!((LONG..LONG + 100 * PACE).contains(&excused), "the CPU counts {excused}");
    }
}

/// Bits that come alone cost the task that they let run; beside other mail, the CPU.
#[test]
fn a_program_that_is_preempted_is_not_charged_either() {
    for is_alone in [true, false] {
        let mut b = busy(200_000, [0, 0]);
        let (better, note) = b.better();
        b.s.w.does_and_run(&better, Regs::op(Op::Wait, &[NOTE.arg()]));
        let raise = Regs::op(Op::Notify, &[note.arg(), 1]);
        assert!(b.s.w.runs(HERE, &b.program));
        let (used, paid, excused) = (b.used(), b.used_by(&better), b.excused());
        if !is_alone {
            b.s.w.does(&b.sender, Regs::op(Op::Notify, &[NOTE.arg(), 1]));
        }
        b.s.w.begin(AFAR, raise);
        b.take_mail();
        assert!(b.s.w.runs(HERE, &better));
        let used = b.used() - used;
        assert!(used <= AT_MOST, "it is charged {used}");
        let (paid, excused) = (b.used_by(&better) - paid, b.excused() - excused);
        assert_eq!((paid >= LONG, excused >= LONG), (is_alone, !is_alone), "{paid} {excused}");
    }
}

/// An interrupt takes longer than the rest of the slice. An equal waits.
#[test]
fn interrupts_do_not_lengthen_a_slice() {
    const SLICE: u64 = 20_000;
    for budget in [[0, 0], [400_000, 1_000_000]] {
        let mut b = busy(SLICE, budget);
        let (equal, _) = b.s.running(HERE, PRIORITY);
        for task in [equal, b.program] {
            while !b.s.w.runs(HERE, &task) {
                b.s.w.advance(SLICE / 2);
                b.s.w.interrupt(HERE, Interrupt::Timer);
            }
        }
        let mut ran = 0;
        while b.s.w.runs(HERE, &b.program) {
            assert!(ran < 2 * SLICE, "the equal waits");
            b.s.w.advance(LONG / 5);
            ran += LONG / 5;
            b.interrupt();
            while b.s.w.event(HERE) {}
        }
        assert!(b.s.w.runs(HERE, &equal));
        assert!((SLICE - 2_000..=SLICE + 2_000).contains(&ran), "it ran for {ran}");
    }
}

/// A window begins in the middle of an interrupt.
#[test]
fn a_window_that_begins_in_an_interrupt_brings_its_budget_once() {
    const BUDGET: u64 = 20_000;
    const PERIOD: u64 = 60_000;
    let mut b = busy(BUDGET, [BUDGET, PERIOD]);
    let ends = b.time().state.window_ends();
    // Little of this window's budget is used, and the program runs when the window ends.
    let (better, _) = b.better();
    assert!(b.s.w.runs(HERE, &better));
    b.s.w.advance(ends - 2_000 - b.s.w.now());
    b.s.w.does_and_run(&better, Regs::op(Op::Wait, &[NOTE.arg()]));
    assert!(b.s.w.runs(HERE, &b.program));
    b.s.w.advance((ends - 1_000).saturating_sub(b.s.w.now()));
    b.interrupt();
    let mut ran = 0;
    while b.s.w.runs(HERE, &b.program) {
        assert!(ran <= 2 * BUDGET, "its budget is not used up");
        b.s.w.advance(500);
        ran += 500;
        b.s.w.interrupt(HERE, Interrupt::Timer);
    }
    assert!((BUDGET - 2_000..=BUDGET + 1_000).contains(&ran), "the window brought {ran}");
}

/// Interrupts take longer than a whole budget. The program gets all of its budget all the same.
#[test]
fn a_budget_is_the_programs_own_in_spite_of_interrupts() {
    const BUDGET: u64 = 20_000;
    const PERIOD: u64 = 400_000;
    let mut b = busy(BUDGET, [BUDGET, PERIOD]);
    let mut ran = 0;
    for _ in 0..BUDGET / 1_000 + 5 {
        b.interrupt();
        while b.s.w.event(HERE) {}
        if !b.s.w.runs(HERE, &b.program) {
            break;
        }
        b.s.w.advance(1_000);
        ran += 1_000;
        b.s.w.interrupt(HERE, Interrupt::Timer);
    }
    assert!(ran <= BUDGET && ran + 2_000 >= BUDGET, "it ran for {ran}");
    assert!(!b.s.w.runs(HERE, &b.program), "its budget is used up");
}
