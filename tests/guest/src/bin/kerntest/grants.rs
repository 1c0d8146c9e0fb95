//! Capabilities in messages: which arrive, the fate of the rest, and that a revoke wins.

use abi::{
    Cap, Error, FLAG_CAPS, Fate, Grant, Listening, MEMBER_RIGHTS, ObjType, Op, Received, Rights, TaskRights,
    task_rights,
};
use user_rt::arch::Args;
use user_rt::cap::{Handle, Notification, Reply, Untyped};
use user_rt::grants::offer;
use user_rt::invoke::{copy, transfer};
use user_rt::spawn::own;

use crate::block::Block;
use crate::ipc::{NOBODY, message, regs};
use crate::lab::{CHILD_FREE, Lab, Puppet, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    grants_arrive_and_come_back who_does_not_listen_gets_none refused_grants_stay grants_take_a_right
    a_revoke_wins_over_a_call_that_waits control_is_handed_out_by_the_right
    grants_that_somebody_keeps_revoking slots_that_are_emptied_all_the_time
}

const ALL: Rights = Rights::ALL;
/// Slots of the giver, and those that the taker offers.
const MINE: Cap = Cap(CHILD_FREE);
const THEIRS: Cap = Cap(CHILD_FREE + 40);
const NO_OFFER: Listening = Listening::NOT;

/// Two puppets, each in its own process.
struct Pair {
    giver: Puppet,
    taker: Puppet,
}

/// Makes the giver on CPU 0, and the taker on `cpu`.
fn pair(lab: &mut Lab<'_>, cpu: u32) -> Result<Pair, Failure> {
    pair_with(lab, cpu, MEMBER_RIGHTS)
}

fn pair_with(lab: &mut Lab<'_>, cpu: u32, giver_rights: Rights) -> Result<Pair, Failure> {
    let place = lab.process_with(false, giver_rights, 0)?;
    let giver = lab.puppet(&Wanted { place, ..Wanted::default() })?;
    let place = lab.process(false)?;
    let taker = lab.puppet(&Wanted { place, cpu, ..Wanted::default() })?;
    Ok(Pair { giver, taker })
}

/// Returns the CPUs on which takers are tested.
fn cpus(lab: &Lab<'_>) -> impl Iterator<Item = u32> + use<> {
    [0, lab.cpus - 1].into_iter().take(if lab.cpus > 1 { 2 } else { 1 })
}

fn slot(first: Cap, n: u32) -> Cap {
    Cap(first.0 + n)
}

fn all_of(first: Cap, n: u32) -> Grant {
    Grant::Copy { cap: slot(first, n), rights: ALL, badge: 0 }
}

fn moved(first: Cap, n: u32) -> Grant {
    Grant::Move { cap: slot(first, n) }
}

fn not(fate: Fate) -> Received {
    Received { fate, cap: Cap::NULL, rights: Rights::NONE, object: None }
}

fn arrived(n: u32, rights: Rights, object: ObjType) -> Received {
    Received { fate: Fate::Arrived, cap: slot(THEIRS, n), rights, object: Some(object) }
}

fn block(puppet: &Puppet) -> &'static Block {
    Block::at(puppet.number)
}

/// Returns what a slot of a puppet's process holds: type, rights, badge.
fn holds(lab: &Lab<'_>, puppet: &Puppet, slot: Cap) -> Result<Option<(ObjType, Rights, u64)>, Failure> {
    let seen = lab.child(puppet.place)?.cnode.inspect(slot)?;
    Ok(seen.map(|it| (it.object, it.rights, it.badge)))
}

/// Gives a puppet's process a copy of a capability.
fn give<T: Handle>(
    lab: &Lab<'_>,
    puppet: &Puppet,
    object: &T,
    at: Cap,
    rights: impl Into<T::Rights>,
) -> Outcome {
    Ok(copy(object, lab.child(puppet.place)?.cnode.slot(at), rights, 0)?)
}

/// Gives a puppet's process the only capability of a new object.
fn hand_over<T: Handle>(lab: &mut Lab<'_>, puppet: &Puppet, size: u64, at: Cap) -> Outcome {
    let made: T = lab.nursery.make(size)?;
    Ok(transfer(made, lab.child(puppet.place)?.cnode.slot(at))?)
}

impl Pair {
    /// Lets the taker receive with an offer of slots.
    fn receives(&self, lab: &Lab<'_>, offer: Listening) -> Outcome {
        block(&self.taker).give(&[], offer);
        lab.ask(&self.taker, &Args::new(Op::Recv))
    }

    fn sends(&self, lab: &Lab<'_>, grants: &[Grant]) -> Outcome {
        block(&self.giver).give(grants, NO_OFFER);
        self.calls(lab)
    }

    fn sends_words(&self, lab: &Lab<'_>, count: u64, words: &[[u64; 2]]) -> Outcome {
        block(&self.giver).set_grants(count, words, NO_OFFER);
        self.calls(lab)
    }

    fn calls(&self, lab: &Lab<'_>) -> Outcome {
        let mut args = message(Op::Call, lab.target(&self.giver, &self.taker), 7, regs(7), 0);
        args.info = args.info.flag(FLAG_CAPS);
        lab.ask(&self.giver, &args)
    }

    /// Checks what the taker received, and lets it answer.
    fn comes(&self, lab: &Lab<'_>, came: &[Received]) -> Outcome {
        let shown = lab.answer(&self.taker)?;
        let what = (shown.error(), shown.answer.info.has(FLAG_CAPS), shown.dirt);
        expect_eq!(what, (None, true, 0), "receiving");
        expect_eq!(shown.answer.message_registers(), regs(7), "registers");
        expect!(block(&self.taker).came().eq(came.iter().copied()), "came {:?}", self.came());
        let answer = message(Op::Reply, NOBODY, 8, regs(8), 0);
        expect_eq!(lab.run(&self.taker, &answer)?.error(), None, "replying");
        let shown = lab.answer(&self.giver)?;
        expect_eq!((shown.error(), shown.dirt), (None, 0), "the call");
        let told = block(&self.giver).fates();
        expect!(told.eq(came.iter().map(|it| it.fate)), "the giver was told {:?}", self.told());
        Ok(())
    }

    fn came(&self) -> alloc::vec::Vec<Received> {
        block(&self.taker).came().collect()
    }

    fn told(&self) -> alloc::vec::Vec<Fate> {
        block(&self.giver).fates().collect()
    }

    fn exchange(&self, lab: &Lab<'_>, grants: &[Grant], offer: Listening, came: &[Received]) -> Outcome {
        self.receives(lab, offer)?;
        self.sends(lab, grants)?;
        self.comes(lab, came)
    }
}

fn grants_arrive_and_come_back(lab: &mut Lab<'_>) -> Outcome {
    for cpu in cpus(lab) {
        let pair = pair(lab, cpu)?;
        let note: Notification = lab.nursery.make(0)?;
        give(lab, &pair.giver, &note, MINE, ALL)?;
        hand_over::<Reply>(lab, &pair.giver, 0, slot(MINE, 1))?;
        let few = Rights::NOTIFY | Rights::GRANT;
        let list = [Grant::Copy { cap: MINE, rights: few, badge: 77 }, moved(MINE, 1)];
        let came = [arrived(0, few, ObjType::Notification), arrived(1, ALL, ObjType::Reply)];
        pair.exchange(lab, &list, offer(THEIRS, 2), &came)?;
        expect_eq!(holds(lab, &pair.taker, THEIRS)?, Some((ObjType::Notification, few, 77)), "the copy");
        expect_eq!(holds(lab, &pair.giver, slot(MINE, 1))?, None, "on CPU {cpu}: what has moved");
        // The capability works.
        let notify = Args::plain(Op::Notify, THEIRS.arg(), 0b100, 0, 0);
        expect_eq!(lab.run(&pair.taker, &notify)?.error(), None, "on CPU {cpu}: notifying by the copy");
        lab.settle();
        expect_eq!(note.poll()?, 0b100, "what was notified");
        // Back with a reply, and then a copy of the copy.
        pair.receives(lab, NO_OFFER)?;
        block(&pair.giver).give(&[], offer(slot(MINE, 8), 4));
        let target = lab.target(&pair.giver, &pair.taker);
        lab.ask(&pair.giver, &message(Op::Call, target, 7, regs(7), 0))?;
        expect_eq!(lab.answer(&pair.taker)?.answer.info.has(FLAG_CAPS), false, "a call without any");
        let again = Grant::Copy { cap: THEIRS, rights: Rights::NOTIFY, badge: 5 };
        block(&pair.taker).give(&[moved(THEIRS, 1), again], NO_OFFER);
        let mut answer = message(Op::Reply, NOBODY, 8, regs(8), 0);
        answer.info = answer.info.flag(FLAG_CAPS);
        expect_eq!(lab.run(&pair.taker, &answer)?.error(), None, "on CPU {cpu}: a reply with capabilities");
        let shown = lab.answer(&pair.giver)?;
        expect!(shown.answer.info.has(FLAG_CAPS), "on CPU {cpu}: the reply has capabilities");
        let back = Some((ObjType::Reply, ALL, 0));
        expect_eq!(holds(lab, &pair.giver, slot(MINE, 8))?, back, "what came back");
        // The capability keeps its badge.
        let derived = Some((ObjType::Notification, Rights::NOTIFY, 77));
        expect_eq!(holds(lab, &pair.giver, slot(MINE, 9))?, derived, "the copy of the copy");
        own::cnode().revoke(note.cap())?;
        for (puppet, at) in [(&pair.taker, THEIRS), (&pair.giver, slot(MINE, 9)), (&pair.giver, MINE)] {
            expect_eq!(holds(lab, puppet, at)?, None, "on CPU {cpu}: {at:?} after the revoke");
        }
        lab.reset()?;
    }
    Ok(())
}

fn who_does_not_listen_gets_none(lab: &mut Lab<'_>) -> Outcome {
    for cpu in cpus(lab) {
        let pair = pair(lab, cpu)?;
        let note: Notification = lab.nursery.make(0)?;
        give(lab, &pair.giver, &note, MINE, ALL)?;
        hand_over::<Untyped>(lab, &pair.giver, 12, slot(MINE, 1))?;
        hand_over::<Notification>(lab, &pair.giver, 0, slot(MINE, 2))?;
        give(lab, &pair.giver, &lab.child(pair.giver.place)?.cnode.again(), slot(MINE, 3), ALL)?;
        let list = [all_of(MINE, 0), moved(MINE, 1), moved(MINE, 2), moved(MINE, 3)];
        let fates = [Fate::Disposed, Fate::Kept, Fate::Disposed, Fate::Disposed];
        pair.exchange(lab, &list, NO_OFFER, &fates.map(not))?;
        let left = [0, 1, 2, 3].map(|n| holds(lab, &pair.giver, slot(MINE, n)).map(|it| it.is_some()));
        for (n, (left, stays)) in left.into_iter().zip([true, true, false, false]).enumerate() {
            expect_eq!(left?, stays, "on CPU {cpu}: whether {n} of the list is left");
        }
        // A full slot and a slot outside the CSpace are no offers, and a used slot is off the
        // offer.
        give(lab, &pair.taker, &note, slot(THEIRS, 1), ALL)?;
        let here = |n| arrived(n, ALL, ObjType::Notification);
        let came = [here(0), not(Fate::Disposed), here(2), not(Fate::Disposed)];
        pair.exchange(lab, &[all_of(MINE, 0); 4], offer(THEIRS, 3), &came)?;
        for bad in [offer(Cap(0), 1), offer(Cap(1 << 20), 4), offer(Cap(u32::MAX), u32::MAX)] {
            pair.exchange(lab, &[all_of(MINE, 0)], bad, &[not(Fate::Disposed)])?;
        }
        lab.reset()?;
    }
    Ok(())
}

fn refused_grants_stay(lab: &mut Lab<'_>) -> Outcome {
    for cpu in cpus(lab) {
        let pair = pair(lab, cpu)?;
        let note: Notification = lab.nursery.make(0)?;
        give(lab, &pair.giver, &note, MINE, Rights::NOTIFY)?;
        give(lab, &pair.giver, &note, slot(MINE, 1), Rights::NOTIFY | Rights::GRANT)?;
        hand_over::<Untyped>(lab, &pair.giver, 12, slot(MINE, 2))?;
        let few =
            |n| Grant::Copy { cap: slot(MINE, n), rights: Rights::NOTIFY, badge: (1 << 48) - 1 }.words();
        let bad = [few(1)[0], 1 << 48];
        let wrong: [(&str, u64, &[[u64; 2]], Error); 10] = [
            ("without GRANT", 2, &[few(1), few(0)], Error::NoRight),
            ("more rights", 2, &[few(1), all_of(MINE, 1).words()], Error::Amplifies),
            (
                "an Untyped",
                1,
                &[Grant::Copy { cap: slot(MINE, 2), rights: Rights::NONE, badge: 0 }.words()],
                Error::WrongType,
            ),
            ("an empty slot", 2, &[few(1), few(9)], Error::NoCapability),
            ("an empty slot to be moved", 1, &[moved(MINE, 9).words()], Error::NoCapability),
            ("no slot", 1, &[moved(Cap(1 << 20), 0).words()], Error::NoCapability),
            ("five", 5, &[few(1); 4], Error::TooLong),
            ("very many", u64::MAX, &[few(1); 4], Error::TooLong),
            ("a badge that is too long", 2, &[few(1), bad], Error::BadArgument),
            ("bits of no meaning", 1, &[[u64::MAX, 0]], Error::BadArgument),
        ];
        pair.receives(lab, offer(THEIRS, 4))?;
        for (what, count, words, error) in wrong {
            pair.sends_words(lab, count, words)?;
            let shown = lab.answer(&pair.giver)?;
            expect_eq!((shown.error(), shown.dirt), (Some(error), 0), "on CPU {cpu}: {what}");
            lab.stays_blocked(&pair.taker)?;
            for n in 0..4 {
                expect_eq!(holds(lab, &pair.taker, slot(THEIRS, n))?, None, "{what}: slot {n}");
            }
        }
        // The message uses none of these slots.
        pair.sends_words(lab, 4, &[few(1); 4])?;
        pair.comes(lab, &[0, 1, 2, 3].map(|n| arrived(n, Rights::NOTIFY, ObjType::Notification)))?;
        lab.reset()?;
    }
    Ok(())
}

fn grants_take_a_right(lab: &mut Lab<'_>) -> Outcome {
    let pair = pair_with(lab, lab.cpus - 1, MEMBER_RIGHTS.minus(Rights::GRANT))?;
    pair.receives(lab, offer(THEIRS, 4))?;
    pair.sends(lab, &[])?;
    let shown = lab.answer(&pair.giver)?;
    let refused = (shown.error(), shown.answer.rdi);
    expect_eq!(refused, (Some(Error::NoRight), u64::from(Rights::GRANT.0)), "without GRANT in the group");
    lab.stays_blocked(&pair.taker)
}

/// Checks that a waiting call leaves its capabilities in their slots.
fn a_revoke_wins_over_a_call_that_waits(lab: &mut Lab<'_>) -> Outcome {
    for cpu in cpus(lab) {
        for revoked in [false, true] {
            let pair = pair(lab, cpu)?;
            let note: Notification = lab.nursery.make(0)?;
            give(lab, &pair.giver, &note, MINE, ALL)?;
            hand_over::<Reply>(lab, &pair.giver, 0, slot(MINE, 1))?;
            pair.sends(lab, &[all_of(MINE, 0), moved(MINE, 1)])?;
            lab.stays_blocked(&pair.giver)?;
            let left = holds(lab, &pair.giver, slot(MINE, 1))?;
            expect_eq!(left, Some((ObjType::Reply, ALL, 0)), "what waits is the giver's");
            if revoked {
                own::cnode().revoke(note.cap())?;
                pair.receives(lab, offer(THEIRS, 4))?;
                expect_eq!(lab.answer(&pair.giver)?.error(), Some(Error::NoCapability), "CPU {cpu}: revoked");
                lab.stays_blocked(&pair.taker)?;
                expect_eq!(holds(lab, &pair.giver, slot(MINE, 1))?, left, "nothing has gone");
            } else {
                pair.receives(lab, offer(THEIRS, 4))?;
                let came = [arrived(0, ALL, ObjType::Notification), arrived(1, ALL, ObjType::Reply)];
                pair.comes(lab, &came)?;
            }
            lab.reset()?;
        }
    }
    Ok(())
}

/// Checks that a process with one right of a task can use that right and no other.
fn control_is_handed_out_by_the_right(lab: &mut Lab<'_>) -> Outcome {
    let rights: [(TaskRights, &[Op]); 4] = [
        (task_rights::SUSPEND, &[Op::TaskSuspend, Op::TaskResume, Op::TaskCancel]),
        (task_rights::REGISTERS, &[Op::TaskReadRegs]),
        (task_rights::OBSERVE, &[]),
        (task_rights::DESTROY, &[Op::TaskKill]),
    ];
    let ops = [Op::TaskSuspend, Op::TaskReadRegs, Op::TaskResume, Op::TaskCancel, Op::TaskKill];
    for cpu in cpus(lab) {
        for (right, allowed) in rights {
            let pair = pair(lab, cpu)?;
            let subject = lab.puppet(&Wanted::default())?;
            give(lab, &pair.giver, &subject.task, MINE, TaskRights::from(ALL))?;
            let grant = Grant::Copy { cap: MINE, rights: right.rights(), badge: 0 };
            let came = arrived(0, right.rights(), ObjType::Task);
            pair.exchange(lab, &[grant], offer(THEIRS, 1), &[came])?;
            for op in ops {
                let refused = lab.run(&pair.taker, &Args::plain(op, THEIRS.arg(), 0, 0, 0))?.error();
                let may = allowed.contains(&op);
                expect_eq!(
                    refused == Some(Error::NoRight),
                    !may,
                    "CPU {cpu}: {op:?} with {right:?}: {refused:?}"
                );
            }
            lab.settle();
            let dead = subject.task.resume().is_err_and(|refusal| refusal.error == Error::BadState);
            expect_eq!(dead, right == task_rights::DESTROY, "CPU {cpu}: whether the task is dead, {right:?}");
            lab.reset()?;
        }
    }
    Ok(())
}

/// Waits until one of both is done.
fn until_one_is_through(lab: &Lab<'_>, pair: &Pair) -> Outcome {
    for _ in 0..100_000 {
        if lab.is_through(&pair.giver) || lab.is_through(&pair.taker) {
            return Ok(());
        }
        lab.sleep(2000);
    }
    Err(Failure::Of("neither comes back".into()))
}

/// Another task revokes the source while copies arrive: arrived copies end, too, and the fates
/// report the rest.
fn grants_that_somebody_keeps_revoking(lab: &mut Lab<'_>) -> Outcome {
    const ROUNDS: u64 = 150;
    let pair = pair(lab, lab.cpus - 1)?;
    let revoker = lab.puppet(&Wanted { cpu: 1 % lab.cpus, ..Wanted::default() })?;
    let note: Notification = lab.nursery.make(0)?;
    let revoke = Args::plain(Op::CapRevoke, own::cnode().slot(note.cap()).0.0, 0, 0, 0);
    for round in 0..ROUNDS {
        for n in 0..4 {
            give(lab, &pair.giver, &note, slot(MINE, n), ALL)?;
        }
        if lab.is_through(&pair.taker) {
            pair.receives(lab, offer(THEIRS, 4))?;
        }
        if round % 2 == 0 {
            lab.ask(&revoker, &revoke)?;
            lab.sleep(round * 97 % 5000);
        }
        pair.sends(lab, &core::array::from_fn::<_, 4, _>(|n| all_of(MINE, n as u32)))?;
        if round % 2 == 1 {
            lab.sleep(round * 97 % 5000);
            lab.ask(&revoker, &revoke)?;
        }
        until_one_is_through(lab, &pair)?;
        if lab.is_through(&pair.taker) {
            for came in block(&pair.taker).came() {
                expect!(matches!(came.fate, Fate::Arrived | Fate::Gone), "round {round}: {came:?}");
            }
            let answer = message(Op::Reply, NOBODY, 8, regs(8), 0);
            expect_eq!(lab.run(&pair.taker, &answer)?.error(), None, "round {round}: replying");
            expect_eq!(lab.answer(&pair.giver)?.error(), None, "round {round}: the call");
        } else {
            let error = lab.answer(&pair.giver)?.error();
            expect_eq!(error, Some(Error::NoCapability), "round {round}: the call");
        }
        expect_eq!(lab.answer(&revoker)?.error(), None, "round {round}: the revoke");
        for n in 0..4 {
            expect_eq!(
                holds(lab, &pair.taker, slot(THEIRS, n))?,
                None,
                "round {round}: it outlived the revoke"
            );
        }
    }
    Ok(())
}

/// The taker deletes a capability just before. Its slot cannot be filled immediately, and the call
/// waits for it.
fn slots_that_are_emptied_all_the_time(lab: &mut Lab<'_>) -> Outcome {
    for cpu in cpus(lab) {
        let pair = pair(lab, cpu)?;
        let note: Notification = lab.nursery.make(0)?;
        give(lab, &pair.giver, &note, MINE, ALL)?;
        let delete = Args::plain(Op::CapDelete, own::cnode().slot(THEIRS).0.0, 0, 0, 0);
        for round in 0..50 {
            let came = arrived(0, ALL, ObjType::Notification);
            pair.exchange(lab, &[all_of(MINE, 0)], offer(THEIRS, 1), &[came])?;
            expect_eq!(lab.run(&pair.taker, &delete)?.error(), None, "round {round}: deleting what came");
        }
        lab.reset()?;
    }
    Ok(())
}
