//! Values that must be passed on.

use core::mem;

/// The duty to pass a value on: part of a value that code may neither copy nor drop.
///
/// Dropping it is an error. In tests the drop panics. In the kernel the drop refers to a symbol
/// that no object file defines: a kernel in which some path can drop a duty does not link.
#[must_use]
pub struct Duty(());

impl Duty {
    /// Takes on the duty to pass a value on.
    #[inline(always)]
    pub const fn new() -> Duty {
        Duty(())
    }

    /// Ends the duty: the value is where it belongs.
    #[inline(always)]
    pub const fn done(self) {
        mem::forget(self);
    }
}

#[cfg(target_os = "none")]
impl Drop for Duty {
    #[inline(always)]
    fn drop(&mut self) {
        unsafe extern "C" {
            /// Makes the build fail at the link if a value can be dropped while its duty lasts: the
            /// function is defined nowhere.
            fn a_value_that_must_be_passed_on_can_be_dropped_here() -> !;
        }
        // SAFETY: this code is in no kernel, since the symbol does not exist.
        unsafe { a_value_that_must_be_passed_on_can_be_dropped_here() }
    }
}

#[cfg(not(target_os = "none"))]
impl Drop for Duty {
    #[inline(always)]
    fn drop(&mut self) {
        #[cfg(any(test, loom, feature = "host-test"))]
        if std::thread::panicking() {
            return;
        }
        panic!("a value was dropped that must be passed on");
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Duty;

    #[test]
    fn a_duty_ends_by_being_done() {
        Duty::new().done();
    }

    #[test]
    #[should_panic(expected = "must be passed on")]
    fn dropping_a_duty_panics() {
        drop(Duty::new());
    }
}
