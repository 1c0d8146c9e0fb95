//! Locks across processes: who waits for a lock lends the owner its time, and wakes when the owner
//! passes the lock on, or cannot any more.

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
fn a_cycle_of_locks_is_refused() {
    for cpus in [[0, 0, 0], [0, 1, 0], [0, 1, 2], [2, 0, 1]] {
        for length in [2, 3] {
            let mut l = Locks::new(3);
            let users: Vec<User> = (0..length).map(|i| l.user(cpus[i], 20 - i as u64)).collect();
            for (i, user) in users.iter().enumerate() {
                l.give(i as u32, user);
            }
            for (i, user) in users.iter().enumerate() {
                let next = (i + 1) % length;
                l.waits(user, next as u32);
                if next != 0 {
                    assert!(is_waiting(user));
                    continue;
                }
                assert_eq!(l.error(user), Some(Error::Deadlock), "{cpus:?}, {length}");
                // It gives back what it has, and the others get theirs in turn.
                l.passes(user, i as u32);
            }
            for i in (0..length - 1).rev() {
                assert_eq!(l.error(&users[i]), None);
                l.passes(&users[i], i as u32);
            }
        }
    }
}

#[test]
fn of_tasks_that_close_a_cycle_together_one_is_refused() {
    let mut l = Locks::new(2);
    let (one, two) = (l.user(0, 10), l.user(1, 10));
    l.give(0, &one);
    l.give(1, &two);
    let (of_one, of_two) = (l.wait(1), l.wait(0));
    l.s.w.does(&one.task, of_one);
    l.s.w.does(&two.task, of_two);
    l.s.w.run();
    let refused = [&one, &two].into_iter().filter(|user| !is_waiting(user));
    let refused: Vec<&User> = refused.collect();
    assert!(!refused.is_empty());
    for user in refused {
        assert_eq!(l.error(user), Some(Error::Deadlock));
    }
}

#[test]
fn a_lock_that_was_passed_on_closes_no_cycle() {
    // The word of the second lock does not name its waiter's owner any more.
    let mut l = Locks::new(2);
    let (one, two) = (l.user(0, 10), l.user(1, 10));
    l.give(0, &one);
    l.give(1, &two);
    l.waits(&one, 1);
    // `two` gives its lock back, and before it passes that on it waits for the other one: a wait
    // that nobody ends, but no cycle of words.
    l.write(1, LockWord::FREE);
    l.waits(&two, 0);
    assert!(is_waiting(&one) && is_waiting(&two));
    l.s.w.must(0, Op::TaskCancel, &[two.task.cap.arg()]);
    l.s.w.run();
    l.s.w.does_and_run(&two.task, pass(1));
    assert_eq!(l.error(&one), None);
}

/// The owner dies while a wait follows the locks on other CPUs. The next CPU that gets the wait
/// ends it, and sends nothing on that names the dead owner.
#[test]
fn a_wait_that_follows_locks_ends_where_it_learns_that_the_owner_is_dead() {
    let mut l = Locks::new(2);
    // On CPU 0, the last one is the only one that does not wait.
    let cpus = [(1, 10), (1, 20), (0, 20), (1, 5), (0, 10)];
    let users: Vec<User> = cpus.into_iter().map(|(n, priority)| l.user(n, priority)).collect();
    for (i, user) in users.iter().enumerate() {
        l.give(i as u32, user);
    }
    l.stops(&users[3]);
    // Each waits for the next one's lock, but the last two.
    for i in (0..3).rev() {
        l.waits(&users[i], i as u32 + 1);
        assert!(is_waiting(&users[i]));
    }
    let wait = l.wait(0);
    l.s.w.does(&users[4].task, wait);
    assert!(l.s.w.event(1), "the wait is at the owner, and follows the first lock");
    l.s.w.begin(1, Regs::op(Op::TaskKill, &[users[0].task.cap.arg()]));
    let _ = (0..20).all(|_| l.s.w.step(1));
    while l.s.w.has_event(0) {
        l.s.w.event(0);
    }
    assert_eq!(l.error(&users[4]), Some(Error::OwnerDied), "without another step of CPU 1");
}

#[test]
fn chains_of_locks_have_a_bound_across_cpus() {
    let most = LOCK_CHAIN as usize;
    let mut l = Locks::of(Scene::of_room(3, most + 4));
    let users: Vec<User> = (0..most + 3).map(|i| l.user(i % 3, 10)).collect();
    for (i, user) in users.iter().enumerate() {
        l.give(i as u32, user);
    }
    for user in &users[1..] {
        l.stops(user);
    }
    for (i, user) in users.iter().enumerate().skip(1) {
        l.s.w.must(0, Op::TaskResume, &[user.task.cap.arg()]);
        l.s.w.run();
        if i % 3 == 0 && l.s.w.runs(0, &users[0].task) {
            l.stops(&users[0]);
        }
        l.waits(user, i as u32 - 1);
        if i <= most + 1 {
            assert!(is_waiting(user), "{i}");
        } else {
            assert_eq!(l.error(user), Some(Error::Deadlock), "{i}");
        }
    }
}

/// An entry has no work left after a long way, and a wait that follows locks in an entry without
/// work goes on by mail.
#[test]
fn each_step_along_locks_takes_work() {
    const STEP: u64 = 250;
    for left in [0, ENTRY_WORK] {
        let mut l = Locks::new(1);
        let users: Vec<User> = (0..3).map(|i| l.user(0, 20 - i)).collect();
        for (i, user) in users.iter().enumerate() {
            l.give(i as u32, user);
        }
        l.waits(&users[0], 1);
        l.waits(&users[1], 2);
        l.s.w.look(0).sched.work.set(left);
        let wait = l.wait(0);
        l.s.w.does(&users[2].task, wait);
        let spent = ENTRY_WORK.saturating_sub(l.s.w.look(0).sched.work.get());
        // Tiny limits make more than one entry of it.
        assert!(left == 0 || spent >= 2 * STEP || cfg!(feature = "small-limits"), "{spent}");
        l.s.w.run();
        assert_eq!(l.error(&users[2]), Some(Error::Deadlock), "{left}");
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

#[test]
fn a_lock_needs_its_frame_and_its_group_at_every_wait() {
    let mut l = Locks::new(1);
    let (owner, waiter) = (l.user(0, 10), l.user(0, 20));
    l.give(0, &owner);
    let (_, other) = l.s.somebody(0, 30);
    l.s.w.does_and_run(&other, wait_for(0, owner.word().with_waits()));
    assert_eq!(l.s.w.result(&other).error(), Some(Error::NoCapability));
    l.s.w.must(0, Op::TaskSuspend, &[other.cap.arg()]);
    l.s.w.must(0, Op::CapRevoke, &[at(l.frame)]);
    l.waits(&waiter, 0);
    assert_eq!(l.error(&waiter), Some(Error::NoCapability));
}

/// How the owner of a lock ends.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Ends {
    Killed,
    WithItsProcess,
    /// A task of its process kills that.
    ByItsProcess,
    WithItsSpace,
    /// Its exposure is its last capability, and is withdrawn.
    Withdrawn,
    /// The memory is reset of which it was made.
    WithItsMemory,
    /// Its process ends, because of a fault that nobody handles.
    ByAFault,
}

/// An owner of a lock on CPU 2, in a process and in memory of its own; another task of its process,
/// on CPU 0; and who wants the lock, on CPU 1.
struct Will {
    l: Locks,
    memory: Cap,
    home: Proc,
    owner: User,
    sibling: Tcb,
    heir: User,
}

impl Will {
    const INDEX: u32 = 9;
    const OWN: Cap = Cap(30);

    fn new() -> Will {
        let mut l = Locks::of(Scene::unchecked(3, 16 << 20));
        let heir = l.user(1, 10);
        let memory = l.s.w.make(0, ObjType::Untyped, 19);
        let home = l.s.w.process_of(memory, 4, 64);
        l.s.w.join_all(l.s.group, home, GROUP);
        l.s.w.give(home.process, home, Will::OWN);
        let [task, sibling] = [2, 0].map(|n| {
            // Its time is not of that memory: a reset does not stop the task by ending its time.
            let (task, sc) = (l.s.w.task_of(memory, home, n, 10, false), l.s.time(10));
            l.s.w.must(0, Op::SchedBind, &[sc.arg(), task.cap.arg()]);
            l.s.w.resume(&task);
            l.s.w.run();
            task
        });
        l.s.w.expose(l.s.group, Will::INDEX, task.cap);
        let owner = User { task, index: Will::INDEX };
        l.give(0, &owner);
        Will { l, memory, home, owner, sibling, heir }
    }

    /// What happens on CPU 0 by which the owner ends: the agent or the sibling makes a system call,
    /// or the sibling faults.
    fn end(&mut self, how: Ends) -> Why {
        let regs = match how {
            Ends::Killed => Regs::op(Op::TaskKill, &[self.owner.task.cap.arg()]),
            Ends::WithItsProcess => Regs::op(Op::ProcessKill, &[self.home.process.arg()]),
            Ends::ByItsProcess => Regs::op(Op::ProcessKill, &[Will::OWN.arg()]),
            Ends::WithItsSpace => Regs::op(Op::CapDelete, &[at(self.home.vspace)]),
            Ends::Withdrawn => {
                self.l.s.w.must(0, Op::CapDelete, &[at(self.owner.task.cap)]);
                Regs::op(Op::Withdraw, &[Target::new(self.l.s.group, Will::INDEX).0])
            }
            Ends::WithItsMemory => Regs::op(Op::UntypedReset, &[self.memory.arg()]),
            Ends::ByAFault => return Why::Fault(Fault { vector: 14, error: 4, address: 0x10 }),
        };
        if how != Ends::ByItsProcess {
            self.l.s.w.summon(0);
        }
        assert!(how != Ends::ByItsProcess || self.l.s.w.runs(0, &self.sibling));
        self.l.s.w.prepare(0, regs);
        Why::SystemCall
    }

    /// The heir asks for the lock. Returns what it is told, if the owner runs.
    fn asks(w: &mut World, heir: &Tcb, owner: &Tcb, word: LockWord) -> Option<Error> {
        w.does(heir, wait_for(0, word).flag(abi::FLAG_NONBLOCK));
        w.result(heir).error().filter(|_| w.runs(2, owner))
    }
}

/// An owner is ended while it runs on another CPU, which does not take its mail yet. Wherever the
/// end stands, who asks for the lock is not told that the owner has died.
#[test]
fn an_owner_that_still_runs_has_its_locks_however_it_is_ended() {
    let ways = [
        Ends::Killed,
        Ends::WithItsProcess,
        Ends::ByItsProcess,
        Ends::WithItsSpace,
        Ends::Withdrawn,
        Ends::WithItsMemory,
        Ends::ByAFault,
    ];
    for how in ways {
        for point in 0.. {
            let mut it = Will::new();
            let (heir, owner, word) = (it.heir.task, it.owner.task, it.owner.word().with_waits());
            assert_eq!(Will::asks(&mut it.l.s.w, &heir, &owner, word), Some(Error::WouldBlock));
            let why = it.end(how);
            let mut points = 0..;
            let here = move |_: smp::chaos::Point| points.next() == Some(point);
            let mut told = Vec::new();
            let w = &mut it.l.s.w;
            let torn = w.tear(0, why, here, |w| told.extend(Will::asks(w, &heir, &owner, word)));
            // Whatever comes next on the other CPUs.
            told.extend(Will::asks(w, &heir, &owner, word));
            for _ in 0..STEPS {
                let moved = w.step(0) || w.step(1);
                told.extend(Will::asks(w, &heir, &owner, word));
                if !moved {
                    break;
                }
            }
            assert!(!told.contains(&Error::OwnerDied), "{how:?}, point {point}: {told:?}");
            assert!(told.contains(&Error::WouldBlock), "{how:?}: the owner does not run");
            w.run();
            assert!(!w.runs(2, &owner), "{how:?}, point {point}");
            w.does(&heir, wait_for(0, word));
            assert_eq!(w.result(&heir).error(), Some(Error::OwnerDied), "{how:?}, point {point}");
            if !torn {
                assert!(point > 0, "{how:?}: there is no such point");
                break;
            }
        }
    }
}

/// A group ends, and its owner's exposure with it. The owner lives.
#[test]
fn an_owner_whose_group_ends_is_not_dead() {
    for point in 0.. {
        let mut it = Will::new();
        let (heir, owner, word) = (it.heir.task, it.owner.task, it.owner.word().with_waits());
        let (group, cnode) = (it.l.s.group, it.l.s.process.cnode);
        let w = &mut it.l.s.w;
        // The heir's capability is the last one.
        w.must(0, Op::CapDelete, &[Target::new(it.home.cnode, GROUP.0).0]);
        w.must(0, Op::CapDelete, &[at(group)]);
        let mut points = 0..;
        let here = move |_: smp::chaos::Point| points.next() == Some(point);
        let mut told = None;
        let end = Regs::op(Op::CapDelete, &[Target::new(cnode, GROUP.0).0]);
        let torn = w.torn_where(0, end, here, |w| told = Will::asks(w, &heir, &owner, word));
        assert_ne!(told, Some(Error::OwnerDied), "point {point}");
        w.finish(0);
        if !torn {
            assert!(point > 0, "there is no such point");
            break;
        }
    }
}

/// A revoke of a task's own capability takes its exposures, and nothing else of it.
#[test]
fn a_revoke_of_the_owners_capability_lets_it_live() {
    let mut it = Will::new();
    let word = it.owner.word().with_waits();
    it.l.s.w.must(0, Op::CapRevoke, &[at(it.owner.task.cap)]);
    it.l.s.w.run();
    assert!(it.l.s.w.runs(2, &it.owner.task));
    it.l.s.w.does(&it.heir.task, wait_for(0, word));
    assert_eq!(it.l.error(&it.heir), Some(Error::OwnerDied), "it has left");
}
