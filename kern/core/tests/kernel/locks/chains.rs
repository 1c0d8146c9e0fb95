//! Owners that wait for locks themselves: cycles, and how far a wait follows.

use super::*;

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
