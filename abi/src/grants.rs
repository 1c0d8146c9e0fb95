//! Capabilities in messages: the sender's list and the receiver's list.
//!
//! A call, a reply or an event with [`FLAG_CAPS`](crate::FLAG_CAPS) carries the capabilities that
//! the sender's UTCB lists in [`Utcb::grants`](crate::Utcb::grants), as many as
//! [`Utcb::grant_count`](crate::Utcb::grant_count) says: slots of the sender's CSpace, each copied
//! or moved ([`Grant`]). They stay in these slots until the message is received. The message
//! carries what the slots hold at that time, so a revoke before then still deletes the
//! capabilities.
//!
//! # Listening
//! A receiver gets capabilities only in slots of its own CSpace that it has offered in its UTCB
//! ([`Utcb::listening`](crate::Utcb::listening), [`Listening`]). Each arriving capability takes the
//! next slot, and the kernel removes the slot from the offer. If the offer is used up, or the slot
//! is not empty, the capability is *disposed of*, and the message arrives without it. A copy is
//! then not made; for a capability to be moved, its type has a rule ([`ObjType::disposal`]).
//!
//! A slot that was emptied a moment ago cannot be filled yet. A call waits for the receiver's slot.
//! A reply never waits for its caller: the capability is [untaken](Fate::Untaken). So is a
//! capability that labels forbid to the caller. A caller whose slots may be that new calls with
//! [`FLAG_LISTEN`](crate::FLAG_LISTEN).
//!
//! # Results
//! The receiver's list has the fate and the slot of each capability ([`Received`]). The sender gets
//! the fates in [`Utcb::grant_fates`](crate::Utcb::grant_fates), and its count becomes 0 as soon as
//! the message has been delivered.

use crate::{Cap, ObjType, Rights};

/// Capabilities that a message can have.
pub const GRANTS_MAX: usize = 4;
/// Bits of a badge.
pub const BADGE_BITS: u32 = 48;

/// A capability that a message is to carry. Two words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grant {
    /// The receiver gets a copy with these rights, derived as by
    /// [`Op::CapCopy`](crate::Op::CapCopy). The capability needs GRANT.
    Copy { cap: Cap, rights: Rights, badge: u64 },
    /// The receiver gets the capability itself, as by [`Op::CapMove`](crate::Op::CapMove).
    Move { cap: Cap },
    /// It was to be moved to a receiver that does not listen. The kernel writes this, restarts the
    /// sender's system call, and disposes of the capability in the sender's name, if it is still
    /// one of the object with that identity.
    Dispose { cap: Cap, of: u64 },
    /// Nothing goes any more: that is known already. The kernel writes this after
    /// [`Grant::Dispose`]; the fate is [`Fate::Disposed`], [`Fate::Kept`] or [`Fate::Gone`].
    Settled { cap: Cap, fate: Fate },
}

impl Grant {
    /// Returns the slot of the sender.
    pub const fn cap(self) -> Cap {
        match self {
            Grant::Copy { cap, .. }
            | Grant::Move { cap }
            | Grant::Dispose { cap, .. }
            | Grant::Settled { cap, .. } => cap,
        }
    }
}

/// The fate of a capability in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Fate {
    /// The receiver has it.
    Arrived = 1,
    /// The receiver does not listen: it was disposed of.
    Disposed = 2,
    /// Disposed of, but the sender keeps it, by the rule of its type or because the object cannot
    /// end.
    Kept = 3,
    /// It was gone when the message was received: deleted, moved, or revoked. In a reply, an empty
    /// slot has this fate, too.
    Gone = 4,
    /// The caller could not take it from a reply: the offered slot was emptied a moment ago, labels
    /// forbid it to the caller, or the caller is ending. The sender keeps it, and a copy is not
    /// made.
    Untaken = 5,
}

/// What is done with a capability that was to be moved to somebody who does not listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposal {
    /// It stays the sender's.
    Keep,
    /// It is deleted as by [`Op::CapDelete`](crate::Op::CapDelete); where it was the last, its
    /// object ends.
    Delete,
}

impl Fate {
    pub const ALL: [Fate; 5] = [Fate::Arrived, Fate::Disposed, Fate::Kept, Fate::Gone, Fate::Untaken];

    pub const fn from_raw(raw: u8) -> Option<Fate> {
        match raw {
            1 => Some(Fate::Arrived),
            2 => Some(Fate::Disposed),
            3 => Some(Fate::Kept),
            4 => Some(Fate::Gone),
            5 => Some(Fate::Untaken),
            _ => None,
        }
    }

    /// Decodes the fate of the capability at a place of the list, from a word of fates.
    pub const fn in_word(word: u64, place: usize) -> Option<Fate> {
        if place < 8 { Fate::from_raw((word >> (8 * place)) as u8) } else { None }
    }

    /// Encodes this fate in a word of fates, for one place.
    pub const fn word(self, place: usize) -> u64 {
        (self as u64) << (8 * place)
    }
}

impl ObjType {
    /// Returns how a capability is disposed of that was to be moved to a process that does not
    /// listen. (Of a process that ends, all are deleted.)
    ///
    /// An Untyped stays with the sender: nobody else could ever use its memory again. A Reply is
    /// deleted, and the caller whose call it kept hears [`Gone`](crate::Error::Gone). So are all
    /// others, as if the sender had done it; what the sender cannot end (its own task, process or
    /// spaces, a frame that is pinned) it keeps.
    pub const fn disposal(self) -> Disposal {
        match self {
            ObjType::Untyped => Disposal::Keep,
            _ => Disposal::Delete,
        }
    }
}

const CODE: u32 = 56;
const MOVE: u64 = 1;
const DISPOSE: u64 = 2;
const SETTLED: u64 = 8;

const fn first_word(cap: Cap, rights: Rights, code: u64) -> u64 {
    cap.0 as u64 | (rights.0 as u64) << 32 | code << CODE
}

impl Grant {
    /// Encodes the grant: slot in the low half; rights from bit 32, the action from bit 56. Then
    /// the badge, or the identity.
    pub const fn words(self) -> [u64; 2] {
        match self {
            Grant::Copy { cap, rights, badge } => [first_word(cap, rights, 0), badge],
            Grant::Move { cap } => [first_word(cap, Rights::NONE, MOVE), 0],
            Grant::Dispose { cap, of } => [first_word(cap, Rights::NONE, DISPOSE), of],
            Grant::Settled { cap, fate } => [first_word(cap, Rights::NONE, SETTLED | fate as u64), 0],
        }
    }

    /// Decodes words; `None` if no grant has these [`Grant::words`].
    pub const fn from_words([first, second]: [u64; 2]) -> Option<Grant> {
        let (cap, code) = (Cap(first as u32), first >> CODE);
        let rights = Rights((first >> 32) as u32 & 0xff_ffff);
        if code == 0 {
            let fits = Rights::ALL.contains(rights) && second >> BADGE_BITS == 0;
            return if fits { Some(Grant::Copy { cap, rights, badge: second }) } else { None };
        }
        if rights.0 != 0 || (second != 0 && code != DISPOSE) {
            return None;
        }
        match (code, Fate::from_raw((code & !SETTLED) as u8)) {
            (MOVE, _) => Some(Grant::Move { cap }),
            (DISPOSE, _) => Some(Grant::Dispose { cap, of: second }),
            (SETTLED.., Some(fate @ (Fate::Disposed | Fate::Kept | Fate::Gone))) => {
                Some(Grant::Settled { cap, fate })
            }
            _ => None,
        }
    }
}

/// The slots in which a task takes capabilities: the next, and how many there are. One word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listening {
    pub next: Cap,
    pub count: u32,
}

impl Listening {
    /// It takes none.
    pub const NOT: Listening = Listening { next: Cap::NULL, count: 0 };

    pub const fn word(self) -> u64 {
        self.next.0 as u64 | (self.count as u64) << 32
    }

    pub const fn from_word(word: u64) -> Listening {
        Listening { next: Cap(word as u32), count: (word >> 32) as u32 }
    }

    /// Takes the next slot off the offer.
    pub const fn take(&mut self) -> Option<Cap> {
        let Some(left) = self.count.checked_sub(1) else { return None };
        let slot = self.next;
        (self.next, self.count) = (Cap(slot.0.wrapping_add(1)), left);
        Some(slot)
    }
}

/// What a receiver finds of a capability. Two words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    pub fate: Fate,
    /// Where it is; [`Cap::NULL`] of one that did not arrive.
    pub cap: Cap,
    pub rights: Rights,
    /// The type of its object, if it arrived.
    pub object: Option<ObjType>,
}

impl Received {
    pub const fn words(self) -> [u64; 2] {
        let object = match self.object {
            Some(object) => object as u64,
            None => 0,
        };
        [first_word(self.cap, self.rights, SETTLED | self.fate as u64), object]
    }

    /// Decodes words; `None` for words that the kernel does not write.
    pub const fn from_words([first, object]: [u64; 2]) -> Option<Received> {
        let Some(fate) = Fate::from_raw((first >> CODE & !SETTLED) as u8) else { return None };
        let rights = Rights((first >> 32) as u32 & 0xff_ffff);
        Some(Received { fate, cap: Cap(first as u32), rights, object: ObjType::from_raw(object as u8) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_survive_being_words() {
        let cap = Cap(0xdead_beef);
        let copy = Grant::Copy { cap, rights: Rights::ALL, badge: (1 << BADGE_BITS) - 1 };
        let settled = [Fate::Disposed, Fate::Kept, Fate::Gone].map(|fate| Grant::Settled { cap, fate });
        for grant in
            [copy, Grant::Move { cap }, Grant::Dispose { cap, of: u64::MAX }].into_iter().chain(settled)
        {
            assert_eq!(Grant::from_words(grant.words()), Some(grant));
        }
        let code = |code: u64| code << CODE;
        let wrong = [
            [1 | 1 << 50, 0],
            [1, 1 << BADGE_BITS],
            [1 | code(MOVE), 1],
            [1 | code(MOVE) | 1 << 32, 0],
            [1 | code(3), 0],
            [1 | code(SETTLED), 0],
            [1 | code(SETTLED | Fate::Arrived as u64), 0],
            [1 | code(SETTLED | Fate::Untaken as u64), 0],
            [1 | code(SETTLED | 6), 0],
            [1 | code(0xff), 0],
            [1 | code(17), 0],
        ];
        for words in wrong {
            assert_eq!(Grant::from_words(words), None, "{words:x?}");
        }
    }

    #[test]
    fn offers_are_used_up() {
        let mut offer = Listening { next: Cap(7), count: 2 };
        assert_eq!(Listening::from_word(offer.word()), offer);
        assert_eq!([offer.take(), offer.take(), offer.take()], [Some(Cap(7)), Some(Cap(8)), None]);
        assert_eq!(Listening { next: Cap(u32::MAX), count: 9 }.take(), Some(Cap(u32::MAX)));
        let mut none = Listening::NOT;
        assert_eq!(none.take(), None);
    }

    #[test]
    fn receivers_are_told() {
        let there = Received {
            fate: Fate::Arrived,
            cap: Cap(9),
            rights: Rights::SEND,
            object: Some(ObjType::EventPool),
        };
        let not = Received { fate: Fate::Gone, cap: Cap::NULL, rights: Rights::NONE, object: None };
        let untaken = Received { fate: Fate::Untaken, ..not };
        for received in [there, not, untaken] {
            assert_eq!(Received::from_words(received.words()), Some(received));
        }
        let word = Fate::Kept.word(0) | Fate::Gone.word(3);
        let told = [0, 1, 2, 3, 9].map(|place| Fate::in_word(word, place));
        assert_eq!(told, [Some(Fate::Kept), None, None, Some(Fate::Gone), None]);
    }
}
