//! Clocks of known frequency against which the TSC is measured, and the masked legacy PIC.

use core::hint::spin_loop;

use super::acpi::PmTimer;
use super::port;
use crate::cpu::time::tsc;

/// The ACPI timer's frequency.
const PM_TIMER_HZ: u64 = 3_579_545;
/// The PIT's frequency.
const PIT_HZ: u64 = 1_193_182;
/// Length of one measurement: a 200th of a second.
const PER_SECOND: u64 = 200;
/// Polls after which a clock that does not move is given up.
const PATIENCE: u32 = 10_000_000;

/// Returns TSC ticks a second by the ACPI timer, or `None` if it stands still.
pub fn by_pm_timer(timer: PmTimer) -> Option<u64> {
    let mask = if timer.wide { u32::MAX } else { 0xff_ffff };
    // SAFETY: reading the timer has no effect.
    let read = || unsafe { port::read::<u32>(timer.port) } & mask;
    let wait_for = |since: u32, ticks: u32| {
        for _ in 0..PATIENCE {
            let passed = read().wrapping_sub(since) & mask;
            if passed >= ticks {
                return Some((passed, tsc()));
            }
            spin_loop();
        }
        None
    };
    // Start right after a tick.
    let before = read();
    let (first, start) = wait_for(before, 1)?;
    let started_at = before.wrapping_add(first) & mask;
    let (passed, end) = wait_for(started_at, (PM_TIMER_HZ / PER_SECOND) as u32)?;
    Some((end - start) * PM_TIMER_HZ / u64::from(passed))
}

/// Returns TSC ticks a second by the PIT, or `None` if it stands still.
pub fn by_pit() -> Option<u64> {
    const GATE_PORT: u16 = 0x61;
    const CHANNEL_2: u16 = 0x42;
    const COMMAND: u16 = 0x43;
    const OUTPUT: u8 = 1 << 5;
    let count = (PIT_HZ / PER_SECOND) as u16;
    let [low, high] = count.to_le_bytes();
    // SAFETY: channel 2 drives the PC speaker only; speaker off, gate on, one-shot count.
    let start = unsafe {
        port::write_u8(GATE_PORT, (port::read::<u8>(GATE_PORT) & !2) | 1);
        port::write_u8(COMMAND, 0b1011_0000);
        port::write_u8(CHANNEL_2, low);
        port::write_u8(CHANNEL_2, high);
        tsc()
    };
    for _ in 0..PATIENCE {
        // SAFETY: reading the gate port has no effect.
        if unsafe { port::read::<u8>(GATE_PORT) } & OUTPUT != 0 {
            return Some((tsc() - start) * PIT_HZ / u64::from(count));
        }
        spin_loop();
    }
    None
}

/// Masks every line of the legacy interrupt controllers, moved off the exception vectors first.
pub fn mask_pic() {
    const PIC: [(u16, u8, u8); 2] = [(0x20, 0xe0, 4), (0xa0, 0xe8, 2)];
    for (base, vector, wiring) in PIC {
        // SAFETY: the PC's interrupt controllers; interrupts are off, and everything is masked
        // last.
        unsafe {
            port::write_u8(base, 0x11);
            port::write_u8(base + 1, vector);
            port::write_u8(base + 1, wiring);
            port::write_u8(base + 1, 0x01);
            port::write_u8(base + 1, 0xff);
        }
    }
}
