//! A lock for devices that CPUs use in turns. The CPU that ends the machine can lock all other CPUs
//! out.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use spin::{Mutex, MutexGuard};

/// A device under a lock.
pub struct Shared<T> {
    device: Mutex<T>,
    /// Only the CPU that ends the machine may use the device.
    is_silenced: AtomicBool,
    /// The CPU that ends the machine has waited for the lock in vain: its holder was stopped.
    is_stuck: AtomicBool,
}

impl<T> Shared<T> {
    pub const fn new(device: T) -> Shared<T> {
        Shared {
            device: Mutex::new(device),
            is_silenced: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.device.lock()
    }

    /// Tries to lock the device: looks at most `patience` times whether it is free, and calls
    /// `pause` in between. After one failure while ordinary code is silenced, looks only once: a
    /// line of a dump is not worth a second each.
    pub fn try_lock(&self, patience: u32, mut pause: impl FnMut()) -> Option<MutexGuard<'_, T>> {
        let looks = if self.is_stuck.load(Relaxed) { 1 } else { patience };
        for _ in 0..looks {
            if let Some(guard) = self.device.try_lock() {
                return Some(guard);
            }
            pause();
        }
        self.is_stuck.store(self.is_silenced.load(Acquire), Relaxed);
        None
    }

    /// Locks the device for ordinary code. `None` if ordinary code is silenced, also while this CPU
    /// waits for the lock.
    pub fn lock_unless_silenced(&self) -> Option<MutexGuard<'_, T>> {
        let may_speak = || !self.is_silenced.load(Acquire);
        may_speak().then(|| self.lock()).filter(|_| may_speak())
    }

    /// Keeps ordinary code from locking the device.
    pub fn silence_others(&self) {
        self.is_silenced.store(true, Release);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_waited_for_the_lock_says_nothing_after_the_end() {
        let shared = Shared::new(());
        assert!(shared.lock_unless_silenced().is_some());
        let holder = shared.try_lock(1, || {}).expect("nobody has it");
        thread::scope(|scope| {
            let waits = scope.spawn(|| shared.lock_unless_silenced().is_some());
            // Long enough for the other thread to wait for the lock.
            thread::sleep(Duration::from_millis(50));
            shared.silence_others();
            drop(holder);
            assert!(!waits.join().expect("it does not panic"));
        });
        assert!(shared.lock_unless_silenced().is_none());
    }

    #[test]
    fn a_holder_that_was_stopped_is_waited_for_once() {
        let shared = Shared::new(());
        let looks = || {
            let mut looks = 0;
            (shared.try_lock(9, || looks += 1).is_some(), looks)
        };
        let holder = shared.lock();
        assert_eq!([looks(), looks()], [(false, 9); 2], "it may be done the next time");
        shared.silence_others();
        assert_eq!([looks(), looks(), looks()], [(false, 9), (false, 1), (false, 1)]);
        drop(holder);
        assert_eq!(looks(), (true, 0));
    }
}
