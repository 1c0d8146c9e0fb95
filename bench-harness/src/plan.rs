//! The boots of a bench run, and the rows that each of them provides.
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
    /// What each row's samples take besides instructions; one row under its second name.
    Work { renamed: (&'static str, &'static str) },
}

impl Keep {
    /// Returns whether the plugin counts in a boot that is kept for this.
    pub const fn is_counted(&self) -> bool {
        matches!(self, Keep::Counted | Keep::Work { .. })
    }

    /// Returns whether a row's figure is what the plugin counted.
    pub fn counts(&self, row: &str) -> bool {
        match self {
            // Its boot has the samples of all rows.
            Keep::Work { .. } => row == INTERRUPTS_OFF,
            Keep::Counted => row != INTERRUPTS_OFF,
            Keep::Main { .. } | Keep::One(..) => false,
        }
    }

    /// Returns whether the figures that the guest reports are kept.
    pub const fn measures(&self) -> bool {
        !self.is_counted()
    }
}

const CROSS_AS: &str = "call_reply_cross_as";
const NOFAST: &str = "call_reply_cross_as_nofast";
const CROSS_CPU: &str = "call_reply_cross_cpu";
const POLLED: &str = "call_reply_cross_cpu_polled";
const HALTED: &str = "call_reply_cross_cpu_halted";
/// Counted by the plugin under icount.
pub const BUSY: &str = "call_reply_cross_cpu_busy";
/// Counted by the plugin under icount: interrupts to a driver.
pub const IRQS: [&str; 3] = ["irq_to_driver", "irq_to_driver_preempt", "irq_to_driver_cross"];
/// Counted by the plugin under icount.
pub const SHARED_LINES: &str = "shared_lines_per_rt";

/// Counted by the plugin under icount.
pub const INTERRUPTS_OFF: &str = "max_interrupts_off";

/// Returns the row of N pairs, one for each CPU.
pub fn pairs_row(cpus: u32) -> String {
    format!("pairs_local_{cpus}")
}

/// Returns the boots for one mode and number of CPUs that measure some rows, and only those.
pub fn boots_for(mode: Mode, cpus: u32, wanted: &[String]) -> Vec<Planned> {
    let wants = |name: &str| wanted.iter().any(|row| row == name);
    let mut boots = boots(mode, cpus);
    boots.retain_mut(|boot| match &boot.keep {
        Keep::One(_, kept) => wants(kept),
        Keep::Counted => wants(BUSY) || wants(SHARED_LINES) || IRQS.into_iter().any(wants),
        Keep::Main { .. } => only(boot, wanted.iter().filter(|row| !counted_or_other(mode, row))),
        // The longest run is that of all rows.
        Keep::Work { .. } if wants(INTERRUPTS_OFF) => true,
        Keep::Work { .. } => only(boot, wanted.iter().filter(|row| !OTHERS.contains(&row.as_str()))),
    });
    boots
}

/// Rows of boots of their own, and what no boot reports as a row.
pub const OTHERS: [&str; 4] = [NOFAST, POLLED, SHARED_LINES, INTERRUPTS_OFF];

fn counted_or_other(mode: Mode, row: &str) -> bool {
    OTHERS.contains(&row) || mode == Mode::Icount && (row == BUSY || IRQS.contains(&row))
}

/// Makes a boot measure these rows only. Returns whether there are any.
fn only<'a>(boot: &mut Planned, rows: impl Iterator<Item = &'a String>) -> bool {
    let guests: Vec<&str> = rows.map(|row| if row == HALTED { CROSS_CPU } else { row }).collect();
    boot.command_line += &format!(" rows={}", guests.join(","));
    !guests.is_empty()
}

/// Returns the boots for one mode and number of CPUs.
pub fn boots(mode: Mode, cpus: u32) -> Vec<Planned> {
    let counted = mode == Mode::Icount && cpus > 1;
    let mut others = vec![NOFAST, POLLED, SHARED_LINES];
    if counted {
        others.push(BUSY);
        others.extend(IRQS);
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
            command_line: format!(
                "run=bench idle=halt trace=1 rows={BUSY},{},{}",
                pairs_row(cpus),
                IRQS.join(",")
            ),
            keep: Keep::Counted,
        });
    }
    if mode == Mode::Icount {
        boots.push(Planned {
            name: "work",
            variant: "",
            command_line: "run=bench idle=halt n=10 warmup=5".to_owned(),
            keep: Keep::Work { renamed: (CROSS_CPU, HALTED) },
        });
    }
    boots
}

impl Keep {
    /// Returns the rows to keep of those that the guest reported, with the mode's name for ticks.
    pub fn take(&self, mode: Mode, reported: impl Iterator<Item = Row>) -> Vec<Row> {
        reported
            .filter(|_| self.measures())
            .filter_map(|row| self.take_one(row))
            .map(|row| name_unit(mode, row))
            .collect()
    }

    /// Returns the name under which this boot keeps a row, if it keeps the row.
    pub fn name(&self, reported: &str) -> Option<String> {
        match self {
            Keep::Main { others, .. } if others.contains(&reported) => None,
            Keep::Main { renamed: (from, to), .. } if reported == *from => Some((*to).to_owned()),
            Keep::Main { .. } => Some(reported.to_owned()),
            Keep::One(from, to) => (reported == *from || reported == *to).then(|| (*to).to_owned()),
            Keep::Work { renamed: (from, to) } if reported == *from => Some((*to).to_owned()),
            Keep::Work { .. } => Some(reported.to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        Row { unit: "ticks".to_owned(), ..Row::example(name, 1) }
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
        assert!(taken(&boots[4], Mode::Icount, &guest).is_empty());
        assert_eq!(boots[4].keep.name(CROSS_CPU).as_deref(), Some(HALTED));
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
    }

    #[test]
    fn ticks_are_called_what_they_are() {
        let boots = boots(Mode::Icount, 1);
        let rows = boots[0].keep.take(Mode::Icount, std::iter::once(row("loop_1m")));
        assert_eq!(rows[0].unit, "instructions");
    }

    #[test]
    fn a_few_rows_take_few_boots() {
        let lines = |rows: &[&str]| {
            let rows: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
            boots_for(Mode::Icount, 2, &rows).into_iter().map(|boot| boot.command_line).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(&[HALTED, "cap_copy"]),
            [
                "run=bench idle=halt rows=call_reply_cross_cpu,cap_copy",
                "run=bench idle=halt n=10 warmup=5 rows=call_reply_cross_cpu,cap_copy"
            ]
        );
        assert_eq!(lines(&[POLLED]), ["run=bench idle=poll rows=call_reply_cross_cpu"]);
        assert_eq!(lines(&[SHARED_LINES]).len(), 1);
        assert_eq!(lines(&[BUSY]).len(), 2);
    }
}
