//! The processes and workers of a run, and the capabilities that each gets.

use alloc::vec::Vec;

use abi::{Cap, MachineRights, ObjType, Op, Rights, Target, machine_rights};
use guest_tests::failure::Failure;
use guest_tests::run::Run as _;
use user_rt::arch::shared::Shared;
use user_rt::arch::{Args, memory, syscall};
use user_rt::cap::{Group, Handle, Untyped};
use user_rt::elf::Image;
use user_rt::invoke::{copy, transfer};
use user_rt::layout::slot;
use user_rt::spawn::{Child, Nursery, ProcessSpec, Run, StartIn, TaskSpec, own, process, task};

use crate::arena;
use crate::board::{Board, Of, PROCESSES, Total};
use crate::clusters::{self, PEER_CNODES, PEER_PROCESSES, PROCESS_RIGHTS, cnode_rights};
use crate::talk;
use crate::worker::worker;

/// Slots of a process.
pub const SLOTS: u32 = 4096;
const TABLES: u32 = 40;
const STACK_PAGES: u32 = 13;
/// Memory of a process's heap.
pub const HEAP_LOG2: u8 = 23;
pub const HEAP: Cap = Cap(398);
/// The group in which workers wake each other: worker `n` at exposure `n`, the director after them.
pub const WAKERS: Cap = slot::GROUPS;
pub const PRIORITY: u8 = 50;

pub struct Cast {
    pub children: Vec<Child>,
}

/// Returns a worker's process. The workers of one CPU are of different processes, and those of one
/// process on different CPUs.
pub fn process_of(worker: usize, cpus: usize) -> usize {
    (worker + worker / cpus * (cpus % 3).max(1)) % PROCESSES
}

impl Cast {
    pub fn new(
        board: &'static Board,
        nursery: &mut Nursery,
        shared: &Shared,
        wakers: &Group,
        talk: &Group,
    ) -> Result<Cast, Failure> {
        let image = Image::parse(memory::archive()).map_err(Failure::Image)?;
        let (workers, cpus) = (board.get(Total::Workers) as usize, board.get(Total::Cpus) as usize);
        let mut children = Vec::new();
        for number in 0..PROCESSES {
            let spec = ProcessSpec {
                image: &image,
                vector: number % 2 == 1,
                tasks: workers as u32 + 2,
                slots: SLOTS,
                tables: TABLES,
                with_file: false,
                untyped_log2: &[],
                groups: StartIn::None,
                line: None,
            };
            let child = process(nursery, &spec)?;
            shared.map_into(&child.vspace)?;
            child.give_machine(MachineRights::REPORT | machine_rights::INFO, 0)?;
            child.give_sched_control(&own::sched_control())?;
            let rights = Rights::NOTIFY | Rights::LISTEN;
            child.join(wakers, WAKERS, rights, number as u16)?;
            talk::join(&child, talk, number)?;
            children.push(child);
        }
        let cast = Cast { children };
        cast.introduce()?;
        for number in 0..PROCESSES {
            cast.furnish(nursery, number)?;
        }
        for worker in 0..workers {
            cast.employ(board, nursery, talk, worker, cpus)?;
        }
        Ok(cast)
    }

    /// Gives each process capabilities of the others.
    fn introduce(&self) -> Result<(), Failure> {
        for (who, child) in self.children.iter().enumerate() {
            for (of, other) in self.children.iter().enumerate() {
                let (cnode, process) = (PEER_CNODES + of as u32, PEER_PROCESSES + of as u32);
                copy(&other.cnode, child.cnode.slot(Cap(cnode)), cnode_rights(of, who), 0)?;
                copy(&other.process, child.cnode.slot(Cap(process)), PROCESS_RIGHTS, 0)?;
            }
        }
        Ok(())
    }

    /// Gives a process the memory for its clusters and its heap.
    fn furnish(&self, nursery: &mut Nursery, number: usize) -> Result<(), Failure> {
        let cnode = &self.children[number].cnode;
        for slot in clusters::MEMORIES {
            let memory: Untyped = nursery.make(u64::from(clusters::MEMORY_LOG2))?;
            transfer(memory, cnode.slot(slot))?;
        }
        let heap: Untyped = nursery.make(u64::from(HEAP_LOG2))?;
        Ok(transfer(heap, cnode.slot(HEAP))?)
    }

    fn employ(
        &self,
        board: &'static Board,
        nursery: &mut Nursery,
        talk: &Group,
        number: usize,
        cpus: usize,
    ) -> Result<(), Failure> {
        let (of, cpu) = (process_of(number, cpus), number % cpus);
        let child = &self.children[of];
        board.workers[number].set(Of::Process, of as u64);
        board.workers[number].set(Of::Cpu, cpu as u64);
        let memory: Untyped = nursery.make(u64::from(arena::MEMORY_LOG2))?;
        transfer(memory, child.cnode.slot(arena::memory(number)))?;
        let spec = TaskSpec {
            index: number as u32 + 1,
            cpu: cpu as u32,
            priority: talk::priority(board, number),
            stack_pages: STACK_PAGES,
            run: Run::Function(worker),
            argument: number as u64,
        };
        let made = task(nursery, &child.home(), &spec)?;
        talk::introduce(board, nursery, talk, &self.children, number, &made)?;
        Ok(made.task.resume()?)
    }
}

/// Returns the kernel's bytes of a Notification and of a group.
pub fn measure(nursery: &mut Nursery) -> Result<(u64, u64), Failure> {
    let mut scratch = nursery.split(12, 4)?;
    let mut left = 1 << 12;
    let mut make = |what: ObjType, size: u64| -> Result<u64, Failure> {
        let to = own::cnode().slot(scratch.take_slot()?);
        let from = Target::new(scratch.untyped().cap(), what as u32).0;
        let now = syscall(Args::plain(Op::Retype, from, size, to.0.0, 1)).check()?.rdi;
        Ok(core::mem::replace(&mut left, now) - now)
    };
    // A group of one member and one exposure has three more lines: record, membership, exposure.
    let sizes = (make(ObjType::Notification, 0)?, make(ObjType::Group, 1 | 1 << 16)? - 192);
    scratch.reset()?;
    Ok(sizes)
}
