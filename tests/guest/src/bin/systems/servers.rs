//! The servers, and what they are asked.

use abi::Cap;
use protocols::Failure;
use protocols::names::Refusal as Denial;
use user_rt::cap::{Group, Handle};
use user_rt::ipc::{Event, Message, recv, reply_recv};
use user_rt::layout::slot as slots;
use user_rt::names::Service;
use user_rt::spawn::own;
use user_rt::supervisor::PARENT;
use user_rt::{supervisor, utcb};

/// What a `counter` does when the label of a call is that of a way, and how that ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Panic = 1,
    Fault = 2,
    /// It kills its own process.
    Kill = 3,
    /// It says that it is done.
    Done = 4,
    /// It says that it is done, and has failed.
    Failed = 5,
    /// It faults, and has named its parent as the handler, which handles none.
    Handled = 6,
}

impl Way {
    pub const ALL: [Way; 6] = [Way::Panic, Way::Fault, Way::Kill, Way::Done, Way::Failed, Way::Handled];

    fn end(self) -> ! {
        match self {
            Way::Panic => panic!("asked for"),
            Way::Fault => user_rt::arch::die(),
            Way::Kill => {
                let refused = own::process().kill();
                panic!("it lives: {refused:?}")
            }
            Way::Handled => {
                let parent = Group::at(slots::SUPERVISOR).exposure(PARENT);
                let named = own::process().fault_handler(Some(parent.0));
                named.unwrap_or_else(|refusal| panic!("naming a handler: {refusal}"));
                user_rt::arch::die()
            }
            Way::Done => supervisor::finish(1, 0),
            Way::Failed => supervisor::finish(0, 1),
        }
    }
}

/// The label of a call that is counted. The answer: how many there were, and the server's task.
pub const COUNT: u32 = 0;

/// Where a process of these systems has its connections.
pub const fn slot(number: u32) -> Cap {
    Cap(slots::GROUPS.0 + number)
}

fn serve(mut answer: impl FnMut(&Message) -> Message) -> ! {
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(call)) => reply_recv(&answer(&call.message)),
            Ok(Event::Bits(_)) => recv(),
            Err(refusal) => panic!("listening: {refusal}"),
        };
    }
}

/// Makes a message of one number.
fn of(number: u64) -> Message {
    Message { regs: [number, utcb::current().task_id().raw(), 0, 0], ..Message::default() }
}

pub fn count() -> ! {
    let mut count = 0;
    serve(|asked| {
        if let Some(way) = Way::ALL.into_iter().find(|way| *way as u32 == asked.label) {
            way.end();
        }
        count += 1;
        of(count)
    })
}

pub fn call() -> ! {
    loop {
        match Service::connect("counter", slot(0)).and_then(Service::leave) {
            // The counter may end between the two.
            Ok(()) | Err(Failure::Refused(Denial::NotConnected)) => {}
            Err(error) => panic!("connecting: {error:?}"),
        }
    }
}

pub fn run() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

pub fn last() -> ! {
    serve(|_| of(1))
}

pub fn link() -> ! {
    let next = Service::connect("next", slot(0));
    let next = next.unwrap_or_else(|error| panic!("no next link: {error:?}"));
    serve(|_| match next.server(0).call(&Message::default()) {
        Ok(answer) => of(answer.regs[0] + 1),
        Err(refusal) => panic!("the next link: {refusal}"),
    })
}
