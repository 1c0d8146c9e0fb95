//! Shared parts of the loom models: running a model, objects that live as long as one execution of
//! it, and interrupt lines.
//!
//! A model's threads are CPUs. A CPU's interrupt line stays up until its CPU takes it (as the local
//! APIC's request register does), and CPUs run their kernel entries with interrupts off, so the
//! models look at the line between entries only. After all threads have ended, the main thread does
//! the remaining work, but only where an interrupt line (or a poll) asks for it. So lost work stays
//! undone, and the model's last assertions detect it.

pub mod message;

use loom::sync::atomic::{AtomicBool, Ordering};
use smp::door::{Ref, Table};
use smp::host_test::{all_cpus, cpu, pin};
use smp::percpu::{All, Pair, PerCpu};

/// Explores `f`. `preemptions` bounds how often a thread is stopped where it could go on.
pub fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(f);
}

/// An object that kernel references may point to, freed with this handle at the end of an
/// execution.
pub struct Object<T: 'static>(*mut T);

impl<T> Object<T> {
    pub fn new(object: T) -> Object<T> {
        Object(Box::into_raw(Box::new(object)))
    }

    pub fn get(&self) -> Ref<'static, T> {
        // SAFETY: allocated by `new` and freed by `drop`, which comes when all threads are joined.
        Ref::from_static(unsafe { &*self.0 })
    }
}

impl<T> Drop for Object<T> {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw`; the model's threads, which copied the reference, are
        // joined.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// Elements of a [`Table`], freed with this handle at the end of an execution.
struct Elements<T: 'static>(*mut [T]);

impl<T: 'static> Elements<T> {
    fn new(elements: impl Iterator<Item = T>) -> Elements<T> {
        Elements(Box::into_raw(elements.collect()))
    }

    fn table(&self) -> Table<T> {
        // SAFETY: allocated by `new` and freed by `drop`, which comes when all threads are joined.
        Table::from_static(unsafe { &*self.0 })
    }
}

impl<T: 'static> Drop for Elements<T> {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw`; the model's threads, which copied the table, are joined.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// The blocks of a model's CPUs, freed with this handle at the end of an execution.
pub struct Blocks<S: 'static, P: 'static> {
    pub all: All<(), S, P>,
    #[expect(dead_code, reason = "freed with this handle")]
    blocks: Elements<PerCpu<(), S, P>>,
    #[expect(dead_code, reason = "freed with this handle")]
    pairs: Vec<Elements<Pair<P>>>,
}

// SAFETY: the handles of the memory are used in `drop` only, when all threads are joined.
unsafe impl<S: Sync, P: Send> Sync for Blocks<S, P> {}

impl<S, P> Blocks<S, P> {
    /// Makes the blocks of `count` CPUs.
    pub fn new(count: usize, mut shared: impl FnMut() -> S) -> Blocks<S, P> {
        let pairs = |n| Elements::new((0..count).map(move |_| Pair::new(cpu(n))));
        let pairs: Vec<_> = (0..count).map(pairs).collect();
        let block = |n: usize| PerCpu::new(cpu(n), (), shared(), pairs[n].table());
        let blocks = Elements::new((0..count).map(block));
        Blocks { all: all_cpus(blocks.table()), blocks, pairs }
    }

    /// Returns the block of a CPU.
    pub fn block(&self, n: usize) -> &'static PerCpu<(), S, P> {
        self.all.get(pin(n), n).unwrap().get()
    }
}

/// A CPU's interrupt line.
pub struct Line(AtomicBool);

impl Line {
    pub fn new() -> Line {
        Line(AtomicBool::new(false))
    }

    /// An exchange, since the register adds up requests: who takes the line sees what every CPU did
    /// that raised it.
    pub fn raise(&self) {
        self.0.swap(true, Ordering::AcqRel);
    }

    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Whether it was up; it is down now.
    pub fn take(&self) -> bool {
        self.is_up() && self.0.swap(false, Ordering::AcqRel)
    }
}
