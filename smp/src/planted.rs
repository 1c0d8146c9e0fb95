//! Bugs that tests plant, to show that loom and the stress run find them.
//!
//! On the machine each is a cargo feature that no normal build turns on, so what stands here compiles
//! to nothing. Under loom a test plants a bug for as long as it holds a `Planted`; the normal and the
//! broken protocol run in one process.

/// What can be broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No full fence between "I no longer poll" and the look into the mailbox. Feature
    /// `planted-missing-fence`.
    MissingFence,
    /// A push that needs an interrupt sometimes doesn't say so (always, under loom). Feature
    /// `planted-dropped-interrupt`.
    DroppedInterrupt,
    /// An emptied slot is reusable at once, so a reader may see halves of two capabilities. Feature
    /// `planted-torn-slot-read`.
    TornSlotRead,
    /// Coalesced bits are taken by a load and a store: one that is set between is lost, and a recall
    /// with it. Feature `planted-lost-recall`.
    LostRecall,
    /// Who finds bits up by a look takes it that their node is still on its way, and does not push it: a
    /// wake-up is lost, and every later one. Feature `planted-lost-wake`.
    LostWake,
    /// A slot is reusable one epoch too early. Loom only.
    HastyEpoch,
    /// Leaving the kernel is counted with no fence behind the count. Loom only.
    UnfencedExit,
    /// Memory is handed back after the round that ends entries, with mailboxes not yet flushed. Loom
    /// only.
    UnflushedMailboxes,
    /// A grace round takes an idle CPU with mail in its mailbox for a parked one. Loom only.
    ParkedWithMail,
    /// No full fence between reading the epoch and looking who runs. Loom only.
    UnfencedRound,
    /// No full fence between a change of a space and the look who is in it. Loom only.
    UnfencedShootdown,
}

#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn planted(fault: Fault) -> bool {
    match fault {
        Fault::MissingFence => cfg!(feature = "planted-missing-fence"),
        Fault::DroppedInterrupt => cfg!(feature = "planted-dropped-interrupt"),
        Fault::TornSlotRead => cfg!(feature = "planted-torn-slot-read"),
        Fault::LostRecall => cfg!(feature = "planted-lost-recall"),
        Fault::LostWake => cfg!(feature = "planted-lost-wake"),
        Fault::HastyEpoch
        | Fault::UnfencedExit
        | Fault::UnflushedMailboxes
        | Fault::ParkedWithMail
        | Fault::UnfencedRound
        | Fault::UnfencedShootdown => false,
    }
}

/// With `planted-dropped-interrupt`: whether this interrupt is the one to drop. Every 61st once there
/// were so many that programs have been started.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) fn drop_this_interrupt() -> bool {
    use core::sync::atomic::{AtomicU32, Ordering};
    static SENT: AtomicU32 = AtomicU32::new(0);
    const STARTED: u32 = 8192;
    if !planted(Fault::DroppedInterrupt) {
        return false;
    }
    let number = SENT.fetch_add(1, Ordering::Relaxed);
    number > STARTED && number % 61 == 60
}

#[cfg(loom)]
mod under_loom {
    extern crate std;

    use super::Fault;
    use core::cell::Cell;

    // Loom's threads are coroutines of the thread that runs the model, so they all see this.
    std::thread_local!(static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) });

    pub(crate) fn planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }

    pub(crate) fn drop_this_interrupt() -> bool {
        planted(Fault::DroppedInterrupt)
    }

    /// Keeps a bug planted in the models that this thread runs.
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

#[cfg(loom)]
pub use under_loom::Planted;
#[cfg(loom)]
pub(crate) use under_loom::{drop_this_interrupt, planted};
