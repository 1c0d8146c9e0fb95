//! The harness on a real QEMU, with a guest made for each test.

use std::time::Duration;

use crate::guest::{Guest, job, lab};
use crate::plugin;
use bench_harness::machine::Mode;
use bench_harness::records;
use bench_harness::report::Report;
use bench_harness::session::Ending;
use bench_harness::trouble::{Trouble, status};

#[test]
fn what_the_guest_says_arrives_and_passes() {
    let guest = Guest::default()
        .serial("aurora: mitigation l1tf: not affected\r\n")
        .report("row name=loop_1m unit=ticks scope=operation n=1 min=5 p50=5 p99=5 max=5 overhead=1")
        .record(9, &[1, 2, 3])
        .report("done passed=1 failed=0")
        .exit(0x10);
    let Some(lab) = lab("pass", &guest) else { return };
    let session = lab.run(&job("pass", Mode::Icount)).expect("boots");
    assert_eq!(session.ending, Ending::Pass);
    assert_eq!(session.mitigations, ["l1tf: not affected"]);
    assert!(matches!(&session.reports[0], Report::Row(row) if row.name == "loop_1m"));
    assert_eq!(session.reports[1], Report::Done { passed: 1, failed: 0 });
    assert!(session.last_words.iter().any(|line| line == "channel 9: it belongs to no program: 01 02 03"));
    session.check_passed().expect("passed");
}

#[test]
fn lines_of_both_ports_come_in_the_order_of_the_guest() {
    let lines = |count: u32| count.to_le_bytes();
    let guest = Guest::default()
        .report("progress before")
        .serial("one\ntwo\n")
        .record(records::LINES, &lines(2))
        .report("progress between")
        .serial("three\n")
        .record(records::LINES, &lines(3))
        .report("progress behind")
        .serial("uncounted\n")
        .exit(0x10);
    let Some(lab) = lab("order", &guest) else { return };
    let mut said = Vec::new();
    lab.run_with(&job("order", Mode::Tcg), &mut |event| said.push(event.text())).expect("boots");
    let wanted =
        ["progress before", "one", "two", "progress between", "three", "progress behind", "uncounted"];
    assert_eq!(said, wanted);
}

#[test]
fn endings_are_told_apart() {
    let cases = [
        (0x11, Ending::Fail, status::CHECK_FAILED),
        (0x12, Ending::Panic, status::GUEST_DIED),
        (0x13, Ending::Orphaned, status::GUEST_DIED),
    ];
    for (code, ending, exit_status) in cases {
        let guest = Guest::default().serial("so it ends").exit(code);
        let Some(lab) = lab(&format!("end-{code}"), &guest) else { return };
        let session = lab.run(&job("end", Mode::Tcg)).expect("boots");
        assert_eq!(session.ending, ending);
        let trouble = session.check_passed().expect_err("not passed");
        assert_eq!(trouble.status(), exit_status);
        assert!(trouble.to_string().contains("so it ends"), "{trouble}");
    }
}

#[test]
fn a_triple_fault_is_a_reset() {
    // lidt of an empty table, then a breakpoint.
    let guest = Guest::default().raw(&[0x6a, 0, 0x6a, 0]).raw(&[0xbc, 0, 0, 0x20, 0]);
    let guest = guest.raw(&[0x0f, 0x01, 0x1c, 0x24, 0xcc]).hang();
    let Some(lab) = lab("reset", &guest) else { return };
    let session = lab.run(&job("reset", Mode::Tcg)).expect("boots");
    assert_eq!(session.ending, Ending::Reset);
    assert!(matches!(session.check_ended(), Err(Trouble::GuestDied(_))));
}

#[test]
fn a_hanging_guest_is_ended_with_its_last_words_and_whereabouts() {
    let guest = Guest::default().serial("about to hang\n").hang();
    let Some(mut lab) = lab("hang", &guest) else { return };
    lab.limit = Some(Duration::from_secs(1));
    let session = lab.run(&job("hang", Mode::Tcg)).expect("boots");
    assert_eq!(session.ending, Ending::TimedOut(Duration::from_secs(1)));
    let text = session.check_passed().expect_err("timed out").to_string();
    assert!(text.contains("about to hang"), "{text}");
    assert!(text.contains("cpu 0: kernel") && text.contains("halted"), "{text}");
}

#[test]
fn noise_between_records_costs_nothing_else() {
    let mut bytes = vec![records::MAGIC, 0xff, 7];
    bytes.extend(records::encode(records::REPORT, b"progress still here"));
    let guest = bytes
        .iter()
        .fold(Guest::default(), |guest, &byte| guest.raw(&[0x66, 0xba, 0xe9, 0]).raw(&[0xb0, byte, 0xee]));
    let Some(lab) = lab("noise", &guest.exit(0x10)) else { return };
    let session = lab.run(&job("noise", Mode::Tcg)).expect("boots");
    assert_eq!(session.reports, [Report::Progress("still here".to_owned())]);
}

#[test]
fn a_gathered_log_is_whole() {
    // More than a block, with lines of COM1 between records, and bytes that only the end writes.
    let mut guest = Guest::default();
    for number in 0..60 {
        guest = guest.report(&format!("progress {number} {}", "x".repeat(1500))).serial("line\n");
    }
    let Some(lab) = lab("gathered", &guest.report("done passed=1 failed=0").exit(0x10)) else { return };
    let heard = || {
        let mut heard = Vec::new();
        lab.run_with(&job("gathered", Mode::Icount), &mut |event| heard.push(event.text())).expect("boots");
        let log = std::fs::read(lab.artifacts.run_path("gathered").join("log.bin")).expect("a log");
        (log, heard)
    };
    let (bare, _) = heard();
    plugin::install_library(&lab, "gather");
    let (gathered, heard) = heard();
    assert!(bare.len() > 1 << 16 && bare == gathered, "{} bytes and {}", bare.len(), gathered.len());
    assert!(heard.iter().any(|line| line.starts_with("done ")));
}
