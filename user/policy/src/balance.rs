//! Balancing: a task that waits moves from the CPU where most are ready to the one where fewest
//! are, as long as that makes a difference.
//!
//! A task that runs is left alone: it has its working set in its CPU's caches. Of those that wait,
//! the one moves that has waited longest. A difference of one moves nothing, so a task does not go
//! back and forth. What the kernel's words say may be out of date by the time that a move arrives.
//! If the task has blocked, has moved or was set meanwhile, the sequence number that the policy
//! names makes the move fail.

use crate::CPUS_MAX;
use crate::cpus::Cpus;

/// What a policy knows about a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    pub cpu: u32,
    /// It runs, or waits for the CPU.
    pub is_runnable: bool,
    /// It waits for the CPU, and may move.
    pub may_move: bool,
    /// Since when.
    pub since: u64,
}

/// Returns which task moves, by its place among `tasks`, and to which CPU; `None`: all is well. No
/// task moves to a CPU that is closed.
pub fn choose(cpus: Cpus, tasks: impl Iterator<Item = Seen> + Clone) -> Option<(usize, u32)> {
    let mut ready = [0_u32; CPUS_MAX];
    let ready = ready.get_mut(..cpus.count() as usize)?;
    for task in tasks.clone().filter(|task| task.is_runnable) {
        *ready.get_mut(task.cpu as usize)? += 1;
    }
    let (target, fewest) =
        cpus.open().map(|cpu| (cpu, ready[cpu as usize])).min_by_key(|(_, count)| *count)?;
    let movable = tasks.enumerate().filter(|(_, task)| task.is_runnable && task.may_move);
    let gains = movable.filter(|(_, task)| ready[task.cpu as usize] >= fewest + 2);
    let best = gains.max_by_key(|(_, task)| (ready[task.cpu as usize], core::cmp::Reverse(task.since)));
    best.map(|(place, _)| (place, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(cpu: u32, since: u64, may_move: bool) -> Seen {
        Seen { cpu, is_runnable: true, may_move, since }
    }

    #[test]
    fn who_has_waited_longest_goes_where_fewest_are_ready() {
        let tasks = [task(0, 9, true), task(0, 3, true), task(0, 1, false), task(1, 0, true)];
        assert_eq!(choose(Cpus::new(3), tasks.into_iter()), Some((1, 2)));
        assert_eq!(choose(Cpus::new(2), tasks.into_iter()), Some((1, 1)));
        assert_eq!(choose(Cpus::new(1), tasks.into_iter()), None, "it does not know the other's CPU");
        let mut cpus = Cpus::new(3);
        cpus.set_open(2, false);
        assert_eq!(choose(cpus, tasks.into_iter()), Some((1, 1)));
    }

    #[test]
    fn moves_come_to_an_end() {
        let mut random = oorandom::Rand64::new(3);
        for _ in 0..200 {
            let (cpus, count) = (random.rand_range(1..9) as u32, random.rand_range(0..90));
            let one = |_| Seen {
                cpu: random.rand_range(0..u64::from(cpus)) as u32,
                is_runnable: random.rand_range(0..4) != 0,
                may_move: true,
                since: random.rand_range(0..100),
            };
            let mut tasks: Vec<Seen> = (0..count).map(one).collect();
            let mut moves = 0;
            while let Some((which, to)) = choose(Cpus::new(cpus), tasks.iter().copied()) {
                assert!(tasks[which].is_runnable && tasks[which].cpu != to);
                tasks[which].cpu = to;
                moves += 1;
                assert!(moves <= tasks.len(), "it ends");
            }
            let ready = |cpu| tasks.iter().filter(|task| task.is_runnable && task.cpu == cpu).count();
            let counts: Vec<usize> = (0..cpus).map(ready).collect();
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        }
    }
}
