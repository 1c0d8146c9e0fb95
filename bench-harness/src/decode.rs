//! `decode`: the bench's table from a capture of a machine's port.
//!
//! The figures become the results that [`mod@bench`] would have written, with a mode that says what
//! executed the guest. Compiler and operating system of the machine are reported as unknown.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::bench::{self, Form};
use crate::capture::{self, Heard, Machine};
use crate::host::Host;
use crate::machine::Mode;
use crate::plan::{self, Keep};
use crate::results::{Results, Run};
use crate::trouble::Trouble;

/// How to capture, and what of.
pub const EXAMPLES: &str = "\
Examples:
  stty -F /dev/ttyS0 115200 raw -echo; cat /dev/ttyS0 > serial.txt     at the other end
  aurora-bench decode serial.txt                     the table of that (log=text)
  aurora-bench decode --json com2.bin > there.json   of records, too (log=com2, log.bin of a run)

`decode` skips boots before the last one that has rows. From a capture that was cut off or
damaged it prints the complete rows, reports what is missing, and exits with status 1 or 3.";

/// What to decode, and how to print it.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    /// What was captured
    file: PathBuf,
    /// Print JSON instead of the table, and nothing else
    #[arg(long)]
    json: bool,
    /// Print one line of CSV a row instead of the table
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// Prints the results of a capture, as far as they are whole; an error says what is not.
pub fn command(wanted: &Wanted) -> Result<()> {
    let name = wanted.file.display();
    let bytes = fs::read(&wanted.file).with_context(|| format!("cannot read {name}"))?;
    let decoded = decode(&bytes).with_context(|| name.to_string())?;
    print!("{}", Form::new(wanted.json, wanted.csv).render(&decoded.results)?);
    decoded.notes.iter().for_each(|note| eprintln!("note: {note}"));
    match decoded.trouble {
        Some(trouble) => Err(anyhow::Error::from(trouble).context(name.to_string())),
        None => Ok(()),
    }
}

/// What a capture holds.
#[derive(Debug)]
pub struct Decoded {
    pub results: Results,
    /// Notes on the rows.
    pub notes: Vec<String>,
    /// Why they are not all that the guest measured.
    pub trouble: Option<Trouble>,
}

/// Finds the last boot that has rows.
pub fn decode(bytes: &[u8]) -> Result<Decoded> {
    ensure!(!bytes.is_empty(), "the file is empty: nothing was captured");
    let mut boots = capture::read(bytes);
    let with_rows = boots.iter().filter(|boot| boot.rows().next().is_some()).count();
    let Some(last) = boots.iter().rposition(|boot| boot.rows().next().is_some()) else {
        bail!("{}", why_there_is_none(bytes.len(), &boots));
    };
    let boot = boots.swap_remove(last);
    let mut notes = Vec::new();
    if with_rows > 1 {
        notes.push(format!("{with_rows} boots have rows; these are the last one's"));
    }
    if boot.damaged > 0 {
        notes.push(format!("{} lines of counters or of the machine are damaged and left out", boot.damaged));
    }
    let trouble = trouble(&boot);
    Ok(Decoded { results: results(boot, &mut notes), notes, trouble })
}

fn why_there_is_none(bytes: usize, boots: &[Heard]) -> String {
    let sum = |of: fn(&Heard) -> usize| boots.iter().map(of).sum::<usize>();
    let errors: Vec<&str> = boots.iter().flat_map(|boot| &boot.errors).map(String::as_str).collect();
    if !errors.is_empty() {
        return format!("no row of a bench was captured; the guest said: {}", errors.join("; "));
    }
    let begun = boots.iter().any(|boot| boot.begun || boot.machine.is_some());
    match (sum(|boot| boot.damaged_rows), sum(|boot| boot.others + boot.reports.len()), begun) {
        (damaged @ 1.., ..) => format!("none of {damaged} rows is whole: their sums are wrong"),
        (0, lines @ 1.., _) => {
            format!("no row of a bench is among {lines} report lines: was it booted with run=bench?")
        }
        (0, 0, true) => "the capture ends before the first row was measured".to_owned(),
        (0, 0, false) => format!(
            "nothing of a bench is in these {bytes} bytes: neither lines of log=text, which begin with \"| \", nor records"
        ),
    }
}

/// Returns what is missing in a boot's capture.
fn trouble(boot: &Heard) -> Option<Trouble> {
    let rows = boot.rows().count();
    let whole = format!("{rows} whole rows");
    if !boot.errors.is_empty() {
        return Some(Trouble::CheckFailed(format!("{whole}; the guest said: {}", boot.errors.join("; "))));
    }
    match boot.done() {
        None if boot.exit.as_deref() == Some("panic") => {
            Some(Trouble::GuestDied(format!("{whole}; then the kernel panicked")))
        }
        None => Some(Trouble::GuestDied(format!(
            "the capture ends before the bench did (no line \"done\"): {whole}, more may be missing"
        ))),
        Some((_, failed @ 1..)) => Some(Trouble::CheckFailed(format!("{whole}; {failed} rows failed"))),
        Some((passed, 0)) if passed > rows as u64 => Some(Trouble::CheckFailed(format!(
            "{whole} of the {passed} that were measured: {} damaged, the others lost",
            boot.damaged_rows
        ))),
        Some(_) => None,
    }
}

/// Makes results as the bench would have written them.
fn results(boot: Heard, notes: &mut Vec<String>) -> Results {
    let Heard { machine, options, reports, mitigations, .. } = boot;
    let mode = machine.as_ref().map_or(Mode::Unknown, |machine| mode_of(&machine.executor));
    let cpu = machine.as_ref().map_or("unknown", |machine| &machine.cpu).to_owned();
    let unknown = || "unknown".to_owned();
    let host = Host {
        os: unknown(),
        rustc: unknown(),
        qemu: if mode == Mode::Hardware { "none".to_owned() } else { unknown() },
        guest_cpu: cpu.clone(),
        cpu,
        mitigations,
        options: options.clone().unwrap_or_default(),
        captured: describe(mode, machine.as_ref()),
    };
    if machine.is_none() {
        notes.push("the line that says which machine this was is missing or damaged".to_owned());
    }
    // 0: it is not known.
    let cpus = machine.map_or(0, |machine| machine.cpus);
    let mut run = Run { mode, cpus, rows: Vec::new(), counters: Vec::new() };
    bench::collect(&mut run, &kept(mode, options.as_deref()), reports);
    Results::new(host, vec![run])
}

fn mode_of(executor: &str) -> Mode {
    let known = [Mode::Icount, Mode::Tcg, Mode::Kvm, Mode::Hardware];
    known.into_iter().find(|mode| mode.name() == executor).unwrap_or(Mode::Unknown)
}

/// Returns how rows are named: those across CPUs have the bench's names for how an idle CPU waits.
fn kept(mode: Mode, options: Option<&str>) -> Keep {
    let words = options.unwrap_or_default().split_whitespace();
    let idle = words.filter_map(|word| word.strip_prefix("idle=")).next_back();
    let name = match (options, idle) {
        (Some(_), None | Some("halt")) => "call_reply_cross_cpu_halted",
        (Some(_), Some("poll")) => "call_reply_cross_cpu_polled",
        _ => "call_reply_cross_cpu",
    };
    // Under icount that row has the instructions of the busy loop.
    let others = if mode == Mode::Icount { vec![plan::BUSY] } else { Vec::new() };
    Keep::Main { renamed: ("call_reply_cross_cpu", name), others }
}

fn describe(mode: Mode, machine: Option<&Machine>) -> String {
    let executor = match mode {
        Mode::Icount => "QEMU's emulator, which counts instructions",
        Mode::Tcg => "QEMU's emulator: cycles are ticks of an emulated clock, no processor's",
        Mode::Kvm => "KVM, neither icount nor TCG: cycles are ticks of the time-stamp counter",
        Mode::Hardware => {
            "no hypervisor, so neither icount nor TCG: cycles are ticks of the time-stamp counter"
        }
        Mode::Unknown => "unknown executor: ticks of its time-stamp counter",
    };
    let Some(Machine { tsc_hz, fastpath, .. }) = machine else { return executor.to_owned() };
    let kernel = if *fastpath { "" } else { "; kernel without fastpath" };
    format!("{executor} ({} MHz){kernel}", tsc_hz / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::summed;
    use crate::records;
    use crate::trouble::{status, status_of};

    const ROWS: [(&str, u64); 3] =
        [("null_syscall", 92), ("call_reply_cross_as", 410), ("call_reply_cross_cpu", 2900)];

    /// Returns the report lines of a bench.
    fn said(executor: &str, options: &str) -> Vec<String> {
        let machine =
            format!("cpus=4 tsc_hz=2400000000 executor={executor} fastpath=1 cpu=Some CPU @ 2.40GHz");
        let mut lines = vec![summed("machine", &machine), summed("options", options)];
        for (name, figure) in ROWS {
            let figures = format!("n=1000 min={figure} p50={figure} p99={figure} max={figure} overhead=26");
            lines.push(format!("progress {name}"));
            lines.push(summed(
                "row",
                &format!("name={name} unit=ticks scope=round-trip {figures} operations=1 mark=1"),
            ));
            lines.push(summed("counter", &format!("cpu=0 row={name} name=fast_call value=1000")));
        }
        lines.extend(
            ["name  scope  n  min", "null_syscall  operation  1000  92", "on 4 CPUs: Some CPU"]
                .map(str::to_owned),
        );
        lines.push("done passed=3 failed=0".to_owned());
        lines
    }

    fn text(lines: &[String]) -> String {
        let lines: String = lines.iter().map(|line| format!("| {line}\r\n")).collect();
        format!("aurora 0.1.0 boots\r\naurora: mitigation l1tf: not affected\r\n{lines}aurora: exit pass\r\n")
    }

    fn whole() -> String {
        text(&said("hardware", "log=text run=bench"))
    }

    fn figures(decoded: &Decoded) -> Vec<(&str, &str, u64)> {
        let [run] = decoded.results.runs.as_slice() else { panic!("not one run") };
        run.rows.iter().map(|row| (row.name.as_str(), row.unit.as_str(), row.p50)).collect()
    }

    const FIGURES: [(&str, &str, u64); 3] = [
        ("null_syscall", "cycles", 92),
        ("call_reply_cross_as", "cycles", 410),
        ("call_reply_cross_cpu_halted", "cycles", 2900),
    ];

    #[test]
    fn a_whole_capture_is_a_bench() {
        let decoded = decode(whole().as_bytes()).expect("decodes");
        assert!(decoded.trouble.is_none() && decoded.notes.is_empty(), "{decoded:?}");
        assert_eq!(figures(&decoded), FIGURES);
        let table = Form::Table.render(&decoded.results).expect("a table");
        for part in ["Some CPU @ 2.40GHz", "neither icount nor TCG", "2400 MHz", "hardware, 4 CPUs: cycles"] {
            assert!(table.contains(part), "{part} in {table}");
        }
        assert!(table.contains("100 %"), "the fastpath's hits: {table}");
        let json: serde_json::Value =
            serde_json::from_str(&Form::Json.render(&decoded.results).expect("JSON")).expect("JSON");
        assert_eq!(json["schema"], 1);
        assert_eq!((&json["runs"][0]["mode"], &json["runs"][0]["cpus"]), (&"hardware".into(), &4.into()));
        assert_eq!(json["host"]["mitigations"][0], "l1tf: not affected");
        assert_eq!(json["host"]["options"], "log=text run=bench");
        let csv = Form::Csv.render(&decoded.results).expect("CSV");
        assert!(csv.contains("\nhardware,4,null_syscall,cycles,round-trip,92,92,92,92,1000,"), "{csv}");
    }

    #[test]
    fn records_say_the_same() {
        let lines = said("hardware", "log=com2 run=bench idle=poll");
        let mut bytes = b"\xa5noise".to_vec();
        bytes.extend(records::encode(records::REPORT, b"mitigation name=l1tf affected=no on=-"));
        for line in &lines {
            bytes.extend(records::encode(1, b"a log"));
            bytes.extend(records::encode(records::REPORT, line.as_bytes()));
        }
        let decoded = decode(&bytes).expect("decodes");
        assert!(decoded.trouble.is_none(), "{decoded:?}");
        assert_eq!(figures(&decoded)[2].0, "call_reply_cross_cpu_polled");
        assert_eq!(decoded.results.host.mitigations, ["l1tf: affected=no on=-"]);
        // Cut off within a record.
        let cut = decode(&bytes[..bytes.len() - 60]).expect("decodes");
        assert!(cut.trouble.is_some() && figures(&cut).len() == 3, "{cut:?}");
    }

    #[test]
    fn what_executed_it_is_said() {
        for (executor, mode, unit) in [
            ("icount", Mode::Icount, "instructions"),
            ("tcg", Mode::Tcg, "cycles"),
            ("kvm", Mode::Kvm, "cycles"),
            ("elephant", Mode::Unknown, "ticks"),
        ] {
            let decoded = decode(text(&said(executor, "")).as_bytes()).expect("decodes");
            assert_eq!(decoded.results.runs[0].mode, mode);
            assert_eq!(figures(&decoded)[0].1, unit);
        }
    }

    #[test]
    fn noise_before_and_behind_is_passed_over() {
        let noise = "\u{1b}[2JGRUB loading | or so\n| row of trees\n\0\u{7f}";
        let earlier = "| done passed=9 failed=0\r\naurora: exit pass\r\n";
        let decoded = decode(format!("{noise}{earlier}{}\n{noise}", whole()).as_bytes()).expect("decodes");
        assert_eq!(figures(&decoded), FIGURES);
        assert!(decoded.trouble.is_none(), "{decoded:?}");
    }

    #[test]
    fn of_a_capture_that_was_cut_off_the_whole_rows_are_shown() {
        let whole = whole();
        let (mut seen, end) = ([false; 4], whole.find("| done").expect("an end"));
        for length in (0..end).rev().step_by(7) {
            match decode(&whole.as_bytes()[..length]) {
                Ok(cut) => {
                    let rows = figures(&cut).len();
                    seen[rows] = true;
                    assert_eq!(figures(&cut), FIGURES[..rows], "{length}");
                    let trouble = cut.trouble.expect("it is cut off");
                    assert_eq!(trouble.status(), status::GUEST_DIED);
                    assert!(trouble.to_string().contains(&format!("{rows} whole rows")), "{trouble}");
                }
                Err(error) => assert_eq!(status_of(&error), status::HOST),
            }
        }
        assert_eq!(seen, [false, true, true, true], "with no row there is nothing");
    }

    #[test]
    fn one_that_began_late_has_what_came_then() {
        let mut lines = said("hardware", "run=bench");
        lines.truncate(5);
        lines.remove(0);
        let decoded = decode(text(&lines).as_bytes()).expect("decodes");
        assert_eq!(figures(&decoded), [("null_syscall", "ticks", 92)]);
        assert!(decoded.notes.iter().any(|note| note.contains("which machine")), "{decoded:?}");
    }

    #[test]
    fn a_damaged_row_is_left_out_and_missed() {
        let damaged = whole().replace("p50=410", "p50=41");
        let decoded = decode(damaged.as_bytes()).expect("decodes");
        assert_eq!(figures(&decoded).len(), 2);
        let trouble = decoded.trouble.expect("a row is missing");
        assert_eq!(trouble.status(), status::CHECK_FAILED);
        assert!(
            trouble.to_string().contains("2 whole rows of the 3 that were measured: 1 damaged"),
            "{trouble}"
        );
    }

    #[test]
    fn what_failed_over_there_fails_here() {
        let failed =
            whole().replace("done passed=3 failed=0", "error bench: x: refused\r\n| done passed=3 failed=1");
        let trouble = decode(failed.as_bytes()).expect("decodes").trouble.expect("a row failed");
        assert_eq!(trouble.status(), status::CHECK_FAILED);
        assert!(trouble.to_string().contains("error bench: x: refused"), "{trouble}");
        let died = whole().replace("| done passed=3 failed=0\r\naurora: exit pass", "aurora: exit panic");
        let trouble = decode(died.as_bytes()).expect("decodes").trouble.expect("it panicked");
        assert_eq!(trouble.status(), status::GUEST_DIED);
    }

    #[test]
    fn what_is_no_capture_of_a_bench_says_why() {
        let why = |bytes: &[u8]| {
            let error = decode(bytes).expect_err("nothing is in it");
            assert_eq!(status_of(&error), status::HOST);
            error.to_string()
        };
        assert!(why(b"").contains("is empty"));
        assert!(why(b"\x7fELF\x02\x01\x01\0\xa5\x80").contains("in these 10 bytes"));
        assert!(why(b"a text | with bars | in it\n| and done\n").contains("nothing of a bench"));
        let tests = text(&["test name=a ok".to_owned(), "done passed=1 failed=0".to_owned()]);
        assert!(why(tests.as_bytes()).contains("booted with run=bench?"));
        assert!(why(b"aurora 0.1.0 boots\naurora: mitigation x: y\n").contains("before the first row"));
        let wrong = text(&["error bench: rows=x: there is no such row here".to_owned()]);
        assert!(why(wrong.as_bytes()).contains("there is no such row here"));
        assert!(why(whole().replace("p50=", "p5=").as_bytes()).contains("none of 3 rows is whole"));
    }

    #[test]
    fn the_last_boot_that_has_rows_counts() {
        let other = text(&said("tcg", "run=bench"));
        let decoded =
            decode(format!("{other}{}aurora 0.1.0 boots\r\n", whole()).as_bytes()).expect("decodes");
        assert_eq!(decoded.results.runs[0].mode, Mode::Hardware);
        assert!(decoded.notes.iter().any(|note| note.starts_with("2 boots have rows")), "{decoded:?}");
    }
}
