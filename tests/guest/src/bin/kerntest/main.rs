//! Tests of the kernel from user level: each prints `test name=… ok|FAILED …|skipped …`.
//!
//! The first task directs. [`lab::Puppet`]s on any CPU, in this process or in others, make the
//! tested system calls and return all results. All objects of a test come from one nursery, which
//! is reset after it. A test that leaves an object that cannot be destroyed fails.
//!
//! Options: `only=ipc,caps` (modules or names; a word that is neither fails the run), `seed=`;
//! `turns=1` on machines whose CPUs take turns, so that an attack on another CPU's operation cannot
//! be observed. With `run=diff` the program plays for the differential test ([`diff`]) instead:
//! `seed=`, `steps=`, `show=`.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod arguments;
mod audit;
mod block;
mod caps;
mod context;
mod debug;
mod devices;
mod diff;
mod dump;
mod ends;
mod events;
mod fate;
mod faults;
mod grants;
mod groups;
mod growth;
mod hog;
mod holdings;
mod hostile;
mod ipc;
mod irqs;
mod kills;
mod lab;
mod labels;
mod loaded;
mod locks;
mod memory;
mod messages;
mod notify;
mod pages;
mod protection;
mod puppet;
mod quiet;
mod readers;
mod registers;
mod sched;
mod shares;
mod stacks;
mod suite;
mod trace;
mod turns;
mod untyped;
mod values;
mod views;

use guest_tests::{expect, expect_eq};
use user_rt::elf::Image;
use user_rt::{arch, boot, report, supervisor};

use lab::Lab;
use suite::{Tally, Verdict};

user_rt::program!(begin);

fn begin(_: u64) -> ! {
    let tally = match Image::parse(arch::memory::archive()) {
        Err(error) => broken(format_args!("its own file: {error}")),
        Ok(image) => match Lab::new(&image) {
            Err(refusal) => broken(format_args!("preparing: {refusal}")),
            Ok(mut lab) if boot::options().value("run") == Some("diff") => diff::run(&mut lab),
            Ok(mut lab) => {
                suite::check_words().map_or_else(|why| broken(format_args!("{why}")), |()| run(&mut lab))
            }
        },
    };
    supervisor::finish(tally.passed, tally.failed)
}

fn broken(what: core::fmt::Arguments<'_>) -> Tally {
    report!("error kerntest: {what}");
    Tally { passed: 0, failed: 1 }
}

fn run(lab: &mut Lab<'_>) -> Tally {
    let mut tally = Tally::default();
    for (module, tests) in suite::ALL {
        for (name, test) in *tests {
            if !suite::wanted(module, name) {
                continue;
            }
            report!("progress {module}::{name}");
            let mut verdict = test(lab);
            if let Err(refusal) = lab.reset()
                && !matches!(verdict, Verdict::Failed(_))
            {
                verdict = Verdict::Failed(alloc::format!("what it made cannot be taken away: {refusal}"));
            }
            tally.add(module, name, &verdict);
        }
    }
    tally
}
