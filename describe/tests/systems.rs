//! The systems of the tree, and the examples of the book, are right.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use abi::{MachineRights, Rights, machine_rights as machine};
use describe::System;
use describe::system::{Cpus, Untyped};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads all systems of the tree, by their names.
fn systems() -> BTreeMap<String, System> {
    let files = fs::read_dir(root().join("systems")).expect("the directory of systems");
    let load = |file: std::io::Result<fs::DirEntry>| {
        let path = file.expect("a directory entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let bytes = fs::read(&path).expect("a description");
        let system = describe::load(&name, &bytes, None).unwrap_or_else(|report| panic!("{report}"));
        (system.name.clone(), system)
    };
    files.map(load).collect()
}

/// The systems of one program that ends the machine: what each starts, its rights to the machine
/// besides those of every one, and whether it starts other programs.
const PROGRAMS: [(&str, &str, MachineRights, bool); 13] = [
    ("bench", "bench", machine::DMA.union(machine::SECURITY), false),
    ("calibrate", "bench", machine::DMA.union(machine::SECURITY), false),
    ("samples", "samples", machine::DMA.union(machine::SECURITY), false),
    ("tables", "tables", machine::DMA.union(machine::SECURITY), false),
    ("test", "kerntest", TESTS, false),
    ("diff", "kerntest", TESTS, false),
    ("stress", "stress", machine::DUMP, false),
    ("fuzz", "fuzz", machine::DUMP.union(machine::SECURITY), false),
    ("torture", "torture", machine::DUMP.union(machine::DMA), false),
    ("paging", "paging", MachineRights::NONE, true),
    ("policies", "policies", machine::DUMP.union(machine::SECURITY), true),
    ("scale", "scale", MachineRights::NONE, false),
    ("hostile", "hostile", MachineRights::NONE, false),
];
const TESTS: MachineRights =
    machine::DUMP.union(machine::DEVICE).union(machine::DMA).union(machine::SECURITY);
/// Rights that every one of these programs has.
const COUNTS: MachineRights = MachineRights::REPORT.union(machine::INFO).with(Rights::GRANT);

#[test]
fn programs_have_these_rights_and_devices() {
    let systems = systems();
    for (name, program, rights, starts_others) in PROGRAMS {
        let system = systems.get(name).unwrap_or_else(|| panic!("systems/{name}.toml is missing"));
        let [process] = system.processes.as_slice() else { panic!("{name}: one process") };
        assert_eq!((process.program.as_str(), system.verdict), (program, Some(0)), "{name}");
        assert_eq!(process.machine, COUNTS.union(rights).rights().0, "{name}");
        assert_eq!(process.archive, starts_others, "{name}");
        assert_eq!((process.priority, process.ceiling, process.tasks), (200, 249, 2048), "{name}");
        assert_eq!((process.memory, &process.cpus), (Untyped::Rest, &Cpus::All), "{name}");
        assert_eq!(
            system.devices.len(),
            usize::from(["bench", "samples", "paging", "hostile"].contains(&name)),
            "{name}: devices"
        );
    }
}

#[test]
fn every_system_has_the_name_of_what_it_starts() {
    for name in abi::options::PROGRAMS.iter().filter(|name| !["kerntest", "oom"].contains(name)) {
        assert!(systems().contains_key(*name), "systems/{name}.toml is missing");
    }
}

/// Returns the text of the book's page.
fn page() -> String {
    fs::read_to_string(root().join("docs/src/systems.md")).expect("the page of systems")
}

#[test]
fn the_books_examples_are_right() {
    let page = page();
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        describe::load("example.toml", example.as_bytes(), None).unwrap_or_else(|report| panic!("{report}"));
    }
}

#[test]
fn the_book_has_every_key() {
    let page = page();
    for (section, keys) in describe::keys::SECTIONS {
        let (_, text) =
            page.split_once(&format!(": `[{section}]`\n")).unwrap_or_else(|| panic!("no section {section}"));
        let text = text.split("\n### ").next().unwrap_or_default();
        for key in *keys {
            assert!(text.contains(&format!("\n| `{}` |", key.name)), "section {section} lacks {}", key.name);
        }
    }
}
