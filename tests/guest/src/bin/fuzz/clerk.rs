//! Checks a cluster's record against the model: the model must allow the history.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Cap, Error, MsgInfo, Op, Rights};
use guest_tests::run::Run as _;
use model::linear::{Call, History, Verdict};
use model::object::{self, State};
use model::parts::System;
use model::{Args, Id, Kind, Model, Place, Sizes};
use user_rt::layout::slot;
use user_rt::report;

use crate::board::{Board, In, Of, PROCESSES, Recorded, Total};
use crate::cast::SLOTS;
use crate::clusters::{self, MEMORY_LOG2, PEER_CNODES, PEER_PROCESSES, PROCESS_RIGHTS, cnode_rights};
use crate::talk;

/// Steps of a search before it gives up.
const LIMIT: u64 = 1_000_000;

/// Returns the state of a cluster before a window: processes, the workers that can take part, and
/// an unused Untyped.
fn before(board: &'static Board, cluster: usize, owner: usize, keeper: usize) -> (System, Vec<Option<Id>>) {
    let sizes = Sizes {
        notification: board.get(Total::NotificationSize),
        group: board.get(Total::GroupSize),
        ..Sizes::default()
    };
    let cpus = board.get(Total::Cpus) as usize;
    let mut model = Model { sizes, cpus, ..Model::default() };
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        let cnode = model.put(Kind::CNode(object::CNode { slots: SLOTS, process: None }));
        let of = object::Process { cnode: Some(cnode), ..object::Process::default() };
        let process = model.put(Kind::Process(of));
        model.cnode_mut(cnode).process = Some(process);
        processes.push((cnode, process));
    }
    let give = |model: &mut Model, process: usize, slot: Cap, object: Id, rights: Rights| {
        model.give(Place::Slot(processes[process].0, slot.0), object, rights, 0);
    };
    for (of, (cnode, process)) in processes.iter().enumerate() {
        give(&mut model, of, slot::CNODE, *cnode, Rights::ALL);
        for who in 0..PROCESSES {
            give(&mut model, who, Cap(PEER_CNODES + of as u32), *cnode, cnode_rights(of, who));
            give(&mut model, who, Cap(PEER_PROCESSES + of as u32), *process, PROCESS_RIGHTS);
        }
    }
    let size = 1 << MEMORY_LOG2;
    let memory = model.put(Kind::Untyped(object::Untyped { base: 1 << 30, size, low: 0, high: size }));
    if let Some(slot) = clusters::memory(cluster) {
        give(&mut model, owner, slot, memory, Rights::ALL);
    }
    let mut workers = Vec::new();
    let talks = clusters::kind(cluster) == clusters::Kind::Messages;
    for worker in 0..board.get(Total::Workers) as usize {
        // Of the other workers only the keeper takes part in the talk.
        if talks != talk::number(board, worker).is_some() && !(talks && keeper == worker) {
            workers.push(None);
            continue;
        }
        let process = processes[board.workers[worker].get(Of::Process) as usize].1;
        let task = object::Task {
            process: Some(process),
            home: board.workers[worker].get(Of::Cpu) as usize,
            state: State::Ready,
            // Any time will do: the task only needs some.
            time: Some(memory),
            ..object::Task::default()
        };
        workers.push(Some(model.put(Kind::Task(Box::new(task)))));
    }
    if talks {
        talk::model(board, &mut model, &processes, &workers);
    }
    (System::new(model), workers)
}

/// Checks the recorded window, and counts its contended operations.
pub fn check(board: &'static Board, cluster: usize, owner: usize, keeper: usize) {
    let word = |which| board.clusters[cluster].get(which);
    let taken = word(In::Taken) as usize;
    let (system, workers) = before(board, cluster, owner, keeper);
    let mut calls = Vec::with_capacity(taken);
    for number in 0..taken {
        let it = board.read_call(cluster, number);
        let Some(op) = it.op() else { continue };
        let mut found = it.found;
        if it.found[0] as u8 == 0 && op == Op::Wait {
            found[0] = 0;
        }
        let args = Args(it.args, it.info);
        let me = workers[it.worker].expect("a worker of this cluster");
        calls.push(Call { me, op, args, found, began: it.began, ended: it.ended });
    }
    let history = History { before: &system, calls: &calls, settled: word(In::Settled) };
    board.add(Total::Histories, 1);
    let (verdict, steps) = history.search(LIMIT, || _ = board.add(Total::Life, 1));
    board.totals().word(Total::Hardest).fetch_max(steps, Relaxed);
    match verdict {
        Verdict::Fits => {}
        verdict => complain(board, cluster, taken, verdict),
    }
    count(board, cluster);
}

/// Prints a history that does not fit, call by call.
fn complain(board: &'static Board, cluster: usize, taken: usize, verdict: Verdict) {
    let (seed, window) = (board.get(Total::Seed), board.get(Total::Windows));
    let what = format_args!("cluster {cluster}, seed {seed}, window {window}: {verdict:?}");
    if !board.complain(Total::Divergences, what) || board.get(Total::Divergences) > 3 {
        return;
    }
    if clusters::kind(cluster) == clusters::Kind::Messages {
        talk::tell(board);
    }
    let mut calls: Vec<(usize, Recorded)> =
        (0..taken).map(|number| (number, board.read_call(cluster, number))).collect();
    calls.sort_unstable_by_key(|(_, call)| call.began);
    for (number, call) in calls {
        let stuck = matches!(verdict, Verdict::Diverges { stuck, .. } if stuck == number);
        report!("note {call}{}", if stuck { "   <-- does not fit" } else { "" });
    }
}

/// Counts the operations on objects that other workers operated on in the window, and those that
/// did so at the same time.
fn count(board: &'static Board, cluster: usize) {
    let word = |which| board.clusters[cluster].get(which) as usize;
    let mut by: BTreeMap<usize, usize> = BTreeMap::new();
    let mut spans = Vec::new();
    for number in word(In::First)..word(In::Last) {
        let call = board.read_call(cluster, number);
        *by.entry(call.worker).or_default() += 1;
        if call.op() == Some(Op::Call) {
            board.add(Total::Calls, 1);
            match MsgInfo(call.found[0]).status() {
                Ok(()) => _ = board.add(Total::Answered, 1),
                Err(Error::Timeout | Error::Cancelled | Error::Gone) => _ = board.add(Total::Ended, 1),
                Err(_) => {}
            }
        }
        spans.push((call.began, call.ended, call.worker));
    }
    if by.len() < 2 {
        return;
    }
    let meets = |a: &&(u64, u64, usize)| spans.iter().any(|b| b.2 != a.2 && a.0 < b.1 && b.0 < a.1);
    board.add(Total::Contended, spans.len() as u64);
    board.add(Total::Overlapping, spans.iter().filter(meets).count() as u64);
}
