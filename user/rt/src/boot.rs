//! The boot page: facts that a program gets when it starts.

use abi::{BOOT_MAGIC, BootPage, time};

use crate::arch::memory;
use crate::cmdline::Options;

/// Returns the boot page. Ends the program if the page has another layout: nothing in it could be
/// trusted.
pub fn facts() -> &'static BootPage {
    let page = memory::boot_page();
    assert!(page.magic == BOOT_MAGIC, "boot page of another layout: magic {:#x}", page.magic);
    page
}

/// Returns the command line; empty if it is not UTF-8.
pub fn command_line() -> &'static str {
    text(facts())
}

/// Returns the command line's `key=value` words.
pub fn options() -> Options<'static> {
    Options::new(command_line())
}

fn text(page: &BootPage) -> &str {
    let length = (page.cmdline_len as usize).min(page.cmdline.len());
    core::str::from_utf8(&page.cmdline[..length]).unwrap_or("")
}

/// Returns how many microseconds so many TSC ticks last.
pub fn micros(ticks: u64) -> u64 {
    time::microseconds(ticks, facts().tsc_hz)
}

/// Returns how many TSC ticks so many microseconds last.
pub fn ticks(micros: u64) -> u64 {
    time::ticks(micros, facts().tsc_hz)
}

/// Whether the kernel or the CPU has a feature of [`abi::cpu_features`].
pub fn has(feature: u64) -> bool {
    facts().features & feature != 0
}
