//! The log: keeps lines of other processes, and shows them to those that ask.
//!
//! Lines come as events of the group in which this process is exposed ([`user_rt::journal`]), so no
//! sender waits for the log. The custom bits of the sender's membership say which process it is. A
//! sender that sends many lines pushes out its own. What the log itself spends on lines is bounded
//! by the budget of its description. Readers ask by [`protocols::log`]. Lines are lost when the log
//! is started again, and when more come than its pool holds: their senders are told.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

mod journal;

use alloc::vec::Vec;

use protocols::log::{self, BYTES_MAX, Refusal, Server, answer, request};
use user_rt::cap::{EventPool, Notification};
use user_rt::events::{Came, Pool};
use user_rt::ipc::{Event, Patience, Received, recv_within, reply};
use user_rt::journal::Header;
use user_rt::layout::SHARED_VA;
use user_rt::spawn::{Nursery, own};
use user_rt::talk::{put, with_bytes};
use user_rt::{arch, boot, heap, info};

use journal::{Journal, Wanted};

user_rt::program!(begin);

/// Cells of the pool, as base-2 logarithm: 64 KiB.
const CELLS_LOG2: u8 = 10;
/// Pages of heap, for the lines.
const HEAP_PAGES: u32 = 32;
/// Lines that are taken between two looks for calls.
const TOGETHER: u32 = 32;
/// Bit of the Notification: an event has come.
const CAME: u64 = 1;

struct Log {
    journal: Journal,
}

fn begin(_: u64) -> ! {
    let mut nursery = Nursery::of_program(0);
    let mut pool = prepare(&mut nursery).expect("memory for a log");
    let mut log = Log { journal: Journal::new() };
    info!("begins");
    loop {
        // Readers wait for no flood of lines.
        for _ in 0..TOGETHER {
            match pool.read() {
                Some(came) => log.take(&came),
                None => break,
            }
        }
        let patience = if pool.arm() { Patience::Forever } else { Patience::None };
        match recv_within(patience) {
            Ok(Event::Call(call)) => log.serve(&call),
            Ok(Event::Bits(_)) => {}
            Err(refusal) if refusal.error == abi::Error::WouldBlock => {}
            Err(refusal) => panic!("cannot receive: {refusal}"),
        }
    }
}

fn prepare(nursery: &mut Nursery) -> user_rt::Result<Pool> {
    heap::add(&own::vspace(), nursery, HEAP_PAGES)?;
    let wakes: Notification = nursery.make(0)?;
    wakes.bind(&own::task())?;
    let pool: EventPool = nursery.make(u64::from(CELLS_LOG2))?;
    Pool::bind(pool, CELLS_LOG2, &own::process(), &own::task(), SHARED_VA, CAME)
}

impl Log {
    /// Keeps a line that came as an event.
    fn take(&mut self, came: &Came<'_>) {
        let header = Header::of_label(came.event.info.label());
        let length = usize::from(header.bytes.min(BYTES_MAX));
        let words = came.event.regs.into_iter().chain(came.words());
        let mut text: Vec<u8> = words.flat_map(u64::to_le_bytes).take(length).collect();
        // A line cannot look like two.
        text.iter_mut().filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b'?');
        let time = boot::micros(arch::now());
        self.journal.push(time, came.event.custom, header.level, text);
    }

    fn serve(&mut self, call: &Received) {
        let message = with_bytes(&call.message, |bytes| {
            log::serve(self, call, call.message.label, bytes, |answer| put(log::ANSWER, answer))
        });
        // The caller may be gone.
        _ = reply(&message);
    }
}

impl Server<Received> for Log {
    fn read(
        &mut self,
        _: &Received,
        asked: request::Reader<'_>,
        mut answer: answer::read::Builder<'_>,
    ) -> Result<(), Refusal> {
        let wanted = Wanted {
            from: asked.get_from(),
            last: asked.get_last(),
            sender: asked.get_of_sender().then_some(asked.get_sender()),
            level: asked.get_level(),
        };
        let line = self.journal.find(&wanted).ok_or(Refusal::NoMore)?;
        answer.set_number(line.number);
        answer.set_time(line.time);
        answer.set_sender(line.sender);
        answer.set_level(line.level);
        answer.set_text(&line.text);
        Ok(())
    }
}
