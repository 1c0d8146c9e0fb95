//! A machine whose pages hold two words; its store lies, and its clients die in the middle of the
//! pager's operations.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use user_rt::cap::Access;
use user_rt::paging::{Advice, Denial, Question, StoreError, WINDOW_PAGES};

use crate::machine::{At, Bytes, FrameId, Machine, Stored};
use crate::{Client, Sealer};

pub const FILE_BYTES: u64 = 5 * abi::PAGE_SIZE + 100;
/// What is in a frame that was looked at to see whether anybody has it mapped.
const SCRUBBED: u64 = 0xdead;
/// Pages that were freed, which a store remembers to give back something old.
const REMEMBERED: usize = 8;

/// A page. Clients write the first word, and the second one is zero then: it is a store's to play
/// with.
pub type Contents = [u64; 2];

/// What a store that lies gives back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// A bit is another one.
    Flip,
    /// What another slot has.
    Other,
    /// What some slot had.
    Old,
    /// What comes to the same sum, by a sum of all words that has no key.
    Forged,
}

/// The next address space to become unreachable, in the middle of something.
#[derive(Clone, Copy, Debug)]
pub struct Doom {
    pub client: Client,
    /// So many of the pager's operations later.
    pub steps: u32,
    pub destroyed: bool,
}

pub struct Sim {
    pub frames: BTreeMap<FrameId, Contents>,
    pub mapped: BTreeMap<At, (FrameId, Access)>,
    pub used: BTreeMap<At, bool>,
    sealer: Sealer,
    pub store: BTreeMap<u64, Contents>,
    old: VecDeque<Contents>,
    next_slot: u64,
    pub room: usize,
    /// How many of the store's next operations fail, and how many lie.
    pub puts_fail: u32,
    pub gets_fail: u32,
    pub lies: Option<(Lie, u32)>,
    /// Gets that failed or lied.
    pub gets_failed: Cell<u32>,
    pub advice: Option<Advice>,
    pub asked: u32,
    /// The accounts that the policy saw: the asking one, and the holders of frames.
    pub told: BTreeSet<Client>,
    /// Clients whose address spaces cannot be reached; those that are said to be no more.
    pub lost: BTreeSet<Client>,
    gone: BTreeSet<Client>,
    pub doom: Option<Doom>,
    /// The manager forgets somebody, and knows what it does.
    pub vouched: bool,
}

pub fn file_word(bytes: Bytes) -> u64 {
    if bytes.count == 0 { 0 } else { 1 << 60 | bytes.first << 16 | bytes.count }
}

/// Returns other contents with the same sum, if the sum rotates, adds and multiplies words as
/// pagers once did.
fn forged([first, second]: Contents) -> Contents {
    let mixed = |word: u64| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(5);
    let lie = first ^ 0x6565;
    [lie, mixed(lie) ^ mixed(first) ^ second]
}

impl Machine for Sim {
    fn map(&mut self, at: At, frame: FrameId, access: Access) -> Result<(), Denial> {
        self.step();
        if self.lost.contains(&at.client) {
            return Err(Denial::Gone);
        }
        let other = |(_, (mapped, allowed)): (&At, &(FrameId, Access))| {
            *mapped == frame
                && (*allowed == Access::Write) != (access == Access::Write)
                && (*allowed == Access::Execute || access == Access::Execute)
        };
        assert!(!self.mapped.iter().any(other), "written here and executed there");
        assert!(self.mapped.insert(at, (frame, access)).is_none(), "mapped over another mapping");
        Ok(())
    }

    fn protect(&mut self, at: At, frame: FrameId, access: Access) -> Result<(), Denial> {
        self.step();
        if self.lost.contains(&at.client) {
            return Err(Denial::Gone);
        }
        let mapped = self.mapped.get_mut(&at).expect("a mapping to protect");
        assert_eq!(mapped.0, frame);
        mapped.1 = access;
        Ok(())
    }

    fn unmap(&mut self, at: At, frame: FrameId) -> bool {
        self.step();
        if self.lost.contains(&at.client) {
            return self.gone.contains(&at.client);
        }
        assert_eq!(
            self.mapped.remove(&at).map(|(mapped, _)| mapped),
            Some(frame),
            "unmapped what was not there"
        );
        true
    }

    fn gone(&mut self, client: Client) {
        self.gone.insert(client);
        if self.lost.contains(&client) {
            let sees = self.mapped.keys().any(|at| at.client == client);
            assert!(self.vouched || !sees, "{client} sees its pages");
            self.mapped.retain(|at, _| at.client != client);
        }
    }

    fn is_lost(&mut self, client: Client) -> bool {
        self.lost.contains(&client)
    }

    fn is_unseen(&mut self, frame: FrameId) -> bool {
        let unseen = !self.sees(frame);
        if unseen {
            self.frames.insert(frame, [SCRUBBED, 0]);
        }
        unseen
    }

    fn accessed(&mut self, at: At, _: FrameId) -> bool {
        self.step();
        self.used.remove(&at).unwrap_or(false)
    }

    fn clear(&mut self, frame: FrameId) {
        self.fill(frame, [0, 0]);
    }

    fn copy(&mut self, from: FrameId, to: FrameId) {
        let contents = self.frames[&from];
        self.fill(to, contents);
    }

    fn load(&mut self, bytes: Bytes, frame: FrameId) {
        assert!(bytes.first + bytes.count <= FILE_BYTES);
        self.fill(frame, [file_word(bytes), 0]);
    }

    fn put(&mut self, frames: &[FrameId]) -> Result<Vec<Stored>, StoreError> {
        self.step();
        assert!((1..=WINDOW_PAGES).contains(&frames.len()));
        self.unseen(frames[0]);
        let mut stored = Vec::new();
        for frame in frames {
            let writes = |(mapped, access): &(FrameId, Access)| mapped == frame && *access == Access::Write;
            assert!(!self.mapped.values().any(writes), "somebody writes {frame:?}");
            let fails = self.puts_fail > 0;
            self.puts_fail -= u32::from(fails);
            match (fails || self.store.len() == self.room, stored.is_empty()) {
                (true, true) if fails => return Err(StoreError::Failed),
                (true, true) => return Err(StoreError::Full),
                (true, false) => break,
                (false, _) => {}
            }
            self.next_slot += 1;
            let contents = self.frames[frame];
            self.store.insert(self.next_slot, contents);
            stored.push(Stored { slot: self.next_slot, seal: self.sealer.seal(&bytes_of(contents)) });
        }
        Ok(stored)
    }

    fn get(&mut self, stored: Stored, frame: FrameId) -> Result<(), StoreError> {
        self.step();
        if self.gets_fail > 0 {
            self.gets_fail -= 1;
            self.gets_failed.set(self.gets_failed.get() + 1);
            return Err(StoreError::Failed);
        }
        let contents = self.answer(stored.slot);
        self.fill(frame, contents);
        if self.sealer.holds(stored.seal, &bytes_of(contents)) { Ok(()) } else { Err(StoreError::Failed) }
    }

    fn free(&mut self, stored: Stored) {
        let contents = self.store.remove(&stored.slot).expect("a slot that is freed twice");
        self.old.push_front(contents);
        self.old.truncate(REMEMBERED);
    }

    fn advise(&mut self, question: &Question<'_>) -> Advice {
        self.asked += 1;
        assert!(!question.holders.is_empty());
        self.told.insert(question.asker);
        self.told.extend(question.holders.iter().map(|holder| holder.client));
        self.advice.unwrap_or(Advice::Refuse)
    }
}

fn bytes_of(contents: Contents) -> Vec<u8> {
    contents.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Sim {
    pub fn new(room: usize) -> Sim {
        Sim {
            frames: BTreeMap::new(),
            mapped: BTreeMap::new(),
            used: BTreeMap::new(),
            sealer: Sealer::new([0x1234_5678, 0x9abc_def0]),
            store: BTreeMap::new(),
            old: VecDeque::new(),
            next_slot: 0,
            room,
            puts_fail: 0,
            gets_fail: 0,
            lies: None,
            gets_failed: Cell::new(0),
            advice: None,
            asked: 0,
            told: BTreeSet::new(),
            lost: BTreeSet::new(),
            gone: BTreeSet::new(),
            doom: None,
            vouched: false,
        }
    }

    /// Takes away the capability of an address space, with or without the address space itself.
    pub fn lose(&mut self, client: Client, destroyed: bool) {
        self.lost.insert(client);
        // Whom the manager has forgotten it has destroyed.
        if destroyed || self.gone.contains(&client) {
            self.mapped.retain(|at, _| at.client != client);
        }
    }

    /// Makes an address space for a client.
    pub fn comes(&mut self, client: Client) {
        self.lost.remove(&client);
        self.gone.remove(&client);
    }

    /// Counts one operation.
    fn step(&mut self) {
        let Some(doom) = &mut self.doom else { return };
        if doom.steps > 0 {
            doom.steps -= 1;
            return;
        }
        let Doom { client, destroyed, .. } = *doom;
        self.doom = None;
        self.lose(client, destroyed);
    }

    /// Returns what the store says that a slot has.
    fn answer(&mut self, slot: u64) -> Contents {
        let kept = self.store[&slot];
        let Some((lie, left @ 1..)) = self.lies else { return kept };
        let said = match lie {
            Lie::Flip => Some([kept[0] ^ 1 << (slot % 64), kept[1]]),
            Lie::Other => self.store.values().copied().find(|other| *other != kept),
            Lie::Old => self.old.iter().copied().find(|old| *old != kept),
            Lie::Forged => Some(forged(kept)),
        };
        let Some(said) = said else { return kept };
        self.lies = Some((lie, left - 1));
        self.gets_failed.set(self.gets_failed.get() + 1);
        said
    }

    /// Whether anybody sees a frame.
    pub fn sees(&self, frame: FrameId) -> bool {
        self.mapped.values().any(|(mapped, _)| *mapped == frame)
    }

    fn unseen(&self, frame: FrameId) {
        assert!(!self.sees(frame), "somebody sees {frame:?}");
    }

    fn fill(&mut self, frame: FrameId, contents: Contents) {
        self.unseen(frame);
        self.frames.insert(frame, contents);
    }
}
