//! Clients of a pager that a system's description starts: nobody registers them, so the pager asks
//! its parent when one calls that it does not know ([`protocols::clients`]).
//!
//! A client's custom bits say how often its process has been started. So a process that was started
//! again is a new client: the pager forgets its predecessor, whose address space is destroyed by
//! then, with all that the predecessor had.

use abi::Cap;
use pager_core::{Client, Pager as Core};
use protocols::clients;
use user_rt::boot;
use user_rt::cap::{Handle, VSpace};
use user_rt::invoke::transfer;
use user_rt::paging::{CLIENTS_MAX, Limits, MANAGER, PagerSetup, pager_slot};
use user_rt::spawn::own;
use user_rt::supervisor::to_parent;
use user_rt::warn;

use crate::world::World;

/// What a pager takes that was told nothing of its size.
const FRAMES: u64 = 64;
const PAGES: u64 = 256;

/// The number of no client: its holder gets nothing.
const NOBODY: Client = Client::MAX;

/// Returns what the words of the command line say: `frames=` and `pages=`.
pub fn setup() -> Option<PagerSetup> {
    let number = |key, default| u32::try_from(boot::options().number(key, default).ok()?).ok();
    PagerSetup::for_pages(number("frames", FRAMES)?, number("pages", PAGES)?)
}

/// The clients that the parent has named.
pub struct Clients {
    /// How often each one's process had been started, modulo 256, by its number.
    starts: [Option<u8>; CLIENTS_MAX as usize + 1],
    /// An empty slot.
    scratch: Cap,
}

impl Clients {
    pub const fn new(scratch: Cap) -> Clients {
        Clients { starts: [None; CLIENTS_MAX as usize + 1], scratch }
    }

    /// Returns the client with these custom bits. Registers it before, if it is a new one.
    pub fn find(&mut self, core: &mut Core<World>, custom: u16) -> Client {
        let [number, starts] = custom.to_le_bytes();
        let client = Client::from(number);
        match self.starts.get(usize::from(number)) {
            _ if client == MANAGER => NOBODY,
            None => NOBODY,
            Some(known) if *known == Some(starts) => client,
            Some(_) => match self.register(core, client, custom) {
                Ok(()) => {
                    self.starts[usize::from(number)] = Some(starts);
                    client
                }
                Err(why) => {
                    warn!("client {} is not registered: {}", custom, why);
                    NOBODY
                }
            },
        }
    }

    /// Replaces a client by its successor.
    fn register(&self, core: &mut Core<World>, client: Client, custom: u16) -> Result<(), &'static str> {
        let slot = self.scratch;
        // It is empty, unless the last client was not registered.
        _ = own::cnode().delete(slot);
        let asked = clients::Client(to_parent()).give(
            |mut ask| {
                ask.set_client(custom);
                ask.set_slot(slot.0);
            },
            |told| {
                let (frames, pinned, pages) = (told.get_frames(), told.get_pinned(), told.get_pages());
                Ok(Limits { frames, pinned, pages })
            },
        );
        // A call of a predecessor, which the parent does not know any more, changes nothing.
        let limits = asked.map_err(|_| "the parent does not give its address space")?;
        // There may be no predecessor.
        _ = core.forget(client);
        let place = pager_slot::vspace(client);
        _ = own::cnode().delete(place);
        let moved = transfer(VSpace::at(slot), own::cnode().slot(place));
        moved.map_err(|_| "its address space finds no slot")?;
        core.register(client, limits).map_err(|_| "its limits are more than there is room for")?;
        core.machine.comes(client);
        Ok(())
    }
}
