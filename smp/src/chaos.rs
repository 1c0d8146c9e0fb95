//! Labelled points between shared accesses, where a chaos build perturbs the run.
//!
//! With the feature `chaos` the kernel sets a hook that, driven by a seed, executes PAUSEs or makes
//! the timer fire. So runs under icount reach interleavings that they would never reach by
//! themselves. Without the feature a point compiles to nothing.
//!
//! In host tests a test may let other CPUs act at a point: `crate::host_test::at_points`.
//!
//! The hook numbers the points in the order in which CPUs reach them: each is an *event* of the
//! seed. Under icount an event is the same point of the same run, every time.

/// Where the protocols of this crate can be torn apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Point {
    /// A push has made its exchange and not yet linked its node.
    PushExchanged = 1,
    /// A push has linked its node and not yet looked whether the target polls.
    PushLinked = 2,
    /// A pop has read the oldest node and not yet decided whether it is the last.
    PopRead = 3,
    /// A CPU has advertised that it polls and not yet looked into its mailbox again.
    IdleAdvertised = 4,
    /// A CPU is about to withdraw that.
    IdleRetracting = 5,
    /// Coalesced bits were raised from zero and their node is not yet pushed.
    BitsRaised = 6,
    /// The node of coalesced bits was popped and the bits are not yet taken.
    BitsPopped = 7,
    /// A slot was emptied and not yet stamped.
    SlotEmptied = 8,
    /// A grace round has read the epoch and not yet checked which CPUs run.
    GraceStarted = 9,
    /// Word 0 of a slot was read and the words that belong to it not yet.
    SlotRead = 10,
    /// State has a new home, and what it refers to not yet.
    HomeSet = 11,
    /// The first CPU set a null reference.
    LinkClaimed = 12,
    /// An epoch is wanted, and what it is now is not yet looked at.
    EpochWanted = 13,
    /// A page is about to be copied: a point of the simulated machine, not of this crate.
    PageCopying = 14,
    /// State is under way to another home, and its message is not yet sent.
    HomeLeft = 15,
    /// Host tests only, here and below: a shared word is about to be read.
    BeforeRead = 32,
    /// A shared word is about to be written.
    BeforeWrite = 33,
    /// A shared word was written.
    AfterWrite = 34,
    /// A lock is about to be taken.
    BeforeLock = 35,
    /// A lock was taken.
    Locked = 36,
    /// A lock was released.
    Unlocked = 37,
}

impl Point {
    /// Returns whether the source names the point itself. The other points come with each shared
    /// word and each lock.
    pub const fn is_named(self) -> bool {
        (self as u32) < Point::BeforeRead as u32
    }
}

/// What the kernel does at a point, and which event that is.
#[cfg(feature = "chaos")]
pub type Hook = fn(Point, u64);

#[cfg(feature = "chaos")]
mod hook {
    use super::{Hook, Point};
    use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

    /// Counted from when there is a hook.
    static EVENTS: AtomicU64 = AtomicU64::new(0);
    static HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

    /// Sets the function that is called at each named point from now on.
    pub fn set_hook(hook: Hook) {
        HOOK.store(hook as *mut (), Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn point(point: Point) {
        if point.is_named() {
            perturb(point);
        }
    }

    fn perturb(point: Point) {
        let hook = HOOK.load(Ordering::Acquire);
        if !hook.is_null() {
            // SAFETY: not null, so `set_hook` stored it, which takes nothing but a `Hook`.
            let hook: Hook = unsafe { core::mem::transmute::<*mut (), Hook>(hook) };
            hook(point, EVENTS.fetch_add(1, Ordering::Relaxed) + 1);
        }
    }

    /// Returns how many times a named point was passed since a hook was set.
    pub fn events() -> u64 {
        EVENTS.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "chaos")]
pub(crate) use hook::point;
#[cfg(feature = "chaos")]
pub use hook::{events, set_hook};

#[cfg(all(not(feature = "chaos"), feature = "host-test", not(loom)))]
pub(crate) use crate::host_test::{point, point_at};

#[cfg(not(any(feature = "chaos", all(feature = "host-test", not(loom)))))]
#[inline(always)]
pub(crate) fn point(_point: Point) {}

/// Marks a point at a shared word or a lock. Host tests learn the address `_at`.
#[cfg(not(all(not(feature = "chaos"), feature = "host-test", not(loom))))]
#[inline(always)]
pub(crate) fn point_at<T>(_at: *const T, at_point: Point) {
    point(at_point);
}
