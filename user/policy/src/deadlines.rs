//! Earliest deadline first, on a kernel that knows only priorities.
//!
//! A task with a deadline has a budget in each period. A *job* begins when the task wakes, and has
//! to be over a period later. The policy keeps the priorities of the jobs of a CPU in the order of
//! their deadlines: each CPU has [`LEVELS`] priorities for that. A job that begins gets a level
//! between those of earlier and of later deadlines, so that usually one setting is enough, or none.
//!
//! On one CPU, earliest deadline first misses nothing as long as the budgets are less than the time
//! that there is (Liu and Layland, 1973). So admission is a sum ([`Promised`]), and the part that
//! it leaves has to cover what the kernel and the policy themselves take. It holds for tasks that
//! wake at the beginning of a window of their budget. A task that wakes late in a window has that
//! budget and the next one before its deadline.

use crate::CPUS_MAX;

/// Priorities that jobs of one CPU use.
pub const LEVELS: u8 = 64;

/// Parts of a CPU's time: so many in one thousandth.
const PARTS: u64 = 1_000;

/// Which part of each CPU's time is promised.
#[derive(Clone, Debug)]
pub struct Promised {
    of: [u64; CPUS_MAX],
    /// To how many tasks of each.
    tasks: [u8; CPUS_MAX],
    cpus: usize,
    /// Most that may be promised of a CPU.
    capacity: u64,
}

impl Promised {
    /// Promises up to `capacity` thousandths of each CPU.
    pub fn new(cpus: u32, capacity: u32) -> Promised {
        Promised {
            of: [0; CPUS_MAX],
            tasks: [0; CPUS_MAX],
            cpus: (cpus as usize).min(CPUS_MAX),
            capacity: u64::from(capacity.min(1_000)) * PARTS,
        }
    }

    /// Returns which part of a CPU's time a budget in each period is.
    pub fn part(budget: u64, period: u64) -> u64 {
        let part = (u128::from(budget) * u128::from(1_000 * PARTS)).div_ceil(u128::from(period.max(1)));
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// Promises a part of the first of these CPUs that has it left. A CPU has fewer tasks than
    /// levels. Returns which CPU.
    pub fn admit(&mut self, part: u64, mut among: impl Iterator<Item = u32>) -> Option<u32> {
        let fits = |cpu: &u32| {
            let cpu = Some(*cpu as usize).filter(|cpu| *cpu < self.cpus);
            cpu.is_some_and(|cpu| {
                let sum = self.of[cpu].checked_add(part);
                sum.is_some_and(|sum| sum <= self.capacity) && self.tasks[cpu] < LEVELS - 1
            })
        };
        let found = among.find(fits)?;
        self.of[found as usize] += part;
        self.tasks[found as usize] += 1;
        Some(found)
    }

    /// Takes a promise back.
    pub fn end(&mut self, cpu: u32, part: u64) {
        let cpu = cpu as usize;
        if let (Some(of), Some(tasks)) = (self.of.get_mut(cpu), self.tasks.get_mut(cpu)) {
            *of = of.saturating_sub(part);
            *tasks = tasks.saturating_sub(1);
        }
    }
}

/// A job that is under way on a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Job {
    pub deadline: u64,
    pub level: u8,
}

/// Returns the level of a job that begins: above all jobs with later deadlines, and below all with
/// earlier ones. It is `present`, if that is right. Returns `None` if there is no level between
/// them: then [`spread`] gives all jobs new ones.
pub fn level_for(deadline: u64, present: u8, others: impl Iterator<Item = Job>) -> Option<u8> {
    let (mut low, mut high) = (0, LEVELS);
    for other in others {
        if other.deadline > deadline {
            low = low.max(other.level + 1);
        } else if other.deadline < deadline {
            high = high.min(other.level);
        }
    }
    match (low..high).contains(&present) {
        true => Some(present),
        false => (low < high).then(|| low + (high - low) / 2),
    }
}

/// Gives jobs levels in the order of their deadlines, with the same room between them.
pub fn spread(jobs: &mut [(u16, Job)]) {
    jobs.sort_unstable_by_key(|(_, job)| core::cmp::Reverse(job.deadline));
    let count = jobs.len() + 1;
    for (place, (_, job)) in jobs.iter_mut().enumerate() {
        job.level = (usize::from(LEVELS) * (place + 1) / count) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_promised_as_there_is() {
        let mut promised = Promised::new(2, 950);
        let half = Promised::part(500, 1_000);
        assert_eq!([0; 4].map(|_| promised.admit(half, 0..2)), [Some(0), Some(1), None, None]);
        assert_eq!(promised.admit(Promised::part(450, 1_000), 1..2), Some(1));
        assert_eq!(promised.admit(1, 1..2), None);
        assert_eq!(promised.admit(1, 2..3), None, "there is no such CPU");
        promised.end(0, half);
        assert_eq!(promised.admit(Promised::part(950, 1_000), 0..2), Some(0));
        assert_eq!(promised.admit(Promised::part(u64::MAX, 1), 0..2), None);
        assert_eq!(promised.admit(Promised::part(1, 0), 0..2), None);
    }

    #[test]
    fn a_cpu_has_a_level_for_each_job() {
        let mut promised = Promised::new(1, 1_000);
        let admitted = (0..LEVELS).filter(|_| promised.admit(1, 0..1).is_some()).count();
        assert_eq!(admitted, usize::from(LEVELS) - 1);
        let mut jobs: Vec<(u16, Job)> =
            (0..LEVELS - 1).map(|n| (u16::from(n), Job { deadline: u64::from(n), level: 0 })).collect();
        spread(&mut jobs);
        assert!(jobs.windows(2).all(|pair| pair[0].1.level < pair[1].1.level), "{jobs:?}");
    }

    #[test]
    fn jobs_are_in_the_order_of_their_deadlines_whatever_comes() {
        let mut random = oorandom::Rand64::new(7);
        let mut jobs: Vec<(u16, Job)> = Vec::new();
        let (mut settings, mut begun) = (0, 0);
        for step in 0..20_000_u64 {
            if jobs.len() > 8 || !jobs.is_empty() && random.rand_range(0..2) == 0 {
                let over = random.rand_range(0..jobs.len() as u64) as usize;
                jobs.swap_remove(over);
                continue;
            }
            let (deadline, present) = (step + random.rand_range(1..50), random.rand_range(0..64) as u8);
            begun += 1;
            match level_for(deadline, present, jobs.iter().map(|(_, job)| *job)) {
                Some(level) => {
                    settings += usize::from(level != present);
                    jobs.push((0, Job { deadline, level }));
                }
                None => {
                    jobs.push((0, Job { deadline, level: 0 }));
                    spread(&mut jobs);
                    settings += jobs.len();
                }
            }
            for (_, one) in &jobs {
                assert!(one.level < LEVELS);
                let right = |other: &Job| other.deadline <= one.deadline || other.level < one.level;
                assert!(jobs.iter().all(|(_, other)| right(other)), "{jobs:?}");
            }
        }
        assert!(settings < 2 * begun, "{settings} settings for {begun} jobs");
    }
}
