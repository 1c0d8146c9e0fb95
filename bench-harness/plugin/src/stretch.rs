//! The stretches of one CPU with interrupts off, by kind of kernel entry. Plain logic: it takes
//! translated blocks of guest code, one after the other, as the CPU executes them.
//!
//! A stretch begins where the CPU enters the kernel, or continues behind an instruction that lets
//! interrupts in. It ends with such an instruction, or with the exit to user mode. A block that an
//! exception cuts short counts whole, so a figure is never too low. In the kernel only an access to
//! a device can cut a block, and only under icount.

/// Turns of a lock's wait loop are shorter, each from one PAUSE to the next: compilers unroll the
/// loop, and in some turns the CPU asks whether an interrupt waits for it. What lies further apart
/// is no such loop.
const TURN_MAX: u64 = 80;
/// Interrupts have the vectors from here on. Exceptions, which have those below, come whether
/// interrupts are on or off.
const FIRST_INTERRUPT: u8 = 32;
/// An idle CPU's own instructions between two looks for work: the instruction behind STI, PAUSE.
const WAIT_MAX: u64 = 2;

/// Why the CPU is in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A system call: its operation, or a way out of the fast path ([`crate::watch`]).
    Op(u16),
    /// An interrupt or exception.
    Vector(u8),
    /// From the start to the first instruction that lets interrupts in.
    Boot,
    /// Work that an idle CPU finds between two waits.
    Idle,
    /// A system call that the fast path served from its entry to its exit.
    Fast,
}

/// Numbers of operations and of ways out of the fast path.
pub const OPS: usize = 512;
const VECTORS: usize = 256;
const KINDS: usize = OPS + VECTORS + 3;

impl Kind {
    fn index(self) -> usize {
        match self {
            Kind::Op(op) => usize::from(op) % OPS,
            Kind::Vector(vector) => OPS + usize::from(vector),
            Kind::Boot => OPS + VECTORS,
            Kind::Idle => OPS + VECTORS + 1,
            Kind::Fast => OPS + VECTORS + 2,
        }
    }

    fn of(index: usize) -> Kind {
        match index {
            0..OPS => Kind::Op(index as u16),
            _ if index < OPS + VECTORS => Kind::Vector((index - OPS) as u8),
            _ => [Kind::Boot, Kind::Idle, Kind::Fast][index - OPS - VECTORS],
        }
    }
}

/// A translated block of guest code.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Block {
    pub instructions: u16,
    pub is_kernel: bool,
    /// Interrupts are on behind it: it ends with STI, HLT, MWAIT, IRET or SYSRET.
    pub opens: bool,
    /// It ends with PAUSE.
    pub pauses: bool,
    /// It is the stub of this interrupt or exception.
    pub vector: Option<u8>,
    /// It is the beginning of this operation, if a system call is under way.
    pub operation: Option<u16>,
}

/// All stretches of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stretches {
    pub entries: u64,
    /// Instructions of all stretches, without those spent in wait loops of locks.
    pub total: u64,
    /// The most of one stretch.
    pub longest: u64,
    /// Instructions spent in wait loops of locks.
    pub spun: u64,
    /// The most of one stretch, with those spent in wait loops of locks.
    pub longest_spun: u64,
}

impl Stretches {
    pub fn add(&mut self, other: &Stretches) {
        self.entries += other.entries;
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
        self.spun += other.spun;
        self.longest_spun = self.longest_spun.max(other.longest_spun);
    }
}

/// One CPU.
pub struct Cpu {
    /// Instructions so far.
    executed: u64,
    user: u64,
    /// The stretch that is under way.
    kind: Option<Kind>,
    length: u64,
    spun: u64,
    /// Instructions since the last PAUSE of the stretch, if it has had one.
    since_pause: Option<u64>,
    was_user: bool,
    /// What was executed when the CPU last was in user mode, or ran no program and let interrupts
    /// in.
    last_free: u64,
    /// Instructions executed while no program could run.
    idle: u64,
    /// The length of the stretch that has just ended, if it began while no program ran.
    from_idle: u64,
    /// Whether stretches are kept in `done`.
    counts: bool,
    done: Vec<Stretches>,
    /// Instructions in wait loops of locks, in all stretches that have ended.
    spun_before: u64,
}

impl Default for Cpu {
    fn default() -> Cpu {
        Cpu {
            executed: 0,
            user: 0,
            kind: Some(Kind::Boot),
            length: 0,
            spun: 0,
            since_pause: None,
            was_user: false,
            last_free: 0,
            idle: 0,
            from_idle: 0,
            counts: true,
            spun_before: 0,
            done: vec![Stretches::default(); KINDS],
        }
    }
}

impl Cpu {
    pub fn executed(&self) -> u64 {
        self.executed
    }

    pub fn user(&self) -> u64 {
        self.user
    }

    /// Returns what was executed when the CPU last was in user mode, or ran no program and let
    /// interrupts in. All that were due by then have come.
    pub fn last_free(&self) -> u64 {
        self.last_free
    }

    /// Returns the instructions that the CPU has spent in wait loops of locks.
    pub fn spun(&self) -> u64 {
        self.spun_before + self.spun
    }

    /// Returns the instructions that the CPU has executed from one wait for work to the next, while
    /// it ran no program. What led from a wait to a program is not among them, nor what led from a
    /// program to a wait.
    pub fn idle(&self) -> u64 {
        self.idle
    }

    /// Keeps the stretches that end from here on, and forgets those that have ended; or keeps no
    /// more of them.
    pub fn count(&mut self, counts: bool) {
        self.counts = counts;
        if counts {
            self.done.fill(Stretches::default());
        }
    }

    /// Takes a block that the CPU is about to execute.
    pub fn block(&mut self, block: Block) {
        let length = u64::from(block.instructions);
        // Firmware and the first instructions of the kernel are not user code, wherever they lie.
        let is_user = !block.is_kernel && self.kind != Some(Kind::Boot);
        let from_idle = std::mem::take(&mut self.from_idle);
        if is_user {
            self.close();
            self.was_user = true;
            self.user += length;
        } else {
            self.idle += from_idle;
            if let Some(op) = block.operation {
                self.dispatched(op);
            }
            self.kernel(block, length);
        }
        self.executed += length;
        if is_user {
            self.last_free = self.executed;
        }
    }

    fn kernel(&mut self, block: Block, length: u64) {
        match block.vector {
            // An exception of kernel code, as an NMI, belongs to the stretch that it interrupts.
            Some(vector) if vector >= FIRST_INTERRUPT || self.kind.is_none() => {
                self.close();
                self.kind = Some(Kind::Vector(vector));
            }
            _ if self.kind.is_none() => {
                self.kind = Some(if self.was_user { Kind::Fast } else { Kind::Idle });
            }
            _ => {}
        }
        self.note_pause(block, length);
        self.length += length;
        if block.opens {
            if self.kind == Some(Kind::Idle) {
                self.last_free = self.executed + length;
            }
            if !self.was_user && self.kind != Some(Kind::Boot) {
                self.from_idle = self.length;
            }
            self.close();
            self.was_user = false;
        }
    }

    /// Counts the turns of a lock's wait loop: what lies between two PAUSEs. A PAUSE at the
    /// beginning of a stretch is an idle CPU's.
    fn note_pause(&mut self, block: Block, length: u64) {
        let since = self.since_pause.map(|before| before + length);
        if block.pauses && self.length > 0 {
            self.spun += since.filter(|since| *since <= TURN_MAX).unwrap_or(length);
            self.since_pause = Some(0);
        } else {
            self.since_pause = since;
        }
    }

    /// Names the operation of the system call that is under way.
    fn dispatched(&mut self, op: u16) {
        if matches!(self.kind, Some(Kind::Op(_) | Kind::Fast)) {
            self.kind = Some(Kind::Op(op));
        }
    }

    /// Returns whether the stretch that is under way is no work, but an idle CPU's wait.
    fn is_wait(&self) -> bool {
        self.kind == Some(Kind::Idle) && self.length <= WAIT_MAX
    }

    fn close(&mut self) {
        let is_kept = self.counts && !self.is_wait();
        self.spun_before += self.spun;
        if let Some(kind) = self.kind.take().filter(|_| is_kept) {
            let own = self.length - self.spun.min(self.length);
            self.done[kind.index()].add(&Stretches {
                entries: 1,
                total: own,
                longest: own,
                spun: self.spun,
                longest_spun: self.length,
            });
        }
        (self.length, self.spun, self.since_pause) = (0, 0, None);
    }

    /// Returns the kinds of stretches that have ended, with what was counted of each.
    pub fn done(&self) -> impl Iterator<Item = (Kind, &Stretches)> {
        let kinds = self.done.iter().enumerate().map(|(index, stretches)| (Kind::of(index), stretches));
        kinds.filter(|(_, stretches)| stretches.entries > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(instructions: u16) -> Block {
        Block { instructions, is_kernel: true, ..Block::default() }
    }

    fn leaves(instructions: u16) -> Block {
        Block { opens: true, ..kernel(instructions) }
    }

    fn user(instructions: u16) -> Block {
        Block { instructions, ..Block::default() }
    }

    fn stub(vector: u8) -> Block {
        Block { vector: Some(vector), ..kernel(3) }
    }

    fn pause() -> Block {
        Block { pauses: true, ..kernel(1) }
    }

    /// A CPU whose boot is over.
    fn booted() -> Cpu {
        let mut cpu = Cpu::default();
        cpu.block(leaves(1));
        cpu
    }

    fn of(cpu: &Cpu, kind: Kind) -> Stretches {
        cpu.done[kind.index()]
    }

    #[test]
    fn what_runs_before_the_first_interrupt_can_come_is_the_boot() {
        let mut cpu = Cpu::default();
        for block in [user(1000), kernel(500), user(20), kernel(300), leaves(7), user(5)] {
            cpu.block(block);
        }
        assert_eq!(of(&cpu, Kind::Boot).longest, 1827);
        assert_eq!((cpu.user(), cpu.last_free()), (5, cpu.executed()));
    }

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        for index in 0..KINDS {
            assert_eq!(Kind::of(index).index(), index);
        }
    }

    #[test]
    fn a_system_call_is_known_by_what_serves_it() {
        let mut cpu = booted();
        for (op, length) in [(17, 40), (17, 90), (18, 7)] {
            cpu.block(user(5));
            cpu.block(kernel(10));
            cpu.dispatched(op);
            cpu.block(leaves(length));
        }
        cpu.block(user(5));
        cpu.block(leaves(24));
        cpu.block(user(5));
        let expected = Stretches { entries: 2, total: 150, longest: 100, spun: 0, longest_spun: 100 };
        assert_eq!(of(&cpu, Kind::Op(17)), expected);
        assert_eq!(of(&cpu, Kind::Op(18)).longest, 17);
        assert_eq!(of(&cpu, Kind::Fast).longest, 24);
        assert_eq!((cpu.user(), cpu.executed()), (25, 217));
    }

    #[test]
    fn an_interrupt_before_the_first_user_instruction_is_a_stretch_of_its_own() {
        let mut cpu = booted();
        cpu.block(user(1));
        cpu.block(stub(0x71));
        cpu.block(leaves(50));
        cpu.block(stub(0x71));
        cpu.block(leaves(70));
        cpu.block(user(1));
        let expected = Stretches { entries: 2, total: 126, longest: 73, spun: 0, longest_spun: 73 };
        assert_eq!(of(&cpu, Kind::Vector(0x71)), expected);
        assert_eq!(cpu.last_free(), cpu.executed());
    }

    #[test]
    fn an_exception_of_kernel_code_belongs_to_what_it_interrupts() {
        let mut cpu = booted();
        cpu.block(user(1));
        cpu.block(kernel(10));
        cpu.dispatched(3);
        cpu.block(stub(2));
        cpu.block(leaves(10));
        cpu.block(stub(14));
        cpu.block(leaves(10));
        assert_eq!(of(&cpu, Kind::Op(3)).longest, 23);
        assert_eq!(of(&cpu, Kind::Vector(14)).longest, 13, "and one of user code does not");
        assert_eq!(of(&cpu, Kind::Vector(2)).entries, 0);
    }

    #[test]
    fn an_idle_cpus_work_is_told_from_its_wait() {
        let mut cpu = booted();
        cpu.block(leaves(1)); // HLT
        cpu.block(stub(0x70));
        cpu.block(leaves(30));
        cpu.block(kernel(300));
        cpu.block(leaves(2)); // STI
        cpu.block(leaves(1));
        assert_eq!(
            of(&cpu, Kind::Idle),
            Stretches { entries: 1, total: 302, longest: 302, spun: 0, longest_spun: 302 }
        );
        assert_eq!(of(&cpu, Kind::Vector(0x70)).longest, 33);
        assert_eq!(cpu.last_free(), cpu.executed(), "it waited");
    }

    #[test]
    fn what_leads_from_or_to_a_program_is_not_idle() {
        let mut cpu = booted();
        cpu.block(user(5));
        cpu.block(leaves(100)); // The program waits.
        cpu.block(kernel(20));
        cpu.block(leaves(2)); // STI
        cpu.block(leaves(1)); // HLT
        cpu.block(stub(0x70));
        cpu.block(leaves(30));
        assert_eq!(cpu.idle(), 23, "a program may follow");
        cpu.block(kernel(50));
        cpu.block(leaves(10));
        cpu.block(user(5));
        assert_eq!(cpu.idle(), 56, "60 led to a program");
        cpu.block(stub(0x70));
        cpu.block(leaves(40));
        cpu.block(user(5));
        assert_eq!(cpu.idle(), 56);
    }

    #[test]
    fn turns_of_a_wait_loop_are_counted_apart() {
        let mut cpu = booted();
        cpu.block(user(1));
        cpu.block(kernel(10));
        cpu.dispatched(17);
        for _ in 0..3 {
            cpu.block(pause());
            cpu.block(kernel(5));
        }
        cpu.block(kernel(100)); // what the lock guards
        cpu.block(pause()); // the next lock: the turn before it is no turn
        cpu.block(leaves(20));
        // 1 + 6 + 6, then 1.
        assert_eq!(
            of(&cpu, Kind::Op(17)),
            Stretches { entries: 1, total: 135, longest: 135, spun: 14, longest_spun: 149 }
        );
        assert_eq!(cpu.spun(), 14);
    }

    #[test]
    fn stretches_count_while_they_are_to() {
        let mut cpu = booted();
        for (counts, length) in [(None, 90), (Some(true), 30), (None, 40), (Some(false), 80)] {
            cpu.block(user(1));
            cpu.block(stub(0x70));
            if let Some(counts) = counts {
                cpu.count(counts);
            }
            cpu.block(pause());
            cpu.block(leaves(length));
        }
        assert_eq!(
            of(&cpu, Kind::Vector(0x70)),
            Stretches { entries: 2, total: 76, longest: 43, spun: 2, longest_spun: 44 }
        );
        assert_eq!((of(&cpu, Kind::Boot).entries, cpu.spun()), (0, 4), "CPUs go on");
    }

    #[test]
    fn an_idle_cpu_that_polls_waits_for_no_lock() {
        let mut cpu = booted();
        for _ in 0..3 {
            cpu.block(Block { pauses: true, ..kernel(2) });
            cpu.block(kernel(6));
            cpu.block(leaves(1));
        }
        assert_eq!(
            of(&cpu, Kind::Idle),
            Stretches { entries: 3, total: 27, longest: 9, spun: 0, longest_spun: 9 }
        );
    }
}
