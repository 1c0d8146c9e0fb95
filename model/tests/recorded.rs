//! Histories that the fuzzer recorded in the booted kernel, on 4 CPUs: some for which an order was
//! hard to find, one that an earlier checker rejected, and two of kernels with a bug.
//!
//! They have the format of `./justw fuzz`: one call in a line, with its stamps, its arguments and
//! its answer. The initial state is the fuzzer's: three processes, with CNodes and an Untyped.

mod cluster;

use abi::{Error, MsgInfo, Op};
use cluster::{before, with_speakers};
use model::linear::{Call, History, Verdict};
use model::{Args, Id};

/// Steps that the search may take: of a history with some 90 calls.
const LIMIT: u64 = 30_000;

fn hex(word: &str) -> u64 {
    u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap()
}

/// Reads a line: `began..ended worker N Op [info X] args -> [Error] values`. Returns the call and
/// its worker.
fn call(line: &str, tasks: &[Id]) -> (Call, usize) {
    let (asked, answered) = line.split_once(" ->").unwrap();
    let mut words = asked.split_whitespace();
    let (began, ended) = words.next().unwrap().split_once("..").unwrap();
    let worker: usize = words.nth(1).unwrap().parse().unwrap();
    let name = words.next().unwrap();
    let op = *Op::ALL.iter().find(|op| format!("{op:?}") == name).unwrap();
    let mut words = words.peekable();
    let info = words.next_if_eq(&"info").map_or(op as u64, |_| hex(words.next().unwrap()));
    let mut args = [0; 6];
    args.iter_mut().zip(words).for_each(|(arg, word)| *arg = hex(word));
    let mut found = [0; 8];
    let mut words = answered.split_whitespace().peekable();
    if let Some(name) = words.next_if(|word| !word.starts_with("0x")) {
        found[0] = *Error::ALL.iter().find(|error| error.name() == name).unwrap() as u64;
    } else if matches!(op, Op::Call | Op::Recv | Op::ReplyRecv | Op::Reply) {
        found[0] = hex(words.next().unwrap());
    }
    found[1..].iter_mut().zip(words).for_each(|(value, word)| *value = hex(word));
    let (began, ended) = (began.parse().unwrap(), ended.parse().unwrap());
    (Call { me: tasks[worker], op, args: Args(args, MsgInfo(info)), found, began, ended }, worker)
}

fn verdict(text: &str, owner: usize) -> (Verdict, u64) {
    let (system, tasks) = before(owner);
    let calls: Vec<(Call, usize)> = text.lines().map(|line| call(line, &tasks)).collect();
    // At the end one worker looks at all slots.
    let looks = |it: &&(Call, usize)| {
        matches!(it.0.op, Op::CapInspect | Op::Wait) && it.1 == calls[calls.len() - 1].1
    };
    let settled = calls.iter().rev().take_while(looks).last().unwrap().0.began - 1;
    let calls: Vec<Call> = calls.into_iter().map(|(call, _)| call).collect();
    History { before: &system, calls: &calls, settled }.search(LIMIT, || ())
}

/// Judges a recorded history of speakers, which the first lines name:
/// `speaker N process P cpu C is X`, and ` rank R` where that differs.
fn of_speakers(text: &str) -> (Verdict, u64) {
    let told: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("speaker"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let number = |word: &str| word.parse::<usize>().unwrap();
    let rank = |words: &[&str]| words.get(9).map_or(0, |rank| rank.parse().unwrap());
    let speakers: Vec<_> =
        told.iter().map(|it| (number(it[1]), number(it[3]), number(it[5]), hex(it[7]), rank(it))).collect();
    let (system, made) = with_speakers(&speakers);
    // The keeper is another worker, of which there is one: whom it stands for does not matter.
    let of = |worker: usize| made.iter().find(|it| it.0 == worker).map(|it| it.1);
    let mut tasks: Vec<Id> = (0..made[0].0).map(|worker| Id(2 * cluster::PROCESSES + 1 + worker)).collect();
    tasks.extend((tasks.len()..=made[made.len() - 1].0).filter_map(of));
    let calls: Vec<Call> =
        text.lines().filter(|line| !line.starts_with("speaker")).map(|line| call(line, &tasks).0).collect();
    let settled = calls.iter().map(|it| it.ended).max().unwrap();
    History { before: &system, calls: &calls, settled }.search(LIMIT, || ())
}

#[track_caller]
fn fits(text: &str, owner: usize) {
    let (verdict, steps) = verdict(text, owner);
    assert_eq!(verdict, Verdict::Fits, "after {steps} steps");
}

/// One revoke made two objects dying: it began again when the first had been ended by its CPU, and
/// found a newer one.
#[test]
fn a_revoke_has_two_dying_at_once() {
    fits(include_str!("recorded/revoke_of_two.txt"), 2);
}

/// The search gave up on these after 200,000 steps, when it did not try what is in the middle of an
/// entry first.
#[test]
fn what_was_hard_is_found() {
    fits(include_str!("recorded/search_1.txt"), 2);
    fits(include_str!("recorded/search_2.txt"), 0);
    fits(include_str!("recorded/search_3.txt"), 0);
}

/// A Notify saw the membership's capability; it was deleted, the record taken away, and only then
/// did it look for that.
#[test]
fn a_record_is_looked_for_behind_the_capability() {
    fits(include_str!("recorded/record_gone.txt"), 2);
}

/// Two states were taken for one: in each another call was on its way, at a place whose number made
/// up for the difference.
#[test]
fn states_that_are_nearly_alike_are_told_apart() {
    fits(include_str!("recorded/states_alike.txt"), 0);
}

/// A history of a kernel whose Notify read the slot twice, and answered `WrongType` for a
/// Notification.
#[test]
fn a_bug_is_seen() {
    let (verdict, _) = verdict(include_str!("recorded/notify_read_twice.txt"), 2);
    assert!(matches!(verdict, Verdict::Diverges { .. }), "{verdict:?}");
}

/// A history of speakers: a call that no speaker received, and that was cancelled, left later than
/// its stamp; a late call was kept for long; and a receive had its message before bits were raised
/// for it. One SaveReply is left out, which was refused by an earlier rule of Replies.
#[test]
fn what_was_hard_of_speakers_is_found() {
    for text in [
        include_str!("recorded/messages_1.txt"),
        include_str!("recorded/messages_2.txt"),
        include_str!("recorded/messages_3.txt"),
        include_str!("recorded/messages_4.txt"),
    ] {
        let (verdict, steps) = of_speakers(text);
        assert_eq!(verdict, Verdict::Fits, "after {steps} steps");
        assert!(steps < 400, "{steps} steps");
    }
}

/// A call of a worse task was cancelled soon after it had left. A better task called the same
/// server later, and was received first.
#[test]
fn a_better_call_overtakes_a_worse_one() {
    let overtaken = include_str!("recorded/overtaken.txt");
    let (verdict, steps) = of_speakers(overtaken);
    assert_eq!(verdict, Verdict::Fits, "after {steps} steps");
    assert_ne!(of_speakers(&overtaken.replace("rank 50", "rank 51")).0, Verdict::Fits);
}

/// A history of a kernel in which a cancel replaced the error of a wait whose deadline had passed,
/// while the call was on its way back.
#[test]
fn a_wait_ends_once() {
    let cancelled = include_str!("recorded/cancelled_late.txt");
    assert_ne!(of_speakers(cancelled).0, Verdict::Fits);
    let (verdict, steps) = of_speakers(&cancelled.replace("Cancelled", "Timeout"));
    assert_eq!(verdict, Verdict::Fits, "after {steps} steps");
}
