//! The export of the kernel's state: builds that have it show every change; all others refuse.

use abi::{Error, Op, cpu_features};
use user_rt::arch::{Args, syscall};
use user_rt::boot;
use user_rt::cap::{Handle, Notification};
use user_rt::invoke::Dump;
use user_rt::spawn::own;

use crate::lab::{Lab, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! { state_is_exported snapshots_are_taken bad_arguments_of_dump }

const HASH: Dump = Dump { text: false, memory: true };
const WITHOUT_MEMORY: Dump = Dump { text: false, memory: false };

fn state_is_exported(lab: &mut Lab<'_>) -> Outcome {
    let machine = own::machine();
    if !boot::has(cpu_features::DUMP) {
        let refused = machine.dump(HASH).map_err(|refusal| refusal.error);
        expect_eq!(refused, Err(Error::NotBuilt), "dump on a kernel that has none");
        return Err(Failure::Lacks("the kernel does not export its state"));
    }
    let note: Notification = lab.nursery.make(0)?;
    let puppet = lab.puppet(&Wanted::default())?;
    lab.settle();
    // The timer interrupts of the past must pass, because the timer is part of the state.
    let pass = boot::facts().tsc_hz / 20;
    lab.sleep(pass);
    let small = || machine.dump(WITHOUT_MEMORY);
    let (first, all) = (small()?, machine.dump(HASH)?);
    expect_eq!(small()?, first, "nothing happened, and the state is another");
    expect!(all != first, "capabilities and memory say nothing");
    note.notify(4)?;
    let raised = small()?;
    expect!(raised != first, "raised bits are not seen");
    expect_eq!(note.poll()?, 4, "the bits");
    expect_eq!(small()?, first, "the bits are gone, and the state is not as it was");
    lab.ask(&puppet, &Args::new(Op::Recv))?;
    lab.settle();
    lab.sleep(pass);
    expect!(small()? != first, "a task that receives is not seen");
    let before = machine.dump(HASH)?;
    let spare = lab.nursery.take_slot()?;
    user_rt::invoke::copy(&note, own::cnode().slot(spare), abi::Rights::NOTIFY, 0)?;
    expect!(machine.dump(HASH)? != before, "a new capability is not seen");
    lab.sleep(pass);
    let hash = machine.dump(HASH)?;
    expect_eq!(machine.dump(Dump::ALL)?, hash, "the hash with the text and without");
    Ok(())
}

/// Takes snapshots on all CPUs at the same time, while each stops the others.
fn snapshots_are_taken(lab: &mut Lab<'_>) -> Outcome {
    if !boot::has(cpu_features::DUMP) {
        return Err(Failure::Lacks("the kernel does not export its state"));
    }
    let objects = own::machine().snapshot()?;
    expect!(objects > 10, "{objects} objects are found");
    let _: Notification = lab.nursery.make(0)?;
    expect_eq!(own::machine().snapshot()?, objects + 1, "objects, of which one is new");
    Ok(())
}

fn bad_arguments_of_dump(_: &mut Lab<'_>) -> Outcome {
    let expected = if boot::has(cpu_features::DUMP) { (Error::BadArgument, 1) } else { (Error::NotBuilt, 0) };
    for how in [5, 8, u64::MAX] {
        let answer = syscall(Args::plain(Op::MachineDump, own::machine().arg(), how, 0, 0));
        let got = answer.info.status().map_err(|error| (error, answer.rdi));
        expect_eq!(got, Err(expected), "dump with argument {how:#x}");
    }
    Ok(())
}
