//! Reads sizes, times and shares: a number and its unit in a string.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use crate::near::one_of;
use crate::problem::Problems;
use crate::values::{At, Entry};

/// A unit: its name, and how many of the smallest it is.
type Unit = (&'static str, u64);

const SIZES: &[Unit] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const TIMES: &[Unit] = &[("us", 1), ("ms", 1_000), ("s", 1_000_000)];
const SHARES: &[Unit] = &[("%", abi::time::WHOLE_CPU / 100)];

/// Units that people write, and the unit that they mean.
const MEANT: &[(&str, &str)] = &[
    ("K", "KiB"),
    ("KB", "KiB"),
    ("kB", "KiB"),
    ("kb", "KiB"),
    ("kib", "KiB"),
    ("M", "MiB"),
    ("MB", "MiB"),
    ("mb", "MiB"),
    ("mib", "MiB"),
    ("G", "GiB"),
    ("GB", "GiB"),
    ("gib", "GiB"),
    ("µs", "us"),
    ("usec", "us"),
    ("msec", "ms"),
    ("sec", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("milliseconds", "ms"),
    ("microseconds", "us"),
    ("percent", "%"),
];

/// Longest time of a description, in microseconds: a day.
const LONGEST: u64 = 24 * 60 * 60 * 1_000_000;
/// Largest size, in bytes.
const LARGEST: u64 = 1 << 40;

impl Entry<'_> {
    /// Reads a size in bytes.
    pub fn size(&self, problems: &mut Problems) -> Option<At<u64>> {
        self.with_unit("a size", SIZES, 1..=LARGEST, problems)
    }

    /// Reads a time in microseconds.
    pub fn time(&self, problems: &mut Problems) -> Option<At<u64>> {
        self.with_unit("a time", TIMES, 1..=LONGEST, problems)
    }

    /// Reads a part of CPUs in ten-thousandths.
    pub fn share(&self, problems: &mut Problems) -> Option<At<u64>> {
        let most = abi::time::WHOLE_CPU * u64::from(protocols::system::CPUS_MAX);
        self.with_unit("a share", SHARES, 1..=most, problems)
    }

    fn with_unit(
        &self,
        what: &str,
        units: &[Unit],
        range: RangeInclusive<u64>,
        problems: &mut Problems,
    ) -> Option<At<u64>> {
        let name = &self.name;
        if let DeValue::Integer(number) = self.value {
            let value = format!("{number} {}", self.example_unit());
            let bytes = number.to_string().parse::<u64>().ok().filter(|bytes| bytes.is_multiple_of(1 << 10));
            let value = bytes.filter(|bytes| *bytes > 0 && units == SIZES).map_or(value, size_text);
            let fix = format!("write `\"{value}\"`; the unit is {}", names(units));
            self.wrong(format!("`{name}` has a number without a unit"), "no unit", fix, problems);
            return None;
        }
        let text = self.text(problems)?;
        let split = text.value.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.value.len());
        let (digits, unit) = (&text.value[..split], text.value[split..].trim());
        let found = units.iter().find(|(known, _)| *known == unit);
        let number = digits.parse::<u64>().ok();
        let (Some((_, scale)), Some(number)) = (found, number) else {
            let (label, fix) = self.advice_on(&text.value, units);
            self.wrong(format!("`{name}` has `{}`, which is not {what}", text.value), label, fix, problems);
            return None;
        };
        let value = number.checked_mul(*scale).filter(|value| range.contains(value));
        if value.is_none() {
            let most = shown(*range.end(), units);
            let fix = format!("write {what} of more than 0 and at most {most}");
            self.wrong(format!("`{name}` cannot be {}", text.value), "out of range", fix, problems);
        }
        value.map(|value| At::new(value, text.span))
    }

    /// Returns the unit of the key's example.
    fn example_unit(&self) -> &'static str {
        self.key.example.trim_matches('"').rsplit(' ').next().unwrap_or_default()
    }

    /// Returns a remark and advice on a text that is no number with a unit.
    fn advice_on(&self, text: &str, units: &[Unit]) -> (&'static str, String) {
        let split = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..split], text[split..].trim());
        let meant = MEANT.iter().find(|(wrong, _)| *wrong == unit).map_or(unit, |(_, meant)| meant);
        let scale = units.iter().find(|(known, _)| *known == meant).map(|(_, scale)| *scale);
        match (number.parse::<f64>(), scale) {
            (Ok(_), None) if unit.is_empty() => (
                "no unit",
                format!("write `\"{number} {}\"`; the unit is {}", self.example_unit(), names(units)),
            ),
            (Ok(_), Some(_)) if !number.contains('.') => {
                ("unknown unit", format!("write `\"{number} {meant}\"`"))
            }
            (Ok(value), Some(scale)) if scale > 1 => {
                ("a fraction", format!("write `\"{}\"`", shown((value * scale as f64) as u64, units)))
            }
            _ => {
                let example = self.key.example;
                let fix = format!(
                    "write a whole number and its unit, as in `{example}`; the unit is {}",
                    names(units)
                );
                ("number and unit expected", fix)
            }
        }
    }
}

/// Returns the names of units as a list.
fn names(units: &[Unit]) -> String {
    one_of(units.iter().map(|(name, _)| *name))
}

fn shown(value: u64, units: &[Unit]) -> String {
    let fits = |unit: &&Unit| value.is_multiple_of(unit.1);
    let (name, scale) = units.iter().rev().find(fits).copied().unwrap_or(units[0]);
    format!("{} {name}", value / scale)
}

/// Returns a size in bytes as a file has it.
pub fn size_text(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 10) { shown(bytes, SIZES) } else { format!("{bytes} bytes") }
}

/// Returns a time in microseconds as a file has it.
pub fn time_text(microseconds: u64) -> String {
    shown(microseconds, TIMES)
}

/// Returns ten-thousandths of a CPU as a file has them.
pub fn share_text(parts: u64) -> String {
    let whole = abi::time::WHOLE_CPU / 100;
    let (percent, hundredths) = (parts / whole, parts % whole);
    if hundredths == 0 { format!("{percent} %") } else { format!("{percent}.{hundredths:02} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_their_largest_unit() {
        assert_eq!(size_text(3 << 20), "3 MiB");
        assert_eq!(size_text(1 << 30), "1 GiB");
        assert_eq!(size_text(1000), "1000 bytes");
        assert_eq!((time_text(2_000), time_text(1_500)), ("2 ms".to_owned(), "1500 us".to_owned()));
        assert_eq!((share_text(3_000), share_text(3_333)), ("30 %".to_owned(), "33.33 %".to_owned()));
    }
}
