//! Seals of stored pages: the pager accepts from a store only the contents that it gave to the
//! store.
//!
//! A seal is a message authentication code: SipHash-2-4, with a key that only the pager has, over a
//! number that no other page gets and the page's contents. The pager keeps the seal. So a store can
//! neither forge contents, nor give back another page or an older version of the page.

use core::hash::Hasher;

use siphasher::sip::SipHasher24;

/// What the pager keeps of a page that is out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Seal {
    /// Counts all pages that were ever put away.
    version: u64,
    tag: u64,
}

/// Makes seals and checks them.
pub struct Sealer {
    key: [u64; 2],
    next: u64,
}

impl Sealer {
    /// Makes a sealer.
    /// Requires: no other process knows or can guess the key.
    pub fn new(key: [u64; 2]) -> Sealer {
        Sealer { key, next: 0 }
    }

    /// Makes a seal of contents as they are now.
    pub fn seal(&mut self, contents: &[u8]) -> Seal {
        let version = self.next;
        self.next += 1;
        Seal { version, tag: self.tag(version, contents) }
    }

    /// Returns whether these are the contents of which the seal was made.
    pub fn holds(&self, seal: Seal, contents: &[u8]) -> bool {
        self.tag(seal.version, contents) == seal.tag
    }

    fn tag(&self, version: u64, contents: &[u8]) -> u64 {
        let mut tag = SipHasher24::new_with_keys(self.key[0], self.key[1]);
        tag.write(&version.to_le_bytes());
        tag.write(contents);
        tag.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_one_pages_and_one_keys() {
        let mut sealer = Sealer::new([1, 2]);
        let (first, second) = (sealer.seal(b"contents"), sealer.seal(b"contents"));
        assert!(sealer.holds(first, b"contents") && sealer.holds(second, b"contents"));
        assert_ne!(first.tag, second.tag, "of the same contents, at another time");
        assert!(!sealer.holds(Seal { version: second.version, ..first }, b"contents"));
        assert!(!sealer.holds(first, b"Contents") && !sealer.holds(first, b"content"));
        for key in [[1, 3], [2, 2], [0, 0]] {
            assert!(!Sealer::new(key).holds(first, b"contents"), "another key");
        }
    }

    /// The published vector of SipHash-2-4 for fifteen bytes, whose first eight are the version
    /// here.
    #[test]
    fn tags_are_siphash() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let bytes: [u8; 7] = core::array::from_fn(|byte| byte as u8 + 8);
        assert_eq!(Sealer::new(key).tag(0x0706_0504_0302_0100, &bytes), 0xa129_ca61_49be_45e5);
    }
}
