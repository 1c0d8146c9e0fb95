//! One task whose call travels between CPUs and is recalled: a small copy of the kernel's protocol,
//! with the kernel's mailboxes, nodes and coalesced bits.
//!
//! # The rules
//! * The message block belongs to the CPU that owns the message's node: the caller's home, then
//!   each CPU that takes it out of its mailbox, until the caller's home has it back. A caller waits
//!   until its message is back, whatever else happens to the caller.
//! * `at` names the CPU that the message was sent to last. A CPU that forwards the message writes
//!   `at` first. For other CPUs it is a hint.
//! * To recall, the home writes the number of the call to `recalled`, and raises RECALL in the
//!   task's control bits towards `at`. Bits may overtake the message, so every CPU that takes a
//!   message in compares its number with `recalled` before it does anything with it.
//! * A CPU that takes RECALL and does not hold the message passes RECALL on to `at`, unless that is
//!   itself (the message will come, and be compared) or the home (it is on its way back).
//! * A task has one node for its control bits. It may also carry bits for another CPU; the CPU that
//!   takes those raises them again towards that CPU.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering};
use smp::cpu::Pin;
use smp::door::Ref;
use smp::host_test::{cpu, entry};
use smp::mailbox::{CoalescedBits, Drained, Mailbox, Node, Wake};

use super::{Line, Object};

pub const HOME: usize = 0;

pub const KILL: u64 = 1;
pub const SUSPEND: u64 = 2;
pub const RECALL: u64 = 4;

/// Which rule is broken.
#[derive(Clone, Copy, PartialEq)]
pub enum Broken {
    Nothing,
    /// A message that is taken in is not compared with `recalled`.
    NoComparison,
    /// A recall is for whatever call the task has out.
    NoNumber,
    /// Bits for elsewhere are dropped.
    BitsDropped,
    /// The caller goes on when its deadline passes, without its message.
    Impatient,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mail {
    Message,
    Control,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Stage {
    Out,
    Replied,
    Recalled,
}

/// The message block.
#[derive(Clone, Copy)]
struct Block {
    call: u64,
    stage: Stage,
}

struct Task {
    node: Node<Mail>,
    block: UnsafeCell<Block>,
    ctl: CoalescedBits<Mail>,
    recalled: AtomicU64,
    at: AtomicU64,
}

// SAFETY: `block` is touched by the owner of `node` only; loom checks that.
unsafe impl Sync for Task {}

/// What all CPUs share.
pub struct Shared {
    task: Object<Task>,
    mailboxes: Vec<Object<Mailbox<Mail>>>,
    lines: Vec<Object<Line>>,
}

impl Shared {
    pub fn new(cpus: usize) -> Shared {
        let task = Task {
            node: Node::new(cpu(HOME)),
            block: UnsafeCell::new(Block { call: 0, stage: Stage::Replied }),
            ctl: CoalescedBits::new(),
            recalled: AtomicU64::new(0),
            at: AtomicU64::new(HOME as u64),
        };
        Shared {
            task: Object::new(task),
            mailboxes: (0..cpus).map(|n| Object::new(Mailbox::new(cpu(n)))).collect(),
            lines: (0..cpus).map(|_| Object::new(Line::new())).collect(),
        }
    }

    pub fn cpu(&self, number: usize, broken: Broken) -> Cpu {
        Cpu {
            number,
            broken,
            task: self.task.get(),
            mailboxes: self.mailboxes.iter().map(Object::get).collect(),
            lines: self.lines.iter().map(Object::get).collect(),
            forwards_to: None,
            holds: None,
            replied: Vec::new(),
            waits_for: None,
            outcomes: Vec::new(),
            seen: 0,
        }
    }
}

/// One CPU with its own state.
pub struct Cpu {
    number: usize,
    broken: Broken,
    task: Ref<'static, Task>,
    mailboxes: Vec<Ref<'static, Mailbox<Mail>>>,
    lines: Vec<Ref<'static, Line>>,
    /// As a callee: sends calls on to that CPU.
    pub forwards_to: Option<usize>,
    /// As a callee: the call that it has.
    pub holds: Option<u64>,
    /// As a callee: calls that it has replied to.
    pub replied: Vec<u64>,
    /// As the home: the call that is out.
    pub waits_for: Option<u64>,
    /// As the home: how each call ended.
    pub outcomes: Vec<(u64, Stage)>,
    /// As the home: control bits that arrived.
    pub seen: u64,
}

impl Cpu {
    /// One interrupt's kernel entry, if the line is up; says whether it was.
    pub fn take_interrupt(&mut self) -> bool {
        if !self.lines[self.number].take() {
            return false;
        }
        let mailbox = self.mailboxes[self.number];
        let entry = entry(self.number);
        let pin = entry.pin();
        if mailbox.inbox(pin).drain(8, |mail| self.sort(pin, mail)) == Drained::More {
            self.lines[self.number].raise();
        }
        true
    }

    fn sort(&mut self, pin: Pin<'_>, mail: Mail) {
        match (mail, self.number == HOME) {
            (Mail::Message, true) => self.message_back(),
            (Mail::Message, false) => self.message_in(pin),
            (Mail::Control, true) => self.control_at_home(pin),
            (Mail::Control, false) => self.control_elsewhere(pin),
        }
    }

    fn woken(&self, to: usize, wake: Wake) {
        if wake.is_needed() {
            self.lines[to].raise();
        }
    }

    fn read_block(&self) -> Block {
        // SAFETY: this CPU owns the node; loom checks.
        self.task.get().block.with(|block| unsafe { *block })
    }

    fn send_message(&self, pin: Pin<'_>, to: usize, block: Block) {
        // SAFETY: this CPU owns the node; loom checks.
        self.task.get().block.with_mut(|at| unsafe { *at = block });
        self.task.at.store(to as u64, Ordering::Relaxed);
        self.woken(to, self.mailboxes[to].push(pin, self.task.map(|task| &task.node), Mail::Message));
    }

    fn at(&self) -> usize {
        self.task.at.load(Ordering::Relaxed) as usize
    }

    /// Raises control bits, as any CPU may.
    pub fn raise(&self, to: usize, bits: u64) {
        let pin = smp::host_test::pin(self.number);
        let others = |cpu: smp::cpu::CpuId| self.mailboxes[cpu.index()].get();
        let (bits_at, ranked) = (self.task.map(|task| &task.ctl), || (Mail::Control, 0));
        let (to, wake) = self.mailboxes[to].get().raise(pin, bits_at, bits, ranked, others);
        self.woken(to.index(), wake);
    }

    /// As the home: calls.
    pub fn call(&mut self, call: u64, to: usize) {
        self.waits_for = Some(call);
        self.send_message(entry(self.number).pin(), to, Block { call, stage: Stage::Out });
    }

    /// As the home: wants the call back that is out, if one is.
    pub fn recall(&mut self) {
        if let Some(call) = self.waits_for {
            self.task.recalled.store(call, Ordering::Relaxed);
            if self.broken == Broken::Impatient {
                self.outcomes.push((call, Stage::Recalled));
                self.waits_for = None;
            }
            self.pass_recall_on();
        }
    }

    fn pass_recall_on(&self) {
        let at = self.at();
        if at != self.number && at != HOME {
            self.raise(at, RECALL);
        }
    }

    /// As a callee: replies to what it holds, if it still holds it.
    pub fn reply(&mut self) -> bool {
        let Some(call) = self.holds.take() else {
            return false;
        };
        self.replied.push(call);
        self.send_message(entry(self.number).pin(), HOME, Block { call, stage: Stage::Replied });
        true
    }

    fn is_recalled(&self, call: u64) -> bool {
        let recalled = self.task.recalled.load(Ordering::Relaxed);
        recalled == call || (self.broken == Broken::NoNumber && recalled != 0)
    }

    fn message_in(&mut self, pin: Pin<'_>) {
        let block = self.read_block();
        assert_eq!(block.stage, Stage::Out);
        if self.broken != Broken::NoComparison && self.is_recalled(block.call) {
            self.send_message(pin, HOME, Block { stage: Stage::Recalled, ..block });
        } else if let Some(next) = self.forwards_to {
            self.send_message(pin, next, block);
        } else {
            self.holds = Some(block.call);
        }
    }

    fn message_back(&mut self) {
        let block = self.read_block();
        assert_eq!(self.waits_for.take(), Some(block.call), "a message nobody waits for");
        self.outcomes.push((block.call, block.stage));
    }

    fn control_at_home(&mut self, pin: Pin<'_>) {
        let bits = self.task.ctl.take(pin);
        self.seen |= bits & (KILL | SUSPEND);
        if bits & KILL != 0 {
            self.recall();
        } else if bits & RECALL != 0 && self.waits_for.is_some() && self.broken != Broken::BitsDropped {
            self.pass_recall_on();
        }
    }

    fn control_elsewhere(&mut self, pin: Pin<'_>) {
        let bits = self.task.ctl.take(pin);
        if bits & RECALL != 0 {
            match self.holds {
                Some(call) if self.is_recalled(call) => {
                    self.holds = None;
                    self.send_message(pin, HOME, Block { call, stage: Stage::Recalled });
                }
                Some(_) => {}
                None => self.pass_recall_on(),
            }
        }
        let others = bits & !RECALL;
        if others != 0 && self.broken != Broken::BitsDropped {
            self.raise(HOME, others);
        }
    }

    /// Whether the message is at home and owned by it.
    pub fn has_message(&self) -> bool {
        self.task.node.is_here(smp::host_test::pin(self.number))
    }
}

/// After the threads have ended: CPUs go on as long as an interrupt calls for it.
pub fn run_down(cpus: &mut [Cpu]) {
    while cpus.iter_mut().map(Cpu::take_interrupt).fold(false, |any, one| any | one) {}
}
