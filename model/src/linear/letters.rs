//! Determines which receive got which call's message.
//!
//! If all messages of a task differ, the history itself shows which task received which message,
//! and in which order. Then the search has fewer alternatives. Messages arrive at a task in the
//! order in which it receives them. A call that a task received cannot end before it is received.
//! If no task received a call, and it ended at its deadline, the search may assume that it was
//! never sent.
//!
//! Messages that equal another one, or that can have been forwarded, are left out here.

use alloc::vec;
use alloc::vec::Vec;

use abi::{Error, FLAG_NOTIFICATION, MsgInfo, Op};

use super::Call;
use crate::Id;
use crate::parts::System;

/// What is known of a call.
#[derive(Clone, Copy, Default)]
pub(super) struct Letter {
    /// Whether it is known who received it, if anybody did.
    pub known: bool,
    /// The receive that found its message.
    pub received: Option<usize>,
    /// The call that the same task received right before; and the last before it that came from
    /// another CPU and a task of the same rank, so that none has overtaken the other.
    pub behind: Option<usize>,
    pub follows: Option<usize>,
}

pub(super) struct Letters {
    of: Vec<Letter>,
    /// The receives of each task that does any, in their order. None where a task takes bits
    /// otherwise, too.
    receives: Vec<(Id, Vec<usize>)>,
}

/// What a receiver gets with a message: its info, its words, and its sender.
type Text = ([u64; 5], Id);

impl Letters {
    pub fn new(before: &System, calls: &[Call]) -> Letters {
        let mut letters = Letters { of: vec![Letter::default(); calls.len()], receives: Vec::new() };
        if !calls.iter().any(|it| it.op == Op::Wait) {
            letters.sort_receives(calls);
        }
        if calls.iter().any(|it| it.op == Op::Forward) {
            return letters;
        }
        let sent = |call: &Call| -> Text {
            let [_, _, words @ ..] = call.args.0;
            let info = call.args.1;
            let info = MsgInfo::new(info.label(), info.words() as u8).0;
            ([info, words[0], words[1], words[2], words[3]], call.me)
        };
        let texts: Vec<Option<Text>> =
            calls.iter().map(|call| (call.op == Op::Call).then(|| sent(call))).collect();
        for (call, text) in texts.iter().enumerate() {
            let alike = texts.iter().filter(|other| *other == text).count();
            letters.of[call].known = text.is_some() && alike == 1;
        }
        let mut receives: Vec<usize> = (0..calls.len()).filter(|it| receives(&calls[*it])).collect();
        receives.sort_unstable_by_key(|it| calls[*it].began);
        for (nth, receive) in receives.iter().enumerate() {
            let found = calls[*receive].found;
            let words = [found[0], found[3], found[4], found[5], found[6]];
            let Some(call) = texts.iter().position(|text| {
                text.is_some_and(|(text, who)| text == words && before.model.task(who).id.raw() == found[2])
            }) else {
                continue;
            };
            letters.of[call].received = Some(*receive);
            let me = calls[*receive].me;
            let rank = |call: usize| before.model.task(calls[call].me).rank;
            let is_far = |call: usize| before.model.task(calls[call].me).home != before.model.task(me).home;
            let by = |receive: &usize| {
                letters.of.iter().position(|letter| letter.known && letter.received == Some(*receive))
            };
            let earlier: Vec<usize> =
                receives[..nth].iter().rev().filter(|it| calls[**it].me == me).filter_map(by).collect();
            let far = earlier.iter().copied().find(|it| is_far(*it) && rank(*it) == rank(call));
            letters.of[call] = Letter { behind: earlier.first().copied(), follows: far, ..letters.of[call] };
        }
        letters
    }

    fn sort_receives(&mut self, calls: &[Call]) {
        // Calls that were refused for other reasons have not looked at the receiver.
        let looked = |error| matches!(error, Error::WouldBlock | Error::Timeout | Error::Cancelled);
        let receives = |it: &usize| {
            matches!(calls[*it].op, Op::Recv | Op::ReplyRecv) && calls[*it].status().is_none_or(looked)
        };
        let mut all: Vec<usize> = (0..calls.len()).filter(receives).collect();
        all.sort_unstable_by_key(|it| calls[*it].began);
        for receive in all {
            let me = calls[receive].me;
            match self.receives.iter_mut().find(|(task, _)| *task == me) {
                Some((_, those)) => those.push(receive),
                None => self.receives.push((me, vec![receive])),
            }
        }
    }

    /// Returns the receives of a task, in order.
    pub fn receives(&self, task: Id) -> &[usize] {
        self.receives.iter().find(|(of, _)| *of == task).map_or(&[], |(_, those)| those)
    }

    pub fn of(&self, call: usize) -> Letter {
        let it = self.of[call];
        if it.known { it } else { Letter::default() }
    }

    /// Returns whether a call's message was received by no task.
    pub fn is_nobodys(&self, call: usize) -> bool {
        self.of[call].known && self.of[call].received.is_none()
    }
}

/// Returns whether a call is a receive that found a message.
fn receives(call: &Call) -> bool {
    matches!(call.op, Op::Recv | Op::ReplyRecv)
        && call.status().is_none()
        && !MsgInfo(call.found[0]).has(FLAG_NOTIFICATION)
}
