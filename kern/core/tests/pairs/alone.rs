//! Records what each operation changes when it runs alone. The kernel's bounds may affect only the
//! number of entries that the operation takes. So builds with other bounds must write the same
//! file, except for operations whose bounds programs see.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::deeds::{self, Deed};
use crate::facts::Name;
use crate::plan::Options;
use crate::play::{NULL, effects};
use crate::states::{STATES, State};

/// Operations of which a program sees a bound, by the beginnings of their names, and which.
const VISIBLE: [(&str, &str); 3] = [
    ("CapList", "how many slots are looked at"),
    ("share views of one page", "how often a page can be mapped"),
    ("copy views of one page", "how often a page can be mapped"),
];

/// A fact whose value depends on a bound: the tag of an exposed task has fewer bits.
fn is_bounded(name: &Name) -> bool {
    (name.kind(), name.field()) == ("exposure", "tag")
}

fn shows_a_bound(deed: &Deed) -> bool {
    VISIBLE.iter().any(|(beginning, _)| deed.name.starts_with(beginning))
}

/// Writes it to a file.
pub fn write(options: &Options, file: &str) -> ExitCode {
    let deeds = deeds::all();
    let states = STATES.into_iter().filter(|state| options.state.is_none_or(|only| only == *state));
    let mut text = String::new();
    for state in states {
        let is_asked = |deed: &&Deed| options.takes(0, deed) && deed.can(state) && !shows_a_bound(deed);
        let those: Vec<&Deed> = deeds.iter().filter(is_asked).collect();
        if let Err(wrong) = describe(state, &those, &mut text) {
            println!("alone: {wrong}");
            return ExitCode::FAILURE;
        }
    }
    match std::fs::write(file, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            println!("alone: cannot write {file}: {wrong}");
            ExitCode::FAILURE
        }
    }
}

fn describe(state: State, deeds: &[&Deed], text: &mut String) -> Result<(), String> {
    let (_, before) = effects(state, &NULL)?;
    for deed in deeds {
        let (said, after) =
            effects(state, deed).map_err(|why| format!("{} in {state:?}: {why}", deed.name))?;
        let _ = writeln!(text, "{} in {state:?}: {said:?}", deed.name);
        after
            .since(&before, |name| !is_bounded(name))
            .iter()
            .for_each(|line| _ = writeln!(text, "    {line}"));
    }
    Ok(())
}
