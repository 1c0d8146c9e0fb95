//! Tasks that do something forbidden: checks whether each survives as expected.

use core::sync::atomic::Ordering::Relaxed;

use abi::Error;
use user_rt::arch;
use user_rt::boot;
use user_rt::ipc::{Message, Patience, reply_recv};
use user_rt::spawn::Entry;

use crate::block::Block;
use crate::lab::{Lab, PUPPETS_MAX, Wanted};
use crate::suite::Failure;

/// The fate of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It continued, and answers calls.
    Alive,
    /// Its process is gone.
    Dead,
    /// Either of the two, where CPUs and emulators differ.
    Either,
}

/// Seconds to determine a fate.
const LIMIT_SECONDS: u64 = 20;

impl Lab<'_> {
    /// Runs `entry` as a task of the process, which must not be this one, and determines its fate
    /// by calling it. An entry that completes ends in [`survive`].
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

/// Answers calls forever.
pub fn survive() -> ! {
    loop {
        let _ = reply_recv(&Message::default());
    }
}

/// Reads a byte.
pub extern "C" fn read(address: u64) -> ! {
    // SAFETY: none: the effect is what the test is about. Volatile, so that the read happens.
    unsafe { (address as *const u8).read_volatile() };
    survive()
}

/// Reads 32 bits, as devices require.
pub extern "C" fn read_register(address: u64) -> ! {
    // SAFETY: as above.
    unsafe { (address as *const u32).read_volatile() };
    survive()
}

/// Writes a byte.
pub extern "C" fn write(address: u64) -> ! {
    // SAFETY: as above; either this program does not use the memory otherwise, or the write faults.
    unsafe { (address as *mut u8).write_volatile(0xc3) };
    survive()
}

/// Jumps to an address.
pub extern "C" fn jump(address: u64) -> ! {
    // SAFETY: as above; if the jump succeeds, a return instruction is there.
    unsafe { core::arch::asm!("call {}", in(reg) address, clobber_abi("sysv64")) };
    survive()
}

/// Reads a byte repeatedly, and counts in the block of puppet `number`. Dies when the read fails.
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

/// Reads 32 bits repeatedly, as devices require, and counts in the block of puppet `number`.
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

/// Writes at an address forever, and counts.
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

/// Writes further and further down its stack.
pub extern "C" fn overflow(_: u64) -> ! {
    let mut place = 0u8;
    let mut address = &raw mut place;
    loop {
        address = address.wrapping_sub(1024);
        // SAFETY: as above; the stack of this task is a few pages, and the page below it faults.
        unsafe { address.write_volatile(1) };
    }
}

/// Writes a return instruction to its UTCB and runs it.
pub extern "C" fn jump_to_utcb(_: u64) -> ! {
    let address = arch::fs_base();
    // SAFETY: as above; it writes the first message word, which nothing else uses here.
    unsafe { (address as *mut u8).write_volatile(0xc3) };
    jump(address)
}

/// Writes a return instruction to its stack and runs it.
pub extern "C" fn jump_to_stack(_: u64) -> ! {
    let code = [0xc3u8; 16];
    jump(core::hint::black_box(&code).as_ptr() as u64)
}

/// Reads the address of the kernel's interrupt table from the CPU.
pub extern "C" fn read_interrupt_table(_: u64) -> ! {
    let mut table = [0u8; 16];
    // SAFETY: ten bytes of it are written.
    unsafe { core::arch::asm!("sidt [{}]", in(reg) table.as_mut_ptr()) };
    core::hint::black_box(&table);
    survive()
}
