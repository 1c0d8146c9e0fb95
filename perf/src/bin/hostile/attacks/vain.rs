//! What is refused only at the last of many steps, and must be taken back.

use core::sync::atomic::Ordering::SeqCst;

use abi::events::pool_pages;
use abi::{Cap, Error, MESSAGE_PAGES_MAX, PAGE_SIZE, PageMode, PageRange};
use user_rt::cap::{Access, EventPool, Frame, Group, Handle, Task};
use user_rt::invoke::{Pages, Pins};
use user_rt::ipc::{self, Message};
use user_rt::pages::Pooled;
use user_rt::spawn::own;
use user_rt::{Result, utcb};

use crate::attackers::{Den, alive_if, bind_pool, memory_and_slot, sit, with_memory};
use crate::words::own_word;

// --- a large page where small ones were ----------------------------------------------------------

const SMALL_AT: u64 = 0xb0_0000_0000;

/// Maps a page of 2 MiB where 511 small pages were, and one is still.
pub fn large_over_small(den: &mut Den) -> Result<()> {
    let small: Frame = den.nursery.make(12 | 512 << 8)?;
    let large: Frame = den.nursery.make(21)?;
    own::vspace().map(&small, SMALL_AT, Access::Write)?;
    own::vspace().unmap_pages(&small, SMALL_AT, Pages { first: 0, count: 511 })?;
    own_word(0).store(large.cap().0.into(), SeqCst);
    den.start_on_all(large_mapper)
}

extern "C" fn large_mapper(_: u64) -> ! {
    let large = Frame::at(Cap(own_word(0).load(SeqCst) as u32));
    loop {
        let mapped = own::vspace().map(&large, SMALL_AT, Access::Write);
        alive_if(mapped.is_err_and(|refusal| refusal.error == Error::Mapped));
    }
}

// --- the largest pool ----------------------------------------------------------------------------

/// Cells of the largest pool, as a base-2 logarithm.
const CELLS_LOG2: u8 = 14;
/// Where the pool's last page finds another one.
const TOO_SHORT: u64 = 0xb1_0000_0000;
const LONG_ENOUGH: u64 = 0xb2_0000_0000;

/// Binds the largest pool, first where it does not fit and then where it does, and ends it.
pub fn large_pool(den: &mut Den) -> Result<()> {
    let page: Frame = den.nursery.make(12)?;
    own::vspace().map(&page, TOO_SHORT + (pool_pages(CELLS_LOG2) - 1) * PAGE_SIZE, Access::Read)?;
    let memory = den.nursery.make(22)?;
    let slot = den.nursery.take_slot()?;
    let reader = den.task(den.last_cpu(), sit, 0)?;
    own_word(0).store(reader.task.cap().0.into(), SeqCst);
    den.start(den.last_cpu(), pool_binder, memory_and_slot(&memory, slot))
}

extern "C" fn pool_binder(argument: u64) -> ! {
    let (memory, slot) = with_memory(argument);
    let (pool, reader) = (EventPool::at(slot), Task::at(Cap(own_word(0).load(SeqCst) as u32)));
    let bind = |at| bind_pool(&pool, &reader, at);
    loop {
        let made = memory.retype::<EventPool>(CELLS_LOG2.into(), own::cnode().slot(slot), 1);
        let refused = bind(TOO_SHORT).is_err_and(|refusal| refusal.error == Error::Mapped);
        let bound = bind(LONG_ENOUGH);
        let _ = memory.reset(Pins::Hold);
        alive_if(made.is_ok() && refused && bound.is_ok());
    }
}

// --- pages that are shared in vain ---------------------------------------------------------------

const FROM: u64 = 0xb3_0000_0000;
const WINDOW: u64 = 0xb4_0000_0000;
const BYTES: u64 = MESSAGE_PAGES_MAX * PAGE_SIZE;
const SERVER: u32 = 0;

/// Shares 64 pages with a server whose window has room for 63, and gets 64 where 63 fit.
pub fn shared_in_vain(den: &mut Den) -> Result<()> {
    let cpu = den.last_cpu();
    let group = den.nursery.make_group(4, 4)?;
    own_word(0).store(group.cap().0.into(), SeqCst);
    let frame: Frame = den.nursery.make(12 | MESSAGE_PAGES_MAX << 8)?;
    own::vspace().map_pool(&frame, FROM)?;
    let last: Frame = den.nursery.make(12)?;
    own::vspace().map(&last, WINDOW + BYTES - PAGE_SIZE, Access::Read)?;
    let server = den.task(cpu, short_server, 0)?;
    group.expose_task(SERVER, &server.task)?;
    server.task.resume()?;
    den.start_on_all(vain_sharer)
}

fn share_all() {
    utcb::current().send_ranges(&[PageRange::new(PageMode::Share, FROM, MESSAGE_PAGES_MAX)]);
}

extern "C" fn short_server(_: u64) -> ! {
    loop {
        utcb::current().open_window(WINDOW, BYTES);
        let _ = ipc::recv();
        share_all();
        let _ = ipc::reply_recv(&Message::new(1, [0; 4]).with_pages());
    }
}

extern "C" fn vain_sharer(_: u64) -> ! {
    let server = Group::at(Cap(own_word(0).load(SeqCst) as u32)).exposure(SERVER);
    loop {
        share_all();
        let refused = server.call(&Message::new(1, [0; 4]).with_pages()).is_err();
        utcb::current().open_window(WINDOW, BYTES);
        let answered = server.call(&Message::new(1, [0; 4])).is_ok();
        let _ = own::vspace().drop_pages(Pooled::new(WINDOW, MESSAGE_PAGES_MAX - 1));
        alive_if(refused && answered);
    }
}
