//! Which boots a bench run takes, and which rows each of them is believed for.
//!
//! The book's chapter on measuring has the same table in prose.

use crate::machine::Mode;
use crate::report::Row;

/// One boot of a bench run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    pub name: &'static str,
    /// Build of the kernel.
    pub variant: &'static str,
    pub command_line: String,
    pub keep: Keep,
}

/// What is taken from a boot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Every row but those that other boots are for; `renamed` under its second name.
    Main { renamed: (&'static str, &'static str), others: Vec<&'static str> },
    /// One row, under its second name.
    One(&'static str, &'static str),
    /// What the plugin counted.
    Counted,
}

const CROSS_AS: &str = "call_reply_cross_as";
const NOFAST: &str = "call_reply_cross_as_nofast";
const CROSS_CPU: &str = "call_reply_cross_cpu";
const POLLED: &str = "call_reply_cross_cpu_polled";
const HALTED: &str = "call_reply_cross_cpu_halted";
/// Counted by the plugin under icount.
pub const BUSY: &str = "call_reply_cross_cpu_busy";
/// Counted by the plugin under icount.
pub const SHARED_LINES: &str = "shared_lines_per_rt";

/// Counted by the plugin under icount.
pub const INTERRUPTS_OFF: &str = "max_interrupts_off";

/// The row of N pairs, one for each CPU.
pub fn pairs_row(cpus: u32) -> String {
    format!("pairs_local_{cpus}")
}

/// The boots for one mode and number of CPUs.
pub fn boots(mode: Mode, cpus: u32) -> Vec<Planned> {
    let counted = mode == Mode::Icount && cpus > 1;
    let mut others = vec![NOFAST, POLLED, SHARED_LINES];
    if counted {
        others.push(BUSY);
    }
    let mut boots = vec![
        Planned {
            name: "main",
            variant: "",
            command_line: "run=bench idle=halt".to_owned(),
            keep: Keep::Main { renamed: (CROSS_CPU, HALTED), others },
        },
        Planned {
            name: "nofast",
            variant: "nofast",
            command_line: format!("run=bench idle=halt rows={CROSS_AS}"),
            keep: Keep::One(CROSS_AS, NOFAST),
        },
    ];
    if cpus > 1 {
        boots.push(Planned {
            name: "poll",
            variant: "",
            command_line: format!("run=bench idle=poll rows={CROSS_CPU}"),
            keep: Keep::One(CROSS_CPU, POLLED),
        });
    }
    if counted {
        boots.push(Planned {
            name: "counted",
            variant: "",
            command_line: format!("run=bench idle=halt trace=1 rows={BUSY},{}", pairs_row(cpus)),
            keep: Keep::Counted,
        });
    }
    if mode == Mode::Icount && cpus == 1 {
        boots.push(Planned {
            name: "entries",
            variant: "",
            command_line: "run=bench idle=halt n=10 warmup=5".to_owned(),
            keep: Keep::Counted,
        });
    }
    boots
}

impl Keep {
    /// The rows to keep of those that the guest reported, with ticks named as the mode has it.
    pub fn take(&self, mode: Mode, reported: impl Iterator<Item = Row>) -> Vec<Row> {
        reported.filter_map(|row| self.take_one(row)).map(|row| name_unit(mode, row)).collect()
    }

    /// The name under which this boot's row of that name is kept, if it is.
    pub fn name(&self, reported: &str) -> Option<String> {
        match self {
            Keep::Main { others, .. } if others.contains(&reported) => None,
            Keep::Main { renamed: (from, to), .. } if reported == *from => Some((*to).to_owned()),
            Keep::Main { .. } => Some(reported.to_owned()),
            Keep::One(from, to) => (reported == *from || reported == *to).then(|| (*to).to_owned()),
            Keep::Counted => None,
        }
    }

    fn take_one(&self, mut row: Row) -> Option<Row> {
        row.name = self.name(&row.name)?;
        Some(row)
    }
}

fn name_unit(mode: Mode, mut row: Row) -> Row {
    if row.unit != "lines" {
        row.unit = mode.unit().to_owned();
    }
    row
}

/// Rows that every run must have.
const ALWAYS: &[&str] = &[
    "loop_1m",
    "null_syscall",
    "yield_to",
    "notify_no_waiter",
    "notify_wait_same_cpu",
    "call_reply_same_as",
    CROSS_AS,
    "call_reply_cross_as_vec",
    NOFAST,
    "call_reply_64w",
    "fault_null",
    "fault_roundtrip",
    "send_event",
    "send_event_wake",
    "event_receive",
    "grant_cap_in_call",
    "cap_copy",
    "cap_delete",
    "cap_revoke_1000",
    "retype_notification",
    "task_create_destroy",
    "process_create_destroy",
    "broadcast_8",
    "broadcast_64",
    "clear_page",
    "map_unmap_1p",
    "map_unmap_512p",
    "remap_move_1p",
    "remap_move_4p",
    "remap_move_16p",
    "remap_move_64p",
    "remap_move_512p",
    "remap_move_2m",
    "remap_cow_1p",
    "remap_cow_16p",
    "remap_cow_512p",
    "share_ro_1p",
    "share_ro_16p",
    "share_ro_512p",
    "copy_1p",
    "copy_4p",
    "copy_16p",
    "copy_64p",
    "copy_512p",
];

/// Rows that a run on several CPUs must have besides.
const SEVERAL_CPUS: &[&str] = &[POLLED, HALTED, BUSY, "fault_cross_cpu", "notify_wait_cross_cpu"];

/// The rows that a run must have, missing ones being a failure of `--check`.
pub fn expected(mode: Mode, cpus: u32) -> Vec<String> {
    let mut names: Vec<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
    if mode == Mode::Icount && cpus == 1 {
        names.push(INTERRUPTS_OFF.to_owned());
    }
    if cpus > 1 {
        names.extend(SEVERAL_CPUS.iter().map(|name| (*name).to_owned()));
        names.push(pairs_row(cpus));
        names.push(format!("shootdown_{cpus}cpu"));
        names.extend([1, 4, 16, 64, 512].map(|pages| format!("remap_move_{pages}p_2cpu")));
        if mode == Mode::Icount {
            names.push(SHARED_LINES.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        let text = |s: &str| s.to_owned();
        Row {
            name: text(name),
            unit: text("ticks"),
            scope: text("round-trip"),
            min: 1,
            p50: 1,
            p99: 1,
            n: 1,
            overhead: 0,
            operations: 1,
        }
    }

    fn taken(boot: &Planned, mode: Mode, names: &[&str]) -> Vec<String> {
        boot.keep.take(mode, names.iter().map(|name| row(name))).into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn each_row_comes_from_one_boot() {
        let boots = boots(Mode::Icount, 4);
        let guest = [CROSS_AS, CROSS_CPU, BUSY, "pairs_local_4"];
        assert_eq!(taken(&boots[0], Mode::Icount, &guest), [CROSS_AS, HALTED, "pairs_local_4"]);
        assert_eq!(taken(&boots[1], Mode::Icount, &guest), [NOFAST]);
        assert_eq!(taken(&boots[2], Mode::Icount, &guest), [POLLED]);
        assert!(taken(&boots[3], Mode::Icount, &guest).is_empty());
    }

    #[test]
    fn without_the_plugin_the_guest_measures_the_busy_target() {
        let boots = boots(Mode::Tcg, 2);
        assert_eq!(boots.len(), 3);
        assert_eq!(taken(&boots[0], Mode::Tcg, &[BUSY]), [BUSY]);
    }

    #[test]
    fn one_cpu_has_no_cross_cpu_boots() {
        assert_eq!((boots(Mode::Icount, 1).len(), boots(Mode::Tcg, 1).len()), (3, 2));
        assert!(expected(Mode::Icount, 1).iter().all(|name| !name.contains("cross_cpu")));
    }

    #[test]
    fn ticks_are_called_what_they_are() {
        let boots = boots(Mode::Icount, 1);
        let rows = boots[0].keep.take(Mode::Icount, std::iter::once(row("loop_1m")));
        assert_eq!(rows[0].unit, "instructions");
    }
}
