//! Pairs of rows: which row of another kernel is compared with which row of Aurora, and how the
//! operations differ.
//!
//! A pair without a note compares equal operations: between the same number of address spaces, with
//! the same number of words, in the same state of the kernel's caches, tables and slots. All other
//! pairs have a note with the differences.

/// The figures of another kernel for one of our rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// It has no such operation.
    Nothing,
    Row(&'static str),
    /// Half of a row.
    Half(&'static str),
    /// Two rows, one after the other.
    Sum(&'static str, &'static str),
}

/// A row of ours beside one of theirs.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub row: &'static str,
    /// Where it stands in the README: the number of CPUs, or none.
    pub readme: Option<u32>,
    pub other: Of,
    /// What differs, or what has to be known.
    pub note: Option<&'static str>,
}

const fn shown(row: &'static str, other: Of) -> Pair {
    Pair { row, readme: Some(1), other, note: None }
}

const fn noted(row: &'static str, other: Of, note: &'static str) -> Pair {
    Pair { row, readme: Some(1), other, note: Some(note) }
}

/// Makes a pair of rows across CPUs, on two CPUs.
const fn crossing(row: &'static str, other: Of, note: Option<&'static str>) -> Pair {
    Pair { row, readme: Some(2), other, note }
}

const fn book(row: &'static str, other: Of, note: Option<&'static str>) -> Pair {
    Pair { row, readme: None, other, note }
}

use Of::{Half, Nothing, Row, Sum};

const FRESH: &str = "A slot that was never used, or was emptied long ago. The row `cap_copy_delete_again` uses \
     a slot again immediately.";
const ONE_PLACE: &str = "A state that only a bench reaches: always one frame at one place. `map_unmap_two_tables` \
     is the general case, of frames of one page with a capability to write.";
const VECTORS: &str = "The promises differ. Aurora's vector registers are dead across a call, as across a \
     function call, and the next task finds them reset. seL4 keeps the values of both sides.";
const QUEUED: &str = "Half of a sample in which two callers are answered in turn. The server yields before \
     each answer. Aurora's two callers are of one process, seL4's of two.";
const ENTRY: &str = "The entry code answers it in a branch of its own. `who_am_i` takes the way of all other \
     system calls.";
const DIRECTED: &str = "A directed yield, which names the next task; half of there and back. seL4 has none: \
     compare its Yield with `yield_round`.";
const POOL: &str = "Into a pool that is read later. seL4's Send waits for a receiver: compare it with \
     `send_event_wake` and `send_event_read`, whose reader waits.";
const READ: &str = "Aurora's row ends when the reader has the message and waits again, and the sender runs. \
     seL4's row ends when the receiver has the message.";
const FAULT: &str = "A page fault that is answered with the next instruction. seL4's row is an undefined \
     instruction, with one word more, since seL4 cannot skip a page fault.";
const FAULT_MAP: &str = "Page after page under one page table. With two page tables in turns \
     (`fault_roundtrip_two_tables`) it takes {fault_roundtrip_two_tables}.";
const TURNS: &str = "Aurora's figure needs two tasks of one priority that only wait for bits. With two \
     priorities, a deadline, vector state, or bits taken by Recv, Aurora takes 2.6 to 3.5 times \
     as much. With a third task of that priority that is ready it takes five times as much, \
     that task's turns included. seL4's takes {seL4/signal_wait_round_trip_higher} with a \
     server of higher priority \
     (`signal_wait_round_trip_higher`).";
const ONE_SPACE: &str = "The two tasks are in one address space. Compare seL4's with `notify_wait_cross_as`.";
const TURNS_ACROSS: &str = "The work of both CPUs summed, because both advance one clock. Aurora's two tasks are in \
     one address space, seL4's in two.";
const GRANT: &str = "Aurora's call carries four words, seL4's none. Each copy goes into a slot that was never \
     used. Aurora's server names all slots once; seL4's names the next one after each call. \
     In `grant_cap_again` the server empties its slot and names it again.";
const SAME_SLOT: &str = "The server makes one more system call, to empty the slot, and Aurora asks each CPU \
     before the slot is used again.";
const AGAIN: &str = "Aurora asks each CPU before a slot is used again, so its figure grows with the number of \
     CPUs: the README has the figure of one CPU, the results have those of two and four. \
     seL4's SMP kernel ran on two.";
const MANY_CALLS: &str = "Aurora takes two system calls for all pages of one frame, with one capability. seL4 \
     takes a frame, a capability and two system calls for each page. With another CPU that may \
     have the translations, Aurora takes {map_unmap_512p_2cpu@2}.";
const PAGES: &str = "seL4's messages carry no pages. Unmapping and mapping one by hand takes \
     `map_unmap_two_tables` and a call.";
const MOVED: &str = "seL4's messages carry no pages. Unmapping and mapping 512 by hand takes `map_unmap_512p` \
     and a call.";
const ONE_NOTE: &str = "The memory is cleared already, and the slot was never used, or was emptied long ago. \
     Aurora gives memory back by a system call of its own, `untyped_reset`. seL4's \
     endpoint takes {seL4/retype_delete_endpoint} with its deletion and with clearing the \
     memory (`retype_delete_endpoint`).";
const MADE: &str = "Compared with an endpoint, the smallest object of seL4.";
const FRAMES: &str = "Aurora clears the frame in this call: 512 turns of a REP instruction. In seL4's row the \
     memory is clear already. If seL4 clears it, and deletes the frame, it takes \
     {seL4/retype_delete_frame_4k} \
     (`retype_delete_frame_4k`).";
const TASKS: &str = "seL4 built with -O3, which is not its default, takes 1,164.";
const BOTH: &str = "The work of both CPUs summed, because both advance one clock.";

/// Those of the README, in the order of its table; then those of the book alone.
pub const PAIRS: &[Pair] = &[
    shown("call_reply_cross_as", Row("call_reply_cross_as_4w")),
    noted("call_reply_cross_as_vec", Row("call_reply_both_vec_4w"), VECTORS),
    noted("call_reply_vec_client", Row("call_reply_client_vec_4w"), VECTORS),
    shown("call_reply_64w", Row("call_reply_64w")),
    noted("call_reply_deadline", Nothing, "seL4's calls have no deadline."),
    shown("call_recv_then_reply", Row("call_recv_then_reply")),
    noted("call_reply_queued", Half("call_reply_queued"), QUEUED),
    noted("grant_cap_in_call", Row("call_reply_grant_cap"), GRANT),
    noted("fault_roundtrip", Row("fault_map"), FAULT_MAP),
    shown("map_unmap_two_tables", Half("map_unmap_2p_two_tables")),
    noted("map_unmap_512p", Sum("map_512p", "unmap_512p"), MANY_CALLS),
    noted("remap_move_1p", Nothing, PAGES),
    shown("who_am_i", Row("null_syscall")),
    shown("yield_round", Row("yield_two_switches")),
    noted("notify_wait_cross_as", Row("signal_wait_round_trip"), TURNS),
    noted("send_event_read", Row("send_waiting_higher"), READ),
    noted("cap_copy_delete_again", Row("cap_copy_delete"), AGAIN),
    shown("cap_revoke_1000", Row("cap_revoke_1000")),
    noted("retype_task", Row("retype_tcb"), TASKS),
    noted("retype_frame", Row("retype_frame_4k"), FRAMES),
    crossing("call_reply_cross_cpu_polled", Nothing, Some(BOTH)),
    crossing("call_reply_cross_cpu_halted", Row("cross_cpu_call_reply_4w"), Some(BOTH)),
    crossing("call_reply_cross_cpu_64w", Row("cross_cpu_call_reply_64w"), Some(BOTH)),
    crossing("notify_wait_cross_cpu", Row("cross_cpu_signal_wait_round_trip"), Some(TURNS_ACROSS)),
    crossing("shootdown_2cpu", Nothing, Some(BOTH)),
    book("call_reply_same_as", Row("call_reply_same_as_4w"), None),
    book("notify_wait_same_cpu", Nothing, Some(ONE_SPACE)),
    book("fault_roundtrip_two_tables", Nothing, None),
    book("grant_cap_again", Nothing, Some(SAME_SLOT)),
    book("fault_null", Row("fault_null"), Some(FAULT)),
    book("map_unmap_1p", Row("map_unmap_1p"), Some(ONE_PLACE)),
    book("remap_move_512p", Nothing, Some(MOVED)),
    book("null_syscall", Row("null_syscall"), Some(ENTRY)),
    book("yield_alone", Row("yield_alone"), None),
    book("yield_to", Nothing, Some(DIRECTED)),
    book("notify_no_waiter", Row("signal_no_waiter"), None),
    book("send_event", Nothing, Some(POOL)),
    book("send_event_wake", Row("send_waiting_equal"), None),
    book("cap_copy", Row("cap_copy"), Some(FRESH)),
    book("cap_delete", Row("cap_delete"), Some(FRESH)),
    book("retype_notification", Row("retype_notification"), Some(ONE_NOTE)),
    book("retype_reply", Row("retype_endpoint"), Some(MADE)),
    book("retype_cnode", Row("retype_cnode_16"), None),
    book("call_reply_vec_server", Nothing, Some(VECTORS)),
    book("call_reply_64w_touched", Nothing, None),
    book("retype_16_notifications", Nothing, None),
    book("retype_sched", Nothing, None),
    book("retype_group", Nothing, None),
];

/// Returns the pair that compares a row with one of the other kernel, if there is one.
pub fn of(row: &str) -> Option<&'static Pair> {
    PAIRS.iter().find(|pair| pair.row == row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::data::tests::committed;
    use crate::machine::Mode;
    use crate::rows;

    #[test]
    fn a_row_stands_once_and_is_one() {
        let rows: Vec<String> = [1, 2].iter().flat_map(|cpus| rows::expected(Mode::Icount, *cpus)).collect();
        for (at, pair) in PAIRS.iter().enumerate() {
            assert!(PAIRS[..at].iter().all(|before| before.row != pair.row), "{}", pair.row);
            assert!(rows.iter().any(|row| row == pair.row), "{}", pair.row);
        }
    }

    #[test]
    fn rows_of_the_other_kernel_are_there() {
        let data = committed();
        for pair in PAIRS {
            let names: &[&str] = match &pair.other {
                Nothing => &[],
                Row(name) | Half(name) => &[name],
                Sum(one, other) => &[one, other],
            };
            let measured = |name: &&&str| data.of_peer("smp", name).is_none();
            assert_eq!(names.iter().find(measured), None, "{}", pair.row);
        }
    }

    /// A note names rows, and the committed figure of each of the other kernel's.
    #[test]
    fn notes_say_what_was_measured() {
        let data = committed();
        let rows: Vec<String> = [1, 2].iter().flat_map(|cpus| rows::expected(Mode::Icount, *cpus)).collect();
        for note in PAIRS.iter().filter_map(|pair| pair.note) {
            for name in note.split('`').skip(1).step_by(2) {
                if rows.iter().any(|row| row == name) {
                    continue;
                }
                assert!(note.contains(&format!("{{seL4/{name}}}")), "{name}: {note}");
            }
            for name in note.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)) {
                assert!(data.figure(name).is_ok(), "{name}: {note}");
            }
        }
    }
}
