//! Processes that send the servers of their system, and process 1, whatever comes to their mind;
//! and a witness who sees that others are served all the same.

use core::sync::atomic::Ordering::Relaxed;

use abi::level::Level;
use abi::{Cap, MSG_UTCB_WORDS};
use guest_tests::verdict::{Outcome, Tally};
use guest_tests::{expect, expect_eq};
use oorandom::Rand32;
use protocols::{Failure, clients, clock, console, devices, log, manager, names, tasks};
use user_rt::cap::{Group, Handle, Notification};
use user_rt::console::Console;
use user_rt::ipc::{Message, Patience};
use user_rt::journal::Journal;
use user_rt::layout::{FREE_SLOTS, slot as slots};
use user_rt::names::{Service, ends_connection};
use user_rt::spawn::{Nursery, own};
use user_rt::supervisor::{PARENT, to_parent};
use user_rt::talk::Line;
use user_rt::{Refusal, arch, boot, supervisor, utcb};

use crate::asker::supply_heap;
use crate::killer::{leaked, starts};
use crate::servers::{COUNT, Counted, slot};

/// Servers by the names of the description.
const SERVERS: [&str; 4] = ["console", "log", "clock", "counter"];
/// Labels of their answers, which are next to those of their requests, and of process 1's.
const LABELS: [u32; 9] = [
    console::ANSWER,
    log::ANSWER,
    clock::ANSWER,
    devices::ANSWER,
    manager::ANSWER,
    names::ANSWER,
    protocols::supervisor::ANSWER,
    clients::ANSWER,
    tasks::ANSWER,
];
/// Slots that a vandal has things put in.
const OWN_SLOTS: u32 = 8;
/// How long a vandal waits for an answer, in microseconds.
const PATIENCE_US: u64 = 300;

/// What the witness does before its verdict, how often.
const ROUNDS: u32 = 300;
/// Its custom bits in the group of the log.
const WITNESS: u16 = 1;

struct Vandal {
    random: Rand32,
    services: [Service; SERVERS.len()],
}

/// Sends messages until the machine ends.
pub fn vandalise() -> ! {
    let seed = boot::options().number("seed", 1).unwrap_or(1) ^ utcb::current().task_id().raw();
    let connect = |number: usize| {
        let service = Service::connect(SERVERS[number], slot(number as u32));
        service.unwrap_or_else(|error| panic!("no {}: {error:?}", SERVERS[number]))
    };
    let mut vandal = Vandal { random: Rand32::new(seed), services: core::array::from_fn(connect) };
    loop {
        let number = vandal.below(SERVERS.len() as u32) as usize;
        // Most of it is refused.
        let Err(refusal) = vandal.act(number) else { continue };
        if ends_connection(&refusal) {
            let again = vandal.services[number].reconnect(&refusal);
            again.unwrap_or_else(|error| panic!("connecting to {} again: {error:?}", SERVERS[number]));
        }
    }
}

/// Returns how a request ended for its connection.
fn ended<T, R>(result: Result<T, Failure<R, Refusal>>) -> user_rt::Result<()> {
    match result {
        Err(Failure::Transport(refusal)) => Err(refusal),
        _ => Ok(()),
    }
}

impl Vandal {
    fn below(&mut self, end: u32) -> u32 {
        self.random.rand_range(0..end)
    }

    /// Draws a number: a small one, any, or one next to a limit.
    fn number(&mut self) -> u64 {
        let any = u64::from(self.random.rand_u32()) << 32 | u64::from(self.random.rand_u32());
        match self.below(4) {
            0 => any % 8,
            1 => any,
            2 => u64::MAX >> (any % 64),
            _ => (1 << (any % 64)) + any % 3 - 1,
        }
    }

    fn patience(&self) -> Patience {
        Patience::Until(arch::now() + boot::facts().tsc_hz / 1_000_000 * PATIENCE_US)
    }

    /// Does something to a server, or to process 1. Returns how that ended for the connection.
    fn act(&mut self, number: usize) -> user_rt::Result<()> {
        let server = self.services[number].server(0);
        let parent = to_parent().within(self.patience());
        match self.below(6) {
            0 => server.call_within(&self.nonsense_to(number), self.patience()).map(drop),
            1 => server.send_within(&self.nonsense_to(number), Patience::None),
            2 => self.ask_process_1(parent),
            3 => {
                // The connection does not depend on an answer of process 1.
                let parent = Group::at(slots::SUPERVISOR).exposure(PARENT);
                _ = parent.call_within(&self.nonsense(), self.patience());
                Ok(())
            }
            _ => self.ask(number, Line::to(server).within(self.patience())),
        }
    }

    /// Makes a message of any words for a server. A counter ends when its clients ask for that.
    fn nonsense_to(&mut self, number: usize) -> Message {
        let message = self.nonsense();
        if SERVERS[number] == "counter" { Message { label: COUNT, ..message } } else { message }
    }

    /// Makes a message of any words.
    fn nonsense(&mut self) -> Message {
        let label = match self.below(3) {
            0 => LABELS[self.below(LABELS.len() as u32) as usize].wrapping_add(self.below(3)).wrapping_sub(1),
            1 => self.below(16),
            _ => self.random.rand_u32(),
        };
        let words = self.below(MSG_UTCB_WORDS as u32 + 1) as usize;
        for word in utcb::current().message().iter().take(words) {
            word.store(self.number(), Relaxed);
        }
        let regs = core::array::from_fn(|_| self.number());
        Message::with_words(label, regs, words as u8)
    }

    /// Makes a request that its server understands, of any numbers.
    fn ask(&mut self, number: usize, to: Line) -> user_rt::Result<()> {
        let (first, second) = (self.number(), self.number());
        match SERVERS[number] {
            "console" if first % 2 == 0 => {
                ended(console::Client(to).read(|mut read| read.set_most(second as u16), |_| Ok(())))
            }
            "console" => {
                let bytes = [b'~'; console::BYTES_MAX as usize + 8];
                let count = second as usize % (bytes.len() + 1);
                ended(console::Client(to).write(|mut write| write.set_bytes(&bytes[..count])))
            }
            "log" => ended(log::Client(to).read(
                |mut read| {
                    read.set_from(first);
                    read.set_last(second as u32);
                    read.set_sender((first >> 8) as u16);
                    read.set_of_sender(second % 2 == 0);
                    read.set_level((second >> 8) as u8);
                },
                |_| Ok(()),
            )),
            "clock" if first % 2 == 0 => ended(clock::Client(to).rate(|_| Ok(()))),
            "clock" => ended(clock::Client(to).now(|_| Ok(()))),
            _ => Ok(()),
        }
    }

    /// Asks process 1 for what only a driver, a pager, a policy or a shell may have.
    fn ask_process_1(&mut self, to: Line) -> user_rt::Result<()> {
        let (first, second, third) = (self.number(), self.number() as u32, self.number() as u16);
        // In half of the cases a slot that is its own.
        let slot = if self.below(2) == 0 { second } else { FREE_SLOTS + second % OWN_SLOTS };
        match self.below(13) {
            8 => _ = devices::Client(to).send(|mut asked| asked.set_device(third % 2)),
            9 => {
                // One that is there, and how often it may have been started.
                let client = if first % 2 == 0 { third } else { third & 0xf00 | 1 };
                _ = clients::Client(to).give(
                    |mut asked| {
                        asked.set_client(client);
                        asked.set_slot(slot);
                    },
                    |_| Ok(()),
                );
            }
            10 => {
                _ = tasks::Client(to).give(
                    |mut asked| {
                        asked.set_place(third % 3);
                        asked.set_task(slot);
                        asked.set_sched(slot.wrapping_add(first as u32 % 2));
                    },
                    |_| Ok(()),
                );
            }
            11 => _ = tasks::Client(to).bell(|mut asked| asked.set_slot(slot)),
            12 => _ = own::cnode().delete(Cap(FREE_SLOTS + second % OWN_SLOTS)),
            0 => {
                _ = devices::Client(to).interrupt(|mut asked| {
                    asked.set_device(third);
                    asked.set_slot(slot);
                });
            }
            1 => {
                _ = devices::Client(to).ports(
                    |mut asked| {
                        asked.set_device(third);
                        asked.set_range(first as u16);
                        asked.set_slot(second);
                    },
                    |_| Ok(()),
                );
            }
            2 => {
                _ = protocols::supervisor::Client(to).view(|mut view| {
                    view.set_first(first);
                    view.set_pages(second);
                    view.set_slot(third.into());
                    view.set_write(first % 2 == 0);
                    view.set_dma(first % 3 == 0);
                });
            }
            3 => _ = manager::Client(to).process(|mut asked| asked.set_place(third), |_| Ok(())),
            4 => _ = manager::Client(to).group(|mut asked| asked.set_place(third), |_| Ok(())),
            5 => _ = manager::Client(to).kill(|mut asked| asked.set_name("counter")),
            6 => _ = manager::Client(to).start(|mut asked| asked.set_name("witness")),
            _ => {
                _ = names::Client(to).connect(|mut connect| {
                    connect.set_name("counter");
                    connect.set_slot(second);
                    connect.set_dead(first);
                });
            }
        }
        Ok(())
    }
}

/// Tests that all servers serve, and ends the system with the verdict.
pub fn witness() -> ! {
    let mut nursery = supply_heap();
    let mut tally = Tally::default();
    tally.add("systems", "servers_serve_beside_vandals", &serves(&mut nursery).into());
    supervisor::finish(tally.passed, tally.failed)
}

fn serves(nursery: &mut Nursery) -> Outcome {
    let mut console = Console::connect(SERVERS[0], slot(0)).expect("a console");
    let mut journal = Journal::connect(SERVERS[1], slot(1)).expect("a log");
    let mut clock = Service::connect(SERVERS[2], slot(2)).expect("a clock");
    let mut counter = Counted::connect(SERVERS[3], slot(3));
    let rest: Notification = nursery.make(0)?;
    let (mut before, mut found) = (0, 0);
    for round in 0..ROUNDS {
        console.write(b".").expect("the console takes a byte");
        counter.count()?;
        let micros = clock.ask(|to| clock::Client(to).now(|told| Ok(told.get_micros())));
        let micros = micros.expect("the time of day");
        expect!(micros >= before, "the time of day went back from {before} to {micros}");
        before = micros;
        journal.write(Level::Info, format_args!("round {round}")).expect("the log takes a line");
        // The log comes to it.
        rest.sleep_until(arch::now() + boot::facts().tsc_hz / 2_000)?;
        let line = log::Client(Line::to(journal.service().server(0))).read(
            |mut read| {
                read.set_of_sender(true);
                read.set_sender(WITNESS);
                read.set_level(u8::MAX);
            },
            |line| Ok(line.get_text()?.starts_with(b"round ")),
        );
        found += u32::from(line.is_ok_and(|is_mine| is_mine));
    }
    for name in ["serial", "log", "clock", "counter"] {
        expect_eq!(starts(name), 1, "starts of {name}");
    }
    expect_eq!(leaked(), 0, "objects that process 1 has made of its own");
    // Lines of others may have pushed out some, or have filled the log's pool.
    expect!(found >= ROUNDS / 2, "{found} of {ROUNDS} lines were found in the log");
    Ok(())
}
