//! Commands about the machine, which the kernel answers.

use core::fmt::{self, Write};

use abi::Counter;
use user_rt::boot;
use user_rt::spawn::own;

use crate::commands::{fail, usage};
use crate::{Shell, Status};

type Ran = Result<Status, fmt::Error>;

fn cpu_count() -> u32 {
    boot::facts().cpus as u32
}

pub fn cpus(shell: &mut Shell, words: &[&str]) -> Ran {
    if !words.is_empty() {
        return usage(shell, "cpus");
    }
    let machine = own::machine();
    writeln!(
        shell.out,
        "{:<4} {:>6} {:>12} {:>12} {:>12} {:>12}",
        "cpu", "tasks", "entries", "fast", "interrupts", "mail"
    )?;
    for cpu in 0..cpu_count() {
        let state = match machine.cpu_state(cpu, false) {
            Ok(state) => state,
            Err(refusal) => return fail(shell, format_args!("this shell may not look at CPUs: {refusal}")),
        };
        let count = |counter| machine.counter(cpu, counter).unwrap_or(0);
        let fast = [
            Counter::FastCall,
            Counter::FastReply,
            Counter::FastNotify,
            Counter::FastWait,
            Counter::FastYield,
            Counter::FastSend,
        ];
        writeln!(
            shell.out,
            "{cpu:<4} {:>6} {:>12} {:>12} {:>12} {:>12}{}",
            state.tasks,
            count(Counter::SlowEntry),
            fast.into_iter().map(count).sum::<u64>(),
            count(Counter::Interrupt),
            count(Counter::MailTaken),
            if state.is_parked { "  parked" } else { "" },
        )?;
    }
    Ok(Status::Done)
}

pub fn counters(shell: &mut Shell, words: &[&str]) -> Ran {
    let cpus = match words {
        [] => 0..cpu_count(),
        [number] => match number.parse::<u32>() {
            Ok(cpu) if cpu < cpu_count() => cpu..cpu + 1,
            _ => return fail(shell, format_args!("there is no CPU {number}; there are {}", cpu_count())),
        },
        _ => return usage(shell, "counters"),
    };
    for counter in Counter::ALL {
        let mut sum = 0;
        for cpu in cpus.clone() {
            match own::machine().counter(cpu, *counter) {
                Ok(count) => sum += count,
                Err(refusal) => {
                    return fail(shell, format_args!("this shell may not see the counters: {refusal}"));
                }
            }
        }
        if sum != 0 {
            writeln!(shell.out, "{sum:>14}  {}", counter.name())?;
        }
    }
    Ok(Status::Done)
}
