//! A line to a person, by the protocol of `schema/console.capnp`.
//!
//! The connection is [made again](crate::names) when its driver was started again. What was being
//! written then is written again, so a part of it may appear twice. What came meanwhile is lost.

use abi::Cap;
use protocols::Failure;
use protocols::console::{BYTES_MAX, Client, Refusal as Denial};

use crate::Refusal;
use crate::names::{NameError, Service, ends_connection};
use crate::talk::Line;

/// A console that a process uses by a name of its description.
#[derive(Debug)]
pub struct Console {
    service: Service,
}

/// Why nothing can be written or read.
#[derive(Debug)]
pub enum ConsoleError {
    /// The driver refuses it.
    Refused(Denial),
    /// The driver answers nonsense.
    Malformed,
    /// The driver cannot be called.
    Call(Refusal),
    /// There is no connection, and there will be none.
    Connection(NameError),
}

impl Console {
    /// Connects to the console that a name means. `slot` is empty.
    pub fn connect(name: &'static str, slot: Cap) -> Result<Console, NameError> {
        Ok(Console { service: Service::connect(name, slot)? })
    }

    /// Writes all bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ConsoleError> {
        for some in bytes.chunks(BYTES_MAX.into()) {
            self.ask(|driver| driver.write(|mut write| write.set_bytes(some)))?;
        }
        Ok(())
    }

    /// Waits until bytes have come, and copies the first ones. Returns how many. `into` has room
    /// for one at least.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, ConsoleError> {
        let most = into.len().min(BYTES_MAX.into());
        self.ask(|driver| {
            driver.read(
                |mut read| read.set_most(most as u16),
                |came| {
                    let bytes = came.get_bytes()?;
                    let count = bytes.len().min(most);
                    into[..count].copy_from_slice(&bytes[..count]);
                    Ok(count)
                },
            )
        })
    }

    /// Asks the driver, and once more each time that it was started again.
    fn ask<T>(
        &mut self,
        mut question: impl FnMut(Client<Line>) -> Result<T, Failure<Denial, Refusal>>,
    ) -> Result<T, ConsoleError> {
        loop {
            let refusal = match question(Client(Line::to(self.service.server(0)))) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Refused(denial)) => return Err(ConsoleError::Refused(denial)),
                Err(Failure::Malformed) => return Err(ConsoleError::Malformed),
                Err(Failure::Transport(refusal)) => refusal,
            };
            if !ends_connection(&refusal) {
                return Err(ConsoleError::Call(refusal));
            }
            self.service.reconnect(&refusal).map_err(ConsoleError::Connection)?;
        }
    }
}
