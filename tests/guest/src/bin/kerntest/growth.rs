//! CSpaces that grow: capabilities in an added table work like all others, on every CPU, and added
//! tables end with the process.

use alloc::vec::Vec;

use abi::{Cap, Error, MEMBER_RIGHTS, ObjType, Op, Rights};
use user_rt::arch::Args;
use user_rt::cap::{CNode, Handle, Notification, Process, VSpace};
use user_rt::invoke::copy;

use crate::ipc::{answered, call, in_every_setup, receive, reply};
use crate::lab::{Lab, Place, Wanted};
use crate::suite::Outcome;
use crate::{expect, expect_eq, tests};

tests! { calls_through_an_added_table what_is_added_is_listed grown_and_killed_at_once }

const SLOTS: u64 = 16;

fn calls_through_an_added_table(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (mut client, server) = (setup.client(lab)?, setup.server(lab)?);
        let Place::Child(index) = client.place else { return Ok(()) };
        let (group, table) = (lab.group()?, lab.nursery.make::<CNode>(SLOTS)?);
        let child = &lab.children[index];
        let first = child.process.grow(&table)?;
        let near = client.group;
        let far = Cap(first.0 + 4);
        child.join(&group, far, MEMBER_RIGHTS, 0)?;
        for round in 0..20 {
            // Alternately from the first table by the fastpath, and from the second without it.
            client.group = if round % 2 == 0 { far } else { near };
            call(lab, &client, &server, round)?;
            receive(lab, &server, &client, round)?;
            reply(lab, &server, round + 1)?;
            answered(lab, &client, round + 1)?;
        }
        table.delete(Cap(5))?;
        client.group = far;
        call(lab, &client, &server, 1)?;
        expect_eq!(lab.answer(&client)?.error(), Some(Error::NoCapability), "when it is deleted");
        Ok(())
    })
}

fn what_is_added_is_listed(lab: &mut Lab<'_>) -> Outcome {
    let index = lab.process_alone(false)?;
    let (note, table) = (lab.nursery.make::<Notification>(0)?, lab.nursery.make::<CNode>(SLOTS)?);
    let child = &lab.children[index];
    let first = child.process.grow(&table)?;
    copy(&note, table.slot(Cap(10)), Rights::NOTIFY, 3)?;
    let seen = table.inspect(Cap(10))?.map(|it| (it.object, it.badge));
    expect_eq!(seen, Some((ObjType::Notification, 3)), "by the table's own numbers");
    let beyond = child.cnode.inspect(Cap(first.0 + 9)).map_err(|refusal| refusal.error);
    expect!(matches!(beyond, Err(Error::NoCapability)), "the first table reaches what was added");
    expect_eq!(child.process.holds(&note, Rights::NOTIFY)?, Some(Cap(first.0 + 9)), "verified");
    let listed = child.process.list(first)?;
    let listed: Vec<_> = listed.entries().map(|it| it.slot).collect();
    expect_eq!(listed, [first.0 + 9], "listed");
    Ok(())
}

/// All CPUs add tables to one process while it is killed: each table is added or not, at its own
/// place, and all can serve another process afterwards.
fn grown_and_killed_at_once(lab: &mut Lab<'_>) -> Outcome {
    let puppets: Result<Vec<_>, _> =
        (0..lab.cpus).map(|cpu| lab.puppet(&Wanted { cpu, ..Wanted::default() })).collect();
    let puppets = puppets?;
    let mut added = 0;
    for round in 0..30 {
        let mut nursery = lab.nursery.split(18, 64)?;
        let (process, cnode): (Process, CNode) = (nursery.make(1)?, nursery.make(SLOTS)?);
        process.configure(&cnode, &nursery.make::<VSpace>(1)?, false)?;
        let mut tables = Vec::new();
        for puppet in &puppets {
            let table: CNode = nursery.make(SLOTS)?;
            lab.ask(puppet, &Args::plain(Op::CSpaceGrow, process.arg(), table.arg(), 0, 0))?;
            tables.push(table);
        }
        if round % 3 != 0 {
            process.kill()?;
        }
        let mut numbers = Vec::new();
        for puppet in &puppets {
            let shown = lab.answer(puppet)?;
            match shown.error() {
                None => numbers.push(shown.answer.rdi),
                error => expect!(
                    matches!(error, Some(Error::Dying | Error::BadState)) && round % 3 != 0,
                    "round {round}: {error:?}"
                ),
            }
        }
        added += numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        let all = numbers.iter().all(|number| number % SLOTS == 1 && *number > SLOTS);
        expect!(all && numbers.len() <= puppets.len(), "round {round}: numbers {numbers:?}");
        process.kill()?;
        let other: Process = nursery.make(1)?;
        let own: CNode = nursery.make(SLOTS)?;
        other.configure(&own, &nursery.make::<VSpace>(1)?, false)?;
        for table in &tables {
            other.grow(table)?;
        }
        nursery.reset()?;
    }
    expect!(added >= puppets.len() * 10, "only {added} tables were added");
    Ok(())
}
