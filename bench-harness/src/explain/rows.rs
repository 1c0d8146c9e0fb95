//! Determines which boot shows an operation of a row, and how to distinguish the row's operations
//! there.

use crate::explain::sample::Cut;
use crate::lab::Job;
use crate::machine::Mode;
use crate::trouble::Trouble;
use crate::{plan, rows};

/// The plugin's region around each sample, and that of the row whose operations it counts itself.
const REGION_SAMPLE: u8 = 2;
const REGION_BUSY: u8 = 1;
const PAIRS: &str = "pairs_local_";
const CALIBRATION: &str = "loop_1m";

/// How a row is recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub row: String,
    /// What the guest calls it.
    pub guest_row: String,
    /// Build of the kernel.
    pub variant: String,
    pub command_line: String,
    pub cpus: u32,
    pub cut: Cut,
    pub region: u8,
    /// Operations to let pass, and to record.
    pub skip: u64,
    pub operations: u64,
}

/// Returns all rows that can be explained.
pub fn names() -> Vec<String> {
    // Some rows are on one CPU only, others on several.
    let mut names = rows::expected(Mode::Icount, 1);
    let of_two = rows::expected(Mode::Icount, 2).into_iter().filter(|name| !names.contains(name));
    names.extend(of_two.collect::<Vec<_>>());
    let counted = [plan::SHARED_LINES, plan::INTERRUPTS_OFF];
    names.retain(|name| !counted.contains(&name.as_str()) && !name.starts_with(PAIRS));
    names.push(format!("{PAIRS}N"));
    names
}

/// Returns how to record `row`, on `cpus` CPUs or on as many as the row needs.
pub fn find(row: &str, cpus: Option<u32>) -> Result<Target, Trouble> {
    if row == plan::SHARED_LINES {
        let text =
            format!("{row} is counted in cache lines: `explain {PAIRS}2` says which CPUs share how many");
        return Err(Trouble::Usage(text));
    }
    let pairs = row.strip_prefix(PAIRS).and_then(|count| count.parse::<u32>().ok());
    if pairs.is_none_or(|pairs| pairs == 0) && !names().iter().any(|name| name == row) {
        let text = format!("there is no row '{row}'; the rows are: {}", names().join(", "));
        return Err(Trouble::Usage(text));
    }
    let has = |cpus| rows::expected(Mode::Icount, cpus).iter().any(|name| name == row);
    let least = pairs.unwrap_or(if has(1) { 1 } else { 2 });
    let cpus = cpus.unwrap_or(least);
    if !has(cpus) {
        let (least, cpus) = (Job::cpus_text(least), Job::cpus_text(cpus));
        return Err(Trouble::Usage(format!("{row} takes {least}, not {cpus}")));
    }
    let boots = plan::boots(Mode::Icount, cpus);
    // The boot from which the bench keeps the row.
    let kept = |guest: &str| {
        boots.iter().find(|boot| boot.keep.measures() && boot.keep.name(guest).as_deref() == Some(row))
    };
    let guest_row =
        ["call_reply_cross_as", "call_reply_cross_cpu", row].into_iter().find(|name| kept(name).is_some());
    let busy = row == plan::BUSY;
    let (guest_row, variant, options) = match guest_row.and_then(|guest| Some((guest, kept(guest)?))) {
        Some((guest, boot)) => (guest, boot.variant, first_options(&boot.command_line)),
        // What the plugin counts, no boot keeps.
        None => (row, "", "run=bench idle=halt".to_owned()),
    };
    let trace = if busy { " trace=1" } else { "" };
    let once = row == CALIBRATION;
    Ok(Target {
        row: row.to_owned(),
        guest_row: guest_row.to_owned(),
        variant: variant.to_owned(),
        command_line: format!("{options}{trace} rows={guest_row}"),
        cpus,
        cut: if busy { Cut::Marks } else { Cut::Stamps },
        region: if busy { REGION_BUSY } else { REGION_SAMPLE },
        skip: if once { 2 } else { 10 },
        operations: if once { 1 } else { 40 },
    })
}

/// Returns a command line without `rows=`.
fn first_options(command_line: &str) -> String {
    let words = command_line.split_whitespace().filter(|word| !word.starts_with("rows="));
    words.collect::<Vec<_>>().join(" ")
}

impl Target {
    /// Returns the plugin's arguments.
    pub fn plugin_arguments(&self) -> Vec<String> {
        vec![
            "record=on".to_owned(),
            format!("region={}", self.region),
            format!("skip={}", self.skip),
            format!("ops={}", self.operations),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_line(row: &str) -> (String, String, u32) {
        let target = find(row, None).expect("a row");
        (target.variant, target.command_line, target.cpus)
    }

    fn expect(row: &str, variant: &str, line: &str, cpus: u32) {
        assert_eq!(command_line(row), (variant.to_owned(), line.to_owned(), cpus), "{row}");
    }

    #[test]
    fn rows_are_recorded_in_the_boot_that_the_bench_keeps_them_from() {
        expect("null_syscall", "", "run=bench idle=halt rows=null_syscall", 1);
        expect("call_reply_cross_as_nofast", "nofast", "run=bench idle=halt rows=call_reply_cross_as", 1);
        expect("call_reply_cross_cpu_polled", "", "run=bench idle=poll rows=call_reply_cross_cpu", 2);
        expect("call_reply_cross_cpu_halted", "", "run=bench idle=halt rows=call_reply_cross_cpu", 2);
        expect(plan::BUSY, "", "run=bench idle=halt trace=1 rows=call_reply_cross_cpu_busy", 2);
        expect("task_kill", "", "run=bench idle=halt rows=task_kill", 1);
        expect("remap_move_1p_2cpu", "", "run=bench idle=halt rows=remap_move_1p_2cpu", 2);
        expect("pairs_local_4", "", "run=bench idle=halt rows=pairs_local_4", 4);
        expect(
            "call_reply_cross_as_shuffled",
            "",
            "run=bench idle=halt rows=call_reply_cross_as_shuffled",
            1,
        );
    }

    #[test]
    fn all_names_but_the_placeholder_are_rows() {
        for name in names().iter().filter(|name| !name.ends_with('N')) {
            assert!(find(name, None).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_unknown_row_is_answered_with_the_list() {
        let Err(Trouble::Usage(text)) = find("call_replay", None) else { panic!("no usage error") };
        assert!(text.contains("no row 'call_replay'") && text.contains("yield_to, "), "{text}");
        assert!(matches!(find(plan::SHARED_LINES, None), Err(Trouble::Usage(_))));
        assert!(matches!(find(plan::BUSY, Some(1)), Err(Trouble::Usage(_))));
        assert!(matches!(find("task_kill", Some(2)), Err(Trouble::Usage(_))), "on one CPU only");
        assert!(matches!(find(plan::INTERRUPTS_OFF, None), Err(Trouble::Usage(_))));
        assert!(matches!(find("pairs_local_0", None), Err(Trouble::Usage(_))));
    }
}
