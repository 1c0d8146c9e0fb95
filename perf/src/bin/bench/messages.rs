//! Compares messages that describe themselves with messages that are built by hand: user code only,
//! no system call.

use core::hint::black_box;

use abi::Grant;
use protocols::echo::{self, Refusal, answer, request};
use protocols::{Given, Transport, capnp, compose_plain, open};
use user_rt::grants::Caps;
use user_rt::ipc::{Message, Received};
use user_rt::talk::{put, put_giving, with_bytes};

use crate::block::Block;
use crate::measure::measure;

/// A server that only adds.
struct Adder;

impl echo::Server<Received> for Adder {
    type Grant = Grant;

    fn add(
        &mut self,
        _: &Received,
        asked: request::add::Reader<'_>,
        mut answer: answer::add::Builder<'_>,
    ) -> Result<(), Refusal> {
        answer.set_sum(asked.get_left().checked_add(asked.get_right()).ok_or(Refusal::Overflow)?);
        Ok(())
    }

    fn letter(
        &mut self,
        _: &Received,
        _: request::letter::Reader<'_>,
        _: answer::letter::Builder<'_>,
    ) -> Result<(), Refusal> {
        Err(Refusal::BadRequest)
    }

    fn keep(
        &mut self,
        _: &Received,
        _: request::keep::Reader<'_>,
        _: answer::keep::Builder<'_>,
    ) -> Result<(), Refusal> {
        Err(Refusal::BadRequest)
    }

    fn nothing(&mut self, _: &Received) -> Result<(), Refusal> {
        Err(Refusal::BadRequest)
    }

    fn fetch(
        &mut self,
        _: &Received,
        _: answer::fetch::Builder<'_>,
        _: &mut Given<Grant>,
    ) -> Result<(), Refusal> {
        Err(Refusal::BadRequest)
    }
}

/// A channel without the kernel: the request is read and answered in the buffer that it would be
/// sent from, and so is the reply.
struct Here;

impl Transport for Here {
    type Error = core::convert::Infallible;
    type Grant = Grant;
    type Caps = Caps;

    fn call<R>(
        &self,
        label: u32,
        message: &[u8],
        grants: &[Grant],
        read: impl FnOnce(u32, &[u8], &mut Caps) -> R,
    ) -> Result<R, Self::Error> {
        let message = black_box(put_giving(label, message, grants));
        let call = Received {
            message,
            exposure: 0,
            sender: abi::TaskId::NONE,
            custom: 0,
            fault: false,
            forwarded: false,
        };
        let answer = with_bytes(&call.message, |bytes| {
            echo::serve(&mut Adder, &call, call.message.label, bytes, |answer, grants| {
                put_giving(echo::ANSWER, answer, grants)
            })
        });
        let answer = black_box(answer);
        Ok(with_bytes(&answer, |bytes| read(answer.label, bytes, &mut Caps::default())))
    }
}

fn build(left: u32, right: u32) -> Message {
    let fill = |request: request::Builder<'_>| {
        let mut add = request.init_add();
        add.set_left(left);
        add.set_right(right);
    };
    compose_plain::<request::Owned, 5, _>(fill, |bytes| put(echo::LABEL, bytes))
}

fn read(message: &Message) -> Option<u32> {
    with_bytes(message, |bytes| -> Result<Option<u32>, capnp::Error> {
        let opened = open(bytes);
        match opened.get_root::<request::Reader<'_>>()?.which()? {
            request::Add(add) => Ok(Some(add.get_left() + add.get_right())),
            _ => Ok(None),
        }
    })
    .ok()
    .flatten()
}

fn add(left: u32, right: u32) -> Option<u32> {
    let fill = |mut add: request::add::Builder<'_>| {
        add.set_left(left);
        add.set_right(right);
    };
    echo::Client(Here).add(fill, |answer: answer::add::Reader<'_>| Ok(answer.get_sum())).ok()
}

/// Adds with numbers and registers instead of a schema.
fn by_hand(left: u64, right: u64) -> u64 {
    let message = black_box(Message::new(7, [left, right, 0, 0]));
    let answer = match message.label {
        7 => Message::new(0, [message.regs[0] + message.regs[1], 0, 0, 0]),
        _ => Message::new(1, [0; 4]),
    };
    let answer = black_box(answer);
    if answer.label == 0 { answer.regs[0] } else { u64::MAX }
}

/// Builds a request with two numbers.
pub extern "C" fn message_build_client(index: u64) -> ! {
    measure(Block::at(index), || black_box(build(black_box(40), black_box(2))).words == 0)
}

/// Reads a request with two numbers.
pub extern "C" fn message_read_client(index: u64) -> ! {
    let message = build(40, 2);
    measure(Block::at(index), || read(black_box(&message)) == Some(42))
}

/// Builds a request, reads and answers it, and reads the reply.
pub extern "C" fn message_both_client(index: u64) -> ! {
    measure(Block::at(index), || add(black_box(40), black_box(2)) == Some(42))
}

/// Adds with numbers and registers instead of a schema, as a row.
pub extern "C" fn message_by_hand_client(index: u64) -> ! {
    measure(Block::at(index), || by_hand(black_box(40), black_box(2)) == 42)
}
