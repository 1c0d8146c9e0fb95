//! Sends the rings of trace events to the log port, as records, when the machine ends.
//!
//! The machine ends by itself, by a panic, or because the host's timeout passed and the host
//! pressed the NMI button.
//!
//! First tracing stops: no CPU begins an event any more, and CPUs get time to finish events that
//! they have begun. So the last events are not overwritten during the output. Each record begins
//! with a [`RingPart`]; a ring's last record has no events.

use core::sync::atomic::{AtomicBool, Ordering};
use smp::cpu::CpuId;
use smp::ring::{Read, Reader};
use smp::trace;
use test_abi::trace::{EVENT_BYTES, RingPart, TRACE_CHANNEL};

use super::desk::PAYLOAD;
use super::logport;
use crate::cpu::{percpu, time};

const RECORD: usize = RingPart::BYTES + (PAYLOAD - RingPart::BYTES) / EVENT_BYTES * EVENT_BYTES;
/// Turns of a loop that a CPU has to finish its event in.
const PATIENCE: u32 = 100_000;

/// Writes all rings to the log port. Another CPU that ends the machine meanwhile stops here, so
/// that it does not cut them off.
pub fn export() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::AcqRel) {
        super::exit::halt();
    }
    let stopped = trace::stop();
    (0..PATIENCE).for_each(|_| core::hint::spin_loop());
    let tsc_hz = time::tsc_hz();
    let mut record = [0; RECORD];
    for cpu in (0..percpu::count()).filter_map(CpuId::new) {
        export_ring(cpu, RingPart { cpu: cpu.raw(), events: 0, first: 0, tsc_hz, stopped }, &mut record);
    }
}

/// Writes one ring, record by record.
fn export_ring(cpu: CpuId, part: RingPart, record: &mut [u8; RECORD]) {
    let mut reader = Reader::default();
    loop {
        let (first, events) = fill(cpu, &mut reader, &mut record[RingPart::BYTES..]);
        let part = RingPart { first, events: events as u32, ..part };
        record[..RingPart::BYTES].copy_from_slice(&part.encode());
        logport::record(TRACE_CHANNEL, &record[..RingPart::BYTES + events * EVENT_BYTES]);
        if events == 0 {
            return;
        }
    }
}

/// Fills a record with events that follow each other: the number of the first, and how many.
fn fill(cpu: CpuId, reader: &mut Reader, bytes: &mut [u8]) -> (u64, usize) {
    let (mut first, mut events) = (reader.position(), 0);
    for place in bytes.chunks_exact_mut(EVENT_BYTES) {
        let entry = loop {
            match trace::read(cpu, reader) {
                Some(Read::Event(entry)) => break entry,
                Some(Read::Lost(_)) if events == 0 => first = reader.position(),
                Some(Read::Lost(_)) | None => return (first, events),
            }
        };
        for (bytes, word) in place.chunks_exact_mut(8).zip(entry) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        events += 1;
    }
    (first, events)
}
