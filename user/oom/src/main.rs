//! An out-of-memory policy: a pager asks it before it refuses memory.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod policy;

use user_rt::ipc::{Event, Message, Received, recv, reply_recv};
use user_rt::paging::{Advice, HOLDERS_MAX, Holder, advise, question};

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
    let mut holders = [Holder::default(); HOLDERS_MAX];
    let asked = question(call, &mut holders).filter(|_| !call.fault);
    advise(asked.map_or(Advice::Refuse, |question| policy::advice(&question)))
}
