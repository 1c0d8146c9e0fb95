//! Watching a whole run, block by block: what each CPU does with interrupts off, and what marked
//! victims get done. Plain logic; [`crate::qemu`] feeds it.
//!
//! The kernel's symbols say what an entry is. An interrupt or exception executes its stub. A system
//! call jumps through a table of places in the fast path, or through the table of handlers: the
//! block at which it arrives tells the operation. Callbacks on the jump's read of the table would
//! tell it, too. But QEMU 7.2 keeps a pointer to such callbacks after a jump, also when it has
//! freed them with all translated code, and then ends.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::marker::Marker;
use crate::stretch::{Block, Cpu, Kind, Stretches};

/// Distance of two stubs.
const STUB_SIZE: u64 = 16;
/// Stubs of interrupts and exceptions.
const VECTORS: u64 = 256;
/// The vector of the timer: see `kern_hal::trap`.
const TIMER: u8 = 0x71;

/// Addresses of the kernel's symbols.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Places {
    /// The stub of interrupt 0.
    pub stubs: u64,
    /// Where operations begin, and their numbers.
    pub operations: BTreeMap<u64, u16>,
}

impl Places {
    /// Takes an argument of the plugin. Returns false if it does not know it.
    pub fn set(&mut self, key: &str, value: &str) -> bool {
        let address =
            |digits: &str| u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok();
        let operation = || {
            let (number, place) = value.split_once(':')?;
            Some((address(place)?, number.parse().ok()?))
        };
        match key {
            "stubs" => address(value).map(|stubs| self.stubs = stubs).is_some(),
            "op" => operation().map(|(place, number)| self.operations.insert(place, number)).is_some(),
            _ => false,
        }
    }

    /// Returns what a block of code is.
    pub fn block(&self, pc: u64, last: &[u8], instructions: usize) -> Block {
        let is_kernel = pc >> 63 != 0;
        let stub = pc.wrapping_sub(self.stubs);
        let is_stub = is_kernel && stub < VECTORS * STUB_SIZE && stub.is_multiple_of(STUB_SIZE);
        Block {
            instructions: instructions as u16,
            is_kernel,
            opens: is_kernel && lets_interrupts_in(last),
            pauses: is_kernel && last == PAUSE,
            vector: is_stub.then_some((stub / STUB_SIZE) as u8),
            operation: self.operations.get(&pc).copied(),
        }
    }
}

const PAUSE: [u8; 2] = [0xf3, 0x90];

/// Returns whether interrupts are on behind a kernel instruction: STI, HLT, MWAIT, IRETQ, SYSRETQ.
fn lets_interrupts_in(bytes: &[u8]) -> bool {
    matches!(bytes, [0xfb | 0xf4] | [0x0f, 0x01, 0xc9] | [0x48, 0xcf] | [0x48, 0x0f, 0x07])
}

/// Instructions of a CPU so far.
#[derive(Clone, Copy, Default, Debug)]
struct Sums {
    executed: u64,
    /// In wait loops of locks.
    spun: u64,
    /// While no program could run: see [`Cpu::idle`].
    idle: u64,
}

impl Sums {
    fn of(cpu: &Cpu, executed: u64) -> Sums {
        Sums { executed, spun: cpu.spun(), idle: cpu.idle() }
    }

    fn since(self, before: Sums) -> Sums {
        Sums {
            executed: self.executed - before.executed,
            spun: self.spun - before.spun,
            idle: self.idle - before.idle,
        }
    }

    fn busy(self) -> u64 {
        self.executed.saturating_sub(self.idle)
    }
}

/// What a CPU did while a window was open on it.
#[derive(Clone, Copy, Default, Debug)]
struct Window {
    /// When the window opened.
    open: Option<Sums>,
    took: Sums,
    ops: u64,
    last_op: Sums,
    /// The most instructions between two operations.
    longest_gap: u64,
    /// The most that were executed while programs could run.
    longest_busy_gap: u64,
    wakes: u64,
    late_max: u64,
}

impl Window {
    fn gap(&mut self, now: Sums) {
        let gap = now.since(self.last_op);
        self.longest_gap = self.longest_gap.max(gap.executed);
        self.longest_busy_gap = self.longest_busy_gap.max(gap.busy());
        self.last_op = now;
    }

    fn close(&mut self, now: Sums) {
        if let Some(before) = self.open.take() {
            let Sums { executed, spun, idle } = now.since(before);
            self.took.executed += executed;
            self.took.spun += spun;
            self.took.idle += idle;
            self.gap(now);
        }
    }
}

/// A task of this CPU that is to wake at a time.
#[derive(Clone, Copy, Default, Debug)]
struct Alarm {
    /// Where the CPU last could take an interrupt before the timer's came.
    rang_from: Option<Sums>,
}

/// Everything about one CPU.
#[derive(Default)]
pub struct Watched {
    cpu: Cpu,
    windows: BTreeMap<u8, Window>,
    alarm: Option<Alarm>,
    /// Where the kernel's present or last work began: where the CPU last could take an interrupt.
    work_from: Sums,
}

impl Watched {
    /// Takes a block that the CPU is about to execute.
    pub fn block(&mut self, block: Block) {
        let executed = self.cpu.executed();
        if self.cpu.last_free() == executed {
            self.work_from = Sums::of(&self.cpu, executed);
        }
        if let Some(alarm) = self.alarm.as_mut().filter(|_| block.vector == Some(TIMER)) {
            alarm.rang_from = Some(self.work_from);
        }
        self.cpu.block(block);
    }

    pub fn has_run(&self) -> bool {
        self.cpu.executed() > 0
    }

    /// Counts stretches from here on, and forgets earlier ones; or counts no more of them.
    pub fn count_stretches(&mut self, count: bool) {
        self.cpu.count(count);
    }

    /// Takes a marker, behind which `left` instructions of its block follow.
    pub fn mark(&mut self, marker: Marker, left: u64) {
        let now = Sums::of(&self.cpu, self.cpu.executed() - left);
        match marker {
            Marker::Begin(id) => {
                let window = self.windows.entry(id).or_default();
                window.open = Some(now);
                window.last_op = now;
            }
            Marker::End(id) => self.windows.entry(id).or_default().close(now),
            Marker::Op(id) => {
                let window = self.windows.entry(id).or_default();
                window.ops += 1;
                window.gap(now);
            }
            Marker::Due => self.alarm = Some(Alarm::default()),
            Marker::Woke(id) => self.woke(id, now),
            Marker::Skip(_) | Marker::Row | Marker::Stretches(_) | Marker::Gate(_) => {}
        }
    }

    /// The task has woken: late by what the CPU executed since it could last take an interrupt
    /// before the timer's came, without wait loops of locks.
    fn woke(&mut self, id: u8, now: Sums) {
        let Some(alarm) = self.alarm.take() else { return };
        let from = alarm.rang_from.unwrap_or(self.work_from);
        let window = self.windows.entry(id).or_default();
        window.wakes += 1;
        let Sums { executed, spun, .. } = now.since(from);
        window.late_max = window.late_max.max(executed.saturating_sub(spun));
    }

    /// Returns the CPU as JSON. A window that is still open ends here.
    fn json(&mut self) -> String {
        let now = Sums::of(&self.cpu, self.cpu.executed());
        let mut windows = Vec::new();
        for (id, window) in &mut self.windows {
            window.close(now);
            let Window { took, ops, longest_gap, longest_busy_gap, wakes, late_max, .. } = window;
            let Sums { executed, spun, idle } = took;
            windows.push(format!(
                "{{\"id\":{id},\"instructions\":{executed},\"idle\":{idle},\"spun\":{spun},\"ops\":{ops},\
                 \"longest_gap\":{longest_gap},\"longest_busy_gap\":{longest_busy_gap},\
                 \"wakes\":{wakes},\"late_max\":{late_max}}}"
            ));
        }
        let Sums { executed: now, spun, .. } = now;
        let (user, windows) = (self.cpu.user(), windows.join(","));
        format!("{{\"executed\":{now},\"user\":{user},\"spun\":{spun},\"windows\":[{windows}]}}")
    }
}

/// Returns the text of the output file.
pub fn json<'a>(cpus: impl Iterator<Item = &'a mut Watched>) -> String {
    let mut kinds: Vec<(Kind, Stretches)> = Vec::new();
    let mut texts = Vec::new();
    for watched in cpus {
        for (kind, stretches) in watched.cpu.done() {
            match kinds.iter_mut().find(|(other, _)| *other == kind) {
                Some((_, sum)) => sum.add(stretches),
                None => kinds.push((kind, *stretches)),
            }
        }
        texts.push(watched.json());
    }
    let stretches: Vec<String> = kinds.iter().map(|(kind, sum)| stretches_json(*kind, sum)).collect();
    format!("{{\"cpus\":[{}],\"stretches\":[{}]}}\n", texts.join(","), stretches.join(","))
}

fn stretches_json(kind: Kind, sum: &Stretches) -> String {
    let (name, number) = match kind {
        Kind::Op(op) => ("op", Some(op)),
        Kind::Vector(vector) => ("vector", Some(u16::from(vector))),
        Kind::Boot => ("boot", None),
        Kind::Idle => ("idle", None),
        Kind::Fast => ("fast", None),
    };
    let mut text = format!("{{\"kind\":\"{name}\"");
    if let Some(number) = number {
        let _ = write!(text, ",\"number\":{number}");
    }
    let Stretches { entries, total, longest, spun, longest_spun } = sum;
    let _ = write!(
        text,
        ",\"entries\":{entries},\"total\":{total},\"longest\":{longest},\"spun\":{spun},\
         \"longest_with_spinning\":{longest_spun}}}"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUBS: u64 = 0xffff_ffff_8010_d560;
    const PLACE: u64 = 0xffff_ffff_8019_03d0;

    fn places() -> Places {
        Places { stubs: STUBS, operations: BTreeMap::from([(PLACE, 17)]) }
    }

    fn block(instructions: u16, is_kernel: bool, opens: bool) -> Block {
        Block { instructions, is_kernel, opens, ..Block::default() }
    }

    #[test]
    fn the_last_instruction_says_whether_a_block_lets_interrupts_in() {
        let at = 0xffff_ffff_8010_0000;
        for (bytes, opens) in [
            (&[0xfb][..], true),
            (&[0xf4], true),
            (&[0x48, 0xcf], true),
            (&[0x48, 0x0f, 0x07], true),
            (&[0x0f, 0x01, 0xc9], true),
            (&[0xfa], false),
            (&[0xf3, 0x90], false),
        ] {
            assert_eq!(places().block(at, bytes, 3).opens, opens, "{bytes:x?}");
            assert!(!places().block(0x40_0000, bytes, 3).opens, "of user code");
        }
        assert!(places().block(at, &PAUSE, 3).pauses && !places().block(0x40_0000, &PAUSE, 3).pauses);
    }

    #[test]
    fn a_stub_tells_its_vector() {
        let vector = |offset: u64| places().block(STUBS + offset, &[0xe9], 3).vector;
        assert_eq!([vector(0), vector(0x200), vector(0xff0)], [Some(0), Some(32), Some(255)]);
        assert_eq!([vector(0x1000), vector(8), vector(0x2000)], [None; 3]);
    }

    #[test]
    fn a_place_tells_its_operation() {
        let operation = |pc: u64| places().block(pc, &[0x90], 3).operation;
        assert_eq!([PLACE, PLACE + 1, 0x1000].map(operation), [Some(17), None, None]);
    }

    #[test]
    fn places_are_hexadecimal() {
        let mut read = Places::default();
        assert!(read.set("stubs", "0xffffffff8010d560") && read.set("op", "17:ffffffff801903d0"));
        for (key, value) in [("stub", "0x1"), ("stubs", "x"), ("op", "17"), ("op", "x:1"), ("op", "1:x")] {
            assert!(!read.set(key, value), "{key}={value}");
        }
        assert_eq!(read, places());
    }

    #[test]
    fn a_window_has_what_its_cpu_did() {
        let mut watched = Watched::default();
        watched.block(block(100, true, true));
        watched.block(block(10, false, false));
        watched.mark(Marker::Begin(9), 4);
        for _ in 0..3 {
            watched.block(block(50, false, false));
            watched.mark(Marker::Op(9), 0);
        }
        watched.block(block(500, true, true));
        watched.block(block(50, false, false));
        watched.mark(Marker::End(9), 0);
        watched.block(block(50, false, false));
        let text = watched.json();
        let expected = r#"{"executed":860,"user":260,"spun":0,"windows":[{"id":9,"instructions":704,"idle":0,"spun":0,"ops":3,"longest_gap":550,"longest_busy_gap":550,"wakes":0,"late_max":0}]}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_victim_without_end_is_seen() {
        let mut watched = Watched::default();
        watched.mark(Marker::Begin(9), 0);
        watched.block(block(1000, true, false));
        assert!(
            watched.json().contains(r#""instructions":1000,"idle":0,"spun":0,"ops":0,"longest_gap":1000"#)
        );
    }

    fn late(watched: &Watched) -> u64 {
        watched.windows[&2].late_max
    }

    #[test]
    fn lateness_counts_from_the_work_in_which_the_timer_rang() {
        let mut watched = Watched::default();
        watched.block(block(10, false, false));
        watched.mark(Marker::Due, 0);
        watched.block(block(100, true, true));
        watched.block(block(200, false, false));
        watched.block(block(70, true, true)); // a stretch, and no user instruction behind it
        watched.block(Block { vector: Some(TIMER), ..block(40, true, true) });
        watched.block(Block { vector: Some(0x20), ..block(20, true, true) });
        watched.block(block(5, false, false));
        watched.mark(Marker::Woke(2), 4);
        assert_eq!(late(&watched), 131);
        watched.mark(Marker::Woke(2), 4);
        assert_eq!(watched.windows[&2].wakes, 1, "it woke once");
    }

    #[test]
    fn lateness_does_not_count_what_an_idle_cpu_did_before_it_let_interrupts_in() {
        let mut watched = Watched::default();
        watched.block(block(10, true, true));
        watched.mark(Marker::Due, 0);
        watched.block(block(500, true, true)); // STI
        watched.block(block(2, true, false)); // NOP, PAUSE
        watched.block(block(300, true, true));
        watched.block(block(2, true, false));
        watched.block(Block { vector: Some(TIMER), ..block(40, true, true) });
        watched.block(block(60, true, true));
        watched.block(block(5, false, false));
        watched.mark(Marker::Woke(2), 4);
        assert_eq!(late(&watched), 2 + 40 + 60 + 1);
    }

    #[test]
    fn all_cpus_make_one_table() {
        let mut cpus = [Watched::default(), Watched::default()];
        for (watched, length) in cpus.iter_mut().zip([5, 9]) {
            watched.block(block(1, true, true));
            watched.block(block(1, false, false));
            watched.block(block(1, true, false));
            watched.block(Block { operation: Some(17), ..block(length, true, true) });
        }
        let text = json(cpus.iter_mut());
        let expected = r#"{"kind":"op","number":17,"entries":2,"total":16,"longest":10,"spun":0,"longest_with_spinning":10}"#;
        assert!(text.contains(expected), "{text}");
        assert!(text.contains(r#"{"kind":"boot","entries":2,"total":2"#), "{text}");
    }
}
