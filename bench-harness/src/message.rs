//! Captured messages as text: with the names that the compiled-in schemas give their fields.
//!
//! Programs report a message that they send as lines `message label=… at=… words=…` ([`user_rt::talk::show`] there); such
//! lines are found in whatever a run said. A message may also be bytes, or words in hexadecimal, of which the label is
//! not known: then it has to be told what it begins with, or its structure is all that can be said.
//!
//! [`user_rt::talk::show`]: ../user_rt/talk/fn.show.html

use std::fmt::Write;
use std::fs;
use std::io::{Read, stdin};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use protocols::capnp::Word;
use protocols::show::Captured;
use protocols::{ROOTS, word, words_of};

/// Words of a message that is shown: 8 MiB.
const WORDS_MAX: usize = 1 << 20;

/// What to show.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// `None`: standard input.
    pub file: Option<PathBuf>,
    /// `store.Request`: what a message without a label begins with.
    pub begins: Option<String>,
    /// Only say which protocols there are.
    pub list: bool,
}

/// A message as it was captured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// 0: it is not known.
    pub label: u32,
    pub words: Vec<u64>,
}

/// Prints all messages in what it is given.
pub fn command(wanted: &Wanted) -> Result<()> {
    if wanted.list {
        for root in ROOTS {
            println!("{:#010x} {}.{}", root.label, root.protocol, root.name);
        }
        return Ok(());
    }
    let mut bytes = Vec::new();
    match &wanted.file {
        Some(file) => bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => drop(stdin().read_to_end(&mut bytes).context("cannot read the standard input")?),
    }
    let label = wanted.begins.as_deref().map(label_of).transpose()?;
    for message in read(&bytes, label)? {
        print!("{}", shown(&message)?);
    }
    Ok(())
}

fn label_of(name: &str) -> Result<u32> {
    let root = ROOTS.iter().find(|root| format!("{}.{}", root.protocol, root.name) == name);
    root.map(|root| root.label).with_context(|| {
        let names: Vec<String> =
            ROOTS.iter().map(|root| format!("{}.{}", root.protocol, root.name)).collect();
        format!("no message begins with {name}: there are {}", names.join(", "))
    })
}

/// The messages in reported lines, or else the one that the bytes or the hexadecimal words are.
pub fn read(bytes: &[u8], label: Option<u32>) -> Result<Vec<Message>> {
    let text = std::str::from_utf8(bytes).ok();
    let lines = text.map(reported).transpose()?.unwrap_or_default();
    if !lines.is_empty() {
        return Ok(lines);
    }
    let words = match text.map(hexadecimal) {
        Some(Some(words)) => words,
        _ => {
            ensure!(bytes.len().is_multiple_of(8), "{} bytes are no whole words", bytes.len());
            words_of(bytes).collect()
        }
    };
    ensure!(!words.is_empty(), "there is no message");
    Ok(vec![Message { label: label.unwrap_or(0), words }])
}

/// Words separated by blanks or commas.
fn hexadecimal(text: &str) -> Option<Vec<u64>> {
    let parts =
        text.split(|letter: char| letter.is_whitespace() || letter == ',').filter(|part| !part.is_empty());
    parts.map(|part| u64::from_str_radix(part.trim_start_matches("0x"), 16).ok()).collect()
}

/// Lines that programs report. Long messages have several, in order.
fn reported(text: &str) -> Result<Vec<Message>> {
    let mut messages: Vec<Message> = Vec::new();
    for line in text.lines() {
        let Some((_, fields)) = line.split_once("message label=") else { continue };
        let mut fields = fields.split_whitespace();
        let field = |name: &str, field: Option<&str>| {
            let value = field.and_then(|field| field.strip_prefix(name)).map(str::to_owned);
            value.with_context(|| format!("a line without {name} {line}"))
        };
        let label = field("", fields.next())?;
        let label = u32::from_str_radix(label.trim_start_matches("0x"), 16).context("a label")?;
        let at: usize = field("at=", fields.next())?.parse().context("a place in a message")?;
        let words =
            hexadecimal(&field("words=", fields.next())?).with_context(|| format!("no words: {line}"))?;
        match messages.last_mut() {
            Some(last) if at > 0 => {
                ensure!(last.label == label && last.words.len() == at, "a line is missing before: {line}");
                last.words.extend(words);
            }
            None if at > 0 => bail!("a message has no beginning: {line}"),
            _ => messages.push(Message { label, words }),
        }
    }
    Ok(messages)
}

/// A message as text.
pub fn shown(message: &Message) -> Result<String> {
    ensure!(message.words.len() <= WORDS_MAX, "{} words are more than a message has", message.words.len());
    let words: Vec<Word> = message.words.iter().copied().map(word).collect();
    let mut text = String::new();
    write!(text, "{}", Captured { label: message.label, bytes: Word::words_to_bytes(&words) })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::slice;

    use protocols::{compose_plain, store};

    use super::*;

    fn get() -> Message {
        let words = compose_plain::<store::request::Owned, 8, _>(
            |request| request.init_get().set_slot(7),
            |bytes| words_of(bytes).collect(),
        );
        Message { label: store::LABEL, words }
    }

    fn line(message: &Message, range: std::ops::Range<usize>) -> String {
        let words: Vec<String> =
            message.words[range.clone()].iter().map(|word| format!("{word:x}")).collect();
        format!("[test] message label={:#x} at={} words={}\n", message.label, range.start, words.join(","))
    }

    #[test]
    fn messages_are_found_in_what_a_run_says() {
        let message = get();
        let text =
            format!("boot\n{}noise\n{}{}", line(&message, 0..4), line(&message, 0..2), line(&message, 2..4));
        assert_eq!(read(text.as_bytes(), None).unwrap(), [message.clone(), message.clone()]);
        let cut = format!("{}{}", line(&message, 0..1), line(&message, 2..4));
        assert!(read(cut.as_bytes(), None).is_err());
        assert!(shown(&message).unwrap().contains("get:\n    slot = 7\n"));
    }

    #[test]
    fn words_and_bytes_are_messages_too() {
        let message = get();
        let label = Some(label_of("store.Request").unwrap());
        let hex: Vec<String> = message.words.iter().map(|word| format!("{word:#x}")).collect();
        assert_eq!(read(hex.join(" ").as_bytes(), label).unwrap(), slice::from_ref(&message));
        let bytes: Vec<u8> = message.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(read(&bytes, label).unwrap(), slice::from_ref(&message));
        let unknown = read(&bytes, None).unwrap();
        assert!(shown(&unknown[0]).unwrap().starts_with("unknown label"));
        assert!(read(&bytes[1..], None).is_err());
        assert!(label_of("store.Nothing").unwrap_err().to_string().contains("store.Answer"));
    }
}
