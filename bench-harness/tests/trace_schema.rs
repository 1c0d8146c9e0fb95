//! The output of `./justw trace` must follow the schema in the tree, and the schema must refuse
//! files that the viewers would not show.

use std::collections::HashMap;

use abi::TaskId;
use bench_harness::events::SCHEMA;
use bench_harness::events::check::Violation;
use bench_harness::events::chrome;
use bench_harness::events::rings::Trace;
use bench_harness::events::story::Story;
use jsonschema::Validator;
use serde_json::{Value, json};
use test_abi::trace::{Event, TaskState, Why};

/// The rings of a real run: two CPUs, `./justw trace bench --samples 3 call_reply_cross_cpu`, cut
/// to what the log port had of events.
const RUN: &[u8] = include_bytes!("data/trace.bin");

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

fn picture() -> Value {
    picture_of(&Trace::read(RUN).expect("the run left events"))
}

fn picture_of(trace: &Trace) -> Value {
    let broken = [Violation { rule: "queue", time: trace.stopped, cpu: 1, what: "what is shown".to_owned() }];
    serde_json::from_str(&chrome::render(trace, &Story::of(trace), &broken)).expect("JSON")
}

#[test]
fn a_real_trace_validates() {
    let picture = picture();
    let errors: Vec<String> =
        validator().iter_errors(&picture).take(5).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let events = picture["traceEvents"].as_array().expect("events");
    let phases: HashMap<&str, usize> = events.iter().fold(HashMap::new(), |mut all, event| {
        *all.entry(event["ph"].as_str().expect("a phase")).or_default() += 1;
        all
    });
    assert!(["X", "M", "C", "i", "s", "f"].iter().all(|ph| phases.contains_key(ph)), "{phases:?}");
    assert_eq!(phases["s"], phases["f"], "every arrow has two ends");
}

#[test]
fn a_real_trace_breaks_no_rule() {
    let found = bench_harness::events::check::check(&Trace::read(RUN).expect("events"));
    assert_eq!(found.violations, []);
    assert!(found.events > 100, "{}", found.events);
}

/// Perfetto counts in nanoseconds, and drops slices that overlap.
#[test]
fn slices_of_a_track_do_not_overlap() {
    let task = TaskId::from_raw(2);
    let (why, state) = (Why::Blocked, TaskState::Recv);
    let short = (0..1000).step_by(2).flat_map(|n| {
        let runs = Event::Run { task, context: 1, priority: 1 };
        [(n * n, runs), ((n + 2) * (n + 2), Event::Stop { task, why, state })]
    });
    let short: Vec<(u64, Event)> = short.collect();
    for tsc_hz in [999_999_907, 2_596_121_963, 3_700_000_001] {
        let run = Trace { tsc_hz, ..Trace::read(RUN).expect("the run left events") };
        for trace in [run, Trace::of(tsc_hz, &[&short])] {
            do_not_overlap(&picture_of(&trace));
        }
    }
}

fn do_not_overlap(picture: &Value) {
    let slices = picture["traceEvents"].as_array().expect("events").iter().filter(|event| event["ph"] == "X");
    let mut tracks: HashMap<u64, Vec<(f64, f64)>> = HashMap::new();
    for slice in slices {
        let nanos = |key: &str| (slice[key].as_f64().expect("a number") * 1e3).round();
        let track = slice["tid"].as_u64().expect("a track");
        tracks.entry(track).or_default().push((nanos("ts"), nanos("ts") + nanos("dur")));
    }
    assert!(!tracks.is_empty());
    for (track, mut slices) in tracks {
        slices.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
        let clash = slices.windows(2).find(|pair| pair[0].1 > pair[1].0);
        assert!(clash.is_none(), "track {track}: {clash:?}");
    }
}

#[test]
fn the_schema_refuses_what_viewers_do_not_show() {
    let validator = validator();
    let event = |change: Value| {
        let mut event =
            json!({ "name": "t1", "cat": "task", "ph": "X", "ts": 1.5, "dur": 2.0, "pid": 1, "tid": 1 });
        for (key, value) in change.as_object().expect("members") {
            match value {
                Value::Null => event.as_object_mut().expect("an object").remove(key),
                value => event.as_object_mut().expect("an object").insert(key.clone(), value.clone()),
            };
        }
        validator.is_valid(&json!({ "displayTimeUnit": "ns", "traceEvents": [event] }))
    };
    assert!(event(json!({})));
    for wrong in [
        json!({ "ph": "Q" }),
        json!({ "dur": null }),
        json!({ "dur": -1.0 }),
        json!({ "ts": "1" }),
        json!({ "tid": null }),
        json!({ "tid": 0 }),
        json!({ "colour": "red" }),
        json!({ "ph": "s" }),
        json!({ "ph": "s", "dur": null }),
        json!({ "ph": "i", "dur": null }),
        json!({ "ph": "C", "dur": null, "args": { "n": "one" } }),
        json!({ "ph": "M", "dur": null, "name": "nonsense", "args": { "name": "x" } }),
    ] {
        assert!(!event(wrong.clone()), "{wrong}");
    }
    assert!(event(json!({ "ph": "s", "dur": null, "id": 1 })));
    assert!(event(json!({ "ph": "C", "dur": null, "args": { "n": 1 } })));
    assert!(!validator.is_valid(&json!({ "displayTimeUnit": "ns", "traceEvents": [] })), "an empty trace");
}
