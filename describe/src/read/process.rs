//! Reads processes.

use abi::{INIT_CNODE_SLOTS, MachineRights, PAGE_SIZE, Rights, machine_rights};
use protocols::clients::FRAMES_MIN;
use protocols::system::{SLOTS_MAX, SLOTS_MIN, STACK_PAGES_MAX, TASKS_MAX};

use super::groups::rights_among;
use super::time;
use crate::keys;
use crate::problem::Problems;
use crate::system::{Pages, Untyped};
use crate::units::{size_text, time_text};
use crate::values::{At, Entry, Fields};
use crate::written::{Controls, Paged, Process, Time, Use};

/// Defaults, in the terms of [`crate::system::Process`].
pub const TASKS: u32 = 16;
pub const SLOTS: u32 = INIT_CNODE_SLOTS as u32;
pub const STACK_PAGES: u16 = STACK_PAGES_MAX;
pub const SLICE: u64 = 10_000;
/// The shortest time between signs of life that process 1 can tell from a delay of its own.
const HEARTBEAT_MIN: u64 = 50_000;
/// Rights to the Machine of a process that asks for none in particular.
const MACHINE: MachineRights = MachineRights::REPORT.union(machine_rights::INFO);

/// Reads the processes, in the order of the file.
pub fn processes(system: &Fields<'_>, problems: &mut Problems) -> Vec<Process> {
    let Some(table) = system.need("processes", problems) else { return Vec::new() };
    let named = table.named("a process", problems);
    if named.is_empty() && table.value.is_table() {
        let fix = "add a section `[processes.NAME]` with a `priority`";
        table.wrong("the system has no process", "empty", fix, problems);
    }
    named.into_iter().map(|(name, entry)| process(name, &entry, problems)).collect()
}

fn process(name: At<String>, entry: &Entry<'_>, problems: &mut Problems) -> Process {
    let owner = format!("process `{}`", name.value);
    let Some(fields) = entry.table(owner.clone(), keys::PROCESS, problems) else { return nothing(name) };
    let program = fields.get("program").and_then(|entry| entry.text(problems));
    let mut text = |key: &str| fields.get(key).and_then(|entry| entry.text(problems));
    let (options, label) = (text("options"), text("label"));
    let mut number = |key: &str, range| {
        let number = fields.get(key).and_then(|entry: Entry<'_>| entry.number(range, problems));
        number.map(|number| At::new(number.value as u32, number.span))
    };
    let tasks = number("tasks", 1..=u64::from(TASKS_MAX));
    let slots = number("slots", u64::from(SLOTS_MIN)..=u64::from(SLOTS_MAX));
    let mut flag = |key: &str| fields.get(key).and_then(|entry| entry.flag(problems)).unwrap_or(false);
    let (vector, archive) = (flag("vector"), flag("archive"));
    let mut texts = |key: &str| fields.get(key).map(|entry| entry.texts(problems)).unwrap_or_default();
    let (devices, needs) = (texts("devices"), texts("needs"));
    let restart = fields.get("restart").and_then(|entry| time::restart(&owner, &entry, problems));
    Process {
        program: program.unwrap_or_else(|| name.clone()),
        name,
        about: fields.get("about").and_then(|about| about.line(problems)).unwrap_or_default(),
        options,
        time: time::time(&fields, problems),
        memory: fields.get("memory").and_then(|entry| memory(&entry, problems)),
        tasks,
        slots,
        vector,
        stack_pages: fields.get("stack").and_then(|entry| stack(&entry, problems)).unwrap_or(STACK_PAGES),
        label,
        machine: fields.get("machine").map_or(MACHINE.rights(), |entry| machine(&entry, problems)).0,
        archive,
        devices,
        uses: fields.get("uses").map(|entry| uses(&entry, problems)).unwrap_or_default(),
        needs,
        restart,
        controls: fields.get("controls").map(|entry| controls(&entry, problems)),
        heartbeat: fields.get("heartbeat").and_then(|entry| heartbeat(&entry, problems)),
        asked: fields.get("start").and_then(|entry| asked(&entry, problems)),
        schedules: fields.get("schedules").map(|entry| entry.texts(problems)).unwrap_or_default(),
        pager: fields.get("pager").and_then(|entry| pager(&owner, &entry, problems)),
    }
}

/// Returns a process of which nothing could be read except its name, so that others may name it.
fn nothing(name: At<String>) -> Process {
    Process {
        program: name.clone(),
        name,
        about: String::new(),
        options: None,
        time: Time::default(),
        memory: None,
        tasks: None,
        slots: None,
        vector: false,
        stack_pages: STACK_PAGES,
        label: None,
        machine: 0,
        archive: false,
        devices: Vec::new(),
        uses: Vec::new(),
        needs: Vec::new(),
        restart: None,
        controls: None,
        heartbeat: None,
        asked: None,
        schedules: Vec::new(),
        pager: None,
    }
}

/// Reads the size of a process's Untyped.
fn memory(entry: &Entry<'_>, problems: &mut Problems) -> Option<At<Untyped>> {
    match entry.value.as_str() {
        Some("rest") => return Some(At::new(Untyped::Rest, entry.span.clone())),
        Some("none") => return Some(At::new(Untyped::None, entry.span.clone())),
        _ => {}
    }
    let size = entry.size(problems)?;
    if size.value < PAGE_SIZE {
        let fix = "write a power of two from `\"4 KiB\"`, or `\"none\"`";
        entry.wrong("`memory` is less than a page", "less than 4 KiB", fix, problems);
        return None;
    }
    if !size.value.is_power_of_two() {
        let above = size.value.next_power_of_two();
        let fix = format!("write `\"{}\"` or `\"{}\"`", size_text(above / 2), size_text(above));
        let title = format!("`memory` cannot be {}", size_text(size.value));
        entry.wrong(title, "no power of two", fix, problems);
        return None;
    }
    Some(At::new(Untyped::Log2(size.value.ilog2() as u8), size.span))
}

/// Reads the size of a stack, in pages.
fn stack(entry: &Entry<'_>, problems: &mut Problems) -> Option<u16> {
    let size = entry.size(problems)?.value;
    let most = u64::from(STACK_PAGES_MAX) * PAGE_SIZE;
    if size % PAGE_SIZE != 0 || size > most {
        let whole = size.next_multiple_of(PAGE_SIZE).min(most);
        let fix = format!("write `\"{}\"`: a stack has whole pages of 4 KiB, at most 14", size_text(whole));
        entry.wrong(format!("`stack` cannot be {}", size_text(size)), "not a stack's size", fix, problems);
        return None;
    }
    Some((size / PAGE_SIZE) as u16)
}

/// Reads rights to the Machine.
fn machine(entry: &Entry<'_>, problems: &mut Problems) -> Rights {
    let named = machine_rights::ALL.iter().map(|right| (right.name.to_lowercase(), right.value));
    let more = [("report", MachineRights::REPORT.rights()), ("grant", Rights::GRANT)];
    let more = more.map(|(name, right)| (name.to_owned(), right));
    let known: Vec<(String, Rights)> = named.chain(more).collect();
    rights_among(&known, "to the machine", entry, problems)
}

/// Reads the longest time between two signs of life.
fn heartbeat(entry: &Entry<'_>, problems: &mut Problems) -> Option<u64> {
    let time = entry.time(problems)?.value;
    if time < HEARTBEAT_MIN {
        let title = format!("`heartbeat` cannot be {}", time_text(time));
        let fix = "write at least `\"50 ms\"`: process 1 serves calls in steps of 10 ms";
        entry.wrong(title, "too short", fix, problems);
        return None;
    }
    Some(time)
}

/// Reads who gives a process pages on demand.
fn pager(owner: &str, entry: &Entry<'_>, problems: &mut Problems) -> Option<Paged> {
    let fields = entry.table(format!("`pager` of {owner}"), keys::PAGER, problems)?;
    let by = fields.need("process", problems).and_then(|entry| entry.text(problems));
    let (frames, pages) = (fields.need("frames", problems), fields.need("pages", problems));
    let mut number = |entry: Option<Entry<'_>>, range| {
        entry.and_then(|entry| entry.number(range, problems)).map(|number| number.value as u32)
    };
    let all = u64::from(u32::MAX);
    let pinned = number(fields.get("pinned"), 0..=all).unwrap_or(0);
    let asked = frames.clone();
    let frames = number(frames, FRAMES_MIN.into()..=all);
    let pages = number(pages, 1..=all);
    let limits = Pages { frames: frames?, pinned, pages: pages? };
    if limits.frames - FRAMES_MIN < pinned {
        let title = format!("`frames` cannot be {} if {pinned} may be pinned", limits.frames);
        let least = u64::from(FRAMES_MIN) + u64::from(pinned);
        let fix = format!("write at least {least}: one instruction may need {FRAMES_MIN} besides");
        asked?.wrong(title, "too few", fix, problems);
        return None;
    }
    Some(Paged { by: by?, limits })
}

/// Reads when a process starts. Returns where the file says that it is when a shell asks.
fn asked(entry: &Entry<'_>, problems: &mut Problems) -> Option<At<()>> {
    let word = entry.word(&["boot", "asked"], problems)?;
    (word.value == "asked").then(|| At::new((), word.span))
}

/// Reads which processes a process may start and end: `"all"`, or a list.
fn controls(entry: &Entry<'_>, problems: &mut Problems) -> Controls {
    match entry.value.as_str() {
        Some("all") => Controls::All,
        _ => Controls::These(entry.texts(problems)),
    }
}

/// Reads the names that a process looks up.
fn uses(entry: &Entry<'_>, problems: &mut Problems) -> Vec<Use> {
    let named = entry.named("a group that a process uses", problems);
    let uses = named.into_iter().filter_map(|(name, entry)| {
        let group = entry.text(problems)?;
        Some(Use { name, group })
    });
    uses.collect()
}
