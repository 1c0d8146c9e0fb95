//! Untyped memory: every byte is accounted for, comes back, and comes back clear.

use core::sync::atomic::Ordering::Relaxed;

use abi::{Error, ObjType, Op, PAGE_SIZE};
use user_rt::arch::{Args, memory};
use user_rt::cap::{
    Access, CNode, Frame, Group, Handle, Notification, Process, Reply, SchedContext, Task, Untyped, VSpace,
};
use user_rt::layout::SHARED_VA;
use user_rt::slots::Slots;
use user_rt::spawn::{Nursery, own};

use crate::lab::{Lab, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    every_type_fills_and_empties_it_the_same_way mixed_objects_come_back nested_untypeds_come_back
    fresh_frames_are_clear reset_takes_tasks_along one_cannot_reset_what_one_stands_on
    memory_of_a_reset_frame_is_unmapped many_resets
}

/// Makes a nursery in the test's own, with that much memory.
fn part(lab: &mut Lab<'_>, log2: u8, slots: u32) -> Result<Nursery, Failure> {
    Ok(lab.nursery.split(log2, slots)?)
}

/// Makes objects until the memory is used up. Returns how many, and the bytes that the refusal
/// names.
fn fill<T: Handle>(nursery: &mut Nursery, size: u64) -> Result<(u32, u64), Failure> {
    for count in 0.. {
        match nursery.make::<T>(size) {
            Ok(_) => {}
            Err(refusal) if refusal.error == Error::NoMemory => return Ok((count, refusal.detail)),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Err(Failure::Of("an Untyped without end".into()))
}

fn fills_twice<T: Handle>(lab: &mut Lab<'_>, size: u64, at_least: u32) -> Outcome {
    let mut nursery = part(lab, 17, 2400)?;
    let first = fill::<T>(&mut nursery, size)?;
    let what = T::TYPE;
    expect!(first.0 >= at_least, "{what:?}: only {} of size {size} in 128 KiB", first.0);
    expect!(first.1 < 1 << 17, "{what:?}: {} bytes free when full", first.1);
    for _ in 0..3 {
        nursery.reset()?;
        expect_eq!(fill::<T>(&mut nursery, size)?, first, "{what:?} after a reset");
    }
    nursery.reset()?;
    lab.reset()?;
    Ok(())
}

fn every_type_fills_and_empties_it_the_same_way(lab: &mut Lab<'_>) -> Outcome {
    fills_twice::<Untyped>(lab, 12, 25)?;
    fills_twice::<Frame>(lab, 12, 25)?;
    fills_twice::<CNode>(lab, 64, 40)?;
    fills_twice::<VSpace>(lab, 2, 3)?;
    fills_twice::<Process>(lab, 16, 100)?;
    fills_twice::<Task>(lab, 0, 15)?;
    fills_twice::<SchedContext>(lab, 0, 200)?;
    fills_twice::<Group>(lab, 16 | 16 << 16, 40)?;
    fills_twice::<Notification>(lab, 0, 200)?;
    fills_twice::<Reply>(lab, 0, 500)
}

/// Returns the free bytes of an empty nursery: a reset must come back to this number.
fn free_after_reset(nursery: &mut Nursery) -> Result<u64, Failure> {
    nursery.reset()?;
    let untyped = nursery.untyped().again();
    let slot = nursery.take_slot()?;
    let left = untyped.retype::<Notification>(0, own::cnode().slot(slot), 1)?;
    nursery.reset()?;
    Ok(left)
}

fn mixed_objects_come_back(lab: &mut Lab<'_>) -> Outcome {
    let mut nursery = part(lab, 20, 400)?;
    let free = free_after_reset(&mut nursery)?;
    for round in 0..10 {
        let vspace: VSpace = nursery.make(8)?;
        let cnode: CNode = nursery.make(32)?;
        let process: Process = nursery.make(4)?;
        process.configure(&cnode, &vspace, false)?;
        let task: Task = nursery.make(0)?;
        task.configure(&process, 0x4000_f000, 0)?;
        let sched: SchedContext = nursery.make(0)?;
        sched.configure(crate::lab::PRIORITY, 1_000_000)?;
        sched.bind(&task)?;
        let frames = nursery.make_pages(round + 1)?;
        for (page, frame) in (0..).zip(frames.iter::<Frame>()) {
            vspace.map(&frame, 0x5000_0000 + page * PAGE_SIZE, Access::Write)?;
        }
        let group = nursery.make_group(3, 3)?;
        group.expose_task(1, &task)?;
        let note: Notification = nursery.make(0)?;
        group.expose_notification(2, &note)?;
        note.bind(&task)?;
        process.accept(abi::Cap(20), &group)?;
        group.add(&process, abi::MEMBER_RIGHTS, 1)?;
        expect_eq!(free_after_reset(&mut nursery)?, free, "bytes after round {round}");
    }
    Ok(())
}

fn nested_untypeds_come_back(lab: &mut Lab<'_>) -> Outcome {
    let mut outer = part(lab, 20, 600)?;
    let free = free_after_reset(&mut outer)?;
    for _ in 0..3 {
        let mut middle = outer.split(18, 200)?;
        let mut inner = middle.split(15, 50)?;
        inner.make_pages(3)?;
        inner.make::<Task>(0)?;
        middle.make_pages(10)?;
        inner.reset()?;
        inner.make_pages(3)?;
        // The outer reset ends all of them, although they are full.
        expect_eq!(free_after_reset(&mut outer)?, free, "bytes after a nested reset");
    }
    Ok(())
}

fn fresh_frames_are_clear(lab: &mut Lab<'_>) -> Outcome {
    let mut nursery = part(lab, 18, 100)?;
    for round in 0..3 {
        let frames = nursery.make_pages(40)?;
        for frame in frames.iter::<Frame>() {
            let clear = memory::with_frame(&own::vspace(), &frame, |bytes| {
                let clear = bytes.iter().all(|byte| *byte == 0);
                bytes.fill(0xa5);
                clear
            })?;
            expect!(clear, "round {round}: a fresh frame has somebody's bytes");
        }
        nursery.reset()?;
    }
    // Kernel objects that were made of dirty memory are also new, such as a task's registers.
    let task: Task = nursery.make(0)?;
    task.configure(&own::process(), user_rt::layout::utcb_va(4000), 0)?;
    let regs = task.read_regs()?;
    let flags = abi::RegIndex::Rflags as usize;
    let others = regs.iter().enumerate().filter(|(index, _)| *index != flags);
    expect!(others.clone().all(|(_, value)| *value == 0), "a fresh task's registers: {regs:x?}");
    nursery.reset()?;
    Ok(())
}

fn reset_takes_tasks_along(lab: &mut Lab<'_>) -> Outcome {
    // On every CPU, clients wait in calls and servers in receives, all in processes of the test.
    for _ in 0..2 {
        let place = lab.process(false)?;
        let mut all = alloc::vec::Vec::new();
        for cpu in 0..lab.cpus.min(4) {
            let server = lab.puppet(&Wanted { place, cpu, ..Wanted::default() })?;
            let client = lab.puppet(&Wanted { place, cpu: lab.cpus - 1 - cpu, ..Wanted::default() })?;
            crate::ipc::call(lab, &client, &server, 1)?;
            all.push((server, client));
        }
        for (server, client) in &all {
            crate::ipc::receive(lab, server, client, 1)?;
        }
        lab.settle();
        lab.reset_roughly()?;
    }
    Ok(())
}

fn one_cannot_reset_what_one_stands_on(lab: &mut Lab<'_>) -> Outcome {
    let puppet = lab.puppet(&Wanted::default())?;
    let reset = Args::plain(Op::UntypedReset, lab.nursery.untyped().arg(), 0, 0, 0);
    expect_eq!(lab.run(&puppet, &reset)?.error(), Some(Error::InUse), "resetting the own memory");
    expect_eq!(lab.run(&puppet, &Args::new(Op::Null))?.error(), None, "nothing happened");
    expect_eq!(
        own::cnode().inspect(puppet.task.cap())?.map(|seen| seen.object),
        Some(ObjType::Task),
        "the task"
    );
    Ok(())
}

fn memory_of_a_reset_frame_is_unmapped(lab: &mut Lab<'_>) -> Outcome {
    let mut nursery = part(lab, 14, 4)?;
    let at = SHARED_VA + 0x2000_0000;
    for round in 0..4 {
        let frames = nursery.make_pages(2)?;
        let words = memory::map_words(&own::vspace(), frames.iter::<Frame>(), at)?;
        expect!(words.iter().all(|word| word.load(Relaxed) == 0), "round {round}: not clear");
        words[0].store(1, Relaxed);
        words[1023].store(2, Relaxed);
        nursery.reset()?;
        // The address is free for the next round's mapping.
    }
    Ok(())
}

/// Checks that resets wear nothing out.
fn many_resets(lab: &mut Lab<'_>) -> Outcome {
    let mut nursery = Nursery::new(lab.nursery.make::<Untyped>(14)?, Slots::new(3900..3910));
    for round in 0..300 {
        let task: Task = nursery.make(0)?;
        if round % 3 == 0 {
            task.configure(&own::process(), user_rt::layout::utcb_va(4000), round % lab.cpus)?;
        }
        nursery.make::<Notification>(0)?;
        nursery.reset()?;
    }
    Ok(())
}
