//! The command line: words `key=value` or `key`. If a key occurs several times, the last one
//! counts.

/// A command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options<'a> {
    text: &'a str,
}

/// An option whose value cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadOption<'a> {
    pub key: &'a str,
    pub value: &'a str,
    pub wanted: &'static str,
}

impl core::fmt::Display for BadOption<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "option {}={}: want {}", self.key, self.value, self.wanted)
    }
}

impl<'a> Options<'a> {
    pub const fn new(text: &'a str) -> Options<'a> {
        Options { text }
    }

    /// Returns the value of the option `key`; the empty string for an option without one.
    pub fn value(&self, key: &str) -> Option<&'a str> {
        self.text.split_ascii_whitespace().rev().find_map(|word| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            (name == key).then_some(value)
        })
    }

    /// Returns the number of `key` (decimal, or hexadecimal after `0x`), or `default` if the key is
    /// not given.
    pub fn number<'k: 'a>(&self, key: &'k str, default: u64) -> Result<u64, BadOption<'a>> {
        let Some(value) = self.value(key) else { return Ok(default) };
        let parsed = match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => value.parse(),
        };
        parsed.map_err(|_| BadOption { key, value, wanted: "a number" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_key_counts() {
        let options = Options::new("  log=e9 run=bench\tseed=7 run=test quiet ");
        assert_eq!(options.value("run"), Some("test"));
        assert_eq!(options.value("quiet"), Some(""));
        assert_eq!(options.value("ru"), None);
        assert_eq!(Options::new("").value("run"), None);
    }

    #[test]
    fn numbers_in_both_bases_and_complaints() {
        let options = Options::new("seed=0xff cpus=4 bad=12x huge=99999999999999999999 none=");
        assert_eq!(options.number("seed", 1), Ok(255));
        assert_eq!(options.number("cpus", 1), Ok(4));
        assert_eq!(options.number("other", 9), Ok(9));
        for key in ["bad", "huge", "none"] {
            assert!(options.number(key, 0).is_err(), "{key}");
        }
        let complaint = options.number("bad", 0).unwrap_err();
        assert_eq!(complaint.to_string(), "option bad=12x: want a number");
    }
}
