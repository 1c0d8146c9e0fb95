//! Standstill: one CPU stops all others, to read the state that they own. For test builds.
//!
//! The initiator makes the round odd, interrupts all other CPUs, and waits until each has stopped.
//! A CPU stops at the beginning of an interrupt, before it has touched anything, and waits there
//! until the round is over. So while they are stopped, no other CPU holds a lock or is in the
//! middle of a change.
//!
//! Only one CPU can be the initiator at a time. A second one gives up, continues until it is
//! interrupted, and tries again. Requires: the initiator holds no lock, since a CPU that waits for
//! that lock would never stop.
//!
//! # Memory ordering
//! A CPU counts itself with `Release`, and the initiator reads the count with `Acquire`, so it sees
//! all that the CPU did. The round ends with `Release`, which the CPU reads with `Acquire`, so it
//! continues after the initiator's last read.

use crate::cpu::{CpuId, Pin};
use crate::door::{Homed, Ref};
use crate::lock::LeftLock;
use crate::percpu::Cpus;
use crate::sync::{AtomicU64, Ordering, const_unless_loom};

/// What all CPUs share of it.
pub struct Standstill {
    /// Odd while all are to stand still.
    round: AtomicU64,
    /// How often a CPU has come, in all rounds together.
    come: AtomicU64,
}

/// Proof that all other CPUs stand still. They continue when it is dropped.
pub struct Stopped<'a>(&'a Standstill);

impl Standstill {
    const_unless_loom! {
        /// Makes a standstill in which no CPU stands.
        pub fn new() -> Standstill {
            Standstill { round: AtomicU64::new(0), come: AtomicU64::new(0) }
        }
    }

    /// Stops this CPU while another CPU wants a standstill. Called at the beginning of an
    /// interrupt, when nothing is half done. The CPU that wants the standstill does not call this.
    pub fn stand(&self, _pin: Pin<'_>) {
        let round = self.round.load(Ordering::Acquire);
        if round & 1 == 0 {
            return;
        }
        self.come.fetch_add(1, Ordering::Release);
        while self.round.load(Ordering::Acquire) == round {
            wait();
        }
    }

    /// Stops all other CPUs. `None`: another CPU is stopping the others, and this one has to be
    /// interruptible before it tries again.
    /// Requires: the caller holds no lock.
    pub fn stop(&self, cpus: &impl Cpus, pin: Pin<'_>) -> Option<Stopped<'_>> {
        let come = self.come.load(Ordering::Acquire);
        let round = self.round.load(Ordering::Acquire);
        let is_free = round & 1 == 0;
        let won = is_free
            && self.round.compare_exchange(round, round + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        if !won {
            return None;
        }
        // Nobody has come since, or the round would be another.
        let mut all = come;
        for cpu in cpus.all().iter(pin).map(|block| block.id()).filter(|cpu| *cpu != pin.cpu()) {
            cpus.interrupt(cpu);
            all += 1;
        }
        while self.come.load(Ordering::Acquire) != all {
            wait();
        }
        Some(Stopped(self))
    }
}

#[cfg(not(loom))]
fn wait() {
    core::hint::spin_loop();
}

#[cfg(loom)]
fn wait() {
    loom::thread::yield_now();
}

impl Stopped<'_> {
    /// Returns a pin of any CPU, to look at the state that this CPU owns.
    pub fn pin(&self, cpu: CpuId) -> Pin<'_> {
        // SAFETY: all CPUs but the caller's spin in `Standstill::stand` for as long as this proof
        // lives, to which the pin is bound: none of them uses what it owns, and what it did before
        // is seen (`Acquire` of its count). This CPU writes nothing of it, except its own or shared
        // state.
        unsafe { Pin::new(cpu) }
    }

    /// Returns the contents of state, whichever CPU owns it, also while it is under way.
    pub fn inside<'a, T>(&'a self, state: Ref<'a, Homed<T>>) -> &'a T {
        state.get().value()
    }

    /// Returns state that a lock guards. No other CPU holds the lock now.
    pub fn guarded<'a, T>(&'a self, state: &'a LeftLock<T>) -> &'a T {
        state.value()
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let round = self.0.round.load(Ordering::Relaxed);
        self.0.round.store(round + 1, Ordering::Release);
    }
}
