//! The compiler refuses each case, and accepts the operations of the kernel.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn abuses_do_not_compile() {
    let cases = trybuild::TestCases::new();
    // The control: the same doors, used as the kernel uses them.
    cases.pass("tests/uses/*.rs");
    cases.compile_fail("tests/cases/*.rs");
    // What the compiler says of these points into core. With core's source at hand it also shows
    // the lines, which the expected answers do not have.
    if !has_source_of_core() {
        cases.compile_fail("tests/cases_of_core/*.rs");
    }
}

/// Whether the compiler can show the source of core.
fn has_source_of_core() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = output.map_or_else(
        |_| PathBuf::new(),
        |output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()),
    );
    sysroot.join(Path::new("lib/rustlib/src/rust/library/core/src/marker.rs")).exists()
}
