//! The shell: a person looks at the system, and ends and restarts its processes.
//!
//! ```text
//!   main ── edit ── keys           lines of a person
//!     │       └── terminal         a console, by the name `console` of the description
//!   commands ── processes, machine, log, services
//! ```
//!
//! What the shell may do is in its description: it asks process 1 (`controls`), and the kernel
//! about the machine (`machine`). Everything else is refused, and the shell says so.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod commands;
mod edit;
mod keys;
mod log;
mod machine;
mod processes;
mod services;
mod terminal;

use core::fmt::{self, Write};

use abi::Cap;
use abi::level::Level;
use user_rt::cap::Notification;
use user_rt::console::Console;
use user_rt::info;
use user_rt::journal::Journal;
use user_rt::names::NameError;
use user_rt::spawn::{Nursery, own};

use edit::{Editor, Outcome};
use keys::Keys;
use services::Services;
use terminal::Terminal;

user_rt::program!(begin);

const PROMPT: &str = "aurora> ";
/// The name of the console in the description.
const CONSOLE: &str = "console";

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Done,
    /// It was refused, or was no command. The person has been told why.
    Failed,
}

/// A shell, as its commands see it.
pub struct Shell {
    pub out: Terminal,
    /// On which nobody rings: to wait for a time.
    pub bell: Notification,
    /// The system's log, if there is one, and the slot of its connection.
    pub journal: Option<Journal>,
    log_slot: Cap,
    services: Services,
    /// The status of the last command.
    pub status: Status,
}

fn begin(_: u64) -> ! {
    let mut nursery = Nursery::of_program(0);
    let slot = nursery.take_slot().expect("a slot");
    let bell = nursery.make(0).expect("a Notification");
    let console = Console::connect(CONSOLE, slot).expect("a console");
    let log_slot = nursery.take_slot().expect("a slot");
    let services = Services::new([(); 2].map(|()| nursery.take_slot().expect("a slot")));
    info!("begins");
    let out = Terminal::new(console);
    let mut shell = Shell { out, bell, log_slot, services, journal: None, status: Status::Done };
    // Without one, the shell keeps what it does to itself.
    _ = shell.connect_to_log();
    let ended = shell.run();
    panic!("the console is gone: {ended:?}, {:?}", shell.out.broken)
}

impl Shell {
    fn run(&mut self) -> fmt::Result {
        writeln!(self.out, "Aurora. `help` lists the commands.")?;
        let mut editor = Editor::default();
        let mut keys = Keys::default();
        loop {
            self.out.write_str(PROMPT)?;
            match self.line(&mut editor, &mut keys)? {
                Outcome::Line(line) => self.status = commands::run(self, &line)?,
                Outcome::End => {
                    self.out.write_char('\n')?;
                    self.exit()?;
                }
                Outcome::Cancelled | Outcome::More => {}
            }
        }
    }

    fn line(&mut self, editor: &mut Editor, keys: &mut Keys) -> Result<Outcome, fmt::Error> {
        loop {
            let byte = self.out.next()?;
            let Some(key) = keys.push(byte) else { continue };
            match editor.press(key, &mut self.out)? {
                Outcome::More => {}
                other => return Ok(other),
            }
        }
    }

    /// Connects to the system's log.
    pub fn connect_to_log(&mut self) -> Result<(), NameError> {
        self.journal = Some(Journal::connect(log::GROUP, self.log_slot)?);
        Ok(())
    }

    /// Writes a line to the system's log, if there is one.
    pub fn note(&mut self, line: fmt::Arguments<'_>) {
        if let Some(journal) = &mut self.journal {
            // A log that is gone keeps nobody from working.
            _ = journal.write(Level::Info, line);
        }
    }

    /// Ends the machine, with the status of the last command. Returns if that is refused.
    pub fn exit(&mut self) -> fmt::Result {
        self.out.flush()?;
        let refused = own::machine().exit(self.status == Status::Done);
        if let Err(refusal) = refused {
            writeln!(self.out, "this shell may not end the machine: {refusal}")?;
        }
        Ok(())
    }
}
