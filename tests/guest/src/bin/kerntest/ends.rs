//! Waits that end without an answer: by deadlines, cancel, kill, deletion.

use abi::{Error, FLAG_DEADLINE, Op, TaskId};
use user_rt::arch::{self, Args};
use user_rt::boot;
use user_rt::cap::{Handle, Notification, Reply};
use user_rt::spawn::own;

use crate::ipc::{answered, call, failed, in_every_setup, is_call_of, message, receive, regs, reply};
use crate::lab::{Lab, Puppet};
use crate::suite::Outcome;
use crate::{expect, expect_eq, tests};

tests! {
    calls_time_out receives_and_waits_time_out cancel_ends_every_wait cancel_of_nothing_is_nothing
    killed_server_wakes_all_callers killed_while_its_calls_are_kept killed_caller_is_forgotten
    calls_to_the_dead deleted_server_leaves_the_group deleted_reply_tells_its_caller
    deleted_notification_tells_its_waiter a_kill_during_a_call_across
}

/// Returns two thousandths of a second, in ticks.
fn short() -> u64 {
    boot::facts().tsc_hz / 500
}

/// Makes a call with a deadline. Returns the deadline.
fn timed_call(
    lab: &Lab<'_>,
    client: &Puppet,
    server: &Puppet,
    seed: u64,
) -> Result<u64, crate::suite::Failure> {
    let mut args = message(Op::Call, lab.target(client, server), seed as u32, regs(seed), 0);
    let deadline = arch::now() + short();
    args.info = args.info.flag(FLAG_DEADLINE);
    args.rsi = deadline;
    lab.ask(client, &args)?;
    Ok(deadline)
}

/// Checks that the client returns at its deadline, not before.
fn timed_out(lab: &Lab<'_>, client: &Puppet, deadline: u64) -> Outcome {
    failed(lab, client, Error::Timeout, TaskId::NONE)?;
    expect!(arch::now() >= deadline, "it came back {} ticks early", deadline - arch::now());
    Ok(())
}

fn calls_time_out(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        // Not received in time: the server never receives the call.
        let deadline = timed_call(lab, &client, &server, 1)?;
        timed_out(lab, &client, deadline)?;
        lab.ask(&server, &Args::new(Op::Recv))?;
        lab.stays_blocked(&server)?;
        // Received, not answered in time: the late answer fails.
        let deadline = timed_call(lab, &client, &server, 2)?;
        is_call_of(&lab.answer(&server)?, &server, &client, 2)?;
        timed_out(lab, &client, deadline)?;
        lab.settle();
        let late = lab.run(&server, &Args::new(Op::Reply))?;
        expect_eq!(late.error(), Some(Error::Gone), "a late answer");
        // Answered in time: the deadline has no effect.
        lab.ask(&server, &Args::new(Op::Recv))?;
        let mut args = message(Op::Call, lab.target(&client, &server), 3, regs(3), 0);
        args.info = args.info.flag(FLAG_DEADLINE);
        args.rsi = arch::now() + 20 * boot::facts().tsc_hz;
        lab.ask(&client, &args)?;
        is_call_of(&lab.answer(&server)?, &server, &client, 3)?;
        reply(lab, &server, 4)?;
        answered(lab, &client, 4)
    })
}

fn receives_and_waits_time_out(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let server = setup.server(lab)?;
        let mut args = Args::new(Op::Recv);
        args.info = args.info.flag(FLAG_DEADLINE);
        for _ in 0..3 {
            args.rsi = arch::now() + short();
            lab.ask(&server, &args)?;
            timed_out(lab, &server, args.rsi)?;
        }
        // The puppet's own Notification, which the director does not know.
        let note = crate::block::Block::at(server.number).get(crate::block::Word::Note);
        let mut args = Args::plain(Op::Wait, abi::Cap(note as u32).arg(), 0, 0, 0);
        args.info = args.info.flag(FLAG_DEADLINE);
        args.rsi = arch::now() + short();
        lab.ask(&server, &args)?;
        timed_out(lab, &server, args.rsi)
    })
}

fn cancel_ends_every_wait(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        // A queued call: the server never receives it.
        call(lab, &client, &server, 1)?;
        lab.stays_blocked(&client)?;
        client.task.cancel()?;
        failed(lab, &client, Error::Cancelled, TaskId::NONE)?;
        lab.ask(&server, &Args::new(Op::Recv))?;
        lab.stays_blocked(&server)?;
        // A call that was received.
        call(lab, &client, &server, 2)?;
        is_call_of(&lab.answer(&server)?, &server, &client, 2)?;
        client.task.cancel()?;
        failed(lab, &client, Error::Cancelled, TaskId::NONE)?;
        lab.settle();
        expect_eq!(lab.run(&server, &Args::new(Op::Reply))?.error(), Some(Error::Gone), "a late answer");
        // A receive, and a wait.
        let note = crate::block::Block::at(server.number).get(crate::block::Word::Note);
        let wait = Args::plain(Op::Wait, abi::Cap(note as u32).arg(), 0, 0, 0);
        for args in [Args::new(Op::Recv), message(Op::ReplyRecv, crate::ipc::NOBODY, 0, regs(0), 0), wait] {
            lab.ask(&server, &args)?;
            lab.stays_blocked(&server)?;
            server.task.cancel()?;
            failed(lab, &server, Error::Cancelled, TaskId::NONE)?;
        }
        call(lab, &client, &server, 3)?;
        receive(lab, &server, &client, 3)?;
        reply(lab, &server, 4)?;
        answered(lab, &client, 4)
    })
}

/// Checks that a cancel does not disturb a task that waits for nothing, then or later. Waiting for
/// commands is a wait, so the task must be busy.
fn cancel_of_nothing_is_nothing(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        call(lab, &client, &server, 1)?;
        receive(lab, &server, &client, 1)?;
        client.task.suspend()?;
        lab.settle();
        reply(lab, &server, 2)?;
        lab.settle();
        // The puppet's answer is ready; the puppet just does not run.
        client.task.cancel()?;
        client.task.resume()?;
        answered(lab, &client, 2)
    })
}

fn killed_server_wakes_all_callers(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let server = setup.server(lab)?;
        let (served, queued, late) = (setup.client(lab)?, setup.client(lab)?, setup.client(lab)?);
        let near = setup.server(lab)?;
        call(lab, &served, &server, 1)?;
        receive(lab, &server, &served, 1)?;
        for client in [&queued, &late, &near] {
            call(lab, client, &server, 2)?;
            lab.stays_blocked(client)?;
        }
        server.task.kill()?;
        for client in [&served, &queued, &late, &near] {
            failed(lab, client, Error::Dead, server.id)?;
        }
        Ok(())
    })
}

fn killed_while_its_calls_are_kept(lab: &mut Lab<'_>) -> Outcome {
    let near = crate::ipc::setups(lab)[0];
    let (first, second, server) = (near.client(lab)?, near.client(lab)?, near.server(lab)?);
    for client in [&first, &second] {
        let kept: Reply = lab.nursery.make(0)?;
        call(lab, client, &server, 1)?;
        receive(lab, &server, client, 1)?;
        let save = Args::plain(Op::SaveReply, kept.arg(), 0, 0, 0);
        expect_eq!(lab.run(&server, &save)?.error(), None, "keeping a call");
    }
    server.task.kill()?;
    failed(lab, &first, Error::Dead, server.id)?;
    failed(lab, &second, Error::Dead, server.id)
}

fn killed_caller_is_forgotten(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let server = setup.server(lab)?;
        let (queued, served, other) = (setup.client(lab)?, setup.client(lab)?, setup.client(lab)?);
        call(lab, &queued, &server, 1)?;
        lab.stays_blocked(&queued)?;
        queued.task.kill()?;
        lab.settle();
        call(lab, &served, &server, 2)?;
        receive(lab, &server, &served, 2)?;
        served.task.kill()?;
        lab.settle();
        expect_eq!(lab.run(&server, &Args::new(Op::Reply))?.error(), Some(Error::Gone), "answering the dead");
        // ReplyRecv drops the answer and receives.
        call(lab, &other, &server, 3)?;
        lab.ask(&server, &message(Op::ReplyRecv, crate::ipc::NOBODY, 0, regs(0), 0))?;
        is_call_of(&lab.answer(&server)?, &server, &other, 3)?;
        reply(lab, &server, 4)?;
        answered(lab, &other, 4)
    })
}

fn calls_to_the_dead(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        server.task.kill()?;
        lab.settle();
        for _ in 0..2 {
            call(lab, &client, &server, 1)?;
            failed(lab, &client, Error::Dead, server.id)?;
        }
        for result in [server.task.resume(), server.task.suspend(), server.task.kill(), server.task.cancel()]
        {
            expect_eq!(result.map_err(|refusal| refusal.error), Err(Error::BadState), "moving the dead");
        }
        Ok(())
    })
}

fn deleted_server_leaves_the_group(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        call(lab, &client, &server, 1)?;
        lab.stays_blocked(&client)?;
        // Its first capability and the group's: the process's own copy, if it has one, is derived
        // from it.
        own::cnode().revoke(server.task.cap())?;
        own::cnode().delete(server.task.cap())?;
        failed(lab, &client, Error::Dead, server.id)?;
        call(lab, &client, &server, 2)?;
        let shown = lab.answer(&client)?;
        expect_eq!(shown.error(), Some(Error::NoExposure), "the exposure of a deleted task");
        Ok(())
    })
}

fn deleted_reply_tells_its_caller(lab: &mut Lab<'_>) -> Outcome {
    let near = crate::ipc::setups(lab)[0];
    let (client, server) = (near.client(lab)?, near.server(lab)?);
    let kept: Reply = lab.nursery.make(0)?;
    call(lab, &client, &server, 1)?;
    receive(lab, &server, &client, 1)?;
    let save = Args::plain(Op::SaveReply, kept.arg(), 0, 0, 0);
    expect_eq!(lab.run(&server, &save)?.error(), None, "keeping the call");
    own::cnode().delete(kept.cap())?;
    let shown = lab.answer(&client)?;
    expect_eq!(shown.error(), Some(Error::Gone), "no answer will come");
    Ok(())
}

fn deleted_notification_tells_its_waiter(lab: &mut Lab<'_>) -> Outcome {
    let near = crate::ipc::setups(lab)[0];
    let puppet = near.client(lab)?;
    let note: Notification = lab.nursery.make(0)?;
    lab.ask(&puppet, &Args::plain(Op::Wait, note.arg(), 0, 0, 0))?;
    lab.stays_blocked(&puppet)?;
    own::cnode().delete(note.cap())?;
    let shown = lab.answer(&puppet)?;
    expect_eq!(shown.error(), Some(Error::Gone), "nobody will raise it");
    Ok(())
}

/// Kills on both sides at about the time when messages cross.
fn a_kill_during_a_call_across(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        for delay in 0..8 {
            let (client, server) = (setup.client(lab)?, setup.server(lab)?);
            lab.ask(&server, &Args::new(Op::Recv))?;
            call(lab, &client, &server, 1)?;
            lab.sleep(delay * 2_000);
            server.task.kill()?;
            failed(lab, &client, Error::Dead, server.id)?;
            let (client, server) = (setup.client(lab)?, setup.server(lab)?);
            lab.ask(&server, &Args::new(Op::Recv))?;
            call(lab, &client, &server, 1)?;
            lab.sleep(delay * 2_000);
            client.task.kill()?;
            lab.settle();
            let other = setup.client(lab)?;
            if lab.is_through(&server) {
                let late = lab.run(&server, &Args::new(Op::Reply))?;
                expect_eq!(late.error(), Some(Error::Gone), "answering the dead");
                lab.ask(&server, &Args::new(Op::Recv))?;
            }
            call(lab, &other, &server, 2)?;
            is_call_of(&lab.answer(&server)?, &server, &other, 2)?;
            lab.reset()?;
        }
        Ok(())
    })
}
