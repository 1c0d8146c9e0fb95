//! Tests with the debugger: its helpers show what the kernel exports, a stop repeats exactly, and
//! events that are injected at [the kernel's exit](exits) are handled correctly.
//!
//! A scripted session stops where the kernel has just exported its state, lets every helper print
//! its output, and continues to the end. Helpers describe objects in the words of the [text](state)
//! of the exported state, so the test looks up each line of a helper there. It derives capability
//! spaces and run queues from the text; for run queues it stops a game of the differential test at
//! each export until tasks are queued. For a mailbox the text only says whether it is empty, which
//! is compared at a stop with two CPUs.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use invariants::Snapshot;
use snapshot::text::END;

use crate::exits;
use crate::host::find_program;
use crate::lab::Lab;
use crate::records::{self, Piece, Splitter};
use crate::state;
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
/// Tests beside those of [`HELPERS`].
const OTHERS: u64 = 10 + exits::COUNT;
/// Helpers whose output is compared between two stops.
const STATE: [&str; 7] = ["where", "cpus", "queues", "mailboxes", "tasks", "times", "trees"];
/// Exports of a game among which one has tasks in a run queue, and the game.
const EXPORTS: usize = 12;
const GAME: [&str; 3] = ["run=diff", "seed=1", "steps=12"];
/// Stops of a stress run: when both CPUs are at work, and not much before.
const AT_EVENT: [&str; 2] = ["--stop-at", "5000"];
const AT_TIME: [&str; 2] = ["--stop-time", "86700000"];
/// Before what a helper prints.
const MARK: &str = "== ";

/// The lines that each helper printed.
type Said = BTreeMap<String, Vec<String>>;

/// Runs all tests, or reports that they are left out if there is no gdb.
pub fn run(lab: &Lab) -> Result<Tally> {
    if find_program("gdb").is_none() {
        lab.screen.say("tests with gdb left out: gdb is missing: apt-get install gdb");
        return Ok(Tally { skipped: HELPERS.len() as u64 + OTHERS, ..Tally::default() });
    }
    let mut tally = Tally::default();
    let mut count = |name: &str, wrong: Option<String>| tally += lab.judged("gdb", name, wrong);
    let helpers = HELPERS.iter().map(|(helper, _)| *helper);
    let helpers: Vec<&str> = helpers.chain(["trees", "pages vspace1", "caps", "where", "check"]).collect();
    let (said, state) = exported(lab, &["run=test", "only=state_is_exported"], &helpers)?;
    for (helper, kind) in HELPERS {
        count(
            helper,
            said.get(helper).map_or(Some("says nothing".to_owned()), |l| disagrees(l, &state, kind)),
        );
    }
    let lines = |helper: &str| said.get(helper).map(Vec::as_slice).unwrap_or_default();
    count("trees", trees_disagree(lines("trees"), &state));
    count("pages", pages_disagree(&said));
    count("caps", caps_disagree(lines("caps"), &state));
    count("where", is_elsewhere(lines("where")));
    count("check", check_disagrees(lines("check"), &state));
    count("queues", no_game_is_right(lab)?);
    exits::run(lab)?.into_iter().for_each(|(name, wrong)| count(name, wrong));
    let [one, other] = [stopped(lab, AT_EVENT)?, stopped(lab, AT_EVENT)?];
    count("mailboxes", mailboxes_disagree(&sections(&one)));
    count("where, at a stop", is_in_the_stop(&sections(&one)));
    count(
        "the same stop twice",
        (one != other || !one.contains("stopped at event")).then(|| diff(&one, &other)),
    );
    count("a stop by time", not_in_time(&one, &stopped(lab, AT_TIME)?));
    Ok(tally)
}

/// Returns what each helper says after a state was exported, and that state.
fn exported(lab: &Lab, run: &[&str], helpers: &[&str]) -> Result<(Said, Vec<String>)> {
    let words: Vec<&str> = ["--variant", "dump"].iter().chain(run).copied().collect();
    let mut commands = vec!["hbreak kern_dump::machine_dump::exported".to_owned(), "continue".to_owned()];
    commands.extend(helpers.iter().copied().flat_map(asked));
    // A breakpoint is gone through once more, and the guest ends.
    commands.extend([format!("echo \\n{MARK}end\\n"), "delete".to_owned(), "continue".to_owned()]);
    let said = session(lab, &words, &commands)?;
    let state = states_in(&log(lab)?)?.into_iter().next().context("no state was exported")?;
    Ok((sections(&said), state))
}

/// Returns what the last guest wrote to its log port.
fn log(lab: &Lab) -> Result<Vec<u8>> {
    let log = lab.artifacts.runs().join("gdb-run/log.bin");
    std::fs::read(&log).with_context(|| format!("reading {}", log.display()))
}

/// Returns a helper's command, with a mark.
fn asked(helper: &str) -> [String; 2] {
    let name = helper.split(' ').next().unwrap_or_default();
    [format!("echo \\n{MARK}{name}\\n"), format!("aurora {helper}")]
}

/// Returns everything that is said at a stop of a short stress run.
fn stopped(lab: &Lab, stop: [&str; 2]) -> Result<String> {
    let words: Vec<&str> = ["--stress", "--seed", "1", "--cpus", "2", "--messages", "2000"].into();
    let words = [words, stop.into()].concat();
    let mut commands: Vec<String> = STATE.into_iter().flat_map(asked).collect();
    commands.push("thread apply all info registers".to_owned());
    session(lab, &words, &commands)
}

/// Runs the gdb command of this program. Returns what it prints.
pub fn session(lab: &Lab, words: &[&str], commands: &[String]) -> Result<String> {
    let _turn = lab.turns.one();
    lab.screen.step("gdb");
    // The running program, not the file at its path: earlier tests may have built that again.
    let program = format!("/proc/{}/exe", std::process::id());
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "300"]).arg(program).arg("gdb").arg("--boot-dir").arg(lab.artifacts.boot_dir());
    command.args(words).arg("--batch");
    command.args(commands.iter().flat_map(|text| ["--ex", text]));
    let output = command.output().context("starting a gdb session")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// Returns what was said behind each mark.
fn sections(said: &str) -> Said {
    let mut all = BTreeMap::new();
    for part in said.split(&format!("\n{MARK}")).skip(1) {
        let mut lines = part.lines().map(str::to_owned);
        let name = lines.next().unwrap_or_default();
        all.insert(name, lines.filter(|line| !line.is_empty()).collect());
    }
    all
}

/// Returns the lines of each state that the guest exported.
fn states_in(log: &[u8]) -> Result<Vec<Vec<String>>> {
    let mut splitter = Splitter::default();
    splitter.push(log);
    let mut text = Vec::new();
    for piece in splitter {
        if let Piece::Record { channel: records::SNAPSHOT, payload } = piece {
            text.extend(payload);
        }
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let state = |lines: &[&str]| {
        let mut snapshot = Snapshot::default();
        snapshot.read(&lines.concat()).map_err(|wrong| anyhow!("the snapshot is none: {wrong}"))?;
        Ok(state::text(&snapshot))
    };
    lines.split_inclusive(|line| line.trim_end() == END).map(state).collect()
}

/// Returns the words of a line. A list is one word.
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

/// Returns the first line that differs from the state, or says that a helper is silent about
/// something in the state.
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

/// Compares derivation trees, slot by slot in order. An export also says where each slot is.
fn trees_disagree(lines: &[String], state: &[String]) -> Option<String> {
    let there = state.iter().filter(|line| *line == "tree" || line.starts_with("depth="));
    let there: Vec<&String> = there.collect();
    if there.len() != lines.len() {
        return Some(format!("{} lines, and {} in the state", lines.len(), there.len()));
    }
    let differs = lines.iter().zip(there).find(|(said, there)| !there.starts_with(said.as_str()));
    differs.map(|(said, there)| format!("{said} and {there}"))
}

/// Checks that each mapping that the address space records is in its page tables, at the same
/// address.
fn pages_disagree(said: &Said) -> Option<String> {
    let pages: Vec<u64> = said.get("pages")?.iter().filter_map(|line| hex(line.split(' ').next()?)).collect();
    let line = said.get("vspaces")?.iter().find(|line| line.starts_with("vspace1 "))?;
    let list = words(line).into_iter().find_map(|word| word.strip_prefix("pages=["))?;
    let recorded: Vec<u64> =
        list.split(' ').filter_map(|item| Some(hex(item.split(':').next()?)? & !0xfff)).collect();
    if recorded.is_empty() {
        return Some("nothing is mapped".to_owned());
    }
    let lost = recorded.iter().find(|address| !pages.contains(address));
    lost.map(|address| format!("{address:x} is recorded and not in the tables"))
}

/// Compares all capabilities of processes, slot by slot. An export has them in their trees.
fn caps_disagree(lines: &[String], state: &[String]) -> Option<String> {
    let (mut cnode, mut said) = ("", BTreeSet::new());
    for line in lines {
        match line.trim_start().split_once(' ') {
            Some((place, rest)) if place.starts_with("at=") => {
                said.insert(format!("{rest} in={cnode} {place}"));
            }
            Some((_, rest)) => cnode = rest.strip_prefix("cnode=").unwrap_or_default(),
            None => return Some(format!("{line} says nothing")),
        }
    }
    let there = state.iter().filter(|line| line.starts_with("depth=") && line.contains(" in=cnode")).cloned();
    let there: BTreeSet<String> = there.collect();
    if there.is_empty() {
        return Some("the state has no capabilities".to_owned());
    }
    let differs = there.symmetric_difference(&said).next()?;
    Some(format!(
        "{differs} is only in {}",
        if there.contains(differs) { "the state" } else { "what it says" }
    ))
}

/// Checks that the first CPU stands where the state was exported.
fn is_elsewhere(lines: &[String]) -> Option<String> {
    let places = lines.iter().skip_while(|line| *line != "cpu=0").skip(1);
    let first: Vec<&String> = places.take_while(|line| !line.starts_with("cpu=")).collect();
    let is_there = |function: &str| first.iter().any(|line| line.contains(function));
    let wanted = ["kern_dump::machine_dump::exported", "write_snapshot", "on_system_call"];
    wanted.into_iter().find(|function| !is_there(function)).map(|missing| format!("nobody is in {missing}"))
}

/// Checks that at a stop one CPU is in it, and that the others are shown where they were when its
/// NMI arrived, not in the NMI's handler.
fn is_in_the_stop(said: &Said) -> Option<String> {
    let lines = said.get("where").map(Vec::as_slice).unwrap_or_default();
    let cpus = lines.iter().filter(|line| line.starts_with("cpu=")).count();
    let of = |function: &str| lines.iter().filter(|line| line.contains(function)).count();
    let (stopping, handling) = (of("::freeze"), of("::non_maskable"));
    (cpus < 2 || stopping != 1 || handling > 0)
        .then(|| format!("of {cpus} CPUs {stopping} in the stop and {handling} in the handler of its NMI"))
}

/// Checks that the bits that are up are those of the Notifications that the state shows with remote
/// bits.
fn check_disagrees(lines: &[String], state: &[String]) -> Option<String> {
    let Some(last) = lines.last().filter(|line| line.starts_with("check: ")) else {
        return Some("it does not end".to_owned());
    };
    let up = state.iter().filter(|line| line.starts_with("note") && !line.contains(" remote=0"));
    let up: Vec<&str> = up.filter_map(|line| line.split(' ').next()).collect();
    let named = |name: &&&str| lines.iter().any(|line| words(line).contains(*name));
    match up.iter().find(|name| !named(name)) {
        Some(name) => Some(format!("{name} has bits up and is not named")),
        None => (up.is_empty() && last != "check: 0 wrong").then(|| format!("nothing is up, and {last}")),
    }
}

/// Checks that a game's first export with a task in a run queue is shown as it is.
fn no_game_is_right(lab: &Lab) -> Result<Option<String>> {
    let mut commands = vec!["hbreak kern_dump::machine_dump::exported".to_owned()];
    for number in 0..EXPORTS {
        let [_, helper] = asked("queues");
        let mark = |name: &str| format!("echo \\n{MARK}{name}\\n");
        commands.extend(["continue".to_owned(), mark(&number.to_string()), helper, mark("end")]);
    }
    commands.extend(["delete".to_owned(), "continue".to_owned()]);
    let said = sections(&session(lab, &[["--variant", "dump"].as_slice(), &GAME].concat(), &commands)?);
    let states = states_in(&log(lab)?)?;
    let has_tasks = |state: &Vec<String>| queued(state).iter().any(|line| !line.starts_with("cpu="));
    let Some(number) = states.iter().take(EXPORTS).position(has_tasks) else {
        return Ok(Some(format!("nothing is queued in the first {EXPORTS} exports of {}", GAME.join(" "))));
    };
    let lines = said.get(&number.to_string()).map(Vec::as_slice).unwrap_or_default();
    Ok(queues_disagree(lines, &states[number]))
}

/// Compares run queues, each context with its task.
fn queues_disagree(lines: &[String], state: &[String]) -> Option<String> {
    let there = queued(state);
    let said: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
    (said != there).then(|| format!("{} and {}", said.join(", "), there.join(", ")))
}

/// Returns the queues that an exported state shows.
fn queued(state: &[String]) -> Vec<String> {
    let word =
        |line: &str, key: &str| words(line).into_iter().find_map(|w| w.strip_prefix(key)).map(str::to_owned);
    let mut there = Vec::new();
    for line in state.iter().filter(|line| line.starts_with("cpu=")) {
        there.push(words(line)[0].to_owned());
        let queued = word(line, "queued=[").unwrap_or_default();
        for item in queued.trim_end_matches(']').split(' ').filter(|item| !item.is_empty()) {
            let Some((priority, time)) = item.split_once(':') else { continue };
            let with = state.iter().find(|line| words(line)[0] == time).and_then(|line| word(line, "with="));
            let Some(priority) = hex(priority) else { continue };
            there.push(format!("priority={priority} {time} with={}", with.unwrap_or_default()));
        }
    }
    there
}

/// Checks that the helper lists mail of exactly those mailboxes that are not empty.
fn mailboxes_disagree(said: &Said) -> Option<String> {
    let (boxes, cpus) = (said.get("mailboxes")?, said.get("cpus")?);
    let full = |name: &str| {
        let behind = boxes.iter().skip_while(|line| words(line)[0] != name).skip(1);
        behind.take_while(|line| line.starts_with(' ')).count() > 0
    };
    let wrong = cpus.iter().map(|line| words(line)).find(|cpu| full(cpu[0]) != cpu.contains(&"mail"));
    wrong.map(|cpu| format!("{} and {}", cpu.join(" "), boxes.join(", ")))
}

/// Checks that a stop by time is the first event at or after that time, and is reported like a stop
/// by event.
fn not_in_time(by_event: &str, by_time: &str) -> Option<String> {
    let number = |text: &str, before: &str| -> Option<u64> {
        let digits = text.split_once(before)?.1.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    let at = |text: &str| Some((number(text, "stopped at event ")?, number(text, ", TSC ")?));
    let wanted: u64 = AT_TIME[1].parse().ok()?;
    match (at(by_event), at(by_time)) {
        (Some((event, time)), Some((other, stopped))) => {
            // Whatever comes first has the lower number.
            let ordered = (other <= event) == (stopped <= time);
            (stopped < wanted || !ordered)
                .then(|| format!("event {other} at {stopped}, and {event} at {time}"))
        }
        _ => Some(format!("no stop: {by_time}")),
    }
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
            let vspaces = lines(&["vspace1 pages=[401002:frame1+0 500001:frame2+3]"]);
            BTreeMap::from([("pages".to_owned(), lines(pages)), ("vspaces".to_owned(), vspaces)])
        };
        assert_eq!(pages_disagree(&said(&["401000 to=1", "500000 to=2"])), None);
        assert!(pages_disagree(&said(&["401000 to=1"])).is_some_and(|why| why.starts_with("500000")));
    }

    #[test]
    fn capability_spaces_are_compared_by_slot() {
        let state = lines(&[
            "depth=0 note1 rights=1 badge=0 in=cnode1 at=3",
            "depth=0 frame1 rights=1 badge=0 nowhere",
        ]);
        let said = |cnode: &str| {
            lines(&[&format!("process1 cnode={cnode}"), "  at=3 depth=0 note1 rights=1 badge=0"])
        };
        assert_eq!(caps_disagree(&said("cnode1"), &state), None);
        assert!(caps_disagree(&said("cnode2"), &state).is_some());
        assert!(caps_disagree(&said("cnode1")[..1], &state).is_some_and(|why| why.ends_with("the state")));
        assert!(caps_disagree(&[], &[]).is_some());
    }

    #[test]
    fn queues_are_put_together_from_cpus_and_times() {
        let state = lines(&["cpu=0 queued=[1e:time5 2:time1]", "time1 with=task4", "time5 with=task3"]);
        let good = lines(&["cpu=0", "  priority=30 time5 with=task3", "  priority=2 time1 with=task4"]);
        assert_eq!(queues_disagree(&good, &state), None);
        let swapped = [&good[..1], &good[2..], &good[1..2]].concat();
        assert!(queues_disagree(&swapped, &state).is_some());
        assert_eq!(queued(&lines(&["cpu=0 queued=[]"])), ["cpu=0"]);
    }

    #[test]
    fn mailboxes_are_full_where_cpus_have_mail() {
        let said = |cpu: &str, boxes: &[&str]| {
            BTreeMap::from([("cpus".to_owned(), lines(&[cpu])), ("mailboxes".to_owned(), lines(boxes))])
        };
        let full = ["cpu=0 running", "  message of task1", "cpu=1 running"];
        assert_eq!(mailboxes_disagree(&said("cpu=0 mail runs=-", &full)), None);
        assert_eq!(mailboxes_disagree(&said("cpu=1 runs=-", &full)), None);
        assert!(mailboxes_disagree(&said("cpu=0 runs=-", &full)).is_some());
        assert!(mailboxes_disagree(&said("cpu=1 mail runs=-", &full)).is_some());
    }

    #[test]
    fn check_names_what_is_up_and_where_is_where_the_export_is() {
        let (none, up) = (lines(&["note1 remote=0 bits=0"]), lines(&["note1 remote=4 bits=0"]));
        let lost = lines(&["lost: note1 bits=4 are up; nobody will look", "check: 1 wrong"]);
        assert_eq!(check_disagrees(&lines(&["check: 0 wrong"]), &none), None);
        assert_eq!(check_disagrees(&lost, &up), None);
        assert!(check_disagrees(&lost, &none).is_some());
        assert!(check_disagrees(&lines(&["check: 0 wrong"]), &up).is_some());
        assert!(check_disagrees(&[], &none).is_some());
        let there = lines(&[
            "cpu=0",
            "  1 a kern_dump::machine_dump::exported",
            "  2 b write_snapshot",
            "  3 c on_system_call",
        ]);
        assert_eq!(is_elsewhere(&there), None);
        let stop = |other: &str| {
            sections(&format!("\n== where\ncpu=0\n  1 halt <- x::freeze\ncpu=1\n  2 {other}\n"))
        };
        assert_eq!(is_in_the_stop(&stop("kern_core::ipc")), None);
        assert!(is_in_the_stop(&stop("halt <- x::non_maskable")).is_some());
        assert!(is_in_the_stop(&stop("halt <- x::freeze")).is_some());
        assert!(is_elsewhere(&there[..2]).is_some());
    }

    #[test]
    fn a_stop_by_time_is_not_before_it() {
        let stop =
            |event: u32, time: u32| format!("aurora: stopped at event {event} (SlotRead), TSC {time}\n");
        let by_event = stop(5000, 90_000_000);
        assert_eq!(not_in_time(&by_event, &stop(4321, 86_700_001)), None);
        assert!(not_in_time(&by_event, &stop(4321, 86_600_000)).is_some(), "too early");
        assert!(not_in_time(&by_event, &stop(5001, 86_700_001)).is_some(), "out of order");
        assert!(not_in_time(&by_event, "").is_some());
    }

    #[test]
    fn sections_begin_at_marks() {
        let all = sections("noise\n== cpus\ncpu=0\n\n== tasks\ntask1\n\n== end\n");
        assert_eq!(all["cpus"], ["cpu=0"]);
        assert_eq!(all["tasks"], ["task1"]);
    }
}
