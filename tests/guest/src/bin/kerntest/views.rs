//! Views of sensitive memory: a parent keeps them, lends them to its children, and gets them back
//! when the children have ended. Here the parent is this program, which has all devices. Process 1,
//! this program's own parent, lends it no views.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Cap, Error, Op, Rights, Target, machine_rights};
use guest_tests::board::Part as _;
use user_rt::arch::Args;
use user_rt::cap::{Access, Handle};
use user_rt::invoke::copy;
use user_rt::layout::{SHARED_VA, slot};
use user_rt::spawn::own;
use user_rt::views::{Allows, Frames, Grant, NURSERY_LOG2, NURSERY_SLOTS, Range, ViewDenial, Views, Wanted};
use user_rt::{boot, supervisor};

use crate::block::Block;
use crate::fate::{self, Fate};
use crate::lab::{CHILD_FREE, Lab, Place, Puppet, Wanted as Of};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    a_view_comes_back_when_its_holder_dies a_view_that_is_given_back_is_gone_everywhere
    readers_share_a_view a_pinned_view_stays process_1_lends_nothing_to_this_program
}

const HOLE: u64 = SHARED_VA + 0x1000_0000;
const HPET: Range = Range::at(0xfed0_0000, 1);
/// The page after it, where no device answers.
const BESIDE: Range = Range::at(0xfed0_1000, 1);
const GRANTED: &[Grant] = &[Grant::new(HPET, Allows { write: true, dma: true })];
const BOTH: &[Grant] = &[Grant::new(Range { pages: 2, ..HPET }, Allows::READ)];
/// Slot in which children want their views.
const VIEW: Cap = Cap(CHILD_FREE);

fn views(lab: &mut Lab<'_>) -> Result<Views<Frames>, Failure> {
    Ok(Views::new(Frames::new(lab.nursery.split(NURSERY_LOG2, NURSERY_SLOTS)?)))
}

/// Lends a view to a child of the test.
fn lend(
    lab: &Lab<'_>,
    views: &mut Views<Frames>,
    child: usize,
    wanted: &Wanted,
) -> Result<Result<(), ViewDenial>, Failure> {
    let to = lab.child(Place::Child(child))?.cnode.slot(VIEW);
    Ok(views.lend(child as u16, wanted, GRANTED, to))
}

fn must(denial: ViewDenial) -> Failure {
    Failure::Of(alloc::format!("a view was denied: {denial}"))
}

/// Whether a child's slot has a capability.
fn has_it(lab: &Lab<'_>, child: usize) -> Result<bool, Failure> {
    Ok(lab.child(Place::Child(child))?.cnode.inspect(VIEW)?.is_some())
}

/// Makes one more child of the test, with a puppet.
fn child(lab: &mut Lab<'_>) -> Result<Puppet, Failure> {
    let (place, cpu) = (lab.process(false)?, lab.children.len() as u32 % lab.cpus);
    lab.puppet(&Of { place, cpu, ..Of::default() })
}

/// Lets a puppet map its process's view, in a space of its own.
fn map(lab: &Lab<'_>, puppet: &Puppet, space: Cap, access: Access) -> Result<Option<Error>, Failure> {
    let args = Args::plain(Op::Map, space.arg(), VIEW.arg(), HOLE, access.bits());
    Ok(lab.run(puppet, &args)?.error())
}

/// Determines the fate of a task of the child that reads the device's register.
fn reads(lab: &mut Lab<'_>, child: usize) -> Result<Fate, Failure> {
    let of = Of { place: Place::Child(child), cpu: child as u32 % lab.cpus, ..Of::default() };
    lab.fate(&of, fate::read_register, HOLE)
}

/// Ends a process, but keeps its CSpace.
fn kill(lab: &Lab<'_>, child: usize) -> Outcome {
    let child = lab.child(Place::Child(child))?;
    for cap in [child.process.cap(), child.vspace.cap()] {
        own::cnode().revoke(cap)?;
        own::cnode().delete(cap)?;
    }
    Ok(())
}

/// Lets the holder pass its view on, to a task in a third process that reads the device all the
/// time.
fn passes_on(
    lab: &mut Lab<'_>,
    from: &Puppet,
    holder: usize,
    third: usize,
) -> Result<&'static AtomicU64, Failure> {
    let (holder, other) = (lab.child(Place::Child(holder))?, lab.child(Place::Child(third))?);
    let (cnode, space) = (Cap(VIEW.0 + 1), Cap(VIEW.0 + 2));
    copy(&other.cnode, holder.cnode.slot(cnode), Rights::ALL, 0)?;
    copy(&other.vspace, holder.cnode.slot(space), Rights::ALL, 0)?;
    let to = Target::new(cnode, VIEW.0).0;
    expect_eq!(map(lab, from, space, Access::Read)?, None, "mapping it elsewhere");
    let copied = lab.run(from, &Args::plain(Op::CapCopy, VIEW.arg(), to, u64::from(Rights::MAP.0), 0))?;
    expect_eq!(copied.error(), Some(Error::NoRight), "giving it away and keeping it");
    let moved = lab.run(from, &Args::plain(Op::CapMove, VIEW.arg(), to, 0, 0))?;
    expect_eq!(moved.error(), None, "passing it on");
    const READER: u32 = 40;
    let block = Block::at(READER);
    block.clear();
    block.note(0).store(HOLE, Relaxed);
    let of = Of { place: Place::Child(third), cpu: lab.cpus - 1, ..Of::default() };
    lab.task(&of, fate::keep_reading_register, READER.into())?.task.resume()?;
    lab.busy = true;
    let count = block.note(1);
    while count.load(Relaxed) == 0 {
        lab.sleep(10_000);
    }
    Ok(count)
}

fn a_view_comes_back_when_its_holder_dies(lab: &mut Lab<'_>) -> Outcome {
    let mut views = views(lab)?;
    let puppets = [child(lab)?, child(lab)?, child(lab)?];
    let wanted = Wanted::new(HPET, Allows::WRITE);
    lend(lab, &mut views, 0, &wanted)?.map_err(must)?;
    expect_eq!(map(lab, &puppets[0], slot::VSPACE, Access::Write)?, None, "the child maps it");
    expect_eq!(reads(lab, 0)?, Fate::Alive, "the child reads the device's register");
    expect_eq!(lend(lab, &mut views, 1, &wanted)?, Err(ViewDenial::InUse), "the second child's request");
    let other = Wanted::new(BESIDE, Allows::READ);
    expect_eq!(lend(lab, &mut views, 1, &other)?, Err(ViewDenial::NotAllowed), "what nobody may have");
    let reads_of_third = passes_on(lab, &puppets[0], 0, 2)?;
    kill(lab, 0)?;
    expect_eq!(lend(lab, &mut views, 1, &wanted)?, Err(ViewDenial::InUse), "before the keeper knows");
    expect_eq!(views.ended(0, false), Ok(1), "views of the dead child");
    expect!(views.is_idle(HPET), "the keeper has not got it back");
    // Its last read may not be counted yet.
    lab.sleep(boot::facts().tsc_hz / 1000);
    let before = reads_of_third.load(Relaxed);
    lab.sleep(boot::facts().tsc_hz / 1000);
    expect_eq!(reads_of_third.load(Relaxed), before, "reads of who still ran there, after it was taken");
    for child in [0, 2] {
        expect!(!has_it(lab, child)?, "child {child} has a capability of what was taken back");
    }
    lend(lab, &mut views, 1, &wanted)?.map_err(must)?;
    expect_eq!(map(lab, &puppets[1], slot::VSPACE, Access::Read)?, None, "the second child maps it");
    expect_eq!(reads(lab, 1)?, Fate::Alive, "the second child reads the device's register");
    Ok(())
}

fn a_view_that_is_given_back_is_gone_everywhere(lab: &mut Lab<'_>) -> Outcome {
    let mut views = views(lab)?;
    let puppet = child(lab)?;
    let wanted = Wanted::new(HPET, Allows::READ);
    lend(lab, &mut views, 0, &wanted)?.map_err(must)?;
    let refused = Some(Error::NoRight);
    expect_eq!(map(lab, &puppet, slot::VSPACE, Access::Write)?, refused, "writing what may be read");
    expect_eq!(map(lab, &puppet, slot::VSPACE, Access::Read)?, None, "reading it");
    expect_eq!(reads(lab, 0)?, Fate::Alive, "the child reads the device's register");
    let to = own::cnode().slot(Cap(u32::MAX));
    expect_eq!(
        views.lend(9, &Wanted::new(BESIDE, Allows::READ), BOTH, to),
        Err(ViewDenial::BadSlot),
        "no slot"
    );
    expect_eq!(lend(lab, &mut views, 0, &wanted)?, Err(ViewDenial::InUse), "once more");
    views.give_back(0, HPET).map_err(must)?;
    expect!(!has_it(lab, 0)?, "its capability is there still");
    expect_eq!(reads(lab, 0)?, Fate::Dead, "the child after it gave the view back");
    // The range belongs to no child: a process that may make frames can have it once the keeper
    // releases it.
    expect!(views.is_idle(HPET), "the keeper has not got it back");
    let place = own::cnode().slot(lab.nursery.take_slot()?);
    let make =
        |lab: &Lab<'_>| own::machine().device_frame(lab.nursery.untyped(), HPET.address(), 12, 0, place);
    expect_eq!(make(lab).map_err(|refusal| refusal.error), Err(Error::InUse), "while the keeper has it");
    views.drop_idle().map_err(must)?;
    make(lab)?;
    expect_eq!(lend(lab, &mut views, 0, &wanted)?, Err(ViewDenial::InUse), "while somebody else has it");
    Ok(())
}

fn readers_share_a_view(lab: &mut Lab<'_>) -> Outcome {
    let mut views = views(lab)?;
    let shared = Wanted::shared(HPET);
    for number in 0..3 {
        let puppet = child(lab)?;
        lend(lab, &mut views, number, &shared)?.map_err(must)?;
        expect_eq!(map(lab, &puppet, slot::VSPACE, Access::Read)?, None, "child {number} maps it");
        expect_eq!(reads(lab, number)?, Fate::Alive, "child {number} reads the device's register");
    }
    kill(lab, 0)?;
    expect_eq!(views.ended(0, false), Ok(1), "views of the dead child");
    expect!(!has_it(lab, 0)?, "its capability is there still");
    expect_eq!(reads(lab, 1)?, Fate::Alive, "another one of those who share it");
    expect_eq!((views.ended(1, false), views.ended(2, false)), (Ok(1), Ok(1)), "the others'");
    expect_eq!(reads(lab, 1)?, Fate::Dead, "a child whose view was taken");
    expect!(views.is_idle(HPET) && !has_it(lab, 2)?, "the keeper has not got it back");
    Ok(())
}

fn a_pinned_view_stays(lab: &mut Lab<'_>) -> Outcome {
    let mut views = views(lab)?;
    let puppet = child(lab)?;
    child(lab)?;
    let wanted = Wanted::new(HPET, Allows { write: true, dma: true });
    lend(lab, &mut views, 0, &wanted)?.map_err(must)?;
    let machine = Cap(VIEW.0 + 1);
    let to = lab.child(Place::Child(0))?.cnode.slot(machine);
    copy(&own::machine(), to, machine_rights::DMA, 0)?;
    let pinned = lab.run(&puppet, &Args::plain(Op::FramePin, VIEW.arg(), machine.arg(), 0, 0))?;
    expect_eq!((pinned.error(), pinned.answer.rdi), (None, HPET.address()), "pinning it");
    kill(lab, 0)?;
    expect_eq!(views.ended(0, false), Err(ViewDenial::Pinned), "taking it back");
    expect_eq!(lend(lab, &mut views, 1, &wanted)?, Err(ViewDenial::InUse), "lending it again");
    expect_eq!(views.ended(0, true), Ok(1), "when the device is still");
    lend(lab, &mut views, 1, &wanted)?.map_err(must)?;
    // The test did not make the machine.
    lab.child(Place::Child(0))?.cnode.delete(machine)?;
    Ok(())
}

/// Checks that this program makes its own frames, so that its description has no views.
fn process_1_lends_nothing_to_this_program(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.nursery.take_slot()?;
    for range in [HPET, Range::at(0, 1), Range::at(0xfee0_0000, 1)] {
        let refused = supervisor::view(Wanted::new(range, Allows::READ), place).err();
        expect_eq!(refused, Some(ViewDenial::NotAllowed), "{range:?}");
    }
    let refused = supervisor::view(Wanted::new(Range { pages: 0, ..HPET }, Allows::READ), place).err();
    expect_eq!(refused, Some(ViewDenial::BadRequest), "no pages");
    expect_eq!(supervisor::give_back(HPET), Err(ViewDenial::NotHeld), "what it has not");
    expect!(own::cnode().inspect(place)?.is_none(), "something is there");
    Ok(())
}
