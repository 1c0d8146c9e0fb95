//! What a pager asks an out-of-memory policy before it refuses memory.

use core::sync::atomic::Ordering::Relaxed;

use abi::MSG_UTCB_WORDS;

use super::{SERVER, numbered};
use crate::cap::{Exposure, Group};
use crate::ipc::{Message, Received};
use crate::utcb;

numbered! {
    /// What there is not enough of.
    Shortage {
        /// Every frame that the client may hold is pinned, or cannot be put away.
        Limit = 1;
        /// No frame of anybody's can be put away.
        Memory = 2;
    }
}

/// Words that describe one holder, and how many fit into a question.
const HOLDER_WORDS: usize = 4;
pub const HOLDERS_MAX: usize = MSG_UTCB_WORDS / HOLDER_WORDS;

/// Label of the question.
const ASK: u32 = 1;

/// Somebody who holds memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holder {
    pub client: u16,
    pub frames: u32,
    pub pinned: u32,
    pub limit: u32,
}

/// What a pager asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question<'a> {
    pub shortage: Shortage,
    /// Who wants a frame.
    pub asker: u16,
    /// Times it was asked for this one frame before.
    pub before: u32,
    /// Who holds frames: the largest, if there are too many to name.
    pub holders: &'a [Holder],
}

/// What the policy says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Refuse.
    Refuse,
    /// Try to put a page of this client away.
    Evict(u16),
    /// End this client.
    Kill(u16),
}

/// An out-of-memory policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy(Exposure);

impl Policy {
    pub fn of(group: &Group) -> Policy {
        Policy(group.exposure(SERVER))
    }

    /// Asks it. A policy that is no more, or says what nobody understands, refuses.
    pub fn ask(self, question: &Question<'_>) -> Advice {
        let words = utcb::current().message().as_chunks::<HOLDER_WORDS>().0;
        let count = question.holders.len().min(HOLDERS_MAX);
        for (to, holder) in words.iter().zip(question.holders) {
            let values =
                [u64::from(holder.client), holder.frames.into(), holder.pinned.into(), holder.limit.into()];
            for (word, value) in to.iter().zip(values) {
                word.store(value, Relaxed);
            }
        }
        let regs = [question.shortage as u64, question.asker.into(), question.before.into(), count as u64];
        match self.0.call(&Message::with_words(ASK, regs, (count * HOLDER_WORDS) as u8)) {
            Ok(Message { label: 2, regs: [client, ..], .. }) => Advice::Evict(client as u16),
            Ok(Message { label: 3, regs: [client, ..], .. }) => Advice::Kill(client as u16),
            _ => Advice::Refuse,
        }
    }
}

/// The question that was received, its holders put into `holders`; `None` where it is none.
pub fn question<'a>(call: &Received, holders: &'a mut [Holder; HOLDERS_MAX]) -> Option<Question<'a>> {
    let [shortage, asker, before, count] = call.message.regs;
    if call.message.label != ASK || count as usize * HOLDER_WORDS > call.message.words.into() {
        return None;
    }
    let words = utcb::current().message().as_chunks::<HOLDER_WORDS>().0;
    for (holder, from) in holders.iter_mut().zip(words).take(count as usize) {
        let [client, frames, pinned, limit] = core::array::from_fn(|index| from[index].load(Relaxed));
        let (frames, pinned, limit) = (frames as u32, pinned as u32, limit as u32);
        *holder = Holder { client: client as u16, frames, pinned, limit };
    }
    Some(Question {
        shortage: Shortage::from_raw(shortage as u32)?,
        asker: asker as u16,
        before: before as u32,
        holders: holders.get(..count as usize)?,
    })
}

/// The answer to a question.
pub fn advise(advice: Advice) -> Message {
    match advice {
        Advice::Refuse => Message::new(1, [0; 4]),
        Advice::Evict(client) => Message::new(2, [client.into(), 0, 0, 0]),
        Advice::Kill(client) => Message::new(3, [client.into(), 0, 0, 0]),
    }
}
