//! Capabilities in messages.
//!
//! # Where they are
//! In the sender's slots, until the message is received: nothing of them is in the message but the list in the sender's
//! UTCB, which is read then, on the receiver's CPU. So a sender that dies, is cancelled or gives up has lost nothing, a
//! revoke finds them, and what is wrong by then is the sender's error.
//!
//! # Two halves
//! [`Payload::prepare_grants`] looks at everything and claims the receiver's slots; then nothing can fail.
//! [`Payload::pass_grants`] fills them, each under the root lock of its object, after one more look: what has gone meanwhile
//! has gone, and its slot is given back. No two root locks are held together.
//!
//! # Who does not listen
//! A copy for which there is no slot is not made. A capability that was to be moved is disposed of by the sender itself:
//! its list is marked ([`Grant::Dispose`]), its system call made again, and that begins with deleting what is
//! marked. So what the end of an object takes, however long, is the sender's work, and can wait as any delete can.
//! Marking is the last of all ([`Payload::mark_disposals`]): a message that is refused, for whatever it carries, has no marks. Who
//! is ending does not count as somebody who does not listen: that is an error.

use abi::{Cap, Disposal, Error, Fate, GRANTS_MAX, Grant, Listening, ObjType, Received, Rights};
use kern_base::machine::Machine;
use kern_base::objects::{RawWord, header_of};
use kern_base::process::Process;
use kern_base::slot::{Place, Slot};
use kern_base::task::Task;
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use crate::caps::growth::Reach;
use crate::rooms::Payload;
use crate::{Me, Refusal, Result};

/// What a sender's UTCB lists.
pub type Grants = heapless::Vec<Grant, GRANTS_MAX>;

/// Detail of a list that says what is none: this and which of them.
const LIST: u64 = 8;

/// A capability about to go.
struct Going<'k> {
    grant: Grant,
    /// What was found in the sender's slot.
    from: Option<(Ref<'k, Slot>, RawWord<'k>)>,
    /// The receiver's slot, which is claimed, or what else becomes of it.
    to: core::result::Result<Place<'k>, Fate>,
    /// Its number.
    number: u32,
}

/// All of a message, with the receiver's slots claimed.
pub struct Prepared<'k> {
    going: heapless::Vec<Going<'k>, GRANTS_MAX>,
    /// What is left of the receiver's offer.
    offer: Listening,
    /// Places in the sender's list, a bit each, of what was to be moved and has to be disposed of first.
    disposals: u32,
}

impl Prepared<'_> {
    /// Nothing.
    pub const fn none() -> Self {
        Prepared { going: heapless::Vec::new(), offer: Listening::NOT, disposals: 0 }
    }
}

impl<'k, M: Machine> Payload<'k, M> {
    /// The capabilities that a task's UTCB lists. Each word is read once.
    pub fn grants_of(self, task: Ref<'k, Task>, grants: &mut Grants) -> Result<()> {
        let utcb = task.get().utcb(self.pin());
        let count = usize::try_from(utcb.grant_count.load(Relaxed)).ok().filter(|count| *count <= GRANTS_MAX);
        let count = count.ok_or(Refusal::new(Error::TooLong, GRANTS_MAX as u64))?;
        for (place, words) in (0..).zip(&utcb.grants[..count]) {
            let words = [0, 1].map(|n: usize| words[n].load(Relaxed));
            let _ = grants.push(Grant::from_words(words).ok_or(Refusal::argument(LIST + place))?);
        }
        Ok(())
    }

    pub fn process_of(self, task: Ref<'k, Task>) -> Result<Ref<'k, Process>> {
        task.get().owner.get(self.pin()).ok_or(Error::Dying.into())
    }

    /// A capability that may go so, in its sender's slot.
    fn source_of(self, process: Ref<'k, Process>, grant: Grant) -> Result<(Ref<'k, Slot>, RawWord<'k>)> {
        let (Grant::Copy { cap, .. }
        | Grant::Move { cap }
        | Grant::Dispose { cap, .. }
        | Grant::Settled { cap, .. }) = grant;
        let slot = self.caps().slot_of(process, cap)?;
        let word = slot.get().word.load(self.pin());
        if word.object_type() == 0 {
            return Err(Refusal::new(Error::NoCapability, u64::from(cap.0)));
        }
        let Grant::Copy { rights, .. } = grant else { return Ok((slot, word)) };
        self.caps().check_copy(word, rights)?;
        self.caps().check_depth(slot)?;
        Ok((slot, word))
    }

    /// Before a message waits, or goes to another CPU: what is wrong already is told.
    #[inline(never)]
    pub fn check_grants(self, sender: Ref<'k, Task>) -> Result<()> {
        let mut grants = Grants::new();
        self.grants_of(sender, &mut grants)?;
        let process = self.process_of(sender)?;
        for grant in grants {
            if matches!(grant, Grant::Copy { .. } | Grant::Move { .. }) {
                self.source_of(process, grant)?;
            }
        }
        Ok(())
    }

    /// The first half: nothing is changed where it is refused. They go to a process that offers these slots.
    pub fn prepare_grants(
        self,
        sender: Ref<'k, Task>,
        to: Ref<'k, Process>,
        offer: Listening,
        prepared: &mut Prepared<'k>,
    ) -> Result<()> {
        prepared.offer = offer;
        let outcome = self.prepare_each(sender, to, prepared);
        if outcome.is_err() {
            self.unprepare_grants(prepared);
        }
        outcome
    }

    fn prepare_each(
        self,
        sender: Ref<'k, Task>,
        to: Ref<'k, Process>,
        prepared: &mut Prepared<'k>,
    ) -> Result<()> {
        let mut grants = Grants::new();
        self.grants_of(sender, &mut grants)?;
        let process = self.process_of(sender)?;
        for (place, grant) in grants.into_iter().enumerate() {
            let (from, there, number) = match grant {
                Grant::Settled { fate, .. } => (None, Err(fate), 0),
                // Marked when it was looked at before; its sender deletes that first.
                Grant::Dispose { .. } => return Err(Refusal::More),
                Grant::Copy { .. } | Grant::Move { .. } => {
                    let (slot, word) = self.source_of(process, grant)?;
                    let (there, number) = match self.receiving_slot(process, word, to, &mut prepared.offer)? {
                        Some((place, number)) => (Ok(place), number),
                        None => (Err(fate_of(grant, word)), 0),
                    };
                    if let (Grant::Move { .. }, Err(Fate::Disposed)) = (grant, &there) {
                        prepared.disposals |= 1 << place;
                    }
                    (Some((slot, word)), there, number)
                }
            };
            let _ = prepared.going.push(Going { grant, from, to: there, number });
        }
        Ok(())
    }

    /// Between the halves, once nothing else can be refused: what has to be disposed of is marked in the sender's list, and
    /// then its system call is made again.
    pub fn mark_disposals(self, sender: Ref<'k, Task>, prepared: &Prepared<'k>) -> Result<()> {
        let marked = |place: &usize| prepared.disposals & 1 << place != 0;
        for (place, going) in prepared.going.iter().enumerate().filter(|(place, _)| marked(place)) {
            let object = going.from.and_then(|(_, word)| header_of(word));
            if let (Grant::Move { cap }, Some(object)) = (going.grant, object) {
                self.mark(sender, place, Grant::Dispose { cap, of: object.identity() });
            }
        }
        if prepared.disposals == 0 { Ok(()) } else { Err(Refusal::More) }
    }

    /// The next slot that a receiver has offered, claimed, and its number. `None`: it has none, or one that is full.
    fn receiving_slot(
        self,
        from: Ref<'k, Process>,
        word: RawWord<'k>,
        to: Ref<'k, Process>,
        offer: &mut Listening,
    ) -> Result<Option<(Place<'k>, u32)>> {
        let ending = Refusal::from(Error::Dying);
        let cspace = to.get().cnode.get(self.pin()).ok_or(ending)?;
        let Some(cap) = offer.take().filter(|cap| *cap != Cap::NULL) else { return Ok(None) };
        let Some(place) = self.caps().slot_in(Reach::cspace(cspace), cap.0 as usize) else { return Ok(None) };
        if let Some(header) = header_of(word) {
            self.security().may_send(from, place, header)?;
        }
        match self.caps().claim(place) {
            Ok(()) => Ok(Some((place, cap.0))),
            // It is full.
            Err(Refusal::Error { error: Error::SlotOccupied, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Nothing goes: the receiver's slots are given back.
    pub fn unprepare_grants(self, prepared: &Prepared<'k>) {
        for place in prepared.going.iter().filter_map(|going| going.to.as_ref().ok()) {
            self.caps().unclaim(place.slot);
        }
    }

    /// The second half: they go, and the sender is told. What the receiver is to be told: of each, then how many there
    /// were and what is left of its offer.
    #[inline(always)]
    pub fn pass_grants(
        self,
        sender: Ref<'k, Task>,
        prepared: &Prepared<'k>,
        mut tell: impl FnMut(usize, [u64; 2]),
    ) -> (u64, Listening) {
        let (mut fates, count) = (0, prepared.going.len());
        for (place, going) in prepared.going.iter().enumerate() {
            let received = self.pass_grant(sender, going);
            fates |= received.fate.word(place);
            tell(place, received.words());
        }
        let from = sender.get().utcb(self.pin());
        from.grant_count.store(0, Relaxed);
        from.grant_fates.store(fates, Relaxed);
        (count as u64, prepared.offer)
    }

    fn pass_grant(self, sender: Ref<'k, Task>, going: &Going<'k>) -> Received {
        let not = |fate| Received { fate, cap: Cap::NULL, rights: Rights::NONE, object: None };
        let place = match going.to {
            Ok(place) => place,
            Err(fate) => return not(fate),
        };
        let Some((from, word)) = going.from else { return not(Fate::Gone) };
        let passed = self.fill_claimed(going.grant, from, word, place.slot);
        if passed.is_ok() {
            self.security().audit_grant(sender, None, place);
        }
        match passed {
            Ok(rights) => Received {
                fate: Fate::Arrived,
                cap: Cap(going.number),
                rights,
                object: ObjType::from_raw(word.object_type()),
            },
            Err(fate) => {
                self.caps().unclaim(place.slot);
                not(fate)
            }
        }
    }

    fn fill_claimed(
        self,
        grant: Grant,
        from: Ref<'k, Slot>,
        word: RawWord<'k>,
        slot: Ref<'k, Slot>,
    ) -> core::result::Result<Rights, Fate> {
        let header = header_of(word).ok_or(Fate::Gone)?;
        let root = self.caps().lock_root(header);
        let fate = |refusal| match refusal {
            Refusal::Error { error: Error::Dying, .. } => Fate::Gone,
            _ => Fate::Kept,
        };
        if let Grant::Copy { rights, badge, .. } = grant {
            self.caps().check_parent(&root, from, word).map_err(fate)?;
            self.caps().fill_copy(slot, from, word, rights, badge);
            return Ok(rights);
        }
        if self.caps().is_being_reset(word) {
            return Err(Fate::Kept);
        }
        // Another CPU may take a slot with many children out of the tree just now: rare, and no reason to wait here.
        self.caps().settle_tree(&root).and_then(|()| self.caps().check_there(from, word)).map_err(fate)?;
        self.caps().replace_slot(from, slot, word);
        Ok(Rights(word.rights()))
    }

    /// What the last look at a sender's list has found to be disposed of goes first: [`Refusal::Dispose`].
    #[inline(never)]
    pub fn look_for_disposals(self, me: Me<'k>) -> Result<()> {
        let mut grants = Grants::new();
        self.grants_of(me.task, &mut grants)?;
        let is_due = |grant: &Grant| match grant {
            Grant::Dispose { .. } => true,
            // What an entry before this has deleted may not be empty yet.
            Grant::Settled { .. } => self.caps().has_open_graves(),
            Grant::Copy { .. } | Grant::Move { .. } => false,
        };
        if grants.iter().any(is_due) { Err(Refusal::Dispose) } else { Ok(()) }
    }

    pub fn mark(self, sender: Ref<'k, Task>, place: usize, grant: Grant) {
        let words = &sender.get().utcb(self.pin()).grants[place];
        words.iter().zip(grant.words()).for_each(|(word, value)| word.store(value, Relaxed));
    }
}

/// What becomes of a capability whose receiver does not listen.
fn fate_of(grant: Grant, word: RawWord<'_>) -> Fate {
    let disposal = ObjType::from_raw(word.object_type()).map(ObjType::disposal);
    match (grant, disposal) {
        (Grant::Move { .. }, Some(Disposal::Keep)) => Fate::Kept,
        _ => Fate::Disposed,
    }
}
