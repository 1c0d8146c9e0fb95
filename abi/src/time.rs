//! Time of the time-stamp counter, and bounds of CPU time.

/// Least budget of a SchedContext, in TSC ticks: each window costs the CPU a timer interrupt and
/// two switches.
pub const BUDGET_MIN: u64 = 1_000;
/// Longest time that a task may run on after its slice is over, in TSC ticks
/// ([`Utcb::preempt_pending`](crate::Utcb::preempt_pending)). It is at most half of a slice.
pub const GRACE_MAX: u64 = 20_000;
/// Longest window of a budget, in TSC ticks: months. The [word](with_period) that
/// [`Op::SchedInfo`](crate::Op::SchedInfo) tells has room for it.
pub const PERIOD_MAX: u64 = 1 << 55;

/// The room for budgets that one CPU has, in the unit of [`Op::SchedAllow`](crate::Op::SchedAllow):
/// ten-thousandths of a CPU.
pub const WHOLE_CPU: u64 = 10_000;

/// Returns the detail of [`Error::OverLimit`](crate::Error::OverLimit) for a budget that needs more
/// room than there is for it, in ten-thousandths of a CPU.
pub const fn room_left(free: u64) -> u64 {
    1 << 32 | free
}

/// The priority has so many bits of the word that [`with_period`] makes.
const PRIORITY_BITS: u32 = 8;

/// Returns a word that tells a priority, and above it the length of a budget's windows.
/// Requires: the period is at most [`PERIOD_MAX`].
pub const fn with_period(priority: u8, period: u64) -> u64 {
    period << PRIORITY_BITS | priority as u64
}

/// Returns what [`with_period`] has joined.
pub const fn priority_and_period(word: u64) -> (u8, u64) {
    (word as u8, word >> PRIORITY_BITS)
}

const MICROSECONDS: u64 = 1_000_000;

/// Returns how many ticks so many microseconds last; the greatest number if that is smaller.
pub fn ticks(microseconds: u64, hz: u64) -> u64 {
    let ticks = u128::from(microseconds) * u128::from(hz) / u128::from(MICROSECONDS);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Microseconds that so many ticks last; 0 where the frequency is not known, which is 0 then.
pub fn microseconds(ticks: u64, hz: u64) -> u64 {
    let part = |ticks: u64| ticks.checked_div(hz).unwrap_or(0);
    part(ticks) * MICROSECONDS + part(ticks.checked_rem(hz).unwrap_or(0) * MICROSECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_room_for_every_priority_and_period() {
        for (priority, period) in [(0, 0), (255, 0), (0, PERIOD_MAX), (255, PERIOD_MAX), (7, BUDGET_MIN)] {
            assert_eq!(priority_and_period(with_period(priority, period)), (priority, period));
        }
        assert_eq!(with_period(9, 0), 9, "without a budget it is the priority alone");
    }

    #[test]
    fn ticks_are_microseconds_for_years() {
        const HZ: u64 = 3_000_000_000;
        assert_eq!((microseconds(HZ, HZ), microseconds(HZ / 2 + 2999, HZ)), (1_000_000, 500_000));
        assert_eq!(microseconds(100 * 365 * 86_400 * HZ + 3000, HZ / 2), 100 * 365 * 86_400 * 2_000_000 + 2);
        assert_eq!(microseconds(HZ, 0), 0, "the frequency is not known yet");
        assert_eq!((ticks(1, HZ), ticks(3_000_000, HZ), ticks(u64::MAX, HZ)), (3_000, 3 * HZ, u64::MAX));
    }
}
