//! Handlers of faults: a task on every CPU, in the program's own process, so that every fault
//! leaves the address space and returns.

use abi::{FaultKind, Rights, Target};
use guest_tests::run::Run as _;
use user_rt::cap::{Group, Task};
use user_rt::fault::{Fault, Verdict, registers};
use user_rt::invoke::yield_now;
use user_rt::ipc::{Event, Message, Received, recv, reply_recv};
use user_rt::layout::slot;
use user_rt::spawn::{Child, Home, Nursery, Run, TaskSpec, task};

use crate::board::{Board, PORTERS, SPACES_MAX, Total, WORKERS_MAX};
use crate::content::RETURN_AT;
use crate::probe;

const PRIORITY: u8 = 150;
const STACK_PAGES: u32 = 6;
/// Places of the handlers in the address space, after the program's first task and the watchdog.
const FIRST_INDEX: u32 = 2;

/// Returns the group's exposure of a space's porter, after the handlers.
pub const fn porter_index(cpus: u32, space: usize, number: usize) -> u32 {
    cpus + (space * PORTERS + number) as u32
}

/// Returns the group's exposure of a worker as a user of locks, after the porters.
pub const fn worker_index(cpus: u32, worker: usize) -> u32 {
    porter_index(cpus, SPACES_MAX, 0) + worker as u32
}

/// The meaning of a member's custom bits: its space, and the low bits of the space's era.
#[derive(Clone, Copy)]
struct Whose {
    space: usize,
    era: u8,
}

impl Whose {
    const fn custom(self) -> u16 {
        self.space as u16 | (self.era as u16) << 8
    }

    const fn of(custom: u16) -> Whose {
        Whose { space: custom as u8 as usize % SPACES_MAX, era: (custom >> 8) as u8 }
    }

    /// Whether the space is still that one, and is not being destroyed.
    fn is_whole(self, board: &'static Board) -> bool {
        board.era(self.space).is_some_and(|era| era as u8 == self.era)
    }
}

const _: () = assert!(SPACES_MAX <= 1 << 8, "a space's number does not fit beside its era");

/// The group, and its handlers: exposure `n` is on CPU `n`; the spaces' porters and all workers
/// follow.
pub struct Handlers {
    group: Group,
    cpus: u32,
}

impl Handlers {
    pub fn start(nursery: &mut Nursery, cpus: u32) -> user_rt::Result<Handlers> {
        let exposures = worker_index(cpus, WORKERS_MAX) as u16;
        let group = nursery.make_group(SPACES_MAX as u16 + 2, exposures)?;
        for cpu in 0..cpus {
            let spec = TaskSpec {
                index: FIRST_INDEX + cpu,
                cpu,
                priority: PRIORITY,
                stack_pages: STACK_PAGES,
                run: Run::Function(handler),
                argument: 0,
            };
            let made = Home::own(|home| task(nursery, home, &spec))?;
            group.expose_task(cpu, &made.task)?;
            made.task.resume()?;
        }
        Ok(Handlers { group, cpus })
    }

    /// Makes a space's process a member, until it ends.
    pub fn admit(&self, child: &Child, space: usize, era: u64) -> user_rt::Result<()> {
        let rights = Rights(Rights::SEND.0 | Rights::STRING.0 | Rights::MAP.0);
        child.join(&self.group, slot::GROUPS, rights, Whose { space, era: era as u8 }.custom())?;
        Ok(())
    }

    /// Exposes a porter of a space, so that all can call it.
    pub fn expose(&self, space: usize, number: usize, task: &Task) -> user_rt::Result<()> {
        self.group.expose_task(porter_index(self.cpus, space, number), task)
    }

    /// Exposes a worker as a user of locks, in place of the worker that had its number before. That
    /// one was exposed until its end: others may take a lock over from an owner that is not.
    pub fn expose_worker(&self, worker: usize, task: &Task) -> user_rt::Result<()> {
        let index = worker_index(self.cpus, worker);
        let _ = self.group.withdraw(index);
        self.group.expose_task(index, task)
    }

    /// Withdraws the porters of a space.
    pub fn withdraw(&self, space: usize) {
        for number in 0..PORTERS {
            let _ = self.group.withdraw(porter_index(self.cpus, space, number));
        }
    }

    /// Makes the handler on a CPU handle a task's faults.
    pub fn take(&self, task: &Task, cpu: u32) -> user_rt::Result<()> {
        task.fault_handler(Some(Target::new(slot::GROUPS, cpu % self.cpus)))
    }
}

extern "C" fn handler(_: u64) -> ! {
    let board = Board::open();
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(call)) => match Fault::of(&call) {
                Some(fault) => handle(board, &call, &fault).reply_recv(),
                None => reply_recv(&Message::default()),
            },
            Ok(Event::Bits(_)) => recv(),
            // The faulting task has ended.
            Err(_) => {
                let _ = yield_now();
                recv()
            }
        }
    }
}

fn handle(board: &'static Board, call: &Received, fault: &Fault) -> Verdict {
    let regs = registers();
    let whose = Whose::of(call.custom);
    let probed = probe::of_registers(&regs);
    // An executed page may change between two instructions.
    let there = |address| {
        fault.address == address || (fault.rip == fault.address && fault.rip == address + RETURN_AT)
    };
    if let Some((address, on)) = probed
        && there(address)
        && fault.kind == FaultKind::Page
    {
        return Verdict::ResumeAt(on);
    }
    // When a space is destroyed, its tasks lose their memory while they run. By now the space may
    // have been made again.
    if whose.is_whole(board) {
        let Fault { kind, address, rip, error, .. } = *fault;
        let sender = call.sender.raw();
        board.complain(
            Total::Strange,
            format_args!(
                "task {sender:#x} of space {}: {kind:?} at {address:#x}, error {error:#x}, rip {rip:#x}, \
                 probing {probed:#x?}",
                whose.space
            ),
        );
    }
    probed.map_or(Verdict::Kill, |(_, on)| Verdict::ResumeAt(on))
}
