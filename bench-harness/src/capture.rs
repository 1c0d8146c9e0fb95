//! Captures of a machine's port: `cat /dev/ttyS0 > FILE`.
//!
//! There are two kinds of captures, which the bytes themselves show:
//! - lines of text (`log=text`): the kernel's own lines on the serial line, and report lines after
//!   [`TEXT_MARK`];
//! - [`crate::records`] (`log=com2`, `log=e9`, `log.bin` of a run).
//!
//! Anything may come before, between and after: firmware messages, the end of another boot, noise.
//! A line without an end is incomplete and is skipped, since a part of a number is still a number.
//! Lines of text without their [sum](test_abi::lines::line_sum), or with a wrong one, count as
//! damaged. Records
//! have a length, and need no sums.

use crate::records::{self, Piece, Splitter};
use crate::report::Report;
use crate::session::{EXIT, MITIGATION};
use crate::tail;

/// Begins a report line among the kernel's own lines (`kern/hal/src/dev/logport.rs`).
const TEXT_MARK: &str = "| ";
/// What report lines of other programs than the bench begin with.
const OTHERS: [&str; 8] = ["test", "stress", "torture", "fuzz", "storm", "scale", "message", "policy"];

/// The machine as a bench reported it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    pub cpu: String,
    pub cpus: u32,
    pub tsc_hz: u64,
    /// What executed it, by the names of [`Mode`](crate::machine::Mode).
    pub executor: String,
    pub fastpath: bool,
}

/// One boot, as far as it was captured.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Heard {
    /// The kernel said that it boots.
    pub begun: bool,
    pub machine: Option<Machine>,
    /// The command line.
    pub options: Option<String>,
    /// Rows, counters, and the guest's own count at its end.
    pub reports: Vec<Report>,
    pub mitigations: Vec<String>,
    /// What went wrong, in the guest's words.
    pub errors: Vec<String>,
    /// How the kernel ended: `pass`, `fail`, `panic`.
    pub exit: Option<String>,
    /// Report lines of other programs.
    pub others: usize,
    /// Rows, and other lines, with a wrong sum.
    pub damaged_rows: usize,
    pub damaged: usize,
}

/// Returns all boots of a capture, in order.
pub fn read(bytes: &[u8]) -> Vec<Heard> {
    let (records, text) = (in_records(bytes), in_text(bytes));
    let lines = |boots: &[Heard]| boots.iter().map(Heard::lines).sum::<usize>();
    // Text that looks like a record's beginning swallows some, and the other way round: one of both
    // has the lines.
    if lines(&records) > lines(&text) { records } else { text }
}

fn in_records(bytes: &[u8]) -> Vec<Heard> {
    let mut boots = Boots::default();
    let mut splitter = Splitter::default();
    splitter.push(bytes);
    loop {
        match splitter.next() {
            Some(Piece::Record { channel: records::REPORT, payload }) => {
                boots.report(&tail::one_line(&String::from_utf8_lossy(&payload)));
            }
            Some(Piece::Record { .. } | Piece::Skipped(_)) => {}
            // A mark of noise waits for bytes that never come.
            None if !splitter.give_up() => return boots.all(),
            None => {}
        }
    }
}

fn in_text(bytes: &[u8]) -> Vec<Heard> {
    let mut boots = Boots { has_words: true, ..Boots::default() };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    for line in bytes[..whole].split(|&byte| byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches('\r');
        match line.split_once(TEXT_MARK) {
            Some((_, report)) => boots.report(report),
            None => boots.kernel(line),
        }
    }
    boots.all()
}

#[derive(Default)]
struct Boots {
    /// The kernel's own lines are there, too.
    has_words: bool,
    over: Vec<Heard>,
    current: Heard,
}

impl Boots {
    fn all(mut self) -> Vec<Heard> {
        self.next_boot();
        self.over
    }

    fn next_boot(&mut self) {
        let boot = std::mem::take(&mut self.current);
        if boot != Heard::default() {
            self.over.push(boot);
        }
    }

    /// Reads a line of the kernel's own, or skips noise.
    fn kernel(&mut self, line: &str) {
        if line.contains("aurora ") && line.ends_with(" boots") {
            self.next_boot();
            self.current.begun = true;
        } else if let Some(text) = line.strip_prefix(MITIGATION) {
            self.current.mitigations.push(text.to_owned());
        } else if let Some(verdict) = line.strip_prefix(EXIT) {
            self.current.exit = Some(verdict.to_owned());
        }
    }

    /// Reads a report line. If the kernel's own lines are not captured, a report line after the end
    /// begins the next boot, and so does a row that was there before.
    fn report(&mut self, line: &str) {
        let is_over = self.current.reports.iter().any(|report| matches!(report, Report::Done { .. }));
        if is_over {
            self.next_boot();
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let text = if rest.starts_with("sum=") || self.has_words { checked(rest) } else { Some(rest) };
        match (word, text) {
            ("row", None) => self.current.damaged_rows += 1,
            ("counter" | "machine" | "options", None) => self.current.damaged += 1,
            ("row" | "counter", Some(text)) => self.figure(Report::parse(&format!("{word} {text}"))),
            ("machine", Some(text)) => self.current.machine = machine(text),
            ("options", Some(text)) => self.current.options = Some(text.to_owned()),
            ("done", _) => self.current.reports.push(Report::parse(line)),
            ("error" | "panic", _) => self.current.errors.push(line.to_owned()),
            // Where the kernel's own line is captured, it says so in words.
            ("mitigation", _) if !self.has_words => {
                let text = rest.strip_prefix("name=").unwrap_or(rest);
                self.current.mitigations.push(text.replacen(' ', ": ", 1));
            }
            (word, _) if OTHERS.contains(&word) => self.current.others += 1,
            // The table for a person is among these.
            _ => {}
        }
    }

    fn figure(&mut self, report: Report) {
        if let Report::Row(row) = &report
            && self.current.rows().any(|known| known.name == row.name)
        {
            let (machine, options) = (self.current.machine.clone(), self.current.options.clone());
            self.next_boot();
            self.current = Heard { machine, options, ..Heard::default() };
        }
        self.current.reports.push(report);
    }
}

/// Returns the text behind a sum, if the sum is right.
fn checked(rest: &str) -> Option<&str> {
    let (sum, text) = rest.strip_prefix("sum=").map(|rest| rest.split_once(' ').unwrap_or((rest, "")))?;
    (u16::from_str_radix(sum, 16) == Ok(test_abi::lines::line_sum(text))).then_some(text)
}

fn machine(text: &str) -> Option<Machine> {
    let (fields, cpu) = text.split_once(" cpu=")?;
    let field = |name: &str| {
        fields.split(' ').filter_map(|word| word.split_once('=')).find(|(key, _)| *key == name).map(|it| it.1)
    };
    Some(Machine {
        cpu: cpu.to_owned(),
        cpus: field("cpus")?.parse().ok()?,
        tsc_hz: field("tsc_hz")?.parse().ok()?,
        executor: field("executor")?.to_owned(),
        fastpath: field("fastpath")? == "1",
    })
}

impl Heard {
    pub fn rows(&self) -> impl Iterator<Item = &crate::report::Row> {
        self.reports.iter().filter_map(|report| match report {
            Report::Row(row) => Some(&**row),
            _ => None,
        })
    }

    /// Returns how many rows succeeded and failed, by the guest's own count at its end.
    pub fn done(&self) -> Option<(u64, u64)> {
        self.reports.iter().find_map(|report| match report {
            Report::Done { passed, failed } => Some((*passed, *failed)),
            _ => None,
        })
    }

    /// Returns how many lines were understood.
    fn lines(&self) -> usize {
        let damaged = self.damaged_rows + self.damaged;
        damaged + self.reports.len() + self.errors.len() + self.others + usize::from(self.machine.is_some())
    }
}

/// Returns a report line of the bench, with its sum.
#[cfg(test)]
pub fn summed(word: &str, text: &str) -> String {
    format!("{word} sum={:04x} {text}", test_abi::lines::line_sum(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(name: &str, figure: u64) -> String {
        let text = format!(
            "name={name} unit=ticks scope=operation n=9 min={figure} p50={figure} p99={figure} max={figure} overhead=4"
        );
        summed("row", &text)
    }

    fn names(boot: &Heard) -> Vec<&str> {
        boot.rows().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn a_line_without_its_end_is_none() {
        let whole = format!("noise\u{fffd}| {}\r\n| {}", row("a", 1), row("b", 22));
        let boots = read(whole.as_bytes());
        assert_eq!(names(&boots[0]), ["a"], "whether a figure goes on, nobody knows");
        assert_eq!(names(&read(format!("{whole}\n").as_bytes())[0]), ["a", "b"]);
    }

    #[test]
    fn a_figure_that_lost_a_digit_is_no_figure() {
        let text = format!("| {}\n| {}\n", row("a", 1200).replace("min=1200", "min=120"), row("b", 7));
        let boots = read(text.as_bytes());
        assert_eq!((names(&boots[0]), boots[0].damaged_rows), (vec!["b"], 1));
    }

    #[test]
    fn lines_of_text_need_a_sum_and_records_have_a_length() {
        let line = row("a", 7);
        let without = line.replacen(line.split(' ').nth(1).expect("a sum"), "", 1).replacen("  ", " ", 1);
        assert!(without.starts_with("row name=a "), "{without}");
        let boots = read(format!("| {without}\n").as_bytes());
        assert_eq!((names(&boots[0]).len(), boots[0].damaged_rows), (0, 1));
        assert_eq!(names(&read(&records::encode(records::REPORT, without.as_bytes()))[0]), ["a"]);
        let wrong = line.replacen("p50=7", "p50=8", 1);
        let boots = read(&records::encode(records::REPORT, wrong.as_bytes()));
        assert_eq!((names(&boots[0]).len(), boots[0].damaged_rows), (0, 1));
    }

    #[test]
    fn each_boot_is_one_of_its_own() {
        let machine =
            summed("machine", "cpus=4 tsc_hz=2400000000 executor=hardware fastpath=1 cpu=A CPU+ (R)");
        let boot = |name| format!("aurora 0.1.0 boots\n| {machine}\n| {}\n", row(name, 1));
        let boots = read((boot("a") + &boot("b") + "| done passed=1 failed=0\n").as_bytes());
        assert_eq!(boots.iter().map(names).collect::<Vec<_>>(), [["a"], ["b"]]);
        assert_eq!((boots[0].done(), boots[1].done()), (None, Some((1, 0))));
        let machine = boots[1].machine.as_ref().expect("a machine");
        assert_eq!((machine.cpu.as_str(), machine.cpus, machine.tsc_hz), ("A CPU+ (R)", 4, 2_400_000_000));
        // Of records, the kernel's own lines are not there.
        let again = [row("a", 1), row("b", 2), row("a", 3), "done passed=2 failed=0".to_owned(), row("c", 4)];
        let bytes: Vec<u8> =
            again.iter().flat_map(|line| records::encode(records::REPORT, line.as_bytes())).collect();
        let boots = read(&bytes);
        assert_eq!(boots.iter().map(names).collect::<Vec<_>>(), [vec!["a", "b"], vec!["a"], vec!["c"]]);
    }

    #[test]
    fn a_report_is_one_line_whatever_a_program_puts_into_it() {
        let boots = read(&records::encode(records::REPORT, b"error x\naurora: exit pass\x1b[2J"));
        assert_eq!(boots[0].errors, ["error x\\naurora: exit pass\\u{1b}[2J"]);
    }

    #[test]
    fn a_record_that_noise_begins_costs_no_other_kind() {
        let mut bytes = vec![records::MAGIC, records::REPORT, 0, 8];
        bytes.extend(format!("\n| {}\n", row("a", 1)).bytes());
        assert_eq!(names(&read(&bytes)[0]), ["a"]);
        let mut bytes = vec![records::MAGIC, records::KERNEL, 0, 8];
        bytes.extend(records::encode(records::REPORT, row("a", 1).as_bytes()));
        assert_eq!(names(&read(&bytes)[0]), ["a"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_find_a_row(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read(&bytes).iter().all(|boot| boot.rows().next().is_none()));
        }
    }
}
