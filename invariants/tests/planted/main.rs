//! Each rule must report a violation that is planted in a valid snapshot, and report nothing in the
//! valid snapshot.
//!
//! The valid snapshots are in `worlds/`. They show storms on the simulated machine, at moments with
//! many different objects and states; a test of `kern-core` writes them
//! (`survey::snapshots_for_rules`).

mod faults;
mod plants;

use std::fs;
use std::path::Path;

use invariants::{Checker, LISTS, RULES, Snapshot, Violation};

/// A violation of a rule, planted in a snapshot; `None` where the snapshot has no place for it.
pub type Plant = fn(&mut Snapshot) -> Option<()>;

/// All snapshots, with their names.
pub fn worlds() -> Vec<(String, Snapshot)> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worlds");
    let files = fs::read_dir(kept).expect("the snapshots").map(|file| file.expect("a file").path());
    let mut worlds: Vec<(String, Snapshot)> = files
        .map(|path| {
            let mut snapshot = Snapshot::default();
            let text = fs::read_to_string(&path).expect("a text");
            snapshot.read(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_name().expect("a name").to_string_lossy().into_owned(), snapshot)
        })
        .collect();
    worlds.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(worlds.len() > 5, "there are snapshots");
    worlds
}

/// What is wrong with a snapshot.
pub fn check(snapshot: &Snapshot) -> Vec<Violation> {
    Checker::default().check(snapshot).to_vec()
}

/// Plants something in the first world that has a place for it: what is wrong there then.
pub fn planted(worlds: &[(String, Snapshot)], plant: Plant) -> Option<Vec<Violation>> {
    let found = worlds.iter().find_map(|(_, world)| {
        let mut world = world.clone();
        plant(&mut world).map(|()| world)
    });
    found.map(|world| check(&world))
}

#[test]
fn valid_snapshots_violate_nothing() {
    for (name, world) in worlds() {
        assert_eq!(check(&world), [], "{name}");
    }
}

#[test]
fn every_rule_fails_on_a_planted_violation() {
    let worlds = worlds();
    let mut missed = Vec::new();
    for (rule, what, plant) in plants::all() {
        let found = planted(&worlds, *plant);
        if !found.iter().flatten().any(|violation| violation.rule == *rule) {
            missed.push((rule, what, found));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn every_rule_has_a_planted_violation() {
    let planted = |rule: &&str| plants::all().any(|(of, ..)| of == rule) || *rule == "references";
    let all = RULES.iter().map(|rule| rule.name).chain([LISTS]);
    let missing: Vec<&str> = all.filter(|rule| !planted(rule)).collect();
    assert!(missing.is_empty(), "no violation is planted of {missing:?}");
}

/// Each reference is made to name nothing, and an object of another type.
#[test]
fn every_reference_is_judged() {
    let worlds = worlds();
    let mut checker = Checker::default();
    let count = checker.references(&worlds[0].1).len();
    for number in 0..count {
        let speaking = worlds.iter().find_map(|(_, world)| {
            let (reference, record) = checker.references(world)[number];
            Some((reference, record?, world))
        });
        let name = checker.references(&worlds[0].1)[number].0.name;
        let (reference, record, world) =
            speaking.unwrap_or_else(|| panic!("{name} says nothing in any world"));
        let nothing = 0x7777_0000;
        let other = if name.ends_with("pool") || name == "cpus.watch" {
            world.cnodes[0].at
        } else {
            world.pools.first().map_or(nothing, |pool| pool.at)
        };
        for to in [nothing, other] {
            let mut world = world.clone();
            reference.plant(&mut world, record, to);
            let found = check(&world);
            let judged =
                |violation: &Violation| violation.rule == "references" && violation.text.starts_with(name);
            assert!(found.iter().any(judged), "{name} ({}) = {to:#x}: {found:#?}", reference.doc);
        }
    }
}

/// A CPU on which an entry is under way, and locks that are held, keep rules from saying more.
#[test]
fn what_is_half_done_violates_nothing() {
    for (name, world) in worlds() {
        for busy in 0..world.cpus.len() {
            let mut world = world.clone();
            world.cpus[busy].busy = true;
            assert_eq!(check(&world), [], "{name}, cpu{busy} is busy");
        }
        let mut world = world.clone();
        world.vspaces.iter_mut().for_each(|space| space.locked = true);
        world
            .kernels
            .iter_mut()
            .for_each(|kernel| (kernel.spaces_locked, kernel.zombies_locked) = (true, true));
        world.processes.iter_mut().for_each(|process| process.locked = true);
        world.pools.iter_mut().for_each(|pool| pool.locked = true);
        world.infos.iter_mut().for_each(|info| info.locked = true);
        let roots = (0..64).map(|id| snapshot::Root { id, locked: true, processes: 0 });
        world.roots = roots.collect();
        assert_eq!(check(&world), [], "{name}, all locks are held");
    }
}

/// The book names each rule, and says of each reference what the table says.
#[test]
fn the_book_has_all_rules() {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/invariants.md");
    let book = fs::read_to_string(book).expect("the book");
    let rules = RULES.iter().map(|rule| rule.name).chain([LISTS]).map(|name| format!("`{name}`"));
    let references = Checker::default().references(&Snapshot::default());
    let rows = references.iter().map(|(row, _)| format!("| `{}` |{} |", row.name, row.doc));
    let missing: Vec<String> = rules.chain(rows).filter(|text| !book.contains(text.as_str())).collect();
    assert!(missing.is_empty(), "the book lacks {missing:#?}");
}
