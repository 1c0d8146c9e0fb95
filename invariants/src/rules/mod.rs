//! The rules.

mod calls;
mod groups;
mod mail;
mod mappings;
mod memory;
mod processes;
mod tasks;
mod time;
mod translations;
mod trees;

pub use mail::is_shell;

use crate::facts::Facts;
use crate::references;
use crate::report::Findings;

/// A rule.
pub struct Rule {
    /// Its name, which violations have.
    pub name: &'static str,
    /// Judges a snapshot.
    pub(crate) check: fn(&Facts<'_>, &mut Findings),
}

macro_rules! rules {
    ($($name:literal = $check:path;)*) => {
        /// All rules, in the order in which they are applied. What [`Facts`] say of lists was
        /// checked before, by the rule `lists`.
        pub const RULES: &[Rule] = &[$(Rule { name: $name, check: $check },)*];
    };
}

rules! {
    "references" = references::check;
    "disjoint" = memory::disjoint;
    "carved" = memory::carved;
    "page-owners" = memory::page_owners;
    "frame-pages" = memory::frame_pages;
    "devices" = memory::devices;
    "page-tables" = mappings::page_tables;
    "table-notes" = mappings::table_notes;
    "entries" = mappings::entries;
    "mappings" = mappings::mappings;
    "counts" = mappings::counts;
    "reverse-map" = mappings::reverse_map;
    "pools" = mappings::pools;
    "stamps" = mappings::stamps;
    "plain-pages" = mappings::plain_pages;
    "cpu-spaces" = translations::cpu_spaces;
    "remembered" = translations::remembered;
    "stale-pages" = translations::stale_pages;
    "write-or-execute" = translations::write_or_execute;
    "tree-links" = trees::links;
    "tree-depths" = trees::depths;
    "reference-counts" = trees::reference_counts;
    "claims" = trees::claims;
    "first-slots" = trees::first_slots;
    "made-of" = trees::made_of;
    "revoked" = trees::revoked;
    "badges" = trees::badges;
    "zombies" = trees::zombies;
    "task-numbers" = processes::task_numbers;
    "process-lists" = processes::process_lists;
    "cspaces" = processes::cspaces;
    "event-pools" = processes::event_pools;
    "members" = groups::members;
    "membership-lists" = groups::membership_lists;
    "exposures" = groups::exposures;
    "states" = tasks::states;
    "labels" = tasks::labels;
    "moves" = tasks::moves;
    "residents" = tasks::residents;
    "waiting" = tasks::waiting;
    "deadlines" = tasks::deadlines;
    "dead-tasks" = tasks::dead_tasks;
    "message-blocks" = calls::message_blocks;
    "followers" = calls::followers;
    "pending" = calls::pending;
    "clients" = calls::clients;
    "holders" = time::holders;
    "told" = time::told;
    "allowed-time" = time::allowed_time;
    "own-time" = time::own_time;
    "lent-time" = time::lent_time;
    "starvation" = time::starvation;
    "plain-tasks" = time::plain_tasks;
    "running" = time::running;
    "run-queues" = time::run_queues;
    "timers" = time::timers;
    "mailboxes" = mail::mailboxes;
    "mail-nodes" = mail::nodes;
    "wake-ups" = mail::wake_ups;
    "steps" = mail::steps;
}
