//! What this program does.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use user_rt::{info, invoke, report, supervisor};

user_rt::program!(begin);

fn begin(_: u64) -> ! {
    let (task, cpu) = invoke::who_am_i().expect("the own id");
    info!("runs as task {} on CPU {}", task.raw(), cpu);
    report!("note @NAME@: hello from task {} on CPU {cpu}", task.raw());
    // The verdict of the system: how much passed, and failed.
    supervisor::finish(1, 0)
}
