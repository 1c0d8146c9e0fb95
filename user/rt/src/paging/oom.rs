//! A pager's requests to an out-of-memory policy before it refuses memory: the protocol of
//! `schema/oom.capnp`.

use protocols::capnp;
use protocols::oom::{self, answer, request};

use super::SERVER;
use crate::cap::{Exposure, Group};
use crate::talk::Line;

pub use protocols::oom::Shortage;

/// How many fit into a question.
pub const HOLDERS_MAX: usize = 16;

/// An account that holds memory, with all its parts.
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
    /// The account that wants a frame: the whole account, if a part of it does.
    pub asker: u16,
    /// Times it was asked for this one frame before.
    pub before: u32,
    /// The holders of frames: the largest, if there are too many to name.
    pub holders: &'a [Holder],
}

/// What the policy says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Refuse.
    Refuse,
    /// Try to put a page of this client, or of a part of its account, away.
    Evict(u16),
    /// End this client, and with it all parts of its account.
    Kill(u16),
}

/// An out-of-memory policy.
#[derive(Clone, Copy, Debug)]
pub struct Policy(oom::Client<Line>);

impl Policy {
    pub fn of(group: &Group) -> Policy {
        Policy::at(group.exposure(SERVER))
    }

    pub fn at(exposure: Exposure) -> Policy {
        Policy(oom::Client(Line::to(exposure)))
    }

    /// Asks the policy. A policy that has ended, or whose answer cannot be read, refuses.
    pub fn ask(self, question: &Question<'_>) -> Advice {
        self.0.advice(|request| put(question, request), read).unwrap_or(Advice::Refuse)
    }
}

fn put(question: &Question<'_>, mut request: request::Builder<'_>) {
    request.set_shortage(question.shortage);
    request.set_asker(question.asker);
    request.set_before(question.before);
    let holders = &question.holders[..question.holders.len().min(HOLDERS_MAX)];
    let mut list = request.init_holders(holders.len() as u32);
    for (index, holder) in (0..).zip(holders) {
        let mut to = list.reborrow().get(index);
        to.set_client(holder.client);
        to.set_frames(holder.frames);
        to.set_pinned(holder.pinned);
        to.set_limit(holder.limit);
    }
}

fn read(advice: answer::advice::Reader<'_>) -> capnp::Result<Advice> {
    Ok(match advice.which()? {
        answer::advice::Refuse(()) => Advice::Refuse,
        answer::advice::Evict(client) => Advice::Evict(client),
        answer::advice::Kill(client) => Advice::Kill(client),
    })
}

/// Reads the question that was received. Puts its holders into `holders`, as many as fit.
pub fn question<'a>(
    asked: request::Reader<'_>,
    holders: &'a mut [Holder; HOLDERS_MAX],
) -> capnp::Result<Question<'a>> {
    let list = asked.get_holders()?;
    let count = (list.len() as usize).min(HOLDERS_MAX);
    for (to, holder) in holders.iter_mut().zip(list) {
        *to = Holder {
            client: holder.get_client(),
            frames: holder.get_frames(),
            pinned: holder.get_pinned(),
            limit: holder.get_limit(),
        };
    }
    Ok(Question {
        shortage: asked.get_shortage()?,
        asker: asked.get_asker(),
        before: asked.get_before(),
        holders: &holders[..count],
    })
}

/// Writes the policy's answer to a question.
pub fn advise(advice: Advice, mut answer: answer::advice::Builder<'_>) {
    match advice {
        Advice::Refuse => answer.set_refuse(()),
        Advice::Evict(client) => answer.set_evict(client),
        Advice::Kill(client) => answer.set_kill(client),
    }
}
