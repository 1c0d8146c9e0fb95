//! The other clock of a PC (HPET): a counter whose rate is known exactly. The CPU's counter can be
//! measured by it. (Intel: *IA-PC HPET Specification*, 2.3.)

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

/// Registers, as words: at bytes 0x04, 0x10 and 0xf0.
const PERIOD: usize = 1;
const CONTROL: usize = 4;
const COUNTER: usize = 60;
/// Control: the counter runs.
const RUNS: u32 = 1;
/// The longest period that a counter may have, in femtoseconds.
const PERIOD_MAX: u32 = 100_000_000;

/// How long the CPU's counter is watched before that tells something, in femtoseconds.
const ENOUGH: u128 = 1_000_000_000_000;
const SECOND: u128 = 1_000_000_000_000_000;

/// Both counters at a moment.
#[derive(Clone, Copy)]
struct Moment {
    counter: u32,
    ticks: u64,
}

pub struct Hpet {
    registers: &'static [AtomicU32],
    /// The counter's period, in femtoseconds.
    period: u32,
    last: Moment,
    /// What both have counted since the driver began.
    counted: u128,
    ticks: u64,
}

impl Hpet {
    /// Lets the counter run. Returns `None` if these are not its registers.
    pub fn begin(registers: &'static [AtomicU32], ticks: impl Fn() -> u64) -> Option<Hpet> {
        let period = registers.get(PERIOD)?.load(Relaxed);
        if registers.len() <= COUNTER || !(1..=PERIOD_MAX).contains(&period) {
            return None;
        }
        let control = registers[CONTROL].load(Relaxed);
        registers[CONTROL].store(control | RUNS, Relaxed);
        let last = moment(registers, ticks);
        Some(Hpet { registers, period, last, counted: 0, ticks: 0 })
    }

    /// Looks at both counters. Has to be called more often than the lower half of the counter
    /// overflows: at 100 MHz, each 40 s.
    pub fn look(&mut self, ticks: impl Fn() -> u64) {
        let now = moment(self.registers, ticks);
        self.counted += u128::from(now.counter.wrapping_sub(self.last.counter));
        self.ticks += now.ticks.saturating_sub(self.last.ticks);
        self.last = now;
    }

    /// Returns how many ticks the CPU counts in a second, and in how many microseconds that was
    /// measured; nothing if it was not watched long enough.
    pub fn rate(&self) -> Option<(u64, u64)> {
        let time = self.counted * u128::from(self.period);
        let hz = u128::from(self.ticks) * SECOND / time.max(1);
        (time >= ENOUGH).then_some((hz as u64, (time / 1_000_000_000) as u64))
    }
}

fn moment(registers: &[AtomicU32], ticks: impl Fn() -> u64) -> Moment {
    Moment { counter: registers[COUNTER].load(Relaxed), ticks: ticks() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(period: u32) -> &'static [AtomicU32] {
        let registers: Vec<AtomicU32> = (0..1024).map(|_| AtomicU32::new(0)).collect();
        registers[PERIOD].store(period, Relaxed);
        registers.leak()
    }

    #[test]
    fn rates_are_measured_over_an_overflow() {
        // 100 MHz.
        let registers = registers(10_000_000);
        registers[COUNTER].store(u32::MAX - 50_000_000, Relaxed);
        let mut hpet = Hpet::begin(registers, || 7).expect("an HPET");
        assert_eq!(registers[CONTROL].load(Relaxed), RUNS);
        assert_eq!(hpet.rate(), None);
        registers[COUNTER].store(49_999_999, Relaxed);
        hpet.look(|| 2_500_000_007);
        assert_eq!(hpet.rate(), Some((2_500_000_000, 1_000_000)));
    }

    #[test]
    fn what_is_no_hpet_is_refused() {
        assert!(Hpet::begin(registers(0), || 0).is_none());
        assert!(Hpet::begin(registers(u32::MAX), || 0).is_none());
        assert!(Hpet::begin(&[], || 0).is_none());
    }
}
