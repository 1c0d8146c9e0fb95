//! Event pools: puppets send events to another process's pool, which reads them without the kernel.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use abi::events::Progress;
use abi::{Cap, Error, FLAG_NONBLOCK, MEMBER_RIGHTS, MsgInfo, Op, Rights, Target};
use user_rt::arch::Args;
use user_rt::cap::{Handle, Notification};
use user_rt::invoke::copy;
use user_rt::spawn::own;

use crate::block::Block;
use crate::lab::{CHILD_FREE, Lab, PUPPETS_MAX, Place, Puppet, Wanted};
use crate::readers::{self, COUNT, POOL_VA, READY, Reader, WRONG};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    events_arrive_in_order a_full_pool_makes_senders_wait a_pool_is_read_only_to_its_process
    broadcasts_reach_all_that_listen a_broadcast_outlives_listeners broadcasts_are_refused
    a_dropped_call_after_a_broadcast_is_gone
}

const READER: u32 = PUPPETS_MAX + 8;
/// Blocks of the readers; the puppets' last block is the last of them.
const READER_BLOCK: u32 = PUPPETS_MAX - 6;
/// Flag beside a reader's number: the reader writes a page that it may not write.
const WRITES: u64 = 1 << 8;
/// Bit of the reader's Notification that starts it.
const GO: u64 = 2;

/// Word of the reader's block: how often it was woken.
const WAKES: usize = 3;
/// Words of the reader's block, by sender: the next number.
const NEXT: usize = 16;

/// Returns word `n` of event `number` of a sender.
const fn word(sender: u64, number: u64, n: u64) -> u64 {
    (sender << 56 | number << 8 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Makes its own pool, waits for the start, then reads forever.
extern "C" fn reader(argument: u64) -> ! {
    let block = block_of(argument as u32 & 0xff);
    let (mut pool, note) = readers::bind();
    if argument & WRITES != 0 {
        block.note(READY).store(1, Release);
        // SAFETY: none: the page is not writable, and the process ends.
        unsafe { core::ptr::write_volatile((POOL_VA + abi::PAGE_SIZE) as *mut u64, 1) };
        block.note(READY).store(2, Release);
    }
    block.note(READY).store(1, Release);
    while note.wait().is_ok_and(|bits| bits & GO == 0) {}
    loop {
        while let Some(came) = pool.read() {
            let [sender, number, ..] = came.event.regs;
            let due = block.note(NEXT + sender as usize);
            let right = due.load(Relaxed) == number
                && came.event.info.words() as u64 == number % 20
                && came.words().zip(0..).all(|(got, n)| got == word(sender, number, n));
            block.note(WRONG).fetch_add(u64::from(!right), Relaxed);
            due.store(number + 1, Relaxed);
            readers::add(block, COUNT);
        }
        let slept = readers::wait(&mut pool, &note);
        block.note(WAKES).fetch_add(u64::from(slept), Relaxed);
    }
}

fn block_of(reader: u32) -> &'static Block {
    Block::at(READER_BLOCK + reader)
}

/// Starts the reader in its own process on a CPU. Returns its Notification.
fn start_reader(lab: &mut Lab<'_>, cpu: u32, argument: u64) -> Result<Notification, Failure> {
    Ok(start_reader_in(lab, cpu, argument)?.1)
}

/// Starts one of several readers. Returns its process and its Notification.
fn start_reader_in(lab: &mut Lab<'_>, cpu: u32, argument: u64) -> Result<(Place, Notification), Failure> {
    let number = argument as u32 & 0xff;
    let (place, block) = (lab.process(false)?, READER_BLOCK + number);
    let exposed = (number == 0).then_some(READER);
    let note = Reader { place, cpu, entry: reader, argument, block, exposed }.start(lab)?;
    Ok((place, note))
}

fn send(puppet: &Puppet, sender: u64, number: u64) -> (Args, [u64; 20]) {
    let target = Target::new(puppet.group, READER).0;
    let info = MsgInfo::new(0, (number % 20) as u8).op(Op::Send);
    let words = core::array::from_fn(|n| word(sender, number, n as u64));
    (Args { info, rdi: target, rsi: 0, rdx: sender, r8: number, r9: 0, r10: 0 }, words)
}

fn sends(lab: &Lab<'_>, puppet: &Puppet, sender: u64, number: u64) -> Outcome {
    let (args, words) = send(puppet, sender, number);
    lab.ask_with_words(puppet, &args, &words[..number as usize % 20])?;
    let shown = lab.answer(puppet)?;
    expect_eq!((shown.error(), shown.dirt), (None, 0), "sending event {number} of {sender}");
    Ok(())
}

/// Waits until the reader has read that many events.
fn are_read(lab: &Lab<'_>, count: u64) -> Outcome {
    are_read_by(lab, 0, count)
}

fn are_read_by(lab: &Lab<'_>, reader: u32, count: u64) -> Outcome {
    readers::wait_for(lab, READER_BLOCK + reader, COUNT, count, "events read")?;
    expect_eq!(block_of(reader).note(WRONG).load(Acquire), 0, "wrong ones");
    Ok(())
}

fn events_arrive_in_order(lab: &mut Lab<'_>) -> Outcome {
    const EACH: u64 = 60;
    for cpu in [0, lab.cpus - 1].into_iter().take(if lab.cpus > 1 { 2 } else { 1 }) {
        let mut puppets = alloc::vec::Vec::new();
        for n in 0..lab.cpus.min(4) {
            puppets.push(lab.puppet(&Wanted { cpu: n, ..Wanted::default() })?);
        }
        let note = start_reader(lab, cpu, 0)?;
        note.notify(GO)?;
        for number in 0..EACH {
            for (sender, puppet) in (0..).zip(&puppets) {
                sends(lab, puppet, sender, number)?;
            }
        }
        are_read(lab, EACH * puppets.len() as u64)?;
        expect!(Block::at(READER_BLOCK).note(WAKES).load(Relaxed) > 0, "the reader was never told");
        lab.reset()?;
    }
    Ok(())
}

fn a_full_pool_makes_senders_wait(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1].into_iter().take(if lab.cpus > 1 { 2 } else { 1 }) {
        let (first, second) = (lab.puppet(&Wanted::default())?, lab.puppet(&Wanted::default())?);
        let note = start_reader(lab, cpu, 0)?;
        let mut number = 0;
        loop {
            let (mut args, words) = send(&first, 0, number);
            args.info = args.info.flag(FLAG_NONBLOCK);
            lab.ask_with_words(&first, &args, &words[..number as usize % 20])?;
            match lab.answer(&first)?.error() {
                None => number += 1,
                Some(error) => {
                    expect_eq!(error, Error::WouldBlock, "event {number} of a pool that is full");
                    break;
                }
            }
        }
        for (sender, puppet, number) in [(0, &first, number), (1, &second, 0)] {
            let (args, words) = send(puppet, sender, number);
            lab.ask_with_words(puppet, &args, &words[..number as usize % 20])?;
            lab.stays_blocked(puppet)?;
        }
        note.notify(GO)?;
        for puppet in [&first, &second] {
            expect_eq!(lab.answer(puppet)?.error(), None, "on CPU {cpu}: it has been sent");
        }
        are_read(lab, number + 2)?;
        lab.reset()?;
    }
    Ok(())
}

fn a_pool_is_read_only_to_its_process(lab: &mut Lab<'_>) -> Outcome {
    let started = start_reader(lab, 0, WRITES);
    lab.settle();
    expect!(started.is_ok(), "the reader could not begin");
    expect_eq!(Block::at(READER_BLOCK).note(READY).load(Acquire), 1, "it wrote what only the kernel may");
    Ok(())
}

// --- broadcasts ----------------------------------------------------------------------------------

/// Number of readers in a test about broadcasts.
const READERS: u32 = 5;

/// Returns a call that sends an event to all listeners, with its words.
fn broadcast(puppet: &Puppet, sender: u64, number: u64) -> (Args, [u64; 20]) {
    let (args, words) = send(puppet, sender, number);
    let rdi = Target::new(puppet.group, 0).0;
    (Args { info: args.info.op(Op::Broadcast), rdi, ..args }, words)
}

fn readers(lab: &mut Lab<'_>) -> Result<alloc::vec::Vec<(Place, Notification)>, Failure> {
    (0..READERS).map(|n| start_reader_in(lab, n % lab.cpus, u64::from(n))).collect()
}

/// All CPUs broadcast to readers on all CPUs, into pools that fill quickly: each reader gets all
/// events, in order, once.
fn broadcasts_reach_all_that_listen(lab: &mut Lab<'_>) -> Outcome {
    const EACH: u64 = 40;
    let readers = readers(lab)?;
    let mut puppets = alloc::vec::Vec::new();
    for cpu in 0..lab.cpus.min(4) {
        puppets.push(lab.puppet(&Wanted { cpu, ..Wanted::default() })?);
    }
    for number in 0..EACH {
        for (sender, puppet) in (0..).zip(&puppets) {
            let (args, words) = broadcast(puppet, sender, number);
            lab.ask_with_words(puppet, &args, &words[..number as usize % 20])?;
        }
        // No reader reads before that, so some senders must wait.
        if number >= 8 {
            readers.iter().try_for_each(|(_, note)| note.notify(GO))?;
        }
        for puppet in &puppets {
            let shown = lab.answer(puppet)?;
            expect_eq!((shown.error(), shown.dirt), (None, 0), "broadcast {number}");
            expect_eq!(shown.answer.rdi, u64::from(READERS), "broadcast {number}: who got it");
        }
    }
    for reader in 0..READERS {
        are_read_by(lab, reader, EACH * puppets.len() as u64)?;
    }
    Ok(())
}

/// A sender that waits for room at a reader whose process ends continues with the other readers.
fn a_broadcast_outlives_listeners(lab: &mut Lab<'_>) -> Outcome {
    let readers = readers(lab)?;
    let puppet = lab.puppet(&Wanted { cpu: lab.cpus - 1, ..Wanted::default() })?;
    let mut number = 0;
    let progress = loop {
        let (mut args, words) = broadcast(&puppet, 0, number);
        args.info = args.info.flag(FLAG_NONBLOCK);
        lab.ask_with_words(&puppet, &args, &words[..number as usize % 20])?;
        let shown = lab.answer(&puppet)?;
        if let Some(error) = shown.error() {
            expect_eq!(error, Error::WouldBlock, "broadcast {number} to pools that are full");
            break Progress::from_raw(shown.answer.rdi as u32);
        }
        number += 1;
    };
    expect_eq!(progress.sent, 0, "all of them are full");
    let (args, words) = broadcast(&puppet, 0, number);
    lab.ask_with_words(&puppet, &args, &words[..number as usize % 20])?;
    lab.stays_blocked(&puppet)?;
    let Place::Child(first) = readers[0].0 else { return Err(Failure::Of("no child".into())) };
    let process = lab.children[first].process.cap();
    own::cnode().revoke(process)?;
    own::cnode().delete(process)?;
    lab.stays_blocked(&puppet)?;
    for (_, note) in &readers[1..] {
        note.notify(GO)?;
    }
    let shown = lab.answer(&puppet)?;
    expect_eq!((shown.error(), shown.answer.rdi), (None, u64::from(READERS) - 1), "who got it");
    for reader in 1..READERS {
        are_read_by(lab, reader, number + 1)?;
    }
    Ok(())
}

/// Refuses a process that is no member, a removed member, and a member without the right.
fn broadcasts_are_refused(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.process_with(false, MEMBER_RIGHTS.minus(Rights::SEND), 0)?;
    let weak = lab.puppet(&Wanted { place, ..Wanted::default() })?;
    let ask = |lab: &Lab<'_>, puppet: &Puppet, group: Cap, words: u8| {
        let info = MsgInfo::new(0, words).op(Op::Broadcast);
        let shown = lab.run(puppet, &Args { info, rdi: group.arg(), ..Args::new(Op::Broadcast) })?;
        Ok::<_, Failure>((shown.error(), shown.answer.rdi))
    };
    let missing = u64::from(Rights::SEND.0);
    expect_eq!(ask(lab, &weak, weak.group, 0)?, (Some(Error::NoRight), missing), "without SEND");
    let place = lab.process(false)?;
    let puppet = lab.puppet(&Wanted { place, ..Wanted::default() })?;
    expect_eq!(ask(lab, &puppet, puppet.group, 9)?, (None, 0), "nobody listens");
    expect_eq!(ask(lab, &puppet, puppet.group, 65)?, (Some(Error::TooLong), 64), "too long");
    // The group of another process, of which it was given a capability: it is no member.
    let other = lab.nursery.make_group(2, 2)?;
    copy(&other, lab.child(place)?.cnode.slot(Cap(CHILD_FREE)), Rights::ALL, 0)?;
    expect_eq!(ask(lab, &puppet, Cap(CHILD_FREE), 0)?.0, Some(Error::NotMember), "no member");
    expect_eq!(ask(lab, &puppet, Cap(CHILD_FREE + 1), 0)?.0, Some(Error::NoCapability), "no capability");
    // The own process was the first member, the weak one the second.
    lab.group()?.remove(2)?;
    expect_eq!(ask(lab, &puppet, puppet.group, 0)?, (Some(Error::NotMember), 0), "removed");
    Ok(())
}

/// Broadcasts until there is no room. Returns the number of the broadcast that had none.
fn fill_by_broadcasts(lab: &mut Lab<'_>, client: &Puppet) -> Result<u64, Failure> {
    for number in 0.. {
        let (mut args, words) = broadcast(client, 0, number);
        args.info = args.info.flag(FLAG_NONBLOCK);
        lab.ask_with_words(client, &args, &words[..number as usize % 20])?;
        if lab.answer(client)?.error().is_some() {
            return Ok(number);
        }
    }
    unreachable!("a pool has room for everything")
}

/// A server that receives again without an answer: its client's call is gone, whatever the client
/// did before: here, a broadcast that had to wait for room.
fn a_dropped_call_after_a_broadcast_is_gone(lab: &mut Lab<'_>) -> Outcome {
    for waits in [false, true] {
        let server = lab.puppet(&Wanted::default())?;
        let client = lab.puppet(&Wanted::default())?;
        let note = start_reader(lab, 0, 0)?;
        if waits {
            let number = fill_by_broadcasts(lab, &client)?;
            let (args, words) = broadcast(&client, 0, number);
            lab.ask_with_words(&client, &args, &words[..number as usize % 20])?;
            lab.stays_blocked(&client)?;
            note.notify(GO)?;
            let shown = lab.answer(&client)?;
            expect_eq!((shown.error(), shown.answer.rdi), (None, 1), "who got it");
        }
        lab.ask(&server, &Args::new(Op::Recv))?;
        lab.stays_blocked(&server)?;
        let target = lab.target(&client, &server);
        lab.ask(&client, &Args { rdi: target.0, rdx: 11, r8: 22, r9: 33, r10: 44, ..Args::new(Op::Call) })?;
        let got = lab.answer(&server)?;
        expect_eq!((got.error(), got.answer.rdx), (None, 11), "the call");
        lab.ask(&server, &Args::new(Op::Recv))?;
        let shown = lab.answer(&client)?;
        expect_eq!(
            (shown.error(), shown.answer.rdi, shown.answer.rdx),
            (Some(Error::Gone), 0, 0),
            "the client's call, after a broadcast that waited: {waits}"
        );
        lab.reset()?;
    }
    Ok(())
}
