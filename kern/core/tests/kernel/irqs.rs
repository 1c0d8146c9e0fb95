//! Interrupts of devices and I/O ports: who gets them, where interrupts arrive, and how they end.

use abi::devices::{CPU_LINES, FIRST_MSI, LINES, line};
use abi::{Cap, Counter, Error, FLAG_NOTIFICATION, MsgInfo, ObjType, Op};
use kern_base::sched_context::SchedContext;

use crate::scene::Scene;
use crate::world::make::{CONTROL, at};
use crate::world::{Regs, Tcb};

const LINE: u64 = 9;
const BITS: u64 = 0b101;
const NOT_COVERED: (Error, u64) = (Error::OverLimit, u64::MAX);

/// Makes an IrqHandler with a line.
fn handler(s: &mut Scene, line: u64) -> Cap {
    let irq = s.w.make(0, ObjType::IrqHandler, 0);
    s.w.must(0, Op::IrqAllow, &[abi::INIT_MACHINE.arg(), irq.arg(), line, 0]);
    irq
}

fn allow(s: &mut Scene, irq: Cap, line: u64, how: u64) -> Result<(), (Error, u64)> {
    s.w.ask(0, Op::IrqAllow, &[abi::INIT_MACHINE.arg(), irq.arg(), line, how]).map(drop)
}

fn bind(s: &mut Scene, irq: Cap, to: Cap, cpu: u64) -> Result<(), (Error, u64)> {
    s.w.ask(0, Op::IrqBind, &[CONTROL, irq.arg(), to.arg(), BITS, cpu]).map(drop)
}

fn ack(s: &mut Scene, irq: Cap) -> Result<(), (Error, u64)> {
    s.w.ask(0, Op::IrqAck, &[irq.arg()]).map(drop)
}

/// A driver on CPU `n`: a task that waits for bits of a Notification of its own.
fn driver(s: &mut Scene, n: usize, priority: u64) -> (Tcb, Cap) {
    let task = s.running(n, priority).0;
    let note = s.w.make(n, ObjType::Notification, 0);
    // A slot of its own, also beside those of other drivers.
    let own = Cap(20 + note.0 % 40);
    s.w.give(note, s.process, own);
    s.w.does_and_run(&task, Regs::op(Op::Wait, &[own.arg()]));
    (task, note)
}

/// A driver on CPU 0 whose interrupts arrive at CPU `cpu`, and its IrqHandler, open.
fn driven(s: &mut Scene, priority: u64, cpu: u64) -> (Tcb, Cap) {
    let (task, note) = driver(s, 0, priority);
    let irq = handler(s, LINE);
    bind(s, irq, note, cpu).expect("it has a line");
    ack(s, irq).expect("it is bound");
    (task, irq)
}

#[test]
fn a_line_is_given_once() {
    let mut s = Scene::new(1);
    let (irq, other) = (s.w.make(0, ObjType::IrqHandler, 0), s.w.make(0, ObjType::IrqHandler, 0));
    assert_eq!(allow(&mut s, irq, 24, 0), Err((Error::BadArgument, 2)), "there is no such line");
    assert_eq!(allow(&mut s, irq, u64::MAX, 0), Err((Error::BadArgument, 2)));
    assert_eq!(allow(&mut s, irq, LINE, line::ALL + 1), Err((Error::BadArgument, 3)));
    assert_eq!(allow(&mut s, irq, LINE, line::ALL), Ok(()));
    assert_eq!(allow(&mut s, irq, LINE + 1, 0), Err((Error::BadState, 0)), "it has one");
    assert_eq!(allow(&mut s, other, LINE, 0), Err((Error::InUse, 0)));
    s.delete(irq);
    assert_eq!(allow(&mut s, other, LINE, 0), Ok(()), "the line is free again");
}

#[test]
fn an_interrupt_wakes_the_driver_once_for_each_time_it_asks() {
    for (n, cpu) in [(1, 0), (2, 1)] {
        let mut s = Scene::new(n);
        let (task, irq) = driven(&mut s, 20, cpu);
        assert!(s.w.signal(LINE as u32));
        s.w.run();
        assert!(s.w.runs(0, &task), "{n} CPUs: the driver runs");
        assert_eq!(s.w.result(&task).rdx, BITS);
        assert!(!s.w.signal(LINE as u32), "the line is masked");
        ack(&mut s, irq).expect("nobody was interrupted");
        assert!(s.w.signal(LINE as u32));
    }
}

/// A driver that waits for bits, or for calls as well, wakes on an idle CPU and in place of a
/// program, on the short way and on the general one. Its answer is the same.
#[test]
fn a_driver_wakes_in_the_same_way_whatever_runs_and_however_it_waits() {
    for (fast, receives, busy) in (0..8).map(|n| (n & 1 != 0, n & 2 != 0, n & 4 != 0)) {
        let mut s = Scene::new(1);
        s.w.gate.fast = fast;
        let (task, note) = driver(&mut s, 0, 20);
        if receives {
            s.w.must(0, Op::TaskCancel, &[task.cap.arg()]);
            s.w.run();
            s.w.must(0, Op::NotificationBind, &[note.arg(), task.cap.arg()]);
            s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
        }
        let irq = handler(&mut s, LINE);
        bind(&mut s, irq, note, 0).expect("it has a line");
        ack(&mut s, irq).expect("it is bound");
        let hog = busy.then(|| s.running(0, 10).0);
        let before = s.w.gate.short.get();
        assert!(s.w.signal(LINE as u32));
        let case = format!("fast {fast}, receives {receives}, busy {busy}");
        assert_eq!(s.w.gate.short.get() > before, fast, "{case}");
        assert!(s.w.runs(0, &task), "{case}");
        let expected = MsgInfo(if receives { FLAG_NOTIFICATION } else { 0 });
        let found = s.w.result(&task);
        assert_eq!((MsgInfo(found.rax).0, found.rdx), (expected.0, BITS), "{case}");
        assert!(!s.w.signal(LINE as u32), "{case}: the line is masked");
        if let Some(hog) = hog {
            s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
            assert!(s.w.runs(0, &hog), "{case}: the program goes on");
        }
    }
}

/// A device that interrupts by a message: its line works as others do, and nobody can mask it.
#[test]
fn messages_interrupt() {
    const MESSAGE: u64 = FIRST_MSI as u64 + 5;
    let ask = |s: &mut Scene, line: u64| s.w.ask(0, Op::IrqAllow, &[abi::INIT_MACHINE.arg(), 0, line, 0]);
    let mut s = Scene::new(2);
    assert_eq!(ask(&mut s, LINE), Err((Error::BadArgument, 2)), "a line of a controller");
    assert_eq!(ask(&mut s, LINES.into()), Err((Error::BadArgument, 2)));
    assert_eq!(ask(&mut s, MESSAGE), Err((Error::BadState, 0)), "nobody has it");
    let (task, note) = driver(&mut s, 0, 20);
    let (irq, other) = (s.w.make(0, ObjType::IrqHandler, 0), s.w.make(0, ObjType::IrqHandler, 0));
    assert_eq!(allow(&mut s, irq, MESSAGE, line::LEVEL), Err((Error::BadArgument, 3)));
    assert_eq!(allow(&mut s, irq, MESSAGE, 0), Ok(()));
    assert_eq!(allow(&mut s, other, MESSAGE, 0), Err((Error::InUse, 0)));
    assert_eq!(ask(&mut s, MESSAGE), Err((Error::BadState, 0)), "it is bound nowhere");
    bind(&mut s, irq, note, 1).expect("it has a line");
    let told = ask(&mut s, MESSAGE).expect("it is bound");
    assert_eq!((told.rdi, told.rsi), (0xfee0_1000, 0), "the second CPU, the first place");
    for _ in 0..2 {
        // The driver has not asked for it.
        assert!(s.w.signal(MESSAGE as u32));
    }
    s.w.run();
    assert!(s.w.runs(0, &task), "the driver runs");
    assert_eq!(s.w.result(&task).rdx, BITS);
    s.w.must(0, Op::IrqBind, &[CONTROL, irq.arg(), 0, 0, 0]);
    s.w.message(told.rdi, told.rsi);
    assert_eq!(bind(&mut s, irq, note, 0), Err((Error::NoCpu, 2)), "the device writes to the other CPU");
    bind(&mut s, irq, note, 1).expect("where it was");
    assert_eq!(ask(&mut s, MESSAGE).expect("it is bound").rdi, told.rdi);
    s.delete(irq);
    // The device was not told that it is over.
    s.w.message(told.rdi, told.rsi);
    assert_eq!(ask(&mut s, MESSAGE), Err((Error::BadState, 0)));
    assert_eq!(allow(&mut s, other, MESSAGE, 0), Ok(()), "the line is free again");
}

/// Messages cannot be masked. They take time from the program on their CPU, but other devices do
/// not rest for it more than once.
#[test]
fn a_flood_of_messages_does_not_silence_other_devices() {
    let mut s = Scene::new(1);
    let (_, note) = driver(&mut s, 0, 20);
    let (_, other) = driver(&mut s, 0, 20);
    let (irq, wired) = (handler(&mut s, FIRST_MSI.into()), handler(&mut s, LINE));
    bind(&mut s, irq, note, 0).expect("it has a line");
    bind(&mut s, wired, other, 0).expect("it has a line");
    let hog = s.running(0, 90).0;
    s.w.k.machine.hardware().pace = 100;
    for _ in 0..1_000 {
        assert!(s.w.signal(FIRST_MSI));
    }
    assert!(s.w.runs(0, &hog));
    ack(&mut s, wired).expect("it was never here");
    assert!(s.w.signal(LINE as u32));
    s.w.k.machine.hardware().pace = 0;
    let Err((Error::WouldBlock, until)) = ack(&mut s, wired) else { panic!("it has taken time") };
    let rest = until - s.w.k.machine.hardware().now;
    assert!(rest < 1_000_000, "the line rests for {rest}");
}

#[test]
fn what_is_not_bound_is_masked() {
    let mut s = Scene::new(1);
    let (_, note) = driver(&mut s, 0, 20);
    let irq = s.w.make(0, ObjType::IrqHandler, 0);
    assert_eq!(bind(&mut s, irq, note, 0), Err((Error::BadState, 0)), "it has no line");
    assert_eq!(ack(&mut s, irq), Err((Error::BadState, 0)));
    allow(&mut s, irq, LINE, 0).expect("a free line");
    assert_eq!(ack(&mut s, irq), Err((Error::BadState, 0)), "it is not bound");
    bind(&mut s, irq, note, 0).expect("it has a line");
    assert!(!s.w.signal(LINE as u32), "the driver has not asked yet");
    ack(&mut s, irq).expect("it is bound");
    s.w.must(0, Op::IrqBind, &[CONTROL, irq.arg(), 0, 0, 0]);
    assert!(!s.w.signal(LINE as u32));
    assert_eq!(ack(&mut s, irq), Err((Error::BadState, 0)));
}

#[test]
fn arguments_are_checked() {
    let mut s = Scene::new(2);
    let (_, note) = driver(&mut s, 0, 20);
    let irq = handler(&mut s, LINE);
    let none = [CONTROL, irq.arg(), note.arg(), 0, 0];
    assert_eq!(s.w.ask(0, Op::IrqBind, &none).map(drop), Err((Error::BadArgument, 3)), "no bits");
    assert_eq!(bind(&mut s, irq, note, 2), Err((Error::NoCpu, 2)));
    let here = s.w.control_of(0, abi::INIT_UNTYPED, 9, 1);
    let there = [here.arg(), irq.arg(), note.arg(), BITS, 1];
    assert_eq!(s.w.ask(0, Op::IrqBind, &there).map(drop), Err(NOT_COVERED));
    bind(&mut s, irq, note, 1).expect("process 1 may use all CPUs");
    assert_eq!(bind(&mut s, irq, note, 0), Err((Error::InUse, 0)));
}

#[test]
fn a_cpu_that_no_line_can_interrupt_is_refused() {
    let far = crate::world::machine::FAR_CPU;
    let mut s = Scene::new(far + 1);
    let (_, note) = driver(&mut s, 0, 20);
    let irq = handler(&mut s, LINE);
    assert_eq!(bind(&mut s, irq, note, far as u64), Err((Error::NoCpu, far as u64 + 1)));
    assert_eq!(bind(&mut s, irq, note, 0), Ok(()));
}

#[test]
fn the_last_capability_takes_everything_back() {
    let mut s = Scene::new(2);
    let (task, irq) = driven(&mut s, 20, 1);
    s.delete(irq);
    assert!(!s.w.signal(LINE as u32));
    assert_eq!(s.w.wired(LINE as u32), None);
    assert!(!s.w.runs(0, &task));
    // All places of the CPU's table are free.
    let (_, note) = driver(&mut s, 0, 20);
    for n in 0..CPU_LINES.min(24) as u64 {
        let irq = handler(&mut s, n);
        assert_eq!(bind(&mut s, irq, note, 1), Ok(()), "line {n}");
    }
}

#[test]
fn when_the_notification_ends_the_line_stays_masked_and_can_be_bound_again() {
    let mut s = Scene::new(2);
    let (_, note) = driver(&mut s, 0, 20);
    let irq = handler(&mut s, LINE);
    bind(&mut s, irq, note, 0).expect("it has a line");
    ack(&mut s, irq).expect("it is bound");
    s.w.must(0, Op::CapRevoke, &[at(note)]);
    s.w.run();
    assert_eq!(ack(&mut s, irq), Err((Error::BadState, 0)));
    // It was open: the first interrupt masks it.
    assert!(s.w.signal(LINE as u32));
    assert!(!s.w.signal(LINE as u32));
    let (other, next) = driver(&mut s, 0, 20);
    bind(&mut s, irq, next, 1).expect("it is bound no more");
    ack(&mut s, irq).expect("it is bound");
    assert!(s.w.signal(LINE as u32));
    s.w.run();
    assert!(s.w.runs(0, &other));
}

#[test]
fn a_cpu_rests_from_interrupts_that_take_time_from_better_tasks() {
    for cpus in [1, 2] {
        let mut s = Scene::new(cpus);
        let (task, irq) = driven(&mut s, 20, cpus as u64 - 1);
        let (hog, _) = s.running(cpus - 1, 30);
        // Each look at the clock takes some time.
        s.w.k.machine.hardware().pace = 100;
        assert!(s.w.signal(LINE as u32));
        s.w.run();
        assert!(s.w.runs(cpus - 1, &hog), "it outranks the driver, or the driver is elsewhere");
        assert_eq!(s.w.runs(0, &task), cpus == 2);
        let agent = 0;
        let refused = s.w.ask(agent, Op::IrqAck, &[irq.arg()]).map(drop);
        let (error, until) = refused.expect_err("the CPU rests");
        assert_eq!(error, Error::WouldBlock);
        s.w.advance(until - s.w.now());
        assert_eq!(ack(&mut s, irq), Ok(()));
    }
}

/// An interrupt comes to another CPU than the driver's. The program there goes on without paying.
#[test]
fn a_program_goes_on_while_a_driver_elsewhere_is_told() {
    const PACE: u64 = 100;
    for fast in [false, true] {
        let mut s = Scene::new(2);
        s.w.gate.fast = fast;
        let (task, irq) = driven(&mut s, 20, 1);
        let (hog, _) = s.running(1, 10);
        s.w.k.machine.hardware().pace = PACE;
        let used = |s: &Scene| {
            let time = s.w.look(1).time();
            time.charge();
            let hog = s.w.object::<SchedContext>(hog.sc).and_then(|sc| time.open_time(sc)).expect("here");
            hog.state.consumed()
        };
        let excused = |s: &Scene| s.w.block(1).counters[Counter::InterruptTicks as usize].racy();
        let (short, before) = (s.w.gate.short.get(), (used(&s), excused(&s)));
        assert!(s.w.signal(LINE as u32));
        assert_eq!(s.w.gate.short.get() > short, fast);
        assert!(s.w.runs(1, &hog) && hog.is_through(), "fast {fast}: it goes on");
        let (paid, excused) = (used(&s) - before.0, excused(&s) - before.1);
        assert!(paid <= 5 * PACE, "fast {fast}: it pays {paid}");
        assert!(excused >= PACE, "fast {fast}: the CPU counts {excused}");
        s.w.run();
        assert!(s.w.runs(0, &task), "fast {fast}: the driver runs");
        assert_eq!(s.w.result(&task).rdx, BITS);
        assert_eq!(ack(&mut s, irq).expect_err("its CPU rests").0, Error::WouldBlock);
        assert!(!s.w.signal(LINE as u32), "fast {fast}: the line is masked");
    }
}

/// The devices of one CPU together take no more of it from a better task than one of them may.
#[test]
fn rests_from_several_devices_follow_each_other() {
    let mut s = Scene::new(1);
    let (_, note) = driver(&mut s, 0, 20);
    let irqs: Vec<Cap> = (0..4).map(|line| handler(&mut s, line)).collect();
    for irq in &irqs {
        bind(&mut s, *irq, note, 0).expect("it has a line");
        ack(&mut s, *irq).expect("it is bound");
    }
    let _hog = s.running(0, 30);
    s.w.k.machine.hardware().pace = 100;
    let began = s.w.now();
    (0..4).for_each(|line| assert!(s.w.signal(line)));
    let until = |s: &mut Scene, irq: Cap| ack(s, irq).expect_err("the CPU rests").1;
    let ends: Vec<u64> = irqs.iter().map(|irq| until(&mut s, *irq)).collect();
    assert!(ends.is_sorted(), "{ends:?}");
    assert!(ends[3] - began > 3 * (ends[0] - began), "{ends:?} from {began}");
}

/// A line that is given back is not given away before all CPUs have passed: one of them may still
/// mask it for its last holder.
#[test]
fn a_line_is_given_away_again_after_a_grace_period() {
    let mut s = Scene::new(2);
    let (irq, next) = (handler(&mut s, LINE), s.w.make(0, ObjType::IrqHandler, 0));
    s.delete(irq);
    let epoch = s.w.k.cpus.epoch.now();
    allow(&mut s, next, LINE, 0).expect("the line is free");
    assert!(s.w.k.cpus.epoch.now() >= epoch + 2, "no CPU uses it for the last holder");
}

#[test]
fn ports_are_read_and_written_within_their_range() {
    let mut s = Scene::new(1);
    let ports = s.w.make(0, ObjType::IoPort, 0);
    let give = |s: &mut Scene, first: u64, count: u64| {
        s.w.ask(0, Op::PortAllow, &[abi::INIT_MACHINE.arg(), ports.arg(), first, count]).map(drop)
    };
    let read = |s: &mut Scene, port: u64, bytes: u64| {
        s.w.ask(0, Op::PortRead, &[ports.arg(), port, bytes]).map(|answer| answer.rdi)
    };
    assert_eq!(read(&mut s, 0, 1), Err((Error::BadArgument, 1)), "it has none");
    assert_eq!(give(&mut s, 0x1_0000, 1), Err((Error::BadArgument, 2)));
    assert_eq!(give(&mut s, 0xffff, 2), Err((Error::BadArgument, 3)));
    assert_eq!(give(&mut s, 0x60, 0), Err((Error::BadArgument, 3)));
    assert_eq!(give(&mut s, 0x60, 17), Err((Error::BadAddress, 0x70)), "the kernel's");
    assert_eq!(give(&mut s, 0x60, 8), Ok(()));
    assert_eq!(give(&mut s, 0x60, 8), Err((Error::BadState, 0)));
    assert_eq!(read(&mut s, 0x64, 4), Ok(0x6404));
    assert_eq!(read(&mut s, 0x65, 4), Err((Error::BadArgument, 1)));
    assert_eq!(read(&mut s, 0x5f, 1), Err((Error::BadArgument, 1)));
    assert_eq!(read(&mut s, 0x60, 3), Err((Error::BadArgument, 2)));
    let write = |s: &mut Scene, bytes: u64, value: u64| {
        s.w.ask(0, Op::PortWrite, &[ports.arg(), 0x61, bytes, value]).map(drop)
    };
    assert_eq!(write(&mut s, 1, 0x100), Err((Error::BadArgument, 3)));
    assert_eq!((write(&mut s, 1, 0xff), write(&mut s, 2, 0xffff)), (Ok(()), Ok(())));
    assert_eq!(s.w.k.machine.hardware().written, [(0x61, 1, 0xff), (0x61, 2, 0xffff)]);
}
