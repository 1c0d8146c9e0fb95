//! How long interrupts were off, by operation: reads and prints what the plugin saw of a whole run.
//!
//! The plugin tells operations apart by numbers. This module tells it the kernel's symbols before
//! the run, and names the numbers afterwards.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use abi::Op;
use anyhow::{Context, Result};
use console::style;
use object::{Object, ObjectSection, ObjectSymbol};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::lab::{Job, Lab};
use crate::session::{Event, Session};
use crate::trouble::Trouble;

/// The plugin's names of the symbols, and the kernel's.
const STUBS: &str = "trap_stubs";
/// The table of handlers, and that of places in the fast path, which some kernels do not have.
const HANDLERS_TABLE: &str = "AURORA_HANDLERS";
const FAST_TABLE: &str = "AURORA_FAST";
/// Operations: entries of the table of the fast path, and the first entries of the handlers' table.
const OP_NUMBERS: u16 = 256;
/// The first of the further entries of the handlers' table only continues another task: it serves
/// no operation.
const SWITCH: u16 = OP_NUMBERS;
/// What the fast path leaves to Rust, by the number of its handler: see `ipc_fast::entry::Table`.
const HANDLERS: [(u16, &str); 7] = [
    (257, "Call"),
    (258, "ReplyRecv"),
    (259, "ReplyRecv"),
    (260, "Map"),
    (261, "Unmap"),
    (262, "Send"),
    (263, "Yield"),
];
/// Interrupts: see `kern_hal::trap`.
const INTERRUPTS: [(u16, &str); 4] =
    [(0x71, "timer interrupt"), (0x70, "mail interrupt"), (0x72, "APIC error"), (0xff, "spurious interrupt")];
const FIRST_INTERRUPT: u16 = 0x20;
/// The most instructions that an entry into the kernel may take, whatever programs prepare.
pub const LONGEST_OFF: u64 = 10_000;
/// The operation that only test builds have. It writes down the whole kernel, however long that
/// takes.
const OF_TEST_BUILDS: &str = "MachineDump";

/// What the plugin wrote about a run.
#[derive(Deserialize, Clone, Debug)]
pub struct Watched {
    pub cpus: Vec<Cpu>,
    stretches: Vec<Counted>,
}

/// One CPU.
#[derive(Deserialize, Clone, Debug)]
pub struct Cpu {
    pub executed: u64,
    pub user: u64,
    /// Instructions in wait loops of locks.
    pub spun: u64,
    pub windows: Vec<Window>,
}

/// What a CPU did between two markers of a region.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Window {
    pub id: u8,
    pub instructions: u64,
    /// Instructions that the CPU executed while no program could run.
    pub idle: u64,
    pub spun: u64,
    pub ops: u64,
    /// The most instructions of the CPU between two operations; and the most without those that it
    /// executed while no program could run.
    pub longest_gap: u64,
    pub longest_busy_gap: u64,
    /// How often a task woke by timer.
    pub wakes: u64,
    pub late_max: u64,
}

/// The stretches of one kind of kernel entry, as the plugin writes them.
#[derive(Deserialize, Clone, Debug)]
struct Counted {
    kind: String,
    #[serde(default)]
    number: u16,
    entries: u64,
    total: u64,
    longest: u64,
    spun: u64,
    longest_with_spinning: u64,
}

/// The stretches of one operation, or of another kind of entry.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Default, Debug)]
pub struct Stretches {
    pub operation: String,
    /// The most instructions of one CPU with interrupts off, without wait loops of locks.
    pub longest: u64,
    pub entries: u64,
    pub total: u64,
    /// Instructions in wait loops of locks, and the longest stretch with them.
    pub spun: u64,
    pub longest_with_spinning: u64,
}

impl Watched {
    pub fn read(path: &Path) -> Result<Watched> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the plugin wrote nothing to {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("what the plugin wrote to {}", path.display()))
    }

    /// Returns a row for each operation and kind of entry, the longest first. Leaves out the boot:
    /// no program has to wait for it.
    pub fn stretches(&self) -> Vec<Stretches> {
        let mut table = Table::default();
        self.stretches.iter().filter(|counted| counted.kind != "boot").for_each(|counted| table.add(counted));
        table.rows()
    }
}

/// Rows by name: of one run, or of several.
#[derive(Default, Clone, Debug)]
pub struct Table(BTreeMap<String, Stretches>);

impl Table {
    fn add(&mut self, counted: &Counted) {
        self.add_row(&Stretches {
            operation: name_of(&counted.kind, counted.number),
            longest: counted.longest,
            entries: counted.entries,
            total: counted.total,
            spun: counted.spun,
            longest_with_spinning: counted.longest_with_spinning,
        });
    }

    pub fn add_row(&mut self, row: &Stretches) {
        let sum = self.0.entry(row.operation.clone()).or_default();
        sum.operation.clone_from(&row.operation);
        sum.longest = sum.longest.max(row.longest);
        sum.longest_with_spinning = sum.longest_with_spinning.max(row.longest_with_spinning);
        sum.entries += row.entries;
        sum.total += row.total;
        sum.spun += row.spun;
    }

    /// Returns the rows, the longest first.
    pub fn rows(&self) -> Vec<Stretches> {
        let mut rows: Vec<Stretches> = self.0.values().cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.longest));
        rows
    }
}

fn name_of(kind: &str, number: u16) -> String {
    let find =
        |names: &[(u16, &'static str)]| names.iter().find(|(of, _)| *of == number).map(|(_, name)| *name);
    match kind {
        "op" => match (u8::try_from(number).ok().and_then(Op::from_raw), find(&HANDLERS)) {
            (Some(op), _) => format!("{op:?}"),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "no operation".to_owned(),
        },
        "vector" => match find(&INTERRUPTS) {
            Some(name) => name.to_owned(),
            None if number < FIRST_INTERRUPT => format!("fault {number}"),
            None => format!("interrupt {number:#x}"),
        },
        "fast" => "fast path alone".to_owned(),
        "idle" => "work of an idle CPU".to_owned(),
        other => other.to_owned(),
    }
}

/// Writes the table for people.
pub fn render(rows: &[Stretches]) -> String {
    let heading = format!(
        "{:<22} {:>12} {:>12} {:>16} {:>14} {:>14}",
        "operation", "longest", "entries", "total", "on locks", "longest there"
    );
    let mut text = format!("{}\n", style(heading).bold());
    for row in rows {
        let Stretches { operation, longest, entries, total, spun, longest_with_spinning } = row;
        let _ = writeln!(
            text,
            "{operation:<22} {longest:>12} {entries:>12} {total:>16} {spun:>14} {longest_with_spinning:>14}"
        );
    }
    text
}

/// Returns the plugin's arguments for watching a run of this kernel.
pub fn arguments(kernel: &Path) -> Result<Vec<String>> {
    let mut arguments = vec!["watch=on".to_owned()];
    let bytes = std::fs::read(kernel).with_context(|| format!("reading {}", kernel.display()))?;
    let file =
        object::File::parse(&*bytes).with_context(|| format!("{} is no ELF file", kernel.display()))?;
    let symbol = |name: &str| {
        let found = file.symbols().find(|found| found.name() == Ok(name)).map(|found| found.address());
        found.with_context(|| {
            format!("{} has no symbol {name}: build it with `./justw build`", kernel.display())
        })
    };
    arguments.push(format!("stubs={:#x}", symbol(STUBS)?));
    let further = HANDLERS.map(|(number, _)| number);
    let handlers = table(&file, symbol(HANDLERS_TABLE)?, OP_NUMBERS + 1 + further.len() as u16)?;
    let fast = match symbol(FAST_TABLE) {
        Ok(address) => table(&file, address, OP_NUMBERS)?,
        Err(_) => Vec::new(),
    };
    arguments.extend(operations(&fast));
    arguments.extend(operations(&handlers));
    Ok(arguments)
}

/// Reads a table of the kernel's: the addresses in it.
fn table(file: &object::File<'_>, address: u64, entries: u16) -> Result<Vec<u64>> {
    let bytes = u64::from(entries) * 8;
    let data = file.sections().find_map(|section| section.data_range(address, bytes).ok().flatten());
    let data = data.with_context(|| format!("no section has the kernel's table at {address:#x}"))?;
    Ok(data.as_chunks().0.iter().map(|entry| u64::from_le_bytes(*entry)).collect())
}

/// Returns the plugin's arguments for the places that belong to one operation alone.
fn operations(table: &[u64]) -> Vec<String> {
    let mut places: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
    for (number, place) in (0..).zip(table).filter(|(number, _)| *number != SWITCH) {
        places.entry(*place).or_default().push(number);
    }
    let of_one = |numbers: &[u16]| {
        let first = *numbers.first()?;
        let is_one = numbers.iter().all(|number| name_of("op", *number) == name_of("op", first));
        is_one.then_some(first)
    };
    places.iter().filter_map(|(place, at)| of_one(at).map(|op| format!("op={op}:{place:#x}"))).collect()
}

/// Boots a job and watches it. Returns the session, and what the plugin saw.
/// Errors: also if the guest ended before the plugin could write.
pub fn watch(lab: &Lab, job: &Job) -> Result<(Session, Watched)> {
    watch_with(lab, job, &mut |event| lab.show(event))
}

fn watch_with(lab: &Lab, job: &Job, listener: &mut dyn FnMut(&Event)) -> Result<(Session, Watched)> {
    let output = output_of(lab, job);
    let _ = std::fs::remove_file(&output);
    let arguments = arguments(&lab.artifacts.kernel(&job.variant)?)?;
    let session = lab.record_with(job, &lab.artifacts, &output, arguments, listener)?;
    // Of a machine that was stopped, the plugin has written nothing: the reason is in the session.
    session.check_ended()?;
    let watched = Watched::read(&output)?;
    Ok((session, watched))
}

fn output_of(lab: &Lab, job: &Job) -> PathBuf {
    lab.artifacts.boot_dir().join(format!("watched-{}.json", job.label))
}

/// Collects the stretches of all runs of a command, where it was asked to.
#[derive(Debug)]
pub struct Collector {
    /// Where the table goes; `None`: nobody asked.
    output: Option<PathBuf>,
    table: Table,
}

impl Collector {
    pub fn new(output: Option<&Path>) -> Result<Collector> {
        output.map_or(Ok(()), files::demand_room_for)?;
        Ok(Collector { output: output.map(Path::to_owned), table: Table::default() })
    }

    /// Boots a job, and watches it if that was asked for.
    pub fn run(&mut self, lab: &Lab, job: &Job) -> Result<Session> {
        self.run_with(lab, job, &mut |event| lab.show(event))
    }

    /// Does what [`Collector::run`] does, and passes the guest's events to the caller's `listener`.
    pub fn run_with(&mut self, lab: &Lab, job: &Job, listener: &mut dyn FnMut(&Event)) -> Result<Session> {
        if self.output.is_none() {
            return lab.run_with(job, listener);
        }
        let (session, watched) = watch_with(lab, job, listener)?;
        watched.stretches().iter().for_each(|row| self.table.add_row(row));
        Ok(session)
    }

    /// Prints the table, and writes it as JSON.
    /// Errors: an operation kept interrupts off for too long.
    pub fn finish(&self) -> Result<()> {
        let Some(output) = &self.output else { return Ok(()) };
        let rows = self.table.rows();
        print!("{}", render(&rows));
        files::write(output, to_json(&rows)?)?;
        Ok(check(&rows)?)
    }
}

/// Checks that no operation of an ordinary build kept interrupts off for longer than
/// [`LONGEST_OFF`].
fn check(rows: &[Stretches]) -> std::result::Result<(), Trouble> {
    let is_long = |row: &&Stretches| row.longest > LONGEST_OFF && row.operation != OF_TEST_BUILDS;
    let Some(row) = rows.iter().find(is_long) else { return Ok(()) };
    let Stretches { operation, longest, .. } = row;
    Err(Trouble::CheckFailed(format!(
        "an entry into the kernel, {operation}, took {longest} instructions, and {LONGEST_OFF} are allowed: \
         `docs/src/stretches.md` says what was met before"
    )))
}

/// Writes the table as JSON.
pub fn to_json(rows: &[Stretches]) -> Result<String> {
    Ok(serde_json::to_string_pretty(rows)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        let text = r#"{"cpus":[{"executed":9000,"user":100,"spun":6,"windows":[{"id":9,"instructions":704,"idle":0,"spun":0,"ops":3,
            "longest_gap":550,"longest_busy_gap":550,"wakes":2,"late_max":340}]}],"stretches":[
            {"kind":"boot","entries":1,"total":20000000,"longest":20000000,"spun":0,"longest_with_spinning":20000000},
            {"kind":"op","number":36,"entries":5,"total":900,"longest":300,"spun":6,"longest_with_spinning":306},
            {"kind":"op","number":260,"entries":2,"total":800,"longest":500,"spun":0,"longest_with_spinning":500},
            {"kind":"op","number":250,"entries":1,"total":8,"longest":8,"spun":0,"longest_with_spinning":8},
            {"kind":"vector","number":113,"entries":1,"total":40,"longest":40,"spun":0,"longest_with_spinning":40},
            {"kind":"vector","number":14,"entries":1,"total":30,"longest":30,"spun":0,"longest_with_spinning":30},
            {"kind":"idle","entries":1,"total":20,"longest":20,"spun":0,"longest_with_spinning":20},
            {"kind":"fast","entries":1,"total":10,"longest":10,"spun":0,"longest_with_spinning":10}]}"#;
        serde_json::from_str(text).expect("it parses")
    }

    #[test]
    fn kinds_get_names_and_the_longest_comes_first() {
        let rows = watched().stretches();
        let names: Vec<&str> = rows.iter().map(|row| row.operation.as_str()).collect();
        let expected =
            ["Map", "timer interrupt", "fault 14", "work of an idle CPU", "fast path alone", "no operation"];
        assert_eq!(names, expected, "and the boot is none of them");
        let map = &rows[0];
        assert_eq!((map.longest, map.entries, map.total, map.spun), (500, 7, 1700, 6));
        assert_eq!(watched().cpus[0].windows[0].late_max, 340);
    }

    #[test]
    fn a_place_of_several_operations_tells_none() {
        let mut table = [1; OP_NUMBERS as usize + 7];
        table[usize::from(SWITCH)] = 2;
        // Two entries of the same name, and one that is its operation's alone.
        (table[258], table[259], table[Op::Map as usize]) = (3, 3, 4);
        let op = |number: usize, place: u64| format!("op={number}:{place:#x}");
        assert_eq!(operations(&table), [op(258, 3), op(Op::Map as usize, 4)]);
    }

    #[test]
    fn an_entry_that_is_too_long_is_named_but_not_one_of_test_builds() {
        let row = |operation: &str, longest| Stretches {
            operation: operation.to_owned(),
            longest,
            ..Stretches::default()
        };
        let fine = [row(OF_TEST_BUILDS, LONGEST_OFF + 1), row("Map", LONGEST_OFF)];
        assert!(check(&fine).is_ok());
        let text = check(&[row("Unmap", LONGEST_OFF + 1)]).expect_err("too long").to_string();
        assert!(text.contains("Unmap, took 10001 instructions"), "{text}");
    }

    #[test]
    fn the_table_has_the_documented_columns() {
        let text = console::strip_ansi_codes(&render(&watched().stretches())).into_owned();
        let mut lines = text.lines();
        let heading: Vec<&str> = lines.next().expect("a heading").split_whitespace().collect();
        assert_eq!(heading[..4], ["operation", "longest", "entries", "total"]);
        let map: Vec<&str> = lines.next().expect("a row").split_whitespace().collect();
        assert_eq!(map, ["Map", "500", "7", "1700", "6", "500"]);
        let json: serde_json::Value =
            serde_json::from_str(&to_json(&watched().stretches()).expect("it serialises")).expect("is JSON");
        assert_eq!((json[0]["operation"].as_str(), json[0]["longest"].as_u64()), (Some("Map"), Some(500)));
    }

    #[test]
    fn runs_add_up() {
        let mut table = Table::default();
        for longest in [5, 9, 7] {
            table.add_row(&Stretches {
                operation: "Map".to_owned(),
                longest,
                entries: 1,
                ..Stretches::default()
            });
        }
        assert_eq!((table.rows()[0].longest, table.rows()[0].entries), (9, 3));
    }

    /// Numbers that the plugin and this module share with the kernel, which the host cannot build.
    #[test]
    fn numbers_are_the_kernels() {
        let source = |path: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
            std::fs::read_to_string(&path).expect("the kernel's source")
        };
        let trap = source("kern/hal/src/trap/mod.rs");
        for (name, vector) in
            ["TIMER", "WAKE", "APIC_ERROR", "SPURIOUS"].iter().zip(INTERRUPTS.map(|(vector, _)| vector))
        {
            let line = format!("pub const {name}: u8 = {vector:#x};");
            assert!(trap.contains(&line), "{line}");
        }
        let line = format!("const TIMER: u8 = {:#x};", INTERRUPTS[0].0);
        assert!(source("bench-harness/plugin/src/watch.rs").contains(&line), "{line}");
        let entry = source("ipc-fast/src/entry.rs");
        let table = entry.split_once("pub struct Table {").and_then(|(_, rest)| rest.split_once("\n}"));
        let (fields, _) = table.expect("the table of handlers");
        let fields: Vec<&str> =
            fields.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next()).collect();
        let expected = [
            "ops",
            "switch",
            "call_elsewhere",
            "reply_elsewhere",
            "answer_fault",
            "map",
            "unmap",
            "tell_reader",
            "yield_next",
        ];
        assert_eq!(fields, expected, "the handlers have these numbers, from 256 on");
    }
}
