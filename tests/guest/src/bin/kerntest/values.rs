//! Plain arguments out of range, and objects in the wrong state: the kernel refuses each with the
//! documented error and detail, and a refused call changes nothing.

use abi::{
    Cap, Error, FLAG_DEADLINE, FLAG_NONBLOCK, MsgInfo, ObjType, Op, RegIndex, Rights, Target, USER_TOP,
};
use user_rt::arch::Args;
use user_rt::cap::{CNode, Frame, Group, Handle, Notification, Process, Reply, SchedContext, Task, VSpace};
use user_rt::invoke::start_regs;
use user_rt::layout::{PROGRAM_SLOTS, SHARED_VA, TASKS_MAX, slot, utcb_va};
use user_rt::spawn::own;

use crate::lab::{Lab, Puppet, Wanted};
use crate::suite::Outcome;
use crate::{expect, expect_eq, tests};

tests! {
    retype_sizes retype_counts_and_slots copy_and_move group_changes exposures map_addresses
    task_states task_registers sched_values machine_values message_values replies_without_call
    waits_that_would_block bases
}

/// An address in a hole of every process of this program.
const HOLE: u64 = SHARED_VA + 0x1000_0000;

/// Makes the call through the puppet, and expects error and detail.
fn refused(lab: &Lab<'_>, puppet: &Puppet, args: &Args, error: Error, detail: u64) -> Outcome {
    let shown = lab.run(puppet, args)?;
    expect_eq!(shown.error(), Some(error), "{args:x?}");
    expect_eq!(shown.answer.rdi, detail, "detail of {error:?} for {args:x?}");
    expect!(shown.dirt == 0, "registers not cleared after {args:x?}: {shown:?}");
    Ok(())
}

fn accepted(lab: &Lab<'_>, puppet: &Puppet, args: &Args) -> Outcome {
    let shown = lab.run(puppet, args)?;
    expect_eq!(shown.error(), None, "{args:x?}, detail {:#x}", shown.answer.rdi);
    Ok(())
}

fn retype(untyped: Cap, object: u32, size: u64, first: Cap, count: u64) -> Args {
    let place = own::cnode().slot(first);
    Args::plain(Op::Retype, Target::new(untyped, object).0, size, place.0.0, count)
}

fn retype_sizes(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let memory = lab.nursery.make::<user_rt::cap::Untyped>(20)?.cap();
    let to = lab.nursery.take_slot()?;
    for object in [0, ObjType::Machine as u32, 16, 0xff, 0x1_0001, u32::MAX] {
        refused(lab, &puppet, &retype(memory, object, 0, to, 1), Error::BadArgument, 0)?;
    }
    let bad: &[(ObjType, &[u64])] = &[
        (ObjType::Untyped, &[0, 11, 41, 64, u64::MAX]),
        (ObjType::Frame, &[0, 11, 13, 20, 22, 30, 12 | 513 << 8, 21 | 2 << 8, 12 | 1 << 40, u64::MAX]),
        (ObjType::CNode, &[0, 0x1_0001, u64::MAX]),
        (ObjType::VSpace, &[0, u64::MAX]),
        (ObjType::Process, &[0, u64::MAX]),
        (ObjType::Group, &[0, 1, 0xffff, 0x1_0000, 1 << 32, u64::MAX]),
        (ObjType::Task, &[1, u64::MAX]),
        (ObjType::SchedContext, &[1, u64::MAX]),
        (ObjType::SchedControl, &[1, u64::MAX]),
        (ObjType::IrqHandler, &[1, u64::MAX]),
        (ObjType::IoPort, &[1, u64::MAX]),
        (ObjType::Notification, &[1, u64::MAX]),
        (ObjType::Reply, &[1, u64::MAX]),
        (ObjType::EventPool, &[0, 5, 15, u64::MAX]),
    ];
    for (object, sizes) in bad {
        for &size in *sizes {
            refused(lab, &puppet, &retype(memory, *object as u32, size, to, 1), Error::BadArgument, 1)?;
        }
    }
    expect_eq!(own::cnode().inspect(to)?, None, "the slot after so many refusals");
    Ok(())
}

fn retype_counts_and_slots(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let memory = lab.nursery.make::<user_rt::cap::Untyped>(20)?.cap();
    let run = lab.nursery.make_many::<Notification>(0, 3)?;
    let taken = run.nth(2);
    let note = ObjType::Notification as u32;
    for count in [0, 257, 1 << 32, u64::MAX] {
        refused(lab, &puppet, &retype(memory, note, 0, taken, count), Error::BadArgument, 3)?;
    }
    refused(lab, &puppet, &retype(memory, note, 0, Cap::NULL, 1), Error::NoCapability, 0)?;
    let last = Cap(PROGRAM_SLOTS - 1);
    let outside = u64::from(PROGRAM_SLOTS);
    refused(lab, &puppet, &retype(memory, note, 0, last, 2), Error::NoCapability, outside)?;
    refused(lab, &puppet, &retype(memory, note, 0, taken, 1), Error::SlotOccupied, 0)?;
    // Two free slots and a full one: nothing may remain in the two.
    own::cnode().delete(run.nth(0))?;
    own::cnode().delete(run.nth(1))?;
    refused(lab, &puppet, &retype(memory, note, 0, run.nth(0), 3), Error::SlotOccupied, 0)?;
    for index in 0..2 {
        expect_eq!(own::cnode().inspect(run.nth(index))?, None, "slot {index} after the refusal");
    }
    accepted(lab, &puppet, &retype(memory, note, 0, run.nth(0), 2))
}

fn copy_and_move(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let note: Notification = lab.nursery.make(0)?;
    let (weak, to) = (lab.nursery.take_slot()?, lab.nursery.take_slot()?);
    let place = |slot| own::cnode().slot(slot).0.0;
    let copy = |from: Cap, to, rights: Rights, badge| {
        Args::plain(Op::CapCopy, from.arg(), place(to), u64::from(rights.0), badge)
    };
    accepted(lab, &puppet, &copy(note.cap(), weak, Rights::SEND | Rights::NOTIFY, 7))?;
    let all = u64::from(Rights::ALL.minus(Rights::SEND | Rights::NOTIFY).0);
    refused(lab, &puppet, &copy(weak, to, Rights::ALL, 0), Error::Amplifies, all)?;
    refused(lab, &puppet, &copy(note.cap(), to, Rights::NONE, 1 << 48), Error::BadArgument, 3)?;
    refused(lab, &puppet, &copy(note.cap(), weak, Rights::NONE, 0), Error::SlotOccupied, 0)?;
    refused(lab, &puppet, &copy(note.cap(), Cap::NULL, Rights::NONE, 0), Error::NoCapability, 0)?;
    let memory = lab.nursery.make::<user_rt::cap::Untyped>(12)?.cap();
    let untyped = ObjType::Untyped as u64;
    refused(lab, &puppet, &copy(memory, to, Rights::NONE, 0), Error::WrongType, untyped)?;
    let onto_taken = Args::plain(Op::CapMove, note.arg(), place(weak), 0, 0);
    refused(lab, &puppet, &onto_taken, Error::SlotOccupied, 0)?;
    expect_eq!(own::cnode().inspect(to)?, None, "the destination after so many refusals");
    let seen = own::cnode().inspect(weak)?.map(|seen| (seen.object, seen.rights, seen.badge));
    let wanted = (ObjType::Notification, Rights::SEND | Rights::NOTIFY, 7);
    expect_eq!(seen, Some(wanted), "the weak copy");
    Ok(())
}

fn group_changes(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let group: Group = lab.nursery.make(1 | 1 << 16)?;
    let process: Process = lab.nursery.make(1)?;
    let spare = lab.nursery.take_slot()?;
    let add = |process: &Process, rights: u32, custom| {
        Args::plain(Op::GroupAdd, group.arg(), process.arg(), u64::from(rights), custom)
    };
    refused(lab, &puppet, &add(&process, Rights::SEND.0, 0x1_0000), Error::BadArgument, 3)?;
    let excess = u64::from(Rights::ALL.minus(abi::MEMBER_RIGHTS).0);
    refused(lab, &puppet, &add(&process, Rights::ALL.0, 0), Error::Amplifies, excess)?;
    refused(lab, &puppet, &add(&process, Rights::SEND.0, 0), Error::NoConsent, 0)?;
    own::process().accept(spare, &group)?;
    accepted(lab, &puppet, &add(&own::process(), Rights::SEND.0, 3))?;
    // The group had one member record; the consent was used up.
    refused(lab, &puppet, &add(&own::process(), Rights::SEND.0, 3), Error::NoConsent, 0)?;
    let second = lab.nursery.take_slot()?;
    own::process().accept(second, &group)?;
    refused(lab, &puppet, &add(&own::process(), Rights::SEND.0, 3), Error::Full, 0)?;
    own::process().accept_none()?;
    let accept = |slot: u64| Args::plain(Op::ProcessAccept, own::process().arg(), slot, group.arg(), 0);
    refused(lab, &puppet, &accept(1 << 32), Error::BadArgument, 1)?;
    let outside = u64::from(PROGRAM_SLOTS);
    refused(lab, &puppet, &accept(outside), Error::BadArgument, 1)?;
    let remove = |member| Args::plain(Op::GroupRemove, Target::new(group.cap(), member).0, 0, 0, 0);
    refused(lab, &puppet, &remove(1), Error::BadArgument, 0)?;
    accepted(lab, &puppet, &remove(0))?;
    refused(lab, &puppet, &remove(0), Error::NotMember, 0)
}

fn exposures(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let group = lab.nursery.make_group(2, 2)?;
    let note: Notification = lab.nursery.make(0)?;
    let fresh: Task = lab.nursery.make(0)?;
    let expose = |index, what: Cap, how| {
        Args::plain(Op::Expose, Target::new(group.cap(), index).0, what.arg(), how, 0)
    };
    refused(lab, &puppet, &expose(2, note.cap(), 0), Error::NoExposure, 2)?;
    refused(lab, &puppet, &expose(u32::MAX, note.cap(), 0), Error::NoExposure, u64::from(u32::MAX))?;
    refused(lab, &puppet, &expose(0, note.cap(), 3), Error::BadArgument, 2)?;
    let watch = |shift: u64| 2 | shift << 32;
    refused(lab, &puppet, &expose(0, note.cap(), watch(64)), Error::BadArgument, 2)?;
    refused(
        lab,
        &puppet,
        &expose(0, own::process().cap(), watch(0)),
        Error::WrongType,
        ObjType::Process as u64,
    )?;
    refused(lab, &puppet, &expose(0, fresh.cap(), 0), Error::BadState, 0)?;
    accepted(lab, &puppet, &expose(0, note.cap(), 0))?;
    refused(lab, &puppet, &expose(0, note.cap(), 0), Error::SlotOccupied, 0)?;
    let withdraw = |index| Args::plain(Op::Withdraw, Target::new(group.cap(), index).0, 0, 0, 0);
    refused(lab, &puppet, &withdraw(1), Error::NoExposure, 1)?;
    refused(lab, &puppet, &withdraw(9), Error::NoExposure, 9)?;
    // A Notification accepts no calls; an empty exposure accepts nothing.
    for (index, op) in [(0, Op::Call), (1, Op::Call), (9, Op::Call), (1, Op::Notify), (1, Op::YieldTo)] {
        let target = Target::new(group.cap(), index).0;
        refused(lab, &puppet, &Args::plain(op, target, 1, 0, 0), Error::NoExposure, u64::from(index))?;
    }
    accepted(lab, &puppet, &withdraw(0))?;
    refused(lab, &puppet, &withdraw(0), Error::NoExposure, 0)
}

fn map_addresses(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let frame: Frame = lab.nursery.make(12)?;
    let map = |address, how| Args::plain(Op::Map, own::vspace().arg(), frame.arg(), address, how);
    let unmap = |address| Args::plain(Op::Unmap, own::vspace().arg(), frame.arg(), address, 0);
    let kernel = 0xffff_8000_0000_0000;
    for address in [0, 1, 0xfff, HOLE + 1, USER_TOP, USER_TOP - 1, 1 << 47, kernel, 0u64.wrapping_sub(0x1000)]
    {
        refused(lab, &puppet, &map(address, 0), Error::BadAddress, address)?;
    }
    refused(lab, &puppet, &map(HOLE, 3), Error::WriteExecute, 0)?;
    for how in [6, 7, 8, 1 << 63, u64::MAX] {
        refused(lab, &puppet, &map(HOLE, how), Error::BadArgument, 3)?;
    }
    refused(lab, &puppet, &unmap(HOLE), Error::BadAddress, HOLE)?;
    accepted(lab, &puppet, &map(HOLE, 1))?;
    let twice = lab.run(&puppet, &map(HOLE, 1))?;
    expect_eq!(twice.error(), Some(Error::Mapped), "mapping over a mapping");
    // Writable here, so executable nowhere; and vice versa.
    refused(lab, &puppet, &map(HOLE + 0x1000, 2), Error::WriteExecute, HOLE + 0x1000)?;
    accepted(lab, &puppet, &unmap(HOLE))?;
    accepted(lab, &puppet, &map(HOLE, 2))?;
    refused(lab, &puppet, &map(HOLE + 0x1000, 1), Error::WriteExecute, HOLE + 0x1000)?;
    accepted(lab, &puppet, &unmap(HOLE))
}

fn task_states(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let task: Task = lab.nursery.make(0)?;
    let bare: Process = lab.nursery.make(1)?;
    let process = own::process();
    let configure_as = |task: &Task, process: &Process, utcb, cpu| {
        let (rdi, rsi, rdx) = (slot::SCHED_CONTROL.arg(), task.arg(), process.arg());
        Args { rdi, rsi, rdx, r8: utcb, r9: cpu, ..Args::new(Op::TaskConfigure) }
    };
    let configure = |process: &Process, utcb, cpu| configure_as(&task, process, utcb, cpu);
    let place = utcb_va(TASKS_MAX - 1);
    let cpus = u64::from(lab.cpus);
    for op in
        [Op::TaskResume, Op::TaskSuspend, Op::TaskKill, Op::TaskCancel, Op::TaskWriteRegs, Op::TaskReadRegs]
    {
        refused(lab, &puppet, &Args::plain(op, task.arg(), 0, 0, 0), Error::BadState, 0)?;
    }
    refused(lab, &puppet, &configure(&bare, place, 0), Error::BadState, 0)?;
    for cpu in [cpus, 1 << 32, u64::MAX] {
        refused(lab, &puppet, &configure(&process, place, cpu), Error::NoCpu, cpus)?;
    }
    for address in [0, place + 8, USER_TOP, 1 << 47, u64::MAX] {
        refused(lab, &puppet, &configure(&process, address, 0), Error::BadAddress, address)?;
    }
    accepted(lab, &puppet, &configure(&process, place, 0))?;
    refused(lab, &puppet, &configure(&process, place, 0), Error::BadState, 0)?;
    let second: Task = lab.nursery.make(0)?;
    let on_top = configure_as(&second, &process, place, 0);
    let shown = lab.run(&puppet, &on_top)?;
    expect_eq!(shown.error(), Some(Error::Mapped), "a UTCB over another");
    // The registers of a task that was never suspended can be neither read nor written.
    for op in [Op::TaskWriteRegs, Op::TaskReadRegs] {
        refused(lab, &puppet, &Args::plain(op, puppet.task.arg(), 0, 0, 0), Error::BadState, 0)?;
    }
    let (cnode, vspace) = (lab.nursery.make::<CNode>(4)?, lab.nursery.make::<VSpace>(4)?);
    let spaces = |process: &Process, cnode: &CNode, vector| {
        Args::plain(Op::ProcessConfigure, process.arg(), cnode.arg(), vspace.arg(), vector)
    };
    refused(lab, &puppet, &spaces(&bare, &cnode, 2), Error::BadArgument, 3)?;
    refused(lab, &puppet, &spaces(&bare, &own::cnode(), 0), Error::InUse, 0)?;
    refused(lab, &puppet, &spaces(&process, &cnode, 0), Error::BadState, 0)?;
    accepted(lab, &puppet, &spaces(&bare, &cnode, 0))?;
    refused(lab, &puppet, &spaces(&bare, &cnode, 0), Error::BadState, 0)
}

fn task_registers(lab: &mut Lab<'_>) -> Outcome {
    let task = lab.task(&Wanted::default(), crate::puppet::puppet, 0)?.task;
    let good = start_regs(0x40_0000, HOLE);
    for register in [RegIndex::Rip, RegIndex::Rsp, RegIndex::FsBase, RegIndex::GsBase] {
        for address in [USER_TOP, 1 << 47, 0xffff_8000_0000_0000, u64::MAX] {
            let mut regs = good;
            regs[register as usize] = address;
            let refusal = task.write_regs(&regs).err();
            let seen = refusal.map(|refusal| (refusal.error, refusal.detail));
            expect_eq!(seen, Some((Error::BadAddress, register as u64)), "{register:?} = {address:#x}");
        }
    }
    let mut regs: [u64; abi::REG_COUNT] = core::array::from_fn(|index| 0x1000 + index as u64);
    regs[RegIndex::Rflags as usize] = u64::MAX;
    task.write_regs(&regs)?;
    let read = task.read_regs()?;
    for (index, (got, wrote)) in read.iter().zip(&regs).enumerate() {
        if index != RegIndex::Rflags as usize {
            expect_eq!(got, wrote, "register {index}");
        }
    }
    let flags = read[RegIndex::Rflags as usize];
    const IOPL_NT_VM: u64 = 3 << 12 | 1 << 14 | 1 << 17;
    expect!(flags & IOPL_NT_VM == 0 && flags & 0x202 == 0x202, "flags {flags:#x}");
    Ok(())
}

fn sched_values(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let sched: SchedContext = lab.nursery.make(0)?;
    let fresh: Task = lab.nursery.make(0)?;
    let bind = |sched: &SchedContext, task: &Task| Args::plain(Op::SchedBind, sched.arg(), task.arg(), 0, 0);
    let idle: Task = lab.nursery.make(0)?;
    idle.configure(&own::process(), utcb_va(TASKS_MAX - 1), 0)?;
    refused(lab, &puppet, &bind(&sched, &idle), Error::BadState, 0)?;
    let by = slot::SCHED_CONTROL.arg();
    let configure = |priority, slice| Args::plain(Op::SchedConfigure, by, sched.arg(), priority, slice);
    for priority in [256, 1 << 32, u64::MAX] {
        refused(lab, &puppet, &configure(priority, 1000), Error::BadArgument, 2)?;
    }
    refused(lab, &puppet, &configure(3, 0), Error::BadArgument, 3)?;
    accepted(lab, &puppet, &configure(17, 12345))?;
    let info = sched.info()?;
    expect_eq!((info.used, info.priority, info.slice), (0, 17, 12345), "what it says of itself");
    refused(lab, &puppet, &bind(&sched, &fresh), Error::BadState, 0)?;
    refused(lab, &puppet, &bind(&sched, &puppet.task), Error::InUse, 0)?;
    refused(lab, &puppet, &bind(&puppet.sched, &fresh), Error::InUse, 0)
}

fn machine_values(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let log = |bytes, channel| Args::plain(Op::MachineLog, slot::MACHINE.arg(), bytes, channel, 0);
    for bytes in [abi::LOG_MAX as u64 + 1, 1 << 32, u64::MAX] {
        refused(lab, &puppet, &log(bytes, 0x80), Error::BadArgument, 1)?;
    }
    for channel in [1, 0x7f, 0x81, 0x180, u64::MAX] {
        refused(lab, &puppet, &log(0, channel), Error::BadArgument, 2)?;
    }
    let counter =
        |cpu, number| Args::plain(Op::MachineCounter, Target::new(slot::MACHINE, cpu).0, number, 0, 0);
    let cpus = u64::from(lab.cpus);
    for cpu in [lab.cpus, u32::MAX] {
        refused(lab, &puppet, &counter(cpu, 0), Error::NoCpu, cpus)?;
    }
    for number in [(abi::Counter::ALL.len() + test_abi::kills::Kill::ALL.len()) as u64, 1 << 32, u64::MAX] {
        refused(lab, &puppet, &counter(0, number), Error::BadArgument, 1)?;
    }
    accepted(lab, &puppet, &counter(0, 0))
}

/// Makes `op` on the exposure of `to`, with flags and UTCB words.
fn message(lab: &Lab<'_>, op: Op, from: &Puppet, to: &Puppet, words: u8, flags: u64, rsi: u64) -> Args {
    let info = MsgInfo::new(0, words).op(op).flag(flags);
    Args { info, rdi: lab.target(from, to).0, rsi, ..Args::default() }
}

fn message_values(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let other = lab.puppet(&Wanted::default())?;
    for words in [65, 128, 255] {
        for op in [Op::Call, Op::Forward, Op::Reply, Op::ReplyRecv] {
            let mut args = message(lab, op, &puppet, &other, words, 0, 0);
            if op == Op::Reply {
                args.rdi = 0;
            }
            refused(lab, &puppet, &args, Error::TooLong, 64)?;
        }
    }
    let call = |to, flags, rsi| message(lab, Op::Call, &puppet, to, 0, flags, rsi);
    refused(lab, &puppet, &call(&puppet, 0, 0), Error::SelfCall, 0)?;
    refused(lab, &puppet, &call(&other, FLAG_NONBLOCK, 0), Error::WouldBlock, 0)?;
    for deadline in [0, 1, user_rt::arch::now()] {
        refused(lab, &puppet, &call(&other, FLAG_DEADLINE, deadline), Error::Timeout, 0)?;
    }
    Ok(())
}

fn replies_without_call(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let other = lab.puppet(&Wanted::default())?;
    let reply: Reply = lab.nursery.make(0)?;
    refused(lab, &puppet, &Args::new(Op::Reply), Error::Gone, 0)?;
    refused(lab, &puppet, &Args::plain(Op::Reply, reply.arg(), 0, 0, 0), Error::Gone, 0)?;
    refused(lab, &puppet, &Args::plain(Op::SaveReply, reply.arg(), 0, 0, 0), Error::Gone, 0)?;
    refused(lab, &puppet, &message(lab, Op::Forward, &puppet, &other, 0, 0, 0), Error::Gone, 0)
}

fn waits_that_would_block(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let note: Notification = lab.nursery.make(0)?;
    for (op, rdi) in [(Op::Recv, 0), (Op::ReplyRecv, 0), (Op::Wait, note.arg())] {
        let mut args = Args::plain(op, rdi, 0, 0, 0);
        args.info = MsgInfo(op as u64).flag(FLAG_NONBLOCK);
        refused(lab, &puppet, &args, Error::WouldBlock, 0)?;
        args.info = MsgInfo(op as u64).flag(FLAG_DEADLINE);
        args.rsi = user_rt::arch::now();
        refused(lab, &puppet, &args, Error::Timeout, 0)?;
    }
    Ok(())
}

fn bases(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    for address in [USER_TOP, 1 << 47, 0xffff_8000_0000_0000, u64::MAX] {
        refused(lab, &puppet, &Args::plain(Op::SetBases, address, 0, 0, 0), Error::BadAddress, 0)?;
        refused(lab, &puppet, &Args::plain(Op::SetBases, 0, address, 0, 0), Error::BadAddress, 1)?;
    }
    Ok(())
}
