//! defmt frames to text, with the table of the program that sent them.
//!
//! A frame decoded with another program's table may give plausible nonsense, so every channel
//! knows its ELF file. Tables are read when a channel first speaks: a bench run, in which nobody
//! logs, never pays for them.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use console::style;
use defmt_decoder::{DecodeError, Locations, Table};
use defmt_parser::Level;

use crate::artifacts::Program;

struct Channel {
    name: String,
    elf: PathBuf,
    decoder: OnceCell<Result<Decoder, String>>,
}

struct Decoder {
    table: Table,
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

    /// The lines in a log record; one that cannot be decoded says why and shows its bytes.
    pub fn render(&self, number: u8, payload: &[u8]) -> Vec<String> {
        let Some(channel) = self.channels.get(usize::from(number)) else {
            return vec![format!("channel {number} belongs to no program: {}", hex(payload))];
        };
        match channel.decoder.get_or_init(|| Decoder::read(&channel.elf).map_err(|e| format!("{e:#}"))) {
            Ok(decoder) => decoder.lines(&channel.name, payload),
            Err(error) => vec![format!("{}: {} ({error})", channel.name, hex(payload))],
        }
    }
}

impl Decoder {
    fn read(path: &Path) -> Result<Decoder> {
        let elf = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let table = Table::parse(&elf)?.context("the program has no log strings (.defmt)")?;
        let locations = table.get_locations(&elf).unwrap_or_default();
        Ok(Decoder { table, locations })
    }

    fn lines(&self, name: &str, mut payload: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while !payload.is_empty() {
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
                    lines.push(format!("{name}: {why} log frame: {}", hex(payload)));
                    break;
                }
            }
        }
        lines
    }

    fn line(&self, name: &str, frame: &defmt_decoder::Frame<'_>) -> String {
        let level = frame.level().map_or(style("     "), |level| match level {
            Level::Trace => style("TRACE").dim(),
            Level::Debug => style("DEBUG").cyan(),
            Level::Info => style("INFO ").green(),
            Level::Warn => style("WARN ").yellow(),
            Level::Error => style("ERROR").red().bold(),
        });
        let time =
            frame.display_timestamp().map(|stamp| when_and_where(&stamp.to_string())).unwrap_or_default();
        let place = self.locations.get(&frame.index()).map(|location| {
            let file = location.file.file_name().unwrap_or(location.file.as_os_str());
            style(format!("  ({}:{})", file.to_string_lossy(), location.line)).dim().to_string()
        });
        format!("{time}{name:<8} {level} {}{}", frame.display_message(), place.unwrap_or_default())
    }
}

/// A record's time stamp, which is the seconds since the CPU's start and the number of the CPU, in columns.
fn when_and_where(stamp: &str) -> String {
    match stamp.split_once(' ') {
        Some((seconds, cpu)) => format!("{seconds:>12} {:<5} ", format!("cpu{cpu}")),
        None => format!("{stamp:>12} "),
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
        assert!(logs.render(1, &[1, 0xab])[0].starts_with("init: 01 ab (reading /nonexistent"));
        assert_eq!(logs.render(9, &[]), ["channel 9 belongs to no program: "]);
        assert!(hex(&[0; 40]).ends_with("… 40 bytes"));
    }
}
