//! The TCG plugin in a real QEMU: counts of a guest whose every instruction is known.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::guest::{Guest, job, lab, scratch};
use bench_harness::explain::record::{Access, Recording};
use bench_harness::lab::Lab;
use bench_harness::machine::Mode;

const BEGIN: u8 = 1;
const END: u8 = 2;
const OP: u8 = 3;
const SKIP: u8 = 4;
const REGION: u8 = 1;
const SAMPLE: u8 = 2;

/// Builds the plugin and puts it where a lab looks for it.
pub fn install(lab: &Lab) {
    install_library(lab, "plugin");
}

/// Builds a library that goes into QEMU, and puts it where a lab looks for it.
pub fn install_library(lab: &Lab, name: &str) {
    let file = format!("libaurora_{name}.so");
    let built = build(name).join("debug").join(&file);
    std::fs::copy(built, lab.artifacts.boot_dir().join(file)).expect("the library is copied");
}

fn build(name: &str) -> PathBuf {
    let dir = scratch("plugin-target");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", &format!("aurora-{name}"), "--target-dir"])
        .arg(&dir)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the library does not build");
    dir
}

/// Three operations of 10 instructions and one store each, a skipped stretch in each of them.
fn guest() -> Guest {
    let mut guest = Guest::default().marker(BEGIN, REGION);
    for _ in 0..3 {
        guest = guest.nops(9);
        guest = guest.raw(&[0xc6, 0x05, 0, 0, 0x20, 0, 1]); // mov byte [0x200000], 1
        guest = guest.marker(SKIP, 8 + 5).nops(5);
        guest = guest.marker(OP, REGION);
    }
    guest.marker(END, REGION).nops(100).exit(0x10)
}

#[test]
fn instructions_between_markers_are_counted_exactly() {
    let Some(lab) = lab("plugin", &guest()) else { return };
    install(&lab);
    let output = scratch("plugin").join("counted.json");
    for mode in [Mode::Icount, Mode::Tcg] {
        let mut job = job("plugin", mode);
        job.counted = Some(output.clone());
        lab.run(&job).expect("boots").check_passed().expect("passes");
        let text = std::fs::read_to_string(&output).expect("the plugin wrote its file");
        let counted: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let region = &counted["regions"][0];
        assert_eq!(region["ops"], 3);
        assert_eq!(region["instructions"], serde_json::json!([30]));
        assert_eq!(region["sample"], serde_json::json!({"n": 2, "min": 10, "p50": 10, "p99": 10, "max": 10}));
        assert_eq!(region["lines"], 0);
    }
}

#[test]
fn a_sample_is_recorded_instruction_by_instruction() {
    let mut guest = Guest::default();
    for nops in 1..=3 {
        guest = guest.nops(5).marker(BEGIN, SAMPLE).nops(nops);
        guest = guest.raw(&[0xc6, 0x05, 0, 0, 0x20, 0, 1]); // mov byte [0x200000], 1
        guest = guest.marker(END, SAMPLE);
    }
    let Some(lab) = lab("recorder", &guest.exit(0x10)) else { return };
    install(&lab);
    let output = scratch("recorder").join("explain.rec");
    let arguments = ["record=on", "skip=1", "ops=1"].map(str::to_owned).to_vec();
    let session = lab.record(&job("recorder", Mode::Icount), &lab.artifacts, &output, arguments);
    session.expect("boots").check_passed().expect("passes");
    let recording = Recording::read(&output).expect("the plugin wrote its file");
    let [operation] = &recording.operations[..] else { panic!("{} operations", recording.operations.len()) };
    let bytes: Vec<&[u8]> = operation.steps.iter().map(|step| &recording.code(step).bytes[..]).collect();
    assert_eq!(bytes, [&[0x90][..], &[0x90], &[0xc6, 0x05, 0, 0, 0x20, 0, 1]]);
    let store = Access { address: 0x20_0000, bytes: 1, write: true, device: false };
    assert_eq!(operation.steps[2].accesses, [store]);
    assert!(operation.steps[..2].iter().all(|step| step.accesses.is_empty()));
}
