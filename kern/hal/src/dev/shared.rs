//! What CPUs use in turns, until one of them ends the machine and has the last word.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Release};

use spin::{Mutex, MutexGuard};

/// A device under a lock.
pub struct Shared<T> {
    device: Mutex<T>,
    /// Only the CPU that ends the machine may use the device.
    is_silenced: AtomicBool,
}

impl<T> Shared<T> {
    pub const fn new(device: T) -> Shared<T> {
        Shared { device: Mutex::new(device), is_silenced: AtomicBool::new(false) }
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.device.lock()
    }

    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.device.try_lock()
    }

    /// Locks the device for ordinary code. `None` once that is silenced: also where it was while this CPU waited for the
    /// lock.
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
        let holder = shared.try_lock().expect("nobody has it");
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
}
