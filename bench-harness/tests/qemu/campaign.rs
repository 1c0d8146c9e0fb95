//! Campaigns over guests that pass, fail, or have to be ended.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::guest::{Guest, lab, scratch};
use bench_harness::campaign::{self, Kind, Plan, Shard};
use bench_harness::machine::Mode;
use bench_harness::trouble::{status, status_of};

const GOOD: &str =
    "stress kills=0 lost=0 duplicated=0 reordered=0 corrupted=0 unanswered=0 leaked_pages=0 hash=0123abcd";

fn plan() -> Plan {
    let kind =
        Kind::Stress { mode: Mode::Icount, cpus: 1, messages: 1, idle: None, replay: false, variant: None };
    Plan::new(kind, 1, 4, None).expect("a plan")
}

/// An empty directory for the results.
fn out(name: &str) -> std::path::PathBuf {
    let dir = scratch(name).join("out");
    let _ = fs::remove_dir_all(&dir);
    dir
}

fn lines(dir: &Path, shard: &str) -> usize {
    fs::read_to_string(dir.join(shard)).expect("a log").lines().count()
}

#[test]
fn shards_that_pass_leave_results_and_nothing_else() {
    let guest = Guest::default().snapshot().report(GOOD).exit(0x10);
    let dir = out("campaign-pass");
    for shard in ["1/2", "2/2", "2/2"] {
        let Some(lab) = lab("campaign-pass", &guest) else { return };
        let shard: Shard = shard.parse().expect("a shard");
        campaign::run(lab, &plan(), shard, &dir).expect("all pass");
    }
    // The third run found nothing left to do.
    assert_eq!((lines(&dir, "shard-1-of-2.jsonl"), lines(&dir, "shard-2-of-2.jsonl")), (2, 2));
    assert!(fs::read_to_string(dir.join("index.html")).expect("a summary").contains("0 of 4 seeds failed"));
    assert!(!dir.join("runs/1").exists(), "who passes is not kept");
    campaign::merge(&[dir], None).expect("complete, and all passed");
}

#[test]
fn a_failing_seed_is_kept_and_does_not_end_the_shard() {
    let guest = Guest::default()
        .report("error stress: Lost: <b>")
        .report(&GOOD.replace("lost=0", "lost=2"))
        .exit(0x11);
    let dir = out("campaign-fail");
    let Some(lab) = lab("campaign-fail", &guest) else { return };
    let error = campaign::run(lab, &plan(), Shard::WHOLE, &dir).expect_err("all fail");
    assert_eq!(status_of(&error), status::CHECK_FAILED);
    assert_eq!(lines(&dir, "shard-1-of-1.jsonl"), 4);
    assert!(dir.join("runs/3/stress-icount-1-3/log.bin").is_file());
    let page = fs::read_to_string(dir.join("index.html")).expect("a summary");
    assert!(page.contains("./justw stress --mode icount --seed 3 --cpus 1 --messages 1"), "{page}");
    assert!(page.contains("Lost: &lt;b&gt;"), "{page}");
}

/// Whether a QEMU runs that writes below `dir`; its wrappers, which name it too, are not it.
fn a_guest_runs(dir: &Path) -> bool {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let dir = dir.to_string_lossy().into_owned();
    lines.any(|line| {
        let line = String::from_utf8_lossy(&line).into_owned();
        let program = line.split('\0').next().unwrap_or_default();
        program.contains("qemu-system") && line.contains(&dir)
    })
}

fn wait_until(condition: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !condition() && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    condition()
}

#[test]
fn no_guest_outlives_a_killed_campaign() {
    let dir = out("campaign-kill");
    if lab("campaign-kill", &Guest::default().hang()).is_none()
        || bench_harness::host::find_program("setpriv").is_none()
    {
        return eprintln!("left out: no QEMU, or no setpriv");
    }
    let mut harness = Command::new(env!("CARGO_BIN_EXE_aurora-bench"))
        .args(["campaign", "stress", "--seeds", "1", "--cpus", "1", "--out"])
        .arg(&dir)
        .arg("--boot-dir")
        .arg(scratch("campaign-kill").join("boot"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the harness starts");
    assert!(wait_until(|| a_guest_runs(&dir)), "a guest starts");
    harness.kill().expect("killed");
    harness.wait().expect("ended");
    assert!(wait_until(|| !a_guest_runs(&dir)), "the guest goes on alone");
    assert_eq!(lines(&dir, "shard-1-of-1.jsonl"), 0, "its seed will be run again");
}
