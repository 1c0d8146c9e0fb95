//! Generates Rust code from the schemas: `capnpc` generates readers and builders, [`stubs`] clients
//! and servers.
//!
//! Both read the schema compiler's output for `schema/*.capnp`, which is in the tree
//! (`schema.request`, made by `./justw schemas`), so that a build does not need that compiler. The
//! output must fit the schemas: a fingerprint of their text is beside it.

mod stubs;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no manifest directory")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no output directory")?);
    println!("cargo:rerun-if-changed=schema");
    println!("cargo:rerun-if-changed=schema.request");
    println!("cargo:rerun-if-changed=schema.sum");
    println!("cargo:rerun-if-env-changed=AURORA_SCHEMA_SUM");
    check_fingerprint(&here)?;
    let request = fs::read(here.join("schema.request"))?;
    capnpc::codegen::CodeGenerationCommand::new().output_directory(&out).run(request.as_slice())?;
    fs::write(out.join("stubs.rs"), stubs::generate(&request)?)?;
    Ok(())
}

/// The schemas are those that were compiled.
fn check_fingerprint(here: &Path) -> Result<(), Box<dyn Error>> {
    let sum = fingerprint(&here.join("schema"))?;
    if env::var_os("AURORA_SCHEMA_SUM").is_some_and(|value| value == "write") {
        fs::write(here.join("schema.sum"), &sum)?;
    }
    if fs::read_to_string(here.join("schema.sum"))? != sum {
        return Err(
            "the schemas have changed: run `./justw schemas`, which takes the Debian package capnproto"
                .into(),
        );
    }
    Ok(())
}

/// A line for each schema: its name, its length, and a sum of its bytes (FNV-1a).
fn fingerprint(schemas: &Path) -> Result<String, Box<dyn Error>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(schemas)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let mut lines = String::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "capnp")) {
        let bytes = fs::read(path)?;
        let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        lines += &format!("{name} {} {sum:016x}\n", bytes.len());
    }
    Ok(lines)
}
