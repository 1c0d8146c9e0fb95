//! Locks across processes: who waits for a lock lends the owner its time, and wakes when the owner
//! passes the lock on, or cannot any more.

mod chains;
mod ends;

use abi::{Cap, Error, LockWord, ObjType, Op, Target, TaskId};
use core::sync::atomic::Ordering::SeqCst;
use kern_base::limits::{ENTRY_WORK, LOCK_CHAIN};
use kern_base::memory::Frame;
use kern_base::task::State;
use kern_core::door::entry::Interrupt;
use kern_core::ipc::faults::Fault;
use smp::host_test;

use crate::scene::{GROUP, Scene, call};
use crate::time::answer;
use crate::world::make::{CONTROL, Proc, at};
use crate::world::{Regs, Tcb, Why, World};

/// The Frame with the locks, in the process's CSpace.
const FRAME: Cap = Cap(9);
/// Steps that others take in the middle, at most.
const STEPS: usize = 100;

/// Tasks of one process, and a page of locks.
struct Locks {
    s: Scene,
    frame: Cap,
    base: u64,
}

/// A task that takes locks, and its exposure.
#[derive(Clone, Debug)]
struct User {
    task: Tcb,
    index: u32,
}

impl User {
    fn word(&self) -> LockWord {
        LockWord::of(self.task.id, self.index)
    }
}

impl Locks {
    fn new(cpus: usize) -> Locks {
        Locks::of(Scene::new(cpus))
    }

    fn of(mut s: Scene) -> Locks {
        let frame = s.w.make(0, ObjType::Frame, 12);
        Locks::with(s, frame)
    }

    fn with(mut s: Scene, frame: Cap) -> Locks {
        s.w.give(frame, s.process, FRAME);
        let base = s.w.object::<Frame>(frame).expect("a Frame").get().base().0;
        Locks { s, frame, base }
    }

    fn user(&mut self, n: usize, priority: u64) -> User {
        let (task, target) = self.s.running(n, priority);
        User { task, index: target.index() }
    }

    fn word(&self, lock: u32) -> LockWord {
        LockWord(host_test::words(self.base + 8 * u64::from(lock), 1)[0].load(SeqCst))
    }

    fn write(&self, lock: u32, word: LockWord) {
        host_test::words(self.base + 8 * u64::from(lock), 1)[0].store(word.0, SeqCst);
    }

    /// A task has a lock, for which others wait or will.
    fn give(&self, lock: u32, user: &User) {
        self.write(lock, user.word().with_waits());
    }

    /// Waits for a lock as it is.
    fn wait(&self, lock: u32) -> Regs {
        wait_for(lock, self.word(lock))
    }

    fn waits(&mut self, user: &User, lock: u32) {
        let regs = self.wait(lock);
        self.s.w.does_and_run(&user.task, regs);
    }

    /// A task gives a lock back and passes it on.
    fn passes(&mut self, user: &User, lock: u32) {
        self.write(lock, LockWord::FREE);
        self.s.w.does_and_run(&user.task, pass(lock));
        assert_eq!(self.s.w.result(&user.task).error(), None);
    }

    fn error(&self, user: &User) -> Option<Error> {
        self.s.w.result(&user.task).error()
    }

    fn stops(&mut self, user: &User) {
        self.s.w.must(0, Op::TaskSuspend, &[user.task.cap.arg()]);
        self.s.w.run();
    }
}

fn wait_for(lock: u32, word: LockWord) -> Regs {
    Regs::op(Op::LockWait, &[GROUP.arg(), 0, Target::new(FRAME, lock).0, word.0])
}

fn pass(lock: u32) -> Regs {
    Regs::op(Op::LockPass, &[Target::new(FRAME, lock).0])
}

fn is_waiting(user: &User) -> bool {
    matches!(user.task.state(), State::Sending | State::AwaitRemote)
}

#[test]
fn a_lock_is_passed_on_within_a_cpu_and_across_in_both_directions() {
    for (has, wants) in [(0, 0), (0, 1), (1, 0)] {
        let mut l = Locks::new(2);
        let owner = l.user(has, 10);
        l.give(3, &owner);
        let waiter = l.user(wants, 20);
        l.waits(&waiter, 3);
        assert!(is_waiting(&waiter));
        assert!(l.s.w.runs(has, &owner.task), "the owner goes on");
        let sc = l.s.w.time_of(&owner.task);
        assert_ne!(sc, owner.task.own_time(), "with the waiter's time");
        l.passes(&owner, 3);
        assert_eq!(l.error(&waiter), None);
        assert!(l.s.w.runs(wants, &waiter.task), "it has its time back");
        assert_eq!(l.s.w.time_of(&owner.task), owner.task.own_time());
    }
}

#[test]
fn an_owner_of_low_priority_outranks_whom_its_waiter_outranks() {
    for wants in [0, 1] {
        let mut l = Locks::new(2);
        let owner = l.user(0, 5);
        l.give(0, &owner);
        let middle = l.user(0, 10);
        assert!(l.s.w.runs(0, &middle.task));
        let waiter = l.user(wants, 20);
        l.waits(&waiter, 0);
        assert!(l.s.w.runs(0, &owner.task), "it goes before the one between");
        l.passes(&owner, 0);
        assert!(l.s.w.runs(wants, &waiter.task));
        l.stops(&waiter);
        assert!(l.s.w.runs(0, &middle.task));
    }
}

#[test]
fn a_word_that_has_changed_keeps_nobody_waiting() {
    let mut l = Locks::new(2);
    let (owner, near, far) = (l.user(0, 5), l.user(0, 20), l.user(1, 20));
    for word in [LockWord::FREE, owner.word(), near.word().with_waits()] {
        l.write(0, word);
        for user in [&near, &far] {
            l.s.w.does_and_run(&user.task, wait_for(0, owner.word().with_waits()));
            assert_eq!(l.error(user), None);
        }
    }
    // It changes while the wait is on its way.
    l.give(0, &owner);
    l.s.w.does(&far.task, l.wait(0));
    l.write(0, LockWord::FREE);
    l.s.w.run();
    assert_eq!(l.error(&far), None);
}

#[test]
fn words_that_lie_are_told_from_owners() {
    let mut l = Locks::new(2);
    let (liar, other) = (l.user(0, 20), l.user(1, 10));
    let (dead, _) = l.s.running(1, 5);
    l.s.kill(&dead);
    let stranger = l.s.w.start(l.s.process, 1, 5);
    let lies = [
        (LockWord::of(liar.task.id, liar.index), Error::Deadlock),
        (LockWord::of(dead.id, 3), Error::OwnerDied),
        (LockWord::of(stranger.id, other.index), Error::OwnerDied),
        (LockWord::of(other.task.id, other.index + 1), Error::OwnerDied),
        (LockWord::of(other.task.id, 4095), Error::OwnerDied),
        (LockWord::of(TaskId::from_raw(1 << 40), other.index), Error::OwnerDied),
        (LockWord::of(TaskId::NONE, 0), Error::OwnerDied),
    ];
    for (word, error) in lies {
        l.write(1, word.with_waits());
        l.waits(&liar, 1);
        assert_eq!(l.error(&liar), Some(error), "{word:?}");
    }
    l.write(1, other.word());
    l.waits(&liar, 1);
    assert_eq!(l.error(&liar), Some(Error::BadArgument), "nobody has said that it waits");
    for number in [512, u32::MAX] {
        l.s.w.does_and_run(&liar.task, wait_for(number, other.word().with_waits()));
        assert_eq!(l.error(&liar), Some(Error::BadArgument));
        l.s.w.does_and_run(&liar.task, pass(number));
        assert_eq!(l.error(&liar), Some(Error::BadArgument));
    }
    // Nobody waits for that.
    l.s.w.does_and_run(&liar.task, pass(5));
    assert_eq!(l.error(&liar), None);
}

#[test]
fn who_contends_for_the_lock_of_a_dead_task_is_told() {
    for (has, wants) in [(0, 0), (0, 1), (1, 0)] {
        let mut l = Locks::new(2);
        let (owner, waiter) = (l.user(has, 10), l.user(wants, 20));
        l.give(0, &owner);
        l.waits(&waiter, 0);
        l.s.kill(&owner.task);
        let told = l.s.w.result(&waiter.task);
        assert_eq!((told.error(), told.sender()), (Some(Error::OwnerDied), owner.task.id));
        assert!(l.s.w.runs(wants, &waiter.task));
        // And who comes after that, too: the word stays what it was.
        assert_eq!(l.word(0), owner.word().with_waits());
        l.waits(&waiter, 0);
        assert_eq!(l.error(&waiter), Some(Error::OwnerDied));
    }
}

#[test]
fn a_wait_ends_by_all_that_ends_calls() {
    for (has, wants) in [(0, 0), (0, 1), (1, 0)] {
        for end in 0..4 {
            let mut l = Locks::new(2);
            let (owner, waiter) = (l.user(has, 10), l.user(wants, 20));
            l.give(0, &owner);
            let deadline = l.s.w.now() + 10_000;
            let wait = l.wait(0).deadline(deadline);
            l.s.w.does_and_run(&waiter.task, if end == 1 { wait } else { l.wait(0) });
            assert!(is_waiting(&waiter));
            let expected = match end {
                0 => {
                    l.s.w.must(0, Op::TaskCancel, &[waiter.task.cap.arg()]);
                    Some(Error::Cancelled)
                }
                1 => {
                    l.s.w.advance(20_000);
                    l.s.w.interrupt(wants, Interrupt::Timer);
                    Some(Error::Timeout)
                }
                2 => {
                    l.s.kill(&waiter.task);
                    None
                }
                _ => {
                    l.s.w.must(0, Op::CapRevoke, &[at(waiter.task.cap)]);
                    l.s.delete(waiter.task.cap);
                    None
                }
            };
            l.s.w.run();
            if expected.is_some() {
                assert_eq!(l.error(&waiter), expected);
            }
            assert_eq!(l.s.w.time_of(&owner.task), owner.task.own_time(), "end {end}");
            // Nobody is there any more.
            if l.s.w.runs(wants, &waiter.task) && has == wants {
                l.stops(&waiter);
            }
            l.passes(&owner, 0);
        }
    }
}

#[test]
fn a_wait_that_may_not_be_does_not_begin() {
    let mut l = Locks::new(2);
    let (owner, waiter) = (l.user(1, 10), l.user(0, 20));
    l.give(0, &owner);
    let wait = l.wait(0);
    l.s.w.does_and_run(&waiter.task, wait.flag(abi::FLAG_NONBLOCK));
    assert_eq!(l.error(&waiter), Some(Error::WouldBlock));
    l.s.w.does_and_run(&waiter.task, wait.deadline(1));
    assert_eq!(l.error(&waiter), Some(Error::Timeout));
}

#[test]
fn a_frame_that_ends_ends_no_wait_but_lets_none_begin() {
    for has in [0, 1] {
        let mut s = Scene::new(2);
        let memory = s.w.make(0, ObjType::Untyped, 14);
        let frame = s.w.make_of(0, memory, ObjType::Frame, 12);
        let mut l = Locks::with(s, frame);
        let (owner, waiter, late) = (l.user(has, 10), l.user(0, 20), l.user(1, 15));
        l.give(0, &owner);
        l.waits(&waiter, 0);
        let word = l.word(0);
        l.s.w.must(0, Op::UntypedReset, &[memory.arg()]);
        l.s.w.run();
        assert!(l.s.w.object::<Frame>(l.frame).is_none());
        assert!(is_waiting(&waiter));
        l.stops(&owner);
        l.s.w.does_and_run(&late.task, wait_for(0, word));
        assert_eq!(l.error(&late), Some(Error::NoCapability));
        l.stops(&late);
        l.s.w.must(0, Op::TaskResume, &[owner.task.cap.arg()]);
        l.s.w.run();
        l.s.w.does_and_run(&owner.task, pass(0));
        assert_eq!(l.error(&owner), Some(Error::NoCapability));
        // The memory is something else, and the old key is a word of it.
        let again = l.s.w.make_of(0, memory, ObjType::Frame, 12);
        l.s.w.give(again, l.s.process, Cap(10));
        l.s.w.does_and_run(&owner.task, Regs::op(Op::LockPass, &[Target::new(Cap(10), 0).0]));
        assert_eq!(l.error(&waiter), None, "it looks again, and finds no Frame");
        l.s.w.does_and_run(&waiter.task, wait_for(0, word));
        assert_eq!(l.error(&waiter), Some(Error::NoCapability));
    }
}

#[test]
fn owners_that_left_the_group_do_not_count() {
    let mut l = Locks::new(2);
    let (owner, waiter) = (l.user(1, 10), l.user(0, 20));
    l.give(0, &owner);
    l.s.w.must(0, Op::Withdraw, &[Target::new(l.s.group, owner.index).0]);
    l.waits(&waiter, 0);
    assert_eq!(l.error(&waiter), Some(Error::OwnerDied));
}

/// An owner that is exposed for its CPU alone is not found from others.
#[test]
fn an_owner_has_one_exposure_for_all_cpus() {
    let mut l = Locks::new(2);
    let (owner, waiter) = (l.user(1, 10), l.user(0, 20));
    let index = owner.index + 8;
    let expose = [Target::new(l.s.group, index).0, owner.task.cap.arg(), 1 | (u64::from(index) + 2) << 32];
    l.s.w.must(1, Op::Expose, &expose);
    let word = LockWord::of(owner.task.id, index).with_waits();
    l.write(0, word);
    l.s.w.does_and_run(&waiter.task, wait_for(0, word));
    let answer = l.s.w.result(&waiter.task);
    assert_eq!((answer.error(), answer.rdi), (Some(Error::BadArgument), 3));
}

#[test]
fn suspended_tasks_pass_and_get_their_locks_later() {
    for wants in [0, 1] {
        let mut l = Locks::new(2);
        let (owner, waiter) = (l.user(0, 10), l.user(wants, 20));
        l.give(0, &owner);
        l.waits(&waiter, 0);
        l.stops(&owner);
        l.stops(&waiter);
        assert!(is_waiting(&waiter));
        l.s.w.must(0, Op::TaskResume, &[owner.task.cap.arg()]);
        l.s.w.run();
        l.passes(&owner, 0);
        assert!(waiter.task.state() == State::Ready && !l.s.w.runs(wants, &waiter.task));
        l.s.w.must(0, Op::TaskResume, &[waiter.task.cap.arg()]);
        l.s.w.run();
        assert!(l.s.w.runs(wants, &waiter.task));
        assert_eq!(l.error(&waiter), None);
    }
}

#[test]
fn a_waiter_moves_when_it_wakes_and_one_whose_owner_moves_looks_again() {
    for wants in [0, 1, 2] {
        let mut l = Locks::new(3);
        let (owner, waiter) = (l.user(0, 25), l.user(wants, 20));
        l.give(0, &owner);
        if wants == 0 {
            // It runs while the owner waits for bits of nobody.
            l.stops(&owner);
        }
        l.waits(&waiter, 0);
        assert!(is_waiting(&waiter));
        let moves = |l: &mut Locks, user: &User| {
            let answer = l.s.w.ask(2, Op::TaskMove, &[CONTROL, user.task.cap.arg(), 1]);
            l.s.w.run();
            answer.map(|answer| answer.rdi)
        };
        assert_eq!(moves(&mut l, &waiter), Ok(u64::from(wants != 1)), "later, unless it is there");
        assert_eq!((moves(&mut l, &owner), owner.task.home()), (Ok(0), 1));
        assert_eq!((waiter.task.home(), l.error(&waiter)), (1, None));
        l.s.w.must(0, Op::TaskResume, &[owner.task.cap.arg()]);
        l.s.w.run();
        l.stops(&owner);
        l.waits(&waiter, 0);
        assert!(is_waiting(&waiter));
        l.s.w.must(0, Op::TaskResume, &[owner.task.cap.arg()]);
        l.s.w.run();
        l.passes(&owner, 0);
        assert_eq!(l.error(&waiter), None);
    }
}

#[test]
fn the_best_waiter_is_first_and_all_others_look_again() {
    let mut l = Locks::of(Scene::of_room(3, 40));
    let owner = l.user(0, 1);
    l.give(0, &owner);
    l.give(7, &owner);
    let other = l.user(1, 30);
    l.waits(&other, 7);
    let waiters: Vec<User> = (0..30).map(|i| l.user(1 + i % 2, 2 + i as u64)).collect();
    // The best of each CPU runs, and waits.
    for user in waiters.iter().rev() {
        l.waits(user, 0);
        assert!(is_waiting(user));
    }
    l.write(0, LockWord::FREE);
    l.s.w.does(&owner.task, pass(0));
    assert!(waiters[29].task.object.get().msg_node.is_queued(), "the best is on its way at once");
    l.s.w.run();
    for user in &waiters {
        assert!(user.task.state() == State::Ready, "{user:?}");
    }
    assert!(is_waiting(&other), "for another lock");
    l.passes(&owner, 7);
    assert_eq!(l.error(&other), None);
}

/// Others act at each point of the entry in which an owner passes its lock on, and of that in which
/// the owner's CPU takes the wait out of its mailbox. In the end nobody waits for a lock that
/// nobody has.
#[test]
fn no_wake_up_is_lost_whatever_comes_in_the_middle() {
    for what in 0..4 {
        for point in 0.. {
            let mut l = Locks::new(2);
            let (owner, waiter) = (l.user(0, 10), l.user(1, 10));
            let _ = (l.user(0, 1), l.user(1, 1));
            l.give(0, &owner);
            let (wait, base) = (l.wait(0), l.base);
            let mut points = 0..;
            let here = move |_: smp::chaos::Point| points.next() == Some(point);
            let free = || host_test::words(base, 1)[0].store(0, SeqCst);
            let (them, their) = (waiter.task, owner.task);
            let torn = match what {
                // The wait comes while the lock is passed on.
                0 => {
                    free();
                    l.s.w.prepare(0, pass(0));
                    l.s.w.tear(0, Why::SystemCall, here, |w: &mut World| {
                        w.does(&them, wait);
                        let _ = (0..STEPS).all(|_| w.step(1));
                    })
                }
                // The owner gives the lock back while the wait is sent.
                1 => {
                    l.s.w.prepare(1, wait);
                    l.s.w.tear(1, Why::SystemCall, here, |w: &mut World| {
                        host_test::words(base, 1)[0].store(0, SeqCst);
                        w.does(&their, pass(0));
                        let _ = (0..STEPS).all(|_| w.step(0));
                    })
                }
                // The waiter gives up while its wait arrives.
                2 => {
                    let (cancel, by) = (Regs::op(Op::TaskCancel, &[waiter.task.cap.arg()]), 1);
                    l.s.w.does(&waiter.task, wait);
                    l.s.w.torn_mail(0, here, |w| {
                        w.begin(by, cancel);
                        let _ = (0..STEPS).all(|_| w.step(1));
                    })
                }
                // The owner dies while the wait arrives.
                _ => {
                    let kill = Regs::op(Op::TaskKill, &[owner.task.cap.arg()]);
                    l.s.w.does(&waiter.task, wait);
                    l.s.w.torn_mail(0, here, |w| {
                        w.begin(1, kill);
                        let _ = (0..STEPS).all(|_| w.step(1));
                    })
                }
            };
            l.s.w.run();
            if what == 2 && torn {
                l.s.w.finish(1);
                l.write(0, LockWord::FREE);
                l.s.w.does_and_run(&owner.task, pass(0));
            }
            if what == 3 && torn {
                l.s.w.finish(1);
                l.s.w.run();
                assert_eq!(l.error(&waiter), Some(Error::OwnerDied));
            }
            if !torn {
                assert!(point > 0, "{what}: there is no such point");
                break;
            }
            assert!(!is_waiting(&waiter), "{what}, point {point}: {:?}", waiter.task.state());
        }
    }
}

#[test]
fn of_two_locks_that_are_passed_on_together_both_are_heard_of() {
    let mut l = Locks::of(Scene::of_room(2, 40));
    let owner = l.user(0, 1);
    let waiters: Vec<User> = (0..30).map(|i| l.user(1, 2 + i as u64)).collect();
    for lock in 0..3 {
        l.give(lock, &owner);
    }
    for (i, user) in waiters.iter().enumerate().rev() {
        l.waits(user, i as u32 % 3);
    }
    for lock in 0..2 {
        l.write(lock, LockWord::FREE);
        l.s.w.does(&owner.task, pass(lock));
    }
    l.s.w.run();
    let waiting = |lock| waiters.iter().skip(lock).step_by(3).filter(|user| is_waiting(user)).count();
    assert_eq!([waiting(0), waiting(1)], [0, 0]);
    l.give(2, &owner);
    l.passes(&owner, 2);
    assert_eq!(waiting(2), 0);
}

#[test]
fn an_owner_that_waits_in_a_call_lends_the_time_on() {
    for far in [0, 1] {
        let mut l = Locks::new(2);
        let (server, target) = l.s.server(far, 3);
        let owner = l.user(0, 5);
        l.give(0, &owner);
        l.s.w.does_and_run(&owner.task, call(target));
        assert!(l.s.w.runs(far, &server));
        let waiter = l.user(1 - far, 20);
        l.waits(&waiter, 0);
        l.s.w.does_and_run(&server, answer());
        assert!(l.s.w.runs(0, &owner.task));
        l.passes(&owner, 0);
        assert!(l.s.w.runs(1 - far, &waiter.task));
    }
}

/// How the owner's own wait ends.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Wakes {
    Bits,
    Deadline,
    Cancel,
}

/// The owner of a lock waits for something else while a better task waits for the lock. When it
/// wakes, it goes before a task of a priority between the two.
#[test]
fn an_owner_that_wakes_goes_on_with_its_waiters_time() {
    const NOTE: Cap = Cap(31);
    for wants in [0, 1] {
        for by in [Wakes::Bits, Wakes::Deadline, Wakes::Cancel] {
            let mut l = Locks::new(2);
            let note = l.s.w.make(0, ObjType::Notification, 0);
            l.s.w.give(note, l.s.process, NOTE);
            let owner = l.user(0, 5);
            l.give(0, &owner);
            let soon = l.s.w.now() + 50_000;
            let waits = Regs::op(Op::Wait, &[NOTE.arg()]);
            l.s.w.does_and_run(&owner.task, if by == Wakes::Bits { waits } else { waits.deadline(soon) });
            assert_eq!(owner.task.state(), State::WaitBits);
            let waiter = l.user(wants, 20);
            l.waits(&waiter, 0);
            let between = l.user(0, 10);
            assert!(is_waiting(&waiter) && l.s.w.runs(0, &between.task));
            match by {
                Wakes::Bits => {
                    l.s.w.does_and_run(&between.task, Regs::op(Op::Notify, &[NOTE.arg(), 4]));
                    assert_eq!(l.s.w.result(&owner.task).msg()[0], 4);
                }
                Wakes::Deadline => l.s.w.wait_until(soon + 1),
                Wakes::Cancel => drop(l.s.w.must(1, Op::TaskCancel, &[owner.task.cap.arg()])),
            }
            l.s.w.run();
            assert!(l.s.w.runs(0, &owner.task), "woken by {by:?}, on its waiter's time");
            l.passes(&owner, 0);
            assert!(l.s.w.runs(wants, &waiter.task));
            l.stops(&waiter);
            assert!(l.s.w.runs(0, &between.task));
        }
    }
}

/// The owner of a lock receives calls while a better task waits for the lock. The next call, of a
/// client with less time, wakes it.
#[test]
fn an_owner_that_is_called_goes_on_with_its_waiters_time() {
    // Also where its own time, which it does not get in a call, outranks them all.
    for (calls, own) in [(0, 5), (1, 5), (0, 30), (1, 30)] {
        let mut l = Locks::new(2);
        let owner = l.user(0, own);
        l.give(0, &owner);
        l.s.w.does_and_run(&owner.task, Regs::op(Op::Recv, &[]));
        let client = l.user(calls, 7);
        let waiter = l.user(1, 20);
        l.waits(&waiter, 0);
        assert!(is_waiting(&waiter) && owner.task.state() == State::Recv);
        // It begins to call before the task between the two is ready.
        assert!(l.s.w.runs(calls, &client.task));
        l.s.w.does(&client.task, call(Target::new(GROUP, owner.index)));
        let between = l.s.w.start(l.s.process, 0, 10);
        l.s.w.run();
        assert!(l.s.w.runs(0, &owner.task), "on its waiter's time");
        l.passes(&owner, 0);
        assert!(l.s.w.runs(1, &waiter.task));
        // After that it has its own time, or the client's.
        assert_eq!(l.s.w.runs(0, &between), own < 10);
        assert!(!client.task.is_through(), "it is served when its time comes");
        l.s.w.must(1, Op::TaskSuspend, &[between.cap.arg()]);
        l.s.w.run();
        l.s.w.does_and_run(&owner.task, answer());
        assert_eq!(l.error(&client), None);
    }
}

/// A task's time is set to less while it waits, and a better task waits for it.
#[test]
fn an_owner_whose_time_is_set_meanwhile_looks_when_it_wakes() {
    const NOTE: Cap = Cap(31);
    let mut l = Locks::new(2);
    let note = l.s.w.make(0, ObjType::Notification, 0);
    l.s.w.give(note, l.s.process, NOTE);
    let owner = l.user(0, 30);
    l.give(0, &owner);
    l.s.w.does_and_run(&owner.task, Regs::op(Op::Wait, &[NOTE.arg()]));
    let waiter = l.user(1, 20);
    l.waits(&waiter, 0);
    l.s.w.must(1, Op::SchedConfigure, &[CONTROL, owner.task.sc.arg(), 3, 1_000]);
    l.s.w.run();
    let between = l.user(0, 10);
    l.s.w.does_and_run(&between.task, Regs::op(Op::Notify, &[NOTE.arg(), 4]));
    assert!(l.s.w.runs(0, &owner.task), "on its waiter's time");
}
