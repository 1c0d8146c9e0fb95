//! Memory: page tables say what the mapping records say, no translation outlives them, objects stand
//! where their Untyped has been carved.

use std::collections::BTreeMap;

use kern_base::memory::{Frame, Mapping, Phys, Untyped, VSpace};
use kern_core::spaces::records;
use smp::door::Ref;
use smp::host_test;
use std::sync::atomic::Ordering::Relaxed;

use super::{Seen, hold, view};
use crate::world::machine::{Page, Where};
use crate::world::{World, extent};

const GOING: u64 = 4;

pub fn check(world: &World, seen: &Seen) {
    let mut expected = utcbs(seen);
    let mut going: Vec<Where> = Vec::new();
    for frame in seen.objects::<Frame>() {
        counts(frame);
        for record in records(frame) {
            mapping(frame, record, &mut expected, &mut going);
        }
    }
    let hardware = world.k.machine.hardware();
    let spaces: Vec<u64> = seen.objects::<VSpace>().iter().map(|v| v.get().cr3()).collect();
    for (at, page) in hardware.pages.iter().filter(|((space, _), _)| spaces.contains(space)) {
        hold!(
            expected.get(at) == Some(page),
            "{at:x?} maps {page:x?}, the records say {:x?}",
            expected.get(at)
        );
    }
    for (at, page) in &expected {
        hold!(hardware.pages.get(at) == Some(page), "{at:x?} should map {page:x?}");
    }
    let stale = |v: &&Ref<'static, VSpace>| world.look(0).is_stale(v.get());
    let stale: Vec<u64> = seen.objects::<VSpace>().iter().filter(stale).map(|v| v.get().cr3()).collect();
    for (cpu, tlb) in &hardware.tlb {
        for ((_, va), (space, page)) in tlb.iter().filter(|(_, (space, _))| spaces.contains(space)) {
            let at = (*space, *va);
            let fresh = hardware.pages.get(&at) == Some(page) || going.contains(&at);
            let waited_for = stale.contains(space) && !hardware.pages.contains_key(&at);
            hold!(fresh || waited_for, "cpu{cpu} remembers {at:x?} as {page:x?}, which nobody waits for");
        }
    }
    for n in (0..world.cpus()).filter(|n| world.current(*n).is_some()) {
        let vspace = world.look(n).hot.vspace.get(host_test::pin(n)).map(|v| v.get().cr3());
        hold!(hardware.space(n) == vspace, "cpu{n} is not in the space of which it is: {vspace:x?}");
    }
    drop(hardware);
    untypeds(seen);
}

/// Where tasks' UTCBs are mapped.
fn utcbs(seen: &Seen) -> BTreeMap<Where, Page> {
    let mut pages = BTreeMap::new();
    for task in &seen.tasks {
        let pin = host_test::pin(task.get().hot.home().index());
        let vspace = view(*task).hot.process.get(pin).and_then(|p| p.get().vspace.get(pin));
        if let Some(vspace) = vspace {
            let at = Phys(core::ptr::from_ref(task.get().utcb(pin)).addr() as u64);
            let page = Page { at, log2: 12, write: true, execute: false };
            pages.insert((vspace.get().cr3(), task.get().utcb_address.load(Relaxed)), page);
        }
    }
    pages
}

fn mapping(
    frame: Ref<'static, Frame>,
    record: Ref<'static, Mapping>,
    expected: &mut BTreeMap<Where, Page>,
    going: &mut Vec<Where>,
) {
    let pin = host_test::pin(0);
    let Some(vspace) = record.get().vspace.get(pin) else { return };
    hold!(record.get().frame.is(frame), "a record of one frame is another's");
    let word = record.get().address.load(Relaxed);
    let at = (vspace.get().cr3(), word & !0xfff);
    let list = if word & GOING == 0 { &vspace.get().mappings } else { &vspace.get().going };
    let listed = core::iter::successors(list.get(pin), |r| r.get().next.get(pin)).any(|r| r == record);
    hold!(listed, "a mapping is not in the list of its address space");
    if word & GOING == 0 {
        let page = Page {
            at: frame.get().base,
            log2: frame.get().log2,
            write: word & 1 != 0,
            execute: word & 2 != 0,
        };
        hold!(expected.insert(at, page).is_none(), "two records for {at:x?}");
    } else {
        going.push(at);
    }
}

fn counts(frame: Ref<'static, Frame>) {
    let words =
        || records(frame).filter(|r| !r.get().vspace.is_null()).map(|r| r.get().address.load(Relaxed));
    let (writable, executable) =
        (words().filter(|w| w & 1 != 0).count(), words().filter(|w| w & 2 != 0).count());
    hold!(frame.get().writable.load(Relaxed) as usize == writable, "a frame's writable mappings");
    hold!(frame.get().executable.load(Relaxed) as usize == executable, "a frame's executable mappings");
    hold!(writable == 0 || executable == 0, "a frame is writable and executable");
}

/// Every object of an Untyped's root stands in memory that was carved, each in its own.
fn untypeds(seen: &Seen) {
    let all = seen.objects::<Untyped>();
    let used = |u: &Ref<'static, Untyped>| {
        let (low, high) = u.get().region().used();
        let whole = extent(u.get().region());
        (whole.clone(), whole.start + low, whole.end - high)
    };
    for (at, word) in &seen.words {
        for (whole, low, high) in all.iter().map(used) {
            let carved = !whole.contains(at) || *at < low || *at >= high;
            hold!(
                carved,
                "a {:?} stands at {at:#x}, which is not carved",
                abi::ObjType::from_raw(word.object_type())
            );
        }
    }
}
