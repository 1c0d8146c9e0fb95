//! A task is read out in the middle of a system call, and a fresh one goes on with its registers.

use abi::{Error, FLAG_DEADLINE, Op, Rewound};
use user_rt::arch::{self, Args};
use user_rt::cap::{Handle, Notification};

use crate::ipc::{answered, call, is_call_of, regs, reply};
use crate::lab::{Lab, Puppet, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect_eq, tests};

tests! { a_wait_goes_on a_receive_goes_on a_call_goes_on a_call_that_was_received_is_answered }

/// Suspends a task, and takes it out of what it does.
fn stop(lab: &Lab<'_>, puppet: &Puppet) -> Result<Rewound, Failure> {
    puppet.task.suspend()?;
    lab.settle();
    for _ in 0..100 {
        match puppet.task.rewind()? {
            Rewound::Asked => lab.settle(),
            rewound => return Ok(rewound),
        }
    }
    Err(Failure::Of("its message never came back".into()))
}

/// A fresh task of the same process goes on in the puppet's place, on the puppet's stack.
fn go_on(lab: &mut Lab<'_>, puppet: &Puppet) -> Outcome {
    let regs = puppet.task.read_regs()?;
    let wanted = Wanted { place: puppet.place, ..Wanted::default() };
    let fresh = lab.task(&wanted, crate::puppet::puppet, 0)?.task;
    fresh.write_regs(&regs)?;
    Ok(fresh.resume()?)
}

fn a_wait_goes_on(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let note: Notification = lab.nursery.make(0)?;
    lab.ask(&puppet, &Args::plain(Op::Wait, note.arg(), 0, 0, 0))?;
    lab.stays_blocked(&puppet)?;
    expect_eq!(stop(lab, &puppet)?, Rewound::Done, "a wait");
    note.notify(4)?;
    go_on(lab, &puppet)?;
    let shown = lab.answer(&puppet)?;
    expect_eq!((shown.error(), shown.answer.rdx, shown.dirt), (None, 4, 0), "what it waited for");
    Ok(())
}

fn a_receive_goes_on(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let mut args = Args::new(Op::Recv);
    args.info = args.info.flag(FLAG_DEADLINE);
    args.rsi = arch::now() + 20_000_000;
    lab.ask(&puppet, &args)?;
    expect_eq!(stop(lab, &puppet)?, Rewound::Done, "a receive");
    go_on(lab, &puppet)?;
    let shown = lab.answer(&puppet)?;
    expect_eq!(shown.error(), Some(Error::Timeout), "at the end of its time");
    Ok(())
}

fn a_call_goes_on(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1] {
        let client = lab.puppet(&Wanted::default())?;
        let server = lab.puppet(&Wanted { cpu, ..Wanted::default() })?;
        call(lab, &client, &server, 3)?;
        lab.stays_blocked(&client)?;
        expect_eq!(stop(lab, &client)?, Rewound::Done, "a call that nobody received, CPU {cpu}");
        go_on(lab, &client)?;
        let got = lab.run(&server, &Args::new(Op::Recv))?;
        expect_eq!((got.error(), got.answer.message_registers()), (None, regs(3)), "the call");
        reply(lab, &server, 4)?;
        answered(lab, &client, 4)?;
        lab.ask(&server, &Args::new(Op::Recv))?;
        lab.stays_blocked(&server)?;
        lab.reset()?;
    }
    Ok(())
}

fn a_call_that_was_received_is_answered(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1] {
        let client = lab.puppet(&Wanted::default())?;
        let server = lab.puppet(&Wanted { cpu, ..Wanted::default() })?;
        lab.ask(&server, &Args::new(Op::Recv))?;
        lab.settle();
        call(lab, &client, &server, 3)?;
        is_call_of(&lab.answer(&server)?, &server, &client, 3)?;
        expect_eq!(stop(lab, &client)?, Rewound::Received, "CPU {cpu}");
        reply(lab, &server, 4)?;
        lab.settle();
        expect_eq!(stop(lab, &client)?, Rewound::Done, "it has its answer");
        go_on(lab, &client)?;
        answered(lab, &client, 4)?;
        lab.reset()?;
    }
    Ok(())
}
