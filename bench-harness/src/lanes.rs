//! Does several things at the same time. Those that keep CPUs busy take their
//! [turns](crate::turns) besides.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// Calls `work` for each of `items`, as many at a time as the host has CPUs. Returns the results in
/// the order of the items.
///
/// It begins with the last: those on more CPUs, which take longest, stand there.
pub fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let lanes = thread::available_parallelism().map_or(1, |count| count.get());
    in_lanes(lanes, items, work)
}

/// Calls `work` for each of `items` as [`side_by_side`] does, at most `lanes` at a time.
pub fn in_lanes<T: Sync, R: Send>(lanes: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let lanes = lanes.min(items.len());
    let left = Mutex::new((0..items.len()).collect::<Vec<_>>());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let lane = || {
        let mut done = Vec::new();
        while let Some(number) = next() {
            done.push((number, work(&items[number])));
        }
        done
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        let joined = lanes.into_iter().map(|lane| lane.join());
        joined.flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_outcomes_are_in_order() {
        for count in [0, 1, 2, 3, 50] {
            let items: Vec<u64> = (0..count).collect();
            let begun = Mutex::new(Vec::new());
            let outcome = side_by_side(&items, |item| {
                begun.lock().expect("not poisoned").push(*item);
                item * item
            });
            assert_eq!(outcome, items.iter().map(|item| item * item).collect::<Vec<_>>());
            let mut begun = begun.into_inner().expect("not poisoned");
            assert_eq!(begun.first(), items.last(), "the last is begun first");
            begun.sort();
            assert_eq!(begun, items);
        }
    }
}
