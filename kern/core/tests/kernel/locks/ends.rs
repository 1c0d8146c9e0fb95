//! What a wait for a lock needs, and owners that are ended.

use super::*;

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
