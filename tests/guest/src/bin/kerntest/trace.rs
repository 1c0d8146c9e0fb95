//! Events of programs: kernels that trace record them, all others refuse them.

use abi::{Error, cpu_features};
use user_rt::boot;
use user_rt::spawn::own;

use crate::lab::Lab;
use crate::suite::Outcome;
use crate::{expect_eq, tests};

tests! { own_events }

fn own_events(_: &mut Lab<'_>) -> Outcome {
    let expected = if boot::has(cpu_features::TRACE) { Ok(()) } else { Err(Error::NotBuilt) };
    for words in [(0, 0), (u64::MAX, 1)] {
        let got = own::machine().trace(words.0, words.1).map_err(|refusal| refusal.error);
        expect_eq!(got, expected, "an event {words:x?}");
    }
    Ok(())
}
