//! The pager process: receives faults and requests, one at a time, and answers each. [`pager_core`]
//! decides; [`world`] gives it access to frames, address spaces, the store and the policy;
//! [`serve`] reads requests and writes answers.
//!
//! Its maker tells it by an argument how it is to be, and registers its clients. Without an
//! argument it is a process of a system: its command line has that, and [`described`] finds the
//! clients.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

mod described;
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

use described::Clients;
use serve::Server;
use world::World;

user_rt::program!(begin);

fn begin(argument: u64) -> ! {
    let is_described = argument == 0;
    let setup = match is_described {
        true => described::setup().expect("frames= and pages= of a pager that has room for its heap"),
        false => PagerSetup::of_argument(argument),
    };
    let mut server = start(setup, is_described).expect("memory for a pager");
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(call)) => server.serve(&call),
            _ => recv(),
        };
    }
}

fn start(setup: PagerSetup, is_described: bool) -> user_rt::Result<Server> {
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
    let clients = if is_described { Some(Clients::new(nursery.take_slot()?)) } else { None };
    Ok(Server::new(Core::new(world, frames, setup.capacity()), clients))
}
