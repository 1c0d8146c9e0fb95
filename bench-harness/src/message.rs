//! Prints captured messages as text, with the field names of the compiled-in schemas.
//!
//! Messages come from these sources:
//! - programs of a run with `talk=show` report each message that they send as lines
//!   `message task=… label=… at=… words=… caps=…` ([`user_rt::talk::show`] there); such lines are
//!   found in any output of the run;
//! - the text of a kernel's state (`state.txt`) has for each call that is queued or on its way to
//!   another CPU `info=… mr0=… mr1=…`;
//! - bytes, or words in hexadecimal: their label is not known, so the caller must name the struct
//!   that they begin with. Without that only their structure is printed.
//!
//! [`user_rt::talk::show`]: ../user_rt/talk/fn.show.html

use std::fmt::Write;
use std::fs;
use std::io::{Read, stdin};
use std::path::PathBuf;

use abi::MsgInfo;
use anyhow::{Context, Result, bail, ensure};
use protocols::capnp::Word;
use protocols::show::{self, Captured};
use protocols::{ROOTS, raw, word, words_of};

/// Words of a message that is shown: 8 MiB.
const WORDS_MAX: usize = 1 << 20;

/// What can be shown.
const FORMS: &str =
    "what a run with talk=show or a state.txt says, a message's bytes, or its words in hexadecimal";

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
    /// The sender, if it is known.
    pub from: String,
    /// 0: it is not known.
    pub label: u32,
    pub words: Vec<u64>,
    /// Words behind those that were not captured.
    pub missing: usize,
    /// The capabilities that it gives, in words.
    pub caps: Vec<String>,
}

/// Prints all messages in the given input.
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

/// Reads the messages in lines of a run or a dump, or else the one message that the bytes or the
/// hexadecimal words are.
pub fn read(bytes: &[u8], label: Option<u32>) -> Result<Vec<Message>> {
    let text = std::str::from_utf8(bytes).ok();
    let mut found = text.map(reported).transpose()?.unwrap_or_default();
    found.extend(text.iter().flat_map(|text| text.lines()).filter_map(in_dump));
    if !found.is_empty() {
        return Ok(found);
    }
    ensure!(!bytes.is_empty(), "there is nothing to read: give {FORMS}");
    let words = match text.map(hexadecimal) {
        Some(Some(words)) => words,
        _ => {
            ensure!(bytes.len().is_multiple_of(8), "{} bytes are no whole words: give {FORMS}", bytes.len());
            words_of(bytes).collect()
        }
    };
    let whole: Vec<Word> = words.iter().copied().map(word).collect();
    ensure!(
        raw::is_message(Word::words_to_bytes(&whole)),
        "{} words that do not begin with a pointer to a struct are no message: give {FORMS}",
        words.len()
    );
    Ok(vec![Message { label: label.unwrap_or(0), words, ..Message::default() }])
}

/// Reads words separated by blanks or commas.
fn hexadecimal(text: &str) -> Option<Vec<u64>> {
    let parts =
        text.split(|letter: char| letter.is_whitespace() || letter == ',').filter(|part| !part.is_empty());
    parts.map(|part| u64::from_str_radix(part.trim_start_matches("0x"), 16).ok()).collect()
}

/// Returns the value of `name=value` in a line.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// Reads lines that programs report. Long messages have several lines, in order, with lines of
/// other messages between them.
fn reported(text: &str) -> Result<Vec<Message>> {
    let mut messages: Vec<Message> = Vec::new();
    for line in text.lines() {
        let Some((_, fields)) = line.split_once("message task=") else { continue };
        let field = |name| value(line, name).with_context(|| format!("a line without {name}: {line}"));
        let from = format!("task {}", fields.split_whitespace().next().unwrap_or("?"));
        let label = number(field("label")?).and_then(|label| u32::try_from(label).ok()).context("a label")?;
        let at: usize = field("at")?.parse().context("a place in a message")?;
        let words = hexadecimal(field("words")?).with_context(|| format!("no words: {line}"))?;
        if at == 0 {
            let caps =
                value(line, "caps").map_or(Ok(Vec::new()), |caps| caps.split(',').map(given).collect())?;
            messages.push(Message { from, label, words, missing: 0, caps });
            continue;
        }
        match messages.iter_mut().rev().find(|message| message.from == from) {
            Some(last) if last.label == label && last.words.len() == at => last.words.extend(words),
            Some(_) => bail!("a line is missing before: {line}"),
            None => bail!("a message has no beginning: {line}"),
        }
    }
    Ok(messages)
}

/// Describes a capability of a reported line.
fn given(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        ["move", slot] => Ok(format!("slot {slot}, moved")),
        ["copy", slot, rights, badge] => Ok(format!("a copy of slot {slot}, rights {rights}, badge {badge}")),
        _ => bail!("{text} is no capability"),
    }
}

/// Reads a call on its way from a line of a dump of the kernel's state. Leaves out messages that
/// are of no protocol of the system.
fn in_dump(line: &str) -> Option<Message> {
    let info = MsgInfo(number(value(line, "info")?)?);
    show::root(info.label())?;
    let words: Option<Vec<u64>> =
        ["mr0", "mr1", "mr2", "mr3"].iter().map(|name| number(value(line, name)?)).collect();
    let from = line.split_whitespace().next().unwrap_or("?").to_owned();
    Some(Message { from, label: info.label(), words: words?, missing: info.words(), caps: Vec::new() })
}

/// Writes a message as text.
pub fn shown(message: &Message) -> Result<String> {
    let Message { from, label, words, missing, caps } = message;
    ensure!(words.len() <= WORDS_MAX, "{} words are more than a message has", words.len());
    let words: Vec<Word> = words.iter().copied().map(word).collect();
    let mut text = String::new();
    if !from.is_empty() {
        writeln!(text, "{from} sends")?;
    }
    write!(text, "{}", Captured { label: *label, bytes: Word::words_to_bytes(&words) })?;
    for (cap, place) in caps.iter().zip(0..) {
        writeln!(text, "  capability {place}: {cap}")?;
    }
    if *missing > 0 {
        writeln!(text, "  {missing} words more were not captured")?;
    }
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
        Message { label: store::LABEL, words, ..Message::default() }
    }

    fn line(message: &Message, range: std::ops::Range<usize>) -> String {
        let words: Vec<String> =
            message.words[range.clone()].iter().map(|word| format!("{word:x}")).collect();
        let Message { from, label, .. } = message;
        format!(
            "[test] message {} label={label:#x} at={} words={}\n",
            from.replace(' ', "="),
            range.start,
            words.join(",")
        )
    }

    #[test]
    fn messages_are_found_in_what_a_run_says() {
        let one = Message { from: "task 0x1".into(), ..get() };
        let other = Message { from: "task 0x2".into(), ..get() };
        // Two tasks at the same time.
        let text = format!("boot\n{}noise\n{}{}", line(&one, 0..2), line(&other, 0..4), line(&one, 2..4));
        assert_eq!(read(text.as_bytes(), None).unwrap(), [one.clone(), other]);
        let cut = format!("{}{}", line(&one, 0..1), line(&one, 2..4));
        assert!(read(cut.as_bytes(), None).is_err());
        let text = shown(&one).unwrap();
        assert!(text.starts_with("task 0x1 sends\nstore.Request "), "{text}");
        assert!(text.contains("get:\n    slot = 7\n"), "{text}");
    }

    #[test]
    fn capabilities_are_said() {
        let message = Message { from: "task 0x1".into(), ..get() };
        let text = line(&message, 0..4).replace('\n', " caps=move:17,copy:18:1:2a\n");
        let found = read(text.as_bytes(), None).unwrap();
        let text = shown(&found[0]).unwrap();
        assert!(text.contains("  capability 0: slot 17, moved\n"), "{text}");
        assert!(text.contains("  capability 1: a copy of slot 18, rights 1, badge 2a\n"), "{text}");
        assert!(given("copy:1").is_err());
    }

    #[test]
    fn calls_on_their_way_are_found_in_a_dump() {
        let message = get();
        let info = MsgInfo::new(store::LABEL, 3).0;
        let regs: Vec<String> =
            message.words.iter().zip(0..).map(|(word, n)| format!("mr{n}={word:x}")).collect();
        let dump = format!(
            "cpu0 runs=task1\ntask3 callee=task4 queued1 info={info:x} {} exposure=0\n\
             task5 info={:x} mr0=1 mr1=2 mr2=3 mr3=4\n",
            regs.join(" "),
            MsgInfo::new(7, 0).0
        );
        let found = read(dump.as_bytes(), None).unwrap();
        assert_eq!(found, [Message { from: "task3".into(), missing: 3, ..message }]);
        assert!(shown(&found[0]).unwrap().ends_with("  3 words more were not captured\n"));
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
        for nothing in [&b""[..], b"\n", &[0; 16], &[0xa7; 96], b"no message"] {
            let said = read(nothing, None).expect_err("no message").to_string();
            assert!(said.ends_with(FORMS), "{said}");
        }
        assert!(label_of("store.Nothing").unwrap_err().to_string().contains("store.Answer"));
    }
}
