//! Records under interruption, between CPUs and at the end of the machine. A test simulates an
//! interruption by calling its handler at each place where it may occur.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::vec::Vec;

use spin::mutex::TicketMutex;

use super::*;

/// Reads the wire as a host does: channel and payload of each record. Panics if it has anything
/// else.
fn read(mut wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut records = Vec::new();
    while let [mark, channel, low, high, rest @ ..] = wire {
        assert_eq!(*mark, MARK, "a record begins where the last one ended");
        let (payload, rest) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])));
        records.push((*channel, payload.to_vec()));
        wire = rest;
    }
    assert!(wire.is_empty(), "a record is whole");
    records
}

/// Writes a record whose payload is `bytes` times its channel.
fn write(desk: &Desk, channel: u8, bytes: usize, mut send: impl FnMut(&[u8])) {
    desk.enter();
    (0..bytes).for_each(|_| desk.append(&[channel]));
    assert!(desk.finish(channel));
    loop {
        if desk.is_outermost() {
            desk.send(|bytes, _| send(bytes));
        }
        if !desk.leave() {
            return;
        }
    }
}

#[test]
fn a_record_may_come_in_the_middle_of_another() {
    // Long enough to be sent in several parts.
    const LONG: usize = 3 * CHUNK;
    let wire = Mutex::new(Vec::new());
    let desk = Desk::default();
    let interrupt = |channel, depth| {
        // Interrupting code sends nothing: the interrupted code does.
        write(&desk, channel, 5, |_| panic!("depth {depth} sends"));
    };
    desk.enter();
    desk.append(&[1; LONG]);
    interrupt(2, 1);
    desk.append(&[1; LONG]);
    assert!(desk.finish(1));
    interrupt(3, 1);
    let mut parts = 0;
    desk.send(|bytes, _| {
        wire.lock().expect("the wire").extend(bytes);
        parts += 1;
        match parts {
            2 => interrupt(4, 1),
            // An interruption that is interrupted.
            3 => {
                desk.enter();
                desk.append(b"first");
                write(&desk, 5, 7, |_| panic!("depth 2 sends"));
                assert!(desk.finish(6));
                assert!(!desk.leave());
            }
            _ => {}
        }
    });
    // One that comes after all was sent, and before the record is over.
    interrupt(7, 1);
    assert!(desk.leave(), "the outermost goes on for it");
    desk.send(|bytes, _| wire.lock().expect("the wire").extend(bytes));
    assert!(!desk.leave());
    let records = read(&wire.into_inner().expect("the wire"));
    let channels: Vec<u8> = records.iter().map(|record| record.0).collect();
    assert_eq!(records[0], (1, [1; 2 * LONG].to_vec()), "the interrupted one is whole");
    assert_eq!(channels, [1, 2, 3, 4, 6, 5, 7]);
    // Everything is as it was at the beginning.
    write(&desk, 8, 1, |bytes| assert_eq!(read(bytes), [(8, [8].to_vec())]));
}

#[test]
fn what_has_no_room_is_refused_and_costs_only_itself() {
    let desk = Desk::default();
    desk.enter();
    desk.append(&[0; PAGE]);
    desk.append(&[0; 1]);
    assert!(!desk.finish(1));
    assert!(!desk.leave());
    write(&desk, 2, PAGE - HEAD, |_| ());
    // No page is left at the fourth depth.
    (0..PAGES).for_each(|_| desk.enter());
    desk.enter();
    desk.append(b"too deep");
    assert!(!desk.finish(3));
    (0..=PAGES).for_each(|_| assert!(!desk.leave()));
    write(&desk, 4, 3, |bytes| assert_eq!(read(bytes), [(4, [4; 3].to_vec())]));
}

#[test]
fn a_cut_record_is_gone_on_with() {
    let desk = Desk::default();
    desk.enter();
    desk.append(&[1; 4 * CHUNK]);
    assert!(desk.finish(1));
    let mut wire = Vec::new();
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        desk.send(|bytes, _| {
            assert!(wire.len() < 2 * CHUNK, "the fault in the middle of a record");
            wire.extend(bytes);
        });
    }));
    assert!(cut.is_err() && desk.is_cut());
    // The CPU dies, and logs that.
    desk.enter();
    desk.append(b"died");
    assert!(desk.finish(2));
    desk.send(|bytes, _| wire.extend(bytes));
    assert_eq!(read(&wire), [(1, [1; 4 * CHUNK].to_vec()), (2, b"died".to_vec())]);
}

#[test]
fn cpus_have_turns() {
    const CPUS: u8 = 3;
    const RECORDS: usize = 20;
    let (port, wire, senders) = (TicketMutex::<()>::new(()), Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            let (port, wire, senders) = (&port, &wire, &senders);
            scope.spawn(move || {
                let desk = Desk::default();
                for number in 0..RECORDS {
                    desk.enter();
                    desk.append(&number.to_le_bytes());
                    desk.append(&[cpu; 2 * CHUNK]);
                    assert!(desk.finish(cpu));
                    let turn = port.lock();
                    assert_eq!(senders.fetch_add(1, Relaxed), 0, "one sends at a time");
                    desk.send(|bytes, _| {
                        wire.lock().expect("the wire").extend(bytes);
                        std::thread::yield_now();
                    });
                    senders.fetch_sub(1, Relaxed);
                    drop(turn);
                    assert!(!desk.leave());
                }
            });
        }
    });
    let mut next = BTreeMap::new();
    for (cpu, payload) in read(&wire.into_inner().expect("the wire")) {
        let (number, rest) = payload.split_at(size_of::<usize>());
        let next = next.entry(cpu).or_insert(0usize);
        assert_eq!(number, next.to_le_bytes(), "in the order of their CPU, none lost");
        assert!(rest.iter().all(|byte| *byte == cpu), "none has another's bytes");
        *next += 1;
    }
    assert!(next.len() == usize::from(CPUS) && next.values().all(|count| *count == RECORDS));
}
