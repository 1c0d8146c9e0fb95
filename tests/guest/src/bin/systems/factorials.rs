//! Asks the driver of a device for teaching for factorials, and kills it in between.

use alloc::format;

use guest_tests::verdict::{Failure, Outcome, Tally};
use guest_tests::{expect, expect_eq};
use protocols::edu::{Client, NUMBER_MAX, Refusal};
use protocols::manager;
use user_rt::names::{AskError, Service};
use user_rt::supervisor;
use user_rt::supervisor::to_parent;

use crate::asker::{connected, supply_heap, unexpected};

/// Lives of the driver.
const LIVES: u32 = 5;
/// The device takes a moment. A driver without interrupts would wait for a second each time.
const LONGEST_US: u64 = 500_000;

/// Tests all, and ends the system with the verdict.
pub fn ask() -> ! {
    let _ = supply_heap();
    let mut tally = Tally::default();
    tally.add("systems", "a_device_interrupts_by_messages", &factorials().into());
    supervisor::finish(tally.passed, tally.failed)
}

fn factorial(edu: &mut Service, number: u32) -> Result<(u32, u64), AskError<Refusal>> {
    edu.ask(|driver| {
        Client(driver)
            .factorial(|mut ask| ask.set_number(number), |told| Ok((told.get_value(), told.get_micros())))
    })
}

fn factorials() -> Outcome {
    let mut edu = connected("edu", 0)?;
    for life in 0..LIVES {
        let mut product = 1;
        for number in 1..=NUMBER_MAX {
            product *= number;
            let (value, micros) = factorial(&mut edu, number)
                .map_err(|error| Failure::Of(format!("{number}!, life {life}: {error:?}")))?;
            expect_eq!(value, product, "{number}!");
            expect!(micros < LONGEST_US, "{number}! after {micros} us: it has not interrupted");
        }
        let refused = factorial(&mut edu, NUMBER_MAX + 1);
        expect!(matches!(refused, Err(AskError::Refused(Refusal::TooLarge))), "too large: {refused:?}");
        let killed = manager::Client(to_parent()).kill(|mut kill| kill.set_name("edu"));
        killed.map_err(|error| Failure::Of(format!("killing the driver: {error:?}")))?;
    }
    let last = factorial(&mut edu, 3).map_err(|error| Failure::Of(format!("the last: {error:?}")))?;
    expect_eq!(last.0, 6, "by the last driver");
    edu.leave().map_err(unexpected)
}
