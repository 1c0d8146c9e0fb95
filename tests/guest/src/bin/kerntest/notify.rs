//! Notifications: bits coalesce, one task waits, and a receive can return bits, too; on one CPU and
//! across CPUs.

use abi::{Error, FLAG_NONBLOCK, FLAG_NOTIFICATION, MsgInfo, Op, Target};
use user_rt::arch::Args;
use user_rt::cap::{Handle, Notification};
use user_rt::spawn::own;

use crate::block::{Block, Word};
use crate::ipc::{answered, call, is_call_of, reply};
use crate::lab::{Lab, Puppet, Shown, Wanted};
use crate::suite::Outcome;
use crate::{expect, expect_eq, tests};

tests! {
    bits_gather_and_are_taken_together a_waiter_is_woken one_waiter_at_a_time waits_belong_to_a_cpu
    bound_bits_come_with_a_receive bound_bits_and_calls binding_twice through_a_group
    bits_from_every_cpu
}

/// Makes a Notification of the puppet's CPU: the puppet makes it, of the memory that it was given.
fn note_of(lab: &mut Lab<'_>, puppet: &Puppet) -> Result<Notification, crate::suite::Failure> {
    let memory = abi::Cap(Block::at(puppet.number).get(Word::Untyped) as u32);
    let slot = lab.nursery.take_slot()?;
    let what = Target::new(memory, abi::ObjType::Notification as u32).0;
    let args = Args::plain(Op::Retype, what, 0, own::cnode().slot(slot).0.0, 1);
    expect_eq!(lab.run(puppet, &args)?.error(), None, "a puppet's Notification");
    Ok(Notification::at(slot))
}

fn notify(to: u64, bits: u64) -> Args {
    Args::plain(Op::Notify, to, bits, 0, 0)
}

fn wait(on: u64) -> Args {
    Args::plain(Op::Wait, on, 0, 0, 0)
}

/// Returns the bits of an answer, and checks that it has nothing else.
fn bits_of(shown: &Shown) -> Result<u64, crate::suite::Failure> {
    expect_eq!(shown.error(), None, "waiting");
    let answer = &shown.answer;
    let rest = answer.rdi | answer.rsi | answer.r8 | answer.r9 | answer.r10 | answer.r12;
    expect_eq!((rest, shown.dirt), (0, 0), "other registers of a wait: {shown:?}");
    Ok(answer.rdx)
}

fn bits_gather_and_are_taken_together(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let note: Notification = lab.nursery.make(0)?;
    for bits in [1, 2, 1 << 63, 0, 2] {
        note.notify(bits)?;
    }
    expect_eq!(bits_of(&lab.run(&puppet, &wait(note.arg()))?)?, 3 | 1 << 63, "all bits");
    let mut args = wait(note.arg());
    args.info = args.info.flag(FLAG_NONBLOCK);
    expect_eq!(lab.run(&puppet, &args)?.error(), Some(Error::WouldBlock), "they are taken");
    // A notify without bits wakes no task.
    lab.ask(&puppet, &wait(note.arg()))?;
    note.notify(0)?;
    lab.stays_blocked(&puppet)?;
    note.notify(16)?;
    expect_eq!(bits_of(&lab.answer(&puppet)?)?, 16, "the bits that woke it");
    Ok(())
}

fn a_waiter_is_woken(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1] {
        let (waker, waiter) =
            (lab.puppet(&Wanted::default())?, lab.puppet(&Wanted { cpu, ..Wanted::default() })?);
        let note = note_of(lab, &waiter)?.arg();
        for round in 1..20 {
            lab.ask(&waiter, &wait(note))?;
            if round % 2 == 0 {
                lab.stays_blocked(&waiter)?;
            }
            expect_eq!(lab.run(&waker, &notify(note, 1 << round))?.error(), None, "raising");
            let got = bits_of(&lab.answer(&waiter)?)?;
            expect_eq!(got, 1 << round, "round {round} on CPU {cpu}");
        }
        lab.reset()?;
    }
    Ok(())
}

fn one_waiter_at_a_time(lab: &mut Lab<'_>) -> Outcome {
    let (first, second) = (lab.puppet(&Wanted::default())?, lab.puppet(&Wanted::default())?);
    let note: Notification = lab.nursery.make(0)?;
    lab.ask(&first, &wait(note.arg()))?;
    lab.stays_blocked(&first)?;
    expect_eq!(lab.run(&second, &wait(note.arg()))?.error(), Some(Error::InUse), "a second waiter");
    note.notify(9)?;
    expect_eq!(bits_of(&lab.answer(&first)?)?, 9, "the first waiter's bits");
    lab.ask(&second, &wait(note.arg()))?;
    note.notify(5)?;
    expect_eq!(bits_of(&lab.answer(&second)?)?, 5, "then the second's");
    // A killed waiter leaves its place to others.
    lab.ask(&first, &wait(note.arg()))?;
    lab.stays_blocked(&first)?;
    first.task.kill()?;
    lab.settle();
    lab.ask(&second, &wait(note.arg()))?;
    note.notify(6)?;
    expect_eq!(bits_of(&lab.answer(&second)?)?, 6, "after the first waiter's death");
    Ok(())
}

fn waits_belong_to_a_cpu(lab: &mut Lab<'_>) -> Outcome {
    if lab.cpus < 2 {
        return Err(crate::suite::Failure::Lacks("there is one CPU"));
    }
    let far = lab.puppet(&Wanted { cpu: 1, ..Wanted::default() })?;
    let note: Notification = lab.nursery.make(0)?;
    let shown = lab.run(&far, &wait(note.arg()))?;
    expect_eq!(shown.error(), Some(Error::WrongCpu), "waiting for another CPU's Notification");
    expect_eq!(shown.answer.rdi, 0, "whose it is");
    Ok(())
}

/// Returns the bits of a receive, and checks that it has nothing else.
fn received_bits(shown: &Shown) -> Result<u64, crate::suite::Failure> {
    expect_eq!(shown.answer.info, MsgInfo(FLAG_NOTIFICATION), "message word of bits");
    let answer = &shown.answer;
    let rest = answer.rdi | answer.rsi | answer.r8 | answer.r9 | answer.r10 | answer.r12 | shown.dirt;
    expect_eq!(rest, 0, "other registers of received bits: {shown:?}");
    Ok(answer.rdx)
}

fn bound_bits_come_with_a_receive(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1] {
        let note: Notification = lab.nursery.make(0)?;
        let server = lab.puppet_with(&Wanted { cpu, ..Wanted::default() }, |task| note.bind(task))?;
        note.notify(3)?;
        lab.settle();
        expect_eq!(received_bits(&lab.run(&server, &Args::new(Op::Recv))?)?, 3, "bits from before");
        lab.ask(&server, &Args::new(Op::Recv))?;
        lab.stays_blocked(&server)?;
        note.notify(12)?;
        expect_eq!(received_bits(&lab.answer(&server)?)?, 12, "bits that wake it");
        // Reply and receive return bits, too.
        note.notify(7)?;
        lab.settle();
        expect_eq!(received_bits(&lab.run(&server, &Args::new(Op::ReplyRecv))?)?, 7, "bits with ReplyRecv");
        lab.reset()?;
    }
    Ok(())
}

fn bound_bits_and_calls(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1] {
        let note: Notification = lab.nursery.make(0)?;
        let server = lab.puppet_with(&Wanted { cpu, ..Wanted::default() }, |task| note.bind(task))?;
        let client = lab.puppet(&Wanted::default())?;
        call(lab, &client, &server, 1)?;
        lab.stays_blocked(&client)?;
        note.notify(2)?;
        lab.settle();
        // Both are pending: one receive each, in either order.
        let (mut bits, mut calls) = (0, 0);
        for _ in 0..2 {
            let shown = lab.run(&server, &Args::new(Op::Recv));
            let shown = shown?;
            if shown.answer.info.has(FLAG_NOTIFICATION) {
                bits += received_bits(&shown)?;
            } else {
                is_call_of(&shown, &server, &client, 1)?;
                calls += 1;
                reply(lab, &server, 4)?;
                answered(lab, &client, 4)?;
            }
        }
        expect_eq!((bits, calls), (2, 1), "bits and calls on CPU {cpu}");
        lab.reset()?;
    }
    Ok(())
}

fn binding_twice(lab: &mut Lab<'_>) -> Outcome {
    let (first, second) = (lab.puppet(&Wanted::default())?, lab.puppet(&Wanted::default())?);
    let notes: [Notification; 2] = [lab.nursery.make(0)?, lab.nursery.make(0)?];
    notes[0].bind(&first.task)?;
    expect_eq!(notes[0].bind(&second.task).map_err(|r| r.error), Err(Error::InUse), "one to two tasks");
    expect_eq!(notes[1].bind(&first.task).map_err(|r| r.error), Err(Error::InUse), "two to one task");
    // A dead task releases its Notification.
    first.task.kill()?;
    lab.settle();
    notes[0].bind(&second.task)?;
    notes[0].notify(1)?;
    expect_eq!(received_bits(&lab.run(&second, &Args::new(Op::Recv))?)?, 1, "bits for the second");
    Ok(())
}

fn through_a_group(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.process(false)?;
    let puppet = lab.puppet(&Wanted { place, cpu: lab.cpus - 1, ..Wanted::default() })?;
    let note: Notification = lab.nursery.make(0)?;
    lab.group()?.expose_notification(60, &note)?;
    let target = Target::new(puppet.group, 60);
    expect_eq!(lab.run(&puppet, &notify(target.0, 32))?.error(), None, "raising through the group");
    lab.settle();
    expect_eq!(note.poll()?, 32, "the bits");
    // A deleted Notification leaves its exposure.
    own::cnode().revoke(note.cap())?;
    own::cnode().delete(note.cap())?;
    let shown = lab.run(&puppet, &notify(target.0, 1))?;
    expect_eq!(shown.error(), Some(Error::NoExposure), "raising a deleted one");
    Ok(())
}

fn bits_from_every_cpu(lab: &mut Lab<'_>) -> Outcome {
    let note: Notification = lab.nursery.make(0)?;
    let cpus = lab.cpus.min(crate::lab::PUPPETS_MAX);
    let mut puppets = alloc::vec::Vec::new();
    for cpu in 0..cpus {
        puppets.push(lab.puppet(&Wanted { cpu, ..Wanted::default() })?);
    }
    for (cpu, puppet) in puppets.iter().enumerate() {
        lab.ask(puppet, &notify(note.arg(), 1 << cpu))?;
    }
    let mut bits = 0;
    for puppet in &puppets {
        expect_eq!(lab.answer(puppet)?.error(), None, "raising");
    }
    let deadline = user_rt::arch::now() + 10 * user_rt::boot::facts().tsc_hz;
    let all = u64::MAX >> (64 - cpus);
    while bits != all {
        bits |= note.wait_until(deadline)?;
    }
    expect!(bits == all, "bits {bits:#x}");
    Ok(())
}
