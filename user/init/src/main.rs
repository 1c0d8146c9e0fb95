//! Process 1. Starts the system that the command line names (`run=NAME`): reads its description in
//! the boot archive, makes its groups and processes, gives them memory, CPU time and devices, and
//! starts again what has ended. Without a name it lists the programs and systems of the boot
//! archive, and checks the mechanisms that start a program.
//!
//! ```text
//!   main ── supervise ── connect        calls of the processes, and their ends: by name,
//!      │       │    ├─ devices ── pci   of drivers; the devices on the bus
//!      │       │    ├─ manage           of a shell
//!      │       │    ├─ charges          of pagers and scheduling policies
//!      │       │    └─ front, pace      the task that receives calls; how many are served
//!      │     world ── launch ── line    the state of the system; the start of a process
//!      │       └─ places, restarts, memory
//!      └─ check, security               without a system; labels and the audit
//! ```
//!
//! Words of the command line give programs a security label, or ask for an audit ([`security`]).
//!
//! A system has a process whose verdict is the machine's: the machine ends when that process says
//! whether it passed, or dies. Other systems run until they are told to end, or nothing of them is
//! left.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod charges;
mod check;
mod connect;
mod devices;
mod front;
mod launch;
mod line;
mod manage;
mod memory;
mod pace;
mod pci;
mod places;
mod restarts;
mod security;
mod supervise;
mod world;

use protocols::system;
use user_rt::archive::Archive;
use user_rt::spawn::own;
use user_rt::{boot, info, report};

use security::Policy;
use world::World;

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
    let archive = match Archive::new(user_rt::arch::memory::archive()) {
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
    let name = system_name(wanted, boot::options().value("log"));
    let Some(file) = archive.system(name) else {
        check::list(&archive);
        return complain(format_args!("run={wanted}: no system {name} in the boot archive"));
    };
    let policy = match Policy::of(&boot::options()) {
        Ok(policy) => policy,
        Err(bad) => return complain(format_args!("{bad}")),
    };
    let message = system::open(file);
    let world = match message.get_root() {
        Ok(described) => World::new(&archive, described, &policy),
        Err(error) => Err(error.into()),
    };
    let pass = match world {
        Ok(mut world) => world.run(),
        Err(error) => complain(format_args!("cannot make {name}: {error}")),
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

fn system_name<'a>(wanted: &'a str, log: Option<&str>) -> &'a str {
    if wanted == "bench" && log != Some(HARNESS) { CAPTURED_BENCH } else { wanted }
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
        assert_eq!(system_name("test", None), "test");
        assert_eq!(system_name("bench", Some(HARNESS)), "bench");
        assert_eq!(system_name("bench", Some("text")), "tables");
    }
}
