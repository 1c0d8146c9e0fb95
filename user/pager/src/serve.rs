//! Requests and faults, as messages: read, done, answered.

use core::sync::atomic::Ordering::Relaxed;

use abi::{FaultKind, PAGE_SIZE, RegIndex};
use pager_core::{Bytes, Client, Pager as Core};
use user_rt::cap::Access;
use user_rt::fault::{Fault, Verdict, registers};
use user_rt::ipc::{Event, Message, Received, reply_recv};
use user_rt::paging::{Counts, Denial, Limits, MANAGER, NAME_WORDS, Request, access_from, words_name};
use user_rt::{report, utcb};

use crate::world::World;

/// Bits of a page fault's error code: it was a write, an instruction was fetched.
const WRITE: u32 = 1 << 1;
const FETCH: u32 = 1 << 4;

/// Below a task's stack pointer, what a function may use without saying so.
const RED_ZONE: u64 = 128;

pub struct Server {
    core: Core<World>,
}

/// Registers of an answer, and how many UTCB words go with them.
type Answer = Result<([u64; 4], u8), Denial>;

fn regs(first: u64, second: u64) -> Answer {
    Ok(([first, second, 0, 0], 0))
}

impl Server {
    pub fn new(core: Core<World>) -> Server {
        Server { core }
    }

    /// Answers a call and receives the next.
    pub fn serve(&mut self, call: &Received) -> user_rt::Result<Event> {
        if call.fault {
            return self.fault(call).reply_recv();
        }
        reply_recv(&match self.answer(call) {
            Ok((regs, words)) => Message::with_words(0, regs, words),
            Err(denial) => Message::new(denial as u32, [0; 4]),
        })
    }

    // --- faults ------------------------------------------------------------------------------------

    fn fault(&mut self, call: &Received) -> Verdict {
        let client = call.custom;
        let Some(fault) = Fault::of(call).filter(|_| client != MANAGER) else { return Verdict::TearDown };
        let served = match fault.kind {
            FaultKind::Page | FaultKind::StackOverflow => {
                self.core.fault(client, fault.address, need(fault.error))
            }
            _ => Err(Denial::NotMemory),
        };
        match served {
            Ok(()) => Verdict::Resume,
            Err(denial) => self.refuse(client, denial, &fault),
        }
    }

    /// A fault that cannot be served: the client's error handler runs, or it ends.
    fn refuse(&mut self, client: Client, denial: Denial, fault: &Fault) -> Verdict {
        let Some(handler) = self.core.deny(client, denial, fault.address) else {
            report!("note pager: client {client} ends: {denial} at {:#x}", fault.address);
            return Verdict::TearDown;
        };
        // Nothing that went between has written there: requests to store and policy are registers and message words.
        let mut regs = registers();
        regs[RegIndex::Rip as usize] = handler;
        // As after a call: the handler is a function that never returns.
        regs[RegIndex::Rsp as usize] = (fault.rsp.wrapping_sub(RED_ZONE) & !15).wrapping_sub(8);
        regs[RegIndex::Rdi as usize] = denial as u64;
        regs[RegIndex::Rsi as usize] = fault.address;
        Verdict::Registers(regs)
    }

    // --- requests ----------------------------------------------------------------------------------

    fn answer(&mut self, call: &Received) -> Answer {
        let request = Request::from_raw(call.message.label).ok_or(Denial::BadRequest)?;
        if call.custom == MANAGER { self.manage(request, call) } else { self.request(request, call) }
    }

    fn request(&mut self, request: Request, call: &Received) -> Answer {
        let (client, core) = (call.custom, &mut self.core);
        let [first, second, third, fourth] = call.message.regs;
        match request {
            Request::Anonymous => regs(core.anonymous(client, pages(first)?, access(second)?, None)?, 0),
            Request::Open => self.open(call),
            Request::File => {
                let (pages, access) = pages_and_access(fourth)?;
                let bytes = self.bytes(first, second, third)?;
                regs(self.core.file(client, bytes, pages, access, None)?, 0)
            }
            Request::Clone => regs(core.clone_of(client, first)?, 0),
            Request::Share => {
                let with = Client::try_from(second).map_err(|_| Denial::NotShared)?;
                regs(core.share(client, first, with, access(third)?)?, 0)
            }
            Request::Attach => {
                let (address, pages) = core.attach(client, first)?;
                regs(address, pages.into())
            }
            Request::Drop => core.give_back(client, first).and_then(|()| regs(0, 0)),
            Request::Pin => core.pin(client, first, pages(second)?).and_then(|()| regs(0, 0)),
            Request::Unpin => core.unpin(client, first, pages(second)?).and_then(|()| regs(0, 0)),
            Request::OnError => core.on_error(client, first).and_then(|()| regs(0, 0)),
            Request::Split => {
                let limits = Limits::of_words([first, second]).ok_or(Denial::Limit)?;
                regs(core.split(client, limits)?.into(), 0)
            }
            Request::Close => {
                let part = Client::try_from(first).map_err(|_| Denial::NotYou)?;
                core.close(client, part).and_then(|()| regs(0, 0))
            }
            Request::Account => {
                let account = core.account(client)?;
                Ok(([account.frames, account.limit, account.pages, account.faults], 0))
            }
            _ => Err(Denial::NotYou),
        }
    }

    fn manage(&mut self, request: Request, call: &Received) -> Answer {
        let [first, second, third, fourth] = call.message.regs;
        let client = |raw: u64| Client::try_from(raw).map_err(|_| Denial::BadRequest);
        match request {
            Request::Register => {
                let limits = Limits::of_words([second, third]).ok_or(Denial::Full)?;
                self.core.register(client(first)?, limits)?;
                self.core.machine.comes(client(first)?);
                regs(0, 0)
            }
            Request::Admit => {
                self.core.admit(client(first)?, client(second)?)?;
                self.core.machine.comes(client(first)?);
                regs(0, 0)
            }
            Request::Forget => self.core.forget(client(first)?).and_then(|()| regs(0, 0)),
            Request::Fate => {
                let fate = self.core.fate(client(first)?)?;
                Ok(([fate.reason.map_or(0, |reason| reason as u64), fate.address, fate.faults, 0], 0))
            }
            Request::Counts => {
                for (word, count) in utcb::current().message().iter().zip(self.core.counts().words()) {
                    word.store(count, Relaxed);
                }
                Ok(([0; 4], Counts::WORDS as u8))
            }
            Request::Open => self.open(call),
            Request::Place if call.message.words >= 2 => {
                let words = utcb::current().message();
                let (whose, address) = (words[0].load(Relaxed), words[1].load(Relaxed));
                let (pages, access) = pages_and_access(fourth)?;
                let (whose, at) = (client(whose)?, Some(address));
                if (first, third) == (0, 0) {
                    return regs(self.core.anonymous(whose, pages, access, at)?, 0);
                }
                let bytes = self.bytes(first, second, third)?;
                regs(self.core.file(whose, bytes, pages, access, at)?, 0)
            }
            _ => Err(Denial::BadRequest),
        }
    }

    fn open(&self, call: &Received) -> Answer {
        if usize::from(call.message.words) < NAME_WORDS {
            return Err(Denial::BadRequest);
        }
        let words = utcb::current().message();
        let (name, length) = words_name(core::array::from_fn(|index| words[index].load(Relaxed)));
        let name = core::str::from_utf8(&name[..length]).map_err(|_| Denial::NoFile)?;
        let (file, bytes) = self.core.machine.open(name).ok_or(Denial::NoFile)?;
        regs(file, bytes)
    }

    /// Bytes of a file that are there.
    fn bytes(&self, file: u64, first: u64, count: u64) -> Result<Bytes, Denial> {
        let length = self.core.machine.contents(file).ok_or(Denial::NoFile)?.len() as u64;
        let end = first.checked_add(count).ok_or(Denial::BadRequest)?;
        if end > length { Err(Denial::BadRequest) } else { Ok(Bytes { file, first, count }) }
    }
}

/// What a page fault's error code says was wanted.
fn need(error: u32) -> Access {
    match (error & FETCH != 0, error & WRITE != 0) {
        (true, _) => Access::Execute,
        (false, true) => Access::Write,
        (false, false) => Access::Read,
    }
}

fn pages(raw: u64) -> Result<u32, Denial> {
    // More than this no address space has.
    u32::try_from(raw).ok().filter(|pages| *pages <= (abi::USER_TOP / PAGE_SIZE) as u32).ok_or(Denial::Limit)
}

fn access(raw: u64) -> Result<Access, Denial> {
    access_from(raw).ok_or(Denial::BadRequest)
}

fn pages_and_access(raw: u64) -> Result<(u32, Access), Denial> {
    Ok((raw as u32, access(raw >> 32)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_say_what_was_wanted() {
        assert_eq!(need(4), Access::Read);
        assert_eq!(need(7), Access::Write);
        assert_eq!(need(0x15), Access::Execute);
    }

    #[test]
    fn arguments_are_checked() {
        assert_eq!(pages(1 << 40), Err(Denial::Limit));
        assert_eq!(access(3), Err(Denial::BadRequest));
        assert_eq!(pages_and_access(7 | 2 << 32), Ok((7, Access::Execute)));
        assert_eq!(pages_and_access(7 | 9 << 32), Err(Denial::BadRequest));
    }
}
