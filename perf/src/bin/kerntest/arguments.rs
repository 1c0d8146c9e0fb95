//! Every capability argument of every operation: null, outside the CSpace, empty, of each wrong type,
//! without the rights. Each is refused with the documented error and detail.
//!
//! One table says what each operation wants where. A puppet makes the calls, with arguments that are
//! right but for one, so that nothing it can do has an effect.

use abi::{Cap, Error, FLAG_NONBLOCK, MsgInfo, ObjType, Op, Rights, Target};
use abi::{frame_rights, machine_rights, process_rights, sched_rights, task_rights};
use user_rt::arch::Args;
use user_rt::cap::{
    CNode, Frame, Group, Handle, Notification, Process, Reply, SchedContext, Task, Untyped, VSpace,
};
use user_rt::invoke::copy_raw;
use user_rt::layout::{PROGRAM_SLOTS, slot};
use user_rt::spawn::own;

use crate::lab::{Lab, Puppet, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! { null_slots outside_slots empty_slots wrong_types missing_rights unknown_numbers }

/// A capability that an operation wants.
struct Want {
    op: Op,
    /// Which argument: 0 = rdi, 1 = rsi, 2 = rdx.
    position: usize,
    /// Types that will do; none: any.
    types: &'static [ObjType],
    /// Rights that it has to have.
    rights: Rights,
}

const fn want(op: Op, position: usize, types: &'static [ObjType], rights: Rights) -> Want {
    Want { op, position, types, rights }
}

const UNTYPED: &[ObjType] = &[ObjType::Untyped];
const CNODE: &[ObjType] = &[ObjType::CNode];
const VSPACE: &[ObjType] = &[ObjType::VSpace];
const FRAME: &[ObjType] = &[ObjType::Frame];
const PROCESS: &[ObjType] = &[ObjType::Process];
const TASK: &[ObjType] = &[ObjType::Task];
const SCHED: &[ObjType] = &[ObjType::SchedContext];
const GROUP: &[ObjType] = &[ObjType::Group];
const NOTIFICATION: &[ObjType] = &[ObjType::Notification];
const REPLY: &[ObjType] = &[ObjType::Reply];
const MACHINE: &[ObjType] = &[ObjType::Machine];

/// What every operation wants. `Rights::NONE` where any capability of the type will do.
const WANTS: &[Want] = &[
    want(Op::Call, 0, GROUP, Rights::SEND),
    want(Op::Forward, 0, GROUP, Rights::SEND),
    want(Op::Reply, 0, REPLY, Rights::SEND),
    want(Op::SaveReply, 0, REPLY, Rights::SEND),
    want(Op::Notify, 0, &[ObjType::Notification, ObjType::Group], Rights::NOTIFY),
    want(Op::Wait, 0, NOTIFICATION, Rights::LISTEN),
    want(Op::YieldTo, 0, &[ObjType::Task, ObjType::Group], task_rights::SCHEDULE),
    want(Op::Retype, 0, UNTYPED, Rights::NONE),
    want(Op::Retype, 2, CNODE, Rights::GRANT),
    want(Op::CapCopy, 0, &[], Rights::NONE),
    want(Op::CapCopy, 1, CNODE, Rights::GRANT),
    want(Op::CapMove, 0, &[], Rights::NONE),
    want(Op::CapMove, 1, CNODE, Rights::GRANT),
    want(Op::CapDelete, 0, CNODE, Rights::GRANT),
    want(Op::CapRevoke, 0, CNODE, Rights::GRANT),
    want(Op::CapInspect, 0, CNODE, Rights::NONE),
    want(Op::UntypedReset, 0, UNTYPED, Rights::NONE),
    want(Op::GroupAdd, 0, GROUP, Rights::ADD),
    want(Op::GroupAdd, 1, PROCESS, Rights::NONE),
    want(Op::GroupRemove, 0, GROUP, Rights::REMOVE),
    want(Op::Expose, 0, GROUP, Rights::LISTEN),
    want(Op::Expose, 1, &[ObjType::Task, ObjType::Notification], Rights::LISTEN),
    want(Op::Withdraw, 0, GROUP, Rights::NONE),
    want(Op::ProcessConfigure, 0, PROCESS, process_rights::CONFIGURE),
    want(Op::ProcessConfigure, 1, CNODE, Rights::GRANT),
    want(Op::ProcessConfigure, 2, VSPACE, Rights::MAP),
    want(Op::ProcessAccept, 0, PROCESS, process_rights::CONFIGURE),
    want(Op::TaskConfigure, 0, TASK, task_rights::REGISTERS),
    want(Op::TaskConfigure, 1, PROCESS, process_rights::CONFIGURE),
    want(Op::TaskWriteRegs, 0, TASK, task_rights::REGISTERS),
    want(Op::TaskReadRegs, 0, TASK, task_rights::REGISTERS),
    want(Op::TaskResume, 0, TASK, task_rights::SUSPEND),
    want(Op::TaskSuspend, 0, TASK, task_rights::SUSPEND),
    want(Op::TaskKill, 0, TASK, task_rights::DESTROY),
    want(Op::TaskCancel, 0, TASK, task_rights::SUSPEND),
    want(Op::SchedConfigure, 0, SCHED, sched_rights::CONFIGURE),
    want(Op::SchedBind, 0, SCHED, sched_rights::CONFIGURE),
    want(Op::SchedBind, 1, TASK, task_rights::SCHEDULE),
    want(Op::SchedInfo, 0, SCHED, sched_rights::OBSERVE),
    want(Op::NotificationBind, 0, NOTIFICATION, Rights::LISTEN),
    want(Op::NotificationBind, 1, TASK, task_rights::SCHEDULE),
    want(Op::Map, 0, VSPACE, Rights::MAP),
    want(Op::Map, 1, FRAME, Rights::MAP),
    want(Op::Unmap, 0, VSPACE, Rights::MAP),
    want(Op::Unmap, 1, FRAME, Rights::MAP),
    want(Op::Protect, 0, VSPACE, Rights::MAP),
    want(Op::Protect, 1, FRAME, Rights::MAP),
    want(Op::Accessed, 0, VSPACE, Rights::MAP),
    want(Op::Accessed, 1, FRAME, Rights::MAP),
    want(Op::PageCopy, 0, VSPACE, Rights::MAP),
    want(Op::PageCopy, 1, FRAME, Rights::MAP),
    want(Op::PageCopy, 1, FRAME, frame_rights::WRITE),
    want(Op::PageTransfer, 0, VSPACE, Rights::MAP),
    want(Op::PageTransfer, 1, VSPACE, Rights::MAP),
    want(Op::MachineLog, 0, MACHINE, machine_rights::LOG),
    want(Op::MachineExit, 0, MACHINE, machine_rights::EXIT),
    want(Op::MachineCounter, 0, MACHINE, machine_rights::INFO),
    want(Op::MachineDump, 0, MACHINE, machine_rights::DUMP),
    want(Op::FramePin, 0, FRAME, frame_rights::DMA),
    want(Op::FramePin, 1, MACHINE, machine_rights::DMA),
    want(Op::FrameUnpin, 0, FRAME, frame_rights::DMA),
    want(Op::DeviceFrame, 0, MACHINE, machine_rights::DEVICE),
    want(Op::DeviceFrame, 1, UNTYPED, Rights::NONE),
    want(Op::DeviceFrame, 2, CNODE, Rights::GRANT),
    want(Op::MachineAttempt, 0, MACHINE, machine_rights::DUMP),
    want(Op::MachineTrace, 0, MACHINE, machine_rights::LOG),
    want(Op::FaultHandler, 0, &[ObjType::Task, ObjType::Process], task_rights::REGISTERS),
    want(Op::TaskDebug, 0, TASK, task_rights::DEBUG),
];

/// Operations that want no capability.
const WITHOUT: &[Op] = &[Op::ReplyRecv, Op::Null, Op::Recv, Op::Yield, Op::WhoAmI, Op::SetBases];

/// One object of every type, and an empty slot, for the puppet to refer to.
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
            (ObjType::Group, n.make::<Group>(4 | 4 << 16)?.cap()),
            (ObjType::Notification, n.make::<Notification>(0)?.cap()),
            (ObjType::Reply, n.make::<Reply>(0)?.cap()),
            (ObjType::Machine, slot::MACHINE),
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

    /// Arguments that are right as far as capabilities go.
    fn args(&self, op: Op) -> Args {
        let mut args = Args::new(op);
        args.info = args.info.flag(FLAG_NONBLOCK);
        for wanted in WANTS.iter().filter(|wanted| wanted.op == op) {
            set(&mut args, wanted.position, self.good(wanted));
        }
        match op {
            Op::Retype => {
                (args.rdi, args.r8) = (Target(args.rdi).0 | ObjType::Notification as u64, 1);
            }
            // Whatever the object is, this leaves it where it is: the destination is taken.
            Op::CapCopy | Op::CapMove => args.rsi = own::cnode().slot(slot::CNODE).0.0,
            Op::MachineExit => args.rsi = 2,
            _ => {}
        }
        args
    }

    fn good(&self, wanted: &Want) -> u64 {
        let object = wanted.types.first().copied().unwrap_or(ObjType::Frame);
        // A CNode argument names a slot: an empty one, of the process's own CNode.
        if object == ObjType::CNode && wanted.op != Op::ProcessConfigure {
            return Target::new(slot::CNODE, self.empty.0).0;
        }
        self.cap(object).arg()
    }
}

fn set(args: &mut Args, position: usize, value: u64) {
    match position {
        0 => args.rdi = value,
        1 => args.rsi = value,
        _ => args.rdx = value,
    }
}

fn get(args: &Args, position: usize) -> u64 {
    match position {
        0 => args.rdi,
        1 => args.rsi,
        _ => args.rdx,
    }
}

/// The argument with another capability in place of its own, its index kept.
fn with_cap(args: &Args, position: usize, cap: Cap) -> Args {
    let mut args = *args;
    let index = Target(get(&args, position)).index();
    set(&mut args, position, Target::new(cap, index).0);
    args
}

/// Runs `bad` for every capability argument and expects the error and detail that it says.
fn each(lab: &mut Lab<'_>, bad: impl Fn(&Fixture, &Want) -> Option<(Cap, Error, u64)>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let fixture = Fixture::new(lab)?;
    for wanted in WANTS {
        if let Some((cap, error, detail)) = bad(&fixture, wanted) {
            refused(lab, &puppet, &fixture, wanted, cap, error, detail)?;
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
    let args = with_cap(&fixture.args(wanted.op), wanted.position, cap);
    let shown = lab.run(puppet, &args)?;
    let place = (wanted.op, wanted.position);
    expect_eq!(shown.error(), Some(error), "{place:?} with slot {}", cap.0);
    expect_eq!(shown.answer.rdi, detail, "{place:?} with slot {}: detail of {error:?}", cap.0);
    let rest = shown.answer.rdx | shown.answer.r8 | shown.answer.r9 | shown.answer.r10 | shown.answer.r12;
    expect!(rest | shown.dirt == 0, "{place:?}: registers not cleared: {shown:?}");
    Ok(())
}

fn null_slots(lab: &mut Lab<'_>) -> Outcome {
    // Reply takes 0 as "the current call", Unmap and Protect as "pages of the pool".
    let means_more = |wanted: &Want| {
        wanted.op == Op::Reply || wanted.position == 1 && matches!(wanted.op, Op::Unmap | Op::Protect)
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
            let fits = wanted.types.is_empty() || wanted.types.contains(&object);
            (!fits).then_some((fixture.cap(object), Error::WrongType, object as u64))
        })?;
        lab.reset()?;
    }
    Ok(())
}

/// A copy with every right but those wanted is refused, and says which were missing.
fn missing_rights(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let fixture = Fixture::new(lab)?;
    for wanted in WANTS.iter().filter(|wanted| wanted.rights != Rights::NONE) {
        let Some(&object) = wanted.types.first() else { continue };
        // What this program itself may do with the machine is a part of it only.
        let held = own::cnode().inspect(fixture.cap(object))?.map_or(Rights::NONE, |held| held.rights);
        let weak = lab.nursery.take_slot()?;
        copy_raw(fixture.cap(object), own::cnode().slot(weak), held.minus(wanted.rights), 0)?;
        let missing = u64::from(wanted.rights.0);
        refused(lab, &puppet, &fixture, wanted, weak, Error::NoRight, missing)?;
        // The machine is not of the test's making: its copies have to go by hand.
        own::cnode().delete(weak)?;
    }
    Ok(())
}

/// The table knows every operation; a number that is none is refused and told how many there are.
fn unknown_numbers(lab: &mut Lab<'_>) -> Outcome {
    for &op in Op::ALL {
        let known = WITHOUT.contains(&op) || WANTS.iter().any(|wanted| wanted.op == op);
        expect!(known, "{op:?} is not in the table of arguments");
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
