//! A ring of events: its writer continues while another CPU reads. No event is torn, none is read
//! twice, and overwritten events are counted.

use std::sync::Arc;

use crate::common::model;
use loom::thread;
use smp::ring::{Entry, Read, Reader, write};
use smp::sync::{AtomicU64, Ordering};
use test_abi::trace::EVENT_WORDS;

/// Places of the ring, and events written: one place is used twice.
const PLACES: usize = 2;
const EVENTS: u64 = 3;

type Write = fn(&[AtomicU64], &AtomicU64, Entry);

fn event(number: u64) -> Entry {
    core::array::from_fn(|word| number << 8 | word as u64)
}

fn explore(write: Write) {
    model(2, move || {
        let words: Vec<AtomicU64> = (0..PLACES * EVENT_WORDS).map(|_| AtomicU64::new(u64::MAX)).collect();
        let ring = Arc::new((words, AtomicU64::new(0)));
        let reading = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                let (mut reader, mut next) = (Reader::default(), 0);
                for _ in 0..3 {
                    read_on(&mut reader, &ring, &mut next);
                }
                (reader, next)
            })
        };
        (0..EVENTS).for_each(|number| write(&ring.0, &ring.1, event(number)));
        let (mut reader, mut next) = reading.join().unwrap();
        while read_on(&mut reader, &ring, &mut next) {}
        assert_eq!(next, EVENTS, "what was read and what was lost");
    });
}

fn read_on(reader: &mut Reader, ring: &(Vec<AtomicU64>, AtomicU64), next: &mut u64) -> bool {
    match reader.read(&ring.0, &ring.1) {
        Some(Read::Event(entry)) => {
            assert_eq!(entry, event(*next), "torn, or not the next");
            *next += 1;
        }
        Some(Read::Lost(lost)) => *next += lost,
        None => return false,
    }
    true
}

#[test]
fn each_event_is_whole_and_comes_once() {
    explore(write);
}

/// Writes an event without the first fence.
fn write_unfenced(words: &[AtomicU64], head: &AtomicU64, event: Entry) {
    let number = head.load(Ordering::Relaxed);
    let place = (number as usize * EVENT_WORDS) & (words.len() - 1);
    for (word, value) in words[place..place + EVENT_WORDS].iter().zip(event) {
        word.store(value, Ordering::Relaxed);
    }
    head.store(number + 1, Ordering::Release);
}

#[test]
#[should_panic(expected = "torn, or not the next")]
fn caught_without_the_fence() {
    explore(write_unfenced);
}

/// Publishes the event before it is written.
fn write_late(words: &[AtomicU64], head: &AtomicU64, event: Entry) {
    let number = head.load(Ordering::Relaxed);
    let place = (number as usize * EVENT_WORDS) & (words.len() - 1);
    head.store(number + 1, Ordering::Release);
    for (word, value) in words[place..place + EVENT_WORDS].iter().zip(event) {
        word.store(value, Ordering::Relaxed);
    }
}

#[test]
#[should_panic(expected = "torn, or not the next")]
fn caught_published_too_early() {
    explore(write_late);
}
