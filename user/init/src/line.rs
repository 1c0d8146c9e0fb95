//! A process's command line: the machine's words, and behind them those of its description that
//! the machine's line does not have. So a person who boots the machine can change what a
//! description says. Only `run=` is the description's: for the machine it names the system.

use abi::CMDLINE_MAX;
use abi::options::split;
use heapless::String;

pub type Line = String<CMDLINE_MAX>;

/// Returns the command line of a process. `None` if it is too long.
pub fn of(machine: &str, described: &str) -> Option<Line> {
    let has = |key: &str| machine.split_ascii_whitespace().any(|word| split(word).0 == key);
    let own = described.split_ascii_whitespace().filter(|word| {
        let (key, _) = split(word);
        key == "run" || !has(key)
    });
    let mut line = Line::new();
    for word in machine.split_ascii_whitespace().chain(own) {
        if !line.is_empty() {
            line.push(' ').ok()?;
        }
        line.push_str(word).ok()?;
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_words_count_except_run() {
        let line = |machine, described| of(machine, described).expect("it is short");
        assert_eq!(
            line("log=e9 run=games seed=7", "run=diff seed=1 steps=5"),
            "log=e9 run=games seed=7 run=diff steps=5"
        );
        assert_eq!(line("", "role=link"), "role=link");
        assert_eq!(line("run=x  quiet", "quiet"), "run=x quiet");
    }

    #[test]
    fn a_line_has_a_longest_length() {
        let long = "x".repeat(CMDLINE_MAX - 4);
        assert_eq!(of(&long, "a=b").map(|line| line.len()), Some(CMDLINE_MAX));
        assert_eq!(of(&long, "a=bc"), None);
    }
}
