//! Every capability argument of every operation: null, outside the CSpace, empty, of each wrong
//! type, without the rights. The kernel must refuse each with the documented error and detail.
//!
//! [`Op::forms`] describes each operation's arguments. A puppet makes the calls. In each call one
//! argument is wrong and all others are right, so no call has an effect.

use abi::Target;
use abi::{
    Cap, Check, Error, FLAG_CAPS, FLAG_NONBLOCK, FLAG_PAGES, Form, MAP_POOL, MsgInfo, ObjType, Op, Operand,
    Rights,
};
use user_rt::arch::Args;
use user_rt::cap::{
    CNode, EventPool, Frame, Group, Handle, IoPort, IrqHandler, Notification, Process, Reply, SchedContext,
    SchedControl, Task, Untyped, VSpace,
};
use user_rt::invoke::copy_raw;
use user_rt::layout::{PROGRAM_SLOTS, slot};
use user_rt::spawn::own;

use crate::lab::{Lab, Puppet, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! { null_slots outside_slots empty_slots wrong_types missing_rights unknown_numbers }

/// A capability argument of an operation, in one of its forms.
#[derive(Clone, Copy)]
struct Want {
    op: Op,
    form: &'static Form,
    operand: &'static Operand,
}

fn wants() -> impl Iterator<Item = Want> {
    let forms = Op::ALL.iter().flat_map(|&op| op.forms().iter().map(move |form| (op, form)));
    forms.flat_map(|(op, form)| form.operands.iter().map(move |operand| Want { op, form, operand }))
}

impl Want {
    /// Whether some form accepts a type there.
    fn takes(&self, object: ObjType) -> bool {
        let mut operands = self.op.forms().iter().flat_map(|form| form.operands);
        operands.any(|it| it.position == self.operand.position && it.types.contains(&object))
    }
}

/// One object of every type, and an empty slot, for the puppet's arguments.
struct Fixture {
    caps: [Cap; ObjType::ALL.len() + 1],
    empty: Cap,
}

impl Fixture {
    fn new(lab: &mut Lab<'_>) -> Result<Fixture, Failure> {
        let n = &mut lab.nursery;
        let mut caps = [Cap::NULL; ObjType::ALL.len() + 1];
        let made = [
            (ObjType::Untyped, n.make::<Untyped>(12)?.cap()),
            (ObjType::CNode, n.make::<CNode>(16)?.cap()),
            (ObjType::VSpace, n.make::<VSpace>(4)?.cap()),
            (ObjType::Frame, n.make::<Frame>(12)?.cap()),
            (ObjType::Process, n.make::<Process>(4)?.cap()),
            (ObjType::Task, n.make::<Task>(0)?.cap()),
            (ObjType::SchedContext, n.make::<SchedContext>(0)?.cap()),
            (ObjType::SchedControl, n.make::<SchedControl>(0)?.cap()),
            (ObjType::Group, n.make::<Group>(4 | 4 << 16)?.cap()),
            (ObjType::Notification, n.make::<Notification>(0)?.cap()),
            (ObjType::Reply, n.make::<Reply>(0)?.cap()),
            (ObjType::Machine, slot::MACHINE),
            (ObjType::EventPool, n.make::<EventPool>(6)?.cap()),
            (ObjType::IrqHandler, n.make::<IrqHandler>(0)?.cap()),
            (ObjType::IoPort, n.make::<IoPort>(0)?.cap()),
        ];
        for (object, cap) in made {
            caps[object as usize] = cap;
        }
        let empty = n.take_slot()?;
        Ok(Fixture { caps, empty })
    }

    fn cap(&self, object: ObjType) -> Cap {
        self.caps[object as usize]
    }

    /// Returns arguments that are right as far as capabilities go.
    fn args(&self, op: Op, form: &Form) -> Args {
        let mut args = Args::new(op);
        args.info = args.info.flag(FLAG_NONBLOCK);
        for operand in form.operands {
            set(&mut args, operand.position, self.good(operand));
        }
        match (op, form.when) {
            (Op::Retype, _) => {
                (args.rdi, args.r8) = (Target(args.rdi).0 | ObjType::Notification as u64, 1);
            }
            // This leaves any object in its place, because the destination is full.
            (Op::CapCopy | Op::CapMove, _) => args.rsi = own::cnode().slot(slot::CNODE).0.0,
            (Op::MachineExit, _) => args.rsi = 2,
            (Op::UntypedReset, "to take back pins") => args.rsi = 1,
            (Op::MachineLog, "of a report line") => args.rdx = 0x80,
            (Op::ProcessAccept, _) => args.rsi = u64::from(self.empty.0),
            (_, "to write") => args.r8 = 1,
            (_, "into the pool") => args.r8 = MAP_POOL,
            (_, "with UTCB words") => args.info = MsgInfo::new(0, 1).op(op).flag(FLAG_NONBLOCK),
            (_, "with page ranges") => args.info = args.info.flag(FLAG_PAGES),
            (_, "with capabilities") => args.info = args.info.flag(FLAG_CAPS),
            _ => {}
        }
        args
    }

    fn good(&self, operand: &Operand) -> u64 {
        // An empty slot of the process's own CNode.
        if operand.check == Check::Slot {
            return Target::new(slot::CNODE, self.empty.0).0;
        }
        self.cap(operand.types[0]).arg()
    }
}

fn set(args: &mut Args, position: usize, value: u64) {
    match position {
        0 => args.rdi = value,
        1 => args.rsi = value,
        2 => args.rdx = value,
        _ => args.r8 = value,
    }
}

fn get(args: &Args, position: usize) -> u64 {
    match position {
        0 => args.rdi,
        1 => args.rsi,
        2 => args.rdx,
        _ => args.r8,
    }
}

/// Replaces the capability of an argument, and keeps its index.
fn with_cap(args: &Args, position: usize, cap: Cap) -> Args {
    let mut args = *args;
    let index = Target(get(&args, position)).index();
    set(&mut args, position, Target::new(cap, index).0);
    args
}

/// Runs `bad` for every capability argument, and expects the error and detail that it returns.
fn each(lab: &mut Lab<'_>, bad: impl Fn(&Fixture, &Want) -> Option<(Cap, Error, u64)>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let fixture = Fixture::new(lab)?;
    for wanted in wants() {
        if let Some((cap, error, detail)) = bad(&fixture, &wanted) {
            refused(lab, &puppet, &fixture, &wanted, cap, error, detail)?;
        }
    }
    Ok(())
}

fn refused(
    lab: &Lab<'_>,
    puppet: &Puppet,
    fixture: &Fixture,
    wanted: &Want,
    cap: Cap,
    error: Error,
    detail: u64,
) -> Outcome {
    let args = with_cap(&fixture.args(wanted.op, wanted.form), wanted.operand.position, cap);
    let shown = lab.run(puppet, &args)?;
    let place = (wanted.op, wanted.form.when, wanted.operand.position);
    expect_eq!(shown.error(), Some(error), "{place:?} with slot {}", cap.0);
    expect_eq!(shown.answer.rdi, detail, "{place:?} with slot {}: detail of {error:?}", cap.0);
    let rest = shown.answer.rdx | shown.answer.r8 | shown.answer.r9 | shown.answer.r10 | shown.answer.r12;
    expect!(rest | shown.dirt == 0, "{place:?}: registers not cleared: {shown:?}");
    Ok(())
}

fn null_slots(lab: &mut Lab<'_>) -> Outcome {
    // Reply takes 0 as "the current call", Unmap and Protect take 0 as "pages of the pool",
    // CpuWatch, SchedWatch and IrqBind take 0 as "nobody", and IrqAllow takes 0 as a question.
    let means_more = |wanted: &Want| match wanted.operand.position {
        0 => wanted.op == Op::Reply,
        1 => matches!(wanted.op, Op::Unmap | Op::Protect | Op::CpuWatch | Op::SchedWatch | Op::IrqAllow),
        2 => wanted.op == Op::IrqBind,
        _ => false,
    };
    each(lab, |_, wanted| (!means_more(wanted)).then_some((Cap::NULL, Error::NoCapability, 0)))
}

fn outside_slots(lab: &mut Lab<'_>) -> Outcome {
    for number in [PROGRAM_SLOTS, PROGRAM_SLOTS + 1, 0x8000_0000, u32::MAX] {
        each(lab, |_, _| Some((Cap(number), Error::NoCapability, u64::from(number))))?;
        lab.reset()?;
    }
    Ok(())
}

fn empty_slots(lab: &mut Lab<'_>) -> Outcome {
    each(lab, |fixture, _| Some((fixture.empty, Error::NoCapability, u64::from(fixture.empty.0))))
}

fn wrong_types(lab: &mut Lab<'_>) -> Outcome {
    for &object in ObjType::ALL {
        each(lab, |fixture, wanted| {
            (!wanted.takes(object)).then_some((fixture.cap(object), Error::WrongType, object as u64))
        })?;
        lab.reset()?;
    }
    Ok(())
}

/// Tries a copy with every right but the wanted ones: the kernel refuses it and names the missing
/// rights.
fn missing_rights(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let fixture = Fixture::new(lab)?;
    // A task that may not withdraw every exposure may withdraw some: the host's rights matrix tests
    // that.
    let asks = |wanted: &Want| wanted.operand.rights != Rights::NONE && wanted.op != Op::Withdraw;
    for wanted in wants().filter(asks) {
        let (object, rights) = (wanted.operand.types[0], wanted.operand.rights);
        // This program itself has only some of the machine's rights.
        let held = own::cnode().inspect(fixture.cap(object))?.map_or(Rights::NONE, |held| held.rights);
        let weak = lab.nursery.take_slot()?;
        copy_raw(fixture.cap(object), own::cnode().slot(weak), held.minus(rights), 0)?;
        let missing = u64::from(rights.0);
        refused(lab, &puppet, &fixture, &wanted, weak, Error::NoRight, missing)?;
        // The test did not make the machine, so it deletes these copies itself.
        own::cnode().delete(weak)?;
    }
    Ok(())
}

/// Tries numbers without an operation: the kernel refuses each and returns the number of
/// operations.
fn unknown_numbers(lab: &mut Lab<'_>) -> Outcome {
    for &op in Op::ALL {
        expect!(!op.forms().is_empty(), "{op:?} is not in the table of operands");
    }
    let puppet = lab.puppet(&Wanted::default())?;
    for number in Op::COUNT as u64..=0xff {
        let args = Args { info: MsgInfo(number), rdi: 1, rsi: 2, rdx: 3, r8: 4, r9: 5, r10: 6 };
        let shown = lab.run(&puppet, &args)?;
        expect_eq!(shown.error(), Some(Error::BadSyscall), "number {number}");
        expect_eq!(shown.answer.rdi, Op::COUNT as u64, "number {number}: detail");
        expect!(shown.dirt == 0, "number {number}: registers not cleared: {shown:?}");
    }
    Ok(())
}
