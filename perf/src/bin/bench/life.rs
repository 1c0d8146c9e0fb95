//! The life of capabilities and objects: copy, delete, revoke, retype; a process and a task, from
//! the first object until their memory is free again.

use abi::{Cap, ObjType, Op, RegIndex, Rights, Target};
use user_rt::arch::{Args, fast, syscall};
use user_rt::cap::{CNode, Handle, Notification, Process, SchedContext, Task, Untyped, VSpace};
use user_rt::invoke::{Pins, copy, start_regs};
use user_rt::layout::{slot, utcb_va};
use user_rt::spawn::own;

use crate::block::{Block, Word};
use crate::measure::{measure, measure_undone, park};

/// Samples and warm-up of the rows that take a fresh slot each time.
pub const FRESH_SLOTS: u32 = 1200;
/// Copies in the subtree that [`revoke_client`] revokes. It needs that many slots, and one for the
/// top.
const COPIES: u32 = 1000;
pub const TREE_SLOTS: u32 = COPIES + 1;
/// Slots of the objects of a process, or of a task.
pub const OBJECT_SLOTS: u32 = 3;
/// Sizes of the memory of these rows, as base-2 logarithms.
pub const NOTES_LOG2: u64 = 18;
pub const TASK_LOG2: u64 = 14;
pub const PROCESS_LOG2: u64 = 17;
pub const MANY_LOG2: u64 = 20;
/// Samples of the rows that make objects with much memory or many slots; the warm-up has at most as
/// many.
pub const MANY_SAMPLES: u64 = 60;

/// A place in the address space that no task of the bench uses, and a priority below the client's.
pub const PLACE: u32 = 60;
const PRIORITY: u8 = 10;
/// Sizes of a row's process: slots, page tables, tasks.
pub const SLOTS: u64 = 64;
pub const TABLES: u64 = 8;
pub const TASKS: u64 = 8;

/// Returns the slot that a word of the block names.
pub fn named(block: Block, word: Word) -> Cap {
    Cap(block.get(word) as u32)
}

/// Returns the row's slots, one after the other, as targets of the own CNode.
pub fn slots(block: Block) -> impl FnMut() -> u64 {
    let mut next = named(block, Word::Slots).0..;
    move || next.next().map_or(0, |at| Target::new(slot::CNODE, at).0)
}

/// Copies a capability with all rights into a slot that was never used.
pub extern "C" fn cap_copy_client(index: u64) -> ! {
    let block = Block::at(index);
    let (source, mut slot) = (named(block, Word::NoteServer).arg(), slots(block));
    measure(block, || fast::order(Op::CapCopy, [source, slot(), u64::from(Rights::ALL.0), 0]))
}

/// Deletes a copy.
pub extern "C" fn cap_delete_client(index: u64) -> ! {
    let block = Block::at(index);
    let source = Notification::at(named(block, Word::NoteServer));
    let first = named(block, Word::Slots).0;
    let all = block.get(Word::Warmup) + block.get(Word::Samples);
    for at in first..first + all as u32 {
        if copy(&source, own::cnode().slot(Cap(at)), Rights::ALL, 0).is_err() {
            park();
        }
    }
    let mut slot = slots(block);
    measure(block, || fast::on(Op::CapDelete, slot()).0)
}

/// Makes a Notification in a slot that was never used.
pub extern "C" fn retype_client(index: u64) -> ! {
    let block = Block::at(index);
    let memory = Target::new(named(block, Word::Untyped), ObjType::Notification as u32).0;
    let mut slot = slots(block);
    measure(block, || fast::order(Op::Retype, [memory, 0, slot(), 1]))
}

/// Revokes a capability of which there are many copies.
pub extern "C" fn revoke_client(index: u64) -> ! {
    let block = Block::at(index);
    let first = named(block, Word::Slots).0;
    let place = |at: u32| own::cnode().slot(Cap(first + at));
    let top = Notification::at(Cap(first));
    let fill = || (1..=COPIES).all(|at| copy(&top, place(at), Rights::ALL, 0).is_ok());
    let source = Notification::at(named(block, Word::NoteServer));
    if copy(&source, place(0), Rights::ALL, 0).is_err() || !fill() {
        park();
    }
    let revoke = Args::plain(Op::CapRevoke, Target::new(slot::CNODE, first).0, 0, 0, 0);
    measure_undone(block, || syscall(revoke).info, fill)
}

/// Makes a task of the own process with CPU time of its own, resumes it, and takes its memory back
/// before it has run.
pub extern "C" fn task_client(index: u64) -> ! {
    let block = Block::at(index);
    let memory = Untyped::at(named(block, Word::Untyped));
    let first = named(block, Word::Slots).0;
    let mut regs = start_regs(0, 0);
    regs[RegIndex::FsBase as usize] = utcb_va(PLACE);
    measure(block, || {
        let cnode = own::cnode();
        let (task, sched) = (Task::at(Cap(first)), SchedContext::at(Cap(first + 1)));
        let made = memory
            .retype::<Task>(0, cnode.slot(task.cap()), 1)
            .and_then(|_| memory.retype::<SchedContext>(0, cnode.slot(sched.cap()), 1))
            .and_then(|_| task.configure(&own::process(), utcb_va(PLACE), 0))
            .and_then(|_| sched.configure(PRIORITY, u64::MAX))
            .and_then(|()| sched.bind(&task))
            .and_then(|()| task.write_regs(&regs))
            .and_then(|()| task.resume());
        made.and_then(|()| memory.take_back(Pins::Hold)).is_ok()
    })
}

/// Makes a process with a CSpace and an address space, and takes its memory back.
pub extern "C" fn process_client(index: u64) -> ! {
    let block = Block::at(index);
    let memory = Untyped::at(named(block, Word::Untyped));
    let first = named(block, Word::Slots).0;
    measure(block, || {
        let own = own::cnode();
        let cnode = CNode::at(Cap(first));
        let (vspace, process) = (VSpace::at(Cap(first + 1)), Process::at(Cap(first + 2)));
        let made = memory
            .retype::<CNode>(SLOTS, own.slot(cnode.cap()), 1)
            .and_then(|_| memory.retype::<VSpace>(TABLES, own.slot(vspace.cap()), 1))
            .and_then(|_| memory.retype::<Process>(TASKS, own.slot(process.cap()), 1))
            .and_then(|_| process.configure(&cnode, &vspace, false));
        made.and_then(|()| memory.take_back(Pins::Hold)).is_ok()
    })
}
