//! Bits that come from another CPU: the short way for bits that come alone and the general one
//! lead to the same answers.

use abi::{Cap, FLAG_DEADLINE, FLAG_NOTIFICATION, MsgInfo, ObjType, Op};
use kern_base::task::State;

use crate::scene::Scene;
use crate::world::make::CONTROL;
use crate::world::{Regs, Tcb};

/// The listener's CPU, and the one from which bits come.
const HERE: usize = 0;
const AFAR: usize = 1;
/// Where the sender's process has the listener's Notification, and another one of that CPU.
const TOLD: Cap = Cap(40);
const OTHER: Cap = Cap(41);
const LISTENER: u64 = 100;
const BITS: u64 = 0b101;

/// How a task listens when bits come from another CPU, and what they find there.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// The task receives, with the Notification bound to it. It waits for bits otherwise.
    receives: bool,
    /// The wait ends at a time.
    timed: bool,
    /// The task's time has a budget.
    budget: bool,
    /// Other bits come at the same time, for which nobody waits.
    company: bool,
    /// The priority of the program that runs there, if one does.
    program: Option<u64>,
}

impl Case {
    fn all() -> impl Iterator<Item = Case> {
        [None, Some(LISTENER - 1), Some(LISTENER), Some(LISTENER + 1)].into_iter().flat_map(|program| {
            (0..1 << 4).map(move |bits| {
                let has = |bit: u32| bits & 1 << bit != 0;
                Case { receives: has(0), timed: has(1), budget: has(2), company: has(3), program }
            })
        })
    }

    /// Returns the task, and the Notification.
    fn listen(&self, s: &mut Scene) -> (Tcb, Cap) {
        let (listener, _) = s.running(HERE, LISTENER);
        if self.budget {
            let settings = [CONTROL, listener.sc.arg(), LISTENER, 50_000, 100_000, 1_000_000];
            s.w.must(HERE, Op::SchedConfigure, &settings);
        }
        let note = s.w.make(HERE, ObjType::Notification, 0);
        s.w.give(note, s.process, TOLD);
        if self.receives {
            s.w.must(HERE, Op::NotificationBind, &[note.arg(), listener.cap.arg()]);
        }
        let (op, cap) = if self.receives { (Op::Recv, Cap(0)) } else { (Op::Wait, TOLD) };
        let (flags, until) = if self.timed { (FLAG_DEADLINE, s.w.now() + 1_000_000) } else { (0, 0) };
        let mut regs = Regs::op(op, &[cap.arg(), until]);
        regs.rax |= flags;
        s.w.does_and_run(&listener, regs);
        (listener, note)
    }
}

#[test]
fn bits_say_the_same_however_they_come() {
    for case in Case::all() {
        let mut s = Scene::new(2);
        let (process, sender) = s.somebody(AFAR, 50);
        let other = s.w.make(HERE, ObjType::Notification, 0);
        s.w.give(other, process, OTHER);
        let (listener, note) = case.listen(&mut s);
        s.w.give(note, process, TOLD);
        let program = case.program.map(|priority| s.running(HERE, priority).0);
        s.w.run();
        assert!(!listener.is_through(), "{case:?}");
        if case.company {
            s.w.does(&sender, Regs::op(Op::Notify, &[OTHER.arg(), 1]));
        }
        s.w.does(&sender, Regs::op(Op::Notify, &[TOLD.arg(), BITS]));
        s.w.run();
        let is_first = case.program.is_none_or(|priority| priority < LISTENER);
        assert_eq!(s.w.runs(HERE, &listener), is_first, "{case:?}");
        if let Some(program) = program {
            if !is_first {
                s.w.does_and_run(&program, Regs::op(Op::Recv, &[]));
                assert!(s.w.runs(HERE, &listener), "{case:?}");
            } else {
                assert_eq!(program.state(), State::Ready, "{case:?}: it keeps its turn");
            }
        }
        let found = s.w.result(&listener);
        let info = MsgInfo(if case.receives { FLAG_NOTIFICATION } else { 0 });
        assert_eq!((found.rax, found.rdx), (info.0, BITS), "{case:?}");
        // Once.
        s.w.does_and_run(&listener, Regs::op(Op::Recv, &[]));
        assert!(!s.w.runs(HERE, &listener), "{case:?}");
    }
}
