//! Processes that are killed, by others and by themselves, whatever their tasks do.

use alloc::vec::Vec;

use abi::{Error, Op, Rights, process_rights};
use user_rt::arch::Args;
use user_rt::cap::{Handle, Process};
use user_rt::invoke::copy;
use user_rt::layout::slot;
use user_rt::spawn::own;

use crate::fate;
use crate::ipc::{call, failed, receive};
use crate::lab::{Lab, Place, Puppet, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    killed_on_all_cpus_with_callers killed_by_itself killed_by_two_of_its_own killed_in_the_middle_of_a_fault
    killed_while_it_calls killed_twice killing_takes_a_right killed_at_any_moment
}

/// Makes a process with a puppet on every CPU.
fn victim(lab: &mut Lab<'_>) -> Result<(Process, Place, Vec<Puppet>), Failure> {
    let place = lab.process(false)?;
    let puppets: Result<_, Failure> =
        (0..lab.cpus).map(|cpu| lab.puppet(&Wanted { place, cpu, ..Wanted::default() })).collect();
    Ok((lab.child(place)?.process.again(), place, puppets?))
}

fn on(lab: &mut Lab<'_>, cpu: u32) -> Result<Puppet, Failure> {
    lab.puppet(&Wanted { cpu, ..Wanted::default() })
}

fn all_dead(puppets: &[Puppet]) -> Outcome {
    for puppet in puppets {
        let refused = puppet.task.kill().map_err(|refusal| refusal.error);
        expect_eq!(refused, Err(Error::BadState), "puppet {} after the kill", puppet.number);
    }
    Ok(())
}

fn killed_on_all_cpus_with_callers(lab: &mut Lab<'_>) -> Outcome {
    let (process, _, servers) = victim(lab)?;
    let far = lab.cpus - 1;
    let mut waiting = Vec::new();
    for server in &servers {
        let (served, queued) = (on(lab, 0)?, on(lab, far)?);
        call(lab, &served, server, 1)?;
        receive(lab, server, &served, 1)?;
        call(lab, &queued, server, 2)?;
        lab.stays_blocked(&queued)?;
        waiting.extend([(served, server.id), (queued, server.id)]);
    }
    process.kill()?;
    all_dead(&servers)?;
    for (client, id) in &waiting {
        failed(lab, client, Error::Dead, *id)?;
    }
    let (client, _) = &waiting[0];
    call(lab, client, &servers[0], 3)?;
    expect_eq!(lab.answer(client)?.error(), Some(Error::NoExposure), "a call to it afterwards");
    expect_eq!(process.holds(&lab.group()?, Rights::NONE).map_err(|r| r.error), Err(Error::BadState), "it");
    Ok(())
}

fn killed_by_itself(lab: &mut Lab<'_>) -> Outcome {
    for last in [false, true] {
        let (process, _, puppets) = victim(lab)?;
        let killer = &puppets[if last { puppets.len() - 1 } else { 0 }];
        let client = on(lab, 0)?;
        call(lab, &client, killer, 1)?;
        receive(lab, killer, &client, 1)?;
        lab.ask(killer, &Args::plain(Op::ProcessKill, slot::PROCESS.arg(), 0, 0, 0))?;
        failed(lab, &client, Error::Dead, killer.id)?;
        lab.settle();
        all_dead(&puppets)?;
        process.kill()?;
    }
    Ok(())
}

fn killed_by_two_of_its_own(lab: &mut Lab<'_>) -> Outcome {
    for _ in 0..4 {
        let (process, _, puppets) = victim(lab)?;
        for puppet in &puppets {
            lab.ask(puppet, &Args::plain(Op::ProcessKill, slot::PROCESS.arg(), 0, 0, 0))?;
        }
        process.kill()?;
        all_dead(&puppets)?;
        lab.reset()?;
    }
    Ok(())
}

fn killed_in_the_middle_of_a_fault(lab: &mut Lab<'_>) -> Outcome {
    let (process, place, puppets) = victim(lab)?;
    let cpu = lab.cpus - 1;
    let handler = on(lab, 0)?;
    process.fault_handler(Some(lab.target(&puppets[0], &handler)))?;
    lab.ask(&handler, &Args::new(Op::Recv))?;
    let faulter = lab.task(&Wanted { place, cpu, ..Wanted::default() }, fate::read, 8)?;
    faulter.task.resume()?;
    let shown = lab.answer(&handler)?;
    expect_eq!((shown.error(), shown.answer.rsi), (None, faulter.id.raw()), "the fault");
    process.kill()?;
    all_dead(&puppets)?;
    expect_eq!(faulter.task.kill().map_err(|r| r.error), Err(Error::BadState), "the one that faulted");
    expect_eq!(lab.run(&handler, &Args::new(Op::Reply))?.error(), Some(Error::Gone), "a late answer");
    Ok(())
}

fn killed_while_it_calls(lab: &mut Lab<'_>) -> Outcome {
    let (process, _, clients) = victim(lab)?;
    let (near, far) = (on(lab, 0)?, on(lab, lab.cpus - 1)?);
    for (n, client) in clients.iter().enumerate() {
        call(lab, client, if n % 2 == 0 { &far } else { &near }, 1)?;
    }
    lab.settle();
    lab.ask(&far, &Args::new(Op::Recv))?;
    expect_eq!(lab.answer(&far)?.error(), None, "receiving one of them");
    process.kill()?;
    all_dead(&clients)?;
    expect_eq!(lab.run(&far, &Args::new(Op::Reply))?.error(), Some(Error::Gone), "a late answer");
    // Queued calls are not received any more.
    for server in [&near, &far] {
        lab.ask(server, &Args::new(Op::Recv))?;
        lab.stays_blocked(server)?;
    }
    Ok(())
}

fn killed_twice(lab: &mut Lab<'_>) -> Outcome {
    let (process, place, puppets) = victim(lab)?;
    process.kill()?;
    process.kill()?;
    all_dead(&puppets)?;
    let child = lab.child(place)?;
    let again = process.configure(&child.cnode, &child.vspace, false).map_err(|r| r.error);
    expect_eq!(again, Err(Error::Dying), "spaces for the dead");
    // Its spaces serve another process.
    let (cnode, vspace) = (child.cnode.again(), child.vspace.again());
    let heir: Process = lab.nursery.make(2)?;
    heir.configure(&cnode, &vspace, false)?;
    heir.kill()?;
    Ok(())
}

fn killing_takes_a_right(lab: &mut Lab<'_>) -> Outcome {
    let (process, _, puppets) = victim(lab)?;
    let weak = lab.nursery.take_slot()?;
    copy(&process, own::cnode().slot(weak), Rights::ALL.minus(process_rights::DESTROY.rights()), 0)?;
    expect_eq!(Process::at(weak).kill().map_err(|r| r.error), Err(Error::NoRight), "without DESTROY");
    for puppet in &puppets {
        expect_eq!(lab.run(puppet, &Args::new(Op::Null))?.error(), None, "it lives");
    }
    Ok(())
}

/// Makes calls in both directions, and kills at about the time when they cross.
fn killed_at_any_moment(lab: &mut Lab<'_>) -> Outcome {
    for delay in 0..12u64 {
        let (process, _, puppets) = victim(lab)?;
        let (client, server) = (on(lab, lab.cpus - 1)?, on(lab, 0)?);
        let called = &puppets[0];
        lab.ask(&server, &Args::new(Op::Recv))?;
        for puppet in &puppets[1..] {
            call(lab, puppet, &server, 1)?;
        }
        lab.ask(called, &Args::new(Op::Recv))?;
        call(lab, &client, called, 2)?;
        lab.sleep(delay * 3_000);
        process.kill()?;
        all_dead(&puppets)?;
        let error = lab.answer(&client)?.error();
        // Called before the kill, or after.
        expect!(matches!(error, Some(Error::Dead | Error::NoExposure)), "delay {delay}: {error:?}");
        server.task.kill()?;
        lab.reset()?;
    }
    Ok(())
}
