//! Selects one operation of a recording, and the instructions of it that the bench row counts.
//!
//! The recording contains both time stamps of a sample completely. The row counts from the first
//! RDTSC (included) to the second (excluded), and subtracts the count of an empty measurement. This
//! module recognises the instructions of the measurement: the RDTSC, its fence, the two
//! instructions that combine its halves and the one that stores the result; and the fence before
//! the second RDTSC. If the CPU that begins takes one time stamp only, the next one of another CPU
//! ends the operation.
//!
//! An instruction that faults is recorded when it begins, and is not executed: icount does not
//! count it. It is recognised by a missing memory access: its CPU entered the kernel before the
//! access was made.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use iced_x86::Mnemonic;

use super::decode::Decoded;
use super::record::{Operation, Recording, Step};
use super::story::Uncounted;

/// Kernel addresses have their top bit set.
const KERNEL: u64 = 1 << 63;

/// What belongs to the measurement before and after the operation: none of it may be missing.
const BEFORE: &[Mnemonic] = &[Mnemonic::Rdtsc, Mnemonic::Lfence, Mnemonic::Shl, Mnemonic::Or];
/// How many of the user's next instructions may be the one that keeps the first time stamp.
const KEPT_WITHIN: usize = 8;

/// The stretch that is counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    pub steps: Vec<Step>,
    /// Steps that are of the measurement, by index.
    pub measuring: Vec<usize>,
    /// Steps that faulted, by index.
    pub faulted: Vec<usize>,
}

impl Sample {
    /// Returns how many instructions were executed, including the measurement's.
    pub fn executed(&self) -> u64 {
        (self.steps.len() - self.faulted.len()) as u64
    }

    /// Returns why a step does not count.
    pub fn uncounted(&self, step: usize) -> Option<Uncounted> {
        if self.measuring.contains(&step) {
            Some(Uncounted::Measurement)
        } else {
            self.faulted.contains(&step).then_some(Uncounted::Faulted)
        }
    }
}

/// How a row's operations are delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// By time stamps.
    Stamps,
    /// As they were recorded, from mark to mark.
    Marks,
}

/// Cuts the instructions that count out of `operation`.
pub fn cut(recording: &Recording, decoded: &[Decoded], operation: &Operation, cut: Cut) -> Result<Sample> {
    if cut == Cut::Marks {
        let steps = operation.steps.clone();
        return Ok(Sample { faulted: faulted(recording, decoded, &steps), steps, measuring: Vec::new() });
    }
    let mnemonic = |step: &Step| decoded[step.code as usize].mnemonic;
    let is_user = |step: &Step| recording.code(step).pc & KERNEL == 0;
    let is_own = |step: &Step| step.cpu == operation.owner && is_user(step);
    let is_stamp = |step: &Step| is_user(step) && mnemonic(step) == Mnemonic::Rdtsc;
    let is_own_stamp = |step: &Step| step.cpu == operation.owner && is_stamp(step);
    let all = &operation.steps;
    let Some(first) = all.iter().position(is_own_stamp) else { bail!("the operation has no time stamps") };
    let last = all.iter().rposition(is_own_stamp).filter(|last| *last != first);
    let elsewhere = || (first + 1..all.len()).find(|&at| is_stamp(&all[at]));
    let Some(last) = last.or_else(elsewhere) else { bail!("the operation has only one time stamp") };
    let steps = all[first..last].to_vec();
    let own: Vec<usize> = (0..steps.len()).filter(|&at| is_own(&steps[at])).collect();
    let begins = own.iter().map(|&at| mnemonic(&steps[at])).take(BEFORE.len()).eq(BEFORE.iter().copied());
    let end = steps.iter().rposition(|step| step.cpu == all[last].cpu);
    let ends = end.filter(|&at| is_user(&steps[at]) && mnemonic(&steps[at]) == Mnemonic::Lfence);
    let Some(end) = ends.filter(|_| begins && own.len() > BEFORE.len()) else {
        bail!("the time stamps are not taken in a way that this program knows");
    };
    let mut measuring = own[..BEFORE.len()].to_vec();
    let keeps = |at: &&usize| is_kept(&decoded[steps[**at].code as usize]);
    measuring.extend(own[BEFORE.len()..].iter().take(KEPT_WITHIN).find(keeps));
    measuring.push(end);
    Ok(Sample { faulted: faulted(recording, decoded, &steps), steps, measuring })
}

/// Returns the steps of programs whose access to memory faulted, so that the kernel follows.
fn faulted(recording: &Recording, decoded: &[Decoded], steps: &[Step]) -> Vec<usize> {
    let in_kernel = |step: &Step| recording.code(step).pc & KERNEL != 0;
    let mut next: BTreeMap<u8, bool> = BTreeMap::new();
    let mut found = Vec::new();
    for (at, step) in steps.iter().enumerate().rev() {
        let class = decoded[step.code as usize].class;
        let made = !step.accesses.is_empty() || !(class.loads || class.stores);
        let interrupted = next.insert(step.cpu, in_kernel(step)) == Some(true);
        if interrupted && !made && !in_kernel(step) {
            found.push(at);
        }
    }
    found.reverse();
    found
}

/// Returns whether an instruction copies the time stamp from RAX.
fn is_kept(decoded: &Decoded) -> bool {
    decoded.mnemonic == Mnemonic::Mov && decoded.shape.ends_with(" RAX")
}

/// Returns the index of the operation to explain: the first of `wanted` length, else the median.
pub fn typical(lengths: &[u64], wanted: Option<u64>) -> Option<usize> {
    if let Some(index) = lengths.iter().position(|length| Some(*length) == wanted) {
        return Some(index);
    }
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    order.get(lengths.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::decode::decode;
    use crate::explain::record::Access;
    use crate::explain::record::examples::recording;

    const RDTSC: &[u8] = &[0x0f, 0x31];
    const LFENCE: &[u8] = &[0x0f, 0xae, 0xe8];
    const SHL: &[u8] = &[0x48, 0xc1, 0xe2, 0x20];
    const OR: &[u8] = &[0x48, 0x09, 0xd0];
    const KEEP: &[u8] = &[0x48, 0x89, 0x44, 0x24, 0x10]; // mov [rsp+0x10], rax
    const NOP: &[u8] = &[0x90];
    const IN_KERNEL: u64 = 0xffff_ffff_8000_0000;

    fn cut_of(steps: &[(u8, u64, &[u8])]) -> Result<Sample> {
        let recording = recording(steps);
        let decoded: Vec<Decoded> = recording.codes.iter().map(|code| decode(code.pc, &code.bytes)).collect();
        cut(&recording, &decoded, &recording.operations[0], Cut::Stamps)
    }

    #[test]
    fn the_sample_is_between_the_time_stamps_less_the_empty_measurement() {
        let sample = cut_of(&[
            (0, 1, LFENCE),
            (0, 2, RDTSC),
            (0, 3, LFENCE),
            (1, 4, RDTSC), // another CPU's
            (0, 5, SHL),
            (0, 6, OR),
            (0, 7, NOP),
            (0, 8, KEEP),
            (0, IN_KERNEL, RDTSC),
            (0, 9, LFENCE),
            (0, 10, RDTSC),
            (0, 11, LFENCE),
        ])
        .expect("is a sample");
        assert_eq!(sample.steps.len(), 9);
        assert_eq!(sample.measuring, [0, 1, 3, 4, 6, 8]);
    }

    #[test]
    fn an_operation_may_end_on_another_cpu() {
        let sample = cut_of(&[
            (0, 1, RDTSC),
            (0, 2, LFENCE),
            (0, 3, SHL),
            (0, 4, OR),
            (0, 5, KEEP),
            (0, IN_KERNEL, NOP),
            (1, 6, LFENCE),
            (0, 7, NOP),
            (1, 8, RDTSC),
            (1, 9, LFENCE),
            (1, 10, RDTSC), // the next operation's
        ])
        .expect("is a sample");
        assert_eq!((sample.steps.len(), sample.measuring.as_slice()), (8, [0, 1, 2, 3, 4, 6].as_slice()));
    }

    #[test]
    fn what_faults_is_not_executed() {
        const LOAD: &[u8] = &[0x8a, 0x07]; // mov al, [rdi]
        let mut recording = recording(&[
            (0, 1, LOAD), // made
            (0, IN_KERNEL, NOP),
            (0, 2, LOAD),         // faults
            (1, 3, LOAD),         // the last of its CPU
            (0, IN_KERNEL, LOAD), // goes on into a program
            (0, 4, NOP),          // an interrupt behind it
            (0, IN_KERNEL, NOP),
        ]);
        let operation = &mut recording.operations[0];
        operation.steps[0].accesses.push(Access { address: 0, bytes: 1, write: false, device: false });
        let decoded: Vec<Decoded> = recording.codes.iter().map(|code| decode(code.pc, &code.bytes)).collect();
        let sample = cut(&recording, &decoded, &recording.operations[0], Cut::Marks).expect("is a sample");
        assert_eq!((sample.faulted.as_slice(), sample.executed()), ([2].as_slice(), 6));
        assert_eq!((sample.uncounted(2), sample.uncounted(3)), (Some(Uncounted::Faulted), None));
    }

    #[test]
    fn other_ways_to_measure_are_refused() {
        assert!(cut_of(&[(0, 1, NOP)]).is_err());
        assert!(cut_of(&[(0, 1, RDTSC), (0, 2, NOP)]).is_err());
        assert!(cut_of(&[(0, 1, RDTSC), (0, 2, NOP), (0, 3, RDTSC)]).is_err());
    }

    #[test]
    fn the_typical_operation_has_the_rows_figure_or_is_the_median() {
        assert_eq!(typical(&[9, 8, 7], Some(7)), Some(2));
        assert_eq!(typical(&[9, 1, 5, 2], Some(7)), Some(3));
        assert_eq!(typical(&[], Some(7)), None);
    }
}
