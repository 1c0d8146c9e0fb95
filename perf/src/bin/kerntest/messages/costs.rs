//! What a message costs that describes itself, beside one by hand: ticks of user code, which are instructions where those
//! are counted. They are reported; only that the messages are right is judged.

use core::hint::black_box;

use abi::Grant;
use protocols::echo::{self, answer, request};
use protocols::{Transport, capnp, compose_plain, open};
use user_rt::arch::timestamp;
use user_rt::grants::Caps;
use user_rt::ipc::{Message, Received};
use user_rt::report;
use user_rt::talk::{put, put_giving, with_bytes};

use super::Keeper;
use crate::expect_eq;
use crate::lab::Lab;
use crate::suite::Outcome;

const SAMPLES: usize = 64;

/// The least of some.
fn ticks<R>(mut what: impl FnMut() -> R) -> u64 {
    let one = |_| {
        let begin = timestamp();
        black_box(what());
        timestamp() - begin
    };
    (0..SAMPLES).map(one).min().unwrap_or(0)
}

/// Everything but the kernel: a request is put where it would be sent from, read and answered there, and so is the answer.
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
        let mut keeper = Keeper { caps: &mut Caps::default(), kept: &mut None };
        let answer = with_bytes(&call.message, |bytes| {
            echo::serve(&mut keeper, &call, call.message.label, bytes, |answer, grants| {
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

/// The same by numbers and registers.
fn by_hand(left: u64, right: u64) -> u64 {
    let message = black_box(Message::new(7, [left, right, 0, 0]));
    let answer = match message.label {
        7 => Message::new(0, [message.regs[0] + message.regs[1], 0, 0, 0]),
        _ => Message::new(1, [0; 4]),
    };
    let answer = black_box(answer);
    if answer.label == 0 { answer.regs[0] } else { u64::MAX }
}

pub fn what_typed_messages_cost(_: &mut Lab<'_>) -> Outcome {
    let message = build(40, 2);
    expect_eq!(message.words, 0, "words that do not fit registers");
    expect_eq!(read(&message), Some(42), "reading");
    expect_eq!(add(40, 2), Some(42), "asking");
    let nothing = ticks(|| ());
    let least = |ticks: u64| ticks.saturating_sub(nothing);
    let (build, read) =
        (least(ticks(|| build(black_box(40), black_box(2)))), least(ticks(|| read(black_box(&message)))));
    let both = least(ticks(|| add(black_box(40), black_box(2))));
    let hand = least(ticks(|| by_hand(black_box(40), black_box(2))));
    report!("message-cost build={build} read={read} request_and_answer={both} by_hand={hand}");
    Ok(())
}
