//! The reason why a program that makes dozens of processes and objects cannot continue.

use core::fmt;
use core::panic::Location;

use user_rt::Refusal;
use user_rt::elf::ImageError;
use user_rt::spawn::SpawnError;

#[derive(Debug)]
pub enum Failure {
    /// The line, and the kernel's answer.
    Refused(&'static Location<'static>, Refusal),
    Spawn(SpawnError),
    Image(ImageError),
}

impl From<Refusal> for Failure {
    #[track_caller]
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(Location::caller(), refusal)
    }
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Failure {
        Failure::Spawn(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(place, refusal) => write!(f, "{}:{}: {refusal}", place.file(), place.line()),
            Failure::Spawn(error) => write!(f, "making a process: {error}"),
            Failure::Image(error) => write!(f, "its own file: {error}"),
        }
    }
}
