//! Contents of pages: words by which a reader recognises the page that it accesses.
//!
//! A filled page has a *tag* in a few words at places that depend on the page, and a function that
//! returns a tag. All other words are zero, except the last ones, in which every task that may
//! write leaves *marks*.

use abi::PAGE_SIZE;
use guest_tests::random::mix;

use crate::word::{GLOBAL, Thing};

/// Words of a page, and those before the marks.
pub const WORDS: u64 = PAGE_SIZE / 8;
pub const CODE_AT: u64 = 504;
pub const MARKS_AT: u64 = 506;
/// Bytes of the function before its second instruction, which returns.
pub const RETURN_AT: u64 = 10;
/// Tags of a page.
const TAGS: u64 = 4;
/// Pages of a large frame, and the distance between those that are filled.
pub const LARGE_PAGES: u64 = 512;
const LARGE_STRIDE: u64 = 64;
/// The director, as an owner.
pub const DIRECTOR: u64 = 0xff;

const TAG: u64 = 0xa5c;
const MARK: u64 = 0x5c3;

/// A page: its owner, its frame, and its number in the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub owner: u64,
    pub id: u32,
    pub page: u64,
}

impl Page {
    /// Returns page `page` of a large thing, or the only page of another, at an address of
    /// `owner`'s.
    pub fn of(owner: u64, thing: Thing, page: u64) -> Page {
        let owner = if thing.id & GLOBAL != 0 { DIRECTOR } else { owner };
        Page { owner, id: thing.id, page: if thing.large { page } else { u64::from(thing.page) } }
    }

    fn stamp(self, kind: u64, word: u64) -> u64 {
        kind << 52 | self.owner << 44 | u64::from(self.id) << 20 | self.page << 10 | word
    }

    fn tag(self, word: u64) -> u64 {
        self.stamp(TAG, word)
    }

    /// Returns the place of one of its tags.
    pub fn place(self, which: u64) -> u64 {
        mix(self.tag(which % TAGS)) % CODE_AT
    }

    /// Returns the result of its function.
    pub fn returns(self) -> u64 {
        self.tag(CODE_AT)
    }

    /// `mov rax, imm64; ret`.
    fn code(self) -> [u64; 2] {
        let value = self.returns();
        [0xb848 | value << 16, value >> 48 | 0xc3 << 16]
    }

    /// Returns a word of the filled page, before the marks.
    pub fn word(self, word: u64) -> u64 {
        if word >= CODE_AT {
            return self.code()[(word - CODE_AT) as usize % 2];
        }
        if (0..TAGS).any(|which| self.place(which) == word) { self.tag(word) } else { 0 }
    }

    /// Returns all words that filling the page writes.
    pub fn contents(self) -> impl Iterator<Item = (u64, u64)> {
        let tags = (0..TAGS).map(move |which| (self.place(which), self.tag(self.place(which))));
        tags.chain([CODE_AT, CODE_AT + 1].map(|word| (word, self.word(word))))
    }
}

/// Returns the mark of a writer at an address of `owner`'s.
pub fn mark(owner: u64, thing: Thing, word: u64) -> u64 {
    Page { owner, id: thing.id, page: 0 }.stamp(MARK, word)
}

/// Whether a page of a frame is to be filled: some pages of a large frame, the others stay clear.
pub const fn is_filled(large: bool, page: u64) -> bool {
    !large || page.is_multiple_of(LARGE_STRIDE)
}

/// Picks a page of a large frame, filled more often than not.
pub fn large_page(random: u64) -> u64 {
    let page = random % LARGE_PAGES;
    if random >> 32 & 1 == 0 { page } else { page - page % LARGE_STRIDE }
}

/// Whether a word at that place can come from any page of an owner.
pub fn could_be(owner: u64, word: u64, value: u64) -> bool {
    let whose = value >> 44 & 0xff;
    let code = |at: u64| {
        // Most of the function's tag is in its first word, the rest in the second.
        (at == CODE_AT && value & 0xffff == 0xb848) || (at == CODE_AT + 1 && value >> 16 == 0xc3)
    };
    value == 0
        || (value >> 52 == TAG && value & 0x3ff == word && (whose == owner || whose == DIRECTOR))
        || code(word)
}

/// Whether a word in the marks' part of a new page is right: clear, or a mark of the same owner's
/// addresses from a worker that has not noticed the new page yet.
pub fn is_mark_of(owner: u64, value: u64) -> bool {
    value == 0 || (value >> 52 == MARK && value >> 44 & 0xff == owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Page = Page { owner: 3, id: 0x12345, page: 5 };

    #[test]
    fn filling_writes_what_readers_expect() {
        let mut words = [0; WORDS as usize];
        PAGE.contents().for_each(|(word, value)| words[word as usize] = value);
        for word in 0..MARKS_AT {
            assert_eq!(words[word as usize], PAGE.word(word), "word {word}");
            assert!(could_be(PAGE.owner, word, words[word as usize]), "word {word}");
        }
        assert!(words.iter().filter(|word| **word != 0).count() > 2);
    }

    #[test]
    fn the_function_returns_its_tag() {
        let bytes: Vec<u8> = PAGE.code().iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(bytes[..2], [0x48, 0xb8]);
        assert_eq!(bytes[2..RETURN_AT as usize], PAGE.returns().to_le_bytes());
        assert_eq!(bytes[RETURN_AT as usize], 0xc3);
    }

    #[test]
    fn pages_differ() {
        let word = PAGE.place(0);
        for other in [Page { owner: 4, ..PAGE }, Page { id: 7, ..PAGE }, Page { page: 6, ..PAGE }] {
            assert_ne!(other.tag(word), PAGE.tag(word));
            assert_ne!(other.returns(), PAGE.returns());
        }
        assert!(!could_be(4, word, PAGE.tag(word)) && !could_be(3, word + 1, PAGE.tag(word)));
        let mark = mark(3, Thing::NOTHING, 507);
        assert!(is_mark_of(3, mark) && !is_mark_of(2, mark) && !is_mark_of(3, PAGE.tag(507)));
    }

    #[test]
    fn everybody_has_the_directors_frames() {
        let thing = Thing { id: GLOBAL | 2, filled: true, ..Thing::NOTHING };
        assert_eq!(Page::of(3, thing, 0), Page::of(4, thing, 0));
    }
}
