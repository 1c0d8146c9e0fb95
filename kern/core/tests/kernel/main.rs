//! The portable kernel on a simulated machine.

#![allow(clippy::disallowed_types, reason = "what tests and simulated hardware share is not the kernel's")]

mod afar;
mod ahead;
mod audit;
mod authority;
mod begun;
mod bits;
mod broadcast;
mod broadcast_pages;
mod budget;
mod budget_room;
mod chains;
mod copied;
mod deferral;
mod detours;
mod devices;
mod differ;
mod dying;
mod events;
mod everyday;
mod excused;
mod expiry;
mod faults;
mod followers;
mod grants;
mod groups;
mod growth;
mod holdings;
mod ids;
mod interleavings;
mod irqs;
mod kill;
mod killed;
mod labelled;
mod labels;
mod later;
mod leaving;
mod loaded;
mod locks;
mod marks;
mod meanwhile;
mod memory;
mod migration;
mod moving;
mod moving_later;
mod narrow_time;
mod outranked;
mod page_ends;
mod pages;
mod parking;
mod pcids;
mod placing;
mod races;
mod recall;
mod reclaim;
mod replies;
mod revoked;
mod rights;
mod scene;
mod sched_control;
mod servers;
mod storm;
mod survey;
mod sweep;
mod time;
mod time_budgets;
mod torn;
mod trees;
mod vain;
mod vector;
mod waiters;
mod watching;
#[allow(dead_code, reason = "the pairs use more of it")]
mod world;
mod yielding;

use abi::{Cap, Op, Target};
use world::{Regs, World};

#[test]
fn a_call_is_answered() {
    let mut w = World::new(2);
    let (p, q) = (w.process(), w.process());
    let client = w.start(p, 0, 10);
    let server = w.start(q, 0, 20);
    let group = w.group(4, 4);
    w.join_all(group, p, Cap(5));
    w.expose(group, 1, server.cap);
    w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    w.does_and_run(&client, Regs::message(Op::Call, Target::new(Cap(5), 1), [1, 2, 3, 4]));
    assert_eq!(w.result(&server).msg(), [1, 2, 3, 4]);
    w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]));
    assert_eq!(w.result(&client).msg(), [5, 6, 7, 8]);
}
