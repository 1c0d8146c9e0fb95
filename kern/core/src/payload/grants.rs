//! Capabilities in messages.
//!
//! # Where they are
//! A message's capabilities stay in the sender's slots until the message is received. Only the list
//! in the sender's UTCB names them, and the receiver's CPU reads the list when the message is
//! received. So a sender that dies, is cancelled or times out has lost nothing, and a revoke finds
//! the capabilities. If a capability cannot be sent any more by then, the sender gets an error.
//!
//! # Two phases
//! [`Payload::prepare_grants`] checks everything and claims the receiver's slots; after that
//! nothing can fail. [`Payload::pass_grants`] fills the slots, each under the root lock of its
//! object, after one more check: a capability that was deleted meanwhile does not arrive, and its
//! slot is released. A CPU never holds two root locks together.
//!
//! # A receiver that does not listen
//! If no slot is offered, a copy is not made. A capability that was to be moved is disposed of in
//! the sender's system call: the kernel marks it in the sender's list ([`Grant::Dispose`]) and
//! restarts the call, which first deletes the marked capabilities. So the end of an object, which
//! may take long, is the sender's work, and can wait as any delete can. Marking is the last step
//! ([`Payload::mark_disposals`]): if a message is refused because of its payload, nothing is
//! marked. If the receiver ends before the marked capabilities are deleted, the sender gets an
//! error, the marks are removed, and nothing is disposed of.

use abi::{
    Cap, Disposal, Error, FLAG_CAPS, Fate, GRANTS_MAX, Grant, Listening, MsgInfo, ObjType, Received, Rights,
};
use kern_base::machine::Machine;
use kern_base::objects::{RawWord, header_of};
use kern_base::process::Process;
use kern_base::slot::{Place, Slot};
use kern_base::task::Task;
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use crate::caps::growth::Reach;
use crate::rooms::Payload;
use crate::{OpenTask, Refusal, Result, refuse_if};

/// What a transfer does if the receiver's slots or addresses cannot be used now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// It is refused, with [`Refusal::NotReady`]: the message waits, or is sent again.
    Wait,
    /// The message is a reply, which never waits for its caller: it leaves the payload behind. It
    /// also goes without what its list names and the replier does not have any more.
    Reply,
}

/// The list in a sender's UTCB.
pub type Grants = heapless::Vec<Grant, GRANTS_MAX>;

/// Detail of the error for an invalid list: this number plus the index of the bad element.
const LIST: u64 = 8;

/// A sender's slot, and the word that was found there.
type Source<'k> = (Ref<'k, Slot>, RawWord<'k>);

/// A capability of a message, between the two halves.
struct Going<'k> {
    grant: Grant,
    from: Option<Source<'k>>,
    /// The receiver's slot, which is claimed, or the fate of a capability that does not arrive.
    to: core::result::Result<Place<'k>, Fate>,
    /// The number of the receiver's slot.
    number: u32,
}

/// The capabilities of a message, with the receiver's slots claimed.
pub struct Prepared<'k> {
    going: heapless::Vec<Going<'k>, GRANTS_MAX>,
    /// The rest of the receiver's offer.
    offer: Listening,
    /// A bit for each index of the sender's list: the capability was to be moved, and must first be
    /// disposed of.
    disposals: u32,
    /// The labels of the receiver's CSpace and of an object that a reply must not bring there, as
    /// the detail of [`Error::Forbidden`].
    pub forbidden: Option<u64>,
}

impl Prepared<'_> {
    /// Returns a list without capabilities.
    pub const fn none() -> Self {
        Prepared::with_offer(Listening::NOT)
    }

    /// Returns a list without capabilities, for a receiver that offers slots.
    pub const fn with_offer(offer: Listening) -> Self {
        Prepared { going: heapless::Vec::new(), offer, disposals: 0, forbidden: None }
    }
}

impl<'k, M: Machine> Payload<'k, M> {
    /// Reads the capabilities that a task's UTCB lists. Each word is read once.
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
        task.get().owner(self.pin()).ok_or(Error::Dying.into())
    }

    /// Returns the sender's slot of a capability, and its word, if the capability may be copied or
    /// moved as the list says. Returns `None` if the slot is empty.
    fn source_of(self, process: Ref<'k, Process>, grant: Grant) -> Result<Option<Source<'k>>> {
        let slot = self.caps().slot_of(process, grant.cap())?;
        let word = slot.get().word.load(self.pin());
        if word.object_type() == 0 {
            return Ok(None);
        }
        if let Grant::Copy { rights, .. } = grant {
            self.caps().check_copy(word, rights)?;
            self.caps().check_depth(slot)?;
        }
        Ok(Some((slot, word)))
    }

    /// Returns the fate of a capability of a reply that leaves its whole payload behind.
    pub fn fate_left(self, process: Ref<'k, Process>, grant: Grant) -> Fate {
        match grant {
            Grant::Settled { fate, .. } => fate,
            _ if self.source_of(process, grant) == Ok(None) => Fate::Gone,
            _ => Fate::Untaken,
        }
    }

    /// Checks a sender's list before its message waits or goes to another CPU, so that the sender
    /// learns immediately what is already wrong.
    #[inline(never)]
    pub fn check_grants(self, sender: Ref<'k, Task>) -> Result<()> {
        let mut grants = Grants::new();
        self.grants_of(sender, &mut grants)?;
        let process = self.process_of(sender)?;
        for grant in grants {
            if matches!(grant, Grant::Copy { .. } | Grant::Move { .. }) {
                self.source_of(process, grant)?.ok_or(empty(grant))?;
            }
        }
        Ok(())
    }

    /// Prepares a transfer of the sender's capabilities to process `to`, which offers the slots
    /// that `prepared` has: checks all, and claims the slots.
    /// Errors: a refusal leaves everything unchanged.
    pub fn prepare_grants(
        self,
        sender: Ref<'k, Task>,
        to: Ref<'k, Process>,
        patience: Patience,
        prepared: &mut Prepared<'k>,
    ) -> Result<()> {
        let mut grants = Grants::new();
        self.grants_of(sender, &mut grants)?;
        let process = self.process_of(sender)?;
        let outcome = grants.into_iter().enumerate().try_for_each(|(place, grant)| {
            let (from, there, number) = match grant {
                Grant::Settled { fate, .. } => (None, Err(fate), 0),
                // An earlier check has marked it. Its sender deletes it first.
                Grant::Dispose { .. } => return Err(Refusal::More),
                Grant::Copy { .. } | Grant::Move { .. } => {
                    let Some((slot, word)) = self.source_of(process, grant)? else {
                        // The replier's caller may have revoked it.
                        refuse_if(patience == Patience::Wait, empty(grant))?;
                        let _ =
                            prepared.going.push(Going { grant, from: None, to: Err(Fate::Gone), number: 0 });
                        return Ok(());
                    };
                    let (there, number) = match self.receiving_slot(process, word, to, &mut prepared.offer) {
                        Ok(Some((place, number))) => (Ok(place), number),
                        Ok(None) => (Err(fate_of(grant, word)), 0),
                        Err(refusal) if patience == Patience::Reply && refusal.is_of_receiver() => {
                            prepared.forbidden = prepared.forbidden.or(refusal.labels());
                            (Err(Fate::Untaken), 0)
                        }
                        Err(refusal) => return Err(refusal),
                    };
                    if let (Grant::Move { .. }, Err(Fate::Disposed)) = (grant, &there) {
                        prepared.disposals |= 1 << place;
                    }
                    (Some((slot, word)), there, number)
                }
            };
            let _ = prepared.going.push(Going { grant, from, to: there, number });
            Ok(())
        });
        if outcome.is_err() {
            self.unprepare_grants(prepared);
        }
        outcome
    }

    /// Marks what must be disposed of in the sender's list, after [`Payload::prepare_grants`], when
    /// no other check can fail.
    /// Errors: [`Refusal::More`] if there are marks, so that the sender's system call restarts.
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

    /// Claims the next slot that a receiver has offered. Returns the slot and its number, or `None`
    /// if the receiver offers no slot or the slot is full.
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
            // The slot is full.
            Err(Refusal::Error { error: Error::SlotOccupied, .. }) => Ok(None),
            Err(Refusal::Restart { epoch }) => Err(Refusal::NotReady { epoch }),
            Err(Refusal::More) => Err(Refusal::NotReady { epoch: 0 }),
            Err(other) => Err(other),
        }
    }

    /// Releases the receiver's slots that [`Payload::prepare_grants`] claimed, because nothing is
    /// transferred.
    pub fn unprepare_grants(self, prepared: &Prepared<'k>) {
        for place in prepared.going.iter().filter_map(|going| going.to.as_ref().ok()) {
            self.caps().unclaim(place.slot);
        }
    }

    /// Ends a prepared transfer: fills the receiver's slots, and writes the fates for the sender.
    /// `tell` gets what the receiver is to learn about each capability. Returns: how many
    /// capabilities the message had, and the rest of the receiver's offer.
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
        self.caps().check_there(from, word).map_err(fate)?;
        self.caps().replace_slot(from, slot, word);
        Ok(Rights(word.rights()))
    }

    /// Checks whether the sender must first delete what an earlier check has marked in its list.
    /// Errors: [`Refusal::Dispose`] if it must.
    #[inline(never)]
    pub fn look_for_disposals(self, me: OpenTask<'k>) -> Result<()> {
        let mut grants = Grants::new();
        self.grants_of(me.object(), &mut grants)?;
        let is_due = |grant: &Grant| match grant {
            Grant::Dispose { .. } => true,
            // A CNode that an earlier entry has deleted may not be empty yet.
            Grant::Settled { .. } => !me.get().zombies.is_null(),
            Grant::Copy { .. } | Grant::Move { .. } => false,
        };
        if grants.iter().any(is_due) { Err(Refusal::Dispose) } else { Ok(()) }
    }

    /// Removes the marks of a refused message from the sender's list.
    #[cold]
    pub fn unmark_disposals(self, me: OpenTask<'k>) {
        let mut grants = Grants::new();
        if self.grants_of(me.object(), &mut grants).is_err() {
            return;
        }
        for (place, grant) in grants.into_iter().enumerate() {
            if let Grant::Dispose { cap, .. } = grant {
                self.mark(me.object(), place, Grant::Move { cap });
            }
        }
    }

    /// Lets a replier keep the payload of a reply whose call has ended. What an earlier entry has
    /// disposed of is ended whole before that.
    /// Errors: [`Refusal::Dispose`] if something of that is left.
    #[cold]
    pub fn keep_load(self, me: OpenTask<'k>, info: u64) -> Result<()> {
        refuse_if(MsgInfo(info).has(FLAG_CAPS) && !me.get().zombies.is_null(), Refusal::Dispose)?;
        self.take_pages_back(me);
        Ok(())
    }

    /// Overwrites the element at `place` of the list in a sender's UTCB.
    pub fn mark(self, sender: Ref<'k, Task>, place: usize, grant: Grant) {
        let words = &sender.get().utcb(self.pin()).grants[place];
        words.iter().zip(grant.words()).for_each(|(word, value)| word.store(value, Relaxed));
    }
}

/// Returns the refusal of a message that lists an empty slot.
fn empty(grant: Grant) -> Refusal {
    Refusal::new(Error::NoCapability, u64::from(grant.cap().0))
}

/// Returns the fate of a capability whose receiver does not listen.
fn fate_of(grant: Grant, word: RawWord<'_>) -> Fate {
    let disposal = ObjType::from_raw(word.object_type()).map(ObjType::disposal);
    match (grant, disposal) {
        (Grant::Move { .. }, Some(Disposal::Keep)) => Fate::Kept,
        _ => Fate::Disposed,
    }
}
