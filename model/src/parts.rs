//! System calls in the parts that the kernel does them in, for histories of several CPUs.
//!
//! [`Model::step`] does an operation at once. The kernel does many in several parts, between which other CPUs do theirs:
//! it looks at a capability without a lock, claims the slot that it is to fill, and fills it under a lock, if what it
//! looked at is still there; a revoke takes one capability after the other; bits for a Notification of another CPU come
//! later than the answer. [`Running`] is an operation in the middle of it, [`System::advance`] one part of it, and what
//! is left of an operation after its answer is in [`System`].
//!
//! A part is what happens at one moment. Where an operation comes to its end without others in between, it has done what
//! [`Model::step`] does; a host test of the kernel holds it to that.
//!
//! # What the parts are
//! - *Look*: capability, rights, member record, arguments. Every refusal that they can lead to is answered here.
//! - *Claim*: the slot is empty and nobody else has claimed it, else `SlotOccupied`.
//! - *Commit*: what was looked at is as it was and not dying, else `Dying`. Or, where the kernel tried a copy or a Retype
//!   the short way, it gives the slot back and looks again.
//! - Delete: the last capability of an object makes it *dying*, then the object is ended where it has its home, then
//!   the slot is emptied. Revoke and reset pick the first to go of those below, and delete that; they are over when there
//!   is none.

use alloc::vec::Vec;

use abi::{Cap, Error, ObjType, Op, Rights, Target};

use crate::caps::{Found, has};
use crate::object::{Member, State};
use crate::reclaim::Pins;
use crate::{Answer, Args, Id, Kind, Model, Place, Refusal, Regs, Result};

/// The model, and what operations under way have done to it that it has no place for.
#[derive(Clone, Debug, Default)]
pub struct System {
    pub model: Model,
    /// Slots that somebody is about to fill.
    claimed: Vec<Place>,
    /// Bits on their way to another CPU: those for one Notification arrive together.
    raised: Vec<(Id, u64)>,
    /// Untypeds that are being reset: nothing is made of them.
    resetting: Vec<Id>,
    /// Objects that were ended, but still have their last capability.
    inert: Vec<Id>,
    /// By which identity programs know an object.
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
    /// The member is added; the offer is taken back if it is still this one.
    Added {
        addee: Id,
        accept: u32,
        index: u64,
    },
    /// The caller is a member; what is exposed is not read yet.
    Raise {
        group: Id,
        index: u32,
        bits: u64,
    },
    /// A member record or exposure is about to be taken away.
    Remove {
        group: Id,
        index: u32,
    },
    Withdraw {
        place: Place,
        seen: Seen,
    },
    /// A slot is being emptied; its object may be dying by this.
    Delete {
        place: Place,
    },
    /// All below a slot is; one of it just now.
    Below {
        place: Place,
        victim: Option<Place>,
        reset: Option<Id>,
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
    Member { addee: Id, member: Member, accept: u32 },
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
    /// Of those below a slot, this one goes next.
    Pick(Place),
    /// What it waits for has taken too long.
    Timeout,
    /// It began anew, and says again that the Untyped is being reset.
    Mark,
    /// It was tried the short way, in vain: the slot is given back, and it begins anew.
    Again,
}

/// What came of a part.
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

    /// Whether nothing has been done of it yet.
    pub fn is_new(&self) -> bool {
        self.at == At::Begun
    }

    /// Whether it can still be answered so: what a look refuses, no later part does.
    /// Unless it is to be `lenient`: an operation that tried the short way looks again.
    pub fn can_answer(&self, status: Option<Error>, lenient: bool) -> bool {
        use Error::{
            Amplifies, BadArgument, NoCapability, NoConsent, NoRight, SlotOccupied, WouldBlock, WrongCpu,
        };
        let Some(error) = status else { return true };
        let of_look =
            matches!(error, NoCapability | Error::WrongType | NoRight | Amplifies | WouldBlock | WrongCpu);
        match self.at {
            At::Begun => true,
            At::Fill { what: Fill::Copy { .. } | Fill::Make { .. }, .. } if lenient => true,
            At::Remove { .. } => !of_look,
            _ if of_look || error == BadArgument => false,
            At::Offer { .. } => true,
            At::Fill { claimed: false, .. } => error != NoConsent,
            At::Fill { claimed: true, .. } => error != NoConsent && error != SlotOccupied,
            At::Added { .. } | At::Made { .. } | At::Withdraw { .. } => false,
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

/// An operation's answer, as registers.
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

    /// The parts that an operation can do next; none where it waits for others.
    pub fn parts(&self, running: &Running, parts: &mut Vec<Part>) {
        match running.at {
            At::Below { place, victim: None, reset } => {
                parts.push(self.model.first_leaf(place).map_or(Part::Next, Part::Pick));
                if reset.is_some_and(|untyped| !self.resetting.contains(&untyped)) {
                    parts.push(Part::Mark);
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
            At::Waits if self.model.task(running.me).state == State::Ready => parts.push(Part::Next),
            At::Waits if self.model.task(running.me).deadline.is_some() => parts.push(Part::Timeout),
            At::Waits => {}
            _ => parts.push(Part::Next),
        }
    }

    /// What the caller of an operation that waited has been answered, if it has.
    pub fn answered(&self, running: &Running) -> Option<&Regs> {
        let task = self.model.task(running.me);
        (running.at == At::Waits && task.state == State::Ready).then_some(&task.regs)
    }

    /// The places that a call's arguments name: what others do to them is what its answer depends on.
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

    /// Whether this part of an operation does something to one of these places.
    pub fn concerns(&self, running: &Running, part: Part, places: &[Option<Place>]) -> bool {
        let has = |place: &Place| places.contains(&Some(*place));
        match (&running.at, part) {
            (_, Part::Pick(place)) => has(&place),
            (
                At::Below { victim: Some(place), .. } | At::Delete { place } | At::Withdraw { place, .. },
                _,
            ) => has(place),
            (At::Fill { to, from, .. }, _) => has(to) || has(from),
            _ => false,
        }
    }

    /// One part of an operation.
    pub fn advance(&mut self, running: &mut Running, part: Part) -> Progress {
        match self.go_on(running, part) {
            Ok(Some(answer)) => Progress::Done(answer),
            Ok(None) => Progress::Going,
            Err(why) => Progress::Done(Regs::error(why)),
        }
    }

    fn go_on(&mut self, running: &mut Running, part: Part) -> Result<Option<Regs>> {
        if let Part::Timeout = part {
            self.model.fail(running.me, Error::Timeout.into());
            return Ok(Some(self.model.task(running.me).regs));
        }
        let answer = match running.at.clone() {
            At::Begun => return self.begin(running),
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
                let index = self.fill(running.me, what, from, seen, to)?;
                if let Fill::Member { addee, accept, .. } = what {
                    running.at = At::Added { addee, accept, index };
                    return Ok(None);
                }
                if let Fill::Make { .. } = what {
                    running.at = At::Made { untyped: seen.object };
                    return Ok(None);
                }
                Answer::DONE
            }
            At::Offer { found, addee, member } => {
                let accept = self.model.process(addee).accept;
                if accept == 0 {
                    return Err(Error::NoConsent.into());
                }
                let to = self.model.slot_of(addee, Cap(accept)).map_err(|_| Error::NoConsent)?;
                let what = Fill::Member { addee, member, accept };
                let seen = Seen { object: found.object, rights: found.rights };
                running.at = At::Fill { what, from: found.place, seen, to, claimed: false };
                return Ok(None);
            }
            At::Added { addee, accept, index } => {
                let process = self.model.process_mut(addee);
                if process.accept == accept {
                    process.accept = 0;
                }
                Answer::one(index)
            }
            At::Made { untyped } => Answer::one(self.model.untyped(untyped).free()),
            At::Raise { group, index, bits } => {
                let home = self.model.task(running.me).home;
                let exposed = self.model.exposed(group, index, home);
                let object = exposed.filter(|it| self.model.object_type(*it) == ObjType::Notification);
                let object = object.ok_or(Refusal::new(Error::NoExposure, u64::from(index)))?;
                self.raise(running.me, object, bits)
            }
            At::Remove { group, index } => self.model.take_member(group, index)?,
            At::Withdraw { place, seen } => {
                if self.sees(place, seen) {
                    self.model.unlink(place);
                }
                Answer::DONE
            }
            At::Delete { place } => match self.delete(running.me, place)? {
                true => Answer::DONE,
                false => return Ok(None),
            },
            At::Below { place, victim: Some(victim), reset } => {
                if self.delete(running.me, victim)? {
                    running.at = At::Below { place, victim: None, reset };
                }
                return Ok(None);
            }
            At::Below { place, victim: None, reset } => match (part, reset) {
                (Part::Mark, Some(untyped)) => {
                    self.resetting.push(untyped);
                    return Ok(None);
                }
                (Part::Pick(victim), _) => {
                    running.at = At::Below { place, victim: Some(victim), reset };
                    return Ok(None);
                }
                (_, Some(untyped)) => self.start_again(untyped),
                (_, None) => Answer::DONE,
            },
            At::Waits => return Ok(Some(self.model.task(running.me).regs)),
        };
        Ok(Some(regs(Ok(answer))))
    }

    /// The first part: whatever the operation looks at before it changes something.
    fn begin(&mut self, running: &mut Running) -> Result<Option<Regs>> {
        let me = running.me;
        running.at = match running.op {
            Op::CapCopy => self.look_copy(running)?,
            Op::CapMove => {
                let from = self.model.slot_of(self.model.process_of(me), running.cap(0))?;
                let to = self.model.find_slot(me, running.target(1), Rights::GRANT)?;
                let found = self.model.find_any(me, running.cap(0))?;
                filled(Fill::Move, Found { place: from, ..found }, to)
            }
            Op::Expose if running.args.0[2] == 0 => {
                let (group, source) = self.model.look_expose(me, &running.args)?;
                filled(Fill::Expose, source, Place::Exposure(group, running.target(0).index()))
            }
            Op::Retype => self.look_retype(running)?,
            Op::GroupAdd => {
                let (found, addee, member) = self.model.look_add(me, &running.args)?;
                At::Offer { found, addee, member }
            }
            Op::GroupRemove => {
                let group = self.model.group_for(me, running.cap(0), Rights::REMOVE)?;
                At::Remove { group, index: running.target(0).index() }
            }
            Op::Withdraw => {
                let place = self.model.look_withdraw(me, &running.args)?;
                let it = &self.model.slots[&place];
                At::Withdraw { place, seen: Seen { object: it.object, rights: it.rights } }
            }
            Op::CapDelete => {
                At::Delete { place: self.model.find_slot(me, running.target(0), Rights::GRANT)? }
            }
            Op::CapRevoke => {
                let place = self.model.find_slot(me, running.target(0), Rights::GRANT)?;
                At::Below { place, victim: None, reset: None }
            }
            Op::UntypedReset => {
                let found = self.model.find(me, running.cap(0), ObjType::Untyped, Rights::NONE)?;
                if running.args.0[1] > 1 {
                    return Err(Refusal::argument(1));
                }
                self.resetting.push(found.object);
                At::Below { place: found.place, victim: None, reset: Some(found.object) }
            }
            Op::Notify => return self.look_notify(running),
            _ => return Ok(self.at_once(running)),
        };
        Ok(None)
    }

    /// An operation that is one part, or that waits from there on.
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

    fn look_notify(&mut self, running: &mut Running) -> Result<Option<Regs>> {
        let (me, target, bits) = (running.me, running.target(0), running.args.0[1]);
        let found = self.model.find_any(me, target.cap())?;
        if self.model.object_type(found.object) == ObjType::Notification {
            has(found.rights, Rights::NOTIFY)?;
            let answer = self.raise(me, found.object, bits);
            return Ok(Some(regs(Ok(answer))));
        }
        let (group, _) = self.model.find_group(me, target.cap(), Rights::NOTIFY)?;
        running.at = At::Raise { group, index: target.index(), bits };
        Ok(None)
    }

    // --- parts -----------------------------------------------------------------------------------

    fn sees(&self, place: Place, seen: Seen) -> bool {
        let now = self.model.slots.get(&place);
        now.is_some_and(|it| Seen { object: it.object, rights: it.rights } == seen)
    }

    fn claim(&mut self, to: Place) -> Result<()> {
        if self.claimed.contains(&to) {
            return Err(Error::SlotOccupied.into());
        }
        self.model.check_empty(to)?;
        self.claimed.push(to);
        Ok(())
    }

    /// What was looked at is no more as it was.
    fn is_in_vain(&self, what: Fill, from: Place, seen: Seen) -> bool {
        let closed = matches!(what, Fill::Make { .. }) && self.resetting.contains(&seen.object);
        closed || !self.sees(from, seen) || self.model.is_dying(seen.object)
    }

    fn fill(&mut self, me: Id, what: Fill, from: Place, seen: Seen, to: Place) -> Result<u64> {
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
            Fill::Expose => self.model.derive(to, from, object, Rights::NONE, 0),
            Fill::Make { what, size } => {
                self.model.make(me, object, what, size, to, from)?;
            }
            Fill::Member { member, .. } => {
                let free = self.model.put_member(object, member)?;
                let rights = member.rights.and(seen.rights).minus(Rights::DELETE);
                self.model.derive(to, from, object, rights, free * 8);
                return Ok(free);
            }
        }
        Ok(0)
    }

    /// Bits come at once to a Notification of the same CPU, and some time to one of another.
    fn raise(&mut self, me: Id, object: Id, bits: u64) -> Answer {
        if self.model.notification(object).home == self.model.task(me).home {
            self.model.raise(object, bits);
        } else if bits != 0 {
            match self.raised.iter_mut().find(|(of, _)| *of == object) {
                Some((_, raised)) => *raised |= bits,
                None => self.raised.push((object, bits)),
            }
        }
        Answer::DONE
    }

    /// For how many Notifications bits are on their way.
    pub fn on_their_way(&self) -> usize {
        self.raised.len()
    }

    /// Those of the `nth` of them arrive.
    pub fn arrive(&mut self, nth: usize) {
        let (object, bits) = self.raised.remove(nth);
        self.model.raise(object, bits);
    }

    /// A part of deleting what is in a slot. Whether that is over.
    fn delete(&mut self, me: Id, place: Place) -> Result<bool> {
        let Some(object) = self.model.slots.get(&place).map(|it| it.object) else { return Ok(true) };
        if self.model.references(object) > 1 {
            self.model.unlink(place);
            return Ok(true);
        }
        if !self.model.objects[object.0].dying {
            self.model.objects[object.0].dying = true;
            return Ok(false);
        }
        if !self.inert.contains(&object) {
            self.model.end(me, place, object, Pins::Hold)?;
            self.inert.push(object);
            return Ok(false);
        }
        self.inert.retain(|it| *it != object);
        self.model.unlink(place);
        self.model.objects[object.0].ended = true;
        Ok(true)
    }

    /// Nothing is left that was made of it.
    fn start_again(&mut self, untyped: Id) -> Answer {
        self.resetting.retain(|it| *it != untyped);
        let it = self.model.untyped_mut(untyped);
        (it.low, it.high) = (0, it.size);
        Answer::one(it.size)
    }

    // --- comparing -------------------------------------------------------------------------------

    /// Whether what a slot was found to hold is known by that identity, and nothing else that lives is. Remembers it.
    pub fn is_called(&mut self, place: Place, identity: u64) -> bool {
        let Some(object) = self.model.slots.get(&place).map(|it| it.object) else { return identity == 0 };
        if let Some((_, known)) = self.names.iter().find(|(it, _)| *it == object) {
            return *known == identity;
        }
        let lives = |id: Id| !self.model.objects[id.0].ended;
        if self.names.iter().any(|(it, known)| *known == identity && lives(*it)) {
            return false;
        }
        self.names.push((object, identity));
        true
    }

    /// The slot that a CapInspect looks at.
    pub fn inspected(&self, running: &Running) -> Option<Place> {
        self.model.find_slot(running.me, running.target(0), Rights::NONE).ok()
    }

    /// A number for the state, the same for the same state.
    pub fn digest(&self) -> u64 {
        let mut all = Digest(0xcbf2_9ce4_8422_2325);
        for (place, it) in &self.model.slots {
            all.place(Some(*place));
            all.words(&[it.object.0 as u64, u64::from(it.rights.0), it.badge]);
            all.place(it.parent);
        }
        for (index, object) in self.model.objects.iter().enumerate() {
            all.words(&[index as u64, u64::from(object.dying) | u64::from(object.ended) << 1]);
            match &object.kind {
                Kind::Untyped(it) => all.words(&[it.low, it.high]),
                Kind::Process(it) => all.words(&[u64::from(it.accept)]),
                Kind::Notification(it) => all.words(&[it.bits, it.waiter.map_or(0, |id| id.0 as u64)]),
                Kind::Group(it) => {
                    for member in &it.members {
                        let word = |it: Member| it.process.0 as u64 | u64::from(it.rights.0) << 32;
                        all.words(&[member.map_or(0, word)]);
                    }
                }
                _ => {}
            }
        }
        self.names.iter().for_each(|(id, name)| all.words(&[id.0 as u64, *name, 9]));
        self.claimed.iter().for_each(|place| all.place(Some(*place)));
        self.raised.iter().for_each(|(id, bits)| all.words(&[id.0 as u64, *bits]));
        self.resetting.iter().for_each(|id| all.words(&[id.0 as u64, 5]));
        self.inert.iter().for_each(|id| all.words(&[id.0 as u64, 7]));
        all.0
    }
}

/// The part after a look: the slot is to be claimed.
fn filled(what: Fill, found: Found, to: Place) -> At {
    let seen = Seen { object: found.object, rights: found.rights };
    At::Fill { what, from: found.place, seen, to, claimed: false }
}

struct Digest(u64);

impl Digest {
    fn words(&mut self, words: &[u64]) {
        for word in words {
            // Splitmix64's: words that are nearly the same give numbers that are not.
            let mut it = (self.0 ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            it = (it ^ it >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            it = (it ^ it >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            self.0 = it ^ it >> 31;
        }
    }

    fn place(&mut self, place: Option<Place>) {
        match place {
            None => self.words(&[1]),
            Some(Place::Slot(id, slot)) => self.words(&[2, id.0 as u64, u64::from(slot)]),
            Some(Place::Exposure(id, index)) => self.words(&[3, id.0 as u64, u64::from(index)]),
        }
    }
}

impl Running {
    /// A number for where it is, another one for each of those that can be there.
    pub fn digest(&self, number: usize) -> u64 {
        let mut all = Digest(number as u64);
        let at = match &self.at {
            At::Begun => [1, 0, 0],
            At::Fill { seen, claimed, to, from, .. } => {
                all.place(Some(*to));
                all.place(Some(*from));
                [2, u64::from(*claimed), seen.object.0 as u64 | u64::from(seen.rights.0) << 32]
            }
            At::Offer { .. } => [3, 0, 0],
            At::Added { index, accept, .. } => [4, *index, u64::from(*accept)],
            At::Raise { .. } => [5, 0, 0],
            At::Remove { .. } => [6, 0, 0],
            At::Withdraw { seen, .. } => [7, seen.object.0 as u64, 0],
            At::Delete { .. } => [8, 0, 0],
            At::Below { victim, .. } => {
                all.place(*victim);
                [9, 0, 0]
            }
            At::Made { .. } => [10, 0, 0],
            At::Waits => [11, 0, 0],
        };
        all.words(&at);
        all.0
    }
}
