//! A compiled system says what the description says: reads messages back as process 1 does.

use std::fs;
use std::path::Path;

use describe::system::{
    Budget, Cpus, Device, Found, Group, Interrupt, Label, Member, Memory, Pages, Pci, Process, Restart, Rule,
    System, Untyped,
};
use protocols::system::{self as schema, MEMORY_REST, NONE, text};

type Result<T> = protocols::capnp::Result<T>;

/// Reads a compiled system.
fn read_back(bytes: &[u8]) -> Result<System> {
    let message = schema::open(bytes);
    let root = message.get_root::<schema::system::Reader<'_>>()?;
    let label = |of: schema::label::Reader<'_>| Label { name: owned(of.get_name()), number: of.get_number() };
    let rule = |of: schema::rule::Reader<'_>| Rule {
        subjects: of.get_subjects(),
        objects: of.get_objects(),
        may: of.get_may(),
    };
    Ok(System {
        name: owned(root.get_name()),
        about: owned(root.get_about()),
        verdict: Some(root.get_verdict()).filter(|verdict| *verdict != NONE),
        labels: root.get_labels()?.iter().map(label).collect(),
        rules: root.get_rules()?.iter().map(rule).collect(),
        devices: root.get_devices()?.iter().map(device).collect::<Result<_>>()?,
        groups: root.get_groups()?.iter().map(group).collect::<Result<_>>()?,
        processes: root.get_processes()?.iter().map(process).collect::<Result<_>>()?,
    })
}

fn owned(field: Result<protocols::capnp::text::Reader<'_>>) -> String {
    text(field).to_owned()
}

fn device(of: schema::device::Reader<'_>) -> Result<Device> {
    let memory = |of: schema::memory::Reader<'_>| Memory {
        at: of.get_at(),
        pages: of.get_pages(),
        write: of.get_write(),
        write_combining: of.get_write_combining(),
    };
    use schema::device::{bus, interrupt};
    Ok(Device {
        name: owned(of.get_name()),
        about: owned(of.get_about()),
        ports: of.get_ports()?.iter().map(|range| (range.get_first(), range.get_last())).collect(),
        memory: of.get_memory()?.iter().map(memory).collect(),
        found: match of.get_bus().which()? {
            bus::Fixed(()) => Found::Fixed,
            bus::Pci(pci) => Found::Pci(Pci {
                vendor: pci.get_vendor(),
                device: pci.get_device(),
                write_combining: pci.get_write_combining(),
            }),
            bus::Power(()) => Found::Power,
        },
        interrupt: match of.get_interrupt().which()? {
            interrupt::None(()) => Interrupt::None,
            interrupt::Msi(()) => Interrupt::Msi,
            interrupt::Line(line) => {
                Interrupt::Line { number: line.get_number(), level: line.get_level(), low: line.get_low() }
            }
        },
    })
}

fn group(of: schema::group::Reader<'_>) -> Result<Group> {
    let member = |of: schema::member::Reader<'_>| Member {
        process: of.get_process(),
        rights: of.get_rights(),
        custom: of.get_custom(),
    };
    Ok(Group {
        name: owned(of.get_name()),
        about: owned(of.get_about()),
        exposes: of.get_exposes()?.iter().collect(),
        members: of.get_members()?.iter().map(member).collect(),
    })
}

fn cpus(of: schema::process::Reader<'_>) -> Result<Cpus> {
    let words = of.get_cpus()?;
    if words.is_empty() {
        assert_eq!(schema::cpus_from(words, 960), u64::MAX, "an empty list is all CPUs");
        return Ok(Cpus::All);
    }
    let is_set = |cpu: &u16| schema::cpus_from(words, u32::from(*cpu)) >> (cpu % 64) & 1 == 1;
    Ok(Cpus::These((0..schema::CPUS_MAX).filter(is_set).collect()))
}

fn process(of: schema::process::Reader<'_>) -> Result<Process> {
    let restart = of.get_restart();
    let budget = Budget { time: of.get_budget(), period: of.get_period() };
    Ok(Process {
        name: owned(of.get_name()),
        about: owned(of.get_about()),
        program: owned(of.get_program()),
        options: owned(of.get_options()),
        priority: of.get_priority(),
        ceiling: of.get_ceiling(),
        label: of.get_label(),
        memory: match of.get_memory() {
            0 => Untyped::None,
            MEMORY_REST => Untyped::Rest,
            log2 => Untyped::Log2(log2),
        },
        cpu: of.get_cpu(),
        cpus: cpus(of)?,
        slice: of.get_slice(),
        budget: Some(budget).filter(|budget| budget.time != 0),
        room: of.get_room(),
        stack_pages: of.get_stack_pages(),
        tasks: of.get_tasks(),
        slots: of.get_slots(),
        machine: of.get_machine(),
        vector: of.get_vector(),
        archive: of.get_archive(),
        devices: of.get_devices()?.iter().collect(),
        uses: of.get_uses()?.iter().map(|used| (owned(used.get_name()), used.get_group())).collect(),
        needs: of.get_needs()?.iter().collect(),
        serves: of.get_serves()?.iter().map(|serves| (serves.get_group(), serves.get_exposure())).collect(),
        restart: Restart {
            when: restart.get_when()?,
            wait: restart.get_wait(),
            most: restart.get_most(),
            limit: restart.get_limit(),
            within: restart.get_within(),
        },
        heartbeat: of.get_heartbeat(),
        when_asked: of.get_when_asked(),
        controls: match of.get_manages() {
            true => Some(of.get_controls()?.iter().collect()),
            false => None,
        },
        schedules: of.get_schedules()?.iter().collect(),
        pager: pager(of.get_pager()),
    })
}

fn pager(of: schema::process::pager::Reader<'_>) -> Option<(u16, Pages)> {
    let limits = Pages { frames: of.get_frames(), pinned: of.get_pinned(), pages: of.get_pages() };
    (of.get_group() != schema::NONE).then_some((of.get_group(), limits))
}

/// Reads a system of the tests' data.
fn load(name: &str) -> System {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let bytes = fs::read(&path).expect("a description");
    describe::load(name, &bytes, None).unwrap_or_else(|report| panic!("{report}"))
}

fn assert_reads_back(system: &System) {
    let bytes = describe::compile(system);
    assert_eq!(bytes.len() % 8, 0, "a message is whole words");
    assert_eq!(&read_back(&bytes).expect("a message that can be read"), system);
}

#[test]
fn every_key_reaches_process_1() {
    let system = load("all.toml");
    assert_reads_back(&system);
    let names: Vec<&str> = system.processes.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["log", "pager", "driver", "judge"], "servers start first");
    let [log, pager, driver, judge] = system.processes.as_slice() else { panic!("four processes") };
    assert_eq!(system.verdict, Some(3));
    assert_eq!((driver.needs.as_slice(), driver.serves.as_slice()), (&[0, 1][..], &[(1, 0)][..]));
    assert_eq!((driver.heartbeat, log.heartbeat), (1_000_000, 0));
    assert_eq!((driver.when_asked, pager.when_asked), (true, false));
    assert_eq!((driver.controls.as_deref(), log.controls.as_deref()), (Some(&[1][..]), None));
    assert_eq!(
        (judge.controls.as_deref(), pager.controls.as_deref()),
        (Some(&[0, 1, 2, 3][..]), Some(&[][..]))
    );
    assert_eq!((driver.options.as_str(), log.options.as_str()), ("level=debug speed=7", "level=debug"));
    assert_eq!((driver.priority, driver.ceiling, driver.label), (180, 185, 1));
    assert_eq!((driver.cpu, &driver.cpus), (2, &Cpus::These(vec![0, 2, 3, 70])));
    assert_eq!(driver.budget, Some(Budget { time: 2_000, period: 10_000 }));
    assert_eq!((driver.slice, driver.room, driver.stack_pages), (250, 3_000, 4));
    assert_eq!((driver.tasks, driver.slots, driver.vector, driver.archive), (8, 256, true, true));
    assert_eq!((driver.memory, pager.memory, log.memory), (Untyped::Log2(22), Untyped::Rest, Untyped::None));
    let machine = abi::MachineRights::REPORT.union(abi::machine_rights::DMA).rights();
    assert_eq!(driver.machine, machine.0);
    assert_eq!(judge.uses, [("device".to_owned(), 1), ("log".to_owned(), 0)]);
    let rights = (abi::Rights::SEND | abi::Rights::NOTIFY).0;
    let member = Member { process: 2, rights, custom: 0xffff };
    assert!(system.groups[0].members.contains(&member), "{:?}", system.groups[0]);
    assert_eq!((judge.schedules.as_slice(), log.schedules.as_slice()), (&[1][..], &[][..]));
    let limits = Pages { frames: 64, pinned: 8, pages: 256 };
    assert_eq!((driver.pager, pager.pager), (Some((2, limits)), None));
    let paging = &system.groups[2];
    let rights = (abi::Rights::SEND | abi::Rights::STRING).0;
    assert_eq!((paging.name.as_str(), paging.exposes.as_slice()), ("pager's clients", &[1][..]));
    assert_eq!(paging.members, [Member { process: 2, rights, custom: 1 }]);
    assert_eq!(pager.serves, [(2, 0)]);
    assert_eq!(system.rules, [Rule { subjects: 2, objects: 1, may: abi::audit::may::GRANT }]);
}

#[test]
fn devices_reach_process_1() {
    let system = load("all.toml");
    let [port, memory, card, other, switch] = system.devices.as_slice() else { panic!("five devices") };
    assert_eq!(port.ports, [(0x3f8, 0x3ff), (0x2f8, 0x2f8)]);
    assert_eq!(port.interrupt, Interrupt::Line { number: 4, level: false, low: false });
    let of_hpet = Memory { at: 0xfed0_0000, pages: 1, write: false, write_combining: false };
    let of_screen = Memory { at: 0xfd00_0000, pages: 1024, write: true, write_combining: true };
    assert_eq!((memory.memory.as_slice(), memory.interrupt), (&[of_hpet, of_screen][..], Interrupt::None));
    let pci = Pci { vendor: 0x1234, device: 0x11e8, write_combining: true };
    assert_eq!((card.found, card.interrupt), (Found::Pci(pci), Interrupt::Msi));
    assert_eq!(other.interrupt, Interrupt::Line { number: 11, level: true, low: true });
    assert_eq!((switch.found, switch.interrupt), (Found::Power, Interrupt::None));
}

#[test]
fn defaults_are_filled_in() {
    let text = b"about = \"One process.\"\n[processes.app]\npriority = 100\n";
    let system = describe::load("systems/one.toml", text, None).unwrap();
    assert_eq!((system.name.as_str(), system.verdict), ("one", None));
    let app = &system.processes[0];
    assert_eq!((app.program.as_str(), app.ceiling, app.cpu, &app.cpus), ("app", 100, 0, &Cpus::All));
    assert_eq!((app.slice, app.stack_pages, app.tasks, app.slots), (10_000, 14, 16, 4096));
    assert_eq!((app.memory, app.restart.when), (Untyped::None, schema::When::Never));
    assert_reads_back(&system);
}

#[test]
fn a_compiled_system_can_be_printed() {
    let bytes = describe::compile(&load("five.toml"));
    let printed = protocols::show::Captured { label: schema::LABEL, bytes: &bytes }.to_string();
    assert!(printed.starts_with("system.System (label "), "{printed}");
    assert!(printed.contains("name = \"shell\"") && printed.contains("when = failure"), "{printed}");
    assert!(!printed.contains('<'), "all of it is known: {printed}");
}

#[test]
fn large_systems_read_back() {
    assert_reads_back(&load("five.toml"));
    let sixty = load("sixty.toml");
    assert_eq!(sixty.processes.len(), 60);
    assert_reads_back(&sixty);
    for (place, process) in sixty.processes.iter().enumerate() {
        assert!(process.needs.iter().all(|need| usize::from(*need) < place), "{}", process.name);
    }
}
