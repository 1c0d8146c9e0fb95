//! Tests of the debugger's helpers: each says what the kernel says of itself, and a stop is the same stop again.
//!
//! A scripted session stops where the kernel has just exported its state, lets every helper print what it sees,
//! and goes on to the end. What a helper says of an object are words that the export says of it, too; so each
//! of its lines is looked up there.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::find_program;
use crate::lab::Lab;
use crate::records::{self, Piece, Splitter};
use crate::testsum::Tally;

/// Helpers whose lines stand in an export, and the type that they have to show something of.
const HELPERS: [(&str, &str); 8] = [
    ("cpus", "cpu="),
    ("tasks", "task"),
    ("times", "time"),
    ("notes", "note"),
    ("groups", "group"),
    ("processes", "process"),
    ("vspaces", "vspace"),
    ("objects", ""),
];
/// Helpers whose output is compared between two stops.
const STATE: [&str; 6] = ["cpus", "queues", "mailboxes", "tasks", "times", "trees"];
/// Before what a helper prints.
const MARK: &str = "== ";

/// The lines that each helper printed.
type Said = BTreeMap<String, Vec<String>>;

/// All of them; left out, saying so, where there is no gdb.
pub fn run(lab: &Lab) -> Result<Tally> {
    if find_program("gdb").is_none() {
        lab.screen.say("tests of gdb's helpers left out: gdb is missing: apt-get install gdb");
        return Ok(Tally { skipped: HELPERS.len() as u64 + 3, ..Tally::default() });
    }
    let mut tally = Tally::default();
    let mut count = |name: &str, wrong: Option<String>| {
        if let Some(why) = &wrong {
            lab.screen.say(&format!("gdb: {name} FAILED {why}"));
        }
        tally += Tally::one(wrong.is_none());
    };
    let (said, state) = exported(lab)?;
    for (helper, kind) in HELPERS {
        count(
            helper,
            said.get(helper).map_or(Some("says nothing".to_owned()), |l| disagrees(l, &state, kind)),
        );
    }
    count("trees", said.get("trees").and_then(|lines| trees_disagree(lines, &state)));
    count("pages", pages_disagree(&said));
    let [one, other] = [stopped(lab)?, stopped(lab)?];
    count(
        "the same stop twice",
        (one != other || !one.contains("stopped at event")).then(|| diff(&one, &other)),
    );
    Ok(tally)
}

/// What each helper says where a state was exported, and that state.
fn exported(lab: &Lab) -> Result<(Said, Vec<String>)> {
    let words = ["--variant", "dump", "run=test", "only=state_is_exported"];
    let mut commands = vec!["hbreak kern_core::dump::exported".to_owned(), "continue".to_owned()];
    let all = HELPERS.iter().map(|(helper, _)| *helper).chain(["trees", "pages vspace1"]);
    commands.extend(all.flat_map(asked));
    // A breakpoint is gone through once more, and the guest ends.
    commands.extend([format!("echo \\n{MARK}end\\n"), "delete".to_owned(), "continue".to_owned()]);
    let said = session(lab, &words, &commands)?;
    let log = lab.artifacts.runs().join("gdb-run/log.bin");
    let bytes = std::fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    Ok((sections(&said), state_in(&bytes)))
}

/// A helper's command, marked.
fn asked(helper: &str) -> [String; 2] {
    let name = helper.split(' ').next().unwrap_or_default();
    [format!("echo \\n{MARK}{name}\\n"), format!("aurora {helper}")]
}

/// All that is said at a stop of a short stress run.
fn stopped(lab: &Lab) -> Result<String> {
    let words = ["--stress", "--seed", "1", "--cpus", "2", "--messages", "2000", "--stop-at", "4000"];
    let mut commands: Vec<String> = STATE.into_iter().flat_map(asked).collect();
    commands.push("thread apply all info registers".to_owned());
    session(lab, &words, &commands)
}

/// Runs this program's own gdb command; what it prints.
fn session(lab: &Lab, words: &[&str], commands: &[String]) -> Result<String> {
    lab.screen.step("gdb");
    // Whatever stands at its path by now: the tests before may have built it anew.
    let program = format!("/proc/{}/exe", std::process::id());
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "300"]).arg(program).arg("gdb").arg("--boot-dir").arg(lab.artifacts.boot_dir());
    command.args(words).arg("--batch");
    command.args(commands.iter().flat_map(|text| ["--ex", text]));
    let output = command.output().context("starting a gdb session")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// What was said behind each mark.
fn sections(said: &str) -> Said {
    let mut all = BTreeMap::new();
    for part in said.split(&format!("\n{MARK}")).skip(1) {
        let mut lines = part.lines().map(str::to_owned);
        let name = lines.next().unwrap_or_default();
        all.insert(name, lines.filter(|line| !line.is_empty()).collect());
    }
    all
}

/// The lines of the state that the guest exported.
fn state_in(log: &[u8]) -> Vec<String> {
    let mut splitter = Splitter::default();
    splitter.push(log);
    let mut text = Vec::new();
    for piece in splitter {
        if let Piece::Record { channel: records::STATE, payload } = piece {
            text.extend(payload);
        }
    }
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

/// The words of a line; a list is one word.
fn words(line: &str) -> Vec<&str> {
    let (mut all, mut from, mut depth) = (Vec::new(), 0, 0);
    for (at, character) in line.char_indices() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            ' ' if depth == 0 => {
                all.push(&line[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    all.push(&line[from..]);
    all.into_iter().filter(|word| !word.is_empty()).collect()
}

/// The first line that the state does not have so; or that nothing is said where there is something.
fn disagrees(lines: &[String], state: &[String], kind: &str) -> Option<String> {
    let known: BTreeMap<&str, Vec<&str>> =
        state.iter().filter_map(|line| Some((*words(line).first()?, words(line)))).collect();
    for line in lines {
        let said = words(line);
        let Some(there) = known.get(said[0]) else { return Some(format!("{}: not in the state", said[0])) };
        if let Some(word) = said.iter().find(|word| !there.contains(word)) {
            return Some(format!("{}: {word} is not in: {}", said[0], there.join(" ")));
        }
    }
    let is_one = |name: &str| match kind {
        "cpu=" => name.starts_with(kind),
        _ => !name.contains('=') && name.starts_with(kind) && name.ends_with(|c: char| c.is_ascii_digit()),
    };
    let missing = known.keys().find(|name| is_one(name) && !said_of(lines, name));
    missing.map(|name| format!("{name} is missing"))
}

fn said_of(lines: &[String], name: &str) -> bool {
    lines.iter().any(|line| words(line).first() == Some(&name))
}

/// Derivation trees, slot by slot in order; an export says besides where each slot is.
fn trees_disagree(lines: &[String], state: &[String]) -> Option<String> {
    let there = state.iter().filter(|line| *line == "tree" || line.starts_with("depth="));
    let there: Vec<&String> = there.collect();
    if there.len() != lines.len() {
        return Some(format!("{} lines, and {} in the state", lines.len(), there.len()));
    }
    let differs = lines.iter().zip(there).find(|(said, there)| !there.starts_with(said.as_str()));
    differs.map(|(said, there)| format!("{said} and {there}"))
}

/// Each mapping that the address space records is in its page tables, at the same address.
fn pages_disagree(said: &Said) -> Option<String> {
    let pages: Vec<u64> = said.get("pages")?.iter().filter_map(|line| hex(line.split(' ').next()?)).collect();
    let line = said.get("vspaces")?.iter().find(|line| line.starts_with("vspace1 "))?;
    let list = words(line).into_iter().find_map(|word| word.strip_prefix("mappings=["))?;
    let recorded: Vec<u64> =
        list.split(' ').filter_map(|item| Some(hex(item.split(':').next()?)? & !0xfff)).collect();
    if recorded.is_empty() {
        return Some("nothing is mapped".to_owned());
    }
    let lost = recorded.iter().find(|address| !pages.contains(address));
    lost.map(|address| format!("{address:x} is recorded and not in the tables"))
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn diff(one: &str, other: &str) -> String {
    let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    match differs {
        Some((one, other)) => format!("{one} and then {other}"),
        None => format!("no stop, or one says more: {one}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(all: &[&str]) -> Vec<String> {
        all.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_list_is_one_word() {
        assert_eq!(words("a b=[1 2 3] c"), ["a", "b=[1 2 3]", "c"]);
        assert_eq!(words("a=[]"), ["a=[]"]);
    }

    #[test]
    fn what_a_helper_says_has_to_be_in_the_state() {
        let state = lines(&["task1 refs=1 home=0 senders=[a:task2]", "task2 refs=2 home=0", "note1 refs=1"]);
        let good = lines(&["task1 refs=1 senders=[a:task2]", "task2 home=0"]);
        assert_eq!(disagrees(&good, &state, "task"), None);
        let wrong = lines(&["task1 senders=[b:task2]", "task2"]);
        assert!(disagrees(&wrong, &state, "task").is_some_and(|why| why.contains("senders=[b:task2]")));
        assert_eq!(disagrees(&good[..1], &state, "task").as_deref(), Some("task2 is missing"));
        assert_eq!(disagrees(&good, &state, "").as_deref(), Some("note1 is missing"));
        assert!(
            disagrees(&lines(&["task9"]), &state, "task").is_some_and(|why| why.contains("not in the state"))
        );
    }

    #[test]
    fn trees_are_compared_in_order() {
        let state = lines(&["x", "tree", "depth=0 note1 rights=1 badge=0 in=cnode1 at=3"]);
        assert_eq!(trees_disagree(&lines(&["tree", "depth=0 note1 rights=1 badge=0"]), &state), None);
        assert!(trees_disagree(&lines(&["tree", "depth=0 note2 rights=1 badge=0"]), &state).is_some());
        assert!(trees_disagree(&lines(&["tree"]), &state).is_some());
    }

    #[test]
    fn pages_are_looked_up_by_address() {
        let said = |pages: &[&str]| {
            let vspaces = lines(&["vspace1 mappings=[401002:frame1 500001:frame2]"]);
            BTreeMap::from([("pages".to_owned(), lines(pages)), ("vspaces".to_owned(), vspaces)])
        };
        assert_eq!(pages_disagree(&said(&["401000 to=1", "500000 to=2"])), None);
        assert!(pages_disagree(&said(&["401000 to=1"])).is_some_and(|why| why.starts_with("500000")));
    }

    #[test]
    fn sections_begin_at_marks() {
        let all = sections("noise\n== cpus\ncpu=0\n\n== tasks\ntask1\n\n== end\n");
        assert_eq!(all["cpus"], ["cpu=0"]);
        assert_eq!(all["tasks"], ["task1"]);
    }
}
