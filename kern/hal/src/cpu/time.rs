//! Time: the TSC's frequency, delays, and the differences between the CPUs' TSCs.

use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use raw_cpuid::CpuId;

use super::features::Features;
use super::percpu::CpuLocal;
use crate::dev::acpi::PmTimer;
use crate::dev::{clock, lapic};
use crate::{info, warn};

/// Measurements, of which the middle one counts.
const MEASUREMENTS: usize = 3;
/// How long the APIC's timer is measured, in microseconds.
const APIC_TIMER_MEASUREMENT: u64 = 2_000;
/// In [`Exchange::call`]: no more exchanges with this CPU.
const OVER: u64 = u64::MAX;
/// Exchanges between two CPUs, of which the fastest counts: at least so many,
const FEWEST_EXCHANGES: u64 = 16;
/// at most so many,
const MOST_EXCHANGES: u64 = 1024;
/// and no more once the difference is known to half a microsecond,
const GOOD_ENOUGH: u64 = 2_000_000;
/// or after a 20th of a second (where CPUs share the host's).
const LONG_ENOUGH: u64 = 20;

static TSC_HZ: AtomicU64 = AtomicU64::new(0);

/// Reads the time stamp counter, without ordering.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: the TSC is a required feature.
    unsafe { _rdtsc() }
}

/// Reads the time stamp counter after everything before it has completed.
pub fn tsc_ordered() -> u64 {
    // SAFETY: LFENCE is part of SSE2, which is required.
    unsafe { _mm_lfence() };
    tsc()
}

/// Returns the frequency of the TSC: ticks in a second.
pub fn tsc_hz() -> u64 {
    TSC_HZ.load(Ordering::Relaxed)
}

/// Returns the time in microseconds, by this CPU's TSC; 0 before its frequency is known.
pub fn microseconds() -> u64 {
    abi::time::microseconds(tsc(), tsc_hz())
}

/// Returns the TSC ticks of a million turns of a two-instruction loop in kernel mode: near two
/// million under `-icount`, and far more if a hypervisor emulates kernel code.
pub fn kernel_loop_ticks() -> u64 {
    let start = tsc_ordered();
    // SAFETY: counts a register down.
    unsafe {
        core::arch::asm!("2: dec {0}", "jnz 2b", inout(reg) 1_000_000u64 => _, options(nomem, nostack));
    }
    tsc_ordered().wrapping_sub(start)
}

/// Waits for at least `microseconds`; only after [`calibrate`].
pub fn delay(microseconds: u64) {
    wait(microseconds, || false);
}

/// Waits until something is done, but not much longer than `microseconds`; only after
/// [`calibrate`].
pub fn wait(microseconds: u64, is_done: impl Fn() -> bool) {
    let ticks = tsc_hz() / 1_000_000 * microseconds;
    let start = tsc();
    while !is_done() && tsc().wrapping_sub(start) < ticks {
        spin_loop();
    }
}

/// Returns the TSC's frequency from CPUID, if CPUID has it.
fn tsc_hz_by_cpuid() -> Option<(u64, &'static str)> {
    let cpuid = CpuId::new();
    if let Some(hz) = cpuid.get_tsc_info().and_then(|t| t.tsc_frequency()).filter(|&hz| hz != 0) {
        return Some((hz, "CPUID leaf 0x15"));
    }
    let khz = cpuid.get_hypervisor_info()?.tsc_frequency().filter(|&khz| khz != 0)?;
    Some((u64::from(khz) * 1000, "the hypervisor's CPUID leaf"))
}

/// Finds the frequencies of TSC and APIC timer, and logs them. `None` where no clock runs.
pub fn calibrate(features: Features, pm_timer: Option<PmTimer>) -> Option<()> {
    let by_pm_timer = || pm_timer.and_then(|timer| measure(&|| clock::by_pm_timer(timer)));
    let by_pit = || Some((measure(&clock::by_pit)?, "the PIT"));
    let measured = by_pm_timer().map(|hz| (hz, "the ACPI timer")).or_else(by_pit);
    let (hz, source) = match (tsc_hz_by_cpuid(), measured) {
        // CPUID is exact where it is right; emulators copy it from CPUs that they don't run like.
        (Some((said, source)), Some((hz, _))) if said.abs_diff(hz) < hz / 100 => (said, source),
        (Some((said, source)), Some((hz, clock))) => {
            warn!("{} says TSC {} MHz, which {} contradicts", source, said / 1_000_000, clock);
            (hz, clock)
        }
        (Some(known), None) => known,
        (None, measured) => measured?,
    };
    TSC_HZ.store(hz, Ordering::Relaxed);
    let invariant =
        if features.contains(Features::INVARIANT_TSC) { "invariant" } else { "not marked invariant" };
    info!("TSC {}.{:03} MHz by {}, {}", hz / 1_000_000, hz / 1000 % 1000, source, invariant);

    // The first measurement only warms up whatever runs us.
    lapic::count_during(|| delay(APIC_TIMER_MEASUREMENT));
    if let Some((counts, ticks)) = lapic::count_during(|| delay(APIC_TIMER_MEASUREMENT)) {
        lapic::set_speed(counts.into(), ticks);
        let hz = u128::from(counts) * u128::from(hz) / u128::from(ticks);
        info!("APIC timer {}.{:03} MHz", (hz / 1_000_000) as u64, (hz / 1000 % 1000) as u64);
    }
    Some(())
}

fn measure(clock: &dyn Fn() -> Option<u64>) -> Option<u64> {
    let mut results = [0; MEASUREMENTS];
    for result in &mut results {
        *result = clock()?;
    }
    results.sort_unstable();
    Some(results[MEASUREMENTS / 2])
}

/// The line that two CPUs throw a number back and forth on. One pair at a time, during boot.
struct Exchange {
    call: AtomicU64,
    answer: AtomicU64,
    time: AtomicU64,
}

static EXCHANGE: Exchange =
    Exchange { call: AtomicU64::new(0), answer: AtomicU64::new(0), time: AtomicU64::new(0) };

/// Measures `other`'s TSC against the boot CPU's own.
///
/// Each exchange bounds the difference by the time it took; the fastest one is kept. If the other
/// CPU stops answering, the measurement ends without a result.
pub fn measure_skew(other: &CpuLocal) {
    let patience = tsc_hz() * 2;
    let begin = tsc();
    let (mut skew, mut error) = (0, u64::MAX);
    for round in 1..=MOST_EXCHANGES {
        let enough = error < tsc_hz() / GOOD_ENOUGH || tsc().wrapping_sub(begin) > tsc_hz() / LONG_ENOUGH;
        if round > FEWEST_EXCHANGES && enough {
            break;
        }
        let start = tsc_ordered();
        EXCHANGE.call.store(round, Ordering::Release);
        while EXCHANGE.answer.load(Ordering::Acquire) != round {
            if tsc().wrapping_sub(start) > patience {
                EXCHANGE.call.store(OVER, Ordering::Release);
                return;
            }
            spin_loop();
        }
        let end = tsc_ordered();
        let half = end.wrapping_sub(start) / 2;
        if half < error {
            error = half;
            skew = EXCHANGE.time.load(Ordering::Relaxed).wrapping_sub(start.wrapping_add(half)) as i64;
        }
    }
    EXCHANGE.call.store(OVER, Ordering::Release);
    other.tsc_skew.call_once(|| (skew, error));
}

/// Prepares the exchange of time stamps for the next pair of CPUs.
pub fn reset_exchange() {
    EXCHANGE.answer.store(0, Ordering::Relaxed);
    EXCHANGE.call.store(0, Ordering::Release);
}

/// Answers the boot CPU until it ends the measurement.
pub fn answer_skew() {
    loop {
        match EXCHANGE.call.load(Ordering::Acquire) {
            OVER => return,
            round if round != EXCHANGE.answer.load(Ordering::Relaxed) => {
                EXCHANGE.time.store(tsc_ordered(), Ordering::Relaxed);
                EXCHANGE.answer.store(round, Ordering::Release);
            }
            _ => spin_loop(),
        }
    }
}
