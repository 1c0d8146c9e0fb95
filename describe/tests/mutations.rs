//! Any damage to a description is reported, or gives another system: nothing panics, and each
//! report has places.

use std::fs;
use std::path::Path;

/// Letters that have a meaning in the language.
const LETTERS: &[u8] = b"\"[]{}=,.#-x0 \n\xff";

fn check(bytes: &[u8]) {
    match describe::load("damaged.toml", bytes, None) {
        Ok(system) => assert!(!describe::compile(&system).is_empty()),
        Err(report) => {
            let text = report.to_string();
            let places = text.lines().filter(|line| line.trim_start().starts_with("--> damaged.toml:"));
            assert_eq!(places.count(), report.count(), "{text}\n{}", String::from_utf8_lossy(bytes));
        }
    }
}

#[test]
fn damaged_descriptions_are_reported() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/all.toml");
    let whole = fs::read(path).expect("a description");
    for at in 0..whole.len() {
        check(&whole[..at]);
        check(&[&whole[..at], &whole[at + 1..]].concat());
        let letter = LETTERS[at % LETTERS.len()];
        check(&[&whole[..at], &[letter], &whole[at + 1..]].concat());
    }
}

#[test]
fn descriptions_without_a_line_are_reported() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/all.toml");
    let whole = fs::read_to_string(path).expect("a description");
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    for at in 0..lines.len() {
        let rest: String =
            lines.iter().enumerate().filter(|(line, _)| *line != at).map(|(_, line)| *line).collect();
        check(rest.as_bytes());
        let twice = [&lines[..at], &lines[at..=at], &lines[at..]].concat().concat();
        check(twice.as_bytes());
    }
}
