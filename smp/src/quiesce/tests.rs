//! Host tests of grace periods: single cases, then random worlds of several CPUs whose entries are
//! interleaved step by step. loom tests the memory orderings (`tests/loom`).

use super::*;
use crate::door::Table;
use crate::host_test::{all_cpus, cpu, entry, leak, left_by_iret, local_entry, pin};
use crate::mailbox::{Drained, Mailbox, Wake};
use crate::percpu::{All, Pair, PerCpu};
use crate::shootdown::{ShootMail, What};
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::vec::Vec;

mod world;

#[derive(Clone, Copy)]
enum Mail {
    Grace(GraceMail),
    /// About the object of that number.
    About(usize),
}

impl From<GraceMail> for Mail {
    fn from(mail: GraceMail) -> Mail {
        Mail::Grace(mail)
    }
}

impl From<(ShootMail, What)> for Mail {
    fn from(_: (ShootMail, What)) -> Mail {
        unreachable!("there are no shootdowns here")
    }
}

type Blocks = All<(), (), Mail>;

struct System {
    all: Blocks,
    interrupts: RefCell<BTreeSet<CpuId>>,
}

impl Cpus for System {
    type Own = ();
    type Shared = ();
    type Mail = Mail;

    fn all(&self) -> &Blocks {
        &self.all
    }
    fn interrupt(&self, cpu: CpuId) {
        self.interrupts.borrow_mut().insert(cpu);
    }
}

fn table<T: 'static>(of: impl Iterator<Item = T>) -> Table<T> {
    Table::from_static(Box::leak(of.collect()))
}

fn system(count: usize) -> System {
    let pairs = |n| table((0..count).map(|_| Pair::new(cpu(n))));
    let blocks = table((0..count).map(|n| PerCpu::new(cpu(n), (), (), pairs(n))));
    System { all: all_cpus(blocks), interrupts: RefCell::new(BTreeSet::new()) }
}

#[test]
fn a_region_starts_again_once_for_each_quiet_period_of_its_own() {
    let system = system(1);
    let [region, other] = [(); 2].map(|()| crate::host_test::region(4096, 64));
    let mut entry = entry(0);
    assert!(region.carve(64, 64).is_some() && other.carve(64, 64).is_some());
    assert!(!region.end_reset(&system, entry.pin()), "no reset has begun");
    region.begin_reset(&system, entry.pin());
    assert!(region.carve(64, 64).is_none() && region.carve_top(64).is_none(), "nothing is carved meanwhile");
    assert!(region.used() == (64, 0) && !region.end_reset(&system, entry.pin()));
    let _ = settle(&system, &mut entry);
    assert!(!other.end_reset(&system, entry.pin()), "the quiet period is another region's");
    assert!(region.end_reset(&system, entry.pin()) && region.is_unused());
    assert!(region.carve(64, 64).is_some());
    assert!(!region.end_reset(&system, entry.pin()), "the quiet period is used up");
    region.begin_reset(&system, entry.pin());
    region.give_up_reset();
    let _ = settle(&system, &mut entry);
    assert!(!region.end_reset(&system, entry.pin()) && region.used() == (64, 0));
    assert_eq!(region.carve(64, 64).map(|piece| piece.base()), Some(region.base() + 64));
}

#[test]
#[should_panic = "cpu1 has not answered, or answers twice"]
fn an_answer_counts_once() {
    let system = system(2);
    let mut here = entry(0);
    request_quiet(&system, here.pin());
    let _ = settle(&system, &mut here);
    let _ = system.visit(1);
    let mail = GraceMail { by: cpu(0), at: cpu(1) };
    let pin = here.pin();
    let _ = system.mailbox(0).inbox(pin).drain(1, |_| receive(&system, pin, mail));
    receive(&system, pin, mail);
}

#[test]
#[should_panic = "cpu1 has not answered, or answers twice"]
fn an_answer_counts_when_it_has_come() {
    let system = system(2);
    let mut here = entry(0);
    request_quiet(&system, here.pin());
    let _ = settle(&system, &mut here);
    receive(&system, here.pin(), GraceMail { by: cpu(0), at: cpu(1) });
}

impl System {
    /// Plays an interrupt's kernel entry on CPU `n`: drain, settle, leave.
    fn visit(&self, n: usize) -> Settled {
        let mut entry = entry(n);
        self.interrupts.borrow_mut().remove(&cpu(n));
        let pin = entry.pin();
        let drained = self.mailbox(n).inbox(pin).drain(100, |mail| match mail {
            Mail::Grace(mail) => receive(self, pin, mail),
            Mail::About(_) => {}
        });
        assert_eq!(drained, Drained::Empty);
        settle(self, &mut entry)
    }

    fn block(&self, n: usize) -> &'static PerCpu<(), (), Mail> {
        match self.all.get(pin(n), n) {
            Some(block) => block.get(),
            None => panic!("there is no CPU {n}"),
        }
    }

    fn mailbox(&self, n: usize) -> &'static Mailbox<Mail> {
        self.block(n).mailbox()
    }

    fn go_idle(&self, n: usize) {
        assert!(go_idle(&mut local_entry(self.block(n)), Idle::Halt));
    }
}

#[test]
fn alone_a_round_is_over_at_the_next_quiescent_point() {
    let system = system(1);
    let mut entry = entry(0);
    let stamp = system.all.epoch.stamp();
    assert!(system.all.epoch.is_reusable(0) && !system.all.epoch.is_reusable(stamp));
    request_epoch(&system, entry.pin(), stamp + 2);
    let ticket = request_quiet(&system, entry.pin());
    assert!(!is_quiet(&system, entry.pin(), ticket), "this entry may still use it");
    assert_eq!(settle(&system, &mut entry), Settled::Advanced);
    assert!(is_quiet(&system, entry.pin(), ticket) && system.all.epoch.is_reusable(stamp));
    assert_eq!(settle(&system, &mut entry), Settled::Same);
}

#[test]
fn idle_cpus_are_left_alone() {
    let system = system(4);
    (1..4).for_each(|n| system.go_idle(n));
    let mut entry = entry(0);
    let ticket = request_quiet(&system, entry.pin());
    assert_eq!(settle(&system, &mut entry), Settled::Advanced);
    assert!(is_quiet(&system, entry.pin(), ticket));
    assert!(system.interrupts.borrow().is_empty());
}

#[test]
fn running_cpus_are_asked_and_answer_when_they_leave() {
    let system = system(3);
    system.go_idle(2);
    let mut here = entry(0);
    let stamp = system.all.epoch.stamp();
    request_epoch(&system, here.pin(), stamp + 2);
    for _ in 0..2 {
        assert!(!system.all.epoch.is_reusable(stamp));
        let _ = settle(&system, &mut here);
        assert_eq!(*system.interrupts.borrow(), BTreeSet::from([cpu(1)]));
        assert_eq!(system.visit(1), Settled::Same);
        assert_eq!(*system.interrupts.borrow(), BTreeSet::from([cpu(0)]), "the answer");
        assert_eq!(system.visit(0), Settled::Advanced);
    }
    assert!(system.all.epoch.is_reusable(stamp));
}

#[test]
fn who_left_by_iret_meanwhile_is_not_asked() {
    let system = system(2);
    let mut here = entry(0);
    let stamp = system.all.epoch.stamp();
    request_epoch(&system, here.pin(), stamp + 2);
    left_by_iret(&mut local_entry(system.block(1)));
    assert_eq!(settle(&system, &mut here), Settled::Advanced);
    assert_eq!(system.all.epoch.now(), stamp + 1);
    // The next round began after that exit, so now it is asked.
    assert_eq!(*system.interrupts.borrow(), BTreeSet::from([cpu(1)]));
}

#[test]
fn anybodys_round_serves_everybody() {
    let system = system(2);
    let stamp = system.all.epoch.stamp();
    system.go_idle(1);
    let mut here = entry(0);
    request_epoch(&system, here.pin(), stamp + 2);
    let _ = settle(&system, &mut here);
    assert!(system.all.epoch.is_reusable(stamp));
    end_idle(&mut local_entry(system.block(1)));
    request_epoch(&system, pin(1), stamp + 2);
    assert!(!system.all.grace(pin(1)).is_unsettled(), "there already");
}

#[test]
fn a_flush_waits_for_the_mail_of_an_idle_cpu() {
    let system = system(2);
    system.go_idle(1);
    let mut here = entry(0);
    let wake = system.mailbox(1).push(here.pin(), leak(Node::new(cpu(0))), Mail::About(0));
    assert_eq!(wake, Wake::Interrupt);
    let ticket = request_quiet(&system, here.pin());
    assert_eq!(settle(&system, &mut here), Settled::Advanced, "the round that ends entries");
    assert!(!is_quiet(&system, here.pin(), ticket));
    end_idle(&mut local_entry(system.block(1)));
    assert_eq!(system.visit(1), Settled::Same);
    assert_eq!(system.visit(0), Settled::Advanced);
    assert!(is_quiet(&system, pin(0), ticket) && is_quiet(&system, pin(1), ticket));
}

#[test]
fn a_later_request_waits_for_a_period_that_begins_later() {
    let system = system(2);
    let mut here = entry(0);
    let first = request_quiet(&system, here.pin());
    let _ = settle(&system, &mut here);
    let second = request_quiet(&system, here.pin());
    assert_eq!(second, request_quiet(&system, here.pin()), "not begun, so it serves both");
    let done = |ticket| is_quiet(&system, pin(0), ticket);
    for (first_done, second_done) in [(false, false), (true, false), (true, false), (true, true)] {
        let (_, _) = (system.visit(1), system.visit(0));
        assert_eq!((done(first), done(second)), (first_done, second_done));
    }
    assert!(!system.all.grace(pin(0)).is_busy());
}

#[test]
fn who_has_something_to_settle_does_not_idle() {
    let system = system(2);
    request_quiet(&system, pin(0));
    assert!(!go_idle(&mut local_entry(system.block(0)), Idle::Halt));
    assert!(!system.mailbox(0).is_idle());
}
