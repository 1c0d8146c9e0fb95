//! The words of the boot command line, each with its reader and its values.
//!
//! A word is `key=value`; if a key occurs several times, the last one counts. The host tool, before
//! the boot, and process 1 refuse a key without a reader, and a value that its reader does not
//! take, and name it: a run must not ignore a misspelt word. The host tool also refuses a key that
//! a person gives twice, because one of the two values would have no effect.

use crate::level::{self, Level};

/// What a word takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// A number, decimal or hexadecimal after `0x`, of at least so much.
    Least(u64),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// How much is logged, see [`level`].
    Levels,
    /// Text that its reader looks at.
    Text,
}

/// A word that may stand on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    pub key: &'static str,
    /// `kernel`, `process 1`, `programs` for all of them, or names of programs.
    pub readers: &'static [&'static str],
    pub takes: Takes,
    pub meaning: &'static str,
}

const fn word(
    key: &'static str,
    readers: &'static [&'static str],
    takes: Takes,
    meaning: &'static str,
) -> Word {
    Word { key, readers, takes, meaning }
}

/// Systems whose programs read no words besides those of [`WORDS`], by the name that `run=` takes.
pub const PROGRAMS: &[&str] = &[
    "bench",
    "samples",
    "test",
    "kerntest",
    "diff",
    "calibrate",
    "stress",
    "torture",
    "fuzz",
    "paging",
    "scale",
    "hostile",
    "oom",
    "policies",
];

/// Those that measure rows.
const BENCH: &[&str] = &["bench", "samples"];
const SEEDED: &[&str] =
    &["bench", "samples", "test", "kerntest", "diff", "stress", "torture", "fuzz", "paging", "policies"];

/// All words that the kernel and the programs of the boot archive read.
pub const WORDS: &[Word] = &[
    word("log", &["kernel"], Takes::OneOf(&["e9", "com2", "text", "off"]), "where log and report records go"),
    word("level", &["kernel", "programs"], Takes::Levels, "how much is logged"),
    word("screen", &["kernel"], Takes::OneOf(&["on", "off"]), "whether the screen shows what COM1 is told"),
    word("idle", &["kernel"], Takes::OneOf(&["halt", "poll", "mwait"]), "how a CPU without work waits"),
    word("cpus", &["kernel"], Takes::Least(1), "use at most N CPUs"),
    word("off", &["kernel"], Takes::Text, "features of the CPU not to use, in the `faults` build"),
    word("fault", &["kernel"], Takes::Text, "fault on purpose, in the `faults` build"),
    word("chaos", &["kernel"], Takes::Least(0), "seed of the perturbations of the `chaos` build"),
    word("stop_at", &["kernel"], Takes::Least(0), "stop at event N, in the `chaos` build; 0 is never"),
    word("stop_time", &["kernel"], Takes::Least(0), "stop at the first event at or after TSC T; 0 is never"),
    word(
        "stop_then",
        &["kernel"],
        Takes::Least(0),
        "at the stop: 0 halts all CPUs there, 1 writes a snapshot after it and ends, 2 goes on unperturbed",
    ),
    word(
        "trace_events",
        &["kernel"],
        Takes::Least(1),
        "events that each CPU's ring holds, in the `trace` build",
    ),
    word("run", &["process 1"], Takes::Text, "the system to start; without it process 1 checks itself"),
    word(
        "label",
        &["process 1"],
        Takes::Least(0),
        "the security label of processes whose description has none",
    ),
    word("rules", &["process 1"], Takes::Text, "rules between labels, `S:O:MAY,…`"),
    word(
        "die",
        &["process 1"],
        Takes::OneOf(&["panic", "fault", "kill"]),
        "process 1 dies so, to see that the machine ends with it",
    ),
    word(
        "audit",
        &["process 1"],
        Takes::Least(0),
        "records of the audit that each CPU keeps, as a base-2 logarithm",
    ),
    word("talk", &["programs"], Takes::OneOf(&["show"]), "report each message of the system's protocols"),
    word("seed", SEEDED, Takes::Least(0), "seed of what is drawn at random"),
    word("n", &["bench", "samples", "scale"], Takes::Least(1), "samples of a row, or operations of a client"),
    word("warmup", BENCH, Takes::Least(0), "operations before the samples"),
    word("trace", BENCH, Takes::Least(0), "1: no time stamps, for the TCG plugin"),
    word("page", &["bench"], Takes::Least(0), "seconds that each page of a table stays on the screen"),
    word("rows", BENCH, Takes::Text, "rows to measure, with commas between them"),
    word("loads", &["scale"], Takes::Text, "loads to run, with commas between them"),
    word(
        "only",
        &["test", "kerntest", "diff", "paging"],
        Takes::Text,
        "tests to run, with commas between them",
    ),
    word(
        "rounds",
        &["test", "kerntest", "diff", "stress", "torture", "paging"],
        Takes::Least(1),
        "how often",
    ),
    word("messages", &["stress"], Takes::Least(1), "messages to send"),
    word("moves", &["stress"], Takes::Least(0), "tasks that move to other CPUs at each disturbance"),
    word("tasks", &["stress", "policies"], Takes::Least(2), "seats for tasks, or workers"),
    word("frames", &["pager"], Takes::Least(1), "pages of memory that a pager has for its clients"),
    word("pages", &["pager"], Takes::Least(1), "pages that all regions of its clients may have"),
    word(
        "policy",
        &["policies", "policy"],
        Takes::OneOf(&["static", "balance", "edf"]),
        "the scheduling policy that a process follows",
    ),
    word("load", &["policies", "policy"], Takes::Least(1), "thousandths of each CPU that are promised"),
    word("jobs", &["policies"], Takes::Least(1), "jobs of each worker, or pieces of its work"),
    word("kill", &["policies"], Takes::Least(0), "0: no policy is killed"),
    word("lie", &["policies"], Takes::Least(0), "1: the policy makes wrong settings, and hangs"),
    word("hang", &["policies"], Takes::Least(0), "1: the last CPU stops for ever, in the `faults` build"),
    word("exact", &["policies"], Takes::Least(0), "1: timers fire when they should"),
    word("steps", &["diff"], Takes::Least(1), "operations to do"),
    word("show", &["diff"], Takes::Least(0), "the operation after which the state is shown; 0 is none"),
    word(
        "turns",
        &["test", "kerntest"],
        Takes::Least(0),
        "1: CPUs take turns, so that nothing runs at the same time",
    ),
    word(
        "kills",
        &["test", "kerntest"],
        Takes::Least(1),
        "tasks to kill in the test of owners of locks that die",
    ),
    word(
        "slice",
        &["test", "kerntest"],
        Takes::Least(1),
        "ticks of the slices of tasks that check their registers",
    ),
    word("ops", &["torture", "fuzz"], Takes::Least(1), "operations to do"),
    word(
        "limits",
        &["torture", "fuzz"],
        Takes::OneOf(&["normal", "small"]),
        "the bounds that the kernel was built with",
    ),
    word("attack", &["hostile"], Takes::Text, "the attack to make"),
    word(
        "place",
        &["hostile"],
        Takes::OneOf(&["other", "own"]),
        "the attackers' CPUs: others than the victims', or theirs",
    ),
    word("ms", &["hostile"], Takes::Least(1), "milliseconds that the attack lasts"),
    word("storm", &["fuzz"], Takes::OneOf(&["kill", "revoke"]), "what is done again and again"),
];

/// What is wrong with a command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong<'a> {
    /// Nobody reads a word of this key.
    Unknown(&'a str),
    /// It is another program's: the key, and the program that runs.
    Others(&'a str, &'a str),
    /// Its reader does not take this value.
    Value(Word, &'a str),
    /// Two words, in a person's own line, of one key.
    Twice(&'a str, &'a str),
}

impl core::fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Wrong::Unknown(key) => match nearest(key) {
                Some(word) => write!(f, "nobody reads {key}=; is {}= meant?", word.key),
                None => {
                    write!(f, "nobody reads {key}=; known are")?;
                    WORDS.iter().try_for_each(|word| write!(f, " {}", word.key))
                }
            },
            Wrong::Others(key, program) => {
                write!(f, "run={program} does not read {key}=, which is for")?;
                let readers = WORDS.iter().filter(|word| word.key == *key).flat_map(|word| word.readers);
                readers.into_iter().try_for_each(|reader| write!(f, " {reader}"))
            }
            Wrong::Twice(one, other) => {
                write!(f, "{one} and {other}: only the second would count; leave one out")
            }
            Wrong::Value(word, value) => {
                write!(f, "{}={value}: {}; it takes", word.key, word.meaning)?;
                match word.takes {
                    Takes::Least(least) => write!(f, " a number of at least {least}"),
                    Takes::OneOf(values) => values.iter().try_for_each(|value| write!(f, " {value}")),
                    Takes::Levels => {
                        Level::ALL.iter().try_for_each(|level| write!(f, " {}", level.name()))?;
                        write!(f, ", and part=level with commas between them for")?;
                        level::PARTS.iter().try_for_each(|part| write!(f, " {part}"))
                    }
                    Takes::Text => write!(f, " text"),
                }
            }
        }
    }
}

impl core::error::Error for Wrong<'_> {}

/// Looks at every word of a command line. A program that is not of [`PROGRAMS`] may read words that
/// are not known here.
pub fn check(line: &str) -> Result<(), Wrong<'_>> {
    let program = value(line, "run");
    let is_foreign = program.is_some_and(|name| !PROGRAMS.contains(&name));
    line.split_ascii_whitespace().map(split).try_for_each(|(key, value)| {
        let Some(word) = WORDS.iter().find(|word| word.key == key) else {
            return if is_foreign { Ok(()) } else { Err(Wrong::Unknown(key)) };
        };
        let of_all = word.readers.iter().any(|reader| ["kernel", "process 1", "programs"].contains(reader));
        if let Some(program) = program.filter(|_| !of_all && !is_foreign)
            && !word.readers.contains(&program)
        {
            return Err(Wrong::Others(word.key, program));
        }
        if takes(word.takes, value) { Ok(()) } else { Err(Wrong::Value(*word, value)) }
    })
}

/// Refuses a second word of a key, in a line that a person wrote.
pub fn once(line: &str) -> Result<(), Wrong<'_>> {
    let words = || line.split_ascii_whitespace();
    words().enumerate().try_for_each(|(at, word)| {
        match words().take(at).find(|earlier| split(earlier).0 == split(word).0) {
            Some(earlier) => Err(Wrong::Twice(earlier, word)),
            None => Ok(()),
        }
    })
}

/// Splits a word into key and value; the value is empty for a key without one.
pub fn split(word: &str) -> (&str, &str) {
    word.split_once('=').unwrap_or((word, ""))
}

/// Returns the value of a key: that of the last word with the key.
pub fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_ascii_whitespace().rev().map(split).find_map(|(name, value)| (name == key).then_some(value))
}

fn takes(takes: Takes, value: &str) -> bool {
    match takes {
        Takes::Least(least) => {
            let number = match value.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => value.parse(),
            };
            number.is_ok_and(|number| number >= least)
        }
        Takes::OneOf(values) => values.contains(&value),
        Takes::Levels => level::is_value(value),
        Takes::Text => !value.is_empty(),
    }
}

/// Returns the known word that is closest to a key: one letter is missing, too many, wrong, or
/// swapped with its neighbour.
fn nearest(key: &str) -> Option<&'static Word> {
    WORDS.iter().find(|word| is_like(key.as_bytes(), word.key.as_bytes()))
}

fn is_like(a: &[u8], b: &[u8]) -> bool {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[same..], &b[same..]);
    match (a, b) {
        ([], [_]) | ([_], []) => true,
        ([], _) | (_, []) => false,
        ([a0, a_rest @ ..], [b0, b_rest @ ..]) => {
            let swapped = a.len() > 1 && b.len() > 1 && (a[0], a[1]) == (b[1], b[0]) && a[2..] == b[2..];
            a_rest == b_rest || a_rest == b || a == b_rest || swapped && a0 != b0
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn what_its_readers_take_is_good() {
        for line in [
            "",
            "run=bench idle=poll rows=null_syscall n=5 warmup=0",
            "run=test only=a,b seed=0x10",
            "log=e9 run=stress label=3 rules=3:7:gr audit=10 chaos=4",
            "run=mine anything=goes n=0x5",
            "run=test level=off",
            "level=warn,kernel=debug,pager=trace",
        ] {
            assert_eq!(check(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_nobody_reads_is_refused_by_name() {
        let said = |line| check(line).expect_err(line).to_string();
        assert_eq!(said("rum=test"), "nobody reads rum=; is run= meant?");
        assert_eq!(said("run=bench idel=poll"), "nobody reads idel=; is idle= meant?");
        assert!(said("elephants").starts_with("nobody reads elephants=; known are log level screen idle"));
        assert_eq!(said("run=test rows=a"), "run=test does not read rows=, which is for bench samples");
        assert_eq!(said("idle=foo"), "idle=foo: how a CPU without work waits; it takes halt poll mwait");
        assert_eq!(
            said("run=stress messages=0"),
            "messages=0: messages to send; it takes a number of at least 1"
        );
        assert!(said("run=bench n=many").contains("a number of at least 1"));
        assert!(said("run=test only=").contains("it takes text"));
        assert!(
            said("level=loud")
                .starts_with("level=loud: how much is logged; it takes off error warn info debug trace")
        );
        assert!(
            said("run=mine level=info,pagger=debug")
                .contains("with commas between them for kernel init pager")
        );
        assert!(said("run=mine idle=foo").contains("halt poll mwait"));
    }

    #[test]
    fn a_person_gives_a_key_once() {
        assert_eq!(once("run=test only=a only2=b rounds=3"), Ok(()));
        assert_eq!(once(""), Ok(()));
        let said = once("run=test level=info level=off").expect_err("twice").to_string();
        assert_eq!(said, "level=info and level=off: only the second would count; leave one out");
    }

    #[test]
    fn each_key_stands_once() {
        for (at, word) in WORDS.iter().enumerate() {
            assert!(WORDS[..at].iter().all(|before| before.key != word.key), "{}", word.key);
        }
    }
}
