//! Device memory and pins, case by case.

use abi::devices::device_memory;
use abi::{Cap, Error, INIT_MACHINE, ObjType, Op, PageMode, PageRange, Rights, Target, frame_rights};
use core::sync::atomic::Ordering::Relaxed;
use kern_base::frames::DEVICES_MAX;
use kern_base::memory::Frame;
use kern_base::paging::Caching;
use kern_base::phys::Phys;

use smp::chaos::Point;

use crate::pages::{FROM, WINDOW, pooled, transfer};
use crate::scene::Scene;
use crate::world::machine::{DEVICES, DEVICES_END};
use crate::world::make::{INIT, at};
use crate::world::{Regs, World};

const PAGE: u64 = 0x6000_0000;

/// A frame of device memory; where its capability is.
fn device(s: &mut Scene, from: Cap, base: u64, size: u64) -> Result<Cap, (Error, u64)> {
    device_of(s, from, base, size, 0)
}

/// One that is mapped in this way.
fn device_of(s: &mut Scene, from: Cap, base: u64, size: u64, how: u64) -> Result<Cap, (Error, u64)> {
    let place = s.w.slot();
    let args = [INIT_MACHINE.arg(), from.arg(), at(place), base, size, how];
    s.w.ask(0, Op::DeviceFrame, &args).map(|_| place)
}

fn memory(s: &mut Scene) -> Cap {
    s.w.make(0, ObjType::Untyped, 20)
}

/// The entries of all pages of the process's space that map a physical address: how each is cached.
fn mapped(s: &Scene, base: u64) -> Vec<Caching> {
    const ALL: [Caching; 3] = [Caching::WriteBack, Caching::WriteCombining, Caching::Uncached];
    let Some(space) = s.w.object::<kern_base::memory::VSpace>(s.process.vspace) else { panic!("no space") };
    let mut found = Vec::new();
    for number in 0..space.get().used.load(Relaxed) as usize {
        s.w.look(0).tables().pages_of(space, number, |_, spot| {
            if spot.load().at() == Phys(base) {
                found.extend(ALL.iter().filter(|caching| spot.load().is_cached_as(**caching)));
            }
        });
    }
    found
}

#[test]
fn device_memory_is_mapped_as_its_frame_says() {
    let mut s = Scene::new(2);
    let from = memory(&mut s);
    let space = s.process.vspace.arg();
    let combining = device_memory::WRITE_COMBINING;
    for (size, step, how) in
        [(12, 4096, 0), (21, 2 << 20, 0), (12, 4096, combining), (21, 2 << 20, combining)]
    {
        let caching = if how == 0 { Caching::Uncached } else { Caching::WriteCombining };
        let frame = device_of(&mut s, from, DEVICES, size, how).unwrap();
        let place = PAGE + step;
        s.w.must(0, Op::Map, &[space, frame.arg(), place, 1]);
        assert_eq!(mapped(&s, DEVICES), [caching]);
        s.w.must(0, Op::Protect, &[space, frame.arg(), place, 0]);
        assert_eq!(mapped(&s, DEVICES), [caching], "whatever it allows");
        let other = device_of(&mut s, from, DEVICES, 12, how ^ combining);
        assert_eq!(other, Err((Error::InUse, 0)), "a page is mapped in one way");
        for op in [Op::Map, Op::Protect] {
            let refused = s.w.ask(0, op, &[space, frame.arg(), place, 2]);
            assert_eq!(refused, Err((Error::BadArgument, 3)), "{op:?} to execute");
        }
        s.delete(frame);
        assert!(mapped(&s, DEVICES).is_empty(), "it is gone");
    }
    let frame = s.w.make(0, ObjType::Frame, 12);
    s.w.must(0, Op::Map, &[space, frame.arg(), PAGE, 1]);
    let base = s.w.object::<Frame>(frame).map(|frame| frame.get().base().0);
    assert_eq!(mapped(&s, base.unwrap()), [Caching::WriteBack]);
    for how in [device_memory::ALL + 1, u64::MAX] {
        assert_eq!(device_of(&mut s, from, DEVICES, 12, how), Err((Error::BadArgument, 5)), "{how:#x}");
    }
}

#[test]
fn what_is_no_device_is_refused() {
    let mut s = Scene::new(1);
    let from = memory(&mut s);
    let ram = s.w.make(0, ObjType::Frame, 12);
    let ram = s.w.object::<Frame>(ram).map_or(0, |frame| frame.get().base().0);
    for (base, size) in [
        (0, 12),
        (ram, 12),
        (DEVICES - 4096, 12),
        (DEVICES - 4096, 12 | 2 << 8),
        (DEVICES + 1, 12),
        (DEVICES + 4096, 21),
        (DEVICES_END, 12),
        (DEVICES_END - 4096, 12 | 2 << 8),
        (!4095, 12),
        (!((2 << 20) - 1), 21),
    ] {
        assert_eq!(
            device(&mut s, from, base, size),
            Err((Error::BadAddress, base)),
            "{base:#x}, size {size:#x}"
        );
    }
    for size in [0, 11, 13, 20, 22, 21 | 2 << 8, 12 | 513 << 8, u64::MAX] {
        assert_eq!(device(&mut s, from, DEVICES, size), Err((Error::BadArgument, 4)), "size {size:#x}");
    }
    let untyped = s.w.object::<kern_base::memory::Untyped>(from).unwrap();
    assert!(untyped.get().lock(smp::host_test::pin(0)).region.is_unused(), "what is refused takes nothing");
}

#[test]
fn no_page_is_of_two_device_frames() {
    let mut s = Scene::new(2);
    let from = memory(&mut s);
    let frame = device(&mut s, from, DEVICES + 0x8000, 12 | 4 << 8).unwrap();
    for (base, pages) in [(0x8000, 1), (0xb000, 1), (0x7000, 2), (0xb000, 2), (0, 64)] {
        let refused = device(&mut s, from, DEVICES + base, 12 | pages << 8);
        assert_eq!(refused, Err((Error::InUse, 0)), "{pages} pages from {base:#x}");
    }
    let refused = device(&mut s, from, DEVICES, 21);
    assert_eq!(refused, Err((Error::InUse, 0)), "a large page around it");
    let beside = [0x7000, 0xc000].map(|base| device(&mut s, from, DEVICES + base, 12).unwrap());
    s.delete(frame);
    device(&mut s, from, DEVICES + 0x8000, 12).unwrap();
    assert_eq!(device(&mut s, from, DEVICES + 0x7000, 12), Err((Error::InUse, 0)));
    s.delete(beside[0]);
    // Its Untyped takes all of them along.
    s.w.must(0, Op::UntypedReset, &[from.arg()]);
    s.w.run();
    device(&mut s, from, DEVICES, 21).unwrap();
}

#[test]
fn there_are_only_so_many() {
    let mut s = Scene::new(1);
    let from = memory(&mut s);
    let all: Vec<Cap> =
        (0..DEVICES_MAX as u64).map(|n| device(&mut s, from, DEVICES + n * 4096, 12).unwrap()).collect();
    let next = DEVICES + DEVICES_MAX as u64 * 4096;
    assert_eq!(device(&mut s, from, next, 12), Err((Error::Full, DEVICES_MAX as u64)));
    s.delete(all[17]);
    device(&mut s, from, next, 12).unwrap();
    let small = s.w.make(0, ObjType::Untyped, 12);
    s.delete(all[18]);
    let refused = device(&mut s, small, DEVICES + (1 << 21), 12 | 512 << 8);
    assert_eq!(refused, Err((Error::NoMemory, 4096)), "32 bytes a page, and there are 4,096");
}

#[test]
fn a_device_is_forgotten_like_memory() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    assert!(s.w.runs(1, &user));
    let from = memory(&mut s);
    let frame = device(&mut s, from, DEVICES, 12 | 2 << 8).unwrap();
    for space in [s.process.vspace, INIT.vspace] {
        s.w.must(0, Op::Map, &[space.arg(), frame.arg(), PAGE, 1]);
    }
    assert!(s.w.touch(1, PAGE) && s.w.touch(1, PAGE + 4096));
    s.w.must(0, Op::UntypedReset, &[from.arg()]);
    assert!(s.w.remembered(1, PAGE).is_none() && s.w.remembered(1, PAGE + 4096).is_none());
    // One that goes with the address space where it is mapped.
    let other = s.w.process();
    let frame = device(&mut s, from, DEVICES, 12).unwrap();
    s.w.must(0, Op::Map, &[other.vspace.arg(), frame.arg(), PAGE, 1]);
    for cap in [other.process, other.vspace] {
        s.delete(cap);
    }
    s.delete(frame);
    device(&mut s, from, DEVICES, 12).unwrap();
}

/// Pages of the frame in the tests below.
const PAGES: u64 = 4;
/// Steps of one system call, at most.
const STEPS: usize = 200;

/// CPU 1 remembers one page of a frame of device memory, the only one that is mapped. CPU 0 will
/// unmap it, or make it read-only.
fn remembered_by_cpu_1(page: u64, protects: bool) -> (Scene, Cap, Regs) {
    let mut s = Scene::new(3);
    let (user, _) = s.running(1, 10);
    let from = memory(&mut s);
    let frame = device(&mut s, from, DEVICES, 12 | PAGES << 8).unwrap();
    let space = s.process.vspace.arg();
    s.w.must(0, Op::Map, &[space, frame.arg(), PAGE + page * 4096, 1, page, 1]);
    assert!(s.w.runs(1, &user) && s.w.touch(1, PAGE + page * 4096));
    let op = if protects { Op::Protect } else { Op::Unmap };
    let takes = Regs::op(op, &[space, frame.arg(), PAGE + page * 4096, 0, page, 1]);
    (s, frame, takes)
}

/// Lets CPUs do what they can without CPU 1.
fn without_cpu_1(w: &mut World) {
    for _ in 0..STEPS {
        let _ = [0, 2].map(|n| w.step(n));
    }
}

/// The frame has ended only where CPU 1 remembers none of its pages.
fn is_forgotten_or_there(s: &Scene, frame: Cap) {
    let remembers = (0..PAGES).any(|n| s.w.remembered(1, PAGE + n * 4096).is_some());
    assert!(!remembers || s.w.object::<Frame>(frame).is_some(), "a CPU sees what is another's by now");
}

#[test]
fn device_memory_goes_on_only_when_all_cpus_have_forgotten_each_page() {
    for (page, protects) in (0..PAGES).flat_map(|page| [(page, false), (page, true)]) {
        let (mut s, frame, takes) = remembered_by_cpu_1(page, protects);
        s.w.begin(0, takes);
        s.w.begin(2, Regs::op(Op::CapDelete, &[at(frame)]));
        without_cpu_1(&mut s.w);
        assert!(s.w.remembered(1, PAGE + page * 4096).is_some() && !s.w.is_over(2), "page {page}");
        is_forgotten_or_there(&s, frame);
        let _ = [0, 2].map(|n| s.w.finish(n));
        is_forgotten_or_there(&s, frame);
        let from = memory(&mut s);
        device(&mut s, from, DEVICES, 12 | PAGES << 8).unwrap();
    }
}

#[test]
fn device_memory_goes_on_only_when_it_is_forgotten_also_when_it_is_unmapped_in_the_middle_of_its_end() {
    for (page, protects) in [(1, false), (PAGES - 1, true)] {
        for point in 0.. {
            let (mut s, frame, takes) = remembered_by_cpu_1(page, protects);
            let mut points = 0..;
            let here = move |at: Point| at != Point::BeforeRead && points.next() == Some(point);
            let torn = s.w.torn_where(2, Regs::op(Op::CapDelete, &[at(frame)]), here, |w| w.begin(0, takes));
            without_cpu_1(&mut s.w);
            is_forgotten_or_there(&s, frame);
            s.w.finish(2);
            is_forgotten_or_there(&s, frame);
            if !torn {
                assert!(point > 0, "there is no such point");
                break;
            }
            s.w.finish(0);
        }
    }
}

/// The page that another process unmaps is one of many, so that the delete takes several entries
/// for each of its parts. A task that deletes the frame is killed after so many of them, and
/// another goes on from there.
#[test]
fn what_deletes_a_large_frame_of_a_device_may_be_killed_anywhere() {
    const MANY: u64 = 200;
    for steps in 0.. {
        let mut s = Scene::new(3);
        let (user, _) = s.running(1, 10);
        let from = memory(&mut s);
        let frame = device(&mut s, from, DEVICES, 12 | MANY << 8).unwrap();
        let space = s.process.vspace.arg();
        s.w.must(0, Op::Map, &[space, frame.arg(), PAGE + 4096, 1, 1, 1]);
        assert!(s.w.runs(1, &user) && s.w.touch(1, PAGE + 4096));
        let deleter = s.w.start(INIT, 2, 10);
        s.w.begin(0, Regs::op(Op::Unmap, &[space, frame.arg(), PAGE + 4096, 0, 1, 1]));
        s.w.does(&deleter, Regs::op(Op::CapDelete, &[at(frame)]));
        let moved = (0..steps).all(|_| s.w.step(2) || s.w.step(0));
        assert!(s.w.object::<Frame>(frame).is_some(), "CPU 1 remembers a page");
        s.w.begin(2, Regs::op(Op::TaskKill, &[deleter.cap.arg()]));
        without_cpu_1(&mut s.w);
        s.w.issue(2, Regs::op(Op::CapDelete, &[at(frame)]));
        without_cpu_1(&mut s.w);
        is_forgotten_or_there(&s, frame);
        let _ = [0, 2].map(|n| s.w.finish(n));
        assert!(s.w.remembered(1, PAGE + 4096).is_none());
        if !moved {
            assert!(steps > 2, "it takes several entries");
            return;
        }
    }
}

fn pin(s: &mut Scene, frame: Cap) -> Result<(u64, u64), (Error, u64)> {
    s.w.ask(0, Op::FramePin, &[frame.arg(), INIT_MACHINE.arg()]).map(|regs| (regs.rdi, regs.rsi))
}

fn unpin(s: &mut Scene, frame: Cap) -> Result<u64, (Error, u64)> {
    s.w.ask(0, Op::FrameUnpin, &[frame.arg(), INIT_MACHINE.arg()]).map(|regs| regs.rsi)
}

#[test]
fn a_pinned_frame_stays() {
    let mut s = Scene::new(2);
    let from = memory(&mut s);
    let frame = s.w.make_of(0, from, ObjType::Frame, 12 | 3 << 8);
    let base = s.w.object::<Frame>(frame).map_or(0, |frame| frame.get().base().0);
    assert_eq!(unpin(&mut s, frame), Err((Error::BadState, 0)));
    assert_eq!(pin(&mut s, frame), Ok((base, 1)));
    assert_eq!(pin(&mut s, frame), Ok((base, 2)));
    let copy = s.w.slot();
    s.w.must(0, Op::CapCopy, &[frame.arg(), at(copy), u64::from(Rights::ALL.0), 0]);
    s.delete(frame);
    let held = |s: &mut Scene| {
        for (op, arg) in
            [(Op::CapDelete, at(copy)), (Op::CapRevoke, at(from)), (Op::UntypedReset, from.arg())]
        {
            assert_eq!(s.w.ask(0, op, &[arg]).map_err(|e| e.0), Err(Error::InUse), "{op:?}");
        }
    };
    held(&mut s);
    assert_eq!(unpin(&mut s, copy), Ok(1));
    held(&mut s);
    // It can be used as ever, and so can its Untyped.
    s.w.must(0, Op::Map, &[s.process.vspace.arg(), copy.arg(), PAGE, 1]);
    s.w.make_of(0, from, ObjType::Frame, 12);
    assert_eq!(unpin(&mut s, copy), Ok(0));
    s.delete(copy);
    s.w.must(0, Op::UntypedReset, &[from.arg()]);
}

#[test]
fn who_answers_for_devices_wins() {
    let mut s = Scene::new(2);
    let from = memory(&mut s);
    let inner = s.w.make_of(0, from, ObjType::Untyped, 16);
    for memory in [from, inner] {
        let frame = s.w.make_of(0, memory, ObjType::Frame, 12);
        pin(&mut s, frame).unwrap();
    }
    assert_eq!(s.w.ask(0, Op::UntypedReset, &[from.arg(), 2]), Err((Error::BadArgument, 1)));
    assert_eq!(s.w.ask(0, Op::UntypedReset, &[from.arg(), 0]).map_err(|e| e.0), Err(Error::InUse));
    assert_eq!(s.w.must(0, Op::UntypedReset, &[from.arg(), 1, 0, INIT_MACHINE.arg()]).rdi, 1 << 20);
}

#[test]
fn a_pin_outlives_the_cspace_of_who_pinned() {
    let mut s = Scene::new(2);
    let (from, tables) = (memory(&mut s), memory(&mut s));
    let frame = s.w.make_of(0, from, ObjType::Frame, 12);
    pin(&mut s, frame).unwrap();
    let table = s.w.make_of(0, tables, ObjType::CNode, 16);
    s.w.must(0, Op::CapMove, &[frame.arg(), Target::new(table, 3).0]);
    // Nobody reaches the frame any more; others can delete what they like.
    s.delete(table);
    let other = s.w.make(0, ObjType::Frame, 12);
    s.delete(other);
    for memory in [tables, from] {
        assert_eq!(s.w.ask(0, Op::UntypedReset, &[memory.arg(), 0]).map_err(|e| e.0), Err(Error::InUse));
    }
    s.w.must(0, Op::UntypedReset, &[from.arg(), 1, 0, INIT_MACHINE.arg()]);
    s.w.must(0, Op::UntypedReset, &[tables.arg(), 0]);
}

#[test]
fn pinning_takes_two_rights() {
    let mut s = Scene::new(1);
    let frame = s.w.make(0, ObjType::Frame, 12);
    let dma = u64::from(frame_rights::DMA.rights().0);
    let weak = s.w.slot();
    let rest = Rights::ALL.minus(frame_rights::DMA.rights());
    s.w.must(0, Op::CapCopy, &[frame.arg(), at(weak), u64::from(rest.0), 0]);
    assert_eq!(pin(&mut s, weak), Err((Error::NoRight, dma)));
    assert_eq!(unpin(&mut s, weak), Err((Error::NoRight, dma)));
    let machine = s.w.slot();
    let rest =
        Rights::ALL.minus(abi::machine_rights::DMA.rights()).minus(abi::machine_rights::DEVICE.rights());
    s.w.must(0, Op::CapCopy, &[INIT_MACHINE.arg(), at(machine), u64::from(rest.0), 0]);
    let refused = s.w.ask(0, Op::FramePin, &[frame.arg(), machine.arg()]);
    assert_eq!(refused, Err((Error::NoRight, u64::from(abi::machine_rights::DMA.rights().0))));
    let (from, place) = (memory(&mut s), s.w.slot());
    let refused = s.w.ask(0, Op::DeviceFrame, &[machine.arg(), from.arg(), at(place), DEVICES, 12]);
    assert_eq!(refused, Err((Error::NoRight, u64::from(abi::machine_rights::DEVICE.rights().0))));
    assert_eq!(s.w.object::<Frame>(frame).map(|frame| frame.get().pins()), Some(0));
}

/// Device memory is in no pool. A copy would write to a device's registers, and the pool would map
/// them cached, without a record once the frame has ended.
#[test]
fn no_page_is_copied_to_device_memory() {
    let mut s = Scene::new(2);
    let (a, b) = (INIT.vspace, s.w.process().vspace);
    pooled(&mut s, a, FROM, 1);
    assert_eq!(transfer(&mut s, a, b, PageRange::new(PageMode::Copy, FROM, 1), WINDOW), Ok(()));
    let (from, place) = (s.w.make(0, ObjType::Untyped, 20), s.w.slot());
    s.w.must(0, Op::DeviceFrame, &[INIT_MACHINE.arg(), from.arg(), at(place), DEVICES, 12]);
    let copy = Regs::op(Op::PageCopy, &[a.arg(), place.arg(), FROM]);
    s.w.torn_where(0, copy, |point| point == Point::PageCopying, |_| panic!("it copies to a device"));
    assert_eq!(s.w.finish(0).result().err(), Some((Error::BadArgument, 1)));
}
