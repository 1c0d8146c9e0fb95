//! Groups, case by case.

use abi::{Error, Op, Target};

use crate::scene::{GROUP, Scene, call};
use crate::world::Regs;

/// How an exposure with one task per CPU is asked for: its entries start at `first`.
fn per_cpu(first: u64) -> u64 {
    1 | first << 32
}

#[test]
fn a_refused_exposure_per_cpu_changes_nothing() {
    let mut s = Scene::new(2);
    let (task, _) = s.running(1, 10);
    let head = Target::new(s.group, 8).0;
    let fresh = s.w.make(0, abi::ObjType::Task, 0);
    let refused = s.w.ask(0, Op::Expose, &[head, fresh.arg(), per_cpu(10)]);
    assert_eq!(refused.map_err(|e| e.0), Err(Error::BadState), "a task that is not configured");
    s.w.must(0, Op::Expose, &[Target::new(s.group, 13).0, task.cap.arg(), 0]);
    let refused = s.w.ask(0, Op::Expose, &[head, task.cap.arg(), per_cpu(12)]);
    assert_eq!(refused.map_err(|e| e.0), Err(Error::SlotOccupied), "its entry of CPU 1 has a task");
    // The head is as free as before: for one task.
    s.w.must(0, Op::Expose, &[head, task.cap.arg(), 0]);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    s.w.does_and_run(&client, call(Target::new(GROUP, 8)));
    assert!(s.w.runs(1, &task), "it is found there");
}
