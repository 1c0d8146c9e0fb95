//! Whole commands: the results of a bench and of a stress run, with guests whose output is known.

use bench_harness::bench::{self, Wanted};
use bench_harness::machine::Mode;
use bench_harness::stress;
use bench_harness::trouble::{status, status_of};

use crate::guest::{Guest, lab, scratch};
use crate::plugin;

fn row(guest: Guest, name: &str, p50: u32) -> Guest {
    let line = format!(
        "row name={name} unit=ticks scope=round-trip n=9 min={p50} p50={p50} p99={p50} max={p50} overhead=4"
    );
    guest.report(&line)
}

/// Says the same in every boot: what is kept is the harness's choice.
fn measuring_guest() -> Guest {
    let guest = row(row(Guest::default(), "call_reply_cross_as", 150), "call_reply_cross_cpu", 500);
    let guest = row(guest, "call_reply_cross_cpu_busy", 77_777).marker(1, 1);
    // Two operations of the busy row's region, then one of pairs_local_2's.
    let guest = guest.marker(3, 1).nops(20).marker(3, 1).marker(2, 1);
    let guest = guest.marker(1, 0x12).nops(5).marker(3, 0x12).marker(2, 0x12);
    guest.report("done passed=3 failed=0").exit(0x10)
}

fn wanted(name: &str) -> Wanted {
    Wanted {
        mode: Some(Mode::Icount),
        cpus: vec![1, 2],
        options: String::new(),
        rows: None,
        samples: false,
        form: bench_harness::bench::Form::Table,
        check: false,
        update_baseline: false,
        plot: false,
        baseline: scratch(name).join("baseline.json"),
        output: scratch(name).join("latest.json"),
    }
}

#[test]
fn a_bench_takes_each_row_from_its_boot() {
    let Some(lab) = lab("flow-bench", &measuring_guest()) else { return };
    plugin::install(&lab);
    let results = bench::measure(&lab, &wanted("flow-bench")).expect("measures");
    let figures = |run: usize| -> Vec<(&str, &str, u64)> {
        let rows = results.runs[run].rows.iter();
        rows.map(|row| (row.name.as_str(), row.unit.as_str(), row.p50)).collect()
    };
    let local =
        [("call_reply_cross_as", "instructions", 150), ("call_reply_cross_cpu_halted", "instructions", 500)];
    assert_eq!(figures(1)[..2], local);
    assert_eq!(
        figures(1)[2..],
        [
            ("call_reply_cross_as_nofast", "instructions", 150),
            ("call_reply_cross_cpu_polled", "instructions", 500),
            ("call_reply_cross_cpu_busy", "instructions", 20),
            ("shared_lines_per_rt", "lines", 0),
        ]
    );
    assert_eq!(results.runs[0].cpus, 1);
}

#[test]
fn single_samples_go_with_the_row_behind_them() {
    let samples = |text: &str| format!("samples row=call_reply_cross_as {text}");
    let guest = Guest::default().report(&samples("149 150")).report(&samples("151"));
    let guest = row(row(guest, "call_reply_cross_as", 150), "call_reply_cross_cpu", 500);
    let Some(lab) = lab("flow-samples", &guest.report("done passed=2 failed=0").exit(0x10)) else { return };
    plugin::install(&lab);
    let wanted = Wanted { samples: true, cpus: vec![1], mode: Some(Mode::Tcg), ..wanted("flow-samples") };
    let results = bench::measure(&lab, &wanted).expect("measures");
    let samples: Vec<&[u64]> = results.runs[0].rows.iter().map(|row| row.samples.as_slice()).collect();
    assert_eq!(samples[..2], [[149, 150, 151].as_slice(), &[]]);
}

#[test]
fn a_bench_without_its_end_is_no_result() {
    let guest = row(Guest::default(), "call_reply_cross_as", 150).exit(0x10);
    let Some(lab) = lab("flow-cut", &guest) else { return };
    let error = bench::measure(&lab, &wanted("flow-cut")).expect_err("no `done`");
    assert_eq!(status_of(&error), status::GUEST_DIED, "{error:#}");
}

#[test]
fn a_stress_run_that_lost_something_fails() {
    let counts = "duplicated=0 reordered=0 corrupted=0 unanswered=0 leaked_pages=0 hash=ab";
    let wanted = stress::Wanted {
        seed: Some(7),
        seeds: 1,
        cpus: 2,
        messages: 10,
        mode: Mode::Icount,
        replay: true,
        idle: None,
        variant: None,
        stop: stress::Stop::default(),
    };
    let unjudged = Guest::default().report(&format!("stress kills=0 lost=0 {counts}")).exit(0x10);
    let Some(lab_of_it) = lab("flow-stress-unjudged", &unjudged) else { return };
    let error = stress::stress(&lab_of_it, &wanted).expect_err("no snapshot came");
    assert!(error.to_string().contains("no snapshot"), "{error:#}");
    for (lost, passes) in [(0, true), (1, false)] {
        let said = format!("stress kills=0 lost={lost} {counts}");
        let guest = Guest::default().snapshot().report(&said).exit(0x10);
        let Some(lab) = lab(&format!("flow-stress-{lost}"), &guest) else { return };
        let result = stress::stress(&lab, &wanted);
        assert_eq!(result.is_ok(), passes);
        if let Err(error) = result {
            assert_eq!(status_of(&error), status::CHECK_FAILED);
            assert!(error.to_string().contains("lost=1"), "{error:#}");
        }
    }
}
