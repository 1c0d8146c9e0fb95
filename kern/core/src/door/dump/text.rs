//! The text of a dump: lines of words, hashed as they come and sent to the log port if wanted.

use kern_base::machine::Machine;

/// Channel of dumps on the log port.
const CHANNEL: u8 = 0x81;
/// Bytes that one record carries at most. Records are cut anywhere: a dump is what they have in a row.
const RECORD: usize = 1024;

/// FNV-1a.
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_PRIME: u64 = 0x0100_0000_01b3;

pub struct Text<'m, M: Machine> {
    machine: &'m M,
    /// Whether anybody gets to see it.
    wanted: bool,
    hash: u64,
    bytes: [u8; RECORD],
    used: usize,
    /// Nothing stands in this line yet.
    fresh: bool,
}

impl<'m, M: Machine> Text<'m, M> {
    pub fn new(machine: &'m M, wanted: bool) -> Text<'m, M> {
        Text { machine, wanted, hash: HASH_START, bytes: [0; RECORD], used: 0, fresh: true }
    }

    /// Sends the rest; the hash of all.
    pub fn finish(mut self) -> u64 {
        self.flush();
        self.hash
    }

    fn flush(&mut self) {
        if self.wanted && self.used > 0 {
            self.machine.log(CHANNEL, &self.bytes[..self.used]);
        }
        self.used = 0;
    }

    fn byte(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(HASH_PRIME);
        if !self.wanted {
            return;
        }
        if let Some(place) = self.bytes.get_mut(self.used) {
            *place = byte;
        }
        self.used += 1;
        if self.used == RECORD {
            self.flush();
        }
    }

    fn put(&mut self, text: &str) {
        for byte in text.bytes() {
            self.byte(byte);
        }
    }

    fn digits(&mut self, value: u64, base: u64) {
        let mut digits = [0u8; 20];
        let (mut at, mut rest) = (digits.len(), value);
        while at > 0 {
            at -= 1;
            let digit = (rest % base) as u8;
            digits[at] = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            rest /= base;
            if rest == 0 {
                break;
            }
        }
        for &digit in &digits[at..] {
            self.byte(digit);
        }
    }

    /// Begins a line.
    pub fn line(&mut self) {
        self.fresh = true;
    }

    pub fn end(&mut self) {
        self.byte(b'\n');
    }

    /// Before the next word.
    pub fn gap(&mut self) {
        if !self.fresh {
            self.byte(b' ');
        }
        self.fresh = false;
    }

    pub fn word(&mut self, word: &str) {
        self.gap();
        self.put(word);
    }

    /// A word that is there if `on`.
    pub fn flag(&mut self, word: &str, on: bool) {
        if on {
            self.word(word);
        }
    }

    /// `key=`; a value follows.
    pub fn key(&mut self, key: &str) {
        self.word(key);
        self.byte(b'=');
    }

    pub fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.digits(value, 10);
    }

    pub fn hex(&mut self, key: &str, value: u64) {
        self.key(key);
        self.digits(value, 16);
    }

    /// A value and, behind it, `:`.
    pub fn item(&mut self, value: u64) {
        self.gap();
        self.digits(value, 16);
        self.byte(b':');
    }

    /// A value without a gap.
    pub fn value(&mut self, value: u64) {
        self.fresh = false;
        self.digits(value, 16);
    }

    /// `type7`, without a gap.
    pub fn named(&mut self, what: &str, number: u64) {
        self.fresh = false;
        self.put(what);
        self.digits(number, 10);
    }

    /// A word without a gap.
    pub fn bare(&mut self, word: &str) {
        self.fresh = false;
        self.put(word);
    }

    /// A list that is left out where it is empty would look the same as one not looked at: it never is.
    pub fn list(&mut self, key: &str) {
        self.key(key);
        self.byte(b'[');
        self.fresh = true;
    }

    pub fn end_list(&mut self) {
        self.byte(b']');
        self.fresh = false;
    }
}
