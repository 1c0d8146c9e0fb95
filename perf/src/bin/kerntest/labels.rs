//! Security labels: what a process with one is kept from, and that others are not.

use abi::audit::may;
use abi::{Cap, Error, Op, Rights};
use user_rt::arch::Args;
use user_rt::cap::{Access, Frame, Group, Handle, Notification};
use user_rt::invoke::copy;
use user_rt::spawn::own;

use crate::lab::{CHILD_FREE, Lab, Wanted};
use crate::suite::Outcome;
use crate::{expect_eq, tests};

tests! { grants_joins_and_maps rules_change_under_way a_labelled_process_talks }

const SUBJECT: u32 = 5;
const SECRET: u32 = 9;
/// Where nothing is mapped in a child.
const HOLE: u64 = user_rt::layout::SHARED_VA + 0x1000_0000;

fn grants_joins_and_maps(lab: &mut Lab<'_>) -> Outcome {
    let index = lab.process_alone(false)?;
    let child = &lab.children[index];
    let (process, cnode, vspace) = (child.process.again(), child.cnode.again(), child.vspace.again());
    let machine = own::machine();
    let (note, frame): (Notification, Frame) = (lab.nursery.make(0)?, lab.nursery.make(12)?);
    let group: Group = lab.nursery.make(2 | 1 << 16)?;
    machine.set_label(&process, SUBJECT)?;
    machine.set_label(&note, SECRET)?;
    machine.set_label(&frame, SECRET)?;
    machine.set_label(&group, SECRET)?;
    let give = |slot| copy(&note, cnode.slot(Cap(CHILD_FREE + slot)), Rights::ALL, 0).map_err(|r| r.error);
    let map = |access| vspace.map(&frame, HOLE, access).map_err(|r| r.error);
    let join = || group.add(&process, Rights::SEND, 0).map(drop).map_err(|r| r.error);
    process.accept(Cap(CHILD_FREE + 9))?;
    machine.set_rule(SUBJECT, SECRET, 0)?;
    expect_eq!(give(0), Err(Error::Forbidden), "a grant");
    expect_eq!(join(), Err(Error::Forbidden), "joining");
    expect_eq!(map(Access::Read), Err(Error::Forbidden), "mapping");
    machine.set_rule(SUBJECT, SECRET, may::READ)?;
    expect_eq!(map(Access::Write), Err(Error::Forbidden), "mapping to write");
    expect_eq!(map(Access::Read), Ok(()), "mapping to read");
    vspace.unmap(&frame, HOLE)?;
    machine.set_rule(SUBJECT, SECRET, may::ALL)?;
    expect_eq!((give(1), join(), map(Access::Write)), (Ok(()), Ok(()), Ok(())), "with a rule that allows it");
    Ok(())
}

/// A rule is changed on one CPU while another goes by it: after the system call it holds there.
fn rules_change_under_way(lab: &mut Lab<'_>) -> Outcome {
    let index = lab.process_alone(false)?;
    let to = lab.children[index].cnode.slot(Cap(CHILD_FREE));
    let process = lab.children[index].process.again();
    let puppet = lab.puppet(&Wanted { cpu: lab.cpus - 1, ..Wanted::default() })?;
    let note: Notification = lab.nursery.make(0)?;
    own::machine().set_label(&process, SUBJECT)?;
    own::machine().set_label(&note, SECRET)?;
    for round in 0..100 {
        let allowed = if round % 2 == 0 { 0 } else { may::ALL };
        own::machine().set_rule(SUBJECT, SECRET, allowed)?;
        let args = Args::plain(Op::CapCopy, note.arg(), to.0.0, 0, 0);
        let error = lab.run(&puppet, &args)?.error();
        let wanted = if allowed == 0 { Some(Error::Forbidden) } else { None };
        expect_eq!(error, wanted, "round {round}");
        if error.is_none() {
            lab.children[index].cnode.delete(Cap(CHILD_FREE))?;
        }
    }
    Ok(())
}

/// In the groups that it was added to before, or might be, a process with a label calls as any other.
fn a_labelled_process_talks(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.process(false)?;
    let client = lab.puppet(&Wanted { place, ..Wanted::default() })?;
    let server = lab.puppet(&Wanted { cpu: lab.cpus - 1, ..Wanted::default() })?;
    let process = lab.child(place)?.process.again();
    own::machine().set_label(&process, SUBJECT)?;
    own::machine().set_label(&lab.group()?, SECRET)?;
    own::machine().set_rule(SUBJECT, SECRET, 0)?;
    crate::ipc::call(lab, &client, &server, 1)?;
    crate::ipc::receive(lab, &server, &client, 1)?;
    crate::ipc::reply(lab, &server, 2)?;
    crate::ipc::answered(lab, &client, 2)?;
    own::machine().set_rule(SUBJECT, SECRET, may::ALL)?;
    Ok(())
}
