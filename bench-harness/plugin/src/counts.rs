//! The counting: regions, instructions, samples, and the ownership of cache lines.

use std::collections::HashMap;
use std::fmt::Write;

use instructions::Class;

use crate::marker::Marker;
use crate::work::Work;

/// CPUs that can be told apart as holders of a line.
pub const CPUS: usize = 64;
pub const LINE_SHIFT: u32 = 6;

/// Everything counted so far.
#[derive(Default)]
pub struct Counts {
    regions: Vec<Region>,
    /// Which region each CPU works for: an index into `regions`.
    working: Vec<Option<usize>>,
    /// What each CPU does about interrupts.
    gates: Vec<Gate>,
    /// The counts of the samples of rows.
    work: Work,
}

/// Region around every sample of every row.
const SAMPLES: u8 = 2;

#[derive(Default)]
struct Region {
    id: u8,
    ops: u64,
    /// Per CPU.
    instructions: Vec<u64>,
    total: u64,
    /// The counts at the end of the first and of the last operation.
    span: Option<[Sum; 2]>,
    samples: Vec<u64>,
    lines: HashMap<u64, Line>,
    /// Lines that changed hands.
    moves: u64,
    /// Per CPU: instructions since interrupts were on.
    off: Vec<u64>,
    /// The most of these.
    longest_off: u64,
}

/// What an instruction is to interrupts. The kernel keeps them off, but where it waits or leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Where {
    User,
    /// In user mode: a system call.
    UserCalls,
    Kernel,
    /// In the kernel: interrupts are on behind the next instruction.
    KernelOpens,
    /// In the kernel, and interrupts are on behind it.
    KernelLeaves,
}

/// What a CPU does about interrupts.
#[derive(Clone, Copy)]
struct Gate {
    /// The region that it works for after an interrupt, until it is back in user mode.
    region: Option<usize>,
    is_open: bool,
    /// Where it executed its last instruction.
    last: Where,
}

/// What a region came to so far.
#[derive(Clone, Copy, Default)]
struct Sum {
    instructions: u64,
    moves: u64,
}

/// What the region's CPUs know of a cache line.
#[derive(Default)]
struct Line {
    /// Bit set of CPUs that hold a valid copy.
    holders: u64,
    written: bool,
}

impl Counts {
    fn region(&mut self, id: u8) -> usize {
        if let Some(at) = self.regions.iter().position(|region| region.id == id) {
            return at;
        }
        self.regions.push(Region { id, ..Region::default() });
        self.regions.len() - 1
    }

    fn working_for(&mut self, cpu: usize) -> &mut Option<usize> {
        if self.working.len() <= cpu {
            self.working.resize(cpu + 1, None);
        }
        &mut self.working[cpu]
    }

    fn gate_of(&mut self, cpu: usize) -> &mut Gate {
        if self.gates.len() <= cpu {
            self.gates.resize(cpu + 1, Gate { region: None, is_open: false, last: Where::Kernel });
        }
        &mut self.gates[cpu]
    }

    /// Takes a marker that a CPU executed.
    pub fn mark(&mut self, cpu: usize, marker: Marker) {
        // Programs have markers; what they skip is a program's, too.
        self.look_for_gate(cpu, Where::User);
        match marker {
            Marker::Begin(id) => {
                let region = self.region(id);
                *self.working_for(cpu) = Some(region);
                if id == SAMPLES {
                    self.work.begin();
                }
            }
            Marker::End(id) => {
                let region = self.region(id);
                let working = self.working_for(cpu);
                if *working == Some(region) {
                    *working = None;
                    if id == SAMPLES {
                        self.work.end();
                    }
                }
            }
            Marker::Op(id) => {
                let region = self.region(id);
                self.regions[region].op();
                for gate in self.gates.iter_mut().filter(|gate| gate.region == Some(region)) {
                    (gate.region, gate.is_open) = (None, false);
                }
            }
            Marker::Gate(id) => self.gate_of(cpu).region = Some(self.region(id)),
            Marker::Row => self.work.next_row(),
            Marker::Skip(_) | Marker::Due | Marker::Woke(_) | Marker::Stretches(_) => {}
        }
    }

    /// Counts an instruction, which is no marker, that a CPU executed.
    pub fn instruction(&mut self, cpu: usize, place: Where, class: Class) {
        self.work.instruction(class);
        if let Some(region) = self.look_for_gate(cpu, place) {
            self.regions[region].instruction(cpu, place);
        }
        if let Some(region) = *self.working_for(cpu) {
            self.regions[region].instruction(cpu, place);
        }
    }

    /// Opens the gate of a CPU that has been interrupted: it is in the kernel, and has made no
    /// system call. Closes it where the CPU is back in user mode. Returns the region for which it
    /// works.
    fn look_for_gate(&mut self, cpu: usize, place: Where) -> Option<usize> {
        let gate = self.gate_of(cpu);
        let last = std::mem::replace(&mut gate.last, place);
        match place {
            Where::User | Where::UserCalls => gate.is_open = false,
            _ if matches!(last, Where::User | Where::KernelLeaves) => gate.is_open = true,
            _ => {}
        }
        gate.region.filter(|_| gate.is_open)
    }

    /// Returns whether the counts take anything that this CPU executes.
    pub fn is_watched(&mut self, cpu: usize) -> bool {
        self.work.is_open() || self.working_for(cpu).is_some()
    }

    /// Counts an access of a CPU to `bytes` bytes of memory at a physical address.
    pub fn access(&mut self, cpu: usize, address: u64, bytes: u64, write: bool) {
        if self.work.is_open() {
            self.work.access(cpu, address, bytes, write);
        }
        let Some(region) = *self.working_for(cpu) else { return };
        let (first, last) = (address >> LINE_SHIFT, (address + bytes.max(1) - 1) >> LINE_SHIFT);
        for line in first..=last {
            self.regions[region].access(cpu, line, write);
        }
    }

    /// Returns the text of the output file.
    pub fn json(&mut self) -> String {
        let regions: Vec<String> = self.regions.iter().map(Region::json).collect();
        format!("{{\"regions\":[{}],\"work\":{}}}\n", regions.join(","), self.work.json())
    }
}

impl Region {
    fn op(&mut self) {
        self.ops += 1;
        let now = Sum { instructions: self.total, moves: self.moves };
        if let Some([_, last]) = self.span {
            self.samples.push(now.instructions - last.instructions);
        }
        self.span = Some([self.span.map_or(now, |[first, _]| first), now]);
    }

    fn instruction(&mut self, cpu: usize, place: Where) {
        if self.instructions.len() <= cpu {
            self.instructions.resize(cpu + 1, 0);
            self.off.resize(cpu + 1, 0);
        }
        self.instructions[cpu] += 1;
        self.total += 1;
        let off = if matches!(place, Where::User | Where::UserCalls) { 0 } else { self.off[cpu] + 1 };
        self.longest_off = self.longest_off.max(off);
        let opens = matches!(place, Where::KernelOpens | Where::KernelLeaves);
        self.off[cpu] = if opens { 0 } else { off };
    }

    fn access(&mut self, cpu: usize, line: u64, write: bool) {
        let me = 1_u64 << (cpu % CPUS);
        let line = self.lines.entry(line).or_default();
        let moved = if write { line.holders & !me != 0 } else { line.holders & me == 0 };
        if line.written && moved {
            self.moves += 1;
        }
        if write {
            *line = Line { holders: me, written: true };
        } else {
            line.holders |= me;
        }
    }

    fn json(&self) -> String {
        let mut samples = self.samples.clone();
        samples.sort_unstable();
        // Nearest rank; an empty list has no percentiles.
        let rank = |percent: usize| {
            let at = (samples.len() * percent).div_ceil(100).max(1) - 1;
            samples.get(at).copied().unwrap_or(0)
        };
        let mut text =
            format!("{{\"id\":{},\"ops\":{},\"instructions\":{:?},", self.id, self.ops, self.instructions);
        let min = samples.first().copied().unwrap_or(0);
        let most = samples.last().copied().unwrap_or(0);
        let [first, last] = self.span.unwrap_or_default();
        let _ = write!(
            text,
            "\"span\":{{\"instructions\":{},\"lines\":{}}},\"sample\":{{\"n\":{},\"min\":{min},\"p50\":{},\"p99\":{},\"max\":{most}}},\"lines\":{},\"longest_off\":{}}}",
            last.instructions - first.instructions,
            last.moves - first.moves,
            samples.len(),
            rank(50),
            rank(99),
            self.moves,
            self.longest_off
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: u8 = 1;

    fn started(cpus: usize) -> Counts {
        let mut counts = Counts::default();
        (0..cpus).for_each(|cpu| counts.mark(cpu, Marker::Begin(R)));
        counts
    }

    fn moves(counts: &Counts) -> u64 {
        counts.regions[0].moves
    }

    #[test]
    fn an_operation_costs_what_all_cpus_did_since_the_last() {
        let mut counts = started(2);
        for round in 0..4 {
            (0..100 + round).for_each(|_| counts.instruction(0, Where::User, Class::default()));
            (0..50).for_each(|_| counts.instruction(1, Where::User, Class::default()));
            counts.instruction(7, Where::User, Class::default()); // in no region
            counts.mark(0, Marker::Op(R));
        }
        counts.access(0, 0x1000, 8, true);
        counts.access(1, 0x1000, 8, true); // after the last operation
        counts.mark(1, Marker::End(R));
        counts.instruction(1, Where::User, Class::default());
        assert_eq!(counts.regions[0].samples, [151, 152, 153]);
        assert_eq!(counts.regions[0].instructions, [406, 200]);
        let json = counts.json();
        assert!(
            json.contains(
                r#""span":{"instructions":456,"lines":0},"sample":{"n":3,"min":151,"p50":152,"p99":153,"max":153}"#
            ),
            "{json}"
        );
    }

    /// A driver waits, its CPU idles, and an interrupt comes, on this CPU or on another one first.
    #[test]
    fn a_gate_counts_from_the_interrupt_to_the_operation() {
        const IRQ: u8 = 9;
        let mut counts = Counts::default();
        let run = |counts: &mut Counts, cpu: usize, place: Where, times: u64| {
            (0..times).for_each(|_| counts.instruction(cpu, place, Class::default()));
        };
        for round in 0..4 {
            run(&mut counts, 1, Where::User, 10);
            counts.mark(1, Marker::Gate(IRQ));
            run(&mut counts, 1, Where::UserCalls, 1);
            run(&mut counts, 1, Where::Kernel, 100);
            // STI, and HLT behind it.
            run(&mut counts, 1, Where::KernelOpens, 1);
            run(&mut counts, 1, Where::KernelLeaves, 1);
            if round == 3 {
                counts.mark(0, Marker::Gate(IRQ));
                run(&mut counts, 0, Where::User, 1);
                run(&mut counts, 0, Where::Kernel, 30);
                run(&mut counts, 0, Where::KernelLeaves, 1);
                run(&mut counts, 0, Where::User, 8);
                run(&mut counts, 0, Where::UserCalls, 1);
                run(&mut counts, 0, Where::Kernel, 200);
            }
            run(&mut counts, 1, Where::Kernel, 50 + round);
            run(&mut counts, 1, Where::KernelLeaves, 1);
            run(&mut counts, 1, Where::User, 1);
            counts.mark(1, Marker::Op(IRQ));
            run(&mut counts, 0, Where::Kernel, 5);
            run(&mut counts, 1, Where::User, 7);
        }
        assert_eq!(counts.regions[0].samples, [52, 53, 85], "the first operation gives no sample");
    }

    #[test]
    fn private_and_read_only_lines_never_move() {
        let mut counts = started(2);
        for _ in 0..10 {
            counts.access(0, 0x1000, 8, true);
            counts.access(1, 0x1040, 8, true);
            counts.access(0, 0x2000, 8, false);
            counts.access(1, 0x2000, 8, false);
        }
        assert_eq!(moves(&counts), 0);
    }

    #[test]
    fn a_line_written_here_and_read_there_moves_each_way() {
        let mut counts = started(2);
        counts.access(0, 0x1000, 8, true);
        for _ in 0..10 {
            counts.access(1, 0x1000, 8, false); // takes it
            counts.access(1, 0x1008, 8, false); // has it
            counts.access(0, 0x1000, 8, true); // takes it back
        }
        assert_eq!(moves(&counts), 20);
    }

    #[test]
    fn what_straddles_two_lines_touches_both() {
        let mut counts = started(2);
        counts.access(0, 0x103c, 8, true);
        counts.access(1, 0x103c, 4, false);
        counts.access(1, 0x1040, 4, false);
        assert_eq!(moves(&counts), 2);
    }

    #[test]
    fn interrupts_are_off_from_entry_to_exit_or_to_where_the_kernel_waits() {
        let mut counts = started(2);
        let mut run =
            |cpu, place, times| (0..times).for_each(|_| counts.instruction(cpu, place, Class::default()));
        run(0, Where::User, 9);
        run(0, Where::Kernel, 3);
        run(1, Where::Kernel, 2); // another CPU's are its own
        run(0, Where::User, 1);
        run(0, Where::Kernel, 4);
        run(0, Where::KernelOpens, 1);
        run(0, Where::Kernel, 4);
        assert_eq!(counts.regions[0].longest_off, 5);
        assert!(counts.json().contains(r#""longest_off":5"#));
    }

    #[test]
    fn outside_a_region_nothing_counts() {
        let mut counts = started(1);
        counts.access(0, 0x1000, 8, true);
        counts.access(1, 0x1000, 8, true);
        assert_eq!(moves(&counts), 0);
        assert!(counts.is_watched(0) && !counts.is_watched(1));
    }
}
