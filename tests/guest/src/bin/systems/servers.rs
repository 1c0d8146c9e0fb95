//! The servers, and what they are asked.

use abi::Cap;
use protocols::Failure;
use protocols::names::Refusal as Denial;
use user_rt::cap::{Group, Handle, Notification};
use user_rt::ipc::{Event, Message, Patience, Received, recv, recv_within, reply, reply_recv};
use user_rt::layout::slot as slots;
use user_rt::names::{Service, ends_connection};
use user_rt::spawn::{Nursery, own};
use user_rt::supervisor::PARENT;
use user_rt::{Refusal, boot, invoke, supervisor, utcb};

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
/// The label of a call that keeps its server busy until that is killed.
pub const HELD: u32 = 100;
/// The label of a call at which a `beater` runs for ever.
pub const HANG: u32 = 101;
/// The label of a call at which a `hoard` asks for more pages than it may have. The answer: why it
/// does not get them.
pub const GREEDY: u32 = 102;
/// Milliseconds between two of its signs of life.
const BEAT_MS: u64 = 5;
/// Clients that are counted apart, by their custom bits.
const CLIENTS: usize = 16;
/// Seconds after which a call is lost that was not answered.
const PATIENCE_S: u64 = 20;

/// Where a process of these systems has its connections.
pub const fn slot(number: u32) -> Cap {
    Cap(slots::GROUPS.0 + number)
}

/// Answers calls. A label that names a way ends the process in that way.
pub fn serve(mut answer: impl FnMut(&Received) -> Message) -> ! {
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(call)) => {
                if let Some(way) = Way::ALL.into_iter().find(|way| *way as u32 == call.message.label) {
                    way.end();
                }
                reply_recv(&answer(&call))
            }
            Ok(Event::Bits(_)) => recv(),
            Err(refusal) => panic!("listening: {refusal}"),
        };
    }
}

/// Makes a message of one number, the own task and its CPU.
pub fn of(number: u64) -> Message {
    let cpu = invoke::who_am_i().map_or(u64::MAX, |(_, cpu)| cpu.into());
    Message { regs: [number, utcb::current().task_id().raw(), cpu, 0], ..Message::default() }
}

pub fn count() -> ! {
    let mut counts = [0; CLIENTS];
    let mut bell = None;
    serve(|call| {
        if call.message.label == HELD {
            let bell = bell.get_or_insert_with(make_bell);
            loop {
                sleep(bell, boot::facts().tsc_hz);
            }
        }
        let count = &mut counts[usize::from(call.custom) % CLIENTS];
        *count += 1;
        of(*count)
    })
}

/// Counts calls, and gives a sign of life at least every few milliseconds, until it is told to
/// hang.
pub fn beat() -> ! {
    let pause = boot::facts().tsc_hz / 1_000 * BEAT_MS;
    let mut count = 0;
    loop {
        supervisor::say_alive().unwrap_or_else(|refusal| panic!("a sign of life: {refusal}"));
        match recv_within(Patience::Until(user_rt::arch::now() + pause)) {
            Ok(Event::Call(call)) if call.message.label == HANG => run(),
            Ok(Event::Call(_)) => {
                count += 1;
                // The caller may be gone.
                _ = reply(&of(count));
            }
            Ok(Event::Bits(_)) => {}
            Err(refusal) if refusal.error == abi::Error::Timeout => {}
            Err(refusal) => panic!("listening: {refusal}"),
        }
    }
}

/// Makes a Notification, of the memory that its description gives the process.
fn make_bell() -> Notification {
    Nursery::of_program(0).make(0).unwrap_or_else(|refusal| panic!("no Notification: {refusal}"))
}

/// Waits for so many ticks.
pub fn sleep(bell: &Notification, ticks: u64) {
    let until = user_rt::arch::now() + ticks;
    bell.sleep_until(until).unwrap_or_else(|refusal| panic!("waiting: {refusal}"));
}

/// Calls a counter all the time, and sees that it counts each call once. One that does not answer
/// in time is an error.
pub fn load() -> ! {
    let mut counter = Counted::connect("counter", slot(0));
    loop {
        counter.count_or_reconnect();
    }
}

/// A connection to a counter, with what is known of it.
pub struct Counted {
    service: Service,
    /// Its task, and how far it has counted for this client.
    server: u64,
    count: u64,
}

impl Counted {
    /// # Panics
    /// There is none.
    pub fn connect(name: &'static str, slot: Cap) -> Counted {
        let service = Service::connect(name, slot);
        let service = service.unwrap_or_else(|error| panic!("no {name}: {error:?}"));
        Counted { service, server: 0, count: 0 }
    }

    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Lets it count.
    ///
    /// # Panics
    /// It has counted a call twice, or not at all; or it does not answer.
    pub fn count(&mut self) -> user_rt::Result<()> {
        let message = Message { label: COUNT, ..Message::default() };
        let until = Patience::Until(user_rt::arch::now() + boot::facts().tsc_hz * PATIENCE_S);
        let answer = self.service.server(0).call_within(&message, until)?;
        let [count, server, ..] = answer.regs;
        let expected = match self.server {
            // An earlier process may have been this one's predecessor, with the same custom bits.
            0 => count,
            known if known == server => self.count + 1,
            _ => 1,
        };
        assert_eq!(
            count,
            expected,
            "lost: {} of task {server:#x}, after {}",
            self.service.name(),
            self.server
        );
        (self.server, self.count) = (server, count);
        Ok(())
    }

    /// Lets it count, by another server if this one has ended.
    pub fn count_or_reconnect(&mut self) {
        while let Err(refusal) = self.count() {
            reconnect(&mut self.service, &refusal);
        }
    }
}

/// Connects again after an error of a call.
///
/// # Panics
/// The error says something else, or there is no server any more.
pub fn reconnect(service: &mut Service, refusal: &Refusal) {
    assert!(ends_connection(refusal), "stuck: calling {}: {refusal}", service.name());
    let again = service.reconnect(refusal);
    again.unwrap_or_else(|error| panic!("stuck: connecting to {} again: {error:?}", service.name()));
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
