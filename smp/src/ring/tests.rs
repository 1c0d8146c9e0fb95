//! Tests of rings, with real threads and step by step. `tests/loom/loom_ring.rs` tests all orders.

extern crate std;

use std::vec::Vec;

use super::*;

/// Makes an event each of whose words names the event.
fn event(number: u64) -> Entry {
    core::array::from_fn(|word| number << 8 | word as u64)
}

fn number_of(entry: Entry) -> u64 {
    let number = entry[0] >> 8;
    assert_eq!(entry, event(number), "a torn event");
    number
}

fn ring(places: usize) -> (Vec<AtomicU64>, AtomicU64) {
    ((0..places * EVENT_WORDS).map(|_| AtomicU64::new(u64::MAX)).collect(), AtomicU64::new(0))
}

/// Reads all there is: numbers and losses have to add up.
fn read_all(reader: &mut Reader, words: &[AtomicU64], head: &AtomicU64, next: &mut u64) -> u64 {
    let mut events = 0;
    while let Some(read) = reader.read(words, head) {
        match read {
            Read::Event(entry) => {
                assert_eq!(number_of(entry), *next, "one twice, or one left out without a word");
                *next += 1;
                events += 1;
            }
            Read::Lost(lost) => *next += lost,
        }
    }
    events
}

#[test]
fn what_fits_is_read_and_the_rest_is_counted() {
    for places in [1, 2, 8] {
        for burst in 0..40 {
            let (words, head) = ring(places);
            let (mut reader, mut next, mut written) = (Reader::default(), 0, 0);
            for _ in 0..5 {
                for _ in 0..burst {
                    write(&words, &head, event(written));
                    written += 1;
                }
                let read = read_all(&mut reader, &words, &head, &mut next);
                assert_eq!((next, reader.position()), (written, written));
                assert_eq!(
                    read,
                    burst.min(places as u64 - u64::from(written >= places as u64)),
                    "{places} {burst}"
                );
            }
        }
    }
}

#[test]
fn no_event_is_torn_or_comes_twice() {
    const EVENTS: u64 = 200_000;
    let (words, head) = ring(16);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..EVENTS).for_each(|number| write(&words, &head, event(number))));
        let (mut reader, mut next, mut read) = (Reader::default(), 0, 0);
        while next < EVENTS {
            read += read_all(&mut reader, &words, &head, &mut next);
        }
        assert!(read > 0);
    });
}
