//! Systems that are larger than process 1 takes are refused.

use std::fmt::Write;

use protocols::system::{DEVICES_MAX, GROUPS_MAX, PROCESSES_MAX};

/// Returns a description of so many processes, each with a group and a device of its own, up to
/// their limits.
fn description(processes: u16, groups: u16, devices: u16) -> String {
    let mut text = String::from("about = \"A large system.\"\n[processes.server]\npriority = 200\n");
    for number in 1..processes {
        writeln!(text, "[processes.client-{number}]\npriority = 100").unwrap();
        if number <= devices {
            writeln!(text, "devices = [\"device-{number}\"]").unwrap();
        }
        if number <= groups {
            writeln!(text, "uses = {{ server = \"group-{number}\" }}").unwrap();
        }
    }
    for number in 1..=groups {
        writeln!(text, "[groups.group-{number}]\nexposes = [\"server\"]").unwrap();
        writeln!(text, "members.client-{number}.rights = [\"send\"]").unwrap();
    }
    for number in 1..=devices {
        writeln!(text, "[devices.device-{number}]\nports = \"{number:#x}\"").unwrap();
    }
    text
}

fn report(text: &str) -> String {
    describe::load("large.toml", text.as_bytes(), None).expect_err("it is too large").to_string()
}

#[test]
fn systems_at_the_limits_compile() {
    let text = description(PROCESSES_MAX, PROCESSES_MAX - 1, DEVICES_MAX);
    let system =
        describe::load("large.toml", text.as_bytes(), None).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(system.processes.len(), usize::from(PROCESSES_MAX));
    assert!(!describe::compile(&system).is_empty());
}

#[test]
fn systems_over_the_limits_are_refused() {
    let wrong = report(&description(PROCESSES_MAX + 2, 1, 1));
    assert!(wrong.contains("a system has 130 processes, more than 128"), "{wrong}");
    assert!(wrong.contains("help: remove 2 of them"), "{wrong}");
    let wrong = report(&description(PROCESSES_MAX, 1, DEVICES_MAX + 1));
    assert!(wrong.contains("a system has 65 devices, more than 64"), "{wrong}");
    let wrong = report(&description(PROCESSES_MAX + 2, GROUPS_MAX + 1, 1));
    assert!(wrong.contains("a system has 129 groups, more than 128"), "{wrong}");
}
