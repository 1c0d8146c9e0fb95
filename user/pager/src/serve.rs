//! Reads requests and faults from messages, has them served, and answers them. `schema/pager.capnp`
//! defines the requests; faults have the kernel's own format.

use abi::{FaultKind, PAGE_SIZE, RegIndex};
use pager_core::{Bytes, Client, Pager as Core};
use protocols::pager::{self, Refusal, answer, bytes, request};
use user_rt::cap::Access;
use user_rt::fault::{Fault, Verdict, registers};
use user_rt::ipc::{Event, Received, reply_recv};
use user_rt::log::Shown;
use user_rt::paging::{Denial, Limits, MANAGER};
use user_rt::talk::{put, with_bytes};
use user_rt::warn;

use crate::described::Clients;
use crate::world::World;

/// Bits of a page fault's error code: it was a write, an instruction was fetched.
const WRITE: u32 = 1 << 1;
const FETCH: u32 = 1 << 4;

/// Below a task's stack pointer, what a function may use without saying so.
const RED_ZONE: u64 = 128;

pub struct Server {
    core: Core<World>,
    /// Clients that a system's description names; without one, a manager registers them.
    described: Option<Clients>,
}

impl Server {
    pub fn new(core: Core<World>, described: Option<Clients>) -> Server {
        Server { core, described }
    }

    /// Returns a call with the client's number in place of its custom bits.
    fn known(&mut self, call: &Received) -> Received {
        let Some(clients) = &mut self.described else { return *call };
        Received { custom: clients.find(&mut self.core, call.custom), ..*call }
    }

    /// Answers a call of a client or of the manager, and receives the next one.
    pub fn serve(&mut self, call: &Received) -> user_rt::Result<Event> {
        if call.fault {
            return self.fault(call).reply_recv();
        }
        let answer = with_bytes(&call.message, |bytes| {
            let call = &self.known(call);
            pager::serve(self, call, call.message.label, bytes, |answer| put(pager::ANSWER, answer))
        });
        reply_recv(&answer)
    }

    // --- faults ----------------------------------------------------------------------------------

    fn fault(&mut self, call: &Received) -> Verdict {
        let Some(fault) = Fault::of(call) else { return Verdict::TearDown };
        let client = self.known(call).custom;
        if client == MANAGER {
            return Verdict::TearDown;
        }
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

    /// Refuses a fault: the client's error handler runs, or the client ends.
    fn refuse(&mut self, client: Client, denial: Denial, fault: &Fault) -> Verdict {
        let Some(handler) = self.core.deny(client, denial, fault.address) else {
            warn!("client {} ends: {} at {:#x}", client, Shown(denial), fault.address);
            return Verdict::TearDown;
        };
        // Nothing that went between has written there: requests to store, policy and parent are
        // registers and message words.
        let mut regs = registers();
        regs[RegIndex::Rip as usize] = handler;
        // As after a call: the handler is a function that never returns.
        regs[RegIndex::Rsp as usize] = (fault.rsp.wrapping_sub(RED_ZONE) & !15).wrapping_sub(8);
        regs[RegIndex::Rdi as usize] = denial as u64;
        regs[RegIndex::Rsi as usize] = fault.address;
        Verdict::Registers(regs)
    }

    // --- requests --------------------------------------------------------------------------------

    /// Returns the bytes of a file that a request names, if the file has them.
    fn bytes(&self, of: bytes::Reader<'_>) -> Result<Bytes, Denial> {
        let (file, first, count) = (of.get_file(), of.get_first(), of.get_count());
        let length = self.core.machine.contents(file).ok_or(Denial::NoFile)?.len() as u64;
        let end = first.checked_add(count).ok_or(Denial::BadRequest)?;
        if end > length { Err(Denial::BadRequest) } else { Ok(Bytes { file, first, count }) }
    }
}

/// Returns the client that sent a request; an error for the manager.
fn client(from: &Received) -> Result<Client, Denial> {
    if from.custom == MANAGER { Err(Denial::BadRequest) } else { Ok(from.custom) }
}

fn manager(from: &Received) -> Result<(), Denial> {
    if from.custom == MANAGER { Ok(()) } else { Err(Denial::NotYou) }
}

type Done = Result<(), Refusal>;

impl pager::Server<Received> for Server {
    fn anonymous(
        &mut self,
        from: &Received,
        asked: request::anonymous::Reader<'_>,
        mut answer: answer::anonymous::Builder<'_>,
    ) -> Done {
        let (client, access) = (client(from)?, asked.get_access()?.into());
        answer.set_address(self.core.anonymous(client, pages(asked.get_pages())?, access, None)?);
        Ok(())
    }

    fn open(
        &mut self,
        _: &Received,
        asked: request::open::Reader<'_>,
        answer: answer::open::Builder<'_>,
    ) -> Done {
        let name = asked.get_name()?.to_str().map_err(|_| Refusal::NoFile)?;
        let (number, bytes) = self.core.machine.open(name).ok_or(Refusal::NoFile)?;
        let mut file = answer.init_file();
        file.set_number(number);
        file.set_bytes(bytes);
        Ok(())
    }

    fn file(
        &mut self,
        from: &Received,
        asked: request::file::Reader<'_>,
        mut answer: answer::file::Builder<'_>,
    ) -> Done {
        let (client, access) = (client(from)?, asked.get_access()?.into());
        let bytes = self.bytes(asked.get_bytes()?)?;
        answer.set_address(self.core.file(client, bytes, pages(asked.get_pages())?, access, None)?);
        Ok(())
    }

    fn clone_of(
        &mut self,
        from: &Received,
        asked: request::clone_of::Reader<'_>,
        mut answer: answer::clone_of::Builder<'_>,
    ) -> Done {
        answer.set_address(self.core.clone_of(client(from)?, asked.get_address())?);
        Ok(())
    }

    fn share(
        &mut self,
        from: &Received,
        asked: request::share::Reader<'_>,
        mut answer: answer::share::Builder<'_>,
    ) -> Done {
        let access = asked.get_access()?.into();
        answer.set_key(self.core.share(client(from)?, asked.get_address(), asked.get_with(), access)?);
        Ok(())
    }

    fn attach(
        &mut self,
        from: &Received,
        asked: request::attach::Reader<'_>,
        mut answer: answer::attach::Builder<'_>,
    ) -> Done {
        let (address, pages) = self.core.attach(client(from)?, asked.get_key())?;
        answer.set_address(address);
        answer.set_pages(pages);
        Ok(())
    }

    fn give_back(&mut self, from: &Received, asked: request::give_back::Reader<'_>) -> Done {
        Ok(self.core.give_back(client(from)?, asked.get_address())?)
    }

    fn pin(&mut self, from: &Received, asked: request::pin::Reader<'_>) -> Done {
        Ok(self.core.pin(client(from)?, asked.get_address(), pages(asked.get_pages())?)?)
    }

    fn unpin(&mut self, from: &Received, asked: request::unpin::Reader<'_>) -> Done {
        Ok(self.core.unpin(client(from)?, asked.get_address(), pages(asked.get_pages())?)?)
    }

    fn on_error(&mut self, from: &Received, asked: request::on_error::Reader<'_>) -> Done {
        Ok(self.core.on_error(client(from)?, asked.get_handler())?)
    }

    fn account(&mut self, from: &Received, answer: answer::account::Builder<'_>) -> Done {
        let account = self.core.account(client(from)?)?;
        let mut to = answer.init_account();
        to.set_frames(account.frames);
        to.set_limit(account.limit);
        to.set_pages(account.pages);
        to.set_faults(account.faults);
        Ok(())
    }

    fn split(
        &mut self,
        from: &Received,
        asked: request::split::Reader<'_>,
        mut answer: answer::split::Builder<'_>,
    ) -> Done {
        // Nobody would admit the part: the description has all clients, and their numbers.
        if self.described.is_some() {
            return Err(Refusal::NotYou);
        }
        answer.set_part(self.core.split(client(from)?, Limits::read(asked.get_limits()?))?);
        Ok(())
    }

    fn close(&mut self, from: &Received, asked: request::close::Reader<'_>) -> Done {
        Ok(self.core.close(client(from)?, asked.get_part())?)
    }

    fn register(&mut self, from: &Received, asked: request::register::Reader<'_>) -> Done {
        manager(from)?;
        self.core.register(asked.get_client(), Limits::read(asked.get_limits()?))?;
        self.core.machine.comes(asked.get_client());
        Ok(())
    }

    fn admit(&mut self, from: &Received, asked: request::admit::Reader<'_>) -> Done {
        manager(from)?;
        self.core.admit(asked.get_part(), asked.get_of())?;
        self.core.machine.comes(asked.get_part());
        Ok(())
    }

    fn forget(&mut self, from: &Received, asked: request::forget::Reader<'_>) -> Done {
        manager(from)?;
        Ok(self.core.forget(asked.get_client())?)
    }

    fn fate(
        &mut self,
        from: &Received,
        asked: request::fate::Reader<'_>,
        answer: answer::fate::Builder<'_>,
    ) -> Done {
        manager(from)?;
        let fate = self.core.fate(asked.get_client())?;
        let mut to = answer.init_fate();
        if let Some(reason) = fate.reason {
            to.set_ended(true);
            to.set_reason(reason.into());
        }
        to.set_address(fate.address);
        to.set_faults(fate.faults);
        Ok(())
    }

    fn counts(&mut self, from: &Received, answer: answer::counts::Builder<'_>) -> Done {
        manager(from)?;
        self.core.counts().put(answer.init_counts());
        Ok(())
    }

    fn place(&mut self, from: &Received, asked: request::place::Reader<'_>) -> Done {
        manager(from)?;
        let (client, access, at) = (asked.get_client(), asked.get_access()?.into(), asked.get_at()?);
        let (pages, address) = (pages(asked.get_pages())?, Some(at.get_address()));
        if at.has_bytes() {
            let bytes = self.bytes(at.get_bytes()?)?;
            self.core.file(client, bytes, pages, access, address)?;
        } else {
            self.core.anonymous(client, pages, access, address)?;
        }
        Ok(())
    }
}

/// Returns the access for which a page fault's error code asks.
fn need(error: u32) -> Access {
    match (error & FETCH != 0, error & WRITE != 0) {
        (true, _) => Access::Execute,
        (false, true) => Access::Write,
        (false, false) => Access::Read,
    }
}

fn pages(wanted: u32) -> Result<u32, Denial> {
    // More than this no address space has.
    if wanted <= (abi::USER_TOP / PAGE_SIZE) as u32 { Ok(wanted) } else { Err(Denial::Limit) }
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
}
