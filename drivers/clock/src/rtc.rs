//! The clock of a PC that runs while the machine is off (MC146818): it shows the time of day in
//! whole seconds, and interrupts at each.

use mmio::Registers;
use time::{Date, Month};

/// The two registers that are seen: one selects, the other is what was selected.
const SELECT: u8 = 0;
const WINDOW: u8 = 1;

/// Registers that can be selected.
const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
const STATUS_C: u8 = 12;
const STATUS_D: u8 = 13;
const SHOWN: [u8; 6] = [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR];

/// A: the numbers change, and cannot be read.
const CHANGES: u8 = 1 << 7;
/// B: hours from 0 to 23; plain numbers, not decimal digits; interrupt when the numbers have
/// changed, at the alarm, periodically; the clock stands.
const FULL_DAY: u8 = 1 << 1;
const PLAIN: u8 = 1 << 2;
const TELLS: u8 = 1 << 4;
const ALARMS: u8 = 1 << 5 | 1 << 6;
const STANDS: u8 = 1 << 7;
/// C: the numbers have changed. Reading it takes the interrupt back.
const CHANGED: u8 = 1 << 4;
/// D: the clock has had power since it was set.
const IS_SET: u8 = 1 << 7;
/// Hours: in the afternoon.
const AFTERNOON: u8 = 1 << 7;

/// The clock shows two digits of the year.
const CENTURY: i32 = 2000;
/// Attempts to read all numbers without a change.
const TRIES: u32 = 10_000;

pub struct Rtc<R> {
    registers: R,
}

impl<R: Registers> Rtc<R> {
    /// Begins to interrupt at each second, and not otherwise.
    pub fn begin(registers: R) -> Rtc<R> {
        let mut rtc = Rtc { registers };
        let status = rtc.read(STATUS_B);
        rtc.write(STATUS_B, status & !(ALARMS | STANDS) | TELLS);
        rtc.take_change();
        rtc
    }

    fn read(&mut self, register: u8) -> u8 {
        self.registers.write(SELECT, register);
        self.registers.read(WINDOW)
    }

    fn write(&mut self, register: u8, value: u8) {
        self.registers.write(SELECT, register);
        self.registers.write(WINDOW, value);
    }

    /// Returns whether a second has begun since the last look, and takes the interrupt back.
    pub fn take_change(&mut self) -> bool {
        self.read(STATUS_C) & CHANGED != 0
    }

    /// Returns the time in seconds since the beginning of 1970, if the clock shows a date.
    pub fn seconds(&mut self) -> Option<u64> {
        if self.read(STATUS_D) & IS_SET == 0 {
            return None;
        }
        let mut before = None;
        for _ in 0..TRIES {
            if self.read(STATUS_A) & CHANGES != 0 {
                continue;
            }
            // A change between two reads makes them differ.
            let shown = Some(SHOWN.map(|register| self.read(register)));
            if shown == before {
                return seconds_of(shown?, self.read(STATUS_B));
            }
            before = shown;
        }
        None
    }
}

/// Returns the time that the clock shows, in the form that its status register says.
fn seconds_of(shown: [u8; 6], status: u8) -> Option<u64> {
    let afternoon = status & FULL_DAY == 0 && shown[2] & AFTERNOON != 0;
    let mut numbers = shown;
    if status & FULL_DAY == 0 {
        numbers[2] &= !AFTERNOON;
    }
    for number in numbers.iter_mut().filter(|_| status & PLAIN == 0) {
        let (tens, ones) = (*number >> 4, *number & 0xf);
        if tens > 9 || ones > 9 {
            return None;
        }
        *number = tens * 10 + ones;
    }
    let [second, minute, hour, day, month, year] = numbers;
    let hour = match status & FULL_DAY != 0 {
        true => hour,
        // Noon and midnight are hours 12.
        false if (1..=12).contains(&hour) => hour % 12 + if afternoon { 12 } else { 0 },
        false => return None,
    };
    let date = Date::from_calendar_date(CENTURY + i32::from(year), Month::try_from(month).ok()?, day).ok()?;
    let time = date.with_hms(hour, minute, second).ok()?;
    u64::try_from(time.assume_utc().unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30 22:41:07 UTC.
    const THEN: u64 = 1_796_078_467;

    #[test]
    fn all_forms_of_the_numbers_are_read() {
        for (shown, status) in [
            ([0x07, 0x41, 0x22, 0x30, 0x11, 0x26], FULL_DAY),
            ([7, 41, 22, 30, 11, 26], FULL_DAY | PLAIN),
            ([0x07, 0x41, 0x10 | AFTERNOON, 0x30, 0x11, 0x26], 0),
            ([7, 41, 10 | AFTERNOON, 30, 11, 26], PLAIN),
        ] {
            assert_eq!(seconds_of(shown, status), Some(THEN), "{shown:x?} {status:#x}");
        }
        let hour = |hour| seconds_of([0, 0, hour, 1, 1, 70], PLAIN).map(|at| at % 86_400 / 3_600);
        assert_eq!(
            [hour(12), hour(12 | AFTERNOON), hour(1), hour(11 | AFTERNOON)],
            [Some(0), Some(12), Some(1), Some(23)]
        );
    }

    #[test]
    fn what_is_no_date_is_refused() {
        assert_eq!(seconds_of([0x0a, 0, 0, 1, 1, 0], FULL_DAY), None, "no decimal digits");
        assert_eq!(seconds_of([0, 0, 0, 30, 2, 26], FULL_DAY | PLAIN), None, "no such day");
        assert_eq!(seconds_of([0, 0, 0, 1, 13, 26], FULL_DAY | PLAIN), None, "no such month");
        assert_eq!(seconds_of([0, 0, 0, 1, 1, 26], PLAIN), None, "no hour 0 of a half day");
        assert_eq!(seconds_of([0xff; 6], 0xff), None, "nothing is there");
    }

    /// A clock whose seconds begin while they are read.
    struct Fake {
        selected: u8,
        reads: u32,
    }

    impl Registers for Fake {
        fn read(&mut self, register: u8) -> u8 {
            assert_eq!(register, WINDOW);
            self.reads += 1;
            let after = self.reads > 9;
            match self.selected {
                STATUS_A if self.reads < 3 => CHANGES,
                STATUS_A => 0,
                STATUS_B => FULL_DAY | PLAIN,
                STATUS_C => CHANGED,
                STATUS_D => IS_SET,
                SECONDS => {
                    if after {
                        0
                    } else {
                        59
                    }
                }
                MINUTES => {
                    if after {
                        42
                    } else {
                        41
                    }
                }
                HOURS => 22,
                DAY => 30,
                MONTH => 11,
                _ => 26,
            }
        }

        fn write(&mut self, register: u8, value: u8) {
            if register == SELECT {
                self.selected = value;
            }
        }
    }

    #[test]
    fn numbers_that_change_while_they_are_read_are_read_again() {
        let mut rtc = Rtc { registers: Fake { selected: 0, reads: 0 } };
        assert!(rtc.take_change());
        assert_eq!(rtc.seconds(), Some(THEN - 7 + 60));
    }
}
