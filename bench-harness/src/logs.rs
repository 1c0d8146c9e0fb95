//! Decodes defmt frames to text, with the table of the program that sent them.
//!
//! A frame decoded with another program's table may give plausible nonsense, so every channel knows
//! its ELF file. A table is read at the first record of its channel, so `level=off` costs nothing.

use std::cell::OnceCell;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use console::style;
use defmt_decoder::{DecodeError, Locations, Table};
use defmt_parser::Level;

use crate::artifacts::Program;
use crate::frames::Formats;
use crate::tail;

/// A line of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The kernel, or a program.
    pub part: String,
    pub level: Option<Level>,
    /// Seconds since the machine's start, as the guest counts them, and the CPU; empty where the
    /// record has none.
    pub time: String,
    pub cpu: String,
    pub text: String,
    /// File and line.
    pub place: String,
    /// Whether the record could be decoded.
    pub is_sound: bool,
}

impl Line {
    /// Returns the line for a record that cannot be decoded.
    fn unsound(part: &str, text: String) -> Line {
        let [time, cpu, place] = [const { String::new() }; 3];
        Line { part: part.to_owned(), level: None, time, cpu, text, place, is_sound: false }
    }
}

/// With colours where standard output is a terminal.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { part, time, cpu, text, .. } = self;
        if !self.is_sound {
            return write!(f, "{part}: {text}");
        }
        let level = self.level.map_or(style("     "), |level| match level {
            Level::Trace => style("TRACE").dim(),
            Level::Debug => style("DEBUG").cyan(),
            Level::Info => style("INFO ").green(),
            Level::Warn => style("WARN ").yellow(),
            Level::Error => style("ERROR").red().bold(),
        });
        write!(f, "{time:>12} {cpu:<5} {part:<8} {level} {text}")?;
        if self.place.is_empty() {
            Ok(())
        } else {
            write!(f, "  {}", style(format!("({})", self.place)).dim())
        }
    }
}

struct Channel {
    name: String,
    elf: PathBuf,
    decoder: OnceCell<Result<Decoder, String>>,
}

struct Decoder {
    table: Table,
    formats: Formats,
    locations: Locations,
}

/// The decoders of one boot, by channel.
pub struct Logs {
    channels: Vec<Channel>,
}

impl Logs {
    pub fn new(kernel: &Path, programs: &[Program]) -> Logs {
        let channel = |name: &str, elf: &Path| Channel {
            name: name.to_owned(),
            elf: elf.to_owned(),
            decoder: OnceCell::new(),
        };
        let kernel = std::iter::once(channel("kernel", kernel));
        Logs { channels: kernel.chain(programs.iter().map(|p| channel(&p.name, &p.elf))).collect() }
    }

    /// Returns the lines in a log record. For a record that cannot be decoded, says why and shows
    /// its bytes.
    pub fn render(&self, number: u8, payload: &[u8]) -> Vec<Line> {
        let Some(channel) = self.channels.get(usize::from(number)) else {
            let text = format!("it belongs to no program: {}", hex(payload));
            return vec![Line::unsound(&format!("channel {number}"), text)];
        };
        match channel.decoder.get_or_init(|| Decoder::read(&channel.elf).map_err(|e| format!("{e:#}"))) {
            Ok(decoder) => decoder.lines(&channel.name, payload),
            Err(error) => vec![Line::unsound(&channel.name, format!("{} ({error})", hex(payload)))],
        }
    }
}

impl Decoder {
    fn read(path: &Path) -> Result<Decoder> {
        let elf = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let table = Table::parse(&elf)?.context("the program has no log strings (.defmt)")?;
        let locations = table.get_locations(&elf).unwrap_or_default();
        Ok(Decoder { table, formats: Formats::read(&elf)?, locations })
    }

    fn lines(&self, name: &str, mut payload: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        while !payload.is_empty() {
            if self.formats.is_excessive(payload) {
                let text = format!("log frame with too deep or too long values: {}", hex(payload));
                lines.push(Line::unsound(name, text));
                break;
            }
            match self.table.decode(payload) {
                Ok((frame, used)) => {
                    lines.push(self.line(name, &frame));
                    payload = &payload[used..];
                }
                Err(error) => {
                    let why = match error {
                        DecodeError::UnexpectedEof => "cut short",
                        DecodeError::Malformed => "malformed",
                    };
                    lines.push(Line::unsound(name, format!("{why} log frame: {}", hex(payload))));
                    break;
                }
            }
        }
        lines
    }

    fn line(&self, name: &str, frame: &defmt_decoder::Frame<'_>) -> Line {
        let stamp = frame.display_timestamp().map(|stamp| stamp.to_string()).unwrap_or_default();
        let (time, cpu) = when_and_where(&stamp);
        let place = self.locations.get(&frame.index()).map(|location| {
            let file = location.file.file_name().unwrap_or(location.file.as_os_str());
            format!("{}:{}", file.to_string_lossy(), location.line)
        });
        Line {
            part: name.to_owned(),
            level: frame.level(),
            time,
            cpu,
            // A program chooses it: what looks like another line is none.
            text: tail::one_line(&frame.display_message().to_string()),
            place: place.unwrap_or_default(),
            is_sound: true,
        }
    }
}

/// Splits a time stamp, which is seconds and the number of a CPU, into the two as they are shown.
fn when_and_where(stamp: &str) -> (String, String) {
    match stamp.split_once(' ') {
        Some((seconds, cpu)) => (seconds.to_owned(), format!("cpu{cpu}")),
        None => (stamp.to_owned(), String::new()),
    }
}

fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 32;
    let mut text: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x} ")).collect();
    if bytes.len() > SHOWN {
        text.push_str(&format!("… {} bytes", bytes.len()));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_decoded_is_shown_not_lost() {
        let programs = [Program { name: "init".into(), elf: "/nonexistent".into() }];
        let logs = Logs::new(Path::new("/nonexistent"), &programs);
        let said = |number, payload: &[u8]| logs.render(number, payload)[0].to_string();
        assert!(said(1, &[1, 0xab]).starts_with("init: 01 ab (reading /nonexistent"));
        assert_eq!(said(9, &[]), "channel 9: it belongs to no program: ");
        assert!(hex(&[0; 40]).ends_with("… 40 bytes"));
    }

    #[test]
    fn a_line_has_columns_and_no_colours_in_a_file() {
        let (time, cpu) = when_and_where("1.000250 3");
        let line = Line {
            part: "pager".to_owned(),
            level: Some(Level::Warn),
            time,
            cpu,
            text: "client 2 ends".to_owned(),
            place: "serve.rs:63".to_owned(),
            is_sound: true,
        };
        console::set_colors_enabled(false);
        assert_eq!(line.to_string(), "    1.000250 cpu3  pager    WARN  client 2 ends  (serve.rs:63)");
        assert_eq!(when_and_where(""), (String::new(), String::new()));
    }
}
