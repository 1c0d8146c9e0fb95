//! Time of the time-stamp counter, and bounds of CPU time.

/// Least budget of a SchedContext, in TSC ticks: each window costs the CPU a timer interrupt and
/// two switches.
pub const BUDGET_MIN: u64 = 1_000;
/// Longest time that a task may run on after its slice is over, in TSC ticks
/// ([`Utcb::preempt_pending`](crate::Utcb::preempt_pending)). It is at most half of a slice.
pub const GRACE_MAX: u64 = 20_000;
/// Longest window of a budget, in TSC ticks: decades.
pub const PERIOD_MAX: u64 = 1 << 62;

/// Microseconds that so many ticks last; 0 where the frequency is not known, which is 0 then.
pub fn microseconds(ticks: u64, hz: u64) -> u64 {
    const MICROSECONDS: u64 = 1_000_000;
    let part = |ticks: u64| ticks.checked_div(hz).unwrap_or(0);
    part(ticks) * MICROSECONDS + part(ticks.checked_rem(hz).unwrap_or(0) * MICROSECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_microseconds_for_years() {
        const HZ: u64 = 3_000_000_000;
        assert_eq!((microseconds(HZ, HZ), microseconds(HZ / 2 + 2999, HZ)), (1_000_000, 500_000));
        assert_eq!(microseconds(100 * 365 * 86_400 * HZ + 3000, HZ / 2), 100 * 365 * 86_400 * 2_000_000 + 2);
        assert_eq!(microseconds(HZ, 0), 0, "the frequency is not known yet");
    }
}
