//! The task of process 1 that receives the calls of the others, and hands them to the supervisor.
//!
//! A call runs on its caller's CPU time, and so at its priority, until it is answered or saved in
//! a Reply object. So a caller of low priority may wait long for its turn on the CPU of process 1.
//! Neither better callers nor restarts may wait for that. So this task saves each call, which gives
//! the caller's time back, and the supervisor serves it with time of its own.
//!
//! The two share queues: the calls, and the numbers of free Reply objects. Each rings after it has
//! put something in, and looks again after each ring.

use abi::{Cap, Error};
use heapless::mpmc::Queue;
use protocols::{Words, words_of};
use user_rt::cap::{Handle, Notification, Reply};
use user_rt::invoke::yield_now;
use user_rt::ipc::{Event, Received, recv};
use user_rt::spawn::{Home, Nursery, Run, Spawned, TaskSpec, task};
use user_rt::talk::with_bytes;
use user_rt::{Refusal, Result};

/// Bit of the supervisor's Notification: there is a call.
pub const CALLED: u64 = 1 << 32;
/// Bit of this task's Notification: a Reply object is free.
const FREED: u64 = 1;

/// Reply objects: a call of each process may wait for a connection, and others are being served.
const REPLIES: usize = 256;
/// Words of a call that can be a request.
const WORDS: usize = 16;

#[expect(deprecated, reason = "who finds it busy tries again after the other task has gone on and rung")]
static CALLS: Queue<Asked, 16> = Queue::new();
#[expect(deprecated, reason = "as above")]
static FREE: Queue<u8, REPLIES> = Queue::new();

/// A call that was saved.
#[derive(Clone, Copy)]
pub struct Asked {
    pub call: Received,
    pub reply: Saved,
    words: [u64; WORDS],
    count: usize,
}

/// A call that waits for its answer: the number of its Reply object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Saved(u8);

impl Asked {
    /// Runs `read` with the bytes of the call's message. They are none if it is longer than any
    /// request.
    pub fn with_bytes<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        let words = Words::<WORDS>::of(self.words.into_iter());
        read(&words.bytes()[..self.count * 8])
    }
}

/// What both tasks know.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    /// The supervisor's Notification, in a slot before that of the front's own.
    bell: Cap,
    replies: Cap,
}

impl Front {
    /// Makes the task, which does not run yet.
    pub fn new(nursery: &mut Nursery, priority: u8) -> Result<(Front, Spawned)> {
        let bells = nursery.make_many::<Notification>(0, 2)?;
        let replies = nursery.make_many::<Reply>(0, REPLIES as u32)?;
        (0..=u8::MAX).try_for_each(|number| FREE.enqueue(number)).map_err(|_| full())?;
        let front = Front { bell: bells.nth(0), replies: replies.nth(0) };
        let spec = TaskSpec {
            index: 1,
            cpu: 0,
            priority,
            stack_pages: 6,
            run: Run::Function(listen),
            argument: u64::from(front.bell.0) | u64::from(front.replies.0) << 32,
        };
        Ok((front, Home::own(|home| task(nursery, home, &spec))?))
    }

    /// Returns the supervisor's Notification.
    pub fn bell(&self) -> Notification {
        Notification::at(self.bell)
    }

    fn back(&self) -> Notification {
        Notification::at(Cap(self.bell.0 + 1))
    }

    /// Returns the call that has waited longest to be served.
    pub fn next(&self) -> Option<Asked> {
        let asked = CALLS.dequeue();
        if asked.is_some() {
            // There may have been no room.
            _ = self.back().notify(FREED);
        }
        asked
    }

    fn reply(&self, number: u8) -> Reply {
        Reply::at(Cap(self.replies.0 + u32::from(number)))
    }

    /// Answers a saved call.
    /// Errors: nobody waits for the answer any more.
    pub fn answer(&self, saved: Saved, message: &user_rt::ipc::Message) -> Result<()> {
        let answered = self.reply(saved.0).reply(message);
        self.forget(saved);
        answered
    }

    /// Lets a saved call go whose caller has been ended.
    pub fn forget(&self, saved: Saved) {
        _ = FREE.enqueue(saved.0);
        _ = self.back().notify(FREED);
    }

    /// Saves the call that this task serves, and hands it over. A caller that is gone is forgotten.
    fn hand_over(&self, call: Received) -> Result<()> {
        let Some(number) = self.save()? else { return Ok(()) };
        let mut asked = Asked { call, reply: Saved(number), words: [0; WORDS], count: 0 };
        with_bytes(&call.message, |bytes| {
            if bytes.len() <= WORDS * 8 {
                asked.count = bytes.len() / 8;
                asked.words.iter_mut().zip(words_of(bytes)).for_each(|(to, word)| *to = word);
            }
        });
        // The caller's time goes back now, and not only when this task waits.
        yield_now()?;
        self.await_some(|| CALLS.enqueue(asked).ok())?;
        self.bell().notify(CALLED)
    }

    /// Saves the call that this task serves. Returns the number of its Reply object, or nothing if
    /// the caller is gone.
    fn save(&self) -> Result<Option<u8>> {
        for _ in 0..REPLIES {
            let number = self.await_some(|| FREE.dequeue())?;
            let refusal = match self.reply(number).save() {
                Ok(()) => return Ok(Some(number)),
                Err(refusal) => refusal,
            };
            FREE.enqueue(number).map_err(|_| full())?;
            // The object may still have a call that could not be answered.
            if refusal.error != Error::InUse {
                break;
            }
        }
        Ok(None)
    }

    /// Tries until there is something, each time that the supervisor has freed something.
    fn await_some<T>(&self, mut tried: impl FnMut() -> Option<T>) -> Result<T> {
        loop {
            match tried() {
                Some(found) => return Ok(found),
                None => _ = self.back().wait()?,
            }
        }
    }
}

fn full() -> Refusal {
    Refusal::local(Error::Full, 0)
}

extern "C" fn listen(argument: u64) -> ! {
    let front = Front { bell: Cap(argument as u32), replies: Cap((argument >> 32) as u32) };
    loop {
        let handed = match recv() {
            // A process must not have process 1 for its fault handler. It ends when this task
            // receives the next call.
            Ok(Event::Call(call)) if call.fault => Ok(()),
            Ok(Event::Call(call)) => front.hand_over(call),
            Ok(Event::Bits(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = handed {
            panic!("process 1 cannot hear the others: {refusal}");
        }
    }
}
