//! The audit: records of grants, refusals and kills on every CPU. No task waits for the reader.

use alloc::vec::Vec;

use abi::audit::{AuditEvent, Record};
use abi::{Cap, Error, Op, Rights};
use user_rt::arch::Args;
use user_rt::cap::{Handle, Notification, Untyped};
use user_rt::invoke::Pins;
use user_rt::spawn::own;

use crate::lab::{CHILD_FREE, Lab, Wanted};
use crate::suite::Outcome;
use crate::{expect, expect_eq, tests};

tests! { what_happens_on_each_cpu_is_told read_while_it_is_written an_audit_ends_with_its_memory }

const LOG2: u8 = 8;

/// Reads all of a CPU's ring. Returns the records, how many were lost, and the next position.
fn read(cpu: u32, mut next: u64) -> user_rt::Result<(Vec<Record>, u64, u64)> {
    let (mut found, mut lost) = (Vec::new(), 0);
    loop {
        let records = own::machine().read_audit(cpu, next)?;
        found.extend(records.iter().copied());
        lost += records.lost;
        next = records.next;
        if records.is_empty() {
            return Ok((found, lost, next));
        }
    }
}

/// Starts the audit with some memory.
fn begin(lab: &mut Lab<'_>) -> Result<Untyped, crate::suite::Failure> {
    let memory: Untyped = lab.nursery.make(18)?;
    own::machine().start_audit(&memory, LOG2)?;
    Ok(memory)
}

fn what_happens_on_each_cpu_is_told(lab: &mut Lab<'_>) -> Outcome {
    let index = lab.process_alone(false)?;
    let (process, cnode) = (lab.children[index].process.again(), lab.children[index].cnode.again());
    let note: Notification = lab.nursery.make(0)?;
    let memory = begin(lab)?;
    for cpu in 0..lab.cpus {
        let puppet = lab.puppet(&Wanted { cpu, ..Wanted::default() })?;
        let (_, _, start) = read(cpu, 0)?;
        let to = cnode.slot(Cap(CHILD_FREE + cpu));
        let give = Args::plain(Op::CapCopy, note.arg(), to.0.0, u64::from(Rights::NOTIFY.0), 7);
        expect_eq!(lab.run(&puppet, &give)?.error(), None, "a grant on CPU {cpu}");
        let amplify = Args::plain(Op::CapCopy, note.arg(), to.0.0, u64::from(u32::MAX), 0);
        let denied = lab.run(&puppet, &amplify)?.answer;
        expect_eq!(denied.info.status().err(), Some(Error::Amplifies), "a denial on CPU {cpu}");
        puppet.task.kill()?;
        lab.settle();
        let (records, lost, _) = read(cpu, start)?;
        expect_eq!(lost, 0, "lost");
        let of = |event| records.iter().find(move |it| it.event == event && it.actor == puppet.id);
        let grant = of(AuditEvent::Grant).map(|it| (it.op, it.rights, it.detail));
        expect_eq!(grant, Some((Some(Op::CapCopy), Rights::NOTIFY, 7)), "the grant");
        let denial = of(AuditEvent::Denial).map(|it| (it.op, it.error, it.detail));
        expect_eq!(denial, Some((Some(Op::CapCopy), Some(Error::Amplifies), denied.rdi)), "the denial");
        expect!(of(AuditEvent::Death).is_some(), "no death on CPU {cpu}: {records:?}");
    }
    process.kill()?;
    let (records, _, _) = read(0, 0)?;
    let identity = own::cnode().inspect(process.cap())?.map_or(0, |it| it.identity);
    let kill = records.iter().find(|it| it.event == AuditEvent::Kill && it.identity == identity);
    expect_eq!(kill.map(|it| it.op), Some(Some(Op::ProcessKill)), "the kill");
    memory.reset(Pins::Hold)?;
    Ok(())
}

/// Each CPU grants and is refused while another reads: every record is whole, in order, and either
/// read or counted as lost.
fn read_while_it_is_written(lab: &mut Lab<'_>) -> Outcome {
    const ROUNDS: u64 = 2000;
    let far = lab.cpus - 1;
    let puppet = lab.puppet(&Wanted { cpu: far, ..Wanted::default() })?;
    let note: Notification = lab.nursery.make(0)?;
    let memory = begin(lab)?;
    let (_, _, start) = read(far, 0)?;
    let (mut next, mut read_ones, mut lost, mut last) = (start, 0, 0, 0);
    for round in 0..ROUNDS {
        // More rights than the capability has. The detail names them, so each record carries its
        // number.
        let wanted = u64::from(note_rights(round));
        lab.ask(
            &puppet,
            &Args::plain(Op::CapCopy, note.arg(), own::cnode().slot(note.cap()).0.0, wanted, 0),
        )?;
        if round % 7 == 0 {
            let (records, gone, then) = read(far, next)?;
            expect_eq!(then - next, records.len() as u64 + gone, "records {next} to {then}");
            for record in records.iter().filter(|it| it.event == AuditEvent::Denial) {
                expect_eq!(record.error, Some(Error::Amplifies), "a record");
                expect!(record.time >= last, "out of order");
                last = record.time;
            }
            (read_ones, lost, next) = (read_ones + records.len() as u64, lost + gone, then);
        }
        expect_eq!(lab.answer(&puppet)?.error(), Some(Error::Amplifies), "round {round}");
    }
    let (records, gone, then) = read(far, next)?;
    let all = read_ones + records.len() as u64 + lost + gone;
    expect_eq!(all, then - start, "records read and lost");
    expect!(all >= ROUNDS, "{all} records of {ROUNDS} refusals");
    memory.reset(Pins::Hold)?;
    Ok(())
}

/// Returns a set of rights that no capability has. Many such sets exist.
fn note_rights(round: u64) -> u32 {
    1 << 31 | (round as u32) << 20
}

fn an_audit_ends_with_its_memory(lab: &mut Lab<'_>) -> Outcome {
    for _ in 0..3 {
        let memory = begin(lab)?;
        let other: Untyped = lab.nursery.make(18)?;
        let again = own::machine().start_audit(&other, LOG2).map_err(|refusal| refusal.error);
        expect_eq!(again, Err(Error::InUse), "a second audit");
        memory.reset(Pins::Hold)?;
        let read = own::machine().read_audit(0, 0).map(drop).map_err(|refusal| refusal.error);
        expect_eq!(read, Err(Error::BadState), "after the reset");
    }
    Ok(())
}
