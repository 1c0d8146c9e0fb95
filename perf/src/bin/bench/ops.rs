//! System calls that no other row makes, each measured alone. Its effect is undone before the next
//! sample, so that all samples begin in the same state.
//!
//! These rows exist so that no operation becomes slower unnoticed.

use abi::audit::may;
use abi::{
    Cap, Counter, MsgInfo, ObjType, Op, PAGE_LOG2, PAGE_SIZE, PageMode, PageRange, RegIndex, Rights, Target,
};
use user_rt::arch::{self, Args, syscall};
use user_rt::cap::{
    Access, CNode, EventPool, Frame, Group, Handle, Notification, Process, Reply, SchedContext, Task,
    Untyped, VSpace,
};
use user_rt::invoke::{Pins, start_regs};
use user_rt::layout::{slot, utcb_va};
use user_rt::pages::Pooled;
use user_rt::spawn::own;

use crate::block::{Block, Word};
use crate::life::{PLACE, SLOTS, TABLES, TASKS, named};
use crate::measure::{Verdict, measure, measure_undone, park};
use crate::roles::{MAP_VA, PAGER_SPACE, say_ready, server};

/// Slots of one of these rows; its memory, as a base-2 logarithm; the memory of the row with a
/// pool.
pub const OPS_SLOTS: u32 = 8;
pub const OPS_LOG2: u64 = 17;
pub const POOL_LOG2: u64 = 19;
/// Members and exposures of a group.
const GROUP_SIZE: u64 = 4 | 4 << 16;
/// An event pool of 1,024 cells.
const POOL_CELLS_LOG2: u64 = 10;

/// Makes a row's objects of its memory, in its slots one after the other.
struct Maker {
    memory: Untyped,
    next: u32,
}

impl Maker {
    fn new(block: Block) -> Maker {
        Maker { memory: Untyped::at(named(block, Word::Untyped)), next: named(block, Word::Slots).0 }
    }

    fn slot(&mut self) -> Cap {
        self.next += 1;
        Cap(self.next - 1)
    }

    /// Makes an object. If that fails, the task ends here, and the bench notices at its deadline.
    fn make<T: Handle>(&mut self, size: u64) -> T {
        let at = self.slot();
        well(self.memory.retype::<T>(size, own::cnode().slot(at), 1));
        T::at(at)
    }

    /// Makes a suspended task of the own process, which never runs.
    fn task(&mut self) -> Task {
        let task: Task = self.make(0);
        well(task.configure(&own::process(), utcb_va(PLACE), 0));
        let mut regs = start_regs(0, 0);
        regs[RegIndex::FsBase as usize] = utcb_va(PLACE);
        well(task.write_regs(&regs));
        task
    }
}

/// Returns the value, or ends the client: the bench then notices at its deadline.
fn well<T>(result: user_rt::Result<T>) -> T {
    result.unwrap_or_else(|_| park())
}

/// Repeats one system call.
#[inline(always)]
fn again(block: Block, args: Args) -> ! {
    measure(block, || syscall(args).info)
}

/// Repeats one system call and another that undoes it.
#[inline(always)]
fn undone(block: Block, args: Args, undo: Args) -> ! {
    measure_undone(block, || syscall(args).info, || syscall(undo).info.good())
}

/// Moves a capability to another slot, and back.
pub extern "C" fn cap_move_client(index: u64) -> ! {
    let block = Block::at(index);
    let mut maker = Maker::new(block);
    let note: Notification = maker.make(0);
    let to = maker.slot();
    let step = |from: Cap, to: Cap| Args::plain(Op::CapMove, from.arg(), own_slot(to), 0, 0);
    undone(block, step(note.cap(), to), step(to, note.cap()))
}

/// Encodes a slot of the own CNode as an argument.
fn own_slot(at: Cap) -> u64 {
    Target::new(slot::CNODE, at.0).0
}

pub extern "C" fn cap_inspect_client(index: u64) -> ! {
    let block = Block::at(index);
    again(block, Args::plain(Op::CapInspect, own_slot(named(block, Word::NoteServer)), 0, 0, 0))
}

pub extern "C" fn cap_list_client(index: u64) -> ! {
    again(Block::at(index), Args::plain(Op::CapList, own::cnode().arg(), 0, 0, 0))
}

pub extern "C" fn cap_verify_client(index: u64) -> ! {
    let args = Args::plain(Op::CapVerify, own::process().arg(), slot::VSPACE.arg(), 0, 0);
    again(Block::at(index), args)
}

/// Resets memory of which one object was made.
pub extern "C" fn untyped_reset_client(index: u64) -> ! {
    let block = Block::at(index);
    let mut maker = Maker::new(block);
    let note: Notification = maker.make(0);
    let memory = maker.memory;
    let make = Args::plain(
        Op::Retype,
        Target::new(memory.cap(), ObjType::Notification as u32).0,
        0,
        own_slot(note.cap()),
        1,
    );
    undone(block, Args::plain(Op::UntypedReset, memory.arg(), Pins::Hold as u64, 0, 0), make)
}

/// Lets the own process join a group of its own, or leave it.
struct Membership {
    group: Group,
    place: Cap,
}

impl Membership {
    fn new(block: Block) -> Membership {
        let mut maker = Maker::new(block);
        Membership { group: maker.make(GROUP_SIZE), place: maker.slot() }
    }

    fn accept(&self) -> bool {
        own::process().accept(self.place, &self.group).is_ok()
    }

    fn join(&self) -> bool {
        self.accept() && self.group.add(&own::process(), Rights::SEND, 0).is_ok()
    }

    fn leave(&self) -> bool {
        self.group.remove(0).is_ok() && self.forget()
    }

    fn forget(&self) -> bool {
        own::cnode().delete(self.place).is_ok()
    }
}

pub extern "C" fn process_accept_client(index: u64) -> ! {
    let block = Block::at(index);
    let Membership { group, place } = Membership::new(block);
    again(block, Args::plain(Op::ProcessAccept, own::process().arg(), u64::from(place.0), group.arg(), 0))
}

pub extern "C" fn group_add_client(index: u64) -> ! {
    let block = Block::at(index);
    let membership = Membership::new(block);
    membership.accept();
    let rights = u64::from(Rights::SEND.0);
    let add = Args::plain(Op::GroupAdd, membership.group.arg(), own::process().arg(), rights, 0);
    measure_undone(block, || syscall(add).info, || membership.leave() && membership.accept())
}

pub extern "C" fn group_remove_client(index: u64) -> ! {
    let block = Block::at(index);
    let membership = Membership::new(block);
    membership.join();
    let remove = Args::plain(Op::GroupRemove, Target::new(membership.group.cap(), 0).0, 0, 0, 0);
    measure_undone(block, || syscall(remove).info, || membership.forget() && membership.join())
}

pub extern "C" fn group_member_client(index: u64) -> ! {
    let block = Block::at(index);
    let membership = Membership::new(block);
    membership.join();
    again(block, Args::plain(Op::GroupMember, Target::new(membership.group.cap(), 0).0, 0, 0, 0))
}

/// Returns the calls that expose a Notification in a group, and withdraw it.
fn exposing(block: Block) -> [Args; 2] {
    let mut maker = Maker::new(block);
    let (group, note): (Group, Notification) = (maker.make(GROUP_SIZE), maker.make(0));
    let at = Target::new(group.cap(), 0).0;
    [Args::plain(Op::Expose, at, note.arg(), 0, 0), Args::plain(Op::Withdraw, at, 0, 0, 0)]
}

pub extern "C" fn expose_client(index: u64) -> ! {
    let block = Block::at(index);
    let [expose, withdraw] = exposing(block);
    undone(block, expose, withdraw)
}

pub extern "C" fn withdraw_client(index: u64) -> ! {
    let block = Block::at(index);
    let [expose, withdraw] = exposing(block);
    syscall(expose);
    undone(block, withdraw, expose)
}

/// Repeats an operation on a suspended task.
#[inline(always)]
fn on_task(index: u64, op: Op) -> ! {
    let block = Block::at(index);
    again(block, Args::plain(op, Maker::new(block).task().arg(), 0, 0, 0))
}

pub extern "C" fn task_read_regs_client(index: u64) -> ! {
    on_task(index, Op::TaskReadRegs)
}

/// Writes the registers that were written before: they are still in the UTCB.
pub extern "C" fn task_write_regs_client(index: u64) -> ! {
    on_task(index, Op::TaskWriteRegs)
}

pub extern "C" fn task_cancel_client(index: u64) -> ! {
    on_task(index, Op::TaskCancel)
}

pub extern "C" fn task_debug_client(index: u64) -> ! {
    on_task(index, Op::TaskDebug)
}

pub extern "C" fn fault_handler_client(index: u64) -> ! {
    on_task(index, Op::FaultHandler)
}

/// Returns the calls that suspend a task, and resume it.
fn suspending(task: &Task) -> [Args; 2] {
    [Op::TaskSuspend, Op::TaskResume].map(|op| Args::plain(op, task.arg(), 0, 0, 0))
}

/// Suspends a task that has no CPU time, so that it never runs.
pub extern "C" fn task_suspend_client(index: u64) -> ! {
    let block = Block::at(index);
    let task = Maker::new(block).task();
    well(task.resume());
    let [suspend, resume] = suspending(&task);
    undone(block, suspend, resume)
}

pub extern "C" fn task_resume_client(index: u64) -> ! {
    let block = Block::at(index);
    let task = Maker::new(block).task();
    let [suspend, resume] = suspending(&task);
    undone(block, resume, suspend)
}

pub extern "C" fn task_kill_client(index: u64) -> ! {
    let block = Block::at(index);
    let task = Maker::new(block).task();
    let kill = Args::plain(Op::TaskKill, task.arg(), 0, 0, 0);
    let again = || {
        let mut maker = Maker::new(block);
        let taken = maker.memory.take_back(Pins::Hold).is_ok();
        taken && maker.task().cap() == task.cap()
    };
    measure_undone(block, || syscall(kill).info, again)
}

/// Kills a process with spaces and one task.
pub extern "C" fn process_kill_client(index: u64) -> ! {
    let block = Block::at(index);
    let make = || {
        let mut maker = Maker::new(block);
        let (cnode, vspace): (CNode, VSpace) = (maker.make(SLOTS), maker.make(TABLES));
        let process: Process = maker.make(TASKS);
        well(process.configure(&cnode, &vspace, false));
        let task: Task = maker.make(0);
        well(task.configure(&process, utcb_va(0), 0));
        (maker.memory, process)
    };
    let (memory, process) = make();
    let kill = Args::plain(Op::ProcessKill, process.arg(), 0, 0, 0);
    let again = || memory.take_back(Pins::Hold).is_ok() && make().1.cap() == process.cap();
    measure_undone(block, || syscall(kill).info, again)
}

pub extern "C" fn sched_configure_client(index: u64) -> ! {
    let block = Block::at(index);
    let sched: SchedContext = Maker::new(block).make(0);
    let by = own::sched_control().arg();
    again(block, Args::plain(Op::SchedConfigure, by, sched.arg(), 10, u64::MAX))
}

pub extern "C" fn sched_info_client(index: u64) -> ! {
    let block = Block::at(index);
    let sched: SchedContext = Maker::new(block).make(0);
    again(block, Args::plain(Op::SchedInfo, sched.arg(), 0, 0, 0))
}

/// Protects a page: writable, then read-only.
pub extern "C" fn protect_client(index: u64) -> ! {
    let block = Block::at(index);
    let frame = Frame::at(named(block, Word::Frame));
    well(own::vspace().map(&frame, MAP_VA, Access::Write));
    let [read, write] =
        [0, 1].map(|access| Args::plain(Op::Protect, own::vspace().arg(), frame.arg(), MAP_VA, access));
    undone(block, read, write)
}

pub extern "C" fn accessed_client(index: u64) -> ! {
    let block = Block::at(index);
    let frame = Frame::at(named(block, Word::Frame));
    well(own::vspace().map(&frame, MAP_VA, Access::Write));
    again(block, Args::plain(Op::Accessed, own::vspace().arg(), frame.arg(), MAP_VA, 0))
}

pub extern "C" fn pin_unpin_client(index: u64) -> ! {
    let block = Block::at(index);
    let (frame, machine) = (named(block, Word::Frame).arg(), own::machine().arg());
    let [pin, unpin] = [Op::FramePin, Op::FrameUnpin].map(|op| Args::plain(op, frame, machine, 0, 0));
    measure(block, || syscall(pin).info.0 | syscall(unpin).info.0 == 0)
}

/// Transfers a page of the own pool to another address, and back.
pub extern "C" fn page_transfer_client(index: u64) -> ! {
    let block = Block::at(index);
    let frame = Frame::at(named(block, Word::Frame));
    let space = own::vspace();
    well(space.map_pool(&frame, MAP_VA));
    let step = |from: u64, to: u64| {
        let range = PageRange { address: from, count: 1, large: false, mode: PageMode::Move };
        let [first, second] = range.words();
        Args { r9: second, ..Args::plain(Op::PageTransfer, space.arg(), space.arg(), first, to) }
    };
    undone(block, step(MAP_VA, MAP_VA + PAGE_SIZE), step(MAP_VA + PAGE_SIZE, MAP_VA))
}

/// Copies a page of the own pool that is mapped at two addresses.
pub extern "C" fn page_copy_client(index: u64) -> ! {
    let block = Block::at(index);
    let frame = Frame::at(named(block, Word::Frame));
    let fresh: Frame = Maker::new(block).make(u64::from(PAGE_LOG2));
    let (space, second) = (own::vspace(), MAP_VA + PAGE_SIZE);
    well(space.map_pool(&frame, MAP_VA));
    let range = PageRange { address: MAP_VA, count: 1, large: false, mode: PageMode::Copy };
    let [first, counts] = range.words();
    let share = Args { r9: counts, ..Args::plain(Op::PageTransfer, space.arg(), space.arg(), first, second) };
    syscall(share);
    let there = PageRange { address: second, ..range };
    let again = || {
        space.drop_pages(Pooled::of(&there)).is_ok()
            && space.protect_pooled(Pooled::of(&range), Access::Write).is_ok()
            && syscall(share).info.good()
    };
    let copy = Args::plain(Op::PageCopy, space.arg(), fresh.arg(), second, 0);
    measure_undone(block, || syscall(copy).info, again)
}

/// Sets the bases that the client has already.
pub extern "C" fn set_bases_client(index: u64) -> ! {
    again(Block::at(index), Args::plain(Op::SetBases, arch::fs_base(), 0, 0, 0))
}

/// Asks for room in the pool of a process to which no task sends.
pub extern "C" fn pool_room_client(index: u64) -> ! {
    let block = Block::at(index);
    let mut maker = Maker::new(block);
    let pool: EventPool = maker.make(POOL_CELLS_LOG2);
    again(block, Args::plain(Op::PoolRoom, pool.arg(), 0, 0, 0))
}

/// Reads a counter of the own CPU.
pub extern "C" fn machine_counter_client(index: u64) -> ! {
    let args = Args::plain(Op::MachineCounter, own::machine().arg(), Counter::FastCall as u64, 0, 0);
    again(Block::at(index), args)
}

/// Sets a rule that already holds, between labels that no object has.
pub extern "C" fn label_rule_client(index: u64) -> ! {
    let args = Args::plain(Op::LabelRule, own::machine().arg(), 30, 31, u64::from(may::ALL));
    again(Block::at(index), args)
}

pub extern "C" fn label_set_client(index: u64) -> ! {
    let block = Block::at(index);
    let note: Notification = Maker::new(block).make(0);
    again(block, Args::plain(Op::LabelSet, own::machine().arg(), note.arg(), 0, 0))
}

/// Forwards each call to the next server.
pub extern "C" fn forwarding_server(index: u64) -> ! {
    let front = server(Block::at(index));
    let behind = Target::new(front.cap(), front.index() + 1).0;
    let mut got = syscall(Args::new(Op::Recv));
    loop {
        let [rdx, r8, r9, r10] = got.message_registers();
        let on = Args { info: MsgInfo(0).op(Op::Forward), rdi: behind, rsi: 0, rdx, r8, r9, r10 };
        // If this fails, the client gets no answer, and the bench notices at its deadline.
        if syscall(on).info.0 != 0 {
            park();
        }
        got = syscall(Args::new(Op::Recv));
    }
}

/// Answers each call through a Reply object.
pub extern "C" fn saving_server(index: u64) -> ! {
    let memory = Untyped::at(slot::UNTYPED);
    let at = Cap(PAGER_SPACE.0 + 1);
    well(memory.retype::<Reply>(0, own::cnode().slot(at), 1));
    say_ready(Block::at(index));
    let save = Args::plain(Op::SaveReply, at.arg(), 0, 0, 0);
    let mut got = syscall(Args::new(Op::Recv));
    loop {
        let [rdx, r8, r9, r10] = got.message_registers();
        let answer = Args { info: MsgInfo(0).op(Op::Reply), rdi: at.arg(), rsi: 0, rdx, r8, r9, r10 };
        // If this fails, the client gets another answer, or none, and the bench notices at its
        // deadline.
        if syscall(save).info.0 | syscall(answer).info.0 != 0 {
            park();
        }
        got = syscall(Args::new(Op::Recv));
    }
}
