//! Device memory, and frames that are pinned for devices.
//!
//! The devices are in every PC: the timer (HPET), which no driver uses here, and the interrupt
//! controller (IOAPIC), which no process may get. The tests restore what they write.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use abi::devices::device_memory;
use abi::{Cap, Error, Op, PAGE_SIZE, Rights, frame_rights, machine_rights};
use user_rt::arch::{Args, syscall};
use user_rt::boot;
use user_rt::cap::{Access, CNode, Frame, Handle, Machine, Untyped};
use user_rt::invoke::{Pins, copy, transfer};
use user_rt::layout::SHARED_VA;
use user_rt::spawn::own;

use crate::fate::{self, Fate};
use crate::lab::{Lab, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    a_device_is_seen it_is_what_it_was what_is_no_device a_device_has_one_frame as_many_as_there_can_be
    a_device_whose_writes_are_combined devices_are_no_programs a_driver_loses_its_device pinned_frames_stay who_answers_for_devices_wins
    pinned_by_the_dead
}

const HOLE: u64 = SHARED_VA + 0x1000_0000;
/// Physical addresses of a PC's HPET and first IOAPIC.
const HPET: u64 = 0xfed0_0000;
const IOAPIC: u64 = 0xfec0_0000;
/// Registers of the HPET, as indices of words of 32 bits.
const PERIOD: usize = 1;
const CONFIG: usize = 4;
const COUNTER: usize = 60;
const COMPARATOR: usize = 66;
const ENABLE: u32 = 1;
/// Longest tick in femtoseconds, by the HPET's specification.
const PERIOD_MAX: u32 = 100_000_000;

/// Makes a frame of device memory of an Untyped of the test.
fn device(lab: &mut Lab<'_>, at: u64, size: u64) -> Result<Result<Frame, (Error, u64)>, Failure> {
    device_of(lab, at, size, 0)
}

/// Makes one that is mapped in a way of `device_memory`.
fn device_of(
    lab: &mut Lab<'_>,
    at: u64,
    size: u64,
    how: u64,
) -> Result<Result<Frame, (Error, u64)>, Failure> {
    let place = lab.nursery.take_slot()?;
    let made = own::machine().device_frame(lab.nursery.untyped(), at, size, how, own::cnode().slot(place));
    Ok(made.map(|()| Frame::at(place)).map_err(|refusal| (refusal.error, refusal.detail)))
}

fn must(lab: &mut Lab<'_>, at: u64, size: u64) -> Result<Frame, Failure> {
    device(lab, at, size)?.map_err(|refused| Failure::Of(alloc::format!("a frame at {at:#x}: {refused:?}")))
}

/// Maps the frame's first page, and returns it as registers.
fn registers(frame: &Frame) -> Result<&'static [AtomicU32], Failure> {
    own::vspace().map(frame, HOLE, Access::Write)?;
    // SAFETY: a page of registers was just mapped there. It is unmapped at the end of the test,
    // after the last use.
    Ok(unsafe { core::slice::from_raw_parts(HOLE as *const AtomicU32, (PAGE_SIZE / 4) as usize) })
}

/// Returns the HPET's frame and registers.
fn hpet(lab: &mut Lab<'_>) -> Result<(Frame, &'static [AtomicU32]), Failure> {
    let frame = must(lab, HPET, 12)?;
    let registers = registers(&frame)?;
    if !(1..=PERIOD_MAX).contains(&registers[PERIOD].load(Relaxed)) {
        return Err(Failure::Lacks("the machine has no HPET where PCs have it"));
    }
    Ok((frame, registers))
}

fn a_device_is_seen(lab: &mut Lab<'_>) -> Outcome {
    let (frame, registers) = hpet(lab)?;
    let config = registers[CONFIG].load(Relaxed);
    registers[CONFIG].store(config | ENABLE, Relaxed);
    let first = registers[COUNTER].load(Relaxed);
    lab.sleep(boot::facts().tsc_hz / 1000);
    let second = registers[COUNTER].load(Relaxed);
    registers[CONFIG].store(config, Relaxed);
    expect!(second != first, "its counter stands still at {first}");
    own::vspace().unmap(&frame, HOLE)?;
    Ok(())
}

/// Registers that may be mapped in another way, where the emulator shows no difference.
fn a_device_whose_writes_are_combined(lab: &mut Lab<'_>) -> Outcome {
    for how in [device_memory::ALL + 1, u64::MAX] {
        let refused = device_of(lab, HPET, 12, how)?.map(|_| ());
        expect_eq!(refused, Err((Error::BadArgument, 5)), "how {how:#x}");
    }
    let combining = device_memory::WRITE_COMBINING;
    let made = device_of(lab, HPET, 12, combining)?;
    let frame = made.map_err(|refused| Failure::Of(alloc::format!("no frame: {refused:?}")))?;
    let registers = registers(&frame)?;
    let period = registers[PERIOD].load(Relaxed);
    expect!(period > 0 && period <= PERIOD_MAX, "a tick of {period} fs");
    expect_eq!(device(lab, HPET, 12)?.map(|_| ()), Err((Error::InUse, 0)), "a page is mapped in one way");
    own::cnode().delete(frame.cap())?;
    must(lab, HPET, 12)?;
    Ok(())
}

fn it_is_what_it_was(lab: &mut Lab<'_>) -> Outcome {
    let (frame, registers) = hpet(lab)?;
    let before = registers[COMPARATOR].load(Relaxed);
    registers[COMPARATOR].store(0x1234_5678, Relaxed);
    let now = registers[COMPARATOR].load(Relaxed);
    own::cnode().delete(frame.cap())?;
    // Neither the end of its frame nor the next frame has cleared it.
    let (_, registers) = hpet(lab)?;
    expect_eq!(registers[COMPARATOR].load(Relaxed), now, "a register that was written before");
    expect!(now != 0, "it takes nothing");
    registers[COMPARATOR].store(before, Relaxed);
    Ok(())
}

fn what_is_no_device(lab: &mut Lab<'_>) -> Outcome {
    let frame: Frame = lab.nursery.make(12)?;
    let memory = frame.pin(&own::machine())?;
    frame.unpin(&own::machine())?;
    // Memory: low, the kernel's, a frame's own; interrupt controllers; addresses beyond every
    // CPU's.
    for at in
        [0, 0x1000, 0x8000, 0x10_0000, 0x20_0000, memory, IOAPIC, 0xfee0_0000, 0xfeef_f000, 1 << 52, !0xfff]
    {
        expect_eq!(device(lab, at, 12)?.map(|_| ()), Err((Error::BadAddress, at)), "a frame at {at:#x}");
    }
    for at in [HPET + 1, HPET + 0x800, HPET | 1 << 63] {
        expect_eq!(device(lab, at, 12)?.map(|_| ()), Err((Error::BadAddress, at)), "a frame at {at:#x}");
    }
    // A range from a device to an interrupt controller; a range that starts in memory.
    let at = 0xfee0_0000 - PAGE_SIZE;
    expect_eq!(device(lab, at, 12 | 2 << 8)?.map(|_| ()), Err((Error::BadAddress, at)), "two pages");
    let at = 0xfee0_0000;
    expect_eq!(device(lab, at, 21)?.map(|_| ()), Err((Error::BadAddress, at)), "a large page");
    for size in [0, 13, 21 | 2 << 8, 12 | 513 << 8, u64::MAX] {
        expect_eq!(device(lab, HPET, size)?.map(|_| ()), Err((Error::BadArgument, 4)), "size {size:#x}");
    }
    must(lab, HPET, 12)?;
    Ok(())
}

fn a_device_has_one_frame(lab: &mut Lab<'_>) -> Outcome {
    let frame = must(lab, HPET, 12)?;
    for (at, size) in [(HPET, 12), (HPET, 12 | 4 << 8)] {
        expect_eq!(device(lab, at, size)?.map(|_| ()), Err((Error::InUse, 0)), "{at:#x}, size {size:#x}");
    }
    let beside = must(lab, HPET + PAGE_SIZE, 12)?;
    own::cnode().delete(frame.cap())?;
    let frame = must(lab, HPET, 12)?;
    own::cnode().delete(beside.cap())?;
    own::cnode().delete(frame.cap())?;
    // A large page around it would include the IOAPIC.
    let around = HPET & !0x1f_ffff;
    expect_eq!(device(lab, around, 21)?.map(|_| ()), Err((Error::BadAddress, around)), "a large page");
    must(lab, HPET, 12)?;
    Ok(())
}

fn as_many_as_there_can_be(lab: &mut Lab<'_>) -> Outcome {
    // The PCI devices of a PC with little memory, or nothing.
    const FREE: u64 = 0xe000_0000;
    let mut last = None;
    for number in 0..1000 {
        match device(lab, FREE + number * PAGE_SIZE, 12)? {
            Ok(frame) => last = Some(frame),
            Err(refused) => {
                expect_eq!(refused, (Error::Full, number), "after {number}");
                break;
            }
        }
    }
    let Some(last) = last else { return Err(Failure::Of("there is none".into())) };
    own::cnode().delete(last.cap())?;
    must(lab, HPET, 12)?;
    Ok(())
}

fn devices_are_no_programs(lab: &mut Lab<'_>) -> Outcome {
    let frame = must(lab, HPET, 12)?;
    let refused = own::vspace().map(&frame, HOLE, Access::Execute).map_err(|r| (r.error, r.detail));
    expect_eq!(refused, Err((Error::BadArgument, 3)), "mapping to execute");
    own::vspace().map(&frame, HOLE, Access::Read)?;
    let refused = own::vspace().protect(&frame, HOLE, Access::Execute).map_err(|r| (r.error, r.detail));
    expect_eq!(refused, Err((Error::BadArgument, 3)), "or letting it be executed");
    own::vspace().protect(&frame, HOLE, Access::Write)?;
    Ok(())
}

fn a_driver_loses_its_device(lab: &mut Lab<'_>) -> Outcome {
    let (frame, _) = hpet(lab)?;
    for cpu in 0..lab.cpus {
        let driver = Wanted { place: lab.process(false)?, cpu, ..Wanted::default() };
        let vspace = lab.child(driver.place)?.vspace.again();
        vspace.map(&frame, HOLE, Access::Read)?;
        expect_eq!(lab.fate(&driver, fate::read_register, HOLE)?, Fate::Alive, "a driver on CPU {cpu}");
    }
    let late = Wanted { place: lab.process(false)?, ..Wanted::default() };
    let vspace = lab.child(late.place)?.vspace.again();
    vspace.map(&frame, HOLE, Access::Read)?;
    own::cnode().delete(frame.cap())?;
    expect_eq!(
        lab.fate(&late, fate::read_register, HOLE)?,
        Fate::Dead,
        "a driver whose device is taken away"
    );
    // A process that ends with the device mapped.
    let (frame, _) = hpet(lab)?;
    let driver = lab.process(false)?;
    let child = lab.child(driver)?;
    child.vspace.map(&frame, HOLE, Access::Write)?;
    let (process, vspace) = (child.process.cap(), child.vspace.cap());
    for cap in [process, vspace] {
        own::cnode().revoke(cap)?;
        own::cnode().delete(cap)?;
    }
    own::cnode().delete(frame.cap())?;
    hpet(lab)?;
    Ok(())
}

/// Makes an Untyped, and a frame of it.
fn lent(lab: &mut Lab<'_>, size: u64) -> Result<(Untyped, Frame), Failure> {
    let untyped: Untyped = lab.nursery.make(16)?;
    let place = lab.nursery.take_slot()?;
    untyped.retype::<Frame>(size, own::cnode().slot(place), 1)?;
    Ok((untyped, Frame::at(place)))
}

fn pinned_frames_stay(lab: &mut Lab<'_>) -> Outcome {
    let machine = own::machine();
    let (untyped, frame) = lent(lab, 12 | 3 << 8)?;
    let (_, other) = lent(lab, 12)?;
    let (at, elsewhere) = (frame.pin(&machine)?, other.pin(&machine)?);
    expect!(at != 0 && at.is_multiple_of(PAGE_SIZE), "it is at {at:#x}");
    expect!(at.abs_diff(elsewhere) >= PAGE_SIZE, "frames at {at:#x} and {elsewhere:#x}");
    expect_eq!(frame.pin(&machine)?, at, "it stays there");
    expect_eq!(device(lab, at, 12)?.map(|_| ()), Err((Error::BadAddress, at)), "it is memory");
    let kept = |what: &str| -> Outcome {
        let deleted = own::cnode().delete(frame.cap()).map_err(|refusal| refusal.error);
        expect_eq!(deleted, Err(Error::InUse), "deleting it {what}");
        expect_eq!(
            untyped.reset(Pins::Hold).map_err(|refusal| refusal.error),
            Err(Error::InUse),
            "its memory {what}"
        );
        Ok(())
    };
    kept("while it is pinned twice")?;
    expect_eq!(frame.unpin(&own::machine())?, 1, "pins that are left");
    kept("while it is pinned once")?;
    own::vspace().map(&frame, HOLE, Access::Write)?;
    own::vspace().unmap(&frame, HOLE)?;
    expect_eq!(frame.unpin(&own::machine())?, 0, "pins that are left");
    expect_eq!(
        frame.unpin(&own::machine()).map_err(|refusal| refusal.error),
        Err(Error::BadState),
        "once more"
    );
    own::cnode().delete(frame.cap())?;
    untyped.reset(Pins::Hold)?;
    other.unpin(&own::machine())?;
    Ok(())
}

fn who_answers_for_devices_wins(lab: &mut Lab<'_>) -> Outcome {
    let (untyped, frame) = lent(lab, 12)?;
    frame.pin(&own::machine())?;
    let wrong =
        syscall(Args::plain(Op::UntypedReset, untyped.arg(), 2, 0, own::machine().arg())).info.status();
    expect_eq!(wrong, Err(Error::BadArgument), "another way to reset");
    untyped.reset(Pins::Ignore)?;
    let again = own::cnode().delete(untyped.cap()).map_err(|refusal| refusal.error);
    expect_eq!(again, Ok(()), "nothing of it is left");
    Ok(())
}

fn pinned_by_the_dead(lab: &mut Lab<'_>) -> Outcome {
    let (untyped, frame) = lent(lab, 12)?;
    frame.pin(&own::machine())?;
    // Its last capability ends with the CSpace of a dead process.
    let cnode: CNode = lab.nursery.make(16)?;
    transfer(frame, cnode.slot(Cap(3)))?;
    own::cnode().delete(cnode.cap())?;
    let other: Frame = lab.nursery.make(12)?;
    own::cnode().delete(other.cap())?;
    expect_eq!(untyped.reset(Pins::Hold).map_err(|refusal| refusal.error), Err(Error::InUse), "its memory");
    untyped.reset(Pins::Ignore)?;
    // One right of the frame and one of the machine.
    let (_, frame) = lent(lab, 12)?;
    let slot = lab.nursery.take_slot()?;
    copy(&frame, own::cnode().slot(slot), Rights::ALL.minus(frame_rights::DMA.rights()), 0)?;
    let refused = Frame::at(slot).pin(&own::machine()).map_err(|r| (r.error, r.detail));
    expect_eq!(
        refused,
        Err((Error::NoRight, u64::from(frame_rights::DMA.rights().0))),
        "without the frame's right"
    );
    let slot = lab.nursery.take_slot()?;
    copy(&own::machine(), own::cnode().slot(slot), machine_rights::LOG, 0)?;
    let refused = frame.pin(&Machine::at(slot)).map_err(|r| (r.error, r.detail));
    own::cnode().delete(slot)?;
    expect_eq!(
        refused,
        Err((Error::NoRight, u64::from(machine_rights::DMA.rights().0))),
        "without the machine's"
    );
    Ok(())
}
