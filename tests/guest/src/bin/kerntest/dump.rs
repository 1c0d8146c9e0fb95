//! The export of the kernel's state: builds that have it show every change; all others refuse.

use abi::{Error, Op};
use guest_tests::run::export;
use test_abi::{Dump, build};
use user_rt::arch::{Args, syscall};
use user_rt::cap::{Handle, Notification};
use user_rt::spawn::own;
use user_rt::{boot, report};

use crate::lab::{Lab, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! { state_is_exported snapshots_are_taken bad_arguments_of_dump }

/// Exports the state, and gives it a name: the harness compares the states. Equal names are of
/// equal states, and all others differ.
fn show(what: Dump, name: &str) -> Outcome {
    export(what)?;
    report!("state {name}");
    Ok(())
}

fn state_is_exported(lab: &mut Lab<'_>) -> Outcome {
    if !boot::has(build::DUMP) {
        let refused = export(Dump::All).map_err(|refusal| refusal.error);
        expect_eq!(refused, Err(Error::NotBuilt), "dump on a kernel that has none");
        return Err(Failure::Lacks("the kernel does not export its state"));
    }
    let note: Notification = lab.nursery.make(0)?;
    let puppet = lab.puppet(&Wanted::default())?;
    let spare = lab.nursery.take_slot()?;
    lab.settle();
    // The timer interrupts of the past must pass, because the timer is part of the state.
    let pass = boot::facts().tsc_hz / 20;
    lab.sleep(pass);
    show(Dump::All, "everything")?;
    let small = |name| show(Dump::WithoutMemory, name);
    small("quiet")?;
    small("quiet")?;
    note.notify(4)?;
    small("bits-are-up")?;
    expect_eq!(note.poll()?, 4, "the bits");
    small("quiet")?;
    lab.ask(&puppet, &Args::new(Op::Recv))?;
    lab.settle();
    lab.sleep(pass);
    small("a-task-receives")?;
    show(Dump::All, "everything-while-a-task-receives")?;
    user_rt::invoke::copy(&note, own::cnode().slot(spare), abi::Rights::NOTIFY, 0)?;
    show(Dump::All, "a-new-capability")?;
    lab.sleep(pass);
    show(Dump::All, "a-new-capability")
}

/// Takes snapshots on all CPUs at the same time, while each stops the others.
fn snapshots_are_taken(lab: &mut Lab<'_>) -> Outcome {
    if !boot::has(build::DUMP) {
        return Err(Failure::Lacks("the kernel does not export its state"));
    }
    let objects = export(Dump::All)?;
    expect!(objects > 10, "{objects} objects are found");
    let _: Notification = lab.nursery.make(0)?;
    expect_eq!(export(Dump::All)?, objects + 1, "objects, of which one is new");
    Ok(())
}

fn bad_arguments_of_dump(_: &mut Lab<'_>) -> Outcome {
    let expected = if boot::has(build::DUMP) { (Error::BadArgument, 1) } else { (Error::NotBuilt, 0) };
    for how in [2, 4, u64::MAX] {
        let answer = syscall(Args::plain(Op::MachineDump, own::machine().arg(), how, 0, 0));
        let got = answer.info.status().map_err(|error| (error, answer.rdi));
        expect_eq!(got, Err(expected), "dump with argument {how:#x}");
    }
    Ok(())
}
