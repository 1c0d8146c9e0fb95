//! Asks the driver of a device for teaching for factorials, and kills it in between. Looks at the
//! device from outside, too: at the bus.

use alloc::format;
use core::sync::atomic::Ordering::Relaxed;

use abi::PAGE_SIZE;
use guest_tests::verdict::{Failure, Outcome, Tally};
use guest_tests::{expect, expect_eq};
use protocols::edu::{Client, NUMBER_MAX, Refusal};
use protocols::manager;
use user_rt::names::{AskError, Service};
use user_rt::spawn::Nursery;
use user_rt::supervisor::{self, to_parent};
use user_rt::{devices, layout};

use crate::asker::{connected, supply_heap, unexpected};

/// Lives of the driver.
const LIVES: u32 = 5;
/// The device takes a moment. A driver without interrupts would wait for a second each time.
const LONGEST_US: u64 = 500_000;

/// The place of the bus's configuration space among the devices of the description, and its pages.
const CONFIG: u16 = 0;
const CONFIG_PAGES: u32 = 2_048;
/// Words of a bus, and of a device on it.
const BUS_WORDS: usize = (1 << 20) / 4;
const DEVICE_WORDS: usize = (1 << 15) / 4;
/// The place of the device on its bus, and what its first word says.
const PLACE: usize = 4;
const NUMBERS: u32 = 0x11e8_1234;

/// Tests all, and ends the system with the verdict.
pub fn ask() -> ! {
    let mut nursery = supply_heap();
    let mut tally = Tally::default();
    tally.add("systems", "memory_of_devices_has_more_than_512_pages", &large(&mut nursery).into());
    tally.add("systems", "a_device_interrupts_by_messages", &factorials().into());
    supervisor::finish(tally.passed, tally.failed)
}

/// Views of more pages than one has are one after the other.
fn large(nursery: &mut Nursery) -> Outcome {
    let words = devices::map(CONFIG, 0, u32::MAX, nursery, layout::DEVICES_VA);
    let words = words.map_err(|error| Failure::Of(format!("no views: {error:?}")))?;
    expect_eq!(words.len() * 4, CONFIG_PAGES as usize * PAGE_SIZE as usize, "bytes");
    expect_eq!(words[PLACE * DEVICE_WORDS].load(Relaxed), NUMBERS, "the device's numbers");
    for bus in [2, 4, 6, 7] {
        let nothing = words[bus * BUS_WORDS + PLACE * DEVICE_WORDS].load(Relaxed);
        expect_eq!(nothing, u32::MAX, "on bus {bus}, which is not there");
    }
    Ok(())
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
