//! The rows: the operation, its tasks, their processes and CPUs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::MESSAGE_PAGES_MAX;
use user_rt::spawn::Entry;

use crate::beside::*;
use crate::carry::*;
use crate::daily::*;
use crate::events::*;
use crate::irqs::*;
use crate::life::*;
use crate::locks::*;
use crate::longest::*;
use crate::messages::*;
use crate::ops::*;
use crate::policy::*;
use crate::roles::*;

/// The row that shows the length of a clock tick.
pub const CALIBRATION: &str = "loop_1m";
/// Samples of the row that maps a page again after another CPU flushed its translation.
const SEEN_SAMPLES: u64 = 50;
/// Samples of a row in which each turn takes a whole slice, and ticks of that.
const NOTICE_SAMPLES: u64 = 400;
const NOTICE_SLICE: u64 = 20_000;

/// The scope of a row: the work that its figures include.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Operation,
    OneWay,
    RoundTrip,
}

impl Scope {
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Operation => "operation",
            Scope::OneWay => "one-way",
            Scope::RoundTrip => "round-trip",
        }
    }
}

/// The processes of client and server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spaces {
    /// Both in the bench's own process.
    Same,
    /// Each in its own process, with or without vector state.
    Two { vector: [bool; 2] },
    /// Each in its own process, with groups, exposure indices and slots drawn at random, this many
    /// times.
    Shuffled { times: u32 },
}

/// The CPUs of client and server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cpus {
    Local,
    /// Client on CPU 0, server on CPU 1.
    Cross,
    /// A pair on every CPU.
    Every,
    /// Client on CPU 0, a server on each other CPU.
    Around,
}

/// The servers that are exposed after the first one, to which that passes its calls.
#[derive(Clone, Copy, Debug)]
pub enum Behind {
    Nobody,
    /// Another server in the server's process.
    Server(Entry),
    /// So many servers, in the client's process and the server's in turn. The last one answers, the
    /// others call the next.
    Chain(u32),
}

impl Behind {
    /// Returns how many there are.
    pub const fn count(self) -> u32 {
        match self {
            Behind::Nobody => 0,
            Behind::Server(_) => 1,
            Behind::Chain(count) => count,
        }
    }
}

/// A row of the bench.
#[derive(Clone, Debug)]
pub struct Row {
    name: String,
    pub scope: Scope,
    /// Operations in one sample.
    pub operations: u64,
    /// Most samples, for slow operations.
    pub samples_max: u64,
    pub client: Entry,
    pub server: Option<Entry>,
    pub behind: Behind,
    /// Whether the server reports when it is ready.
    pub server_reports: bool,
    /// A task of low priority on the server's CPU.
    pub background: Option<Entry>,
    /// A task of an even lower priority there.
    pub lowest: Option<Entry>,
    /// Other tasks of the client's process, on its CPU and with its priority: what they do, and how
    /// many there are.
    pub beside: Option<(Entry, u64)>,
    /// Whether the client's time has a budget, which is not used up.
    pub budget: bool,
    /// Ticks of a slice of client and server; 0: as usual.
    pub slice: u64,
    /// Exposures of the row's group, if it needs more than its servers.
    pub exposures: u16,
    /// Pages of 4 KiB in the client's frame; 0: the client has none.
    pub pages: u64,
    /// Memory (as base-2 logarithm) and empty slots of the client in a row of one process.
    pub memory_log2: u64,
    pub slots: u32,
    /// Payload of the client's messages.
    pub carried: Option<Carried>,
    /// Whether another task of the client's process has left CPU 1 idle, in its address space.
    pub seen: bool,
    pub spaces: Spaces,
    pub cpus: Cpus,
    /// Whether the server handles the client's faults.
    pub faults: bool,
    /// Processes that listen in the row's group.
    pub listeners: u64,
    /// Whether the server has memory of its own, and may map it in the client's address space.
    pub maps: bool,
    /// Whether client and server, which are two processes, have a Notification each.
    pub notes: bool,
}

impl Row {
    pub fn name(&self) -> &str {
        &self.name
    }

    fn new(name: &str, scope: Scope, client: Entry, server: Option<Entry>) -> Row {
        Row {
            name: name.into(),
            scope,
            operations: 1,
            samples_max: u64::MAX,
            client,
            server,
            behind: Behind::Nobody,
            server_reports: false,
            background: None,
            lowest: None,
            beside: None,
            budget: false,
            slice: 0,
            exposures: 0,
            pages: 0,
            memory_log2: 15,
            slots: 1,
            carried: None,
            seen: false,
            spaces: Spaces::Same,
            cpus: Cpus::Local,
            faults: false,
            listeners: 0,
            maps: false,
            notes: false,
        }
    }

    /// Returns a row of calls between two processes.
    fn call(name: &str, client: Entry, server: Entry) -> Row {
        Row {
            spaces: Spaces::Two { vector: [false; 2] },
            ..Row::new(name, Scope::RoundTrip, client, Some(server))
        }
    }
}

/// Returns all rows for a machine with this many CPUs, and with the device of [`crate::irqs`].
pub fn all(cpus: u64, has_device: bool) -> Vec<Row> {
    let mut rows = local();
    rows.push(Row {
        cpus: Cpus::Every,
        ..Row::call(&format!("pairs_local_{cpus}"), pairs_client, echo_server)
    });
    rows.extend(daily());
    rows.extend(carrying());
    rows.extend(lives());
    if cpus == 1 {
        rows.extend(single());
        rows.extend(longest());
        rows.extend(messages());
    } else {
        rows.extend(cross_cpu());
        if has_device {
            rows.extend(interrupts());
        }
        rows.extend(carrying().into_iter().filter_map(|row| {
            let name = row.name.strip_prefix("remap_move_").filter(|name| name.ends_with('p'))?;
            Some(Row { name: format!("remap_move_{name}_2cpu"), seen: true, ..row })
        }));
        rows.push(Row {
            pages: 512,
            seen: true,
            samples_max: SEEN_SAMPLES,
            ..Row::new("map_unmap_512p_2cpu", Scope::Operation, map_client, None)
        });
        rows.push(Row {
            pages: 1,
            cpus: Cpus::Around,
            ..Row::new(&format!("shootdown_{cpus}cpu"), Scope::Operation, shoot_client, Some(idle_server))
        });
    }
    rows
}

fn local() -> Vec<Row> {
    let (operation, round_trip) = (Scope::Operation, Scope::RoundTrip);
    [
        Row { samples_max: 10, ..Row::new(CALIBRATION, operation, loop_client, None) },
        Row::new("null_syscall", operation, null_client, None),
        Row::new("notify_no_waiter", operation, notify_client, None),
        Row { pages: 1, exposures: 3, ..Row::new("lock_uncontended", operation, lock_client, None) },
        Row {
            pages: 1,
            exposures: 3,
            background: Some(lock_owner),
            ..Row::new("lock_contended", Scope::OneWay, lock_hand_over_client, None)
        },
        Row {
            pages: 1,
            exposures: 3,
            background: Some(lock_owner),
            ..Row::new("lock_wait_pass", operation, lock_wait_client, None)
        },
        Row { operations: 2, ..Row::new("yield_to", Scope::OneWay, yield_client, Some(yield_server)) },
        Row {
            slice: NOTICE_SLICE,
            samples_max: NOTICE_SAMPLES,
            ..Row::new("light_yield", Scope::OneWay, notice_client, Some(notice_server))
        },
        Row {
            slice: NOTICE_SLICE,
            samples_max: NOTICE_SAMPLES,
            scope: Scope::OneWay,
            ..Row::call("light_yield_cross_as", notice_client, notice_server)
        },
        Row::new("notify_wait_same_cpu", round_trip, notify_wait_client, Some(notify_wait_server)),
        Row::new("call_reply_same_as", round_trip, call_client, Some(echo_server)),
        Row::call("call_reply_cross_as", call_client, echo_server),
        Row {
            spaces: Spaces::Two { vector: [true; 2] },
            ..Row::call("call_reply_cross_as_vec", call_client, echo_server)
        },
        Row {
            spaces: Spaces::Shuffled { times: 16 },
            ..Row::call("call_reply_cross_as_shuffled", call_client, echo_server)
        },
        Row::call("call_reply_64w", long_client, long_server),
        Row { faults: true, ..Row::call("fault_null", fault_client, fault_server) },
        Row {
            faults: true,
            maps: true,
            server_reports: true,
            samples_max: PAGER_SAMPLES,
            ..Row::call("fault_roundtrip", touch_client, pager_server)
        },
        Row {
            scope: operation,
            maps: true,
            server_reports: true,
            ..Row::call("send_event", send_client, pool_server)
        },
        Row {
            scope: operation,
            maps: true,
            server_reports: true,
            ..Row::call("send_event_wake", send_wake_client, waiting_pool_server)
        },
        Row::new("event_receive", operation, receive_client, Some(echo_server)),
        Row {
            listeners: 8,
            samples_max: BROADCAST_SAMPLES,
            ..Row::new("broadcast_8", operation, broadcast_client, None)
        },
        Row {
            listeners: 64,
            samples_max: BROADCAST_SAMPLES,
            ..Row::new("broadcast_64", operation, broadcast_client, None)
        },
        Row {
            listeners: 8,
            samples_max: LONG_BROADCAST_SAMPLES,
            ..Row::new("broadcast_8_64w", operation, broadcast_words_client, None)
        },
        Row {
            scope: operation,
            maps: true,
            server_reports: true,
            ..Row::call("send_event_64w", send_words_client, pool_server)
        },
        Row::call("grant_cap_in_call", grant_client, grant_server),
        Row { pages: 1, ..Row::new("clear_page", operation, clear_client, None) },
        Row { pages: 1, ..Row::new("map_unmap_1p", operation, map_client, None) },
        Row { pages: 512, ..Row::new("map_unmap_512p", operation, map_client, None) },
    ]
    .into()
}

/// Returns the rows of everyday states of programs.
fn daily() -> Vec<Row> {
    let vector = |name: &str, vector| Row {
        spaces: Spaces::Two { vector },
        ..Row::call(name, call_client, echo_server)
    };
    [
        Row::new("who_am_i", Scope::Operation, who_am_i_client, None),
        Row::new("yield_alone", Scope::Operation, yield_round_client, None),
        Row::call("yield_round", yield_round_client, yielder),
        Row::call("call_reply_deadline", deadline_client, echo_server),
        Row { budget: true, ..Row::call("call_reply_budget", call_client, echo_server) },
        Row {
            budget: true,
            notes: true,
            ..Row::call("notify_wait_budget", notify_wait_client, notify_wait_server)
        },
        Row::call("call_reply_runtime", runtime_client, runtime_server),
        Row::call("call_recv_then_reply", call_client, recv_then_reply_server),
        Row {
            operations: 2,
            beside: Some((second_client, 1)),
            ..Row::call("call_reply_queued", call_client, yielding_server)
        },
        Row {
            beside: Some((second_client, 1)),
            ..Row::call("call_reply_2_clients", call_client, busy_server)
        },
        Row {
            beside: Some((second_client, 7)),
            ..Row::call("call_reply_8_clients", call_client, busy_server)
        },
        Row {
            beside: Some((second_faulter, 3)),
            faults: true,
            ..Row::call("fault_null_4_tasks", fault_client, busy_fault_server)
        },
        vector("call_reply_vec_client", [true, false]),
        vector("call_reply_vec_server", [false, true]),
        Row::call("call_reply_64w_touched", touching_client, touching_server),
        Row {
            maps: true,
            server_reports: true,
            ..Row::call("send_event_read", send_read_client, waiting_pool_server)
        },
        Row { notes: true, ..Row::call("notify_wait_cross_as", notify_wait_client, notify_wait_server) },
        Row {
            faults: true,
            maps: true,
            server_reports: true,
            samples_max: PAGER_SAMPLES,
            ..Row::call("fault_roundtrip_two_tables", touch_two_client, pager_server)
        },
        Row::call("grant_cap_again", grant_client, grant_again_server),
        Row {
            pages: 1,
            operations: 2,
            ..Row::new("map_unmap_two_tables", Scope::Operation, two_tables_client, None)
        },
    ]
    .into()
}

/// Returns the rows of capabilities and objects.
fn lives() -> Vec<Row> {
    let row = |name: &str, client: Entry, slots: u32| Row {
        slots,
        ..Row::new(name, Scope::Operation, client, None)
    };
    let made = |name: &str, client: Entry, at_a_time: u32| Row {
        memory_log2: MANY_LOG2,
        samples_max: MANY_SAMPLES,
        ..row(name, client, 2 * MANY_SAMPLES as u32 * at_a_time)
    };
    [
        row("cap_copy", cap_copy_client, FRESH_SLOTS),
        row("cap_delete", cap_delete_client, FRESH_SLOTS),
        row("cap_copy_delete_again", copy_delete_client, 1),
        Row { memory_log2: NOTES_LOG2, ..row("retype_notification", retype_client, FRESH_SLOTS) },
        made("retype_16_notifications", notifications_client, AT_A_TIME),
        made("retype_reply", reply_client, 1),
        made("retype_sched", sched_client, 1),
        made("retype_group", group_client, 1),
        made("retype_cnode", cnode_client, 1),
        made("retype_task", retype_task_client, 1),
        made("retype_frame", frame_client, 1),
        Row { samples_max: 50, ..row("cap_revoke_1000", revoke_client, TREE_SLOTS) },
        Row { memory_log2: TASK_LOG2, ..row("task_create_destroy", task_client, OBJECT_SLOTS) },
        Row { memory_log2: PROCESS_LOG2, ..row("process_create_destroy", process_client, OBJECT_SLOTS) },
    ]
    .into()
}

/// Returns the rows of system calls that are in no other row. Their cost does not depend on the
/// number of CPUs, so one number suffices.
fn single() -> Vec<Row> {
    let row = |name: &str, client: Entry| Row {
        slots: OPS_SLOTS,
        memory_log2: OPS_LOG2,
        ..Row::new(name, Scope::Operation, client, None)
    };
    let paged = |name: &str, client: Entry| Row { pages: 1, ..row(name, client) };
    [
        row("cap_move", cap_move_client),
        row("cap_inspect", cap_inspect_client),
        row("cap_list", cap_list_client),
        row("cap_verify", cap_verify_client),
        row("untyped_reset", untyped_reset_client),
        row("process_accept", process_accept_client),
        row("group_add", group_add_client),
        row("group_remove", group_remove_client),
        row("group_member", group_member_client),
        row("expose", expose_client),
        row("withdraw", withdraw_client),
        row("task_read_regs", task_read_regs_client),
        row("task_write_regs", task_write_regs_client),
        row("task_cancel", task_cancel_client),
        row("task_debug", task_debug_client),
        row("fault_handler", fault_handler_client),
        row("task_suspend", task_suspend_client),
        row("task_resume", task_resume_client),
        row("task_kill", task_kill_client),
        row("process_kill", process_kill_client),
        row("sched_configure", sched_configure_client),
        Row {
            background: Some(busy_target),
            ..Row::new("policy_set_here", Scope::Operation, set_time_client, None)
        },
        Row { memory_log2: POOL_LOG2, background: Some(busy_target), ..row("policy_event", event_client) },
        row("sched_info", sched_info_client),
        Row { memory_log2: POOL_LOG2, ..row("pool_room", pool_room_client) },
        row("machine_counter", machine_counter_client),
        row("label_rule", label_rule_client),
        row("label_set", label_set_client),
        paged("protect", protect_client),
        paged("accessed", accessed_client),
        paged("pin_unpin", pin_unpin_client),
        paged("page_transfer", page_transfer_client),
        paged("page_copy", page_copy_client),
        row("set_bases", set_bases_client),
        Row { maps: true, server_reports: true, ..Row::call("call_save_reply", call_client, saving_server) },
        Row {
            behind: Behind::Server(echo_server),
            ..Row::call("call_forward", call_client, forwarding_server)
        },
        Row { behind: Behind::Chain(7), ..Row::call("call_chain_8", call_client, chain_server) },
        Row::new("timer_wake_latency", Scope::Operation, sleep_client, None),
        Row {
            background: Some(busy_target),
            ..Row::new("preempt_switch", Scope::Operation, sleep_client, None)
        },
    ]
    .into()
}

/// Returns the rows of system calls that do most work for one call.
fn longest() -> Vec<Row> {
    let row = |name: &str, client: Entry| Row {
        slots: LONG_SLOTS,
        memory_log2: LONG_LOG2,
        samples_max: LONG_SAMPLES,
        ..Row::new(name, Scope::Operation, client, None)
    };
    let deletes = |name: &str, client: Entry| Row::new(name, Scope::Operation, client, None);
    [
        row("retype_frame_2m", long_frame_client),
        row("retype_frame_512p", long_pages_client),
        row("retype_cnode_64k", long_cnode_client),
        row("retype_process_64k", long_process_client),
        row("retype_group_32k", long_group_client),
        row("retype_pool_max", long_pool_client),
        row("retype_256_notifications", long_count_client),
        row("retype_vspace_256", long_space_client),
        row("map_cleared_2m", long_map_client),
        Row { memory_log2: TWO_LARGE_LOG2, ..row("page_copy_2m", long_copy_client) },
        Row {
            memory_log2: GENERAL_LOG2,
            slots: BESIDE_SLOTS,
            ..deletes("cap_delete_general", delete_general_client)
        },
        Row {
            memory_log2: BESIDE_LOG2,
            slots: BESIDE_SLOTS,
            background: Some(many_deleter),
            ..deletes("cap_delete_beside", delete_beside_client)
        },
    ]
    .into()
}

/// Returns the rows of messages that describe themselves: user code only.
fn messages() -> Vec<Row> {
    let row = |name: &str, client: Entry| Row::new(name, Scope::Operation, client, None);
    [
        row("message_build", message_build_client),
        row("message_read", message_read_client),
        row("message_both_ways", message_both_client),
        row("message_by_hand", message_by_hand_client),
    ]
    .into()
}

/// Returns the rows of messages with pages, by page mode, and of copying.
fn carrying() -> Vec<Row> {
    use abi::PageMode::{Copy, Move, Share};
    let row = |name: &str, carried: Carried| Row {
        carried: Some(carried),
        samples_max: if carried.pages < 64 { u64::MAX } else { 100 },
        ..match carried.mode {
            None => Row::call(name, copy_client, carry_server),
            Some(_) if carried.pages > MESSAGE_PAGES_MAX => {
                Row::call(name, carry_many_client, carry_many_server)
            }
            Some(_) => Row::call(name, carry_client, carry_server),
        }
    };
    let kinds: [(&str, Option<abi::PageMode>, &[u64]); 4] = [
        ("remap_move", Some(Move), &[1, 4, 16, 64, 512]),
        ("remap_cow", Some(Copy), &[1, 16, 64, 512]),
        ("share_ro", Some(Share), &[1, 16, 64, 512]),
        ("copy", None, &[1, 4, 16, 64, 512]),
    ];
    let mut rows: Vec<Row> = kinds
        .iter()
        .flat_map(|(name, mode, sizes)| sizes.iter().map(move |pages| (name, *mode, *pages)))
        .map(|(name, mode, pages)| row(&format!("{name}_{pages}p"), Carried::new(mode, pages)))
        .collect();
    rows.push(row("remap_move_2m", Carried { pages: 1, large: true, mode: Some(Move) }));
    rows
}

/// Returns the rows of interrupts to a driver.
fn interrupts() -> [Row; 3] {
    let row = |name: &str, driver: Entry| Row {
        cpus: Cpus::Cross,
        server_reports: true,
        ..Row::new(name, Scope::OneWay, raise_client, Some(driver))
    };
    [
        row("irq_to_driver", driver),
        Row { background: Some(busy_target), ..row("irq_to_driver_preempt", preempting_driver) },
        Row { client: raise_here_client, ..row("irq_to_driver_cross", far_driver) },
    ]
}

fn cross_cpu() -> Vec<Row> {
    [
        Row { cpus: Cpus::Cross, ..Row::call("call_reply_cross_cpu", call_client, echo_server) },
        Row { cpus: Cpus::Cross, ..Row::call("call_reply_cross_cpu_64w", long_client, long_server) },
        Row {
            cpus: Cpus::Cross,
            background: Some(busy_target),
            ..Row::call("call_reply_cross_cpu_busy", busy_client, echo_server)
        },
        Row {
            cpus: Cpus::Cross,
            background: Some(intruder),
            lowest: Some(lowest_client),
            ..Row::call("call_cross_cpu_inherit", inherit_client, interrupted_server)
        },
        Row {
            cpus: Cpus::Cross,
            lowest: Some(lowest_client),
            ..Row::call("call_cross_cpu_midway", midway_client, midway_server)
        },
        Row { cpus: Cpus::Cross, faults: true, ..Row::call("fault_cross_cpu", fault_client, fault_server) },
        Row {
            cpus: Cpus::Cross,
            server_reports: true,
            ..Row::new(
                "notify_wait_cross_cpu",
                Scope::RoundTrip,
                notify_wait_client,
                Some(notify_wait_far_server),
            )
        },
        Row {
            background: Some(stamping_target),
            ..Row::new("migrate_task", Scope::Operation, move_client, None)
        },
        Row {
            cpus: Cpus::Cross,
            ..Row::new("policy_set_cross", Scope::Operation, set_time_client, Some(idle_server))
        },
        Row {
            cpus: Cpus::Cross,
            background: Some(busy_target),
            ..Row::new("policy_set_cross_busy", Scope::Operation, set_time_client, None)
        },
    ]
    .into()
}
