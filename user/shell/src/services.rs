//! Commands that drivers answer: the time of day, and the machine's power.

use core::fmt::{self, Write};

use abi::Cap;
use protocols::power::Refusal as NoPower;
use protocols::{Failure, clock, names, power};
use time::OffsetDateTime;
use user_rt::boot;
use user_rt::names::{AskError, NameError, Service};
use user_rt::talk::Line;

use crate::commands::{fail, usage};
use crate::{Shell, Status};

type Ran = Result<Status, fmt::Error>;

/// The names of the drivers in the description.
const CLOCK: &str = "clock";
const POWER: &str = "power";

const MICROS: u64 = 1_000_000;

/// A server that the shell connects to when a person wants something of it.
pub struct Asked {
    name: &'static str,
    slot: Cap,
    connection: Option<Service>,
}

/// All such servers.
pub struct Services {
    clock: Asked,
    power: Asked,
}

impl Services {
    /// Makes places for connections in these empty slots.
    pub const fn new([clock, power]: [Cap; 2]) -> Services {
        Services {
            clock: Asked { name: CLOCK, slot: clock, connection: None },
            power: Asked { name: POWER, slot: power, connection: None },
        }
    }
}

impl Asked {
    fn ask<T, R>(
        &mut self,
        question: impl FnMut(Line) -> Result<T, Failure<R, user_rt::Refusal>>,
    ) -> Result<T, AskError<R>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let connection = Service::connect(self.name, self.slot).map_err(AskError::Connection)?;
                self.connection.insert(connection)
            }
        };
        let answer = connection.ask(question);
        if let Err(AskError::Connection(_)) = answer {
            // Its slot is empty.
            self.connection = None;
        }
        answer
    }
}

/// Tells the person why a server gave no answer.
fn denied<R: fmt::Debug>(shell: &mut Shell, name: &str, error: &AskError<R>) -> Ran {
    match error {
        AskError::Refused(denial) => fail(shell, format_args!("{name} refuses: {denial:?}")),
        AskError::Malformed => fail(shell, format_args!("{name} answers nonsense")),
        AskError::Call(refusal) => fail(shell, format_args!("{name} cannot be called: {refusal}")),
        AskError::Connection(NameError::Refused(names::Refusal::Unknown)) => {
            fail(shell, format_args!("this shell has no {name}: its description does not use one"))
        }
        AskError::Connection(error) => fail(shell, format_args!("{name} is gone: {error:?}")),
    }
}

/// Shows the time of day, and how fast the CPU counts.
pub fn date(shell: &mut Shell, words: &[&str]) -> Ran {
    if !words.is_empty() {
        return usage(shell, "date");
    }
    let told = shell.services.clock.ask(|driver| clock::Client(driver).now(|told| Ok(told.get_micros())));
    let micros = match told {
        Ok(micros) => micros,
        Err(AskError::Refused(clock::Refusal::NotSet)) => {
            return fail(shell, format_args!("the clock shows no date: set it in the firmware's menu"));
        }
        Err(error) => return denied(shell, CLOCK, &error),
    };
    let Ok(time) = OffsetDateTime::from_unix_timestamp((micros / MICROS) as i64) else {
        return fail(shell, format_args!("the clock shows no date: {micros} us after 1970"));
    };
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    writeln!(
        shell.out,
        "{year}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:06} UTC",
        u8::from(month),
        micros % MICROS
    )?;
    let rate = shell
        .services
        .clock
        .ask(|driver| clock::Client(driver).rate(|told| Ok((told.get_hz(), told.get_micros()))));
    if let Ok((hz, micros)) = rate {
        let known = boot::facts().tsc_hz;
        writeln!(
            shell.out,
            "the CPU counts {} MHz by the HPET in {} s; the kernel reckons with {} MHz",
            Millionths(hz),
            Millionths(micros),
            Millionths(known)
        )?;
    }
    Ok(Status::Done)
}

/// A number of millionths, as a person reads it.
struct Millionths(u64);

impl fmt::Display for Millionths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / MICROS, self.0 % MICROS / 1_000)
    }
}

/// Switches the machine off.
pub fn off(shell: &mut Shell, words: &[&str]) -> Ran {
    if !words.is_empty() {
        return usage(shell, "off");
    }
    shell.out.flush()?;
    let refused = shell.services.power.ask(|driver| power::Client(driver).off());
    still_on(shell, &refused)
}

/// Resets the machine.
pub fn reset(shell: &mut Shell, words: &[&str]) -> Ran {
    if !words.is_empty() {
        return usage(shell, "reset");
    }
    shell.out.flush()?;
    let refused = shell.services.power.ask(|driver| power::Client(driver).reset());
    still_on(shell, &refused)
}

fn still_on(shell: &mut Shell, why: &Result<(), AskError<NoPower>>) -> Ran {
    match why {
        Ok(()) | Err(AskError::Refused(NoPower::StillOn)) => {
            fail(shell, format_args!("the machine goes on all the same"))
        }
        Err(AskError::Refused(NoPower::NoWay)) => {
            fail(shell, format_args!("firmware does not say how: its tables name no register or no value"))
        }
        Err(AskError::Refused(NoPower::NotHandedOver)) => {
            fail(shell, format_args!("firmware does not hand over its registers"))
        }
        Err(error) => denied(shell, POWER, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn millionths_can_be_read() {
        assert_eq!(format!("{}|{}", Millionths(2_499_999_999), Millionths(1_007)), "2499.999|0.001");
    }
}
