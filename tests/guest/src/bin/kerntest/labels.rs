//! Security labels: what they prevent for a labelled process, and not for others.

use abi::audit::may;
use abi::{Cap, Counter, Error, Op, Rights, cpu_features};
use user_rt::arch::Args;
use user_rt::boot;
use user_rt::cap::{Access, Frame, Group, Handle, Notification};
use user_rt::invoke::copy;
use user_rt::spawn::own;

use crate::lab::{CHILD_FREE, Lab, Puppet, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! { grants_joins_and_maps rules_change_under_way a_labelled_process_talks labels_are_parted }

const SUBJECT: u32 = 5;
const SECRET: u32 = 9;
/// An address where a child has nothing mapped.
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
    process.accept(Cap(CHILD_FREE + 9), &group)?;
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

/// A rule changes on one CPU while another applies it: after the system call the new rule holds
/// there.
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

/// Checks that a labelled process calls as any other in the groups that it was added to before or
/// could join.
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

/// Checks that a CPU notices when it continues with another label, and flushes branch predictors.
/// The fastpath does not switch to another label. Tasks with equal labels, or without labels, are
/// not affected.
fn labels_are_parted(lab: &mut Lab<'_>) -> Outcome {
    let places = [lab.process(false)?, lab.process(false)?];
    let [client, server] = places.map(|place| lab.puppet(&Wanted { place, ..Wanted::default() }));
    let (client, server) = (client?, server?);
    let label = |lab: &Lab<'_>, labels: [u32; 2]| -> Outcome {
        for (place, label) in places.into_iter().zip(labels) {
            own::machine().set_label(&lab.child(place)?.process, label)?;
        }
        Ok(())
    };
    let fast = u64::from(boot::has(cpu_features::FASTPATH));
    expect_eq!(counted_call(lab, &client, &server)?, (fast, 0), "fast calls and switches without labels");
    // The director of the two has no label.
    label(lab, [SUBJECT, SUBJECT])?;
    let (calls, same) = counted_call(lab, &client, &server)?;
    expect_eq!(calls, fast, "fast calls between processes of one label");
    expect!(same >= 2, "{same} switches to and from two processes of one label");
    label(lab, [SUBJECT, SECRET])?;
    let (calls, others) = counted_call(lab, &client, &server)?;
    expect_eq!(calls, 0, "fast calls between processes of two labels");
    expect!(others >= 3, "{others} switches to, between and from two processes of two labels");
    label(lab, [0, 0])?;
    expect_eq!(counted_call(lab, &client, &server)?, (fast, 0), "when the labels are gone");
    Ok(())
}

/// Counts fast calls and label switches on this CPU while a call reaches a waiting server.
fn counted_call(lab: &Lab<'_>, client: &Puppet, server: &Puppet) -> Result<(u64, u64), Failure> {
    let count = |counter| own::machine().counter(0, counter);
    let both = || Ok::<_, Failure>((count(Counter::FastCall)?, count(Counter::LabelSwitch)?));
    lab.ask(server, &Args::new(Op::Recv))?;
    lab.stays_blocked(server)?;
    let before = both()?;
    crate::ipc::call(lab, client, server, 1)?;
    crate::ipc::is_call_of(&lab.answer(server)?, server, client, 1)?;
    let after = both()?;
    crate::ipc::reply(lab, server, 2)?;
    crate::ipc::answered(lab, client, 2)?;
    Ok((after.0 - before.0, after.1 - before.1))
}
