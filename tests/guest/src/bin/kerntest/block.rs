//! One puppet's page of shared memory: its strings.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::{Fate, GRANTS_MAX, Grant, Listening, MSG_UTCB_WORDS, MsgInfo, PAGE_SIZE, Received, Utcb};
use user_rt::arch::shared;
use user_rt::arch::{Answer, Args};

pub const BLOCK_WORDS: usize = PAGE_SIZE as usize / 8;
const ARGS_AT: usize = 16;
const ANSWER_AT: usize = 24;
const GIVES_AT: usize = 32;
const CAME_AT: usize = GIVES_AT + GRANT_WORDS;
const SENT_AT: usize = 64;
const GOT_AT: usize = SENT_AT + MSG_UTCB_WORDS;
const NOTES_AT: usize = GOT_AT + MSG_UTCB_WORDS;
/// All that a UTCB says of capabilities: how many, the offer, the fates, the list.
const GRANT_WORDS: usize = 3 + 2 * GRANTS_MAX;
const _: () = assert!(CAME_AT + GRANT_WORDS <= SENT_AT);

/// Single words of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Word {
    /// Number of the command to carry out, of the one that was last carried out.
    Asked = 0,
    Finished,
    /// Words to put in the UTCB first, and whether to show it afterwards.
    Sent,
    /// The puppet waits for commands.
    Ready,
    /// Slots in the puppet's CSpace: the group by which it is directed, an Untyped, and where its own
    /// Notification goes.
    Control,
    Untyped,
    Note,
    /// Overwrite the UTCB first, once.
    Scribble,
    /// Registers that a system call has to clear, ORed.
    Dirt,
    /// Put capabilities and an offer of slots in the UTCB first, once.
    Gives,
}

#[derive(Clone, Copy)]
pub struct Block {
    words: &'static [AtomicU64],
}

impl Block {
    /// The block of puppet `index`, in any process of the program.
    pub fn at(index: u32) -> Block {
        // SAFETY: the lab made a block for every puppet it can have, maps them in every process it
        // starts, and numbers puppets below that.
        Block { words: unsafe { shared::words(index as usize * BLOCK_WORDS, BLOCK_WORDS) } }
    }

    pub fn get(self, word: Word) -> u64 {
        self.words[word as usize].load(Relaxed)
    }

    pub fn set(self, word: Word, value: u64) {
        self.words[word as usize].store(value, Relaxed);
    }

    pub fn clear(self) {
        for word in self.words {
            word.store(0, Relaxed);
        }
    }

    pub fn set_args(self, args: &Args) {
        let Args { info, rdi, rsi, rdx, r8, r9, r10 } = *args;
        for (word, value) in self.words[ARGS_AT..].iter().zip([info.0, rdi, rsi, rdx, r8, r9, r10]) {
            word.store(value, Relaxed);
        }
    }

    pub fn args(self) -> Args {
        let [info, rdi, rsi, rdx, r8, r9, r10] = self.load(ARGS_AT);
        Args { info: MsgInfo(info), rdi, rsi, rdx, r8, r9, r10 }
    }

    pub fn set_answer(self, answer: &Answer) {
        let Answer { info, rdi, rsi, rdx, r8, r9, r10, r12 } = *answer;
        for (word, value) in self.words[ANSWER_AT..].iter().zip([info.0, rdi, rsi, rdx, r8, r9, r10, r12]) {
            word.store(value, Relaxed);
        }
    }

    pub fn answer(self) -> Answer {
        let [info, rdi, rsi, rdx, r8, r9, r10, r12] = self.load(ANSWER_AT);
        Answer { info: MsgInfo(info), rdi, rsi, rdx, r8, r9, r10, r12 }
    }

    fn load<const N: usize>(self, at: usize) -> [u64; N] {
        core::array::from_fn(|index| self.words[at + index].load(Relaxed))
    }

    /// Message words that the puppet puts into its UTCB, and those that it found there afterwards.
    pub fn sent(self) -> &'static [AtomicU64] {
        &self.words[SENT_AT..GOT_AT]
    }

    pub fn got(self) -> &'static [AtomicU64] {
        &self.words[GOT_AT..NOTES_AT]
    }

    /// What the puppet's next message carries, as words that need not be any, and where it listens.
    pub fn set_grants(self, count: u64, grants: &[[u64; 2]], offer: Listening) {
        let words = grants.iter().flatten().copied();
        let all = [count, offer.word(), 0].into_iter().chain(words);
        self.words[GIVES_AT..CAME_AT].iter().zip(all).for_each(|(word, value)| word.store(value, Relaxed));
        self.set(Word::Gives, 1);
    }

    pub fn gives(self, grants: &[Grant], offer: Listening) {
        let mut words = [[0; 2]; GRANTS_MAX];
        words.iter_mut().zip(grants).for_each(|(to, grant)| *to = grant.words());
        self.set_grants(grants.len() as u64, &words, offer);
    }

    /// What the puppet found in its UTCB after its system call: what came to it, and what became of what it sent.
    pub fn came(self) -> impl Iterator<Item = Received> {
        let count = (self.words[CAME_AT].load(Relaxed) as usize).min(GRANTS_MAX);
        let words = move |n: usize| [0, 1].map(|word| self.words[CAME_AT + 3 + 2 * n + word].load(Relaxed));
        (0..count).filter_map(move |n| Received::from_words(words(n)))
    }

    pub fn fates(self) -> impl Iterator<Item = Fate> {
        let word = self.words[CAME_AT + 2].load(Relaxed);
        (0..GRANTS_MAX).map_while(move |place| Fate::in_word(word, place))
    }

    /// The puppet's part of that, before its system call and after it.
    pub fn put_grants(self, utcb: &Utcb) {
        if self.get(Word::Gives) == 0 {
            return;
        }
        self.set(Word::Gives, 0);
        for (to, from) in grant_words(utcb).zip(&self.words[GIVES_AT..CAME_AT]) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    pub fn show_grants(self, utcb: &Utcb) {
        for (from, to) in grant_words(utcb).zip(&self.words[CAME_AT..]) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    /// Words of the test's own.
    pub fn note(self, index: usize) -> &'static AtomicU64 {
        &self.words[NOTES_AT + index]
    }
}

fn grant_words(utcb: &Utcb) -> impl Iterator<Item = &AtomicU64> {
    [&utcb.grant_count, &utcb.listening, &utcb.grant_fates].into_iter().chain(utcb.grants.iter().flatten())
}
