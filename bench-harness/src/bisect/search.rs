//! The search: it halves the range between an event after which the state is right and an event
//! after which it is wrong.
//!
//! # When its result is right
//! Halving examines few events, and assumes that a state that is wrong after one event is wrong
//! after all later events. If this is not so, the search still finds a change: the state is right
//! after one event and wrong after the next. A few [looks](LATER) at later events show whether the
//! change lasts. If the state is right after one of them, the search continues from there.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::trouble::Trouble;

/// What is looked at after what was found, to see whether it lasts: so many events later. What
/// several CPUs are in the middle of takes some hundred events at most.
const LATER: [u64; 4] = [4, 16, 64, 256];

/// What was seen after an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    pub event: u64,
    /// The event's number, its point and its time, as the kernel says them.
    pub place: String,
    pub is_wrong: bool,
    /// What is wrong, or why it is not.
    pub said: Vec<String>,
}

/// A run that can be looked at after each of its events: the same run every time.
pub trait Machine {
    fn look(&mut self, event: u64) -> Result<Look>;
}

/// How the answers are called.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// What a good look says: `all rules hold`.
    pub well: &'static str,
    /// `a rule does not hold`.
    pub wrong: &'static str,
}

/// Two events that follow each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// All is well after this one.
    pub well: Look,
    /// And not after the next.
    pub wrong: Look,
}

/// Finds the first event after which something is wrong, from `from` to the event of the look `to`.
/// Errors where there is none such, or where the run is not the same every time.
pub fn search(
    machine: &mut impl Machine,
    words: Words,
    from: u64,
    to: Look,
    tell: &mut dyn FnMut(&str),
) -> Result<Found> {
    let mut search = Search { machine, words, tell, started: Instant::now(), looks: 0 };
    let found = search.whole(from, to)?;
    search.confirm(&found)?;
    Ok(found)
}

struct Search<'a, M> {
    machine: &'a mut M,
    words: Words,
    tell: &'a mut dyn FnMut(&str),
    started: Instant,
    /// How many there were.
    looks: u32,
}

impl<M: Machine> Search<'_, M> {
    fn look(&mut self, event: u64) -> Result<Look> {
        let look = self.machine.look(event).with_context(|| format!("looking after event {event}"))?;
        self.looks += 1;
        Ok(look)
    }

    fn whole(&mut self, from: u64, to: Look) -> Result<Found> {
        let Words { well, wrong } = self.words;
        if !to.is_wrong {
            let text = format!("after event {}, where the search would end, {well}", to.event);
            return Err(failed(text, &to.said));
        }
        if to.event <= from {
            let text =
                format!("event {from}, where the search would begin, is not before event {}", to.event);
            return Err(Trouble::Usage(text).into());
        }
        let first = self.look(from)?;
        if first.is_wrong {
            let text = format!("after event {from}, where the search would begin, {wrong} already");
            return Err(failed(text, &first.said));
        }
        let mut found = self.halve(first, &to)?;
        while let Some(later) = self.is_well_later(&found.wrong, to.event)? {
            (self.tell)(&format!(
                "after event {} {wrong}, and after event {} {well} again: looks for a later one",
                found.wrong.event, later.event
            ));
            found = self.halve(later, &to)?;
        }
        Ok(found)
    }

    /// Halves the range between two events until they are neighbours.
    fn halve(&mut self, mut well: Look, to: &Look) -> Result<Found> {
        let mut wrong = to.clone();
        while well.event + 1 < wrong.event {
            let look = self.look(well.event.midpoint(wrong.event))?;
            let left = if look.is_wrong { look.event - well.event } else { wrong.event - look.event };
            let progress = self.progress(&look, left);
            (self.tell)(&progress);
            let side = if look.is_wrong { &mut wrong } else { &mut well };
            *side = look;
        }
        Ok(Found { well, wrong })
    }

    fn progress(&self, look: &Look, events: u64) -> String {
        let answer = if look.is_wrong { self.words.wrong } else { self.words.well };
        let each = self.started.elapsed().as_secs_f64() / f64::from(self.looks.max(1));
        // Until one event is left; then at later ones, and at both that were found.
        let more = events.next_power_of_two().ilog2() as usize + LATER.len() + 2;
        format!(
            "event {}: {answer}; {events} events left, {more} more looks of about {each:.0} s",
            look.place
        )
    }

    /// Returns a look at a later event, before `end`, after which nothing is wrong, if there is
    /// one.
    fn is_well_later(&mut self, wrong: &Look, end: u64) -> Result<Option<Look>> {
        for event in LATER.map(|later| wrong.event + later).into_iter().filter(|event| *event < end) {
            let look = self.look(event)?;
            if !look.is_wrong {
                return Ok(Some(look));
            }
        }
        Ok(None)
    }

    /// Looks at both events of a finding once more: a run that is not the same every time has no
    /// first event.
    fn confirm(&mut self, found: &Found) -> Result<()> {
        for before in [&found.well, &found.wrong] {
            let again = self.look(before.event)?;
            if again != *before {
                let text = format!(
                    "the run does not replay: at event {} and then at event {}, which was found otherwise before",
                    before.place, again.place
                );
                return Err(failed(text, &again.said));
            }
        }
        Ok(())
    }
}

/// Makes the error of a failure, with what was seen.
fn failed(text: String, said: &[String]) -> anyhow::Error {
    let lines: String = said.iter().map(|line| format!("\n  | {line}")).collect();
    Trouble::CheckFailed(text + &lines).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words = Words { well: "all is well", wrong: "something is wrong" };
    const LAST: u64 = 1000;

    /// A run in which something is wrong after the events that `is_wrong` names.
    struct Fake<F> {
        is_wrong: F,
        looked: Vec<u64>,
    }

    impl<F: FnMut(u64) -> bool> Machine for Fake<F> {
        fn look(&mut self, event: u64) -> Result<Look> {
            self.looked.push(event);
            assert!(event <= LAST, "there is no event {event}");
            let is_wrong = (self.is_wrong)(event);
            Ok(Look { event, place: format!("{event} (PopRead), TSC 5"), is_wrong, said: Vec::new() })
        }
    }

    /// Searches from event 1 to the last; where it looked, too.
    fn searched(is_wrong: impl FnMut(u64) -> bool) -> (Result<Found>, Vec<u64>) {
        let mut fake = Fake { is_wrong, looked: Vec::new() };
        let to = fake.look(LAST).expect("a look");
        (search(&mut fake, WORDS, 1, to, &mut |_| ()), fake.looked)
    }

    fn found(is_wrong: impl FnMut(u64) -> bool) -> (u64, u64) {
        let found = searched(is_wrong).0.expect("there is one");
        assert!(!found.well.is_wrong && found.wrong.is_wrong);
        (found.well.event, found.wrong.event)
    }

    fn refused(is_wrong: impl FnMut(u64) -> bool) -> String {
        searched(is_wrong).0.expect_err("there is none").to_string()
    }

    #[test]
    fn it_finds_each_event() {
        for first in 2..=LAST {
            assert_eq!(found(|event| event >= first), (first - 1, first));
        }
    }

    #[test]
    fn it_looks_at_few_events() {
        let (_, looked) = searched(|event| event >= 700);
        assert!(looked.len() <= 1 + 1 + 10 + LATER.len() + 2, "{looked:?}");
    }

    #[test]
    fn never_and_always_are_refused() {
        assert_eq!(refused(|_| false), "after event 1000, where the search would end, all is well");
        let always = refused(|_| true);
        assert_eq!(always, "after event 1, where the search would begin, something is wrong already");
    }

    #[test]
    fn what_does_not_last_is_passed_over() {
        // Halving meets the first of them at event 500, and goes down from there.
        let passing = |event: u64| (400..=503).contains(&event) || event >= 800;
        assert_eq!(found(passing), (799, 800));
        // Longer than anything that is in the middle of something: it is taken for what lasts.
        assert_eq!(found(|event| (400..=700).contains(&event) || event >= 800), (399, 400));
    }

    #[test]
    fn a_run_that_does_not_replay_is_noticed() {
        let mut looks = 0;
        let error = refused(|event| {
            looks += 1;
            event >= 300 && looks < 17
        });
        assert!(error.starts_with("the run does not replay: at event 300 "), "{error}");
    }

    #[test]
    fn the_ends_have_to_be_in_order() {
        let mut fake = Fake { is_wrong: |_| true, looked: Vec::new() };
        for event in [4, 5] {
            let to = fake.look(event).expect("a look");
            let error = search(&mut fake, WORDS, 5, to, &mut |_| ()).expect_err("out of order");
            assert!(matches!(error.downcast_ref(), Some(Trouble::Usage(_))), "{error}");
        }
    }

    #[test]
    fn a_boot_that_fails_ends_it_and_says_where() {
        struct Broken;
        impl Machine for Broken {
            fn look(&mut self, _: u64) -> Result<Look> {
                Err(Trouble::NoMachine("QEMU did not start".to_owned()).into())
            }
        }
        let to = Look { event: 9, place: String::new(), is_wrong: true, said: Vec::new() };
        let error = search(&mut Broken, WORDS, 1, to, &mut |_| ()).expect_err("no machine");
        assert_eq!(format!("{error:#}"), "looking after event 1: QEMU did not start");
        assert_eq!(crate::trouble::status_of(&error), crate::trouble::status::NO_MACHINE);
    }

    #[test]
    fn progress_says_how_much_is_left() {
        let mut told = Vec::new();
        let mut fake = Fake { is_wrong: |event| event >= 300, looked: Vec::new() };
        let to = fake.look(LAST).expect("a look");
        search(&mut fake, WORDS, 1, to, &mut |line| told.push(line.to_owned())).expect("there is one");
        let first =
            "event 500 (PopRead), TSC 5: something is wrong; 499 events left, 15 more looks of about 0 s";
        assert_eq!(told[0], first);
        assert!(told.last().is_some_and(|line| line.contains("1 events left, 6 more")), "{told:?}");
    }
}
