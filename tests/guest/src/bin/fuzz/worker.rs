//! What a worker does: windows of random operations, between barriers.
//!
//! A window has four parts, with a barrier after each: keepers prepare the clusters, all workers
//! operate, keepers record the last state, and keepers check the history and end everything. If the
//! director audits after a barrier, it releases the tasks when the audit is done.

use core::sync::atomic::Ordering::{AcqRel, Relaxed};

use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::arch;
use user_rt::cap::{Group, Handle, Notification, Untyped};
use user_rt::heap;
use user_rt::spawn::{Nursery, own};

use crate::arena::{self, Arena};
use crate::board::{Board, CLUSTERS, Of, Total, WORKERS_MAX};
use crate::cast::{HEAP, SLOTS, WAKERS};
use crate::clerk;
use crate::clusters::{self, Player};
use crate::storm;
use crate::talk;

/// Operations of a worker in a window, and the percentage on clusters.
const WINDOW: u64 = 110;
const CLUSTERED: u64 = 45;
/// Windows between two audits of the director.
pub const ROUND: u64 = 16;
/// Pages of a process's heap.
const HEAP_PAGES: u32 = 1500;
pub const HEAP_SLOTS: core::ops::Range<u32> = 2500..2500 + HEAP_PAGES;

pub struct Worker {
    pub board: &'static Board,
    pub me: usize,
    pub process: usize,
    workers: usize,
    random: Random,
    gate: Gate,
}

/// Entry of every worker.
pub extern "C" fn worker(me: u64) -> ! {
    let board = Board::open();
    let me = me as usize;
    let workers = board.get(Total::Workers) as usize;
    let process = board.workers[me].get(Of::Process) as usize;
    // First: the arena is aligned to its size.
    let arena = Arena::new(board, me);
    let slot = arena::waker(me);
    let memory = Untyped::at(arena::memory(me));
    memory.retype::<Notification>(0, own::cnode().slot(slot), 1).expect("a worker's Notification");
    let waker = Notification::at(slot);
    let gate = Gate::new(board, me, waker).expect("an exposure for each worker");
    talk::begin(board, me);
    let random = Random::new(board.get(Total::Seed), me as u64);
    Worker { board, me, process, workers, random, gate }.live(arena)
}

impl Worker {
    fn live(&mut self, mut arena: Arena) -> ! {
        if self.is_first() {
            let nursery = &mut Nursery::new(Untyped::at(HEAP), user_rt::slots::Slots::new(HEAP_SLOTS));
            heap::add(&own::vspace(), nursery, HEAP_PAGES).expect("a heap for each process");
        }
        self.gate.pass(true);
        if self.board.get(Total::Storm) != 0 {
            let Worker { board, me, process, ref mut random, .. } = *self;
            storm::live(board, me, process, random);
            self.gate.end()
        }
        for window in 0.. {
            self.for_clusters(window, |player, cluster| player.prepare(cluster));
            arena.renew(window);
            talk::forget(self.board, self.me);
            self.gate.pass(false);
            self.operate(window, &mut arena);
            self.bring_home(window);
            self.gate.pass(false);
            self.for_clusters(window, |player, cluster| player.finish(cluster));
            self.gate.pass(false);
            let board = self.board;
            self.for_clusters(window, |player, cluster| {
                clerk::check(board, cluster, player.process, player.me);
                player.wipe(cluster);
            });
            if self.me == 0 {
                self.board.add(Total::Windows, 1);
            }
            self.gate.pass(window % ROUND == ROUND - 1);
            if self.board.get(Total::Over) != 0 {
                break;
            }
        }
        self.gate.end()
    }

    /// Whether this is the first worker of its process.
    fn is_first(&self) -> bool {
        (0..self.me).all(|other| self.board.workers[other].get(Of::Process) as usize != self.process)
    }

    /// Does some work at each cluster that this worker keeps in a window.
    fn for_clusters(&mut self, window: u64, mut work: impl FnMut(&mut Player<'_>, usize)) {
        for cluster in 0..CLUSTERS {
            if self.keeper(cluster, window) == Some(self.me) {
                let Worker { board, me, process, ref mut random, .. } = *self;
                work(&mut Player { board, me, process, window, random }, cluster);
            }
        }
    }

    /// Returns the keeper of a cluster: the workers of its process take turns.
    fn keeper(&self, cluster: usize, window: u64) -> Option<usize> {
        let owner = clusters::owner(cluster, window);
        let works = |it: &usize| talk::number(self.board, *it).is_none();
        let of = || {
            (0..self.workers)
                .filter(works)
                .filter(|it| self.board.workers[*it].get(Of::Process) as usize == owner)
        };
        of().nth((window / 3 + cluster as u64) as usize % of().count().max(1))
    }

    fn operate(&mut self, window: u64, arena: &mut Arena) {
        let Worker { board, me, process, ref mut random, .. } = *self;
        if talk::number(board, me).is_some() {
            let count = talk::speak(&mut Player { board, me, process, window, random }, CLUSTERS - 1);
            board.add(Total::Ops, count);
            return;
        }
        for _ in 0..WINDOW {
            let clustered = random.chance(CLUSTERED) && {
                let cluster = clusters::any(random);
                Player { board, me, process, window, random }.play(cluster)
            };
            if !clustered {
                arena.play(random);
                board.workers[me].word(Of::Ops).fetch_add(1, Relaxed);
            }
        }
        board.add(Total::Ops, WINDOW);
        board.add(Total::Life, 1);
    }

    /// Ends the window of messages, as their keeper.
    fn bring_home(&mut self, window: u64) {
        let (waker, phase) = (self.gate.waker.cap(), self.gate.phase);
        self.for_clusters(window, |player, cluster| {
            if clusters::kind(cluster) == clusters::Kind::Messages {
                let pause = |ticks| _ = Notification::at(waker).wait_until(arch::now() + ticks);
                talk::bring_home(player, cluster, phase, pause);
            }
        });
    }
}

/// A barrier at which all tasks wait for each other.
pub struct Gate {
    board: &'static Board,
    me: usize,
    waker: Notification,
    phase: u64,
}

impl Gate {
    /// Makes the gate of one task, which `waker` wakes.
    pub fn new(board: &'static Board, me: usize, waker: Notification) -> user_rt::Result<Gate> {
        Group::at(WAKERS).expose_notification(me as u32, &waker)?;
        Ok(Gate { board, me, waker, phase: 0 })
    }

    /// Waits until all tasks are here and, if the director is to audit, until it has.
    pub fn pass(&mut self, looks: bool) {
        self.phase += 1;
        self.board.workers[self.me].set(Of::Phase, self.phase);
        let tasks = self.board.tasks();
        if self.board.totals().word(Total::Arrived).fetch_add(1, AcqRel) + 1 == tasks as u64 {
            if looks {
                wake(self.board, &Group::at(WAKERS), tasks);
            } else {
                release(self.board, &Group::at(WAKERS), Some(self.me));
            }
        }
        while self.board.get(Total::Phase) < self.phase {
            let _ = self.waker.wait();
        }
    }

    /// Leaves the barriers for good.
    pub fn end(&self) -> ! {
        self.board.workers[self.me].set(Of::Phase, u64::MAX);
        loop {
            let _ = self.waker.wait();
        }
    }
}

/// Releases all waiting tasks except the caller.
pub fn release(board: &'static Board, wakers: &Group, me: Option<usize>) {
    board.set(Total::Arrived, 0);
    board.add(Total::Phase, 1);
    for other in (0..board.tasks()).filter(|other| Some(*other) != me) {
        wake(board, wakers, other);
    }
}

/// Wakes a worker, or the director after them.
fn wake(board: &'static Board, wakers: &Group, who: usize) {
    if let Err(refusal) = wakers.exposure(who as u32).notify(1) {
        board.complain(Total::Divergences, format_args!("worker {who} cannot be woken: {refusal}"));
    }
}

const _: () = assert!(HEAP_SLOTS.end <= SLOTS && arena::played(WORKERS_MAX - 1).end <= HEAP_SLOTS.start);
