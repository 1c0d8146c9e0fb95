//! What process 1 does without a system to run: it lists the programs and systems, and checks the
//! mechanisms that start a program.

use abi::PAGE_SIZE;
use protocols::system;
use user_rt::arch::memory;
use user_rt::cap::Frame;
use user_rt::elf::Image;
use user_rt::invoke::who_am_i;
use user_rt::layout::SHARED_VA;
use user_rt::report;
use user_rt::spawn::{Nursery, own};

use user_rt::archive::Archive;

/// Writes one report line for each program and each system.
pub fn list(archive: &Archive<'_>) {
    for program in archive.programs() {
        report!("program name={} channel={} bytes={}", program.name(), program.channel, program.file.len());
    }
    archive.systems(|name| report!("system name={name}"));
}

/// Runs all checks; whether they passed.
pub fn all(archive: &Archive<'_>) -> bool {
    list(archive);
    let results = [
        judge("init::archive", images(archive)),
        judge("init::systems", systems(archive)),
        judge("init::identity", identity()),
        judge("init::memory", memory_is_ours()),
    ];
    let failed = results.iter().filter(|ok| !**ok).count();
    report!("done passed={} failed={failed}", results.len() - failed);
    failed == 0
}

fn judge(name: &str, result: Result<(), &'static str>) -> bool {
    match result {
        Ok(()) => report!("test name={name} ok"),
        Err(why) => report!("test name={name} FAILED {why}"),
    }
    result.is_ok()
}

/// Checks that all programs can be loaded, and that process 1 is the first of them.
fn images(archive: &Archive<'_>) -> Result<(), &'static str> {
    let first = archive.programs().next().ok_or("the archive is empty")?;
    if first.name() != "init" {
        return Err("the first program is not init");
    }
    for program in archive.programs() {
        if let Err(error) = Image::parse(program.file) {
            report!("note {}: {error}", program.name());
            return Err("a program cannot be loaded");
        }
    }
    Ok(())
}

/// Checks that the descriptions of all systems can be read.
fn systems(archive: &Archive<'_>) -> Result<(), &'static str> {
    let mut unreadable = false;
    archive.systems(|name| {
        let message = archive.system(name).map(system::open);
        let root = message.as_ref().map(|message| message.get_root::<system::system::Reader<'_>>());
        let processes = root.map(|root| root.and_then(|root| root.get_processes()));
        if !matches!(processes, Some(Ok(list)) if !list.is_empty()) {
            report!("note {name}: {:?}", processes.and_then(|list| list.err()));
            unreadable = true;
        }
    });
    if unreadable { Err("a description cannot be read") } else { Ok(()) }
}

/// Checks that the kernel and the UTCB name the same task and CPU.
fn identity() -> Result<(), &'static str> {
    let (id, cpu) = who_am_i().map_err(|_| "WhoAmI refused")?;
    let utcb = user_rt::utcb::current();
    if utcb.task_id() != id || utcb.home_cpu() != cpu {
        return Err("the UTCB names another task or CPU");
    }
    Ok(())
}

/// Checks that frames can be made, mapped, written and read back, and are zero at first.
fn memory_is_ours() -> Result<(), &'static str> {
    let mut nursery = Nursery::of_program(0);
    let frames = nursery.make_pages(4).map_err(|_| "Retype refused")?;
    let words = memory::map_words(&own::vspace(), frames.iter::<Frame>(), SHARED_VA);
    let words = words.map_err(|_| "Map refused")?;
    if words.len() as u64 != 4 * PAGE_SIZE / 8 {
        return Err("pages of a wrong size");
    }
    use core::sync::atomic::Ordering::Relaxed;
    if words.iter().any(|word| word.load(Relaxed) != 0) {
        return Err("a fresh frame is not zero");
    }
    for (index, word) in (0u64..).zip(words) {
        word.store(index.wrapping_mul(0x9e37_79b9_7f4a_7c15), Relaxed);
    }
    for (index, word) in (0u64..).zip(words) {
        if word.load(Relaxed) != index.wrapping_mul(0x9e37_79b9_7f4a_7c15) {
            return Err("memory does not hold what was written");
        }
    }
    Ok(())
}
