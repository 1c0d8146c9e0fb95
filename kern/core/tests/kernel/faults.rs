//! Faults as calls, case by case.

use abi::{
    Cap, Error, FLAG_FAULT, FaultAnswer, FaultKind, ObjType, Op, REG_COUNT, RFLAGS_RESUME, RFLAGS_TRAP,
    RegIndex, Target, USER_TOP,
};
use core::sync::atomic::Ordering::Relaxed;
use kern_base::task::State;
use kern_core::ipc::faults::Fault;

use crate::scene::{GROUP, Scene, call};
use crate::world::make::{CONTROL, Proc, at};
use crate::world::{AFTER, Regs, Tcb};

const AT: u64 = 0xdead_b000;
const PAGE_FAULT: Fault = Fault { vector: 14, error: 6, address: AT };

/// The answer to a fault.
fn verdict(op: Op, answer: FaultAnswer, rip: u64) -> Regs {
    let mut regs = Regs::message(op, Target(0), [0, rip, 0, 0]);
    regs.rax |= u64::from(answer.label()) << 32;
    regs
}

fn bulk(task: &Tcb) -> [u64; REG_COUNT] {
    core::array::from_fn(|i| task.object.get().utcb(task.pin()).bulk[i].load(Relaxed))
}

fn write_bulk(task: &Tcb, register: RegIndex, value: u64) {
    task.object.get().utcb(task.pin()).bulk[register as usize].store(value, Relaxed);
}

impl Scene {
    /// Makes the task that is exposed there handle the faults of the process.
    fn handles(&mut self, target: Target) {
        let process = self.process.process;
        self.w.must(0, Op::FaultHandler, &[process.arg(), target.0]);
    }

    /// A task faults, and everything follows.
    fn faults(&mut self, task: &Tcb) {
        self.w.fault_with(task.home(), PAGE_FAULT);
        self.w.run();
    }

    /// The process is gone, for this reason.
    fn torn_down(&mut self, task: &Tcb, why: Option<Error>) {
        self.w.run();
        let ends = self.w.take_fault_ends();
        let said: Vec<_> = ends.iter().map(|end| (end.task, end.why, end.address, end.vector)).collect();
        assert_eq!(said, [(task.id, why, AT, 14)]);
        assert_eq!(task.state(), State::Dead);
    }
}

/// A task on CPU 0 that has faulted, with a handler of another process on CPU `n`.
fn faulted(n: usize) -> (Scene, Tcb, Tcb) {
    let (s, task, handler, _) = faulted_with(n);
    (s, task, handler)
}

/// Makes a scene with a faulted task, and returns the handler's process, too.
fn faulted_with(n: usize) -> (Scene, Tcb, Tcb, Proc) {
    let mut s = Scene::new(2);
    let other = s.w.process();
    let handler = s.w.start(other, n, 20);
    s.w.expose(s.group, 9, handler.cap);
    s.handles(Target::new(GROUP, 9));
    s.w.does_and_run(&handler, Regs::op(Op::Recv, &[]));
    let (task, _) = s.running(0, 10);
    let regs = &task.hot().regs;
    for (register, value) in [(&regs.rbx, 0xb), (&regs.r15, 0xf), (&regs.rsp, 0x7000_0000), (&regs.fs, 0xf5)]
    {
        register.set(value);
    }
    task.object.get().utcb(task.pin()).msg[0].store(77, Relaxed);
    s.faults(&task);
    (s, task, handler, other)
}

#[test]
fn a_handler_sees_all_and_lets_it_go_on() {
    for n in [0, 1] {
        let (mut s, task, handler) = faulted(n);
        let got = s.w.result(&handler);
        assert!(got.info().has(FLAG_FAULT), "it is told that this is a fault");
        assert_eq!(got.info().label(), FaultKind::Page.label());
        assert_eq!(got.msg(), [AT, AFTER, 14 << 32 | 6, 0x7000_0000]);
        assert_eq!((got.sender(), got.rdi), (task.id, 9));
        let shown = bulk(&handler);
        let seen = [RegIndex::Rbx, RegIndex::R15, RegIndex::Rsp, RegIndex::FsBase, RegIndex::Rip];
        assert_eq!(seen.map(|r| shown[r as usize]), [0xb, 0xf, 0x7000_0000, 0xf5, AFTER]);
        assert!(s.w.runs(n, &handler), "at once, with the time of the task that faulted");
        s.w.does_and_run(&handler, verdict(Op::ReplyRecv, FaultAnswer::ResumeAt, 0x1234));
        assert!(s.w.runs(0, &task), "it goes on");
        let regs = &task.hot().regs;
        assert_eq!((regs.rip.get(), regs.rbx.get(), regs.r15.get()), (0x1234, 0xb, 0xf));
        let word = &task.object.get().utcb(task.pin()).msg[0];
        assert_eq!(word.load(Relaxed), 77, "its own UTCB is left alone");
        assert_eq!(handler.state(), State::Recv);
    }
}

#[test]
fn a_task_and_its_handler_move_when_the_fault_is_answered() {
    for n in [0, 1] {
        let (mut s, task, handler) = faulted(n);
        for moves in [&task, &handler] {
            let later = s.w.must(0, Op::TaskMove, &[CONTROL, moves.cap.arg(), 1 - moves.home() as u64]);
            s.w.run();
            assert_eq!((later.rdi, handler.home()), (1, n));
        }
        s.w.does_and_run(&handler, verdict(Op::ReplyRecv, FaultAnswer::ResumeAt, 0x1234));
        assert!(s.w.runs(1, &task) && task.hot().regs.rip.get() == 0x1234);
        assert_eq!((handler.home(), handler.state()), (1 - n, State::Recv));
    }
}

#[test]
fn a_handler_changes_registers() {
    for n in [0, 1] {
        let (mut s, task, handler) = faulted(n);
        write_bulk(&handler, RegIndex::Rip, USER_TOP);
        for (answer, error) in
            [(FaultAnswer::Registers, Error::BadAddress), (FaultAnswer::ResumeAt, Error::BadAddress)]
        {
            s.w.does_and_run(&handler, verdict(Op::ReplyRecv, answer, USER_TOP));
            let told = s.w.result(&handler);
            assert_eq!((told.error(), told.rdi), (Some(error), RegIndex::Rip as u64));
        }
        let mut nonsense = verdict(Op::Reply, FaultAnswer::Resume, 0);
        nonsense.rax |= 99 << 32;
        s.w.does_and_run(&handler, nonsense);
        assert_eq!(s.w.result(&handler).error(), Some(Error::BadArgument));
        assert_eq!(task.hot().regs.rip.get(), AFTER, "nothing was done by any of these");
        for (register, value) in [
            (RegIndex::Rip, 0x40_2000),
            (RegIndex::Rbx, 0xbb),
            (RegIndex::Rflags, u64::MAX),
            (RegIndex::GsBase, 0x6500),
        ] {
            write_bulk(&handler, register, value);
        }
        s.w.does_and_run(&handler, verdict(Op::Reply, FaultAnswer::Registers, 0));
        assert_eq!(s.w.result(&handler).error(), None);
        let regs = &task.hot().regs;
        assert_eq!((regs.rip.get(), regs.rbx.get(), task.hot().gs_base.get()), (0x40_2000, 0xbb, 0x6500));
        assert_eq!(regs.rflags.get() & 0x2_7000, 0, "no privilege comes with it");
        s.w.does_and_run(&handler, Regs::op(Op::Recv, &[]));
        assert!(s.w.runs(0, &task));
    }
}

#[test]
fn a_busy_handler_finds_the_fault_later() {
    for n in [0, 1] {
        let mut s = Scene::new(2);
        let (handler, target) = s.running(n, 20);
        s.handles(target);
        let (task, _) = s.running(0, 30);
        task.hot().regs.rbx.set(0xb);
        s.faults(&task);
        assert!(matches!(task.state(), State::Sending | State::AwaitRemote));
        s.w.does_and_run(&handler, Regs::op(Op::Recv, &[]));
        assert_eq!(s.w.result(&handler).rdx, AT);
        assert_eq!(bulk(&handler)[RegIndex::Rbx as usize], 0xb);
        s.w.does_and_run(&handler, verdict(Op::ReplyRecv, FaultAnswer::Resume, 0));
        assert!(s.w.runs(0, &task));
    }
}

#[test]
fn without_a_handler_the_process_ends() {
    let mut s = Scene::new(1);
    let (task, target) = s.running(0, 10);
    s.faults(&task);
    s.torn_down(&task, None);

    let mut s = Scene::new(1);
    let (task, own) = s.running(0, 10);
    s.handles(own);
    s.faults(&task);
    s.torn_down(&task, Some(Error::SelfCall));

    for (handler, why) in [
        (Target::new(Cap(60), 1), Error::NoCapability),
        (Target::new(GROUP, 15), Error::NoExposure),
        (Target::new(GROUP, 99), Error::NoExposure),
        (target, Error::Dead),
    ] {
        let mut s = Scene::new(1);
        let (dead, _) = s.running(0, 10);
        s.kill(&dead);
        let (task, _) = s.running(0, 10);
        s.handles(handler);
        s.faults(&task);
        s.torn_down(&task, Some(why));
    }
}

#[test]
fn a_fault_that_is_let_go_ends_the_process() {
    for n in [0, 1] {
        // The handler dies, while it serves the fault, or with the fault in its queue.
        for wait in [false, true] {
            let (mut s, task, handler) = faulted(n);
            let (second, _) = if wait { s.task(0, 30, true) } else { (task, Target(0)) };
            if wait {
                s.w.resume(&second);
                s.w.run();
                assert!(s.w.runs(0, &second));
                s.w.fault_with(0, PAGE_FAULT);
                s.w.run();
            }
            s.kill(&handler);
            s.w.run();
            let ends = s.w.take_fault_ends();
            assert!(!ends.is_empty() && ends.iter().all(|end| end.why == Some(Error::Dead)), "{ends:?}");
            assert_eq!((task.state(), second.state()), (State::Dead, State::Dead));
        }
        // It receives again.
        let (mut s, task, handler) = faulted(n);
        s.w.does(&handler, Regs::op(Op::Recv, &[]));
        s.torn_down(&task, Some(Error::Gone));
        assert_eq!(handler.state(), State::Recv);
        // What kept it is deleted.
        let (mut s, task, handler, other) = faulted_with(n);
        let reply = s.w.make(n, ObjType::Reply, 0);
        s.w.give(reply, other, Cap(7));
        s.w.does_and_run(&handler, Regs::op(Op::SaveReply, &[Cap(7).arg()]));
        assert_eq!(s.w.result(&handler).error(), None);
        s.w.must(0, Op::CapRevoke, &[at(reply)]);
        s.w.must(0, Op::CapDelete, &[at(reply)]);
        s.torn_down(&task, Some(Error::Gone));
    }
}

#[test]
fn a_handler_ends_task_or_process() {
    for n in [0, 1] {
        for answer in [FaultAnswer::Kill, FaultAnswer::TearDown] {
            let (mut s, task, handler) = faulted(n);
            let (other, _) = s.task(0, 5, true);
            s.w.does_and_run(&handler, verdict(Op::ReplyRecv, answer, 0));
            assert_eq!(task.state(), State::Dead);
            assert_eq!(other.state() == State::Dead, answer == FaultAnswer::TearDown);
            assert_eq!(handler.state(), State::Recv);
            assert!(s.w.take_fault_ends().is_empty(), "that was no failure");
        }
    }
}

#[test]
fn a_handler_may_end_its_own_process() {
    let mut s = Scene::new(1);
    let (handler, target) = s.server(0, 20);
    s.handles(target);
    let (task, _) = s.running(0, 10);
    s.faults(&task);
    s.w.does_and_run(&handler, verdict(Op::ReplyRecv, FaultAnswer::TearDown, 0));
    assert_eq!((task.state(), handler.state()), (State::Dead, State::Dead));
}

#[test]
fn who_may_suspend_a_task_may_not_end_its_fault() {
    for n in [0, 1] {
        let (mut s, task, handler) = faulted(n);
        s.w.must(0, Op::TaskCancel, &[task.cap.arg()]);
        s.w.run();
        assert!(matches!(task.state(), State::Await | State::AwaitRemote), "it still waits");
        s.w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
        let read = s.w.must(0, Op::TaskReadRegs, &[task.cap.arg()]);
        assert_eq!(read.rdi, task.state() as u64);
        assert_eq!(s.w.ask(0, Op::TaskWriteRegs, &[task.cap.arg()]), Err((Error::BadState, 0)));
        s.w.does_and_run(&handler, verdict(Op::ReplyRecv, FaultAnswer::ResumeAt, 0x1234));
        assert_eq!(task.state(), State::Ready);
        assert!(!s.w.runs(0, &task), "it is suspended");
        s.w.resume(&task);
        assert!(s.w.runs(0, &task));
        assert_eq!(task.hot().regs.rip.get(), 0x1234);
    }
}

#[test]
fn a_killed_faulter_leaves_nothing_behind() {
    for n in [0, 1] {
        let (mut s, task, handler) = faulted(n);
        s.kill(&task);
        assert_eq!(task.state(), State::Dead);
        s.w.does_and_run(&handler, verdict(Op::Reply, FaultAnswer::Registers, 0));
        assert_eq!(s.w.result(&handler).error(), Some(Error::Gone));
    }
}

#[test]
fn a_fault_is_forwarded_and_kept() {
    for (n, m) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (mut s, task, relay, other) = faulted_with(n);
        let (last, _) = s.server(m, 15);
        let second = s.w.group(2, 2);
        s.w.join_all(second, other, Cap(6));
        s.w.expose(second, 0, last.cap);
        s.w.does_and_run(&relay, Regs::message(Op::Forward, Target::new(Cap(6), 0), [1, 2, 3, 4]).words(3));
        assert_eq!(s.w.result(&relay).error(), None);
        s.w.does_and_run(&relay, Regs::op(Op::Recv, &[]));
        let got = s.w.result(&last);
        assert!(got.info().has(FLAG_FAULT) && got.info().words() == 0);
        assert_eq!((got.msg(), got.sender()), ([1, 2, 3, 4], task.id));
        assert_eq!(bulk(&last)[RegIndex::Rbx as usize], 0xb);
        let reply = s.w.make(m, ObjType::Reply, 0);
        let process = s.process;
        s.w.give(reply, process, Cap(8));
        s.w.does_and_run(&last, Regs::op(Op::SaveReply, &[Cap(8).arg()]));
        let mut wrong = verdict(Op::Reply, FaultAnswer::ResumeAt, USER_TOP);
        wrong.rdi = Cap(8).arg();
        s.w.does_and_run(&last, wrong);
        assert_eq!(s.w.result(&last).error(), Some(Error::BadAddress));
        let mut right = verdict(Op::Reply, FaultAnswer::ResumeAt, 0x1234);
        right.rdi = Cap(8).arg();
        s.w.does_and_run(&last, right);
        assert_eq!(s.w.result(&last).error(), None);
        s.w.does_and_run(&last, Regs::op(Op::Recv, &[]));
        assert_eq!((task.hot().regs.rip.get(), task.state()), (0x1234, State::Ready));
    }
}

#[test]
fn a_tasks_own_handler_goes_before_that_of_its_process() {
    let mut s = Scene::new(1);
    let (first, first_target) = s.server(0, 20);
    let (second, second_target) = s.server(0, 20);
    s.handles(first_target);
    let (task, _) = s.running(0, 10);
    s.w.must(0, Op::FaultHandler, &[task.cap.arg(), second_target.0]);
    s.faults(&task);
    assert_eq!(s.w.result(&second).rdx, AT);
    // The handler's own fault goes to the handler of the process.
    s.w.fault_with(0, Fault { vector: 6, error: 0, address: 0 });
    assert_eq!(s.w.result(&first).info().label(), FaultKind::Instruction.label());
    s.w.does_and_run(&first, verdict(Op::ReplyRecv, FaultAnswer::ResumeAt, AFTER));
    s.w.does_and_run(&second, verdict(Op::ReplyRecv, FaultAnswer::Resume, 0));
    s.w.must(0, Op::FaultHandler, &[task.cap.arg(), 0]);
    s.faults(&task);
    assert_eq!(s.w.result(&first).rdx, AT);
}

#[test]
fn a_server_that_faults_keeps_its_callers() {
    let mut s = Scene::new(1);
    let (handler, target) = s.server(0, 30);
    s.handles(target);
    let (server, server_target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(server_target));
    s.faults(&server);
    assert!(s.w.runs(0, &handler), "on the client's time");
    s.w.does_and_run(&handler, verdict(Op::ReplyRecv, FaultAnswer::ResumeAt, AFTER));
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [9; 4]));
    assert_eq!(s.w.result(&client).msg(), [9; 4]);
}

#[test]
fn kinds_say_what_happened() {
    let kinds = [
        (Fault { vector: 0, error: 0, address: 0 }, FaultKind::Divide),
        (Fault { vector: 1, error: 0, address: 1 << 14 }, FaultKind::Step),
        (Fault { vector: 1, error: 0, address: 1 << 14 | 2 }, FaultKind::Watch),
        (Fault { vector: 1, error: 0, address: 0 }, FaultKind::Other),
        (Fault { vector: 3, error: 0, address: 0 }, FaultKind::Breakpoint),
        (Fault { vector: 6, error: 0, address: 0 }, FaultKind::Instruction),
        (Fault { vector: 7, error: 0, address: 0 }, FaultKind::NoVector),
        (Fault { vector: 12, error: 0, address: 0 }, FaultKind::Protection),
        (Fault { vector: 13, error: 0, address: 0 }, FaultKind::Protection),
        (Fault { vector: 14, error: 6, address: 0x7000_0000 - 8 }, FaultKind::StackOverflow),
        (Fault { vector: 14, error: 6, address: 0x7000_0000 - 0x1000 }, FaultKind::StackOverflow),
        (Fault { vector: 14, error: 6, address: 0x7000_0000 - 0x1001 }, FaultKind::Page),
        (Fault { vector: 14, error: 4, address: 0x7000_0fff }, FaultKind::StackOverflow),
        (Fault { vector: 14, error: 4, address: 0x7000_1000 }, FaultKind::Page),
        (Fault { vector: 14, error: 7, address: 0x7000_0000 - 8 }, FaultKind::Page),
        (Fault { vector: 16, error: 0, address: 0 }, FaultKind::Float),
        (Fault { vector: 17, error: 0, address: 0 }, FaultKind::Alignment),
        (Fault { vector: 19, error: 0, address: 0 }, FaultKind::Float),
        (Fault { vector: 21, error: 0, address: 0 }, FaultKind::Other),
    ];
    let (mut s, task, handler) = faulted(0);
    for (fault, kind) in kinds {
        s.w.does_and_run(&handler, verdict(Op::ReplyRecv, FaultAnswer::ResumeAt, AFTER));
        task.hot().regs.rsp.set(0x7000_0000);
        s.w.fault_with(0, fault);
        assert_eq!(s.w.result(&handler).info().label(), kind.label(), "{fault:x?}");
    }
}

#[test]
fn steps_and_breakpoints() {
    let (mut s, task, handler) = faulted(0);
    s.w.does_and_run(&handler, verdict(Op::ReplyRecv, FaultAnswer::Step, 0));
    let flags = || task.hot().regs.rflags.get();
    assert_eq!(flags() & RFLAGS_TRAP, RFLAGS_TRAP);
    s.w.fault_with(0, Fault { vector: 1, error: 0, address: 1 << 14 });
    assert_eq!(flags() & RFLAGS_TRAP, 0, "a step is one instruction");
    s.w.does_and_run(&handler, verdict(Op::ReplyRecv, FaultAnswer::Resume, 0));
    assert_eq!(flags() & (RFLAGS_TRAP | RFLAGS_RESUME), 0);
    // DR1 on execution, DR2 on writes of eight bytes.
    let dr7 = 1 << 2 | 1 << 4 | 0b1001 << 24;
    s.w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
    s.w.must(0, Op::TaskDebug, &[task.cap.arg(), 0, 0x1001, 0x2008, 0, dr7]);
    s.w.resume(&task);
    s.w.fault_with(0, Fault { vector: 1, error: 0, address: 1 << 2 });
    assert_eq!(flags() & RFLAGS_RESUME, 0, "data was accessed already");
    s.w.does_and_run(&handler, verdict(Op::ReplyRecv, FaultAnswer::ResumeAt, AFTER));
    s.w.fault_with(0, Fault { vector: 1, error: 0, address: 1 << 1 });
    assert_eq!(flags() & RFLAGS_RESUME, RFLAGS_RESUME, "it gets past the instruction");
}

#[test]
fn debug_registers_are_checked_and_keep_the_fastpath_away() {
    let mut s = Scene::new(2);
    let (task, _) = s.running(0, 10);
    let cap = task.cap.arg();
    assert_eq!(s.w.ask(0, Op::TaskDebug, &[cap, 0, 0, 0, 0, 0]), Err((Error::BadState, 0)), "it runs");
    s.w.must(0, Op::TaskSuspend, &[cap]);
    let on_write = |length: u64| 1 | (length << 2 | 1) << 16;
    for (addresses, dr7, refusal) in [
        ([USER_TOP, 0, 0, 0], 0, (Error::BadAddress, 0)),
        ([0, 0, 0, u64::MAX], 0, (Error::BadAddress, 3)),
        ([0x1000; 4], 1 << 13, (Error::BadArgument, 5)),
        ([0x1000; 4], 1 << 32, (Error::BadArgument, 5)),
        ([0x1000; 4], 1 << 11, (Error::BadArgument, 5)),
        ([0x1000; 4], 1 | 0b0010 << 16, (Error::BadArgument, 5)),
        ([0x1000; 4], 1 | 0b0100 << 16, (Error::BadArgument, 5)),
        ([0x1001; 4], on_write(1), (Error::BadArgument, 5)),
        ([0x1002; 4], on_write(3), (Error::BadArgument, 5)),
        ([0x1004; 4], on_write(2), (Error::BadArgument, 5)),
    ] {
        let [a, b, c, d] = addresses;
        assert_eq!(s.w.ask(0, Op::TaskDebug, &[cap, a, b, c, d, dr7]), Err(refusal), "{dr7:#x}");
    }
    let halves = |s: &Scene| {
        let hot = &s.w.look(0).cpu.own().hot;
        [&hot.recv_half, &hot.await_half, &hot.plain_half, &hot.recv_vector_half, &hot.await_vector_half]
            .map(|half| half.get())
    };
    let (other, _) = s.running(0, 10);
    assert!(s.w.runs(0, &other));
    let plain = halves(&s);
    s.w.must(0, Op::TaskSuspend, &[other.cap.arg()]);
    s.w.must(0, Op::TaskDebug, &[cap, 0x1008, 0, 0, 0, on_write(2)]);
    s.w.resume(&task);
    assert!(s.w.runs(0, &task));
    let watched = halves(&s);
    assert!(
        plain.iter().zip(watched).all(|(a, b)| *a != b),
        "nobody is as such a task expects: {watched:x?}"
    );
    s.w.must(0, Op::TaskSuspend, &[cap]);
    s.w.resume(&other);
    assert_eq!(halves(&s), plain, "and all as before when another runs");
    s.w.must(0, Op::TaskDebug, &[cap, 0x1008, 0, 0, 0, 0]);
    assert!(task.hot().debug().iter().all(|register| register.get() == 0));
    s.w.must(0, Op::TaskSuspend, &[other.cap.arg()]);
    s.w.resume(&task);
    assert_eq!(halves(&s), plain, "a task without breakpoints is as any other");
}
