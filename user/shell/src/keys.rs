//! Bytes of a terminal as keys.

/// What a person pressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// A printable character of ASCII.
    Letter(u8),
    Enter,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    /// Ctrl-K: drop the rest of the line.
    KillRest,
    /// Ctrl-U: drop what is before the cursor.
    KillBefore,
    /// Ctrl-W: drop the word before the cursor.
    KillWord,
    /// Ctrl-L: show the line again.
    Redraw,
    /// Ctrl-C: drop the line.
    Cancel,
    /// Ctrl-D: end, on an empty line.
    Eof,
    /// Anything else.
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Plain,
    /// Behind a carriage return: a line feed belongs to it.
    Returned,
    Escape,
    /// In a sequence, with its first number.
    Sequence(u8),
}

/// Puts bytes together to keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys {
    state: State,
}

impl Keys {
    /// Takes a byte. Returns the key that it completes.
    pub fn push(&mut self, byte: u8) -> Option<Key> {
        let state = core::mem::take(&mut self.state);
        match (state, byte) {
            (State::Returned, b'\n') => None,
            // Nothing but a key of its own begins with a control character.
            (State::Escape | State::Sequence(_), 0..b' ') => self.push(byte),
            (State::Escape, b'[' | b'O') => {
                self.state = State::Sequence(0);
                None
            }
            (State::Sequence(number), b'0'..=b'9') => {
                self.state = State::Sequence(number.saturating_mul(10).saturating_add(byte - b'0'));
                None
            }
            // Further numbers say which modifier keys were held.
            (State::Sequence(number), b';') => {
                self.state = State::Sequence(number);
                None
            }
            (State::Sequence(number), _) => Some(in_sequence(number, byte)),
            (State::Plain | State::Returned, 0x1b) => {
                self.state = State::Escape;
                None
            }
            (State::Escape, _) => Some(Key::Other),
            (_, b'\r') => {
                self.state = State::Returned;
                Some(Key::Enter)
            }
            (_, byte) => Some(plain(byte)),
        }
    }
}

fn in_sequence(number: u8, last: u8) -> Key {
    match (last, number) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', 1 | 7) => Key::Home,
        (b'F', _) | (b'~', 4 | 8) => Key::End,
        (b'~', 3) => Key::Delete,
        _ => Key::Other,
    }
}

fn plain(byte: u8) -> Key {
    const fn ctrl(letter: u8) -> u8 {
        letter & 0x1f
    }
    const A: u8 = ctrl(b'A');
    const B: u8 = ctrl(b'B');
    const C: u8 = ctrl(b'C');
    const D: u8 = ctrl(b'D');
    const E: u8 = ctrl(b'E');
    const F: u8 = ctrl(b'F');
    const K: u8 = ctrl(b'K');
    const L: u8 = ctrl(b'L');
    const N: u8 = ctrl(b'N');
    const P: u8 = ctrl(b'P');
    const U: u8 = ctrl(b'U');
    const W: u8 = ctrl(b'W');
    match byte {
        b'\n' => Key::Enter,
        0x08 | 0x7f => Key::Backspace,
        b' '..=b'~' => Key::Letter(byte),
        A => Key::Home,
        B => Key::Left,
        C => Key::Cancel,
        D => Key::Eof,
        E => Key::End,
        F => Key::Right,
        K => Key::KillRest,
        L => Key::Redraw,
        N => Key::Down,
        P => Key::Up,
        U => Key::KillBefore,
        W => Key::KillWord,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|byte| keys.push(*byte)).collect()
    }

    #[test]
    fn the_ends_of_lines() {
        assert_eq!(keys(b"a\r\nb\nc\r\r"), keys(b"a\nb\nc\n\n"));
        assert_eq!(keys(b"\r\n\n"), [Key::Enter, Key::Enter], "the second line feed is a line of its own");
    }

    #[test]
    fn sequences() {
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[1;5C\x1b[D"), [Key::Up, Key::Down, Key::Right, Key::Left]);
        assert_eq!(keys(b"\x1b[3~\x1b[1~\x1b[4~\x1b[H"), [Key::Delete, Key::Home, Key::End, Key::Home]);
        assert_eq!(keys(b"\x1b[999999~x"), [Key::Other, Key::Letter(b'x')]);
        assert_eq!(keys(b"\x1b\x1b[A"), [Key::Up], "an escape begins anew");
        assert_eq!(keys(b"\x1bx"), [Key::Other]);
        assert_eq!(keys(b"\x1b\r\x1b[1\x03"), [Key::Enter, Key::Cancel], "one that is not complete");
    }

    #[test]
    fn bytes_that_are_no_keys() {
        assert_eq!(keys(&[0, 0x07, 0x09, 0x80, 0xff]), [Key::Other; 5]);
        assert_eq!(keys(&[0x7f, 0x08]), [Key::Backspace; 2]);
    }
}
