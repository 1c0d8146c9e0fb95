//! Snapshots: collects records, and reads them from text.

use std::collections::HashMap;
use std::fmt;

use snapshot::{Record, Sink, for_each_record};

/// Why a text is no snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextError {
    /// The number of the line, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// For each field of a record, at which place a line of the text has it.
type Places = Vec<Option<usize>>;

fn places<R: Record>(header: &[&str]) -> Places {
    R::FIELDS.iter().map(|field| header.iter().position(|word| word == field)).collect()
}

fn record<R: Record>(words: &[u64], places: &Places) -> R {
    R::from_words(|at| places.get(at).copied().flatten().and_then(|at| words.get(at)).copied().unwrap_or(0))
}

fn number(word: &str) -> Option<u64> {
    if word == "-" { Some(0) } else { u64::from_str_radix(word, 16).ok() }
}

macro_rules! snapshot {
    ($($type:ident $method:ident $list:ident;)*) => {
        /// All records of a machine that stood still.
        #[derive(Clone, Default, PartialEq, Eq, Debug)]
        pub struct Snapshot {
            $(
                #[doc = concat!("The records of the type [`", stringify!($type), "`](snapshot::", stringify!($type), ").")]
                pub $list: Vec<snapshot::$type>,
            )*
        }

        impl Snapshot {
            /// Removes all records from the snapshot, and keeps their memory.
            pub fn clear(&mut self) {
                $(self.$list.clear();)*
            }

            /// Returns the pages in a range of memory that pools have. After a revoke or a reset of
            /// an Untyped, none are in its memory; but a snapshot does not show whether one was
            /// made: the maker of the system call must check.
            pub fn pages_in_pools(&self, memory: std::ops::Range<u64>) -> impl Iterator<Item = u64> {
                let pooled = self.infos.iter().filter(|info| info.pooled).map(|info| info.at);
                pooled.filter(move |page| memory.contains(page))
            }

            /// Writes the snapshot as text.
            pub fn write(&self) -> String {
                let mut text = String::new();
                let mut writer = snapshot::text::Writer::new(|part: &str| text.push_str(part));
                $(
                    for record in &self.$list {
                        writer.$method(record);
                    }
                )*
                writer.finish();
                text
            }

            /// Adds the records of a text. Fields that the text does not have are 0.
            pub fn read(&mut self, text: &str) -> Result<(), TextError> {
                let mut headers: HashMap<&'static str, Places> = HashMap::new();
                let mut words = Vec::new();
                for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text)) {
                    let wrong = |what: String| TextError { line, what };
                    let mut parts = text.split_ascii_whitespace();
                    let Some(name) = parts.next() else { continue };
                    if let Some(name) = name.strip_prefix(':') {
                        let fields: Vec<&str> = parts.collect();
                        match name {
                            $(
                                <snapshot::$type as Record>::NAME => {
                                    let places = places::<snapshot::$type>(&fields);
                                    headers.insert(<snapshot::$type as Record>::NAME, places);
                                }
                            )*
                            // A type that came later.
                            _ => {}
                        }
                        continue;
                    }
                    words.clear();
                    for part in parts {
                        words.push(number(part).ok_or_else(|| wrong(format!("{part:?} is no number")))?);
                    }
                    let places = headers.get(name);
                    match name {
                        $(
                            <snapshot::$type as Record>::NAME => {
                                let places = places.ok_or_else(|| wrong(format!("no line names the fields of {name:?}")))?;
                                self.$list.push(record(&words, places));
                            }
                        )*
                        _ => {}
                    }
                }
                Ok(())
            }
        }

        impl Sink for Snapshot {
            $(
                #[inline]
                fn $method(&mut self, record: &snapshot::$type) {
                    self.$list.push(*record);
                }
            )*
        }
    };
}

for_each_record!(snapshot);

#[cfg(test)]
mod tests {
    use super::*;
    use snapshot::{Context, Cpu, Mail, MailKind};

    fn some() -> Snapshot {
        let context = Context {
            at: 0x1040,
            home: 1,
            task: 0x2000,
            queue_prev: 0xffff_ffff_ffff_fff0,
            ..Context::default()
        };
        let mail = Mail { cpu: 3, kind: MailKind::Bits, about: 0x40 };
        Snapshot {
            cpus: vec![Cpu { id: 1, busy: true, ..Cpu::default() }, Cpu::default()],
            mails: vec![mail],
            contexts: vec![context, Context::default()],
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (before, mut after) = (some(), Snapshot::default());
        after.read(&before.write()).expect("a text");
        assert_eq!(before, after);
    }

    #[test]
    fn a_reader_takes_the_fields_that_it_knows() {
        let mut read = Snapshot::default();
        read.read(":mail about later cpu\nmail 40 9 3\n\n:later x\nlater 7\n").expect("a text");
        assert_eq!(read.mails, [Mail { cpu: 3, kind: MailKind::Message, about: 0x40 }]);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let mut read = Snapshot::default();
        let error = read.read("mail 1").expect_err("no line of fields");
        assert_eq!(error.to_string(), "line 1: no line names the fields of \"mail\"");
        let error = read.read(":mail cpu\nmail x").expect_err("no number");
        assert_eq!(error.to_string(), "line 2: \"x\" is no number");
    }
}
