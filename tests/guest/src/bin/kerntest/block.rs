//! The memory that the tests' processes share: a block for each puppet, words for each idler, and
//! the board of the differential test.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::{Fate, GRANTS_MAX, Grant, Listening, MSG_UTCB_WORDS, MsgInfo, Received, Utcb};
use guest_tests::board::Row;
use guest_tests::{board, words};
use user_rt::arch::{Answer, Args};

use crate::diff;
use crate::lab::PUPPETS_MAX;
use crate::quiet::IdlerWord;

/// Words of a UTCB about capabilities: how many, the offer, the fates, the list.
const GRANT_WORDS: usize = 3 + 2 * GRANTS_MAX;
/// Words of a block for the tests' own use.
const NOTES: usize = 320;
/// CPUs that have an idler.
const CPUS_MAX: usize = 64;

words! {
    /// Single words of a block.
    pub enum Word: Relaxed {
        /// Number of the command to carry out, and of the last command that was carried out.
        Asked,
        Finished,
        /// Words to put in the UTCB first, and whether to copy it afterwards.
        Sent,
        /// Whether the puppet waits for commands.
        Ready,
        /// Slots in the puppet's CSpace: the group that directs it, an Untyped, and the slot for
        /// its own Notification.
        Control,
        Untyped,
        Note,
        /// Whether to overwrite the UTCB first, once.
        Scribble,
        /// Registers that a system call must clear, ORed.
        Dirt,
        /// Whether to put capabilities and an offer of slots in the UTCB first, once.
        Gives,
    }
}

board! {
    pub struct Board {
        pub blocks: [Block; PUPPETS_MAX as usize],
        pub idlers: [Row<IdlerWord>; CPUS_MAX],
        pub diff: diff::Board,
    }

    /// The block of one puppet.
    pub struct Block {
        words: Row<Word>,
        /// The system call that the puppet is to make, and its answer.
        args: [AtomicU64; 7],
        answer: [AtomicU64; 8],
        /// The UTCB's words about capabilities: for the puppet's next message, and after its system
        /// call.
        gives: [AtomicU64; GRANT_WORDS],
        came: [AtomicU64; GRANT_WORDS],
        /// Message words that the puppet puts into its UTCB, and those that it found there
        /// afterwards.
        pub sent: [AtomicU64; MSG_UTCB_WORDS],
        pub got: [AtomicU64; MSG_UTCB_WORDS],
        notes: [AtomicU64; NOTES],
    }
}

/// Pages of the board.
pub const PAGES: u32 = board::pages::<Board>();

impl Board {
    /// Returns the board, in any process of the program.
    pub fn open() -> &'static Board {
        // SAFETY: the lab makes `PAGES` pages of shared memory before anything else and maps them
        // in every process that it starts.
        unsafe { board::open() }
    }
}

impl Block {
    /// Returns the block of puppet `index`, in any process of the program.
    pub fn at(index: u32) -> &'static Block {
        &Board::open().blocks[index as usize]
    }

    pub fn get(&self, word: Word) -> u64 {
        self.words.get(word)
    }

    pub fn set(&self, word: Word, value: u64) {
        self.words.set(word, value);
    }

    pub fn set_args(&self, args: &Args) {
        let Args { info, rdi, rsi, rdx, r8, r9, r10 } = *args;
        store(&self.args, [info.0, rdi, rsi, rdx, r8, r9, r10]);
    }

    pub fn args(&self) -> Args {
        let [info, rdi, rsi, rdx, r8, r9, r10] = self.args.each_ref().map(|word| word.load(Relaxed));
        Args { info: MsgInfo(info), rdi, rsi, rdx, r8, r9, r10 }
    }

    pub fn set_answer(&self, answer: &Answer) {
        let Answer { info, rdi, rsi, rdx, r8, r9, r10, r12 } = *answer;
        store(&self.answer, [info.0, rdi, rsi, rdx, r8, r9, r10, r12]);
    }

    pub fn answer(&self) -> Answer {
        let [info, rdi, rsi, rdx, r8, r9, r10, r12] = self.answer.each_ref().map(|word| word.load(Relaxed));
        Answer { info: MsgInfo(info), rdi, rsi, rdx, r8, r9, r10, r12 }
    }

    /// Sets the capabilities of the puppet's next message, as words that may be no grants, and the
    /// slots that it offers.
    pub fn set_grants(&self, count: u64, grants: &[[u64; 2]], offer: Listening) {
        let words = grants.iter().flatten().copied();
        let all = [count, offer.word(), 0].into_iter().chain(words);
        store(&self.gives, all);
        self.words.set(Word::Gives, 1);
    }

    pub fn give(&self, grants: &[Grant], offer: Listening) {
        let mut words = [[0; 2]; GRANTS_MAX];
        words.iter_mut().zip(grants).for_each(|(to, grant)| *to = grant.words());
        self.set_grants(grants.len() as u64, &words, offer);
    }

    /// Returns what the puppet found in its UTCB after its system call: received capabilities, and
    /// the fates of sent ones.
    pub fn came(&'static self) -> impl Iterator<Item = Received> {
        let count = (self.came[0].load(Relaxed) as usize).min(GRANTS_MAX);
        let words = move |n: usize| [0, 1].map(|word| self.came[3 + 2 * n + word].load(Relaxed));
        (0..count).filter_map(move |n| Received::from_words(words(n)))
    }

    pub fn fates(&self) -> impl Iterator<Item = Fate> {
        let word = self.came[2].load(Relaxed);
        (0..GRANTS_MAX).map_while(move |place| Fate::in_word(word, place))
    }

    /// Copies these words to the UTCB, before the puppet's system call.
    pub fn put_grants(&self, utcb: &Utcb) {
        if self.words.get(Word::Gives) == 0 {
            return;
        }
        self.words.set(Word::Gives, 0);
        for (to, from) in grant_words(utcb).zip(&self.gives) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    pub fn show_grants(&self, utcb: &Utcb) {
        for (from, to) in grant_words(utcb).zip(&self.came) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    /// Returns a word for the test's own use.
    pub fn note(&self, index: usize) -> &AtomicU64 {
        &self.notes[index]
    }
}

fn store(to: &[AtomicU64], words: impl IntoIterator<Item = u64>) {
    to.iter().zip(words).for_each(|(word, value)| word.store(value, Relaxed));
}

fn grant_words(utcb: &Utcb) -> impl Iterator<Item = &AtomicU64> {
    [&utcb.grant_count, &utcb.listening, &utcb.grant_fates].into_iter().chain(utcb.grants.iter().flatten())
}
