//! The rows of the bench: what each row measures, and which runs have it.
//!
//! This is the only list of rows: runs must have these rows, `bench --list` prints them, and README
//! and book take their descriptions from here.

#[cfg(test)]
mod covered;

use crate::machine::{CPUS_MAX, Mode};
use crate::trouble::Trouble;

/// Which runs have a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    Always,
    /// On one CPU.
    One,
    /// On several CPUs.
    Several,
    /// Under icount on one CPU, or on several: the plugin counts it.
    OneCounted,
    SeveralCounted,
}

/// A row. `N` in its name stands for the number of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    pub name: &'static str,
    pub what: &'static str,
    on: On,
}

const fn always(name: &'static str, what: &'static str) -> Known {
    Known { name, what, on: On::Always }
}

/// Makes a row whose figure does not depend on the number of CPUs. It is measured on one.
const fn on_one(name: &'static str, what: &'static str) -> Known {
    Known { name, what, on: On::One }
}

const fn several(name: &'static str, what: &'static str) -> Known {
    Known { name, what, on: On::Several }
}

pub const ROWS: &[Known] = &[
    always("loop_1m", "a million turns of a two-instruction loop: what a tick is"),
    always("null_syscall", "null system call, which the entry code answers itself"),
    always("who_am_i", "a system call that looks nothing up, dispatched through the table as all others"),
    always("yield_alone", "yield, and no other task is ready"),
    always("light_yield", "yield when the kernel gives notice, until an equal goes on that yielded so"),
    always("light_yield_cross_as", "the same with two address spaces"),
    always("yield_round", "yield to a task that yields back: two switches, two address spaces"),
    always("yield_to", "yield to a named task, next in any case, that yields back, one switch"),
    always("notify_no_waiter", "notify, and no task waits"),
    always("lock_uncontended", "take a lock that processes share, and give it back: no kernel entry"),
    always("lock_contended", "such a lock from its owner's giving it back until a better waiter has it"),
    always(
        "lock_wait_pass",
        "the same from the attempt to take the lock: the wait, the owner, the hand-over",
    ),
    always("notify_wait_same_cpu", "notify and wait, there and back"),
    always("notify_wait_cross_as", "notify and wait, there and back, two address spaces"),
    always("call_reply_same_as", "call and reply, 4 words, one address space"),
    always("call_reply_cross_as", "call and reply, 4 words, two address spaces"),
    always("call_reply_cross_as_vec", "call and reply, 4 words, both sides with vector state"),
    always("call_reply_vec_client", "call and reply, 4 words, only the client with vector state"),
    always("call_reply_vec_server", "call and reply, 4 words, only the server with vector state"),
    always("call_reply_cross_as_shuffled", "call and reply in groups, exposures and slots drawn at random"),
    always("call_reply_cross_as_nofast", "call and reply without the fastpath"),
    always("call_reply_deadline", "call and reply, 4 words, with a deadline"),
    always("call_reply_budget", "call and reply, 4 words, on time with a budget"),
    always("notify_wait_budget", "notify and wait, there and back, where one task's time has a budget"),
    always("call_reply_runtime", "call and reply by the runtime's own interface, with a label"),
    always(
        "call_recv_then_reply",
        "call and reply, 4 words; the server receives and replies in two system calls",
    ),
    always(
        "call_reply_queued",
        "half of two calls and replies: the server yields, so that two callers take turns in its queue",
    ),
    always("call_reply_2_clients", "call and reply while another client of its priority calls, too"),
    always("call_reply_8_clients", "call and reply while seven other clients of its priority call, too"),
    always("call_reply_64w", "call and reply, 4 + 64 words, which are in the UTCB already"),
    always("call_reply_64w_touched", "call and reply, 4 + 64 words, which both sides write and read"),
    always("fault_null", "fault to a handler in another process, and back"),
    always("fault_null_4_tasks", "fault to a handler and back, while three other tasks fault, too"),
    always("fault_roundtrip", "fault to a handler in another process, which maps a page, and back"),
    always(
        "fault_roundtrip_two_tables",
        "fault to a handler that maps a page, and back; pages under two page tables in turns",
    ),
    always("send_event", "send 4 words into an event pool whose reader does not wait"),
    always("send_event_wake", "send 4 words into an event pool whose reader waits: it is made ready"),
    always(
        "send_event_read",
        "send 4 words into an event pool whose reader waits, until it has run and waits again",
    ),
    always("event_receive", "read an event, in user mode"),
    always("broadcast_8", "one message into the pools of 8 processes"),
    always("broadcast_64", "one message into the pools of 64 processes"),
    always("broadcast_8_64w", "one message with 64 UTCB words besides into the pools of 8 processes"),
    always("send_event_64w", "send 4 + 64 words into an event pool whose reader does not wait"),
    always("grant_cap_in_call", "call with a capability, and reply"),
    always(
        "grant_cap_again",
        "call with a capability, and reply; always into one slot, which the server empties",
    ),
    always("clear_page", "clear a page of 4 KiB, in user mode"),
    always("map_unmap_1p", "map a page and unmap it, always at one place"),
    always("map_unmap_two_tables", "map a page and unmap it: half of two pages under two page tables"),
    always("map_unmap_512p", "map 512 pages and unmap them, two system calls"),
    always("cap_copy", "copy a capability into a slot that was never used"),
    always("cap_delete", "delete a copy"),
    always("cap_copy_delete_again", "copy a capability and delete the copy, always in one slot"),
    always("cap_revoke_1000", "revoke 1,000 copies"),
    always("retype_notification", "make a Notification"),
    always("retype_16_notifications", "make 16 Notifications in one system call"),
    always("retype_reply", "make a Reply"),
    always("retype_sched", "make a SchedContext"),
    always("retype_group", "make a Group of 4 members and 4 exposures"),
    always("retype_cnode", "make a CNode of 16 slots"),
    always("retype_task", "make a Task"),
    always("retype_frame", "make a Frame of 4 KiB"),
    always("task_create_destroy", "make a task with its CPU time, resume it, take its memory back"),
    always("process_create_destroy", "make a process with its spaces, take their memory back"),
    on_one("cap_move", "move a capability into another slot of the same CNode"),
    on_one("cap_inspect", "look at a slot"),
    on_one("cap_list", "list the capabilities of a CSpace, from its first slot on"),
    on_one("cap_verify", "ask whether a process holds a capability, which is in one of its first slots"),
    on_one("untyped_reset", "take back 128 KiB of which one Notification was made"),
    on_one("process_accept", "offer a slot for a membership"),
    on_one("group_add", "add a process to a group"),
    on_one("group_remove", "remove a member from a group"),
    on_one("group_member", "ask for a member of a group"),
    on_one("expose", "expose a Notification"),
    on_one("withdraw", "take an exposure back"),
    on_one("task_read_regs", "read the registers of a suspended task"),
    on_one("task_write_regs", "write the registers of a suspended task"),
    on_one("task_cancel", "cancel the wait of a suspended task, which waits for nothing"),
    on_one("task_debug", "set the debug registers of a task, to none"),
    on_one("fault_handler", "say that a task has no fault handler"),
    on_one("task_suspend", "suspend a task"),
    on_one("task_resume", "resume a task that has no CPU time"),
    on_one("task_kill", "kill a suspended task"),
    on_one("process_kill", "kill a process with spaces and a task"),
    on_one("sched_configure", "set priority and slice of a SchedContext that no task has"),
    on_one("policy_set_here", "set priority and slice of a ready task's SchedContext"),
    on_one("policy_event", "report an event of a watched SchedContext to its policy"),
    on_one("sched_info", "read a SchedContext"),
    on_one("pool_room", "tell an event pool that it has room, and no sender waits"),
    on_one("machine_counter", "read a counter of this CPU"),
    on_one("label_rule", "say what a label may do, as before"),
    on_one("label_set", "set an object's label, as before"),
    on_one("protect", "make a page that can be written read-only"),
    on_one("accessed", "read the accessed bit of a page"),
    on_one("pin_unpin", "pin a frame, and take the pin back"),
    on_one("page_transfer", "move a page of a pool to another place"),
    on_one("page_copy", "copy a page of a pool that is mapped at two places"),
    on_one("set_bases", "set the caller's FS and GS bases"),
    on_one(
        "call_save_reply",
        "call and reply, 4 words; the server keeps the call in a Reply object, and replies through that",
    ),
    on_one("call_forward", "call and reply, 4 words, by way of a server that forwards"),
    on_one("call_chain_8", "call and reply, 4 words, through 8 servers, each of which calls the next"),
    on_one("timer_wake_latency", "from a deadline to the first instruction of who waits for it, CPU idle"),
    on_one("preempt_switch", "from a deadline to the first instruction of who waits for it, CPU busy"),
    on_one("message_build", "build a request of the message format with two numbers, in user mode"),
    on_one("message_read", "read such a request, in user mode"),
    on_one(
        "message_both_ways",
        "build a request, read it, dispatch, build the answer, read that, all in user mode",
    ),
    on_one("message_by_hand", "the same request by hand: two numbers in registers"),
    always("remap_move_1p", "call that moves a page, and reply"),
    always("remap_move_4p", "call that moves 4 pages, and reply"),
    always("remap_move_16p", "call that moves 16 pages, and reply"),
    always("remap_move_64p", "call that moves 64 pages, and reply"),
    always("remap_move_512p", "512 pages of 4 KiB moved by 8 calls, and replies"),
    always("remap_move_2m", "call that moves one page of 2 MiB, and reply"),
    always("remap_cow_1p", "call that shares a page copy-on-write, and reply"),
    always("remap_cow_16p", "call that shares 16 pages copy-on-write, and reply"),
    always("remap_cow_64p", "call that shares 64 pages copy-on-write, and reply"),
    always("remap_cow_512p", "512 pages shared copy-on-write by 8 calls, and replies"),
    always("share_ro_1p", "call that shares a page read-only, and reply"),
    always("share_ro_16p", "call that shares 16 pages read-only, and reply"),
    always("share_ro_64p", "call that shares 64 pages read-only, and reply"),
    always("share_ro_512p", "512 pages shared read-only by 8 calls, and replies"),
    always("copy_1p", "a page copied by hand, call and reply"),
    always("copy_4p", "4 pages copied by hand, call and reply"),
    always("copy_16p", "16 pages copied by hand, call and reply"),
    always("copy_64p", "64 pages copied by hand, call and reply"),
    always("copy_512p", "512 pages copied by hand, call and reply"),
    on_one("retype_frame_2m", "retype of a frame of 2 MiB"),
    on_one("retype_frame_512p", "retype of a frame of 512 pages of 4 KiB"),
    on_one("retype_cnode_64k", "retype of a CNode of 65,536 slots"),
    on_one("retype_process_64k", "retype of a Process with 65,536 task numbers"),
    on_one("retype_group_32k", "retype of a Group of 32,767 members and 32,767 exposures"),
    on_one("retype_pool_max", "retype of an EventPool of the largest size"),
    on_one("retype_256_notifications", "retype of 256 Notifications in one system call"),
    on_one("retype_vspace_256", "retype of a VSpace with 256 page tables"),
    on_one("map_cleared_2m", "map of a page of 2 MiB that was in a pool, and has to be cleared"),
    on_one("page_copy_2m", "copy of a shared page of 2 MiB"),
    on_one("cap_delete_general", "delete a copy in another CNode"),
    on_one("cap_delete_beside", "delete such a copy, while the delete of 983,025 copies stands half-way"),
    Known {
        name: "max_interrupts_off",
        what: "longest run of kernel instructions with interrupts off, in any row",
        on: On::OneCounted,
    },
    several("call_reply_cross_cpu_polled", "call and reply across CPUs, idle CPUs poll"),
    several("call_reply_cross_cpu_halted", "call and reply across CPUs, idle CPUs halt"),
    several(
        "call_reply_cross_cpu_busy",
        "call and reply across CPUs, the target's CPU runs a task of lower priority",
    ),
    several(
        "call_cross_cpu_midway",
        "the same, but the server runs: it has to end a request of the lowest priority",
    ),
    several(
        "call_cross_cpu_inherit",
        "the same, and a task of lower priority has preempted the server in that request",
    ),
    several("call_reply_cross_cpu_64w", "call and reply across CPUs, 4 + 64 words, idle CPUs halt"),
    several("fault_cross_cpu", "fault to a handler on another CPU, and back"),
    several("notify_wait_cross_cpu", "notify and wait across CPUs, there and back"),
    several("migrate_task", "move a ready task to an idle CPU, until it runs there"),
    several(
        "policy_set_cross",
        "set priority and slice of a waiting task's SchedContext on another CPU; until that is done",
    ),
    several(
        "policy_set_cross_busy",
        "set priority and slice of the SchedContext that runs on another CPU; until that is done",
    ),
    several("irq_to_driver", "interrupt of a device to the first instruction of its driver, CPU idle"),
    several("irq_to_driver_preempt", "the same, a task of lower priority runs on the driver's CPU"),
    several("irq_to_driver_cross", "the same, the interrupt comes to another CPU than the driver's"),
    several(
        "remap_move_1p_2cpu",
        "call that moves a page out of a space of which another CPU may have translations",
    ),
    several(
        "remap_move_4p_2cpu",
        "call that moves 4 pages out of a space of which another CPU may have translations",
    ),
    several(
        "remap_move_16p_2cpu",
        "call that moves 16 pages out of a space of which another CPU may have translations",
    ),
    several(
        "remap_move_64p_2cpu",
        "call that moves 64 pages out of a space of which another CPU may have translations",
    ),
    several(
        "remap_move_512p_2cpu",
        "512 pages moved by 8 calls out of a space of which another CPU may have translations",
    ),
    several(
        "map_unmap_512p_2cpu",
        "map 512 pages and unmap them, in a space of which another CPU has translations",
    ),
    several("shootdown_Ncpu", "unmap a page of which all other CPUs may have translations"),
    always("pairs_local_N", "call and reply on each of N CPUs at the same time"),
    Known {
        name: "shared_lines_per_rt",
        what: "cache lines that change hands in a round trip of `pairs_local_N`",
        on: On::SeveralCounted,
    },
];

impl Known {
    /// Returns the row's name in a run on `cpus` CPUs.
    pub fn name_on(&self, cpus: u32) -> String {
        self.name.replace('N', &cpus.to_string())
    }

    /// Returns whether a run in this mode, with this number of CPUs, has the row.
    fn is_on(&self, mode: Mode, cpus: u32) -> bool {
        match self.on {
            On::Always => true,
            On::One => cpus == 1,
            On::Several => cpus > 1,
            On::OneCounted => mode == Mode::Icount && cpus == 1,
            On::SeveralCounted => mode == Mode::Icount && cpus > 1,
        }
    }
}

/// Refuses a pattern that matches no row of any run. `N` in a row's name stands for any number.
pub fn check(patterns: &str) -> Result<(), Trouble> {
    let all: Vec<String> = (1..=CPUS_MAX).flat_map(|cpus| expected(Mode::Icount, cpus)).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    match test_abi::select::unknown(Some(patterns), &all) {
        Some(nothing) => {
            let wrong = match nothing {
                "" => format!("--rows '{patterns}' has an empty name"),
                _ => format!("--rows '{nothing}' names no row"),
            };
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            Err(Trouble::Usage(format!("{wrong}; the rows are: {}", names.join(", "))))
        }
        None => Ok(()),
    }
}

/// Returns the rows of a run whose names match one of some patterns, in which `*` is any text.
pub fn chosen(patterns: &str, mode: Mode, cpus: u32) -> Vec<String> {
    let mut rows = expected(mode, cpus);
    rows.retain(|name| test_abi::select::is_wanted(Some(patterns), name));
    rows
}

/// Returns what a row of a run on `cpus` CPUs is the cost of.
pub fn what(name: &str, cpus: u32) -> Option<&'static str> {
    ROWS.iter().find(|row| row.name_on(cpus) == name).map(|row| row.what)
}

/// Lists all rows: name, and what it is the cost of.
pub fn list() -> String {
    let width = ROWS.iter().map(|row| row.name.len()).max().unwrap_or(0);
    ROWS.iter().map(|row| format!("{:<width$}  {}\n", row.name, row.what)).collect()
}

/// Returns the names of the rows of a run.
pub fn expected(mode: Mode, cpus: u32) -> Vec<String> {
    let of_run = ROWS.iter().filter(|row| row.is_on(mode, cpus));
    of_run.map(|row| row.name_on(cpus)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_once() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..at].iter().all(|before| before.name != row.name), "{}", row.name);
        }
    }

    #[test]
    fn a_pattern_for_no_row_is_refused_and_a_row_of_other_runs_is_not() {
        for patterns in ["null_syscall", "call_*,yield_to", "shootdown_2cpu", "shootdown_32cpu", "*"] {
            assert!(check(patterns).is_ok(), "{patterns}");
        }
        for patterns in ["", ",", "nosuch", "null_syscall,", "null_syscall,nosuch*"] {
            let why = check(patterns).expect_err(patterns).to_string();
            assert!(why.contains("the rows are: loop_1m, null_syscall"), "{why}");
        }
        assert_eq!(chosen("yield_*", Mode::Icount, 1), ["yield_alone", "yield_round", "yield_to"]);
        assert!(chosen("shootdown_2cpu", Mode::Icount, 1).is_empty());
    }

    #[test]
    fn each_number_of_cpus_has_its_own() {
        let one = expected(Mode::Icount, 1);
        assert!(
            one.iter().all(|name| !name.contains("cross_cpu"))
                && one.contains(&"max_interrupts_off".to_owned())
        );
        let four = expected(Mode::Icount, 4);
        assert!(
            four.contains(&"shootdown_4cpu".to_owned()) && four.contains(&"shared_lines_per_rt".to_owned())
        );
        assert!(!expected(Mode::Tcg, 4).contains(&"shared_lines_per_rt".to_owned()));
    }
}
