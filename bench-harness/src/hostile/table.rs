//! The table of all attacks, and the line that checks rely on.

use std::fmt::Write;

use console::style;

use super::measure::{Measured, Place};
use crate::stretches::{self, Stretches, Table};

/// The sums over all attacks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    pub attacks: usize,
    /// Percent, rounded up.
    pub stolen_max: u64,
    pub longest_off: u64,
    pub late_max: u64,
    /// `late_max` beside attackers on the victims' CPU, where it is exact.
    pub late_own: u64,
    pub stuck: usize,
    pub escapes: u64,
}

impl Totals {
    /// Counts each attack once, from however many places it was made.
    pub fn of(all: &[Measured]) -> Totals {
        let mut names: Vec<&str> = all.iter().map(|measured| measured.attack.as_str()).collect();
        names.dedup();
        let stolen = all.iter().filter_map(Measured::worst).map(|victim| victim.stolen);
        let own = all.iter().filter(|measured| measured.place == Place::Own);
        Totals {
            attacks: names.len(),
            stolen_max: stolen.fold(0.0, f64::max).ceil() as u64,
            longest_off: all.iter().filter_map(Measured::longest).map(|row| row.longest).max().unwrap_or(0),
            late_max: all.iter().map(|measured| measured.late).max().unwrap_or(0),
            late_own: own.map(|measured| measured.late).max().unwrap_or(0),
            stuck: all.iter().map(Measured::stuck).sum(),
            escapes: all.iter().map(|measured| measured.escapes).sum(),
        }
    }

    /// Writes the line that checks rely on.
    pub fn line(&self, cpus: u32) -> String {
        let Totals { attacks, stolen_max, longest_off, late_max, stuck, escapes, .. } = self;
        format!(
            "hostile: cpus={cpus} attacks={attacks} stolen_max={stolen_max}% longest_off={longest_off} \
             late_max={late_max} stuck={stuck} escapes={escapes}"
        )
    }
}

/// Writes a row for each attack and place.
pub fn render(all: &[Measured]) -> String {
    let heading = format!(
        "{:<20} {:<5} {:>7} {:<6} {:>10} {:>12} {:<18} {:>12} {:>10} {:>5} {:>7} {:>9}",
        "attack",
        "CPUs",
        "stolen",
        "from",
        "interrupts",
        "longest off",
        "in",
        "with locks",
        "late",
        "stuck",
        "escapes",
        "rounds"
    );
    let mut text = format!("{}\n", style(heading).bold());
    for measured in all {
        let _ = writeln!(text, "{}", row(measured));
    }
    text
}

fn row(measured: &Measured) -> String {
    let (stolen, from) = measured.worst().map_or((0.0, "-"), |victim| (victim.stolen, victim.name));
    let none = Stretches::default();
    let longest = measured.longest().unwrap_or(&none);
    let line = format!(
        "{:<20} {:<5} {:>6.1}% {:<6} {:>9.1}% {:>12} {:<18} {:>12} {:>10} {:>5} {:>7} {:>9}",
        measured.attack,
        measured.place.name(),
        stolen,
        from,
        measured.interrupts,
        longest.longest,
        longest.operation,
        measured.longest_with_spinning(),
        measured.late,
        measured.stuck(),
        measured.escapes,
        measured.alive
    );
    line.trim_end().to_owned()
}

/// Returns the longest stretches of all attacks, by operation.
pub fn operations(all: &[Measured]) -> Vec<Stretches> {
    let mut table = Table::default();
    all.iter().flat_map(|measured| &measured.stretches).for_each(|row| table.add_row(row));
    table.rows()
}

/// Writes the longest stretches of all attacks, by operation.
pub fn render_operations(all: &[Measured]) -> String {
    stretches::render(&operations(all))
}

#[cfg(test)]
mod tests {
    use super::super::measure::tests::example;
    use super::*;

    #[test]
    fn the_line_is_the_documented_one() {
        let own = Measured { place: Place::Own, late: 9, ..example() };
        let mut all = vec![example(), own];
        all.iter_mut().for_each(|measured| measured.victims.truncate(2));
        all[0].victims[1].stolen = 74.2;
        assert_eq!(
            Totals::of(&all).line(2),
            "hostile: cpus=2 attacks=1 stolen_max=75% longest_off=750 late_max=4321 stuck=0 escapes=2"
        );
        assert_eq!(Totals::of(&all).late_own, 9);
        assert_eq!(
            Totals::of(&[]).line(4),
            "hostile: cpus=4 attacks=0 stolen_max=0% longest_off=0 late_max=0 stuck=0 escapes=0"
        );
    }

    #[test]
    fn a_row_has_the_worst_of_everything() {
        let text = console::strip_ansi_codes(&render(&[example()])).into_owned();
        let words: Vec<&str> = text.lines().nth(1).expect("a row").split_whitespace().collect();
        let expected = [
            "notify-flood",
            "other",
            "100.0%",
            "map",
            "1.2%",
            "750",
            "timer",
            "interrupt",
            "9700",
            "4321",
            "1",
            "1",
            "77",
        ];
        assert_eq!(words, expected);
        assert_eq!(operations(&[example(), example()])[1].entries, 4);
    }
}
