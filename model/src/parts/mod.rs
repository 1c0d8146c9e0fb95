//! System calls, divided into the parts in which the kernel carries them out, for histories of
//! several CPUs.
//!
//! [`Model::step`] does an operation in one step. The kernel does many operations in several parts,
//! and other CPUs act in between. It looks at a capability without a lock, claims the slot that it
//! is to fill, and fills it under a lock, if the capability is still there. A revoke takes one
//! capability after the other. Bits for a Notification of another CPU arrive later than the answer.
//! [`Running`] is an operation that has done some of its parts, and [`System::advance`] does one
//! part. [`System`] has the work that remains after an operation's answer.
//!
//! A part is indivisible. If all parts of an operation are done with nothing in between, they have
//! the effect of [`Model::step`]; a host test checks that.
//!
//! # What the parts are
//! - *Look*: checks capability, rights, member record and arguments. Every refusal because of these
//!   is answered here.
//! - *Claim*: the slot must be empty and not claimed, else `SlotOccupied`.
//! - *Commit*: what was looked at must be unchanged and not dying, else `Dying`. Or the kernel must
//!   restart the operation: then it releases the claimed slot, and the operation looks again.
//! - *Join* and *expose* change several words, which others see one by one ([`groups`]).
//! - *Delete*: the delete of an object's last capability first marks the object as *dying*, then
//!   ends it on its home CPU, then empties the slot ([`remove`]). Revoke and reset pick the first
//!   descendant to delete, and delete it; they are over when none remains. After a wait for another
//!   CPU they begin again and pick again. So one revoke can have marked several objects as dying.
//! - A message for another CPU arrives there later, after the messages that left before. No task
//!   can observe that its answer arrives later, too ([`messages`]).
//! - Bits for another CPU arrive in the order in which they were raised; bits that travel together
//!   arrive in one step. The time of arrival matters only to the task that takes the bits, so the
//!   search tries an arrival only there.

mod digest;
mod groups;
mod messages;
mod remove;

use alloc::vec::Vec;

use abi::{Cap, Error, ObjType, Op, Rights, Target};

use crate::caps::{Found, has};
use crate::ipc::Sent;
use crate::object::{Member, Offer, State};
use crate::{Answer, Args, Capability, Id, Model, Place, Refusal, Regs, Result};

use groups::Joins;
use remove::Removal;

/// The model, and what operations under way have done to it that it has no place for.
#[derive(Clone, Debug, Default)]
pub struct System {
    pub model: Model,
    /// Slots that somebody is about to fill.
    claimed: Vec<Place>,
    /// Bits on their way to another CPU, by Notification, in the order in which they were raised.
    raised: Vec<(Id, Vec<u64>)>,
    /// Untypeds that are being reset: nothing is made of them.
    resetting: Vec<Id>,
    /// Objects that were ended, but still have their last capability.
    inert: Vec<Id>,
    /// Messages on their way to another CPU, in the order in which they left, by who calls.
    sent: Vec<(Id, Sent)>,
    /// Tasks whose cancellation is on its way to their CPU, as often as it is.
    cancels: Vec<Id>,
    /// Tasks that were cancelled while their message was on another CPU.
    recalled: Vec<Id>,
    /// The operation that is between two of its parts, with the lock of the root.
    locked: Option<Id>,
    /// The identity by which programs know an object.
    names: Vec<(Id, u64)>,
}

/// A system call under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub me: Id,
    pub op: Op,
    pub args: Args,
    at: At,
}

/// Where a system call is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Begun,
    /// It has seen the capability of a group; what the group says of the caller is not read yet.
    Looked {
        place: Place,
        capability: Capability,
    },
    /// A slot is to be claimed, or is, and then filled.
    Fill {
        what: Fill,
        from: Place,
        seen: Seen,
        to: Place,
        claimed: bool,
    },
    /// The caller may add; which slot the process offers is not read yet.
    Offer {
        found: Found,
        addee: Id,
        member: Member,
    },
    /// The offer is taken back; the member is not added yet.
    Joins(Joins),
    /// It is exposed; whether that stays so is not looked at yet.
    Exposed {
        place: Place,
    },
    /// The caller is a member; what is exposed is not read yet.
    Raise {
        group: Id,
        index: u32,
        bits: u64,
    },
    /// A member record is about to be taken away.
    Remove {
        from: Place,
        seen: Seen,
    },
    /// A slot is being emptied; its object may be dying by this.
    Delete {
        removal: Removal,
    },
    /// All below a slot is, as long as it has what was `seen` there; one of it just now.
    Below {
        place: Place,
        seen: Option<Seen>,
        victim: Option<Removal>,
        /// Where the search for the next goes on, if that still stands.
        before: Option<Place>,
        reset: Option<Id>,
    },
    /// Nothing was found below it any more: an Untyped is started again if that is so.
    Emptied {
        place: Place,
        seen: Option<Seen>,
        untyped: Id,
    },
    /// An object was made; how much is left is asked when it is.
    Made {
        untyped: Id,
    },
    /// It waits for something that others do.
    Waits,
}

/// What a slot is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    Copy { rights: Rights, badge: u64 },
    Move,
    Expose,
    Make { what: ObjType, size: u64 },
    Member { found: Found, member: Member, offer: Offer },
}

/// What a slot's first word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    object: Id,
    rights: Rights,
}

/// A part that an operation can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The next one.
    Next,
    /// The descendant of a slot that goes next.
    Pick(Place),
    /// What it waits for has taken too long.
    Timeout,
    /// Its message was on another CPU, and is recalled because another task has cancelled it.
    Cancelled,
    /// It looks at the capability of a group, and goes on when that is gone.
    Look,
    /// It begins again: it claimed a slot in vain, or waited for others.
    Again,
}

/// The result of a part.
#[derive(Clone, Debug)]
pub enum Progress {
    Going,
    /// It is over; what its caller finds in its registers.
    Done(Regs),
}

impl Running {
    pub fn new(me: Id, op: Op, args: Args) -> Running {
        Running { me, op, args, at: At::Begun }
    }

    /// Returns whether no part of the operation has been done yet.
    pub fn is_new(&self) -> bool {
        self.at == At::Begun
    }

    /// Returns whether the operation can still be answered with this status: an error that only a
    /// look can find is found by no later part. If the search is `lenient`, an operation that
    /// claimed a slot in vain looks again, and its second look may refuse it.
    pub fn can_answer(&self, status: Option<Error>, lenient: bool) -> bool {
        use Error::{
            Amplifies, BadArgument, NoCapability, NoConsent, NoRight, SlotOccupied, WouldBlock, WrongCpu,
        };
        let Some(error) = status else { return true };
        let of_look =
            matches!(error, NoCapability | Error::WrongType | NoRight | Amplifies | WouldBlock | WrongCpu);
        match self.at {
            At::Begun => true,
            At::Looked { .. } => !is_of_capability(error),
            // It may begin again.
            At::Fill { what: Fill::Copy { .. } | Fill::Make { .. } | Fill::Member { .. }, .. } if lenient => {
                true
            }
            At::Fill { what: Fill::Expose, claimed: true, .. } | At::Exposed { .. } => {
                is_of_capability(error) || error == Error::NotMember || error == Error::Dying
            }
            At::Fill { what: Fill::Expose, .. } => error != BadArgument && error != WouldBlock,
            At::Remove { .. } => !of_look,
            _ if of_look || error == BadArgument => false,
            At::Offer { .. } => true,
            At::Fill { claimed: false, .. } => error != NoConsent,
            At::Fill { claimed: true, .. } => error != NoConsent && error != SlotOccupied,
            At::Joins(_) | At::Made { .. } => false,
            _ => true,
        }
    }

    fn cap(&self, position: usize) -> Cap {
        self.args.cap(position)
    }

    fn target(&self, position: usize) -> Target {
        self.args.target(position)
    }
}

/// Writes an operation's answer as registers.
fn regs(answer: Result) -> Regs {
    match answer {
        Ok(Answer::Values(values)) => Regs::values(abi::MsgInfo(0), values),
        Ok(Answer::Free(values, free)) => Regs { free: free << 1, ..Regs::values(abi::MsgInfo(0), values) },
        Ok(Answer::Settled) => Regs::default(),
        Err(why) => Regs::error(why),
    }
}

impl System {
    pub fn new(model: Model) -> System {
        System { model, ..System::default() }
    }

    /// Adds the parts that an operation can do next; none if it waits for others.
    pub fn parts(&self, running: &Running, parts: &mut Vec<Part>) {
        match running.at {
            At::Fill { claimed: true, .. }
            | At::Remove { .. }
            | At::Delete { .. }
            | At::Below { .. }
            | At::Emptied { .. }
                if self.is_locked(running.me) => {}
            At::Below { place, seen, victim: None, before, .. } => {
                let [first, other] = self.first_to_go(place, seen, before);
                parts.push(first.map_or(Part::Next, Part::Pick));
                parts.extend(other.map(Part::Pick));
            }
            At::Below { victim: Some(removal), .. } | At::Delete { removal } => {
                parts.push(Part::Next);
                if self.waited_in_vain(running.me, &removal) {
                    parts.push(Part::Again);
                }
            }
            At::Emptied { place, seen, untyped } => {
                parts.push(Part::Next);
                if !self.is_empty(place, seen, untyped) {
                    parts.push(Part::Again);
                }
            }
            At::Fill {
                what: what @ (Fill::Copy { .. } | Fill::Make { .. }),
                from,
                seen,
                claimed: true,
                ..
            } => {
                parts.push(Part::Next);
                if self.is_in_vain(what, from, seen) {
                    parts.push(Part::Again);
                }
            }
            At::Fill { what: Fill::Member { .. }, claimed: true, .. } => {
                // The kernel looks at some records, and begins again.
                parts.extend([Part::Next, Part::Again]);
            }
            At::Waits => self.parts_of_waiting(running.me, parts),
            At::Begun if running.op == Op::Call && running.args.deadline().is_some() => {
                parts.extend([Part::Next, Part::Timeout]);
            }
            At::Begun if self.group_of(running).is_some() => parts.extend([Part::Next, Part::Look]),
            _ => parts.push(Part::Next),
        }
    }

    /// Returns whether an operation is in the middle of a kernel entry, and does not wait.
    pub fn is_midway(&self, running: &Running) -> bool {
        match &running.at {
            At::Begun | At::Waits => false,
            At::Below { victim: Some(removal), .. } | At::Delete { removal } => {
                !self.waits_elsewhere(running.me, removal)
            }
            _ => true,
        }
    }

    /// Returns the answer to the caller of an operation that waited, if it is there.
    pub fn answered(&self, running: &Running) -> Option<&Regs> {
        let task = self.model.task(running.me);
        (running.at == At::Waits && task.state == State::Ready).then_some(&task.regs)
    }

    /// Returns the places that a call's arguments name. What other calls do to them changes the
    /// call's answer.
    pub fn named(&self, me: Id, op: Op, args: &Args) -> [Option<Place>; 2] {
        let cap = |n| self.model.slot_of(self.model.process_of(me), args.cap(n)).ok();
        let slot = |n| self.model.find_slot(me, args.target(n), Rights::NONE).ok();
        match op {
            Op::CapCopy | Op::CapMove => [cap(0), slot(1)],
            Op::CapInspect | Op::CapDelete | Op::CapRevoke => [slot(0), None],
            Op::Retype => [cap(0), slot(2)],
            Op::Expose => [cap(0), cap(1)],
            _ => [cap(0), None],
        }
    }

    /// Returns whether this part of an operation changes one of these places.
    pub fn concerns(&self, running: &Running, part: Part, places: &[Option<Place>]) -> bool {
        let has = |place: &Place| places.contains(&Some(*place));
        match (&running.at, part) {
            (_, Part::Pick(place)) => has(&place),
            (
                At::Below { victim: Some(Removal { place, .. }), .. }
                | At::Delete { removal: Removal { place, .. } },
                _,
            ) => has(place),
            (At::Fill { to, from, .. }, _) => has(to) || has(from),
            _ => false,
        }
    }

    /// Does one part of an operation. Returns its answer if the operation is over.
    pub fn advance(&mut self, running: &mut Running, part: Part) -> Progress {
        match self.go_on(running, part) {
            Ok(Some(answer)) => Progress::Done(answer),
            Ok(None) => Progress::Going,
            Err(why) => Progress::Done(Regs::error(why)),
        }
    }

    /// Returns the capability of the group in which an operation acts, if others can change its
    /// rights.
    fn group_of(&self, running: &Running) -> Option<(Place, &Capability)> {
        if !matches!(running.op, Op::Notify | Op::GroupAdd | Op::GroupRemove | Op::Expose | Op::Withdraw) {
            return None;
        }
        let place = self.model.slot_of(self.model.process_of(running.me), running.cap(0)).ok()?;
        let it = self.model.slots.get(&place)?;
        (self.model.object_type(it.object) == ObjType::Group).then_some((place, it))
    }

    /// Does the look of an operation with a capability that it has read before, and that may have
    /// left its slot by now.
    fn look_behind(&mut self, running: &Running, place: Place, capability: Capability) -> Result<At> {
        let now = self.model.slots.insert(place, capability);
        let at = self.look(running);
        match now {
            Some(it) => self.model.slots.insert(place, it),
            None => self.model.slots.remove(&place),
        };
        at
    }

    /// Returns whether an operation has read a capability that is still in its slot: it may as well
    /// check everything together later.
    pub fn looks_too_early(&self, running: &Running) -> bool {
        matches!(running.at, At::Looked { place, .. } if self.now(place).is_some())
    }

    fn go_on(&mut self, running: &mut Running, part: Part) -> Result<Option<Regs>> {
        let error = match part {
            Part::Timeout => Some(Error::Timeout),
            Part::Cancelled => Some(Error::Cancelled),
            _ => None,
        };
        if let Some(error) = error {
            return self.end_waiting(running, error).map(Some);
        }
        let answer = match running.at.clone() {
            At::Begun if part == Part::Look => {
                let (place, it) = self.group_of(running).ok_or(Error::NoCapability)?;
                let capability = Capability { parent: None, children: Vec::new(), ..it.clone() };
                running.at = At::Looked { place, capability };
                return Ok(None);
            }
            At::Begun => return self.begin(running),
            At::Looked { place, capability } => {
                running.at = self.look_behind(running, place, capability)?;
                return Ok(None);
            }
            At::Fill { what, from, seen, to, claimed: false } => {
                self.claim(to)?;
                running.at = At::Fill { what, from, seen, to, claimed: true };
                return Ok(None);
            }
            At::Fill { what, from, seen, to, claimed: true } => {
                self.claimed.retain(|it| *it != to);
                if part == Part::Again {
                    running.at = At::Begun;
                    return Ok(None);
                }
                if let Fill::Member { found, member, offer } = what {
                    running.at = self.begin_joining(running.me, (found, member, offer), to)?;
                    return Ok(None);
                }
                self.fill(running.me, what, from, seen, to)?;
                match what {
                    Fill::Expose => running.at = At::Exposed { place: to },
                    Fill::Make { .. } => running.at = At::Made { untyped: seen.object },
                    _ => return Ok(Some(regs(Ok(Answer::DONE)))),
                }
                return Ok(None);
            }
            At::Offer { found, addee, member } => {
                running.at = self.look_offer(running.me, found, addee, member)?;
                return Ok(None);
            }
            At::Joins(mut joins) => {
                let joined = self.go_on_joining(&mut joins);
                running.at = At::Joins(joins);
                if !joined {
                    return Ok(None);
                }
                Answer::one(joins.index)
            }
            At::Exposed { place } => {
                self.look_again_at_exposed(running, place)?;
                Answer::DONE
            }
            At::Made { untyped } => Answer::one(self.model.untyped(untyped).free()),
            At::Raise { group, index, bits } => {
                let home = self.model.task(running.me).home;
                let exposed = self.model.exposed(group, index, home);
                let object = exposed.filter(|it| self.model.object_type(*it) == ObjType::Notification);
                let object = object.ok_or(Refusal::new(Error::NoExposure, u64::from(index)))?;
                self.raise(running.me, object, bits)
            }
            At::Remove { from, seen } => {
                self.remove_member(running, seen, from)?;
                Answer::DONE
            }
            At::Delete { .. } | At::Below { .. } | At::Emptied { .. } => {
                match self.go_on_removing(running, part) {
                    Some(answer) => answer,
                    None => return Ok(None),
                }
            }
            At::Waits => {
                self.recalled.retain(|it| *it != running.me);
                return Ok(Some(self.model.task(running.me).regs));
            }
        };
        Ok(Some(regs(Ok(answer))))
    }

    /// Does the first part of an operation: the checks before it changes something.
    fn begin(&mut self, running: &mut Running) -> Result<Option<Regs>> {
        match running.op {
            Op::Notify => return self.begin_notify(running),
            Op::Call => return self.begin_call(running),
            Op::TaskCancel => return self.begin_cancel(running),
            Op::UntypedReset => {
                let at = self.look(running)?;
                if let At::Below { reset: Some(untyped), .. } = at {
                    self.resetting.retain(|it| *it != untyped);
                    self.resetting.push(untyped);
                }
                running.at = at;
            }
            op if is_in_parts(op, &running.args) => running.at = self.look(running)?,
            _ => return Ok(self.at_once(running)),
        }
        Ok(None)
    }

    /// Does the checks of an operation that has several parts. Returns the place that the operation
    /// has reached then.
    fn look(&self, running: &Running) -> Result<At> {
        let me = running.me;
        Ok(match running.op {
            Op::CapCopy => self.look_copy(running)?,
            Op::CapMove => {
                let from = self.model.slot_of(self.model.process_of(me), running.cap(0))?;
                let to = self.model.find_slot(me, running.target(1), Rights::GRANT)?;
                let found = self.model.find_any(me, running.cap(0))?;
                filled(Fill::Move, Found { place: from, ..found }, to)
            }
            Op::Expose => self.look_expose(running)?,
            Op::Retype => self.look_retype(running)?,
            Op::GroupAdd => self.look_add(running)?,
            Op::GroupRemove => self.look_remove(running)?,
            Op::Withdraw => self.look_withdraw(running)?,
            Op::CapDelete => {
                let place = self.model.find_slot(me, running.target(0), Rights::GRANT)?;
                At::Delete { removal: Removal::of(place) }
            }
            Op::CapRevoke => {
                let place = self.model.find_slot(me, running.target(0), Rights::GRANT)?;
                self.below(place, None)
            }
            Op::UntypedReset => {
                let found = self.model.find(me, running.cap(0), ObjType::Untyped, Rights::NONE)?;
                if running.args.0[1] > 1 {
                    return Err(Refusal::argument(1));
                }
                self.below(found.place, Some(found.object))
            }
            Op::Notify => {
                let (group, _) = self.look_notify(running)?;
                At::Raise { group, index: running.target(0).index(), bits: running.args.0[1] }
            }
            op => unreachable!("{op:?} is done at once"),
        })
    }

    /// Does an operation that has only one part, or only waits after it.
    fn at_once(&mut self, running: &mut Running) -> Option<Regs> {
        let answer = self.model.step(running.me, running.op, &running.args);
        let task = self.model.task(running.me);
        if answer == Ok(Answer::Settled) && task.state != State::Ready {
            running.at = At::Waits;
            return None;
        }
        Some(task.regs)
    }

    fn look_copy(&self, running: &Running) -> Result<At> {
        let (me, rights) = (running.me, Rights(running.args.0[2] as u32));
        let place = self.model.slot_of(self.model.process_of(me), running.cap(0))?;
        let to = self.model.find_slot(me, running.target(1), Rights::GRANT)?;
        let found = self.model.look_copy(me, &running.args)?;
        let badge = running.args.0[3];
        Ok(filled(Fill::Copy { rights, badge }, Found { place, ..found }, to))
    }

    fn look_retype(&self, running: &Running) -> Result<At> {
        let (found, what) = self.model.look_retype(running.me, &running.args)?;
        let to = self.model.find_slot(running.me, running.target(2), Rights::GRANT)?;
        if self.model.slots.contains_key(&to) {
            return Err(Error::SlotOccupied.into());
        }
        Ok(filled(Fill::Make { what, size: running.args.0[1] }, found, to))
    }

    fn begin_notify(&mut self, running: &mut Running) -> Result<Option<Regs>> {
        let (object, is_group) = self.look_notify(running)?;
        let bits = running.args.0[1];
        if is_group {
            running.at = At::Raise { group: object, index: running.target(0).index(), bits };
            return Ok(None);
        }
        let answer = self.raise(running.me, object, bits);
        Ok(Some(regs(Ok(answer))))
    }

    /// Returns the Notification whose bits are to be raised, or the group through which they are,
    /// and whether it is a group.
    fn look_notify(&self, running: &Running) -> Result<(Id, bool)> {
        let (me, target) = (running.me, running.target(0));
        let found = self.model.find_any(me, target.cap())?;
        if self.model.object_type(found.object) == ObjType::Notification {
            has(found.rights, Rights::NOTIFY)?;
            return Ok((found.object, false));
        }
        let (group, _) = self.model.find_group(me, target.cap(), Rights::NOTIFY)?;
        Ok((group, true))
    }

    /// Returns an operation's answer if its next part ends it and changes nothing. Such a part can
    /// be done immediately without harm. There are two exceptions: a delete of an empty slot, which
    /// could find a capability later; and, if the search is `lenient`, an operation that may have
    /// claimed a slot in vain before it is refused.
    pub fn harmless(&self, running: &Running, lenient: bool) -> Option<Regs> {
        let me = running.me;
        if lenient && matches!(running.op, Op::CapCopy | Op::Retype | Op::GroupAdd) {
            return None;
        }
        let answer = match &running.at {
            At::Begun => match running.op {
                Op::CapInspect => self.model.look_inspect(me, &running.args),
                Op::Wait => Err(self.model.look_wait(me, &running.args).err()?),
                Op::Notify => Err(self.look_notify(running).err()?),
                Op::Call => Err(self.model.look_call(me, &running.args).err()?),
                Op::Recv | Op::ReplyRecv => Err(self.finds_nothing(running)?),
                op if is_in_parts(op, &running.args) => Err(self.look(running).err()?),
                _ => return None,
            },
            At::Fill { to, claimed: false, .. } => Err(self.check_claim(*to).err()?),
            _ => return None,
        };
        Some(regs(answer))
    }

    // --- parts -----------------------------------------------------------------------------------

    fn now(&self, place: Place) -> Option<Seen> {
        self.model.slots.get(&place).map(|it| Seen { object: it.object, rights: it.rights })
    }

    fn sees(&self, place: Place, seen: Seen) -> bool {
        self.now(place) == Some(seen)
    }

    fn check_claim(&self, to: Place) -> Result<()> {
        if self.claimed.contains(&to) {
            return Err(Error::SlotOccupied.into());
        }
        self.model.check_empty(to)
    }

    fn claim(&mut self, to: Place) -> Result<()> {
        self.check_claim(to)?;
        self.claimed.push(to);
        Ok(())
    }

    /// Returns whether the capability or object that an operation has checked has changed since, so
    /// that the operation is refused.
    fn is_in_vain(&self, what: Fill, from: Place, seen: Seen) -> bool {
        let closed = matches!(what, Fill::Make { .. }) && self.resetting.contains(&seen.object);
        closed || !self.sees(from, seen) || self.model.is_dying(seen.object)
    }

    fn fill(&mut self, me: Id, what: Fill, from: Place, seen: Seen, to: Place) -> Result<()> {
        if self.is_in_vain(what, from, seen) {
            return Err(Error::Dying.into());
        }
        let object = seen.object;
        match what {
            Fill::Copy { rights, badge } => {
                let had = self.model.slots[&from].badge;
                let keeps = had != 0 || self.model.object_type(object) == ObjType::Group;
                self.model.derive(to, from, object, rights, if keeps { had } else { badge });
            }
            Fill::Move => self.model.move_to(from, to),
            Fill::Expose => {
                self.model.derive(to, from, object, Rights::NONE, 0);
                if let Place::Exposure(group, index) = to {
                    let owner = Some(self.model.process_of(me));
                    self.model.group_mut(group).exposures[index as usize].owner = owner;
                }
                self.locked = Some(me);
            }
            Fill::Make { what, size } => {
                self.model.make(me, object, what, size, to, from)?;
            }
            Fill::Member { .. } => unreachable!("a member joins in parts"),
        }
        Ok(())
    }

    /// Raises bits. They arrive immediately at a Notification of the same CPU, and later at one of
    /// another.
    fn raise(&mut self, me: Id, object: Id, bits: u64) -> Answer {
        if self.model.notification(object).home == self.model.task(me).home {
            self.model.raise(object, bits);
        } else if bits != 0 {
            match self.raised.iter_mut().find(|(of, _)| *of == object) {
                Some((_, raised)) => raised.push(bits),
                None if self.model.objects[object.0].ended => {}
                None => self.raised.push((object, [bits].into())),
            }
        }
        Answer::DONE
    }

    /// Returns the Notifications for which bits are on their way, and the bits in the order in
    /// which they were raised.
    pub fn on_their_way(&self) -> impl Iterator<Item = (Id, &[u64])> {
        self.raised.iter().map(|(object, bits)| (*object, bits.as_slice()))
    }

    /// Lets the first `count` bits on their way to a Notification arrive.
    pub fn arrive(&mut self, object: Id, count: usize) {
        let Some(at) = self.raised.iter().position(|(of, _)| *of == object) else { return };
        let bits = self.raised[at].1.drain(..count).fold(0, |all, bits| all | bits);
        if self.raised[at].1.is_empty() {
            self.raised.remove(at);
        }
        self.model.raise(object, bits);
    }

    /// Returns the Notification from which an operation takes bits next, or for whose bits it
    /// waits.
    pub fn takes_from(&self, running: &Running) -> Option<Id> {
        match (running.op, &running.at) {
            (Op::Wait, At::Begun) => {
                let found =
                    self.model.find(running.me, running.cap(0), ObjType::Notification, Rights::LISTEN);
                Some(found.ok()?.object)
            }
            (Op::Recv | Op::ReplyRecv, At::Begun) => self.model.task(running.me).bound,
            (_, At::Waits) => match self.model.task(running.me).state {
                State::Waiting(object) => Some(object),
                State::Receiving => self.model.task(running.me).bound,
                _ => None,
            },
            _ => None,
        }
    }
}

/// Returns whether only the look at a capability can find this error.
pub(crate) fn is_of_capability(error: Error) -> bool {
    matches!(error, Error::NoCapability | Error::WrongType | Error::NoRight)
}

/// Returns the place of an operation that has looked, and is to claim the slot `to` next.
fn filled(what: Fill, found: Found, to: Place) -> At {
    let seen = Seen { object: found.object, rights: found.rights };
    At::Fill { what, from: found.place, seen, to, claimed: false }
}

/// Returns whether an operation has several parts. Others are done in one part, or wait.
fn is_in_parts(op: Op, args: &Args) -> bool {
    match op {
        Op::Expose => args.0[2] == 0,
        Op::CapCopy | Op::CapMove | Op::CapDelete | Op::CapRevoke | Op::UntypedReset | Op::Retype => true,
        Op::GroupAdd | Op::GroupRemove | Op::Withdraw => true,
        _ => false,
    }
}
