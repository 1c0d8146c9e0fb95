//! Puts the linker script of user programs where their linker finds it by name.

use std::path::PathBuf;

fn main() {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!("cargo:rustc-link-search={}", here.display());
    println!("cargo:rerun-if-changed=user.ld");
}
