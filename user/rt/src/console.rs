//! A line to a person, by the protocol of `schema/console.capnp`.
//!
//! The connection is [made again](crate::names) when its driver was started again. What was being
//! written then is written again, so a part of it may appear twice. What came meanwhile is lost.

use abi::Cap;
use protocols::console::{BYTES_MAX, Client, Refusal as Denial};

use crate::names::{AskError, NameError, Service};

/// A console that a process uses by a name of its description.
#[derive(Debug)]
pub struct Console {
    service: Service,
}

/// Why nothing can be written or read.
pub type ConsoleError = AskError<Denial>;

impl Console {
    /// Connects to the console that a name means. `slot` is empty.
    pub fn connect(name: &'static str, slot: Cap) -> Result<Console, NameError> {
        Ok(Console { service: Service::connect(name, slot)? })
    }

    /// Writes all bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ConsoleError> {
        for some in bytes.chunks(BYTES_MAX.into()) {
            self.service.ask(|driver| Client(driver).write(|mut write| write.set_bytes(some)))?;
        }
        Ok(())
    }

    /// Waits until bytes have come, and copies the first ones. Returns how many. `into` has room
    /// for one at least.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, ConsoleError> {
        let most = into.len().min(BYTES_MAX.into());
        self.service.ask(|driver| {
            Client(driver).read(
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
}
