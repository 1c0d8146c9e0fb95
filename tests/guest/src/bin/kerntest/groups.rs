//! Groups: rights of members, and the fate of members that leave.

use abi::membership::{ALONE, JOINED, LEFT, WITHDRAWN};
use abi::{Cap, Error, MEMBER_RIGHTS, MsgInfo, Op, Rights, Target};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use user_rt::arch::{self, Args};
use user_rt::cap::{Group, Handle, Notification, Process, Untyped};
use user_rt::invoke::{copy, yield_now};
use user_rt::layout::slot;
use user_rt::slots::Slots;
use user_rt::spawn::{Nursery, ProcessSpec, StartIn, own, process};

use crate::ipc::{answered, call, is_call_of, message, receive, regs, reply};
use crate::lab::{CHILD_FREE, CHILD_SLOTS, Lab, Place, Puppet, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect_eq, tests};

tests! {
    member_rights_decide custom_bits_come_with_calls removed_members_are_out
    a_capability_in_other_hands_is_inert members_cannot_give_what_they_lack
    withdrawn_exposures_are_empty one_task_per_cpu a_deleted_group_is_gone
    watchers_are_told_of_members children_start_in_their_makers_group
    tasks_of_a_process_make_groups_at_once
}

fn child_puppet(lab: &mut Lab<'_>, rights: Rights, custom: u16) -> Result<Puppet, Failure> {
    let place = lab.process_with(false, rights, custom)?;
    lab.puppet(&Wanted { place, ..Wanted::default() })
}

fn member_rights_decide(lab: &mut Lab<'_>) -> Outcome {
    let note_at = 60;
    for (lacking, op, words) in [
        (Rights::SEND, Op::Call, 0),
        (Rights::STRING, Op::Call, 1),
        (Rights::SEND, Op::YieldTo, 0),
        (Rights::NOTIFY, Op::Notify, 0),
        (Rights::LISTEN, Op::Expose, 0),
        (Rights::ADD, Op::GroupAdd, 0),
        (Rights::REMOVE, Op::GroupRemove, 0),
    ] {
        let server = lab.puppet(&Wanted::default())?;
        let note: Notification = lab.nursery.make(0)?;
        lab.group()?.expose_notification(note_at, &note)?;
        let puppet = child_puppet(lab, MEMBER_RIGHTS.minus(lacking), 0)?;
        let index = if op == Op::Notify { note_at } else { server.number + 1 };
        let mut args = message(op, Target::new(puppet.group, index), 0, regs(1), words);
        (args.rsi, args.rdx) = match op {
            Op::Expose => (user_rt::layout::slot::PROCESS.arg(), 0),
            Op::GroupAdd => (user_rt::layout::slot::PROCESS.arg(), 1),
            _ => (1, args.rdx),
        };
        let shown = lab.run(&puppet, &args)?;
        // The member lacks a right, and its capability may lack it, too: both errors name the
        // right.
        let refused = matches!(shown.error(), Some(Error::NotMember | Error::NoRight));
        crate::expect!(refused, "{op:?} without {lacking:?}: {shown:?}");
        expect_eq!(shown.answer.rdi, u64::from(lacking.0), "{op:?}: the right that is missing");
        lab.reset()?;
    }
    Ok(())
}

fn custom_bits_come_with_calls(lab: &mut Lab<'_>) -> Outcome {
    for custom in [0, 1, 0x8000, 0xbeef, 0xffff] {
        let server = lab.puppet(&Wanted::default())?;
        let client = child_puppet(lab, MEMBER_RIGHTS, custom)?;
        call(lab, &client, &server, 1)?;
        let shown = lab.run(&server, &Args::new(Op::Recv))?;
        expect_eq!(shown.answer.r12, u64::from(custom), "custom bits");
        reply(lab, &server, 2)?;
        answered(lab, &client, 2)?;
        lab.reset()?;
    }
    Ok(())
}

fn removed_members_are_out(lab: &mut Lab<'_>) -> Outcome {
    let server = lab.puppet(&Wanted::default())?;
    let client = child_puppet(lab, MEMBER_RIGHTS, 0)?;
    call(lab, &client, &server, 1)?;
    receive(lab, &server, &client, 1)?;
    // Member 0 made the group; the client is the next member.
    lab.group()?.remove(1)?;
    // The current call is answered; no other call begins.
    reply(lab, &server, 2)?;
    answered(lab, &client, 2)?;
    for op in [Op::Call, Op::Notify, Op::YieldTo] {
        let shown = lab.run(&client, &message(op, lab.target(&client, &server), 0, regs(0), 0))?;
        expect_eq!(shown.error(), Some(Error::NotMember), "{op:?} of a former member");
    }
    // The record is free for another process, which does not become the former member.
    let other = child_puppet(lab, MEMBER_RIGHTS, 0)?;
    call(lab, &other, &server, 4)?;
    receive(lab, &server, &other, 4)?;
    reply(lab, &server, 5)?;
    answered(lab, &other, 5)?;
    let shown = lab.run(&client, &message(Op::Call, lab.target(&client, &server), 0, regs(0), 0))?;
    expect_eq!(shown.error(), Some(Error::NotMember), "the former member's record has another owner");
    Ok(())
}

fn a_capability_in_other_hands_is_inert(lab: &mut Lab<'_>) -> Outcome {
    let server = lab.puppet(&Wanted::default())?;
    let outsider = child_puppet(lab, MEMBER_RIGHTS, 0)?;
    let group: Group = lab.nursery.make_group(4, 4)?;
    group.expose_task(0, &server.task)?;
    let slot = abi::Cap(CHILD_FREE);
    let place = lab.child(outsider.place)?.cnode.slot(slot);
    copy(&group, place, Rights::ALL.minus(Rights::DELETE), 0)?;
    for op in [Op::Call, Op::Notify, Op::YieldTo] {
        let shown = lab.run(&outsider, &message(op, Target::new(slot, 0), 0, regs(0), 0))?;
        expect_eq!(shown.error(), Some(Error::NotMember), "{op:?} by a copied capability");
    }
    Ok(())
}

fn members_cannot_give_what_they_lack(lab: &mut Lab<'_>) -> Outcome {
    let adder = child_puppet(lab, Rights::SEND | Rights::ADD, 0)?;
    let addee: Process = own::process();
    let slot = abi::Cap(CHILD_FREE);
    copy(&addee, lab.child(adder.place)?.cnode.slot(slot), Rights::NONE, 0)?;
    let group = lab.group()?;
    own::process().accept(lab.nursery.take_slot()?, &group)?;
    let add =
        |rights: Rights| Args::plain(Op::GroupAdd, adder.group.arg(), slot.arg(), u64::from(rights.0), 0);
    let shown = lab.run(&adder, &add(Rights::SEND | Rights::NOTIFY))?;
    expect_eq!(shown.error(), Some(Error::Amplifies), "adding with more rights than its own");
    expect_eq!(shown.answer.rdi, u64::from(Rights::NOTIFY.0), "the excess");
    let shown = lab.run(&adder, &add(Rights::SEND))?;
    expect_eq!(shown.error(), None, "adding with rights that it has");
    Ok(())
}

fn withdrawn_exposures_are_empty(lab: &mut Lab<'_>) -> Outcome {
    let (client, server) = (lab.puppet(&Wanted::default())?, lab.puppet(&Wanted::default())?);
    let group = lab.group()?;
    call(lab, &client, &server, 1)?;
    receive(lab, &server, &client, 1)?;
    group.withdraw(server.number + 1)?;
    reply(lab, &server, 2)?;
    answered(lab, &client, 2)?;
    call(lab, &client, &server, 3)?;
    let shown = lab.answer(&client)?;
    expect_eq!(shown.error(), Some(Error::NoExposure), "a call to a withdrawn task");
    group.expose_task(server.number + 1, &server.task)?;
    call(lab, &client, &server, 4)?;
    receive(lab, &server, &client, 4)?;
    reply(lab, &server, 5)?;
    answered(lab, &client, 5)
}

/// Checks that the kernel picks the task of the caller's CPU.
fn one_task_per_cpu(lab: &mut Lab<'_>) -> Outcome {
    let cpus = lab.cpus;
    if cpus > 8 {
        return Err(Failure::Lacks("there are more CPUs than its group has places for"));
    }
    let (group, index, first) = (lab.group()?, 60, 50);
    let spread = |cpu| Wanted { cpu, ..Wanted::default() };
    let mut servers = alloc::vec::Vec::new();
    for cpu in 0..cpus {
        let server = lab.puppet(&spread(cpu))?;
        group.expose_per_cpu(index, first, &server.task)?;
        servers.push(server);
    }
    for (cpu, server) in (0..cpus).zip(&servers) {
        let client = lab.puppet(&spread(cpu))?;
        let target = Target::new(client.group, index);
        lab.ask(&client, &message(Op::Call, target, 7, regs(7), 0))?;
        let shown = lab.run(server, &Args::new(Op::Recv))?;
        expect_eq!(shown.answer.info, MsgInfo::new(7, 0), "a call on CPU {cpu}");
        expect_eq!(shown.answer.rsi, client.id.raw(), "who called on CPU {cpu}");
        expect_eq!(shown.answer.rdi, u64::from(index), "the exposure that was called");
        reply(lab, server, 8)?;
        answered(lab, &client, 8)?;
    }
    Ok(())
}

fn a_deleted_group_is_gone(lab: &mut Lab<'_>) -> Outcome {
    let (client, server) = (lab.puppet(&Wanted::default())?, lab.puppet(&Wanted::default())?);
    let group = lab.nursery.make_group(2, 2)?;
    group.expose_task(0, &server.task)?;
    let to = |group: &Group| message(Op::Call, group.exposure(0).0, 1, regs(1), 0);
    lab.ask(&client, &to(&group))?;
    let shown = lab.run(&server, &Args::new(Op::Recv))?;
    expect_eq!(shown.answer.rsi, client.id.raw(), "who called");
    own::cnode().revoke(group.cap())?;
    own::cnode().delete(group.cap())?;
    // The current call does not need the group any more.
    reply(lab, &server, 2)?;
    answered(lab, &client, 2)?;
    let shown = lab.run(&client, &to(&group))?;
    expect_eq!(shown.error(), Some(Error::NoCapability), "a call through a deleted group");
    call(lab, &client, &server, 3)?;
    is_call_of(&lab.run(&server, &Args::new(Op::Recv))?, &server, &client, 3)?;
    reply(lab, &server, 4)?;
    answered(lab, &client, 4)
}

/// Reads an unmapped page.
extern "C" fn crashes(_: u64) -> ! {
    // SAFETY: none: nothing is mapped there, and the process ends.
    unsafe { core::ptr::read_volatile(0x10 as *const u64) };
    loop {
        core::hint::spin_loop();
    }
}

/// Watches members that join, are removed, crash on any CPU, and end.
fn watchers_are_told_of_members(lab: &mut Lab<'_>) -> Outcome {
    const SHIFT: u32 = 20;
    for cpu in 0..lab.cpus.min(4) {
        let group = lab.nursery.make_group(8, 4)?;
        let note: Notification = lab.nursery.make(0)?;
        group.watch(1, &note, SHIFT)?;
        let told = |lab: &Lab<'_>, wanted: u64, what: &str| {
            // Events on other CPUs take a while.
            let mut bits = 0;
            for _ in 0..1_000 {
                bits |= note.poll().unwrap_or(0) >> SHIFT;
                if bits == wanted {
                    break;
                }
                lab.sleep(100_000);
            }
            expect_eq!(bits, wanted, "{what}, CPU {cpu}");
            Ok::<(), Failure>(())
        };
        let indices = (0..3).map(|_| lab.process_alone(false)).collect::<Result<alloc::vec::Vec<_>, _>>()?;
        for index in &indices {
            lab.children[*index].join(&group, user_rt::layout::slot::GROUPS, Rights::SEND, 5)?;
        }
        told(lab, JOINED, "three joined")?;
        let members: alloc::vec::Vec<_> =
            group.members().map(|it| (it.index, it.rights, it.custom)).collect();
        let sender = |index| (index, Rights::SEND, 5);
        expect_eq!(members, [(0, MEMBER_RIGHTS, 0), sender(1), sender(2), sender(3)], "members");
        group.remove(2)?;
        told(lab, LEFT, "one was removed")?;
        let wanted = Wanted { place: Place::Child(indices[0]), cpu, ..Wanted::default() };
        let task = lab.task(&wanted, crashes, 0)?.task;
        group.expose_task(2, &task)?;
        group.withdraw(2)?;
        told(lab, WITHDRAWN, "an exposure was taken back")?;
        task.resume()?;
        told(lab, LEFT, "one crashed")?;
        let process = lab.children[indices[2]].process.cap();
        own::cnode().revoke(process)?;
        own::cnode().delete(process)?;
        told(lab, LEFT | ALONE, "one ended, and this process is left")?;
        expect_eq!(group.members().map(|it| it.index).collect::<alloc::vec::Vec<_>>(), [0], "members left");
        lab.reset()?;
    }
    Ok(())
}

/// Checks that a child is in its maker's groups, with its maker's rights, before it has a task. The
/// maker can ask otherwise, and the group's maker can forbid it: a member without ADD brings no
/// child.
fn children_start_in_their_makers_group(lab: &mut Lab<'_>) -> Outcome {
    let slot = slot::GROUPS;
    let maker = own::process();
    let cases = [
        // A member's capability has no DELETE.
        (MEMBER_RIGHTS, StartIn::Makers, Some(MEMBER_RIGHTS.minus(Rights::DELETE))),
        (Rights::SEND | Rights::ADD, StartIn::Makers, Some(Rights::SEND | Rights::ADD)),
        (Rights::SEND | Rights::LISTEN, StartIn::Makers, None),
        (MEMBER_RIGHTS, StartIn::None, None),
    ];
    for (rights, groups, wanted) in cases {
        let group: Group = lab.nursery.make(4 | 4 << 16)?;
        maker.accept(slot, &group)?;
        group.add(&maker, rights, 7)?;
        let spec = ProcessSpec {
            image: lab.image,
            vector: false,
            tasks: 4,
            slots: CHILD_SLOTS,
            tables: 32,
            with_file: false,
            untyped_log2: &[],
            groups,
            line: None,
        };
        let child = process(&mut lab.nursery, &spec)?;
        let found: alloc::vec::Vec<_> = group.members().map(|it| (it.index, it.rights, it.custom)).collect();
        let case = alloc::format!("{groups:?} of a maker with {:#x}", rights.0);
        expect_eq!(found.first(), Some(&(0, rights, 7)), "{case}: the maker");
        expect_eq!(found.get(1).copied(), wanted.map(|rights| (1, rights, 7)), "{case}: the child");
        let held = child.process.holds_raw(group.cap(), Rights::NONE)?;
        expect_eq!(held, wanted.map(|_| slot), "{case}: where it has the group");
        lab.children.push(child);
        lab.reset()?;
        expect_eq!(own::cnode().inspect(slot)?, None, "{case}: afterwards");
    }
    Ok(())
}

/// Slots for a task that makes groups, and how often it does.
const GROUPS_SLOTS: u32 = 64;
const GROUPS_ROUNDS: u32 = 60;
/// Tasks that are done, and the last refusal of any.
static THROUGH: AtomicU32 = AtomicU32::new(0);
static REFUSED: AtomicU32 = AtomicU32::new(0);

/// Makes groups of an Untyped, whose slot is before the slots that it fills.
extern "C" fn makes_groups(untyped: u64) -> ! {
    let untyped = untyped as u32;
    let slots = Slots::new(untyped + 1..untyped + 1 + GROUPS_SLOTS);
    let mut nursery = Nursery::new(Untyped::at(Cap(untyped)), slots);
    for _ in 0..GROUPS_ROUNDS {
        let made = (0..GROUPS_SLOTS / 2).try_for_each(|_| nursery.make_group(2, 2).map(drop));
        if let Err(refusal) = made.and_then(|()| nursery.reset()) {
            REFUSED.store(refusal.error as u32, Relaxed);
            break;
        }
    }
    THROUGH.fetch_add(1, Relaxed);
    loop {
        // Under icount, other CPUs run when one pauses.
        arch::pause();
        let _ = yield_now();
    }
}

/// Checks that each task's group is its own, whatever the other tasks do meanwhile.
fn tasks_of_a_process_make_groups_at_once(lab: &mut Lab<'_>) -> Outcome {
    let tasks = 2 * lab.cpus.min(4);
    THROUGH.store(0, Relaxed);
    REFUSED.store(0, Relaxed);
    for n in 0..tasks {
        let untyped: Untyped = lab.nursery.make(16)?;
        lab.nursery.take_slots(GROUPS_SLOTS)?;
        let wanted = Wanted { cpu: n % lab.cpus, ..Wanted::default() };
        lab.task(&wanted, makes_groups, u64::from(untyped.cap().0))?.task.resume()?;
    }
    for _ in 0..2_000 {
        if THROUGH.load(Relaxed) == tasks {
            break;
        }
        lab.sleep(10_000_000);
    }
    expect_eq!(REFUSED.load(Relaxed), 0, "the last refusal");
    expect_eq!(THROUGH.load(Relaxed), tasks, "tasks that are through");
    Ok(())
}
