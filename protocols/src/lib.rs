//! The messages between the system's programs: schemas in [Cap'n Proto](https://capnproto.org)'s
//! language, and the code that the build generates from them. The book's page *Messages that
//! describe themselves* explains them.
//!
//! Each schema is a module: readers and builders of its structs, a [`Client`](store::Client), a
//! [`Server`](store::Server) trait, and two labels that identify its messages. A schema without
//! requests describes a file, as [`system`] does.
//!
//! # Properties
//! - A message is one segment. Its label names the struct with which it begins, and the compiled-in
//!   schemas describe the rest ([`ROOTS`]), so any program can print a message.
//! - Messages are read in place, and only the fields that the program asks for. The bytes must not
//!   change during reading: [`open`] takes a slice, and Rust's rules require that. If another
//!   process may write them, copy them first.
//! - Whatever the bytes are, reading ends with a value or an error: nesting and the number of
//!   visited words have limits.
//! - Nothing is allocated. The sender provides the buffer in which a message is built.
//! - A [`Transport`] carries messages, so all of this runs on the host, too.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod capability;
pub mod raw;
pub mod show;
pub mod system;

use capnp::message::{Builder, Reader, ReaderOptions, ReaderSegments, SingleSegmentAllocator};
use capnp::traits::{HasStructSize, Owned};
use capnp::{Word, any_pointer, dynamic_struct, dynamic_value};

pub use capability::{Full, Given};
pub use capnp;

macro_rules! generated {
    ($($name:ident)*) => {$(
        #[allow(clippy::all, missing_docs, rustdoc::all)]
        mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        }
    )*};
}

generated! {
    clients_capnp clock_capnp console_capnp devices_capnp echo_capnp edu_capnp log_capnp manager_capnp names_capnp oom_capnp
    pager_capnp power_capnp store_capnp supervisor_capnp system_capnp tasks_capnp
}

#[allow(clippy::all)]
mod stubs {
    include!(concat!(env!("OUT_DIR"), "/stubs.rs"));
}

pub use stubs::*;

/// Words that travel in registers, and at most in the UTCB behind them.
pub const REGISTERS: usize = 4;
pub const UTCB_WORDS: usize = 64;
/// Words of the longest message that travels without pages.
pub const WORDS_MAX: usize = REGISTERS + UTCB_WORDS;

/// Structs in structs, at most.
const NESTING_MAX: i32 = 16;
/// Words that a reader visits: so many, and a few times what there are.
const VISITS_MIN: usize = 256;
const VISITS_PER_WORD: usize = 8;

/// Asks somebody.
pub trait Transport {
    type Error;
    /// How a capability is given: what the kernel is told.
    type Grant;
    /// The capabilities that came with an answer, by their places.
    type Caps;

    /// Sends a message, with capabilities, and waits for what answers it, which is read where it
    /// came.
    fn call<R>(
        &self,
        label: u32,
        message: &[u8],
        grants: &[Self::Grant],
        read: impl FnOnce(u32, &[u8], &mut Self::Caps) -> R,
    ) -> Result<R, Self::Error>;
}

/// Why there is no answer to what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure<R, E> {
    /// The server says so.
    Refused(R),
    /// What came is no answer.
    Malformed,
    /// It could not be asked.
    Transport(E),
}

impl<R, E> From<capnp::Error> for Failure<R, E> {
    fn from(_: capnp::Error) -> Self {
        Failure::Malformed
    }
}

impl<R, E> From<capnp::NotInSchema> for Failure<R, E> {
    fn from(_: capnp::NotInSchema) -> Self {
        Failure::Malformed
    }
}

/// What a message can begin with.
#[derive(Clone, Copy)]
pub struct Root {
    pub protocol: &'static str,
    /// Its struct: `Request` or `Answer`, or the file's.
    pub name: &'static str,
    pub label: u32,
    /// It, as what can tell the names of its fields.
    pub read: for<'a> fn(any_pointer::Reader<'a>) -> capnp::Result<dynamic_value::Reader<'a>>,
}

/// A field that points to a capability.
#[derive(Clone, Copy)]
pub struct CapField {
    /// The id of the struct that has it, and its name there.
    pub id: u64,
    pub name: &'static str,
    /// The place that it says.
    pub place: fn(dynamic_struct::Reader<'_>) -> Option<u32>,
}

/// The label of messages that begin with the struct of this id. Ids have their highest bit set, and
/// so have labels: no number that was given by hand is one.
pub const fn label_of(id: u64) -> u32 {
    (id >> 32) as u32
}

/// The bytes of one message.
#[derive(Clone, Copy)]
pub struct Segment<'a>(&'a [u8]);

impl ReaderSegments for Segment<'_> {
    fn get_segment(&self, index: u32) -> Option<&[u8]> {
        (index == 0).then_some(self.0)
    }

    fn len(&self) -> usize {
        1
    }
}

/// A message, to be read where it is: whole words, and aligned, or else reading it is an error.
pub fn open(message: &[u8]) -> Reader<Segment<'_>> {
    let visits = VISITS_MIN + message.len() / size_of::<Word>() * VISITS_PER_WORD;
    let limits = ReaderOptions { traversal_limit_in_words: Some(visits), nesting_limit: NESTING_MAX };
    Reader::new(Segment(message), limits)
}

/// Words, and the bytes that they are.
#[derive(Clone, Copy, Debug)]
pub struct Words<const N: usize>([Word; N]);

impl<const N: usize> Words<N> {
    /// Those that the iterator gives, as many as there is room for, and zeroes.
    pub fn of(words: impl Iterator<Item = u64>) -> Words<N> {
        let mut all = Words::zeroed();
        for (bytes, word) in Word::words_to_bytes_mut(&mut all.0).as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        all
    }

    pub const fn zeroed() -> Words<N> {
        Words([capnp::word(0, 0, 0, 0, 0, 0, 0, 0); N])
    }

    pub fn bytes(&self) -> &[u8] {
        Word::words_to_bytes(&self.0)
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        Word::words_to_bytes_mut(&mut self.0)
    }
}

/// A word as messages have it.
pub const fn word(value: u64) -> Word {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    capnp::word(a, b, c, d, e, f, g, h)
}

/// The words of a message.
pub fn words_of(message: &[u8]) -> impl ExactSizeIterator<Item = u64> {
    message.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
}

/// Builds a message of up to `N` words on the stack, and hands it on; one that turns out to be an
/// error is none, and `emit` comes back.
///
/// # Panics
/// If it gets longer: `fill` must limit fields without a fixed size.
pub fn compose<T, const N: usize, R, E, F>(
    fill: impl FnOnce(T::Builder<'_>) -> Result<(), R>,
    emit: F,
) -> Result<E, (R, F)>
where
    T: Owned,
    for<'a> T::Builder<'a>: HasStructSize,
    F: FnOnce(&[u8]) -> E,
{
    let mut buffer = Words::<N>::zeroed();
    match compose_in::<T, R>(buffer.bytes_mut(), fill) {
        Ok(bytes) => Ok(emit(&buffer.bytes()[..bytes])),
        Err(error) => Err((error, emit)),
    }
}

/// Builds a message that carries capabilities: `emit` gets these, too.
pub fn compose_giving<T, G, const N: usize, R, E, F>(
    fill: impl FnOnce(T::Builder<'_>, &mut Given<G>) -> Result<(), R>,
    emit: F,
) -> Result<E, (R, F)>
where
    T: Owned,
    for<'a> T::Builder<'a>: HasStructSize,
    F: FnOnce(&[u8], &[G]) -> E,
{
    let mut buffer = Words::<N>::zeroed();
    let mut given = Given::nothing();
    match compose_giving_in::<T, G, R>(buffer.bytes_mut(), &mut given, fill) {
        Ok(bytes) => Ok(emit(&buffer.bytes()[..bytes], given.grants())),
        Err(error) => Err((error, emit)),
    }
}

/// Builds a message in a buffer of whole and aligned words, and leaves it there, at the front: how
/// many bytes it has.
///
/// # Panics
/// Where it gets longer than the buffer.
pub fn compose_in<T, R>(
    buffer: &mut [u8],
    fill: impl FnOnce(T::Builder<'_>) -> Result<(), R>,
) -> Result<usize, R>
where
    T: Owned,
    for<'a> T::Builder<'a>: HasStructSize,
{
    let mut message = Builder::new(SingleSegmentAllocator::new(buffer));
    fill(message.init_root::<T::Builder<'_>>())?;
    let bytes = message.get_segments_for_output().first().map_or(0, |segment| segment.len());
    // Dropping it would clear the buffer.
    core::mem::forget(message);
    Ok(bytes)
}

/// Builds a message that carries capabilities in a buffer.
pub fn compose_giving_in<T, G, R>(
    buffer: &mut [u8],
    given: &mut Given<G>,
    fill: impl FnOnce(T::Builder<'_>, &mut Given<G>) -> Result<(), R>,
) -> Result<usize, R>
where
    T: Owned,
    for<'a> T::Builder<'a>: HasStructSize,
{
    let bytes = compose_in::<T, R>(buffer, |root| fill(root, given))?;
    given.write(&mut buffer[..bytes]);
    Ok(bytes)
}

/// Builds what cannot fail.
pub fn compose_plain<T, const N: usize, E>(
    fill: impl FnOnce(T::Builder<'_>),
    emit: impl FnOnce(&[u8]) -> E,
) -> E
where
    T: Owned,
    for<'a> T::Builder<'a>: HasStructSize,
{
    let filled = |root: T::Builder<'_>| -> Result<(), core::convert::Infallible> {
        fill(root);
        Ok(())
    };
    match compose::<T, N, _, E, _>(filled, emit) {
        Ok(done) => done,
        Err((never, _)) => match never {},
    }
}
