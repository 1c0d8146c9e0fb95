//! Events at the kernel's last instruction: a test stops the machine at the IRET that leaves the
//! kernel, injects an event that has nothing to do with the task, and checks the kernel's reaction.
//!
//! QEMU's monitor raises machine checks and NMIs; both come before the IRET is executed. The IRET
//! itself causes a double fault, without a stack: it faults, and so does the delivery of that
//! fault.

use std::fs;

use anyhow::{Context, Result};

use crate::gdbtest::session;
use crate::lab::Lab;

/// What happens at the exit.
struct Arrival {
    name: &'static str,
    /// gdb's command.
    command: &'static str,
    /// How the kernel's line about it starts, and ends.
    says: [&'static str; 2],
    verdict: &'static str,
}

const ARRIVALS: [Arrival; 3] = [
    Arrival {
        name: "a machine check at the exit",
        // CPU 0, bank 1, valid and uncorrected, in progress.
        command: "monitor mce 0 1 0xb200000000000000 4 0 0",
        says: ["aurora: kernel exception on cpu0", "machine check (vector 18)"],
        verdict: "panic",
    },
    Arrival {
        name: "a double fault at the exit",
        // Page 0 is never mapped.
        command: "set $rsp = 8",
        says: ["aurora: kernel exception on cpu0", "double fault (vector 8)"],
        verdict: "panic",
    },
    Arrival {
        name: "an NMI at the exit",
        command: "monitor nmi",
        says: ["aurora: NMI on cpu0 in kernel code", "ignored"],
        verdict: "pass",
    },
];
/// How many tests there are.
pub const COUNT: u64 = ARRIVALS.len() as u64;

/// Runs the tests of all arrivals. Returns their names, each with what is wrong.
pub fn run(lab: &Lab) -> Result<Vec<(&'static str, Option<String>)>> {
    ARRIVALS.iter().map(|arrival| Ok((arrival.name, judge(lab, arrival)?))).collect()
}

fn judge(lab: &Lab, arrival: &Arrival) -> Result<Option<String>> {
    let commands = ["hbreak trap_iret", "continue", arrival.command, "delete", "continue"];
    // A short test: the programs start, and end well.
    let said = session(lab, &["run=test", "only=trace"], &commands.map(str::to_owned))?;
    if !said.contains("in trap_iret ()") {
        return Ok(Some(format!("the machine did not stop there: {said}")));
    }
    let serial = lab.artifacts.runs().join("gdb-run/serial.txt");
    let serial = fs::read(&serial).with_context(|| format!("reading {}", serial.display()))?;
    Ok(is_missing(arrival, &String::from_utf8_lossy(&serial)))
}

/// Returns what the guest did not say about an arrival.
fn is_missing(arrival: &Arrival, serial: &str) -> Option<String> {
    let [start, end] = arrival.says;
    let verdict = format!("aurora: exit {}", arrival.verdict);
    let said = |wanted: &dyn Fn(&str) -> bool| serial.lines().any(|line| wanted(line.trim_end()));
    if !said(&|line| line.starts_with(start) && line.ends_with(end)) {
        return Some(format!("the kernel does not say \"{start} … {end}\""));
    }
    (!said(&|line| line == verdict)).then(|| format!("the kernel does not say \"{verdict}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_blamed_fails_the_test() {
        let [machine_check, _, nmi] = &ARRIVALS;
        let blamed = "aurora: the process of task 1 ended: exception 18 error 0x0\r\naurora: exit fail\r\n";
        assert!(is_missing(machine_check, blamed).is_some_and(|why| why.contains("machine check")));
        let dump = "aurora: kernel exception on cpu0 (APIC 0x0): machine check (vector 18)\r\n";
        let ends = "aurora: exit panic\r\n";
        assert_eq!(is_missing(machine_check, &format!("{dump}{ends}")), None);
        assert!(is_missing(machine_check, dump).is_some_and(|why| why.contains("exit panic")));
        let told = "aurora: NMI on cpu0 in kernel code at 0x10, ignored\r\naurora: exit pass\r\n";
        assert_eq!(is_missing(nmi, told), None);
    }
}
