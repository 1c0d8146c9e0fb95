//! The initial state of a case: a few processes with tasks, groups in which some of them meet, and
//! a few capabilities of these objects, with few rights. Process 1 makes all this; afterwards it
//! only wakes tasks that wait.

use abi::audit::may;
use abi::{Cap, MEMBER_RIGHTS, ObjType, Op, PageMode, PageRange, Rights, Target};

use crate::world::dice::Dice;
use crate::world::make::{CONTROL, Proc};
use crate::world::{Tcb, World};

/// What process 1 has from boot on, and shares.
const BOOT_OBJECTS: [Cap; 2] = [abi::INIT_MACHINE, abi::INIT_SCHED_CONTROL];
/// Slots of a process's CSpace.
pub const SLOTS: u32 = 32;
/// The slot in which a process has its own CNode.
pub const OWN: u32 = 1;
/// Slots that processes offer for memberships, and for messages.
pub const ACCEPT: u32 = 24;
pub const LISTEN: u32 = 27;
/// Where pages of messages may arrive, and how many bytes.
pub const WINDOW: u64 = 0x7000_0000;
pub const WINDOW_BYTES: u64 = 0x8000;
/// Addresses that a process maps at.
pub const PAGES: [u64; 4] = [0x6000_0000, 0x6000_1000, 0x6000_2000, 0x6000_3000];
/// Where event pools are mapped.
pub const POOLS: u64 = 0x5800_0000;
/// The bit that pools raise.
pub const POOL_BIT: u64 = 1 << 40;
/// Where watchers have the bits of what happens in groups.
pub const WATCH_SHIFT: u32 = 44;
/// The priority of all tasks.
const PRIORITY: u64 = 10;
const ENDLESS: u64 = u64::MAX;
const MEMORY: u64 = (1 << 20) + (1 << 18);
/// Exposures of a group before those of one task for each CPU.
pub const EXPOSURES: u32 = 8;

/// A process of the cast.
#[derive(Clone, Copy)]
pub struct Player {
    pub proc: Proc,
    /// The next slot that is empty.
    next: u32,
}

pub struct Cast {
    pub w: World,
    rich: bool,
    /// Nobody but process 1 sets labels.
    secure: bool,
    pub players: Vec<Player>,
    /// All tasks, and process 1's bookkeeping of what it made.
    pub tasks: Vec<Tcb>,
    groups: Vec<Cap>,
    shared: Vec<Cap>,
}

impl Cast {
    /// A `rich` cast has more in common, with more rights.
    pub fn new(dice: &mut Dice, rich: bool) -> Cast {
        let cpus = if rich { dice.of(&[1, 2, 2]) } else { dice.of(&[1, 1, 2]) };
        let mut w = World::small(cpus, MEMORY);
        w.gate.fast = dice.once_in(2);
        let empty = Vec::new;
        let secure = !rich || !dice.once_in(4);
        let mut cast = Cast {
            w,
            rich,
            secure,
            players: Vec::new(),
            tasks: Vec::new(),
            groups: empty(),
            shared: empty(),
        };
        cast.build(dice);
        cast
    }

    fn build(&mut self, dice: &mut Dice) {
        for _ in 0..3 + dice.below(2) {
            let cnode = self.w.make(0, ObjType::CNode, u64::from(SLOTS));
            let vspace = self.w.make(0, ObjType::VSpace, 6);
            let process = self.w.make(0, ObjType::Process, 4);
            self.must(Op::ProcessConfigure, &[process.arg(), cnode.arg(), vspace.arg(), 0]);
            self.players.push(Player { proc: Proc { process, cnode, vspace }, next: OWN + 1 });
        }
        for _ in 0..1 + dice.below(2) {
            let cpus = self.w.cpus() as u64;
            let group = self.w.group(8, u64::from(EXPOSURES) + cpus);
            self.groups.push(group);
        }
        for player in 0..self.players.len() {
            for _ in 0..1 + usize::from(dice.once_in(2)) {
                self.task(player, dice);
            }
        }
        self.things(dice);
        if dice.once_in(3) {
            self.label(dice);
            self.secret(dice);
        }
        for player in 0..self.players.len() {
            self.furnish(player, dice);
            if dice.once_in(3) {
                self.grow(player);
            }
        }
        self.expose(dice);
        for player in 0..self.players.len() {
            self.pool(player, dice);
            self.pages(player, dice);
        }
        for (number, task) in self.tasks.clone().into_iter().enumerate() {
            if number == 0 || !dice.once_in(5) {
                self.must(Op::TaskResume, &[task.cap.arg()]);
            }
        }
        self.w.run();
    }

    fn must(&mut self, op: Op, args: &[u64]) {
        self.w.must(0, op, args);
    }

    fn task(&mut self, player: usize, dice: &mut Dice) {
        let n = dice.below(self.w.cpus());
        let of = self.players[player].proc;
        let task = self.w.task_with(of, n, PRIORITY, true);
        self.must(Op::SchedConfigure, &[CONTROL, task.sc.arg(), PRIORITY, ENDLESS]);
        self.tasks.push(task);
    }

    /// Objects that processes share, or that one of them has.
    fn things(&mut self, dice: &mut Dice) {
        let kinds = [
            (ObjType::Notification, 0),
            (ObjType::Notification, 0),
            (ObjType::Frame, 12),
            (ObjType::Frame, 12 | 2 << 8),
            (ObjType::CNode, 8),
            (ObjType::Reply, 0),
        ];
        for (kind, size) in kinds {
            let n = dice.below(self.w.cpus());
            let cap = self.w.make(n, kind, size);
            self.shared.push(cap);
        }
        if dice.once_in(3) {
            self.must(Op::FramePin, &[self.shared[2].arg(), abi::INIT_MACHINE.arg()]);
        }
        let rare = [
            (ObjType::VSpace, 4),
            (ObjType::CNode, 8),
            (ObjType::Process, 2),
            (ObjType::Task, 0),
            (ObjType::SchedContext, 0),
            (ObjType::SchedControl, 0),
            (ObjType::IrqHandler, 0),
            (ObjType::IoPort, 0),
            (ObjType::EventPool, u64::from(abi::events::CELLS_LOG2_MIN)),
        ];
        for (kind, size) in rare {
            if self.rich || dice.once_in(2) {
                let cap = self.w.make(0, kind, size);
                self.shared.push(cap);
            }
        }
        self.shared.extend(BOOT_OBJECTS);
    }

    /// Labels on some objects, and what they forbid.
    fn label(&mut self, dice: &mut Dice) {
        let machine = abi::INIT_MACHINE.arg();
        let processes: Vec<Cap> = self.players.iter().map(|player| player.proc.process).collect();
        let objects: Vec<Cap> =
            self.shared.iter().copied().filter(|cap| !BOOT_OBJECTS.contains(cap)).collect();
        for object in processes.into_iter().chain(objects) {
            if dice.once_in(2) {
                let label = 1 + dice.below(2) as u64;
                self.must(Op::LabelSet, &[machine, object.arg(), label]);
            }
        }
        for (subject, object) in [(1, 0), (1, 2), (2, 0), (2, 1)] {
            if dice.once_in(2) {
                let allowed = u64::from(may::ALL & (dice.word() >> 32) as u8);
                self.must(Op::LabelRule, &[machine, subject, object, allowed]);
            }
        }
    }

    /// An address space that nobody lives in shows a page with a label twice, to be copied when it
    /// is written.
    fn secret(&mut self, dice: &mut Dice) {
        let (space, frame) = (self.w.make(0, ObjType::VSpace, 6), self.w.make(0, ObjType::Frame, 12));
        let label = 1 + dice.below(3) as u64;
        self.must(Op::LabelSet, &[abi::INIT_MACHINE.arg(), frame.arg(), label]);
        self.must(Op::Map, &[space.arg(), frame.arg(), PAGES[0], abi::MAP_POOL | 1]);
        let [first, count] = PageRange::new(PageMode::Copy, PAGES[0], 1).words();
        self.must(Op::PageTransfer, &[space.arg(), space.arg(), first, PAGES[1], count]);
        self.shared.push(space);
    }

    /// A process gets a second table, with a capability in it.
    fn grow(&mut self, player: usize) {
        let table = self.w.make(0, ObjType::CNode, 8);
        let note = self.shared[0];
        self.must(Op::CapCopy, &[note.arg(), Target::new(table, 3).0, u64::from(Rights::ALL.0), 0]);
        let process = self.players[player].proc.process;
        let _ = self.w.ask(0, Op::CSpaceGrow, &[process.arg(), table.arg()]);
    }

    /// Gives a process a capability, if labels allow it.
    fn give(&mut self, player: usize, cap: Cap, rights: Rights, badge: u64) -> Option<u32> {
        let Player { proc, next } = self.players[player];
        if next >= ACCEPT {
            return None;
        }
        let args = [cap.arg(), Target::new(proc.cnode, next).0, u64::from(rights.0), badge];
        self.w.ask(0, Op::CapCopy, &args).ok()?;
        self.players[player].next += 1;
        Some(next)
    }

    fn furnish(&mut self, player: usize, dice: &mut Dice) {
        let of = self.players[player].proc;
        let own = Target::new(of.cnode, OWN).0;
        self.must(Op::CapCopy, &[of.cnode.arg(), own, u64::from(Rights::ALL.0), 0]);
        for group in self.groups.clone() {
            if !dice.once_in(4) {
                let slot = self.players[player].next;
                self.must(Op::ProcessAccept, &[of.process.arg(), u64::from(slot), group.arg()]);
                let rights = u64::from(self.some_rights(dice, MEMBER_RIGHTS.minus(Rights::DELETE)).0);
                let custom = (player as u64 + 1) << 8 | dice.below(4) as u64;
                let args = [group.arg(), of.process.arg(), rights, custom];
                match self.w.ask(0, Op::GroupAdd, &args) {
                    Ok(_) => self.players[player].next += 1,
                    Err(_) => self.must(Op::ProcessAccept, &[of.process.arg(), 0]),
                }
            } else if dice.once_in(6) {
                let rights = some_of(dice, Rights::ALL);
                self.give(player, group, rights, 0);
            }
        }
        for cap in self.lot(player, dice) {
            let mut rights = self.some_rights(dice, Rights::ALL);
            if cap == abi::INIT_MACHINE {
                let security =
                    if self.secure { abi::machine_rights::SECURITY.rights() } else { Rights::NONE };
                let most = Rights::ALL
                    .minus(security)
                    .minus(abi::machine_rights::EXIT.rights())
                    .minus(abi::machine_rights::LOG.rights());
                rights = rights.and(most);
            }
            let badge = if dice.once_in(5) { 0x40 + dice.below(4) as u64 } else { 0 };
            self.give(player, cap, rights, badge);
        }
        if dice.once_in(2) && self.players[player].next < ACCEPT {
            let memory = self.w.make(0, ObjType::Untyped, 15);
            if dice.once_in(3) {
                let pinned = self.w.make_of(0, memory, ObjType::Frame, 12);
                self.must(Op::FramePin, &[pinned.arg(), abi::INIT_MACHINE.arg()]);
            }
            let to = Target::new(of.cnode, self.players[player].next).0;
            if self.w.ask(0, Op::CapMove, &[memory.arg(), to]).is_ok() {
                self.players[player].next += 1;
            }
        }
    }

    /// What a process is given, beside its memberships.
    fn lot(&self, player: usize, dice: &mut Dice) -> Vec<Cap> {
        let of = self.players[player].proc;
        let mut caps: Vec<Cap> = vec![of.process, of.vspace];
        let (tasks, others) = if self.rich { (2, 3) } else { (3, 5) };
        if !self.rich {
            caps.retain(|_| !dice.once_in(3));
        }
        let shared = self.shared.iter().copied();
        caps.extend(shared.filter(|_| if self.rich { !dice.once_in(3) } else { dice.once_in(3) }));
        caps.extend(self.tasks.iter().map(|task| task.cap).filter(|_| dice.once_in(tasks)));
        let all = self.players.iter().flat_map(|it| [it.proc.process, it.proc.cnode, it.proc.vspace]);
        caps.extend(all.filter(|_| dice.once_in(others)));
        caps
    }

    fn some_rights(&self, dice: &mut Dice, most: Rights) -> Rights {
        if self.rich && !dice.once_in(3) { most } else { some_of(dice, most) }
    }

    fn expose(&mut self, dice: &mut Dice) {
        let first = u64::from(EXPOSURES);
        for group in self.groups.clone() {
            for (index, task) in (0..).zip(self.tasks.clone()) {
                if !dice.once_in(3) {
                    let how = if dice.once_in(5) { 1 | first << 32 } else { 0 };
                    let _ = self.w.ask(
                        0,
                        Op::Expose,
                        &[Target::new(group, index % EXPOSURES).0, task.cap.arg(), how],
                    );
                }
            }
            let note = self.shared[dice.below(2)];
            let index = dice.below(EXPOSURES as usize) as u32;
            let how = if dice.once_in(3) { abi::membership::watch(WATCH_SHIFT) } else { 0 };
            let _ = self.w.ask(0, Op::Expose, &[Target::new(group, index).0, note.arg(), how]);
        }
        for task in self.tasks.clone() {
            if dice.once_in(2) {
                let target = Target::new(Cap(OWN + 1), dice.below(EXPOSURES as usize) as u32);
                self.must(Op::FaultHandler, &[task.cap.arg(), target.0]);
            }
        }
    }

    fn pool(&mut self, player: usize, dice: &mut Dice) {
        let of = self.players[player].proc;
        let reader = self.tasks.iter().find(|task| self.is_of(task, player)).copied();
        let Some(reader) = reader.filter(|_| dice.once_in(2)) else { return };
        let pool = self.w.make(0, ObjType::EventPool, u64::from(abi::events::CELLS_LOG2_MIN));
        let args = [pool.arg(), of.process.arg(), reader.cap.arg(), POOLS, POOL_BIT];
        if self.w.ask(0, Op::PoolBind, &args).is_ok() && dice.once_in(2) {
            let rights = some_of(dice, Rights::ALL);
            self.give(player, pool, rights, 0);
        }
    }

    fn is_of(&self, task: &Tcb, player: usize) -> bool {
        let process = self.w.object::<kern_base::process::Process>(self.players[player].proc.process);
        task.hot().process_if_any(task.pin()) == process
    }

    /// Pages of the process's pool, and some that its frames are mapped at.
    fn pages(&mut self, player: usize, dice: &mut Dice) {
        let of = self.players[player].proc;
        if dice.once_in(2) {
            let frame = self.w.make(0, ObjType::Frame, 12 | 2 << 8);
            let args = [of.vspace.arg(), frame.arg(), PAGES[0], abi::MAP_POOL | 1];
            if self.w.ask(0, Op::Map, &args).is_ok() && dice.once_in(2) {
                let rights = some_of(dice, Rights::ALL);
                self.give(player, frame, rights, 0);
            }
        }
        let shared: Vec<Cap> = self.shared.iter().copied().skip(2).take(2).collect();
        for frame in shared {
            if dice.once_in(4) {
                let access = dice.below(2) as u64;
                let _ = self.w.ask(0, Op::Map, &[of.vspace.arg(), frame.arg(), PAGES[2], access, 0, 1]);
            }
        }
    }
}

/// Some of the rights: all, all but one or two, or any set.
pub fn some_of(dice: &mut Dice, most: Rights) -> Rights {
    match dice.below(8) {
        0..2 => most,
        2 => most.minus(Rights::GRANT),
        3..5 => most.minus(Rights(1 << dice.below(17) | 1 << dice.below(17))),
        _ => Rights(dice.word() as u32).and(most),
    }
}
