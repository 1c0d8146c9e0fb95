//! The attacks, by family. The book's chapter on hostile programs says what each stands for.

mod calls;
mod deep;
mod floods;
mod locks;
mod memory;
mod numbers;
mod objects;
mod reclaim;
mod time;
mod vain;

use user_rt::Result;

use crate::attackers::Den;

/// An attack: it runs in the first task of the attackers' process, and may return when other tasks
/// of that process go on with it.
pub struct Attack {
    pub name: &'static str,
    pub run: fn(&mut Den) -> Result<()>,
}

const fn attack(name: &'static str, run: fn(&mut Den) -> Result<()>) -> Attack {
    Attack { name, run }
}

/// All attacks. The harness has the same names.
pub const ATTACKS: &[Attack] = &[
    attack("notify-flood", floods::notify),
    attack("watcher-flood", floods::watchers),
    attack("member-flood", floods::members),
    attack("reset-flood", floods::resets),
    attack("cancel-flood", floods::cancels),
    attack("pool-stall", floods::pool),
    attack("shootdown-storm", memory::shootdowns),
    attack("grace-storm", memory::grace),
    attack("shared-words", memory::words),
    attack("page-shares", memory::shares),
    attack("page-copies", memory::copies),
    attack("large-frames", objects::frames),
    attack("large-spaces", objects::spaces),
    attack("root-lock", objects::lock),
    attack("retype-storm", objects::storm),
    attack("nested-zombies", reclaim::nested),
    attack("flat-zombies", reclaim::flat),
    attack("half-deleted-tree", reclaim::half_nested),
    attack("half-deleted-copies", reclaim::half_copies),
    attack("dying-process", time::dying_process),
    attack("equal-deadlines", time::deadlines),
    attack("fault-reports", time::faults),
    attack("priority", time::priority),
    attack("moving-slot", calls::moving_slot),
    attack("moving-window", calls::moving_window),
    attack("waiting-callers", calls::waiting_callers),
    attack("call-chain", calls::chain),
    attack("wide-group", calls::wide_group),
    attack("process-numbers", numbers::hoard),
    attack("spent-numbers", numbers::spend),
    attack("far-slots", deep::far_slots),
    attack("hostages", deep::hostages),
    attack("page-views", deep::page_views),
    attack("deadline-chains", deep::deadline_chains),
    attack("killed-lender", deep::killed_lender),
    attack("broadcasts", deep::broadcasts),
    attack("full-messages", deep::full_messages),
    attack("call-crowd", deep::call_crowd),
    attack("lent-deadlines", deep::lent_deadlines),
    attack("large-over-small", vain::large_over_small),
    attack("pages-both-ways", deep::pages_both_ways),
    attack("large-pool", vain::large_pool),
    attack("shared-in-vain", vain::shared_in_vain),
    attack("killed-senders", deep::killed_senders),
    attack("client-space", memory::client_space),
    attack("deep-copies", reclaim::deep_copies),
    attack("time-flood", floods::time),
    attack("lock-flood", locks::flood),
    attack("lock-chain", locks::chain),
    attack("lock-words", locks::words),
    attack("grace-hog", time::grace_hog),
    attack("interrupt-storm", floods::interrupts),
];
