//! Tasks that do something forbidden, and whether they live to tell.

use core::sync::atomic::Ordering::Relaxed;

use abi::Error;
use user_rt::arch;
use user_rt::boot;
use user_rt::ipc::{Message, Patience, reply_recv};
use user_rt::spawn::Entry;

use crate::block::Block;
use crate::lab::{Lab, PUPPETS_MAX, Wanted};
use crate::suite::Failure;

/// What became of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It went on, and answers calls.
    Alive,
    /// Its process is gone.
    Dead,
    /// One or the other, for what CPUs and emulators do differently; nothing is ever both.
    Either,
}

/// Seconds that it may take to find out.
const LIMIT_SECONDS: u64 = 20;

impl Lab<'_> {
    /// Runs `entry` as a task of the process, which must not be this one, and finds out what becomes
    /// of it by calling it: an entry that comes through ends in [`survive`].
    pub fn fate(&mut self, wanted: &Wanted, entry: Entry, argument: u64) -> Result<Fate, Failure> {
        let task = self.task(wanted, entry, argument)?.task;
        let group = self.group()?;
        let index = PUPPETS_MAX + 2;
        group.expose_task(index, &task)?;
        task.resume()?;
        let patience = Patience::Until(arch::now() + LIMIT_SECONDS * boot::facts().tsc_hz);
        let called = group.exposure(index).call_within(&Message::default(), patience);
        group.withdraw(index)?;
        match called {
            Ok(_) => Ok(Fate::Alive),
            Err(refusal) if refusal.error == Error::Dead => Ok(Fate::Dead),
            Err(refusal) => Err(Failure::Of(alloc::format!("neither alive nor dead: {refusal}"))),
        }
    }
}

/// Answers calls for ever.
pub fn survive() -> ! {
    loop {
        let _ = reply_recv(&Message::default());
    }
}

/// Reads a byte.
pub extern "C" fn read(address: u64) -> ! {
    // SAFETY: not that it is: what happens to whom is what the test is about. Volatile, so that it does.
    unsafe { (address as *const u8).read_volatile() };
    survive()
}

/// Reads 32 bits, as devices want it.
pub extern "C" fn read_register(address: u64) -> ! {
    // SAFETY: as above.
    unsafe { (address as *const u32).read_volatile() };
    survive()
}

/// Writes a byte.
pub extern "C" fn write(address: u64) -> ! {
    // SAFETY: as above; it is memory that this program has no other use for, or the write faults.
    unsafe { (address as *mut u8).write_volatile(0xc3) };
    survive()
}

/// Jumps there.
pub extern "C" fn jump(address: u64) -> ! {
    // SAFETY: as above; where the jump succeeds there is a return instruction.
    unsafe { core::arch::asm!("call {}", in(reg) address, clobber_abi("sysv64")) };
    survive()
}

/// Reads a byte over and over, telling the block of puppet `number` how often; dies when it cannot.
pub extern "C" fn keep_reading(number: u64) -> ! {
    let block = Block::at(number as u32);
    let address = block.note(0).load(Relaxed) as *const u8;
    loop {
        // SAFETY: as above.
        unsafe { address.read_volatile() };
        block.note(1).fetch_add(1, Relaxed);
        arch::pause();
    }
}

/// The same with 32 bits, as devices want it.
pub extern "C" fn keep_reading_register(number: u64) -> ! {
    let block = Block::at(number as u32);
    let address = block.note(0).load(Relaxed) as *const u32;
    loop {
        // SAFETY: as above.
        unsafe { address.read_volatile() };
        block.note(1).fetch_add(1, Relaxed);
        arch::pause();
    }
}

/// Writes at an address for ever, and counts.
pub extern "C" fn keep_writing(number: u64) -> ! {
    let block = Block::at(number as u32);
    let address = block.note(0).load(Relaxed) as *mut u8;
    loop {
        // SAFETY: as above.
        unsafe { address.write_volatile(1) };
        block.note(1).fetch_add(1, Relaxed);
        arch::pause();
    }
}

/// Writes ever further down its stack.
pub extern "C" fn overflow(_: u64) -> ! {
    let mut place = 0u8;
    let mut address = &raw mut place;
    loop {
        address = address.wrapping_sub(1024);
        // SAFETY: as above; the stack of this task is a few pages, and what is below it faults.
        unsafe { address.write_volatile(1) };
    }
}

/// Writes a return instruction to its UTCB and runs it.
pub extern "C" fn jump_to_utcb(_: u64) -> ! {
    let address = arch::fs_base();
    // SAFETY: as above; the first message word, which nobody else uses here.
    unsafe { (address as *mut u8).write_volatile(0xc3) };
    jump(address)
}

/// The same on its stack.
pub extern "C" fn jump_to_stack(_: u64) -> ! {
    let code = [0xc3u8; 16];
    jump(core::hint::black_box(&code).as_ptr() as u64)
}

/// Asks the CPU where the kernel's interrupt table is.
pub extern "C" fn read_interrupt_table(_: u64) -> ! {
    let mut table = [0u8; 16];
    // SAFETY: ten bytes of it are written.
    unsafe { core::arch::asm!("sidt [{}]", in(reg) table.as_mut_ptr()) };
    core::hint::black_box(&table);
    survive()
}
