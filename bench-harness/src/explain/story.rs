//! The explanation of one operation: every instruction with its phase, and the sums.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use instructions::Class;

use super::decode::Decoded;
use super::phase::{Belongs, Phase};
use super::record::{Access, Recording};
use super::sample::Sample;
use super::symbols::{Frame, Origin};

const LINE: u64 = 64;
const PAGE: u64 = 4096;

/// One executed instruction.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub cpu: u8,
    pub pc: u64,
    pub text: String,
    /// `None`: in no phase, or not counted.
    pub phase: Option<Phase>,
    pub uncounted: Option<Uncounted>,
    pub program: String,
    pub symbol: String,
    pub offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inlined: Option<String>,
    /// `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub class: Class,
    /// A branch that was followed by something else than the next instruction.
    pub taken: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accesses: Vec<Access>,
    /// All functions that it lies in, innermost first; none of assembly.
    #[serde(skip)]
    pub frames: Arc<[Frame]>,
    /// Where the code is in the host's memory.
    #[serde(skip)]
    pub place: u64,
    #[serde(skip)]
    pub length: u64,
    #[serde(skip)]
    pub shape: String,
    #[serde(skip)]
    pub gas: String,
    #[serde(skip)]
    pub mnemonic: String,
}

/// Why an instruction does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Uncounted {
    /// It is of the measurement, which is subtracted.
    Measurement,
    /// It faulted, and so was not executed.
    Faulted,
}

impl Line {
    pub fn counts(&self) -> bool {
        self.uncounted.is_none()
    }
}

/// What a set of instructions adds up to.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Counts {
    pub instructions: u64,
    /// Accesses to memory as they were made: an instruction may make several.
    pub loads: u64,
    pub stores: u64,
    pub branches: u64,
    pub taken: u64,
    pub atomics: u64,
    pub msr_writes: u64,
    pub cr_writes: u64,
    pub serialising: u64,
    pub device_accesses: u64,
    pub code_lines: u64,
    pub code_pages: u64,
    pub data_lines: u64,
    pub data_pages: u64,
}

/// Cache lines of data that more than one CPU touched.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Shared {
    pub lines: u64,
    /// Those of them that somebody wrote.
    pub written: u64,
    pub pages: u64,
}

/// Returns every instruction of a sample, including the measurement's.
pub fn lines(recording: &Recording, decoded: &[Decoded], origins: &[Origin], sample: &Sample) -> Vec<Line> {
    let mut phases: BTreeMap<u8, Option<Phase>> = BTreeMap::new();
    let mut all: Vec<Line> = Vec::with_capacity(sample.steps.len());
    for (at, step) in sample.steps.iter().enumerate() {
        let (code, origin) = (recording.code(step), &origins[step.code as usize]);
        let decoded = &decoded[step.code as usize];
        let phase = match origin.belongs {
            Some(Belongs::To(phase)) => Some(phase),
            Some(Belongs::ToItsCaller) => phases.get(&step.cpu).copied().flatten(),
            None => None,
        };
        phases.insert(step.cpu, phase);
        let uncounted = sample.uncounted(at);
        all.push(Line {
            cpu: step.cpu,
            pc: code.pc,
            text: decoded.text.clone(),
            phase: phase.filter(|_| uncounted.is_none()),
            uncounted,
            program: origin.program.clone(),
            symbol: origin.symbol.clone(),
            offset: origin.offset,
            inlined: origin.inlined.clone(),
            source: origin.source.as_ref().map(|source| format!("{}:{}", source.file, source.line)),
            class: decoded.class,
            taken: false,
            accesses: step.accesses.clone(),
            frames: origin.frames.clone(),
            place: code.place,
            length: decoded.length,
            shape: decoded.shape.clone(),
            gas: decoded.gas.clone(),
            mnemonic: decoded.name(),
        });
    }
    follow_branches(&mut all);
    all
}

/// Marks the branches that were taken: what the same CPU executed next is not what follows in
/// memory.
fn follow_branches(lines: &mut [Line]) {
    let mut next: BTreeMap<u8, u64> = BTreeMap::new();
    for line in lines.iter_mut().rev() {
        let behind = line.pc.wrapping_add(line.length);
        // The last branch of all has nothing behind it; one that always goes somewhere does.
        let went = next.get(&line.cpu).map_or(!line.class.conditional, |next| *next != behind);
        line.taken = line.class.branch && went;
        next.insert(line.cpu, line.pc);
    }
}

impl Counts {
    pub fn of<'a>(lines: impl Iterator<Item = &'a Line>) -> Counts {
        let mut counts = Counts::default();
        let mut code = BTreeSet::new();
        let mut data = BTreeSet::new();
        for line in lines {
            counts.add(line);
            code.extend(units(line.place, line.length, LINE));
            for access in line.accesses.iter().filter(|access| !access.device) {
                data.extend(units(access.address, access.bytes, LINE));
            }
        }
        counts.code_lines = code.len() as u64;
        counts.data_lines = data.len() as u64;
        counts.code_pages = pages(&code);
        counts.data_pages = pages(&data);
        counts
    }

    fn add(&mut self, line: &Line) {
        let class = &line.class;
        self.instructions += 1;
        self.branches += u64::from(class.branch);
        self.taken += u64::from(line.taken);
        self.atomics += u64::from(class.atomic);
        self.msr_writes += u64::from(class.msr_write);
        self.cr_writes += u64::from(class.cr_write);
        self.serialising += u64::from(class.serialising);
        for access in &line.accesses {
            self.device_accesses += u64::from(access.device);
            if access.write {
                self.stores += 1;
            } else {
                self.loads += 1;
            }
        }
    }
}

/// Returns the aligned units in which a stretch of memory lies.
fn units(start: u64, bytes: u64, unit: u64) -> impl Iterator<Item = u64> {
    start / unit..=(start + bytes.max(1) - 1) / unit
}

fn pages(lines: &BTreeSet<u64>) -> u64 {
    lines.iter().map(|line| line * LINE / PAGE).collect::<BTreeSet<_>>().len() as u64
}

impl Shared {
    pub fn of<'a>(lines: impl Iterator<Item = &'a Line>) -> Shared {
        let mut users: BTreeMap<u64, (BTreeSet<u8>, bool)> = BTreeMap::new();
        for line in lines {
            for access in line.accesses.iter().filter(|access| !access.device) {
                for unit in units(access.address, access.bytes, LINE) {
                    let (cpus, written) = users.entry(unit).or_default();
                    cpus.insert(line.cpu);
                    *written |= access.write;
                }
            }
        }
        users.retain(|_, (cpus, _)| cpus.len() > 1);
        Shared {
            lines: users.len() as u64,
            written: users.values().filter(|(_, written)| *written).count() as u64,
            pages: pages(&users.into_keys().collect()),
        }
    }
}

/// Lines made up for tests.
#[cfg(test)]
pub mod examples {
    use super::*;
    use crate::explain::decode::decode;

    pub fn line(cpu: u8, pc: u64, bytes: &[u8], phase: Phase) -> Line {
        let decoded = decode(pc, bytes);
        Line {
            cpu,
            pc,
            phase: Some(phase),
            uncounted: None,
            program: "kernel".to_owned(),
            symbol: "syscall_entry".to_owned(),
            offset: pc,
            inlined: None,
            source: Some(format!("a.s:{pc}")),
            class: decoded.class,
            taken: false,
            accesses: Vec::new(),
            frames: Arc::default(),
            place: pc,
            length: decoded.length,
            shape: decoded.shape.clone(),
            gas: decoded.gas.clone(),
            mnemonic: decoded.name(),
            text: decoded.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::examples::line;
    use super::*;
    use crate::explain::decode::decode;
    use crate::explain::record::examples::recording;

    fn access(address: u64, write: bool) -> Access {
        Access { address, bytes: 8, write, device: false }
    }

    fn origin(belongs: Option<Belongs>) -> Origin {
        Origin {
            program: "kernel".to_owned(),
            symbol: "f".to_owned(),
            offset: 0,
            inlined: None,
            frames: Arc::default(),
            source: None,
            belongs,
        }
    }

    #[test]
    fn what_belongs_to_its_caller_takes_the_phase_of_its_own_cpu() {
        let recording = recording(&[(0, 1, &[0x90]), (1, 2, &[0x90]), (0, 3, &[0x90]), (1, 4, &[0x90])]);
        let decoded: Vec<_> = recording.codes.iter().map(|code| decode(code.pc, &code.bytes)).collect();
        let origins = [
            origin(Some(Belongs::To(Phase::Ipc))),
            origin(Some(Belongs::To(Phase::Idle))),
            origin(Some(Belongs::ToItsCaller)),
            origin(None),
        ];
        let steps = recording.operations[0].steps.clone();
        let sample = Sample { steps, measuring: vec![1], faulted: vec![3] };
        let lines = lines(&recording, &decoded, &origins, &sample);
        let phases: Vec<_> = lines.iter().map(|line| line.phase).collect();
        assert_eq!(phases, [Some(Phase::Ipc), None, Some(Phase::Ipc), None]);
        let uncounted: Vec<_> = lines.iter().map(|line| line.uncounted).collect();
        assert_eq!(uncounted, [None, Some(Uncounted::Measurement), None, Some(Uncounted::Faulted)]);
    }

    #[test]
    fn branches_are_taken_where_the_same_cpu_goes_elsewhere() {
        let mut lines = vec![
            line(0, 0x100, &[0x74, 0x10], Phase::Checks), // je: falls through
            line(1, 0x900, &[0x90], Phase::Idle),
            line(0, 0x102, &[0x74, 0x10], Phase::Checks), // je: taken
            line(0, 0x114, &[0x90], Phase::Checks),
            line(0, 0x115, &[0x0f, 0x05], Phase::User), // syscall, the last of all
        ];
        follow_branches(&mut lines);
        let taken: Vec<bool> = lines.iter().map(|line| line.taken).collect();
        assert_eq!(taken, [false, false, true, false, true]);
    }

    #[test]
    fn lines_and_pages_are_counted_once() {
        let mut a = line(0, 0x103e, &[0x48, 0x8b, 0x03], Phase::Checks); // straddles two lines
        a.accesses = vec![access(0x2000, false), access(0x2008, true), access(0x203c, false)];
        let counts = Counts::of([&a, &a].into_iter());
        assert_eq!((counts.loads, counts.stores, counts.instructions), (4, 2, 2));
        assert_eq!((counts.data_lines, counts.data_pages), (2, 1));
        assert_eq!((counts.code_lines, counts.code_pages), (2, 1));
    }

    #[test]
    fn lines_are_shared_if_two_cpus_touch_them() {
        let mut here = line(0, 0, &[0x90], Phase::Ipc);
        here.accesses = vec![access(0x1000, true), access(0x1040, false), access(0x1080, true)];
        let mut there = line(1, 0, &[0x90], Phase::Ipc);
        there.accesses = vec![access(0x1008, false), access(0x1048, false)];
        let shared = Shared::of([&here, &there].into_iter());
        assert_eq!(shared, Shared { lines: 2, written: 1, pages: 1 });
    }
}
