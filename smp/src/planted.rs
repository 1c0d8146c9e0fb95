//! Bugs that tests plant, to show that loom, the simulated machine, stress and torture find them.
//!
//! In the kernel each bug is a cargo feature that no normal build turns on; without the features
//! this module compiles to nothing. Under loom, and in host tests, a test plants a bug for as long
//! as it holds a `Planted`. So the correct and the broken protocol can run in one process.

/// What can be broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No full fence between "I no longer poll" and the look into the mailbox. Feature
    /// `planted-missing-fence`.
    MissingFence,
    /// A push that needs an interrupt sometimes doesn't say so (always, under loom). Feature
    /// `planted-dropped-interrupt`.
    DroppedInterrupt,
    /// An emptied slot is reusable immediately, so a reader may see halves of two capabilities.
    /// Feature `planted-torn-slot-read`.
    TornSlotRead,
    /// Coalesced bits are taken by a load and a store: one that is set between is lost, and a
    /// recall with it. Feature `planted-lost-recall`.
    LostRecall,
    /// A CPU that finds bits set by a look assumes that their node is still on its way, and does
    /// not push it: a wake-up is lost, and every later one. Feature `planted-lost-wake`.
    LostWake,
    /// CPUs that are in a space of which translations go are sometimes not told. Feature
    /// `planted-missing-flush`.
    MissingFlush,
    /// A CPU that enters an address space with kept translations does not check whether it has
    /// changed since. Host tests only: QEMU's TCG keeps none.
    MissingPcidFlush,
    /// A copy does not look again, once its slot is claimed and the lock is held, whether what it
    /// copies is still there. Feature `planted-unchecked-copy`.
    UncheckedCopy,
    /// A slot is reusable one epoch too early. Loom only.
    HastyEpoch,
    /// Leaving the kernel is counted with no fence behind the count. Loom only.
    UnfencedExit,
    /// Memory is handed back after the round that ends entries, with mailboxes not yet flushed.
    /// Loom only.
    UnflushedMailboxes,
    /// A grace round takes an idle CPU with mail in its mailbox for one without. Loom only.
    IdleWithMail,
    /// No full fence between reading the epoch and checking which CPUs run. Loom only.
    UnfencedRound,
    /// The raise that pushes a node of coalesced bits overwrites the rank of a raise that came
    /// between. Loom only.
    LostRank,
    /// A raise that finds bits up tells the CPU to which it would push, and not the one in whose
    /// mailbox the node is.
    WrongMailbox,
    /// A CPU that makes its round more urgent raises the ranks of nodes after it has told the
    /// mailboxes. Loom only.
    LateRank,
    /// The rank of grace mail is read before the mail is in the mailbox. Loom only.
    EarlyRank,
    /// No full fence between the start of a deferral and the look for mail above its rank. Loom
    /// only.
    UnfencedDeferral,
    /// A CPU that begins to defer its mail does not look at the rank of the oldest message. Loom
    /// only.
    HiddenRank,
    /// No full fence between a change of a space and the check which CPUs have it loaded. Loom
    /// only.
    UnfencedShootdown,
    /// A task that comes to a CPU looks whether the CPU is closed, and takes its place after that.
    /// Loom only.
    ClosedMeanwhile,
    /// A CPU that joins an entry does not look whether the user is ending that has it. Loom only.
    JoinedUnseen,
    /// A user leaves an entry without its lock. Loom only.
    LeftUnlocked,
    /// A CPU that notes that a user is counted does not look whether that is ending. Loom only.
    CountedUnseen,
}

#[cfg(not(any(loom, feature = "host-test")))]
#[inline(always)]
pub const fn planted(fault: Fault) -> bool {
    match fault {
        Fault::MissingFence => cfg!(feature = "planted-missing-fence"),
        Fault::DroppedInterrupt => cfg!(feature = "planted-dropped-interrupt"),
        Fault::TornSlotRead => cfg!(feature = "planted-torn-slot-read"),
        Fault::LostRecall => cfg!(feature = "planted-lost-recall"),
        Fault::LostWake => cfg!(feature = "planted-lost-wake"),
        Fault::MissingFlush => cfg!(feature = "planted-missing-flush"),
        Fault::UncheckedCopy => cfg!(feature = "planted-unchecked-copy"),
        // Only loom and host tests plant the others.
        _ => false,
    }
}

/// Returns whether the planted bug `planted-dropped-interrupt` drops this interrupt: every 61st,
/// after the first 8192, so that programs have been started.
#[inline(always)]
pub(crate) fn drop_this_interrupt() -> bool {
    const STARTED: u32 = 8192;
    static SENT: Sometimes = Sometimes::new(STARTED, 61);
    planted(Fault::DroppedInterrupt) && SENT.is_this_one()
}

/// Waits, as the planted bug `planted-unchecked-copy`, so that other CPUs can take away the
/// capability that is being copied.
#[inline(always)]
pub fn linger() {
    const TURNS: u32 = 3000;
    if planted(Fault::UncheckedCopy) {
        (0..TURNS).for_each(|_| core::hint::spin_loop());
    }
}

/// Returns whether the planted bug `planted-missing-flush` omits the shootdown of this change of a
/// space: of every fourth.
#[inline(always)]
pub fn miss_this_flush() -> bool {
    static MISSED: Sometimes = Sometimes::new(0, 4);
    planted(Fault::MissingFlush) && MISSED.is_this_one()
}

/// Some of what happens: each of so many, once there were so many. Under loom and in host tests
/// all.
struct Sometimes {
    count: core::sync::atomic::AtomicU32,
    first: u32,
    every: u32,
}

impl Sometimes {
    const fn new(first: u32, every: u32) -> Sometimes {
        Sometimes { count: core::sync::atomic::AtomicU32::new(0), first, every }
    }

    fn is_this_one(&self) -> bool {
        let number = self.count.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        cfg!(any(loom, feature = "host-test"))
            || (number > self.first && number % self.every == self.every - 1)
    }
}

#[cfg(any(loom, feature = "host-test"))]
mod at_run_time {
    extern crate std;

    use super::Fault;
    use core::cell::Cell;

    // Loom's threads are coroutines of the thread that runs the model, so they all see this; the
    // simulated machine's CPUs are all in one thread.
    std::thread_local!(static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) });

    pub fn planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }

    /// Keeps a bug planted in what this thread runs.
    pub struct Planted(());

    impl Planted {
        pub fn new(fault: Fault) -> Planted {
            PLANTED.set(Some(fault));
            Planted(())
        }
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
}

#[cfg(any(loom, feature = "host-test"))]
pub use at_run_time::{Planted, planted};
