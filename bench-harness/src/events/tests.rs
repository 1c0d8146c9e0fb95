//! Tests with made traces. Each rule of the check holds for a good trace and is broken by a trace
//! that differs in one place. Story, picture and answers are as expected.

use abi::TaskId;
use test_abi::trace::{Event, How, IdleHow, Irq, MailKind, Path, RingPart, TRACE_CHANNEL, TaskState, Why};

use super::check::{Findings, Violation, check};
use super::chrome;
use super::query::{Query, answer};
use super::rings::Trace;
use super::story::Story;
use crate::records;

const HZ: u64 = 1_000;

fn task(number: u32) -> TaskId {
    TaskId::from_raw(u64::from(number))
}

fn run(n: u32, context: u64, priority: u8) -> Event {
    Event::Run { task: task(n), context, priority }
}

fn stop(n: u32, why: Why, state: TaskState) -> Event {
    Event::Stop { task: task(n), why, state }
}

fn enqueued(context: u64, priority: u8) -> Event {
    Event::Enqueued { context, priority, before: false }
}

fn call(caller: u32, callee: u32, how: How) -> Event {
    Event::Call { caller: task(caller), callee: task(callee), path: Path::Slow, how }
}

fn received(caller: u32, callee: u32) -> Event {
    Event::Received { caller: task(caller), callee: task(callee) }
}

fn reply(caller: u32, callee: u32, how: How) -> Event {
    Event::Reply { caller: task(caller), callee: task(callee), path: Path::Slow, how, error: 0 }
}

fn pushed(node: u64, to: u32, empty: bool) -> Event {
    Event::MailPushed { node, to, empty, polls: false }
}

const HALT: Event = Event::Idle { how: IdleHow::Halt };
const TIMER: Event = Event::Interrupt { irq: Irq::Timer };

/// Returns a call from cpu 0 to a task of cpu 1, which idles, and the reply; then a preemption on
/// cpu 0.
fn good() -> [Vec<(u64, Event)>; 2] {
    let first = vec![
        (10, run(1, 0xa, 5)),
        (20, call(1, 2, How::Sent)),
        (21, pushed(0x100, 1, true)),
        (22, Event::IpiSent { to: 1 }),
        (23, stop(1, Why::Blocked, TaskState::AwaitRemote)),
        (24, HALT),
        (60, Event::Woken {}),
        (61, Event::Interrupt { irq: Irq::Mail }),
        (62, Event::MailTaken { node: 0x100 }),
        (63, Event::MailOpened { about: task(1).raw(), kind: MailKind::Message }),
        (64, Event::CallOver { caller: task(1), error: 0 }),
        (65, run(1, 0xa, 5)),
        (80, TIMER),
        (81, enqueued(0xb, 9)),
        (82, Event::Enqueued { context: 0xa, priority: 5, before: true }),
        (83, Event::Dequeued { context: 0xb }),
        (84, stop(1, Why::Preempted, TaskState::Ready)),
        (85, run(3, 0xb, 9)),
        (95, Event::User { first: 1, second: 2 }),
        (98, stop(3, Why::Blocked, TaskState::WaitBits)),
        (99, Event::Dequeued { context: 0xa }),
        (100, run(1, 0xa, 5)),
    ];
    let second = vec![
        (5, HALT),
        (30, Event::Woken {}),
        (31, Event::Interrupt { irq: Irq::Mail }),
        (32, Event::MailTaken { node: 0x100 }),
        (33, received(1, 2)),
        (34, run(2, 0xa, 5)),
        (50, reply(1, 2, How::Sent)),
        (51, pushed(0x100, 0, true)),
        (52, Event::IpiSent { to: 0 }),
        (53, stop(2, Why::Blocked, TaskState::Recv)),
        (54, HALT),
    ];
    [first, second]
}

fn trace(rings: &[Vec<(u64, Event)>]) -> Trace {
    let rings: Vec<&[(u64, Event)]> = rings.iter().map(Vec::as_slice).collect();
    Trace::of(HZ, &rings)
}

fn found(rings: &[Vec<(u64, Event)>]) -> Findings {
    check(&trace(rings))
}

/// Returns the rules that a trace breaks after `change`.
fn broken(change: impl FnOnce(&mut [Vec<(u64, Event)>; 2])) -> Vec<&'static str> {
    let mut rings = good();
    change(&mut rings);
    rings.iter_mut().for_each(|ring| ring.sort_by_key(|(time, _)| *time));
    let mut rules: Vec<&str> = found(&rings).violations.iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

fn without(ring: &mut Vec<(u64, Event)>, time: u64) {
    let before = ring.len();
    ring.retain(|(at, _)| *at != time);
    assert_eq!(ring.len() + 1, before, "one event at {time}");
}

#[test]
fn a_good_trace_breaks_no_rule() {
    let found = found(&good());
    assert_eq!(found.violations, []);
    assert_eq!(found.events, 33);
    assert_eq!(found.waiting, Vec::<String>::new());
}

#[test]
fn idle_with_a_queued_context() {
    assert_eq!(broken(|rings| rings[1].push((35, enqueued(0xc, 1)))), ["idle-with-work"]);
}

#[test]
fn outranked_when_the_next_entry_begins() {
    // The context of priority 9 stays in the queue, and the next timer tick finds it there.
    let rules = broken(|rings| {
        rings[0].retain(|(time, _)| *time < 82);
        rings[0].push((120, TIMER));
    });
    assert_eq!(rules, ["not-the-best"]);
}

#[test]
fn outranked_no_more_with_another_priority() {
    let rules = broken(|rings| {
        rings[0].retain(|(time, _)| *time < 82);
        rings[0].extend([(90, run(1, 0xa, 9)), (120, TIMER)]);
    });
    assert_eq!(rules, [""; 0]);
    let [mut first, second] = good();
    first.retain(|(time, _)| *time < 81);
    first.extend([(82, run(1, 0xa, 9)), (90, stop(1, Why::Blocked, TaskState::Recv)), (91, HALT)]);
    let story = Story::of(&trace(&[first, second]));
    let last = story.spans.last().expect("spans");
    assert_eq!((last.from, last.to, last.priority), (65, 90, 9), "one slice");
}

#[test]
fn queued_twice_and_taken_from_nowhere() {
    assert_eq!(broken(|rings| rings[0].push((81, enqueued(0xb, 9)))), ["queue"]);
    assert_eq!(broken(|rings| without(&mut rings[0], 82)), ["queue"]);
}

/// Contexts 0xe and 0xf of one priority come to the queue, and then `who` runs.
fn turn_of(who: u64, why: Why) -> Vec<&'static str> {
    broken(|rings| {
        rings[0].extend([
            (110, enqueued(0xe, 5)),
            (111, enqueued(0xf, 5)),
            (112, Event::Dequeued { context: who }),
            (113, stop(1, why, TaskState::Ready)),
            (114, run(4, who, 5)),
        ]);
    })
}

#[test]
fn equals_take_turns() {
    assert!(turn_of(0xe, Why::SliceOver).is_empty());
    assert_eq!(turn_of(0xf, Why::SliceOver), ["turns"]);
    assert!(turn_of(0xf, Why::Yielded).is_empty(), "a task may yield to any");
}

#[test]
fn shares_are_what_each_got_while_all_ran() {
    let mut ring = Vec::new();
    // 0xa runs alone at first; then each turn of 0xb is a tenth longer.
    let mut time = 1_000;
    ring.push((0, run(1, 0xa, 5)));
    for _ in 0..600 {
        for (n, context, ticks) in [(1, 0xa, 100), (2, 0xb, 110)] {
            ring.push((time, stop(3 - n, Why::SliceOver, TaskState::Ready)));
            ring.push((time, run(n, context, 5)));
            time += ticks;
        }
    }
    ring.push((time, stop(2, Why::Blocked, TaskState::Recv)));
    let [shares] = &super::turns::shares(&trace(&[ring]), 5)[..] else { panic!("one CPU") };
    assert_eq!(shares.ticks.values().copied().collect::<Vec<u64>>(), [59_900, 65_890]);
    assert_eq!((shares.unequal(20).len(), shares.unequal(60).len()), (2, 0));
    assert!(super::turns::shares(&trace(&good()), 5).is_empty(), "nobody took turns for long");
}

#[test]
fn one_task_on_two_cpus_and_one_that_is_dead() {
    let second = |event| move |rings: &mut [Vec<(u64, Event)>; 2]| rings[1].push((56, event));
    assert_eq!(broken(|rings| rings[1].push((90, run(3, 0xd, 1)))), ["two-places"]);
    assert_eq!(broken(second(Event::TaskDead { task: task(3) })), ["two-places"]);
}

#[test]
fn stops_where_another_runs_and_idles_without_a_stop() {
    assert_eq!(broken(|rings| rings[1].push((40, stop(9, Why::Blocked, TaskState::Recv))))[..1], ["stop"]);
    assert_eq!(broken(|rings| without(&mut rings[1], 53)), ["stop"]);
}

#[test]
fn a_push_without_its_interrupt() {
    assert_eq!(broken(|rings| without(&mut rings[0], 22)), ["no-interrupt"]);
    // To another CPU is none.
    let rules = broken(|rings| {
        without(&mut rings[0], 22);
        rings[0].push((22, Event::IpiSent { to: 0 }));
    });
    assert_eq!(rules, ["no-interrupt"]);
    // A CPU that polls needs none, nor does one whose mailbox is not empty.
    for event in [
        Event::MailPushed { node: 0x100, to: 1, empty: true, polls: true },
        Event::MailPushed { node: 0x100, to: 1, empty: false, polls: false },
    ] {
        let rules = broken(|rings| {
            without(&mut rings[0], 22);
            without(&mut rings[0], 21);
            rings[0].push((21, event));
        });
        assert_eq!(rules, [""; 0]);
    }
}

#[test]
fn a_cpu_that_sleeps_on_its_mail() {
    // To the end of the trace.
    let rules = broken(|rings| {
        rings[1].truncate(1);
        rings[0].truncate(6);
        rings[0].push((24 + HZ, TIMER));
    });
    assert_eq!(rules, ["sleeps-on-mail"]);
    // Until something else wakes it.
    let rules = broken(|rings| {
        rings[1].iter_mut().skip(1).for_each(|(time, _)| *time += HZ);
        rings[0].iter_mut().skip(6).for_each(|(time, _)| *time += HZ);
    });
    assert_eq!(rules, ["sleeps-on-mail"]);
}

#[test]
fn mail_taken_twice_never_pushed_or_out_of_order() {
    assert_eq!(broken(|rings| rings[1].push((36, Event::MailTaken { node: 0x100 }))), ["mail-order"]);
    assert_eq!(broken(|rings| rings[1].push((36, Event::MailTaken { node: 0x999 }))), ["mail-order"]);
    assert_eq!(broken(|rings| rings[0].push((23, pushed(0x100, 1, false)))), ["mail-order"]);
    let two = |order: [u64; 2]| {
        broken(move |rings| {
            rings[0].extend([(66, pushed(0x200, 1, false)), (67, pushed(0x300, 1, false))]);
            rings[1].extend(order.map(|node| (70, Event::MailTaken { node })));
        })
    };
    assert_eq!(two([0x200, 0x300]), [""; 0]);
    assert_eq!(two([0x300, 0x200]), ["mail-order"]);
    let aside = |set: &'static [u64], taken: [u64; 2]| {
        broken(move |rings| {
            rings[0].extend([(66, pushed(0x200, 1, false)), (67, pushed(0x300, 1, false))]);
            rings[1].extend(set.iter().map(|node| (69, Event::MailAside { node: *node })));
            rings[1].extend(taken.map(|node| (70, Event::MailTaken { node })));
        })
    };
    assert_eq!(aside(&[0x200], [0x300, 0x200]), [""; 0]);
    assert_eq!(aside(&[0x200, 0x300], [0x300, 0x200]), ["mail-order"]);
    assert_eq!(aside(&[0x300], [0x200, 0x300]), ["mail-order"]);
}

/// Checks raises of a Notification of cpu 1 by two other CPUs. Its message is node 0x500.
fn raises(first: &[(u64, Event)], second: &[(u64, Event)], home: &[(u64, Event)]) -> Vec<Violation> {
    check(&trace(&[first.to_vec(), home.to_vec(), second.to_vec()])).violations
}

fn raised(time: u64) -> (u64, Event) {
    (time, Event::Notified { object: 0x400, bits: 1, remote: true })
}

fn sent(time: u64) -> (u64, Event) {
    (time, Event::MailPushed { node: 0x500, to: 1, empty: true, polls: true })
}

fn taken(time: u64) -> [(u64, Event); 3] {
    let opened = Event::MailOpened { about: 0x400, kind: MailKind::Bits };
    [(time, Event::MailTaken { node: 0x500 }), (time + 1, opened), (time + 3, TIMER)]
}

#[test]
fn bits_that_come_with_a_message_or_find_one() {
    let first = [raised(10), sent(12), (13, TIMER)];
    // Before the first has pushed, while the message waits, and while it is opened.
    for time in [11, 20, 32] {
        assert_eq!(raises(&first, &[raised(time), (time + 1, TIMER)], &taken(30)), []);
    }
    // With a message of its own, pushed before the home writes on: the next raise finds that one.
    let [taken_30, opened, _] = taken(30);
    let home = [taken_30, opened, (60, TIMER)];
    let own = [raised(40), sent(41), (42, TIMER), raised(70), (71, TIMER)];
    assert_eq!(raises(&first, &own, &home), []);
    // After it, with a message of its own; at home, where there is none; no bits at all.
    assert_eq!(raises(&first, &[raised(40), sent(41), (42, TIMER)], &taken(30)), []);
    let [local, none] = [(1, false), (0, true)]
        .map(|(bits, remote)| [(40, Event::Notified { object: 0x400, bits, remote }), (41, TIMER)]);
    assert_eq!(raises(&first, &local, &taken(30)), []);
    assert_eq!(raises(&first, &none, &taken(30)), []);
}

#[test]
fn bits_without_a_message() {
    let first = [raised(10), sent(12), (13, TIMER)];
    let found = raises(&first, &[raised(40), (41, TIMER), raised(50), (51, TIMER)], &taken(30));
    assert_eq!(found.len(), 1, "said once");
    assert_eq!((found[0].rule, found[0].cpu), ("lost-bits", 2));
    assert!(found[0].what.ends_with("the last was taken by cpu 1 until 33"), "{}", found[0].what);
    // The raise that lost them is named, too, whichever of the two CPUs was through first.
    for over in [32, 39] {
        let first = [raised(10), sent(12), raised(20), (over, TIMER)];
        let found = raises(&first, &[raised(40), (41, TIMER)], &taken(30));
        assert_eq!(found.len(), 1);
        assert!(found[0].what.ends_with("until 33, while cpu 0 was raising since 20"), "{}", found[0].what);
    }
    assert_eq!(raises(&[raised(10), (11, TIMER)], &[], &[]).len(), 1, "there never was a message");
}

#[test]
fn messages_about_bits_may_be_older_than_the_trace() {
    let mut trace = trace(&[vec![raised(10), (11, TIMER)], vec![(1, TIMER)]]);
    trace.rings.get_mut(&1).expect("cpu 1").lost = 4;
    assert_eq!(check(&trace).violations, []);
}

#[test]
fn messages_of_no_call() {
    assert_eq!(broken(|rings| without(&mut rings[0], 20))[..1], ["call"]);
    assert_eq!(broken(|rings| without(&mut rings[1], 33)), ["call"], "answered and never received");
    assert_eq!(broken(|rings| rings[1].push((55, reply(1, 2, How::Sent)))), ["call"], "answered twice");
    assert_eq!(broken(|rings| rings[0].push((30, call(1, 4, How::Queued)))), ["call"], "two calls at a time");
    assert_eq!(broken(|rings| rings[0].push((70, Event::CallOver { caller: task(1), error: 1 }))), ["call"]);
}

#[test]
fn a_call_that_outlives_its_callee() {
    let dead = |after: u64| {
        broken(move |rings| {
            rings[1].truncate(6);
            rings[1].push((40, stop(2, Why::Blocked, TaskState::Dead)));
            rings[1].push((41, Event::TaskDead { task: task(2) }));
            rings[1].push((42 + after, HALT));
            rings[0].truncate(6);
        })
    };
    assert_eq!(dead(HZ), ["caller-of-the-dead"]);
    assert_eq!(dead(0), [""; 0], "it may still be told");
}

#[test]
fn what_is_under_way_at_the_end_is_listed() {
    let [mut first, _] = good();
    first.truncate(4);
    let found = found(&[first, vec![(5, run(9, 0xf, 1)), (6, enqueued(0xe, 1))]]);
    assert_eq!(found.violations, []);
    assert_eq!(
        found.waiting,
        [
            "mail 0x100 of cpu 0 in cpu 1's mailbox since 21",
            "context 0xe of priority 1 in cpu 1's run queue",
            "t2 has not received the call of t1 init, made at 20",
        ]
    );
}

#[test]
fn what_a_ring_lost_is_not_held_against_it() {
    let [first, mut second] = good();
    second.drain(..4);
    let mut trace = trace(&[first, second]);
    trace.rings.get_mut(&1).expect("cpu 1").lost = 4;
    assert_eq!(check(&trace).violations, []);
    assert_eq!(trace.in_order()[0].time, 33, "events of cpu 0 alone say nothing");
    assert!(trace.describe()[1].contains("4 before them were written over"), "{:?}", trace.describe());
}

// --- records -------------------------------------------------------------------------------------

/// Makes a record of a CPU's ring as the kernel writes it. `first` is the number of its first
/// event.
fn record(cpu: u32, first: u64, events: &[(u64, Event)]) -> Vec<u8> {
    let part = RingPart { cpu, events: events.len() as u32, first, tsc_hz: HZ, stopped: 200 };
    let mut bytes = part.encode().to_vec();
    for (time, event) in events {
        let [kind, one, two] = event.encode();
        [*time, kind, one, two].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    }
    records::encode(TRACE_CHANNEL, &bytes)
}

#[test]
fn records_become_rings() {
    let [events, _] = good();
    let mut log = records::encode(records::REPORT, b"done passed=1 failed=0");
    log.extend(record(0, 7, &events[..3]));
    log.extend(record(0, 10, &events[3..4]));
    log.extend(record(0, 11, &[]));
    let trace = Trace::read(&log).expect("a trace");
    assert_eq!(trace.rings[&0].events, events[..4]);
    assert_eq!((trace.rings[&0].lost, trace.rings[&0].unknown, trace.stopped), (7, 0, 200));
    assert!(!trace.describe()[0].contains("missing"));

    // A gap, and no end.
    let mut log = record(0, 0, &events[..3]);
    log.extend(record(0, 5, &events[5..6]));
    let trace = Trace::read(&log).expect("a trace");
    assert_eq!(trace.rings[&0].unknown, 2);
    assert!(trace.describe()[0].contains("the end is missing"));
    assert!(!trace.is_complete());
}

#[test]
fn events_of_another_kernel_are_counted() {
    let part = RingPart { cpu: 0, events: 1, first: 0, tsc_hz: HZ, stopped: 9 };
    let mut bytes = part.encode().to_vec();
    [1u64, 0xee, 0, 0].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    let trace = Trace::read(&records::encode(TRACE_CHANNEL, &bytes)).expect("a trace");
    assert_eq!(trace.rings[&0].unknown, 1);
}

#[test]
fn a_run_without_events_says_what_to_do() {
    let error = Trace::read(&records::encode(records::REPORT, b"x")).expect_err("no events").to_string();
    assert!(error.contains("`./justw trace`"), "{error}");
}

// --- story, answers, picture ---------------------------------------------------------------------

#[test]
fn the_story_is_that_of_the_events() {
    let story = Story::of(&trace(&good()));
    let spans: Vec<(u32, u64, u64)> = story.spans.iter().map(|span| (span.cpu, span.from, span.to)).collect();
    assert_eq!(spans, [(0, 10, 23), (1, 34, 53), (0, 65, 84), (0, 85, 98), (0, 100, 101)]);
    assert_eq!(story.spans[2].stopped, Some((Why::Preempted, TaskState::Ready)));
    let [only] = &story.calls[..] else { panic!("{:?}", story.calls) };
    assert_eq!(
        (only.begun, only.received, only.replied, only.over),
        ((20, 0), Some((33, 1)), Some((50, 1)), Some((64, 0)))
    );
    let waits: Vec<(u64, u64, Option<TaskId>)> = story.waits.iter().map(|w| (w.from, w.to, w.task)).collect();
    assert_eq!(waits, [(81, 83, Some(task(3))), (82, 99, Some(task(1)))]);
    assert_eq!(story.mails[0].woken, Some(30));
    assert_eq!(story.rests.len(), 3);
}

#[test]
fn questions_are_answered() {
    let trace = trace(&good());
    let story = Story::of(&trace);
    let ask = |query| answer(&trace, &story, query).join("\n");
    let wait = ask(Query::LongestWait);
    let longest = wait.lines().nth(1).expect("a line");
    assert!(longest.contains("17 ticks") && longest.contains("t1 init on cpu 0"), "{wait}");
    assert!(longest.contains("meanwhile t3 76 %"), "{wait}");
    let call = ask(Query::LongestCall);
    assert!(call.contains("44 ticks") && call.contains("received 13, answered 17, home 14"), "{call}");
    assert!(ask(Query::LongestRun).lines().nth(1).is_some_and(|line| line.contains("19 ticks")));
    assert!(ask(Query::LongestWake).contains("cpu 1 for mail of cpu 0"));
    assert!(ask(Query::Busy).contains("cpu 0: 47."), "{}", ask(Query::Busy));
    assert!(ask(Query::Calls).contains("t1 init → t2: 1 calls, 44 / 44 / 44 ticks"));
}

#[test]
fn an_empty_answer_says_so() {
    let trace = trace(&[vec![(1, TIMER)]]);
    let lines = answer(&trace, &Story::of(&trace), Query::LongestCall);
    assert!(lines[1].contains("nothing of that kind"), "{lines:?}");
}

/// Returns the items of a picture with a phase and a name.
fn items(picture: &serde_json::Value, ph: &str, name: &str) -> Vec<serde_json::Value> {
    let all = picture["traceEvents"].as_array().expect("events");
    all.iter().filter(|item| item["ph"] == ph && item["name"] == name).cloned().collect()
}

#[test]
fn the_picture_shows_it() {
    let trace = trace(&good());
    let text = chrome::render(&trace, &Story::of(&trace), &[]);
    let picture: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let runs = items(&picture, "X", "t1 init");
    assert_eq!(runs[0]["args"]["stopped"], "awaiting a reply from another CPU");
    assert_eq!(runs[1]["args"]["stopped"], "preempted");
    assert_eq!((runs[0]["ts"].as_f64(), runs[0]["dur"].as_f64()), (Some(5_000.0), Some(13_000.0)));
    // An arrow from the caller's CPU to where the callee begins to run, and back.
    let [begin, end] = [items(&picture, "s", "call t2"), items(&picture, "f", "call t2")];
    assert_eq!((begin[0]["tid"].as_u64(), end[0]["tid"].as_u64()), (Some(1), Some(2)));
    assert_eq!(begin[0]["id"], end[0]["id"]);
    assert_eq!(end[0]["ts"].as_f64(), Some(29_000.0));
    assert_eq!(items(&picture, "f", "reply to t1 init")[0]["tid"], 1);
    assert_eq!(items(&picture, "s", "interrupt").len(), 2);
    assert_eq!(items(&picture, "s", "wake").len(), 2);
    let depth: Vec<i64> =
        items(&picture, "C", "mailbox cpu 1").iter().filter_map(|item| item["args"]["n"].as_i64()).collect();
    assert_eq!(depth, [1, 0]);
    assert_eq!(items(&picture, "i", "user event")[0]["args"]["first"], "0x1");
    assert_eq!(items(&picture, "M", "thread_name").len(), 2);
}
