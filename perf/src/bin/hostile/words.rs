//! Words that all processes of the program share.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use user_rt::arch::shared;

/// Shared pages.
pub const PAGES: u32 = 1;
/// Words that attacks use as they like.
pub const OWN_WORDS: usize = 64;
const OWN_AT: usize = 64;

/// Single words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Word {
    /// Rounds that the attackers have made: they are alive.
    Alive,
    /// What the attackers got that should have been refused.
    Escapes,
    /// The attack, by its place in the list.
    Attack,
    /// Bits of the CPUs that the attackers may use.
    Cpus,
    /// Which victim works, by its place in the list of victims, plus one; 0: none.
    Turn,
    /// 1 during the attack.
    Loud,
    /// Ticks after which a victim rests for as long; 0: it never rests.
    Burst,
    /// Where the attackers find Notifications and tasks of the victims' CPU: first slots.
    Notes,
    Tasks,
    /// Where they find an address space that runs on the victims' CPU.
    Space,
    /// Answers to victims with a capability or a page: in how many it came, and in how many not.
    Granted,
    Refused,
    /// The most ticks by which the task that must wake in time was late during the attack.
    Late,
    /// Calls of attackers that were answered.
    Answered,
    /// The word of a lock that the victim which takes locks has.
    Locker,
    /// Ids of the victims' first server, and of the attackers' task that is exposed beside it.
    Server,
    Stranger,
}

impl Word {
    fn at(self) -> &'static AtomicU64 {
        // SAFETY: `main` makes the words before any task uses them, and maps them in each process
        // that it starts.
        let words = unsafe { shared::words(0, OWN_AT) };
        &words[self as usize]
    }

    pub fn get(self) -> u64 {
        self.at().load(SeqCst)
    }

    pub fn set(self, value: u64) {
        self.at().store(value, SeqCst);
    }

    /// Returns what the word was before.
    pub fn add(self, value: u64) -> u64 {
        self.at().fetch_add(value, SeqCst)
    }
}

/// Returns a word that attacks use as they like.
pub fn own_word(number: usize) -> &'static AtomicU64 {
    // SAFETY: as above; the page has all of them.
    let words = unsafe { shared::words(OWN_AT, OWN_WORDS) };
    &words[number]
}
