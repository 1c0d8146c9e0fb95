//! Calls that wait for their answers: one that reads, and those whose bytes have no room yet.

use abi::{Cap, Error};
use heapless::{Deque, Vec};
use mmio::Registers;
use protocols::console::{self, BYTES_MAX, Refusal, answer};
use protocols::{WORDS_MAX, compose_plain};
use user_rt::cap::{Handle, Reply};
use user_rt::ipc::Message;
use user_rt::spawn::Nursery;
use user_rt::talk::put;

use crate::line::Line;

/// Calls that may wait with bytes to be sent.
const WRITERS: usize = 8;
/// One for each, and one for the call that takes the reader's place. As many again, because the
/// kernel may still end the call of a client that is gone.
const REPLIES: u32 = 2 * (WRITERS as u32 + 2);

type Bytes = Vec<u8, { BYTES_MAX as usize }>;

struct Reader {
    reply: u32,
    most: u16,
}

struct Writer {
    reply: u32,
    bytes: Bytes,
}

pub struct Clients {
    /// The first of the Reply objects.
    replies: Cap,
    /// Where the search for a free one begins.
    next: u32,
    reader: Option<Reader>,
    writers: Deque<Writer, WRITERS>,
}

impl Clients {
    pub fn new(nursery: &mut Nursery) -> user_rt::Result<Clients> {
        let replies = nursery.make_many::<Reply>(0, REPLIES)?.nth(0);
        Ok(Clients { replies, next: 0, reader: None, writers: Deque::new() })
    }

    fn reply(&self, number: u32) -> Reply {
        Reply::at(Cap(self.replies.0 + number))
    }

    /// Saves the call that is served, in a free Reply object.
    fn save(&mut self) -> Result<u32, Refusal> {
        for _ in 0..REPLIES {
            let number = self.next;
            self.next = (number + 1) % REPLIES;
            match self.reply(number).save() {
                Ok(()) => return Ok(number),
                Err(refusal) if refusal.error == Error::InUse => {}
                // The caller is gone.
                Err(_) => break,
            }
        }
        Err(Refusal::Busy)
    }

    /// Whether calls wait with bytes to be sent.
    pub fn writes(&self) -> bool {
        !self.writers.is_empty()
    }

    /// Lets the call that is served wait until its bytes can be sent.
    pub fn write_later(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.writers.is_full() {
            return Err(Refusal::Busy);
        }
        let bytes = Bytes::from_slice(bytes).map_err(|_| Refusal::BadRequest)?;
        let reply = self.save()?;
        _ = self.writers.push_back(Writer { reply, bytes });
        Ok(())
    }

    /// Lets the call that is served wait until bytes come. One that waits already is answered: it
    /// may be the call of a client that is gone.
    pub fn read_later(&mut self, most: u16) -> Result<(), Refusal> {
        let reply = self.save()?;
        if let Some(earlier) = self.reader.replace(Reader { reply, most }) {
            _ = self.reply(earlier.reply).reply(&refused(Refusal::Busy));
        }
        Ok(())
    }

    /// Answers calls that need not wait any more. Returns whether that changed what the device is
    /// to do.
    pub fn settle<R: Registers>(&mut self, line: &mut Line<R>) -> bool {
        let mut changed = false;
        while let Some(writer) = self.writers.pop_front_if(|writer| writer.bytes.len() <= line.room()) {
            line.write(&writer.bytes);
            _ = self.reply(writer.reply).reply(&written());
            changed = true;
        }
        if line.has_input()
            && let Some(reader) = self.reader.take()
        {
            let mut bytes = [0; BYTES_MAX as usize];
            let count = line.peek(&mut bytes[..usize::from(reader.most)]);
            // Bytes that nobody got are the next reader's.
            if self.reply(reader.reply).reply(&came(&bytes[..count], line.lost())).is_ok() {
                line.drop_first(count);
                changed = true;
            }
        }
        changed
    }
}

fn answer(fill: impl FnOnce(answer::Builder<'_>)) -> Message {
    compose_plain::<answer::Owned, WORDS_MAX, _>(fill, |bytes| put(console::ANSWER, bytes))
}

fn written() -> Message {
    answer(|mut answer| answer.set_write(()))
}

fn came(bytes: &[u8], lost: u32) -> Message {
    answer(|answer| {
        let mut read = answer.init_read();
        read.set_bytes(bytes);
        read.set_lost(lost);
    })
}

fn refused(refusal: Refusal) -> Message {
    answer(|mut answer| answer.set_refused(refusal))
}
