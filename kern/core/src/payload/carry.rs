//! What messages carry besides words: [pages](crate::payload::pages) and
//! [capabilities](crate::payload::grants).
//!
//! All checks that can fail come before any transfer: a message arrives with its whole payload, or
//! not at all. It is not a failure if the receiver does not listen for a capability: the message
//! arrives and reports the capability's fate.

use abi::{
    FLAG_CAPS, FLAG_PAGES, FLAG_UNTAKEN, GRANTS_MAX, Listening, MsgInfo, Rights, SEND_CAPS, SEND_PAGES,
    SEND_WORDS,
};
use kern_base::limits::ENTRY_WORK;
use kern_base::machine::Machine;
use kern_base::message::Words;
use kern_base::task::Task;
use smp::door::Ref;
use smp::quiesce;
use smp::sync::Ordering::Relaxed;
#[expect(clippy::disallowed_types, reason = "user level shares it")]
use smp::sync::UserWord;

use crate::payload::grants::{Grants, Patience, Prepared};
use crate::payload::pages::InVain;
use crate::rooms::Payload;
use crate::{OpenTask, Refusal, Result};

/// Flags of a message with a payload.
pub const PAYLOAD_FLAGS: u64 = FLAG_PAGES | FLAG_CAPS;

/// Returns the rights that a message needs, in the group capability and in the member record.
pub fn rights_of(info: MsgInfo) -> Rights {
    let given = [(FLAG_PAGES, SEND_PAGES), (FLAG_CAPS, SEND_CAPS)];
    let carried = given.into_iter().filter(|(flag, _)| info.has(*flag));
    carried.fold(rights_of_words(info), |all, (_, right)| all | right)
}

/// Returns the rights that a message without a payload needs.
pub fn rights_of_words(info: MsgInfo) -> Rights {
    if info.words() > 0 { SEND_WORDS } else { Rights::SEND }
}

/// Writes two words of a list.
#[expect(clippy::disallowed_types, reason = "user level shares it")]
pub fn store(to: &[UserWord; 2], words: [u64; 2]) {
    to.iter().zip(words).for_each(|(word, value)| word.store(value, Relaxed));
}

impl<'k, M: Machine> Payload<'k, M> {
    /// Transfers a message's whole payload to its receiver, or nothing of it.
    #[inline(always)]
    pub fn pass_payload(
        self,
        sender: Ref<'k, Task>,
        receiver: Ref<'k, Task>,
        info: MsgInfo,
        patience: Patience,
    ) -> Result<()> {
        if info.has(FLAG_CAPS) {
            return self.pass_with_grants(sender, receiver, info, patience);
        }
        self.pass_pages(sender, receiver, info, patience, || Ok(()))
    }

    #[inline(never)]
    fn pass_with_grants(
        self,
        sender: Ref<'k, Task>,
        receiver: Ref<'k, Task>,
        info: MsgInfo,
        patience: Patience,
    ) -> Result<()> {
        let (to, utcb) = (self.process_of(receiver)?, receiver.get().utcb(self.pin()));
        let mut prepared = Prepared::with_offer(Listening::from_word(utcb.listening.load(Relaxed)));
        self.prepare_grants(sender, to, patience, &mut prepared)?;
        let marked = &prepared;
        let last = move || self.mark_disposals(sender, marked);
        let ready = if info.has(FLAG_PAGES) {
            self.pass_pages(sender, receiver, info, patience, last)
        } else {
            last()
        };
        if let Err(refusal) = ready {
            self.unprepare_grants(&prepared);
            return Err(refusal);
        }
        let (count, left) =
            self.pass_grants(sender, &prepared, |place, words| store(&utcb.grants[place], words));
        utcb.listening.store(left.word(), Relaxed);
        utcb.grant_count.store(count, Relaxed);
        if let Some(labels) = prepared.forbidden {
            self.security().audit_untaken(sender, labels);
        }
        Ok(())
    }

    /// Returns whether the message that a waiting task sends has pages.
    pub fn sends_pages(self, sender: Ref<'k, Task>) -> bool {
        sender.get().message(self.pin()).is_some_and(|msg| msg.info().has(FLAG_PAGES))
    }

    /// Transfers the payload of a message that has waited.
    /// Errors: [`Refusal::More`] if the payload must wait for a grace period. The sender then tries
    /// again.
    pub fn pass_waiting_load(
        self,
        sender: Ref<'k, Task>,
        receiver: Ref<'k, Task>,
        info: MsgInfo,
    ) -> Result<()> {
        self.note_work(ENTRY_WORK);
        self.pass_payload(sender, receiver, info, Patience::Wait).map_err(|refusal| self.later(refusal))
    }

    /// Requests the grace period that a refused transfer must wait for. Returns the refusal with
    /// which the sender, which is not running, tries again.
    pub fn later(self, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::Restart { epoch } | Refusal::NotReady { epoch } => {
                quiesce::request_epoch(self.k, self.pin(), epoch);
                Refusal::More
            }
            other => other,
        }
    }

    /// Prepares a call with a payload. If the callee receives now (`receives`), transfers the
    /// payload. Otherwise checks the capabilities and lends the pages.
    #[inline(always)]
    pub fn send_payload(
        self,
        me: OpenTask<'k>,
        callee: Ref<'k, Task>,
        info: MsgInfo,
        receives: bool,
    ) -> Result<()> {
        if receives {
            return self.give_load(me, callee, info, Patience::Wait);
        }
        if info.has(FLAG_CAPS) {
            self.look_for_disposals(me)?;
            self.check_grants(me.object())?;
        }
        if info.has(FLAG_PAGES) {
            self.lend_pages(me, info, Patience::Wait, InVain::No).map(drop)
        } else {
            Ok(())
        }
    }

    /// Waits until the next slots that the running task offers for capabilities can be filled. A
    /// caller that listens does so before its call: the reply does not wait.
    #[inline(never)]
    pub fn ready_slots(self, me: OpenTask<'k>) -> Result<()> {
        let process = me.process(self.pin());
        let mut offer = Listening::from_word(me.get().utcb(self.pin()).listening.load(Relaxed));
        for _ in 0..GRANTS_MAX {
            let Some(cap) = offer.take() else { break };
            // A slot that does not exist, or is full, takes no capability.
            let Ok(slot) = self.caps().slot_of(process, cap) else { continue };
            match self.caps().check_fillable(slot.get().word.load(self.pin())) {
                Ok(()) | Err(Refusal::Error { .. }) => {}
                Err(later) => return Err(later),
            }
        }
        Ok(())
    }

    /// Transfers the payload of the running task's message now.
    #[inline(always)]
    fn give_load(
        self,
        me: OpenTask<'k>,
        receiver: Ref<'k, Task>,
        info: MsgInfo,
        patience: Patience,
    ) -> Result<()> {
        if info.has(FLAG_CAPS) {
            self.look_for_disposals(me)?;
        }
        if info.has(FLAG_PAGES) {
            return self.give_pages(me, receiver, info, patience);
        }
        self.pass_with_grants(me.object(), receiver, info, patience)
    }

    /// Transfers the payload of the running task's reply, before the reply is sent: the replier
    /// learns which of its lists is malformed. What the caller cannot take is not the replier's
    /// error, nor is what others have taken away from the replier: the reply goes without it.
    /// Returns: the words that the caller gets.
    #[inline(never)]
    pub fn give_reply(self, me: OpenTask<'k>, caller: Ref<'k, Task>, words: Words) -> Result<Words> {
        let given = self.give_load(me, caller, words.info, Patience::Reply);
        if matches!(given, Err(Refusal::AT_ONCE | Refusal::More | Refusal::Again | Refusal::Dispose)) {
            return given.map(|()| words);
        }
        me.end_reply_waits();
        match given {
            Ok(()) => {
                // Pages of a call that the replier receives next come in another entry.
                self.note_work(if words.info.has(FLAG_PAGES) { ENTRY_WORK } else { 0 });
                Ok(words)
            }
            Err(refusal) if refusal.is_of_receiver() => {
                if let Some(labels) = refusal.labels() {
                    self.security().audit_untaken(me.object(), labels);
                }
                Ok(self.leave_payload(me, words))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Leaves the payload of a reply with its sender. The list of pages stays, which tells the
    /// sender; the capabilities have their fates.
    #[cold]
    #[inline(never)]
    fn leave_payload(self, me: OpenTask<'k>, words: Words) -> Words {
        self.take_pages_back(me);
        if words.info.has(FLAG_CAPS) {
            let utcb = me.get().utcb(self.pin());
            let mut grants = Grants::new();
            // The list was read before. A program that has changed it since deceives itself.
            let _ = self.grants_of(me.object(), &mut grants);
            let process = me.process(self.pin());
            let fates = grants.into_iter().enumerate();
            let fates = fates.map(|(place, grant)| self.fate_left(process, grant).word(place));
            utcb.grant_fates.store(fates.fold(0, |all, fate| all | fate), Relaxed);
            utcb.grant_count.store(0, Relaxed);
        }
        let info = MsgInfo(words.info.0 & !PAYLOAD_FLAGS).flag(FLAG_UNTAKEN);
        Words { info, ..words }
    }
}
