//! A person, or a script, at the guest's first serial line. What the guest sends there is shown as
//! it comes, without waiting for the end of a line.
//!
//! COM1 is QEMU's standard input and output then. The output goes to a file as always, from which
//! it is shown.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc::{self, Receiver};

use anyhow::{Context, Result};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::termios::{self, OptionalActions, Termios};

use crate::monitor;
use crate::trouble::Trouble;

/// The source of what is typed at COM1.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Input {
    /// Nobody: it has no input.
    #[default]
    None,
    /// A script: each line is sent when the guest asks for one. `is_shown`: what the guest sends is
    /// shown.
    Script { lines: Vec<String>, is_shown: bool },
    /// A person at this terminal.
    Person,
}

/// How the guest asks for a line.
pub const PROMPT: &str = "aurora> ";
/// Characters of a line.
const LINE_MAX: usize = 71;
/// Ctrl-]: the person leaves.
const LEAVE: u8 = 0x1d;
/// Ctrl-D: the script has ended.
const END: u8 = 0x04;

impl Input {
    /// Returns the input for a guest that reads COM1: a script, a person, or what is piped here.
    pub fn of(script: Option<&Path>) -> Result<Input> {
        let text = match script {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| Trouble::Usage(format!("cannot read {}: {error}", file.display())))?,
            None if io::stdin().is_terminal() => return Ok(Input::Person),
            None => {
                eprintln!("reading the shell's commands from standard input, to its end");
                io::read_to_string(io::stdin()).context("reading the script from standard input")?
            }
        };
        if let Some(line) = text.lines().find(|line| line.len() > LINE_MAX) {
            let title =
                format!("the shell takes lines of at most {LINE_MAX} characters, and this is longer: {line}");
            return Err(Trouble::Usage(title).into());
        }
        Ok(Input::Script { lines: text.lines().map(str::to_owned).collect(), is_shown: true })
    }
}

/// The terminal of one boot.
pub struct Terminal {
    monitor: PathBuf,
    guest: ChildStdin,
    source: Source,
    is_shown: bool,
    /// On its way to the guest.
    typed: VecDeque<u8>,
    has_left: bool,
}

enum Source {
    Script { lines: VecDeque<String>, last: Vec<u8>, has_ended: bool },
    Person { keys: Receiver<Vec<u8>>, _raw: Raw },
}

impl Terminal {
    /// Begins with an input for a guest; `None` if there is none. `monitor` is the socket of QEMU's
    /// monitor.
    pub fn begin(input: &Input, guest: Option<ChildStdin>, monitor: &Path) -> Result<Option<Terminal>> {
        let Some(guest) = guest else { return Ok(None) };
        fcntl_setfl(&guest, OFlags::NONBLOCK).context("setting the guest's input")?;
        let (source, is_shown) = match input {
            Input::None => return Ok(None),
            Input::Script { lines, is_shown } => {
                let lines = lines.iter().cloned().collect();
                (Source::Script { lines, last: Vec::new(), has_ended: false }, *is_shown)
            }
            Input::Person => {
                eprintln!("Ctrl-] leaves, and ends the guest.");
                (Source::Person { keys: keys(), _raw: Raw::begin()? }, true)
            }
        };
        Ok(Some(Terminal {
            monitor: monitor.to_owned(),
            guest,
            source,
            is_shown,
            typed: VecDeque::new(),
            has_left: false,
        }))
    }

    /// Whether the person has left.
    pub const fn has_left(&self) -> bool {
        self.has_left
    }

    /// Shows what the guest has sent, and sends it what was typed.
    pub fn pass(&mut self, sent: &[u8]) -> Result<()> {
        if self.is_shown {
            let mut out = io::stdout().lock();
            out.write_all(sent).and_then(|()| out.flush()).context("writing to standard output")?;
        }
        match &mut self.source {
            Source::Person { keys, .. } => {
                for some in keys.try_iter() {
                    self.has_left |= some.contains(&LEAVE);
                    self.typed.extend(some);
                }
            }
            Source::Script { lines, last, has_ended } => {
                last.extend_from_slice(sent);
                last.drain(..last.len().saturating_sub(PROMPT.len()));
                if last == PROMPT.as_bytes() && !*has_ended {
                    last.clear();
                    match lines.pop_front() {
                        Some(line) => self.typed.extend(line.bytes().chain([b'\r'])),
                        None => {
                            self.typed.push_back(END);
                            *has_ended = true;
                        }
                    }
                }
            }
        }
        if self.has_left {
            monitor::quit(&self.monitor);
        }
        self.send();
        Ok(())
    }

    /// Sends as much as the guest takes now.
    fn send(&mut self) {
        while let (bytes, _) = self.typed.as_slices()
            && !bytes.is_empty()
        {
            match self.guest.write(bytes) {
                Ok(count @ 1..) => drop(self.typed.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}

/// Returns what comes from standard input, as it comes. A thread waits for it, until this process
/// ends.
fn keys() -> Receiver<Vec<u8>> {
    let (to, keys) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(count @ 1..) = io::stdin().read(&mut bytes) {
            if to.send(bytes[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    keys
}

/// A terminal that hands over each key, as long as this lives.
struct Raw(Termios);

impl Raw {
    fn begin() -> Result<Raw> {
        let was = termios::tcgetattr(io::stdin()).context("asking for the terminal's settings")?;
        let mut raw = was.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).context("setting the terminal")?;
        Ok(Raw(was))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
