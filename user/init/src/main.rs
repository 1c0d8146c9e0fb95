//! Process 1. Starts the program that the command line names (`run=bench`), gives it the machine's
//! memory, and ends the machine with its verdict. Without a name it lists the programs of the boot
//! archive, and checks the mechanisms that start a program.
//!
//! Words of the command line give the program a security label, or ask for an audit ([`security`]).
//!
//! It keeps the views of sensitive memory, and lends them to programs to which the table of
//! programs grants them ([`programs`]).
//!
//! A run passes only if the program reports that it passed. If the program dies without a verdict,
//! the run fails: a second task of process 1 waits in a call to the program's first task, and only
//! the death of that task ends the call.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod check;
mod launch;
mod programs;
mod security;
mod supervise;

use user_rt::arch::memory;
use user_rt::spawn::own;
use user_rt::{boot, info, report};

use user_rt::archive::Archive;

use security::Policy;

user_rt::program!(begin);

/// The bench where the harness does not listen, which reads the debug console.
const CAPTURED_BENCH: &str = "tables";
const HARNESS: &str = "e9";

fn begin(_: u64) -> ! {
    let pass = run();
    let refused = own::machine().exit(pass);
    panic!("the machine did not end: {refused:?}")
}

/// Whether all went well.
fn run() -> bool {
    let facts = boot::facts();
    info!("{} CPUs, TSC {} Hz, {} Untypeds", facts.cpus, facts.tsc_hz, facts.untyped_count);
    let archive = match Archive::new(memory::archive()) {
        Ok(archive) => archive,
        Err(error) => return complain(format_args!("the boot archive is unusable: {error}")),
    };
    if let Err(wrong) = abi::options::check(boot::command_line()) {
        return complain(format_args!("{wrong}"));
    }
    if let Some(how) = boot::options().value("die") {
        die(how);
    }
    let Some(wanted) = boot::options().value("run") else {
        return check::all(&archive);
    };
    let name = program_name(wanted, boot::options().value("log"));
    let Some(program) = archive.program(name) else {
        check::list(&archive);
        return complain(format_args!("run={wanted}: no program {name} in the boot archive"));
    };
    let policy = match Policy::of(&boot::options()) {
        Ok(policy) => policy,
        Err(bad) => return complain(format_args!("{bad}")),
    };
    let pass = match launch::launch(&program, &policy) {
        Ok(mut launched) => supervise::until_the_end(&program, &mut launched),
        Err(error) => complain(format_args!("cannot start {name}: {error}")),
    };
    policy.tell(facts.cpus);
    pass
}

/// Ends process 1, to see the fate of the machine.
fn die(how: &str) {
    match how {
        "kill" => {
            let refused = own::process().kill();
            report!("error init: killing itself: {refused:?}");
        }
        "fault" => user_rt::arch::die(),
        _ => panic!("asked for by die={how}"),
    }
}

fn program_name<'a>(wanted: &'a str, log: Option<&str>) -> &'a str {
    if wanted == "bench" && log != Some(HARNESS) {
        return CAPTURED_BENCH;
    }
    abi::options::program_of(wanted)
}

fn complain(what: core::fmt::Arguments<'_>) -> bool {
    report!("error init: {what}");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_is_another_where_no_harness_listens() {
        assert_eq!(program_name("test", None), "kerntest");
        assert_eq!(program_name("bench", Some(HARNESS)), "bench");
        assert_eq!(program_name("bench", Some("text")), "tables");
    }
}
