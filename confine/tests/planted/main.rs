//! Each rule reports a change for which no acting process had the authority, and accepts the change
//! if one had it.
//!
//! A [`Plant`] names all authority that its change takes, piece by piece. With all pieces no rule
//! may report anything. If any one piece is missing, the piece's rule must report the change. So
//! the test fails if a rule checks less than before.

mod capabilities;
mod groups;
mod memory;
mod stage;
mod tasks;

use stage::Stage;

/// A change, and the authority that it takes.
pub struct Plant {
    pub rule: &'static str,
    pub what: &'static str,
    /// What is there in any case.
    pub set: fn(&mut Stage),
    /// The pieces of authority. Each is missing once; a rule that asks for none has the change
    /// forbidden in any case.
    pub needs: &'static [fn(&mut Stage)],
    pub change: fn(&mut Stage),
}

/// A change that nobody may bring about, whatever is held.
pub struct Never {
    pub rule: &'static str,
    pub what: &'static str,
    pub set: fn(&mut Stage),
    pub change: fn(&mut Stage),
}

fn plants() -> impl Iterator<Item = &'static Plant> {
    let of_groups = groups::PLANTS.iter().chain(groups::JOINS);
    capabilities::PLANTS.iter().chain(of_groups).chain(memory::PLANTS).chain(tasks::PLANTS)
}

fn never() -> impl Iterator<Item = &'static Never> {
    capabilities::NEVER.iter().chain(groups::NEVER).chain(memory::NEVER)
}

/// Returns what the oracle says about a plant's change, if some pieces of authority are there.
fn judged(rule: &str, set: fn(&mut Stage), change: fn(&mut Stage), needs: &[fn(&mut Stage)]) -> Vec<String> {
    let mut before = Stage::new();
    set(&mut before);
    needs.iter().for_each(|need| need(&mut before));
    let mut after = before.clone();
    change(&mut after);
    let found = if rule == "bound" { before.bound(&after) } else { before.judge(&after) };
    found.into_iter().map(|excess| format!("{}: {}", excess.rule, excess.what)).collect()
}

fn reports(found: &[String], rule: &str) -> bool {
    found.iter().any(|text| text.starts_with(&format!("{rule}: ")))
}

#[test]
fn what_somebody_had_the_authority_for_is_accepted() {
    for Plant { rule, what, set, needs, change } in plants() {
        let found = judged(rule, *set, *change, needs);
        assert!(found.is_empty(), "{rule}, {what}: {found:#?}");
    }
}

#[test]
fn each_piece_of_authority_is_asked_for() {
    let mut missed = Vec::new();
    for Plant { rule, what, set, needs, change } in plants() {
        for missing in 0..needs.len() {
            let mut some = needs.to_vec();
            some.remove(missing);
            if !reports(&judged(rule, *set, *change, &some), rule) {
                missed.push(format!("{rule}, {what}, without piece {missing}"));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn what_nobody_may_do_is_reported() {
    let quiet = never().filter(|it| !reports(&judged(it.rule, it.set, it.change, &[]), it.rule));
    let missed: Vec<String> = quiet.map(|it| format!("{}, {}", it.rule, it.what)).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn nothing_is_said_of_nothing() {
    let stage = Stage::new();
    assert!(stage.judge(&stage).is_empty() && stage.bound(&stage).is_empty());
}

/// Marks and what a task is told have tests of their own: those of `confine::Ledger`, and one in
/// `groups`.
#[test]
fn every_rule_has_a_plant() {
    const RULES: [&str; 16] = [
        "held", "taken", "table", "member", "consent", "exposure", "called", "bits", "mapped", "pins",
        "label", "task", "process", "time", "reply", "bound",
    ];
    let has = |rule: &str| plants().any(|it| it.rule == rule && !it.needs.is_empty());
    let missing: Vec<&str> = RULES.into_iter().filter(|rule| !has(rule)).collect();
    assert!(missing.is_empty(), "nothing is planted for {missing:?}");
}
