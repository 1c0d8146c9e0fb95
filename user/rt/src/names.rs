//! Connections by name: a process asks its parent for a membership in the group that a name means
//! to it, by the protocol of `schema/names.capnp`. The book's page *Systems* says how a description
//! gives names to a process.
//!
//! ```text
//! let mut log = Service::connect("log", slot)?;
//! match log.server(0).call(&message) {
//!     Err(refusal) if ends_connection(&refusal) => log.reconnect(&refusal)?,
//!     other => …
//! }
//! ```
//!
//! # When a server ends
//! A call that the server had not answered fails with [`Error::Dead`], which names the server's
//! task. The parent ends the connections of all its clients: further calls fail with
//! [`Error::NotMember`], until the client connects again. So no client takes a server that was
//! started again for the one that it knew.

use abi::{Cap, Error, TaskId};
use protocols::Failure;
use protocols::names::{Client, Refusal as Denial};

use crate::Refusal;
use crate::cap::{Exposure, Group, Handle};
use crate::spawn::own;
use crate::supervisor::to_parent;
use crate::talk::Line;

/// Why there is no connection: the parent refused it, or could not be asked.
pub type NameError = Failure<Denial, Refusal>;

/// Why a server gives no answer. `R` is what its protocol calls a refusal.
#[derive(Debug)]
pub enum AskError<R> {
    /// The server refuses.
    Refused(R),
    /// The server answers nonsense.
    Malformed,
    /// The server cannot be called.
    Call(Refusal),
    /// There is no connection, and there will be none.
    Connection(NameError),
}

fn parent() -> Client<Line> {
    Client(to_parent())
}

fn ask(name: &'static str, slot: Cap, dead: TaskId) -> Result<Service, NameError> {
    parent().connect(|mut connect| {
        connect.set_name(name);
        connect.set_slot(slot.0);
        connect.set_dead(dead.raw());
    })?;
    Ok(Service { name, slot })
}

/// Whether an error of a call says that the connection has ended.
pub fn ends_connection(refusal: &Refusal) -> bool {
    // The slot is empty after an attempt to connect again that was in vain.
    let gone = Error::NoCapability;
    let ends = matches!(refusal.error, Error::Dead | Error::NotMember | Error::NoExposure | Error::Dying);
    ends || refusal.error == gone
}

/// A connection by name: a slot in which the process has its capability of the group. It is one
/// task's: another one would not learn that the connection is a new one.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    slot: Cap,
}

impl Service {
    /// Connects to the group that a name means to this process. Waits until its servers run; one
    /// task of the process can wait, and another one that begins to wait makes it fail with `Busy`.
    /// `slot` is empty.
    pub fn connect(name: &'static str, slot: Cap) -> Result<Service, NameError> {
        ask(name, slot, TaskId::NONE)
    }

    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub fn group(&self) -> Group {
        Group::at(self.slot)
    }

    /// Returns a server of the group, by the index of its exposure.
    pub fn server(&self, index: u32) -> Exposure {
        self.group().exposure(index)
    }

    /// Connects again, in the same slot, after the connection has ended by this refusal of a call.
    /// If it names a dead server, waits until that has been started again.
    pub fn reconnect(&mut self, refusal: &Refusal) -> Result<(), NameError> {
        own::cnode().delete(self.slot).map_err(Failure::Transport)?;
        let dead = if refusal.error == Error::Dead { refusal.who } else { TaskId::NONE };
        *self = ask(self.name, self.slot, dead)?;
        Ok(())
    }

    /// Asks the first server. Repeats the question after each restart of the server, which may have
    /// carried it out before.
    pub fn ask<T, R>(
        &mut self,
        mut question: impl FnMut(Line) -> Result<T, Failure<R, Refusal>>,
    ) -> Result<T, AskError<R>> {
        loop {
            let refusal = match question(Line::to(self.server(0))) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Refused(denial)) => return Err(AskError::Refused(denial)),
                Err(Failure::Malformed) => return Err(AskError::Malformed),
                Err(Failure::Transport(refusal)) => refusal,
            };
            if !ends_connection(&refusal) {
                return Err(AskError::Call(refusal));
            }
            self.reconnect(&refusal).map_err(AskError::Connection)?;
        }
    }

    /// Ends the connection, and empties its slot.
    pub fn leave(self) -> Result<(), NameError> {
        let left = parent().leave(|mut leave| leave.set_name(self.name));
        own::cnode().delete(self.slot).map_err(Failure::Transport)?;
        left
    }
}
