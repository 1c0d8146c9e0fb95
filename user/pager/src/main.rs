//! The pager process: receives faults and requests, one at a time, and answers each. [`pager_core`]
//! decides; [`world`] gives it access to frames, address spaces, the store and the policy;
//! [`serve`] reads requests and writes answers.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

mod serve;
mod world;

use pager_core::{FrameId, Pager as Core};
use user_rt::cap::{Access, Handle, Untyped};
use user_rt::ipc::{Event, recv};
use user_rt::layout::{PROGRAM_SLOTS, slot};
use user_rt::paging::{FRAMES_TOGETHER, Pager, PagerSetup, pager_slot};
use user_rt::slots::Slots;
use user_rt::spawn::{Nursery, own};
use user_rt::{heap, info};

use serve::Server;
use world::World;

user_rt::program!(begin);

fn begin(argument: u64) -> ! {
    let setup = PagerSetup::of_argument(argument);
    let mut server = start(setup).expect("memory for a pager");
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(call)) => server.serve(&call),
            _ => recv(),
        };
    }
}

fn start(setup: PagerSetup) -> user_rt::Result<Server> {
    let mut nursery = Nursery::new(Untyped::at(slot::UNTYPED), Slots::new(pager_slot::FREE..PROGRAM_SLOTS));
    if setup.paged {
        let region = Pager::own().anonymous(setup.heap_pages.into(), Access::Write);
        heap::adopt(region.expect("a heap from its own pager"))?;
    } else {
        heap::add(&own::vspace(), &mut nursery, setup.heap_pages.into())?;
    }
    let world = World::new(&mut nursery, setup.frames)?;
    info!(
        "begins: {} frames, {} pages of heap, paged {}",
        setup.frames,
        setup.heap_pages,
        u8::from(setup.paged)
    );
    let frames = (0..setup.frames.next_multiple_of(FRAMES_TOGETHER)).map(FrameId);
    Ok(Server::new(Core::new(world, frames, setup.capacity())))
}
