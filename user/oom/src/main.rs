//! An out-of-memory policy: a pager asks it before it refuses memory.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod policy;

use protocols::oom::{self, Refusal, answer, request};
use user_rt::ipc::{Event, Message, Received, recv, reply_recv};
use user_rt::paging::{Advice, HOLDERS_MAX, Holder, advise, question};
use user_rt::talk::{put, with_bytes};
use user_rt::{debug, warn};

user_rt::program!(begin);

fn begin(_: u64) -> ! {
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(call)) => reply_recv(&answer(&call)),
            _ => recv(),
        };
    }
}

fn answer(call: &Received) -> Message {
    with_bytes(&call.message, |bytes| {
        oom::serve(&mut Rule, call, call.message.label, bytes, |answer| put(oom::ANSWER, answer))
    })
}

struct Rule;

impl oom::Server<Received> for Rule {
    fn advice(
        &mut self,
        _: &Received,
        asked: request::Reader<'_>,
        answer: answer::advice::Builder<'_>,
    ) -> Result<(), Refusal> {
        let mut holders = [Holder::default(); HOLDERS_MAX];
        let question = question(asked, &mut holders)?;
        let advice = policy::advice(&question);
        match advice {
            Advice::Kill(client) => warn!("client {} ends, for client {}", client, question.asker),
            Advice::Evict(client) => {
                debug!("client {} gives pages away, for client {}", client, question.asker)
            }
            Advice::Refuse => debug!("client {} is refused memory", question.asker),
        }
        advise(advice, answer);
        Ok(())
    }
}
