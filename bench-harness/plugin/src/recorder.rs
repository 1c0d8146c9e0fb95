//! The recording: every instruction of a few operations, of all CPUs, in the order of execution.
//!
//! In region [`SAMPLE`] the recorder records from each *begin* to the *end* on the same CPU,
//! including everything that other CPUs execute meanwhile. In any other region it records the
//! stretch between two *op* marks, on the CPUs that are in the region. It never records markers and
//! skipped code.
//!
//! The file, numbers little-endian:
//!
//! ```text
//! "AURREC1\n"
//! 'C' pc:u64 place:u64 length:u8 bytes     an instruction, numbered from 0 in the order of these; place is
//!                                          its host address, which tells apart what lies at one pc
//! 'B' cpu:u8                               an operation begins, by this CPU
//! 'I' cpu:u8 number:u32                    this CPU executes that instruction
//! 'M' cpu:u8 kind:u8 log2:u8 address:u64   … and accesses 1 << log2 bytes; kind bit 0: writes, bit 1: of a
//!                                          device (address is virtual then, else physical)
//! 'E' cpu:u8                               the operation is complete
//! ```

use std::collections::HashMap;

use crate::marker::Marker;

/// The region that lies around each sample of a bench row.
pub const SAMPLE: u8 = 2;
const MAGIC: &[u8] = b"AURREC1\n";
/// Operations that are recorded if nobody says how many.
const OPERATIONS: u64 = 9;

/// What to record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub region: u8,
    /// Operations to let pass first.
    pub skip: u64,
    /// Operations to record.
    pub operations: u64,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted { region: SAMPLE, skip: 0, operations: OPERATIONS }
    }
}

impl Wanted {
    /// Takes one of the plugin's arguments; `false` if it is none of these.
    pub fn set(&mut self, key: &str, value: &str) -> bool {
        let Ok(number) = value.parse::<u64>() else { return false };
        match key {
            "region" => match u8::try_from(number) {
                Ok(region) => self.region = region,
                Err(_) => return false,
            },
            "skip" => self.skip = number,
            "ops" => self.operations = number,
            _ => return false,
        }
        true
    }
}

/// An instruction as it stands in the guest's memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Code {
    pub pc: u64,
    pub place: u64,
    pub bytes: Vec<u8>,
}

/// One access to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    pub address: u64,
    /// Logarithm of the number of bytes.
    pub log2: u8,
    pub write: bool,
    pub device: bool,
}

pub struct Recorder {
    wanted: Wanted,
    file: Vec<u8>,
    numbers: HashMap<Code, u32>,
    /// The CPU whose operation is being recorded.
    owner: Option<u8>,
    passed: u64,
    recorded: u64,
    /// CPUs in the region, as a bit set.
    working: u64,
}

impl Recorder {
    pub fn new(wanted: Wanted) -> Recorder {
        Recorder {
            wanted,
            file: MAGIC.to_vec(),
            numbers: HashMap::new(),
            owner: None,
            passed: 0,
            recorded: 0,
            working: 0,
        }
    }

    /// Returns the number of an instruction, and describes it in the recording the first time.
    pub fn number(&mut self, code: Code) -> u32 {
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry(code.clone()).or_insert(next);
        if number == next {
            self.file.push(b'C');
            self.file.extend(code.pc.to_le_bytes());
            self.file.extend(code.place.to_le_bytes());
            self.file.push(code.bytes.len() as u8);
            self.file.extend(code.bytes);
        }
        number
    }

    /// Takes a marker that a CPU executed.
    pub fn mark(&mut self, cpu: u8, marker: Marker) {
        let id = self.wanted.region;
        match marker {
            Marker::Begin(region) if region == id => {
                self.working |= bit(cpu);
                if id == SAMPLE {
                    self.begin(cpu);
                }
            }
            Marker::End(region) if region == id => {
                self.working &= !bit(cpu);
                self.end(cpu, id == SAMPLE);
            }
            Marker::Op(region) if region == id => {
                self.end(cpu, true);
                self.begin(cpu);
            }
            _ => {}
        }
    }

    fn begin(&mut self, cpu: u8) {
        if self.owner.is_some() || self.recorded == self.wanted.operations {
            return;
        }
        self.passed += 1;
        if self.passed > self.wanted.skip {
            self.owner = Some(cpu);
            self.file.extend([b'B', cpu]);
        }
    }

    /// Ends the operation of a CPU. Without `complete`, the recording has no end for it.
    fn end(&mut self, cpu: u8, complete: bool) {
        if self.owner != Some(cpu) {
            return;
        }
        self.owner = None;
        if complete {
            self.recorded += 1;
            self.file.extend([b'E', cpu]);
        }
    }

    /// Returns whether the recorder takes what this CPU executes.
    pub fn is_watched(&self, cpu: u8) -> bool {
        self.owner.is_some() && (self.wanted.region == SAMPLE || self.working & bit(cpu) != 0)
    }

    /// Records that a CPU executes the instruction with this number.
    pub fn instruction(&mut self, cpu: u8, number: u32) {
        if self.is_watched(cpu) {
            self.file.extend([b'I', cpu]);
            self.file.extend(number.to_le_bytes());
        }
    }

    /// Records an access to memory by the instruction that the CPU executes.
    pub fn access(&mut self, cpu: u8, access: Access) {
        if self.is_watched(cpu) {
            let kind = u8::from(access.write) | u8::from(access.device) << 1;
            self.file.extend([b'M', cpu, kind, access.log2]);
            self.file.extend(access.address.to_le_bytes());
        }
    }

    /// Returns the bytes of the recording's file.
    pub fn file(&self) -> &[u8] {
        &self.file
    }
}

fn bit(cpu: u8) -> u64 {
    1 << (cpu % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(pc: u64) -> Code {
        Code { pc, place: pc + 1, bytes: vec![0x90] }
    }

    /// The tags and CPUs of what was recorded, descriptions left out.
    fn events(recorder: &Recorder) -> String {
        let mut rest = &recorder.file()[MAGIC.len()..];
        let mut text = String::new();
        while let [tag, cpu, ..] = *rest {
            let length = match tag {
                b'C' => 18 + usize::from(rest[17]),
                b'I' => 6,
                b'M' => 12,
                _ => 2,
            };
            if tag != b'C' {
                text += &format!("{}{cpu} ", char::from(tag));
            }
            rest = &rest[length..];
        }
        text
    }

    fn recorder(region: u8, skip: u64, operations: u64) -> Recorder {
        Recorder::new(Wanted { region, skip, operations })
    }

    #[test]
    fn a_sample_is_what_all_cpus_do_between_begin_and_end() {
        let mut it = recorder(SAMPLE, 0, 1);
        let nop = it.number(code(1));
        for _ in 0..3 {
            it.mark(0, Marker::Begin(SAMPLE));
            it.mark(1, Marker::Begin(SAMPLE)); // another client's sample, at the same time
            it.instruction(0, nop);
            it.access(0, Access { address: 64, log2: 3, write: true, device: false });
            it.mark(1, Marker::End(SAMPLE));
            it.instruction(1, nop);
            it.mark(0, Marker::End(SAMPLE));
            it.instruction(0, nop);
        }
        assert_eq!(events(&it), "B0 I0 M0 I1 E0 ");
    }

    #[test]
    fn the_first_samples_may_be_left_out() {
        let mut it = recorder(SAMPLE, 2, 1);
        let nop = it.number(code(1));
        for cpu in 0..4 {
            it.mark(cpu, Marker::Begin(SAMPLE));
            it.instruction(cpu, nop);
            it.mark(cpu, Marker::End(SAMPLE));
        }
        assert_eq!(events(&it), "B2 I2 E2 ");
    }

    #[test]
    fn a_region_is_recorded_from_operation_to_operation() {
        let mut it = recorder(1, 0, 2);
        let nop = it.number(code(1));
        it.mark(0, Marker::Begin(1));
        it.mark(1, Marker::Begin(1));
        it.instruction(0, nop); // before the first operation
        for _ in 0..4 {
            it.mark(0, Marker::Op(1));
            it.instruction(0, nop);
            it.instruction(1, nop);
            it.instruction(2, nop); // in no region
        }
        assert_eq!(events(&it), "B0 I0 I1 E0 B0 I0 I1 E0 ");
    }

    #[test]
    fn what_is_cut_off_has_no_end() {
        let mut it = recorder(1, 0, 2);
        it.mark(0, Marker::Begin(1));
        it.mark(0, Marker::Op(1));
        it.mark(0, Marker::End(1));
        assert_eq!(events(&it), "B0 ");
    }

    #[test]
    fn an_instruction_is_described_once_and_again_where_it_changes() {
        let mut it = recorder(SAMPLE, 0, 1);
        assert_eq!((it.number(code(1)), it.number(code(2)), it.number(code(1))), (0, 1, 0));
        assert_eq!(it.number(Code { bytes: vec![0xcc], ..code(1) }), 2);
    }

    #[test]
    fn arguments_are_numbers() {
        let mut wanted = Wanted::default();
        assert!(wanted.set("region", "1") && wanted.set("skip", "5") && wanted.set("ops", "2"));
        assert_eq!(wanted, Wanted { region: 1, skip: 5, operations: 2 });
        assert!(!wanted.set("region", "300") && !wanted.set("ops", "x") && !wanted.set("other", "1"));
    }
}
