//! The rule: a client at its own limit is refused; if memory is used up, the account that holds
//! most pays.
//!
//! The rule sees whole accounts, with all their parts.
//!
//! - An account that is at its limit is refused: the limit is what was agreed.
//! - If memory is used up, and the largest account holds more than twice as much as the requesting
//!   account, the policy first lets the pager evict a page of the largest account, if that has
//!   pages that are not pinned.
//! - If the pager asks again for the same frame, the policy ends the largest account's client. In
//!   all other cases the policy refuses: the requesting client gets an error, and no other client
//!   is affected.

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
