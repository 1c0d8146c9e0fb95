//! Capabilities in messages: sending, offering slots, and the fate of each.
//!
//! ```text
//! utcb::current().send_grants(&[copied(&note, Rights::NOTIFY, 0)]);
//! exposure.call(&message.with_caps())?;                    // the receiver has a copy now, if it listens
//! ```
//! A receiver offers slots before it receives ([`listen`](crate::utcb::Current::listen)), and finds
//! in [`received`](crate::utcb::Current::received) the capabilities of a message
//! ([`Message::caps`](crate::ipc::Message::caps)): [`Caps`] takes capabilities from there by type,
//! and deletes those that the receiver did not take.

use abi::{Cap, Fate, GRANTS_MAX, Grant, Listening, Received, Rights};

use crate::cap::Handle;
use crate::ipc::Message;
use crate::spawn::own;
use crate::utcb;

/// Makes a grant of a copy with these rights, of a capability that has GRANT.
pub fn copied<T: Handle>(handle: &T, rights: impl Into<T::Rights>, badge: u64) -> Grant {
    Grant::Copy { cap: handle.cap(), rights: rights.into().into(), badge }
}

/// Makes a grant of the capability itself. Its slot will be empty, whatever the capability's fate.
pub fn moved<T: Handle>(handle: T) -> Grant {
    Grant::Move { cap: handle.cap() }
}

/// Makes an offer of `count` slots, from the slot `next` on.
pub const fn offer(next: Cap, count: u32) -> Listening {
    Listening { next, count }
}

/// The capabilities that came with a message, by their places in its list.
///
/// Capabilities that are not taken must be [discarded](Caps::discard). Otherwise senders could fill
/// the slots that this process offers.
#[derive(Debug, Default)]
pub struct Caps([Option<Received>; GRANTS_MAX]);

impl Caps {
    /// Returns the capabilities of the message that this task just received. Its next message with
    /// capabilities overwrites them.
    pub fn of(message: &Message) -> Caps {
        if message.caps { Caps::among(utcb::current().received()) } else { Caps::default() }
    }

    fn among(mut list: impl Iterator<Item = Received>) -> Caps {
        Caps(core::array::from_fn(|_| list.next()))
    }

    /// Takes the capability at this place, if it arrived, has this type, and has these rights. It
    /// belongs to the caller from then on.
    pub fn take<T: Handle>(&mut self, place: u32, rights: impl Into<T::Rights>) -> Option<T> {
        let wanted: Rights = rights.into().into();
        let slot = self.0.get_mut(place as usize)?;
        let fits = |came: &Received| {
            came.fate == Fate::Arrived && came.object == Some(T::TYPE) && came.rights.contains(wanted)
        };
        Some(T::at(slot.take_if(|came| fits(came))?.cap))
    }

    /// Deletes the capabilities that arrived and were not taken.
    pub fn discard(self) {
        for came in self.0.into_iter().flatten().filter(|came| came.fate == Fate::Arrived) {
            // Where that is refused, it is gone already: a revoke came first.
            let _ = own::cnode().delete(came.cap);
        }
    }
}

#[cfg(test)]
mod tests {
    use abi::ObjType;

    use super::*;
    use crate::cap::{Frame, Notification};

    #[test]
    fn capabilities_are_taken_once_and_by_their_type() {
        let came = |fate, slot, rights| Received {
            fate,
            cap: Cap(slot),
            rights,
            object: Some(ObjType::Notification),
        };
        let list = [
            came(Fate::Arrived, 40, Rights::NOTIFY),
            came(Fate::Gone, 0, Rights::NONE),
            came(Fate::Arrived, 41, Rights::ALL),
        ];
        let mut caps = Caps::among(list.into_iter());
        assert_eq!(caps.take::<Frame>(0, Rights::NONE), None, "another type");
        assert_eq!(caps.take::<Notification>(0, Rights::SEND), None, "a right is missing");
        assert_eq!(caps.take::<Notification>(0, Rights::NOTIFY), Some(Notification::at(Cap(40))));
        assert_eq!(caps.take::<Notification>(0, Rights::NOTIFY), None, "taken already");
        assert_eq!(caps.take::<Notification>(1, Rights::NONE), None, "it did not arrive");
        assert_eq!(caps.take::<Notification>(3, Rights::NONE), None, "no such place");
        assert_eq!(caps.take::<Notification>(u32::MAX, Rights::NONE), None);
        assert!(caps.0[2].is_some(), "left to be discarded");
    }
}
