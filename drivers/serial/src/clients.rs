//! Calls that wait for their answers: those that read, and those whose bytes have no room yet.

use abi::Cap;
use heapless::{Deque, Vec};
use mmio::Registers;
use protocols::console::{self, BYTES_MAX, Refusal, answer};
use protocols::{WORDS_MAX, compose_plain};
use user_rt::cap::{Handle, Reply};
use user_rt::ipc::Message;
use user_rt::spawn::Nursery;
use user_rt::talk::put;

use crate::line::Line;

/// Calls that may wait for bytes, and with bytes to be sent.
const READERS: usize = 4;
const WRITERS: usize = 8;
/// One for each, and one for the call that is served.
const REPLIES: u32 = (READERS + WRITERS + 1) as u32;

type Bytes = Vec<u8, { BYTES_MAX as usize }>;

struct Reader {
    reply: u32,
    most: u16,
}

struct Writer {
    reply: u32,
    bytes: Bytes,
}

/// The kernel frees the Reply object of a client that waits no more, and tells nobody. So a number
/// that a reader or writer has is used for another call only in place of that one.
pub struct Clients {
    /// The first of the Reply objects.
    replies: Cap,
    readers: Deque<Reader, READERS>,
    writers: Deque<Writer, WRITERS>,
}

impl Clients {
    pub fn new(nursery: &mut Nursery) -> user_rt::Result<Clients> {
        let replies = nursery.make_many::<Reply>(0, REPLIES)?.nth(0);
        Ok(Clients { replies, readers: Deque::new(), writers: Deque::new() })
    }

    fn reply(&self, number: u32) -> Reply {
        Reply::at(Cap(self.replies.0 + number))
    }

    fn is_free(&self, number: u32) -> bool {
        let reads = self.readers.iter().any(|reader| reader.reply == number);
        !reads && self.writers.iter().all(|writer| writer.reply != number)
    }

    /// Saves the call that is served, in a Reply object that nobody has.
    fn save(&mut self) -> Result<u32, Refusal> {
        let free = (0..REPLIES).find(|number| self.is_free(*number) && self.reply(*number).save().is_ok());
        free.ok_or(Refusal::Busy)
    }

    /// Saves the call that is served in the Reply object of a client that waits no more, which is
    /// one of these. That client is forgotten.
    fn save_in_place_of<T, const N: usize>(
        replies: Cap,
        clients: &mut Deque<T, N>,
        number: impl Fn(&T) -> u32,
    ) -> Result<u32, Refusal> {
        for _ in 0..clients.len() {
            let Some(client) = clients.pop_front() else { break };
            let number = number(&client);
            if Reply::at(Cap(replies.0 + number)).save().is_ok() {
                return Ok(number);
            }
            _ = clients.push_back(client);
        }
        Err(Refusal::Busy)
    }

    /// Whether calls wait with bytes to be sent.
    pub fn writes(&self) -> bool {
        !self.writers.is_empty()
    }

    /// Lets the call that is served wait until its bytes can be sent.
    pub fn write_later(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let bytes = Bytes::from_slice(bytes).map_err(|_| Refusal::BadRequest)?;
        let reply = match self.writers.is_full() {
            false => self.save()?,
            true => Self::save_in_place_of(self.replies, &mut self.writers, |writer| writer.reply)?,
        };
        _ = self.writers.push_back(Writer { reply, bytes });
        Ok(())
    }

    /// Lets the call that is served wait until bytes come, behind those that wait for them.
    pub fn read_later(&mut self, most: u16) -> Result<(), Refusal> {
        let reply = match self.readers.is_full() {
            false => self.save()?,
            true => Self::save_in_place_of(self.replies, &mut self.readers, |reader| reader.reply)?,
        };
        _ = self.readers.push_back(Reader { reply, most });
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
        while line.has_input()
            && let Some(reader) = self.readers.pop_front()
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
