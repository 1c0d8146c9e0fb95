//! The doors, used as they are meant to be.
#![forbid(unsafe_code)]
#![allow(dead_code)]

use core::cell::Cell;

use smp::cpu::{CpuId, Entry, Pin};
use smp::door::{AtomicLink, Homed, Link, ObjWord, Piece, Ref, Region};
use smp::lock::Lock;
use smp::percpu::Cpus;
use smp::quiesce;

#[repr(C, align(64))]
pub struct Cup {
    header: u64,
    inside: Homed<Inside>,
    next: AtomicLink<Cup>,
}

pub struct Inside {
    count: Cell<u64>,
    twin: Link<Cup>,
}

smp::kernel_objects! {
    pub enum Objects(header: u64) {
        Cup = 1, abi::SharedRights;
    }
}

static FIRST: AtomicLink<Cup> = AtomicLink::null();
static COUNT: Lock<Cell<u64>> = Lock::new(Cell::new(0));

fn make<'k>(piece: Piece, pin: Pin<'k>, word: &ObjWord<Objects>) -> Option<Ref<'k, Cup>> {
    let inside = Inside { count: Cell::new(0), twin: Link::null() };
    let cup = Cup { header: 1, inside: Homed::new(CpuId::BOOT, inside), next: AtomicLink::null() };
    let cup = piece.emplace(pin, cup)?;
    word.set(cup, 0);
    word.load(pin).get::<Cup>()
}

fn step(cpus: &impl Cpus, entry: &mut Entry, region: &Lock<Region>) -> bool {
    let pin = entry.pin();
    let Some(cup) = FIRST.get(pin) else { return false };
    if let Some(inside) = cup.get().inside.open(pin) {
        inside.count.set(cup.get().header);
        inside.twin.set(cup.get().next.get(pin));
    }
    let guard = COUNT.lock(pin, &"a use");
    guard.set(guard.get() + 1);
    drop(guard);
    let is_over = region.lock(pin, &"a use").end_reset(cpus, pin);
    let _ = quiesce::settle(cpus, entry);
    is_over && FIRST.get(entry.pin()).is_some()
}

fn main() {}
