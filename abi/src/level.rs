//! The level of the kernel's and the programs' logs: the value of the boot option `level`.
//!
//! A value is a list of words, separated by commas. A word is a level for all parts, or
//! `part=level` for one part, which overrides the level for all: `level=info,pager=debug`.

/// How much is logged: a record of a level is written where the level of its part is that one or a
/// later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Nothing at all.
    Off = 0,
    /// Something does not work any more.
    Error = 1,
    /// Something is not as it should be; the machine goes on.
    Warn = 2,
    /// What a run consists of: the machine that was found, the programs that begin and end.
    Info = 3,
    /// Refused system calls, and who ends whom.
    Debug = 4,
    /// Everything else.
    Trace = 5,
}

/// The parts that log: the kernel, and the programs of the boot archive by their files' names.
pub const PARTS: &[&str] = &[
    "kernel",
    "init",
    "pager",
    "store",
    "oom",
    "bench",
    "samples",
    "tables",
    "kerntest",
    "stress",
    "torture",
    "fuzz",
    "paging",
    "scale",
    "hostile",
    "policy",
    "policies",
    "systems",
    "serial",
    "shell",
    "log",
    "power",
    "clock",
    "edu-driver",
];

impl Level {
    pub const ALL: [Level; 6] =
        [Level::Off, Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    /// The level without the boot option.
    pub const DEFAULT: Level = Level::Info;

    /// Returns the level's name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }

    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    /// Returns the level that a value of the boot option gives a part. Ignores words that
    /// [`is_value`] refuses.
    pub fn of(value: &str, part: &str) -> Level {
        let (mut of_all, mut own) = (None, None);
        for word in value.split(',') {
            match word.split_once('=') {
                None => of_all = Level::from_name(word).or(of_all),
                Some((name, level)) if name == part => own = Level::from_name(level).or(own),
                Some(_) => {}
            }
        }
        own.or(of_all).unwrap_or(Level::DEFAULT)
    }

    /// Returns a part's level on a whole command line.
    pub fn on(line: &str, part: &str) -> Level {
        let words = line.split_ascii_whitespace();
        words
            .rev()
            .find_map(|word| word.strip_prefix("level="))
            .map_or(Level::DEFAULT, |value| Level::of(value, part))
    }
}

/// Whether the boot option takes a value: each word has to be a level, or a part and a level.
pub fn is_value(value: &str) -> bool {
    value.split(',').all(|word| {
        let (part, level) = word.split_once('=').map_or((None, word), |(part, level)| (Some(part), level));
        Level::from_name(level).is_some() && part.is_none_or(|part| PARTS.contains(&part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_its_own_level_or_that_of_all() {
        for (value, part, level) in [
            ("debug", "kernel", Level::Debug),
            ("warn,pager=trace", "pager", Level::Trace),
            ("pager=trace,warn", "pager", Level::Trace),
            ("warn,pager=trace", "kernel", Level::Warn),
            ("pager=off", "pager", Level::Off),
            ("pager=off", "init", Level::DEFAULT),
            ("error,off", "init", Level::Off),
        ] {
            assert!(is_value(value), "{value}");
            assert_eq!(Level::of(value, part), level, "{value} for {part}");
        }
        assert_eq!(Level::on("log=e9 level=off run=test level=debug", "init"), Level::Debug);
        assert_eq!(Level::on("log=e9 levels=off", "init"), Level::DEFAULT);
    }

    #[test]
    fn what_is_no_level_is_no_value() {
        for value in
            ["", "loud", "debug,", "debug,loud", "pagger=debug", "pager=", "=debug", "pager=debug=info"]
        {
            assert!(!is_value(value), "{value}");
        }
    }
}
