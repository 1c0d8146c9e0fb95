//! The rule: the account that uses the largest part of its limit pays, and no account pays because
//! another is at its own limit.
//!
//! Those who hold are whole accounts, with all their parts.
//!
//! - An account that is at its limit is refused: the limit is what was agreed.
//! - Where there is no memory at all, those who hold more than the asker are asked to put pages
//!   away, the largest first. This is for a pager that goes by other rules; one that tried already
//!   asks again.
//! - Then the largest is ended, if it holds more than twice what the asker does. An asker that
//!   holds that much is refused: it gets an error it can see, and nobody else notices.

use user_rt::paging::{Advice, Question, Shortage};

/// Returns what the pager is to do.
pub fn advice(question: &Question<'_>) -> Advice {
    let largest = question.holders.iter().filter(|holder| holder.client != question.asker);
    let Some(largest) = largest.max_by_key(|holder| holder.frames) else { return Advice::Refuse };
    let own = question.holders.iter().find(|holder| holder.client == question.asker);
    let own = own.map_or(0, |holder| holder.frames);
    if question.shortage == Shortage::Limit || largest.frames <= 2 * own {
        return Advice::Refuse;
    }
    if question.before == 0 && largest.frames > largest.pinned {
        return Advice::Evict(largest.client);
    }
    Advice::Kill(largest.client)
}

#[cfg(test)]
mod tests {
    use user_rt::paging::Holder;

    use super::*;

    fn ask(shortage: Shortage, asker: u16, before: u32, frames: &[u32]) -> Advice {
        let holder = |(index, frames): (usize, &u32)| Holder {
            client: index as u16 + 1,
            frames: *frames,
            pinned: 0,
            limit: 100,
        };
        let holders: Vec<Holder> = frames.iter().enumerate().map(holder).collect();
        advice(&Question { shortage, asker, before, holders: &holders })
    }

    #[test]
    fn limits_are_limits() {
        assert_eq!(ask(Shortage::Limit, 1, 0, &[10, 90]), Advice::Refuse);
    }

    #[test]
    fn the_largest_pays_after_another_try() {
        assert_eq!(ask(Shortage::Memory, 1, 0, &[10, 30, 50]), Advice::Evict(3));
        assert_eq!(ask(Shortage::Memory, 1, 1, &[10, 30, 50]), Advice::Kill(3));
        assert_eq!(ask(Shortage::Memory, 9, 1, &[10, 30, 50]), Advice::Kill(3), "who holds nothing yet");
    }

    #[test]
    fn who_holds_much_is_refused() {
        assert_eq!(ask(Shortage::Memory, 3, 1, &[10, 30, 50]), Advice::Refuse);
        assert_eq!(ask(Shortage::Memory, 2, 1, &[10, 30, 50]), Advice::Refuse);
        assert_eq!(ask(Shortage::Memory, 1, 1, &[10]), Advice::Refuse);
        assert_eq!(ask(Shortage::Memory, 1, 1, &[]), Advice::Refuse);
    }
}
