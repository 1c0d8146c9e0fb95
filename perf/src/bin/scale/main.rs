//! Measures how costs grow with the number of CPUs. One client on every CPU does the same work; the
//! TCG plugin counts it from outside ([`perf::mark`]) and the kernel's counters count it from
//! inside.
//!
//! Options: `loads=a,b` (only these), `n=` (operations of each client). Each load ([`loads`]) is a
//! set of tasks in a client's and a server's process ([`stage`]), made for the load and destroyed
//! after it. Clients ([`roles`]) wait at a barrier before they begin, so that all CPUs work at the
//! same time.
//!
//! Prints for each load `scale name=… cpus=… clients=… ops=…` and the kernel's counts on all CPUs
//! during it.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod block;
mod loads;
mod roles;
mod stage;

use abi::Counter;
use test_abi::select;
use user_rt::cap::Notification;
use user_rt::elf::Image;
use user_rt::spawn::{Nursery, own};
use user_rt::{arch, boot, heap, report, supervisor};

use user_rt::arch::shared::Shared;

use block::BLOCK_WORDS;
use loads::{LOADS, Load};
use stage::{Counters, Stage};

user_rt::program!(begin);

const HEAP_PAGES: u32 = 32;
/// Memory (as base-2 logarithm) and slots for one load.
const LOAD_LOG2: u8 = 24;
const LOAD_SLOTS: u32 = 2048;
/// Most CPUs: as many as the plugin distinguishes.
const CPUS_MAX: u64 = 64;

fn begin(_: u64) -> ! {
    let (passed, failed) = match prepare() {
        Ok(stage) => run_all(stage),
        Err(refusal) => {
            report!("error scale: preparing: {refusal}");
            (0, 1)
        }
    };
    supervisor::finish(passed, failed)
}

fn prepare() -> user_rt::Result<Stage> {
    let mut nursery = Nursery::of_program(0);
    heap::add(&own::vspace(), &mut nursery, HEAP_PAGES)?;
    let cpus = boot::facts().cpus.clamp(1, CPUS_MAX);
    let bytes = cpus as usize * BLOCK_WORDS * 8;
    let shared = Shared::new(&mut nursery, bytes.div_ceil(abi::PAGE_SIZE as usize) as u32)?;
    let done: Notification = nursery.make(0)?;
    let operations = boot::options().number("n", 500).unwrap_or(500).clamp(1, 1_000_000);
    let nursery = nursery.split(LOAD_LOG2, LOAD_SLOTS)?;
    Ok(Stage { nursery, shared, done, cpus, operations, tasks: alloc::vec::Vec::new() })
}

/// Runs the loads that the options select. Returns how many succeeded, and how many failed.
fn run_all(mut stage: Stage) -> (u64, u64) {
    let image = match Image::parse(arch::memory::archive()) {
        Ok(image) => image,
        Err(error) => {
            report!("error scale: its own file: {error}");
            return (0, 1);
        }
    };
    let (mut passed, mut failed) = (0, 0);
    let (patterns, names) = (boot::options().value("loads"), LOADS.each_ref().map(|load| load.name));
    if let Some(unknown) = select::unknown(patterns, &names) {
        report!("error scale: loads={unknown}: there is no such load; there are {}", names.join(", "));
        return (0, 1);
    }
    for load in LOADS.iter().filter(|load| select::is_wanted(patterns, load.name)) {
        report!("progress {}", load.name);
        match stage.run(&image, load) {
            Ok(counted) => {
                print(load, &stage, &counted);
                passed += 1;
            }
            Err(error) => {
                report!("error scale: {}: {error}", load.name);
                failed += 1;
            }
        }
    }
    (passed, failed)
}

fn print(load: &Load, stage: &Stage, counted: &Counters) {
    let clients = load.clients(stage.cpus).count() as u64;
    let operations = clients * stage.operations;
    report!("scale name={} cpus={} clients={clients} ops={operations}", load.name, stage.cpus);
    for &counter in Counter::ALL {
        let value = counted[counter as usize];
        if value != 0 {
            report!("counter cpu=0 row={} name={} value={value}", load.name, counter.name());
        }
    }
}
