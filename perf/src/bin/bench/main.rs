//! Measures what the kernel's operations cost, row by row.
//!
//! Options: `rows=a,b*` (only these; `*` is any text), `n=` and `warmup=` (samples), `trace=1`
//! (loops without time stamps, for the TCG plugin), `run=calibrate` (only `loop_1m`, of the
//! kernel). Each row is a [`scenario`]: tasks in processes on CPUs, made for the row and destroyed
//! after it. The client of a scenario writes its samples to shared memory. This task, the first
//! one, has a higher priority. It waits while a row is measured and prints afterwards, so that only
//! the operation runs between two time stamps.
//!
//! This source is compiled three times. The program `tables` is for machines without a harness
//! ([`CAPTURED`]): it reports its machine, and with `log=text` it ends with a [`table`], each page
//! of which stays for `page=` seconds. The program `samples` also reports every single sample
//! ([`report::ALL_SAMPLES`]).
//!
//! They are separate programs because a report line between two rows, or one more option, moves the
//! point in the next row at which a timer ticks. So changes to the other two programs do not change
//! the exact figures of `bench`.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod beside;
mod block;
mod carry;
mod daily;
mod events;
mod irqs;
mod life;
mod locks;
mod longest;
mod machine;
mod measure;
mod messages;
mod ops;
mod policy;
mod report;
mod roles;
mod rows;
mod scenario;
mod table;

use alloc::vec::Vec;

use test_abi::select;
use user_rt::cap::{Handle, Notification};
use user_rt::elf::Image;
use user_rt::spawn::{Nursery, own};
use user_rt::{arch, boot, heap, report, supervisor};

use perf::mark::{ROW, mark};
use user_rt::arch::shared::Shared;

use block::{BLOCK_PAGES, SAMPLES_MAX};
use machine::Machine;
use scenario::Stage;
use table::Table;

user_rt::program!(begin);

/// Whether this is the program `tables`, whose report lines a person captures and reads.
const CAPTURED: bool = matches!(env!("CARGO_BIN_NAME").as_bytes(), b"tables");

/// Pages of heap, for the samples of every pair of a row.
const HEAP_PAGES: u32 = 160;
/// Memory (as base-2 logarithm) and slots for one row.
const ROW_LOG2: u8 = 26;
const ROW_SLOTS: u32 = 2048;
/// Most pairs in one scenario.
const PAIRS_MAX: u64 = 32;

fn begin(_: u64) -> ! {
    let (passed, failed) =
        if boot::options().value("run") == Some("calibrate") { calibrate() } else { measure_all() };
    supervisor::finish(passed, failed)
}

fn measure_all() -> (u64, u64) {
    match prepare() {
        Ok(stage) => run_rows(stage),
        Err(refusal) => {
            report!("error bench: preparing: {refusal}");
            (0, 1)
        }
    }
}

fn prepare() -> user_rt::Result<Stage> {
    let mut nursery = Nursery::of_program(0);
    // First: large memory has to begin at a multiple of its size.
    let row = nursery.split(ROW_LOG2, ROW_SLOTS)?;
    heap::add(&own::vspace(), &mut nursery, HEAP_PAGES)?;
    let cpus = boot::facts().cpus.clamp(1, PAIRS_MAX);
    let shared = Shared::new(&mut nursery, BLOCK_PAGES * cpus as u32)?;
    let done: Notification = nursery.make(0)?;
    let has_device = irqs::take_device(&mut nursery)?;
    Ok(Stage {
        nursery: row,
        shared,
        done: Notification::at(done.cap()),
        cpus,
        has_device,
        settings: settings(),
        tasks: Vec::new(),
    })
}

fn settings() -> scenario::Settings {
    let options = boot::options();
    let number = |key, default| {
        options.number(key, default).unwrap_or_else(|bad| {
            report!("note bench: {bad}");
            default
        })
    };
    scenario::Settings {
        samples: number("n", 1000).clamp(1, SAMPLES_MAX as u64),
        warmup: number("warmup", 100),
        trace: number("trace", 0) != 0,
        seed: number("seed", 1),
    }
}

/// Reports the loop that the kernel ran at boot, in kernel mode, as the row of the user-mode loop.
fn calibrate() -> (u64, u64) {
    let ticks = boot::facts().kernel_loop_ticks;
    if ticks == 0 {
        report!("error bench: this kernel did not time its loop");
        return (0, 1);
    }
    let name = rows::CALIBRATION;
    report!(
        "row name={name} unit=ticks scope=operation n=1 min={ticks} p50={ticks} p99={ticks} max={ticks} overhead=0"
    );
    (1, 0)
}

/// Runs the rows that the options select. Returns how many rows have figures, and how many have
/// none.
fn run_rows(mut stage: Stage) -> (u64, u64) {
    let image = match Image::parse(arch::memory::archive()) {
        Ok(image) => image,
        Err(error) => {
            report!("error bench: its own file: {error}");
            return (0, 1);
        }
    };
    let (mut passed, mut failed, mut marks) = (0, 0, 0);
    let (rows, patterns) = (rows::all(stage.cpus, stage.has_device), boot::options().value("rows"));
    let names: Vec<&str> = rows.iter().map(rows::Row::name).collect();
    if let Some(unknown) = select::unknown(patterns, &names) {
        report!("error bench: rows={unknown}: there is no such row here; there are {}", names.join(", "));
        return (0, 1);
    }
    let machine = CAPTURED.then(Machine::look);
    machine.iter().for_each(Machine::report);
    let mut table = Table::default();
    for row in rows.iter().filter(|row| select::is_wanted(patterns, row.name())) {
        report!("progress {}", row.name());
        mark::<ROW, 0>();
        marks += 1;
        match scenario::run(&mut stage, &image, row) {
            Ok(mut outcome) => {
                if report::ALL_SAMPLES {
                    report::print_samples(row, &outcome);
                }
                report::print(row, &mut outcome, marks, &mut table);
                passed += 1;
            }
            Err(error) => {
                report!("error bench: {}: {error}", row.name());
                failed += 1;
            }
        }
    }
    if let Some(machine) = machine {
        // Reports again, for a capture that began late.
        machine.report();
        table.report(&stage, &machine);
    }
    (passed, failed)
}
