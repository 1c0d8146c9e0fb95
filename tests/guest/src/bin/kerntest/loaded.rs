//! Events that carry capabilities and pages: from all CPUs at the same time, with and without room,
//! and while their payload is revoked.

use core::sync::atomic::Ordering::{Acquire, Release};

use abi::events::Window;
use abi::{
    Cap, Error, FLAG_CAPS, FLAG_NONBLOCK, Fate, Grant, ObjType, Op, PAGE_SIZE, PageMode, PageRange, Rights,
};
use guest_tests::board::Part as _;
use user_rt::arch::Args;
use user_rt::cap::{Frame, Handle, Notification, Process};
use user_rt::events::Came;
use user_rt::grants::{copied, offer};
use user_rt::invoke::copy;
use user_rt::ipc::Message;
use user_rt::pages::Pooled;
use user_rt::spawn::own;
use user_rt::utcb::{self};

use crate::block::Block;
use crate::lab::{CHILD_GROUP, Lab, PUPPETS_MAX, Puppet, Wanted};
use crate::pages::pair::{pattern, try_read, try_write};
use crate::readers::{self, COUNT, FREE, FROM, READY, Reader, WINDOW, WRONG, add, wait_for};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! { loads_arrive_from_all_cpus loads_that_somebody_keeps_revoking loads_are_refused }

/// The capability that a sender copies.
const GIVEN: Cap = Cap(FREE);
/// The reader's slots.
const SLOTS: Cap = Cap(FREE + 6);
const SLOT_COUNT: u32 = 160;
const READER: u32 = PUPPETS_MAX + 9;
const READER_BLOCK: u32 = PUPPETS_MAX - 6;
const SENDER_BLOCK: u32 = PUPPETS_MAX - 5;
const SENDERS_MAX: u32 = 4;
/// Bit of the reader's Notification that starts it.
const GO: u64 = 2;
/// Events of each sender, and capabilities with each.
const EACH: u64 = 12;
const GRANTS: usize = 3;
const _: () = assert!(SENDERS_MAX as u64 * EACH * GRANTS as u64 <= SLOT_COUNT as u64);

/// How the reader offers slots: all of them once, or again with each event.
const ONCE: u64 = 0;
const ANEW: u64 = 1;

/// Makes its own pool, offers slots and pages, waits for the start, then reads forever.
extern "C" fn reader(how: u64) -> ! {
    let block = Block::at(READER_BLOCK);
    let (mut pool, note) = readers::bind();
    pool.listen(offer(SLOTS, if how == ONCE { SLOT_COUNT } else { 4 }));
    pool.open_window(Window { address: WINDOW, pages: u64::from(SENDERS_MAX) * EACH });
    block.note(READY).store(1, Release);
    let mut bits = 0;
    while how == ONCE && bits & GO == 0 {
        bits |= note.wait().unwrap_or(0);
    }
    let mut count = 0;
    loop {
        while let Some(came) = pool.read() {
            let good = if how == ONCE { is_whole(&came) } else { came.received().count() == 4 };
            add(block, if good { COUNT } else { WRONG });
            count += 1;
            if how == ANEW {
                pool.listen(offer(Cap(SLOTS.0 + count % (SLOT_COUNT / 4) * 4), 4));
            }
        }
        readers::wait(&mut pool, &note);
    }
}

/// Uses the payload of an event. Returns whether it is complete and as it was sent.
fn is_whole(came: &Came<'_>) -> bool {
    let [sender, number, ..] = came.event.regs;
    let mut caps = 0;
    for received in came.received() {
        let what = (received.fate, received.rights, received.object);
        let right = what == (Fate::Arrived, Rights::NOTIFY, Some(ObjType::Notification));
        caps += usize::from(right && Notification::at(received.cap).notify(1 << sender).is_ok());
    }
    let mut pages = 0;
    for range in came.ranges() {
        let good = try_read(range.address + 16) == Some(pattern(sender, number));
        pages +=
            usize::from(good && range.count == 1 && own::vspace().drop_pages(Pooled::of(&range)).is_ok());
    }
    (caps, pages) == (GRANTS, 1)
}

/// Sends copies of a capability and a page with each event.
extern "C" fn sender(number: u64) -> ! {
    let block = Block::at(SENDER_BLOCK + number as u32);
    let (utcb, given) = (utcb::current(), Notification::at(GIVEN));
    let to = user_rt::cap::Group::at(CHILD_GROUP).exposure(READER);
    for event in 0..EACH {
        let address = FROM + event * PAGE_SIZE;
        let written = try_write(address + 16, pattern(number, event));
        utcb.send_grants(&core::array::from_fn::<_, GRANTS, _>(|_| copied(&given, Rights::NOTIFY, 0)));
        utcb.send_ranges(&[PageRange::new(PageMode::Move, address, 1)]);
        let sent = to.send(&Message::new(0, [number, event, 0, 0]).with_caps().with_pages());
        let told = (0..GRANTS).all(|place| utcb.fate(place) == Some(Fate::Arrived));
        add(block, if written && sent.is_ok() && told { COUNT } else { WRONG });
    }
    block.note(READY).store(1, Release);
    loop {
        let _ = user_rt::ipc::recv();
    }
}

/// Starts the reader in its own process. Returns the process and its Notification.
fn start_reader(lab: &mut Lab<'_>, cpu: u32, how: u64) -> Result<(Process, Notification), Failure> {
    let place = lab.process(false)?;
    let process = lab.child(place)?.process.again();
    let it = Reader { place, cpu, entry: reader, argument: how, block: READER_BLOCK, exposed: Some(READER) };
    let note = it.start(lab)?;
    Ok((process, note))
}

fn loads_arrive_from_all_cpus(lab: &mut Lab<'_>) -> Outcome {
    let senders = lab.cpus.min(SENDERS_MAX);
    for cpu in [0, lab.cpus - 1] {
        let (process, note) = start_reader(lab, cpu, ONCE)?;
        let given: Notification = lab.nursery.make(0)?;
        for number in 0..senders {
            Block::at(SENDER_BLOCK + number).clear();
            let place = lab.process(false)?;
            let frame: Frame = lab.nursery.make(12 | EACH << 8)?;
            let child = lab.child(place)?;
            child.vspace.map_pool(&frame, FROM)?;
            copy(&given, child.cnode.slot(GIVEN), Rights::NOTIFY | Rights::GRANT, 0)?;
            let wanted = Wanted { place, cpu: number, ..Wanted::default() };
            let task = lab.task(&wanted, sender, u64::from(number))?.task;
            task.resume()?;
        }
        lab.settle();
        if EACH * u64::from(senders) > 16 {
            let through = (0..senders).filter(|n| Block::at(SENDER_BLOCK + n).note(READY).load(Acquire) == 1);
            expect!((through.count() as u32) < senders, "the pool is not full yet");
        }
        note.notify(GO)?;
        for number in 0..senders {
            wait_for(lab, SENDER_BLOCK + number, READY, 1, "a sender is through")?;
            let block = Block::at(SENDER_BLOCK + number);
            let counts = [COUNT, WRONG].map(|note| block.note(note).load(Acquire));
            expect_eq!(counts, [EACH, 0], "reader on CPU {cpu}: what sender {number} sent");
        }
        wait_for(lab, READER_BLOCK, COUNT, EACH * u64::from(senders), "what the reader has got")?;
        expect_eq!(Block::at(READER_BLOCK).note(WRONG).load(Acquire), 0, "what came otherwise");
        expect_eq!(given.poll()?, (1 << senders) - 1, "whose capabilities were used");
        expect!(process.holds(&given, Rights::NOTIFY)?.is_some(), "the reader has copies");
        own::cnode().revoke(given.cap())?;
        expect_eq!(process.holds(&given, Rights::NONE)?, None, "after the revoke");
        lab.reset()?;
    }
    Ok(())
}

/// Makes a puppet send four copies.
fn sends(lab: &Lab<'_>, puppet: &Puppet, cap: Cap) -> Result<(), Failure> {
    let grants = [Grant::Copy { cap, rights: Rights::NOTIFY, badge: 0 }; 4];
    Block::at(puppet.number).give(&grants, abi::Listening::NOT);
    let to = abi::Target::new(puppet.group, READER);
    let args = Args::plain(Op::Send, to.0, 0, 0, 0);
    lab.ask(puppet, &Args { info: args.info.flag(FLAG_CAPS), ..args })
}

fn loads_that_somebody_keeps_revoking(lab: &mut Lab<'_>) -> Outcome {
    const ROUNDS: u64 = 120;
    let (process, _) = start_reader(lab, lab.cpus - 1, ANEW)?;
    let puppet = lab.puppet(&Wanted::default())?;
    let revoker = lab.puppet(&Wanted { cpu: 1 % lab.cpus, ..Wanted::default() })?;
    let note: Notification = lab.nursery.make(0)?;
    let source = lab.nursery.take_slot()?;
    let revoke = Args::plain(Op::CapRevoke, own::cnode().slot(note.cap()).0.0, 0, 0, 0);
    let mut sent = 0;
    for round in 0..ROUNDS {
        copy(&note, own::cnode().slot(source), Rights::NOTIFY | Rights::GRANT, 0)?;
        if round % 3 == 0 {
            lab.ask(&revoker, &revoke)?;
        }
        sends(lab, &puppet, source)?;
        if round % 3 != 0 {
            lab.sleep(round * 97 % 6000);
            lab.ask(&revoker, &revoke)?;
        }
        let error = lab.answer(&puppet)?.error();
        expect!(matches!(error, None | Some(Error::NoCapability)), "round {round}: {error:?}");
        sent += u64::from(error.is_none());
        expect_eq!(lab.answer(&revoker)?.error(), None, "round {round}: the revoke");
        expect_eq!(process.holds(&note, Rights::NONE)?, None, "round {round}: it outlived the revoke");
    }
    wait_for(lab, READER_BLOCK, COUNT, sent, "what the reader has got")?;
    expect_eq!(Block::at(READER_BLOCK).note(WRONG).load(Acquire), 0, "lists that were not whole");
    Ok(())
}

fn loads_are_refused(lab: &mut Lab<'_>) -> Outcome {
    let (process, _) = start_reader(lab, lab.cpus - 1, ONCE)?;
    let puppet = lab.puppet(&Wanted::default())?;
    let note: Notification = lab.nursery.make(0)?;
    let weak = lab.nursery.take_slot()?;
    copy(&note, own::cnode().slot(weak), Rights::NOTIFY, 0)?;
    let empty = lab.nursery.take_slot()?;
    for (cap, error) in [(weak, Error::NoRight), (empty, Error::NoCapability)] {
        sends(lab, &puppet, cap)?;
        expect_eq!(lab.answer(&puppet)?.error(), Some(error), "sending {cap:?}");
    }
    // Until the pool has no room: then none of the payload was sent.
    let to = abi::Target::new(puppet.group, READER);
    let plain = Args::plain(Op::Send, to.0, 0, 0, 0);
    let plain = Args { info: plain.info.flag(FLAG_NONBLOCK), ..plain };
    while lab.run(&puppet, &plain)?.error().is_none() {}
    Block::at(puppet.number).give(&[Grant::Move { cap: weak }], abi::Listening::NOT);
    let error = lab.run(&puppet, &Args { info: plain.info.flag(FLAG_CAPS), ..plain })?.error();
    expect_eq!(error, Some(Error::WouldBlock), "no room");
    expect!(own::cnode().inspect(weak)?.is_some(), "what was to be moved");
    expect_eq!(process.holds(&note, Rights::NONE)?, None, "what the reader has");
    Ok(())
}
