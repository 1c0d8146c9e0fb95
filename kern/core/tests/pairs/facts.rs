//! The state of a world as a list of facts, by which two worlds can be compared: everything that
//! programs see now or can see later. State that only the kernel uses, such as the order of a list
//! or the number of a shootdown, is not a fact.

use std::collections::HashMap;

use invariants::pte::{Pte, What};
use snapshot::{Entry, Record, Slot};

use crate::world::{Tcb, World, check};

/// Words of one kind, those of several fields together.
struct Kind {
    /// The name of the record.
    name: &'static str,
    /// The fields that tell its records apart.
    keys: &'static [&'static str],
    /// Those that are facts.
    fields: &'static [&'static str],
}

const fn kind(name: &'static str, keys: &'static [&'static str], fields: &'static [&'static str]) -> Kind {
    Kind { name, keys, fields }
}

/// All kinds: records of snapshots, of which no others are facts, and what tasks have in registers
/// and memory. Whether a task is plain is no fact: it says where the zeros of an answer are.
const KINDS: &[Kind] = &[
    kind("slot", &["at"], &["used", "kind", "object", "rights", "badge"]),
    kind("process", &["at"], &["dying", "dead", "refs", "cnode", "vspace", "pool", "label"]),
    kind("task-number", &["process", "number"], &["task"]),
    kind("group", &["at"], &["dying", "dead", "refs", "count", "watched"]),
    kind("member", &["group", "number"], &["rights", "custom", "place_process"]),
    kind("exposure", &["group", "number"], &["slot", "tag", "per_cpu", "watch"]),
    kind("notification", &["at"], &["dying", "dead", "refs", "home", "bits", "waiter", "bound", "remote"]),
    kind("reply", &["at"], &["dying", "dead", "refs", "home", "caller", "server"]),
    kind("pool", &["at"], &["dying", "dead", "refs", "process", "reader", "address", "closed"]),
    kind("cnode", &["at"], &["dying", "dead", "refs", "process", "more"]),
    kind("untyped", &["at"], &["dying", "dead", "refs", "low", "high", "resetting"]),
    kind("vspace", &["at"], &["dying", "dead", "refs", "process", "ending", "locked"]),
    kind("entry", &["space", "address"], &["word"]),
    kind("frame", &["at"], &["dying", "dead", "refs", "pins"]),
    kind("irq", &["at"], &["dying", "dead", "refs", "line", "signals", "cpu", "bits"]),
    kind("port", &["at"], &["dying", "dead", "refs", "first", "count"]),
    kind("info", &["at"], &["mapped", "writable", "executable", "dying", "pooled", "unclean", "owner"]),
    kind(
        "task",
        &["at"],
        &[
            "dying",
            "dead",
            "refs",
            "id",
            "home",
            "state",
            "suspended",
            "in_fault",
            "state_label",
            "pending",
            "process",
            "own_context",
            "caller",
            "lender",
            "senders",
            "posters",
            "lock_waiters",
            "replies",
            "bound",
            "waits_for",
            "deadline_rank",
            "ending",
            "space",
            "control",
            "receives_on",
            "label_comes",
            "callee",
            "held",
            "is_event",
            "message_context",
            "request",
        ],
    ),
    kind("context", &["at"], &["dying", "dead", "refs", "home", "task", "owner", "priority", "endless"]),
    kind(TREE, &["slot"], &["parent"]),
    kind(REGISTERS, &["task"], &["refused", "rax", "rdi", "rsi", "rdx", "r8", "r9", "r10"]),
    kind(MEMORY, &["task"], &["capabilities", "fates", "offer", "pages"]),
];

/// The slot that a slot was derived from.
const TREE: &str = "tree";
pub const REGISTERS: &str = "registers";
pub const MEMORY: &str = "memory";

/// Tasks that have registers and memory, by number: who does the operations, and those of the cast.
const TASKS: [&str; 6] = ["the first", "the second", "client", "other", "server", "helper"];

/// Which word: of which kind, which one, and which field.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    kind: u8,
    key: [u64; 2],
    field: u8,
}

impl Name {
    pub const fn kind(self) -> &'static str {
        KINDS[self.kind as usize].name
    }

    pub const fn field(self) -> &'static str {
        KINDS[self.kind as usize].fields[self.field as usize]
    }

    /// The number of the task, of registers and memory.
    pub const fn task(self) -> u64 {
        self.key[0]
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = &KINDS[self.kind as usize];
        write!(f, "{}", kind.name)?;
        match self.kind() {
            REGISTERS | MEMORY => write!(f, " of {}", TASKS[self.task() as usize])?,
            _ => {
                kind.keys.iter().zip(self.key).try_for_each(|(name, word)| write!(f, " {name}={word:#x}"))?
            }
        }
        write!(f, ": {}", self.field())
    }
}

/// All facts, by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Facts(Vec<(Name, u64)>);

/// Where a record has the words that matter.
struct Columns {
    kind: u8,
    keys: [Option<usize>; 2],
    fields: Vec<usize>,
    /// The level of a page-table entry.
    level: Option<usize>,
}

impl Columns {
    fn of<R: Record>() -> Option<Columns> {
        let kind = KINDS.iter().position(|kind| kind.name == R::NAME)?;
        let at = |field: &str| R::FIELDS.iter().position(|name| *name == field);
        let Kind { keys, fields, .. } = &KINDS[kind];
        let fields =
            fields.iter().map(|field| at(field).unwrap_or_else(|| panic!("{} has no {field}", R::NAME)));
        Some(Columns {
            kind: kind as u8,
            keys: [0, 1].map(|n: usize| keys.get(n).and_then(|field| at(field))),
            fields: fields.collect(),
            level: at("level").filter(|_| R::NAME == Entry::NAME),
        })
    }
}

impl Facts {
    /// Notes what the kernel knows. What else is a fact has been noted before.
    pub fn note_state(&mut self, world: &World) {
        check::with_snapshot(world, |snapshot| {
            macro_rules! all {
                ($($type:ident $method:ident $list:ident;)*) => { $(self.add_all(world, &snapshot.$list);)* };
            }
            snapshot::for_each_record!(all);
            self.note_parents(world, &snapshot.slots);
        });
        self.0.sort_unstable();
    }

    /// A derivation tree stands in its list with children behind their parents: the parent is the
    /// last before whose depth is less than all floors from there on. The depth itself depends on
    /// the order in which ancestors left.
    fn note_parents(&mut self, world: &World, slots: &[Slot]) {
        let known: HashMap<u64, &Slot> = slots.iter().map(|slot| (slot.at, slot)).collect();
        for slot in slots {
            let before = std::iter::successors(known.get(&slot.prev), |slot| known.get(&slot.prev));
            let mut floor = slot.floor;
            let parent = before.take(slots.len()).find(|before| {
                let is_parent = before.depth < floor;
                floor = floor.min(before.floor);
                is_parent
            });
            let place = plain(world, slot.at) as usize;
            self.note(TREE, place, "parent", parent.map_or(0, |parent| plain(world, parent.at)));
        }
    }

    /// What a task has in its registers, when its system call is over.
    pub fn note_registers(&mut self, world: &World, number: usize, task: &Tcb) {
        if !task.is_through() {
            return;
        }
        let regs = task.regs();
        if regs.error().is_some() {
            // Of several things that are wrong, one is told.
            return self.note(REGISTERS, number, "refused", 1);
        }
        let words = [regs.rax, regs.rdi, regs.rsi, regs.rdx, regs.r8, regs.r9, regs.r10];
        for (name, word) in ["rax", "rdi", "rsi", "rdx", "r8", "r9", "r10"].into_iter().zip(words) {
            self.note(REGISTERS, number, name, plain(world, word));
        }
    }

    /// A word that a program reads.
    pub fn note(&mut self, kind: &str, number: usize, field: &str, word: u64) {
        let at = KINDS.iter().position(|known| known.name == kind);
        let field = at.and_then(|at| KINDS[at].fields.iter().position(|name| *name == field));
        let (Some(kind), Some(field)) = (at, field) else { panic!("{kind} is no kind of facts") };
        self.0.push((Name { kind: kind as u8, key: [number as u64, 0], field: field as u8 }, word));
    }

    fn add_all<R: Record>(&mut self, world: &World, records: &[R]) {
        let Some(columns) = Columns::of::<R>() else { return };
        let mut words = Vec::new();
        for record in records {
            words.clear();
            record.each_word(|word| words.push(word));
            let key = columns.keys.map(|at| at.map_or(0, |at| plain(world, words[at])));
            for (field, at) in columns.fields.iter().enumerate() {
                let name = Name { kind: columns.kind, key, field: field as u8 };
                let level = columns.level.map(|at| words[at] as u32);
                let word = level
                    .map_or_else(|| Some(plain(world, words[*at])), |level| entry(world, words[*at], level));
                self.0.extend(word.map(|word| (name, word)));
            }
        }
    }

    /// What is otherwise than it was, of the facts that `counts` accepts: a line each, with what it
    /// was and what it is.
    pub fn since(&self, before: &Facts, counts: impl Fn(&Name) -> bool) -> Vec<String> {
        let mut names: Vec<Name> = self.names().chain(before.names()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| counts(name) && self.get(name) != before.get(name));
        let say = |name: &Name| format!("{name} {} -> {}", said(before.get(name)), said(self.get(name)));
        names.iter().map(say).collect()
    }

    pub fn get(&self, name: &Name) -> Option<u64> {
        self.0.binary_search_by_key(name, |(name, _)| *name).ok().map(|at| self.0[at].1)
    }

    pub fn names(&self) -> impl Iterator<Item = Name> {
        self.0.iter().map(|(name, _)| *name)
    }
}

/// A fact as text.
pub fn said(word: Option<u64>) -> String {
    word.map_or(String::from("nothing"), |word| format!("{word:#x}"))
}

/// An object that is dying and not dead, and that a capability names. (A process whose tasks are
/// gone may be like that.)
pub fn half_dead(world: &World) -> Option<&'static str> {
    fn of<R: Record>(records: &[R]) -> Option<&'static str> {
        let at = |name: &str| R::FIELDS.iter().position(|field| *field == name);
        let [Some(dying), Some(dead), Some(refs)] = ["dying", "dead", "refs"].map(at) else { return None };
        let is_so = |record: &&R| {
            let mut words = Vec::new();
            record.each_word(|word| words.push(word));
            words[dying] != 0 && words[dead] == 0 && words[refs] > 0
        };
        records.iter().find(is_so).filter(|_| R::NAME != "process").map(|_| R::NAME)
    }
    check::with_snapshot(world, |snapshot| {
        let mut found = None;
        macro_rules! all {
            ($($type:ident $method:ident $list:ident;)*) => { $(found = found.take().or_else(|| of(&snapshot.$list));)* };
        }
        snapshot::for_each_record!(all);
        found
    })
}

/// A word, with addresses as places in the world's memory, which stands elsewhere in another world.
fn plain(world: &World, word: u64) -> u64 {
    match world.regions.iter().position(|region| region.contains(&word)) {
        Some(n) => (n as u64 + 1) << 44 | (word - world.regions[n].start),
        None => word,
    }
}

/// A page-table entry that says something. What was used and written is no fact, nor what an entry
/// remembers that maps nothing.
fn entry(world: &World, word: u64, level: u32) -> Option<u64> {
    const USED: u64 = 0x60;
    let pte = Pte(word & !USED);
    let empty = matches!(pte.what(level), What::Empty | What::Gone(_));
    (!empty).then(|| plain(world, pte.at()) | pte.0 & !pte.at())
}
