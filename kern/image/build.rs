//! Links the kernel with its linker script and with defmt's string table.

fn main() {
    let hal = concat!(env!("CARGO_MANIFEST_DIR"), "/../hal/kernel.ld");
    println!("cargo:rerun-if-changed={hal}");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        println!("cargo:rustc-link-arg-bins=-T{hal}");
        println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
    }
}
