//! Compiles a system into the message that process 1 reads in place.

use capnp::message::{Builder, HeapAllocator};
use protocols::system::{self as schema, MEMORY_REST, NONE};

use crate::system::{Cpus, Device, Found, Group, Interrupt, Process, Restart, System, Untyped};

/// Words of the message's segment, more than the largest system takes: the message must have one
/// segment.
const SEGMENT_WORDS: u32 = 1 << 20;

/// Returns the bytes of the compiled system: whole words.
pub fn compile(system: &System) -> Vec<u8> {
    let allocator = HeapAllocator::new().first_segment_words(SEGMENT_WORDS);
    let mut message = Builder::new(allocator);
    fill(message.init_root(), system);
    let segments = message.get_segments_for_output();
    assert_eq!(segments.len(), 1, "a system fits into one segment");
    segments[0].to_vec()
}

/// Numbers the elements of a list, as the format does.
fn numbered<T>(list: &[T]) -> impl Iterator<Item = (u32, &T)> {
    (0..).zip(list)
}

fn fill(mut root: schema::system::Builder<'_>, system: &System) {
    root.set_name(&*system.name);
    root.set_about(&*system.about);
    root.set_verdict(system.verdict.unwrap_or(NONE));
    let mut labels = root.reborrow().init_labels(system.labels.len() as u32);
    for (place, label) in numbered(&system.labels) {
        let mut to = labels.reborrow().get(place);
        to.set_name(&*label.name);
        to.set_number(label.number);
    }
    let mut rules = root.reborrow().init_rules(system.rules.len() as u32);
    for (place, rule) in numbered(&system.rules) {
        let mut to = rules.reborrow().get(place);
        to.set_subjects(rule.subjects);
        to.set_objects(rule.objects);
        to.set_may(rule.may);
    }
    let mut devices = root.reborrow().init_devices(system.devices.len() as u32);
    numbered(&system.devices).for_each(|(place, of)| device(devices.reborrow().get(place), of));
    let mut groups = root.reborrow().init_groups(system.groups.len() as u32);
    numbered(&system.groups).for_each(|(place, of)| group(groups.reborrow().get(place), of));
    let mut processes = root.reborrow().init_processes(system.processes.len() as u32);
    numbered(&system.processes).for_each(|(place, of)| process(processes.reborrow().get(place), of));
}

fn device(mut to: schema::device::Builder<'_>, device: &Device) {
    to.set_name(&*device.name);
    to.set_about(&*device.about);
    let mut ports = to.reborrow().init_ports(device.ports.len() as u32);
    for (place, (first, last)) in numbered(&device.ports) {
        let mut to = ports.reborrow().get(place);
        to.set_first(*first);
        to.set_last(*last);
    }
    let mut memory = to.reborrow().init_memory(device.memory.len() as u32);
    for (place, range) in numbered(&device.memory) {
        let mut to = memory.reborrow().get(place);
        to.set_at(range.at);
        to.set_pages(range.pages);
        to.set_write(range.write);
        to.set_write_combining(range.write_combining);
    }
    let mut bus = to.reborrow().init_bus();
    match device.found {
        Found::Fixed => bus.set_fixed(()),
        Found::Power => bus.set_power(()),
        Found::Pci(found) => {
            let mut pci = bus.init_pci();
            pci.set_vendor(found.vendor);
            pci.set_device(found.device);
            pci.set_write_combining(found.write_combining);
        }
    }
    let mut interrupt = to.init_interrupt();
    match device.interrupt {
        Interrupt::None => interrupt.set_none(()),
        Interrupt::Msi => interrupt.set_msi(()),
        Interrupt::Line { number, level, low } => {
            let mut line = interrupt.init_line();
            line.set_number(number);
            line.set_level(level);
            line.set_low(low);
        }
    }
}

fn group(mut to: schema::group::Builder<'_>, group: &Group) {
    to.set_name(&*group.name);
    to.set_about(&*group.about);
    let mut exposes = to.reborrow().init_exposes(group.exposes.len() as u32);
    numbered(&group.exposes).for_each(|(place, server)| exposes.set(place, *server));
    let mut members = to.init_members(group.members.len() as u32);
    for (place, member) in numbered(&group.members) {
        let mut to = members.reborrow().get(place);
        to.set_process(member.process);
        to.set_rights(member.rights);
        to.set_custom(member.custom);
    }
}

fn process(mut to: schema::process::Builder<'_>, process: &Process) {
    to.set_name(&*process.name);
    to.set_about(&*process.about);
    to.set_program(&*process.program);
    to.set_options(&*process.options);
    to.set_label(process.label);
    to.set_memory(match process.memory {
        Untyped::None => 0,
        Untyped::Log2(log2) => log2,
        Untyped::Rest => MEMORY_REST,
    });
    to.set_stack_pages(process.stack_pages);
    to.set_tasks(process.tasks);
    to.set_slots(process.slots);
    to.set_machine(process.machine);
    to.set_vector(process.vector);
    to.set_archive(process.archive);
    time(to.reborrow(), process);
    let mut devices = to.reborrow().init_devices(process.devices.len() as u32);
    numbered(&process.devices).for_each(|(place, device)| devices.set(place, *device));
    let mut uses = to.reborrow().init_uses(process.uses.len() as u32);
    for (place, (name, group)) in numbered(&process.uses) {
        let mut to = uses.reborrow().get(place);
        to.set_name(&**name);
        to.set_group(*group);
    }
    let mut needs = to.reborrow().init_needs(process.needs.len() as u32);
    numbered(&process.needs).for_each(|(place, other)| needs.set(place, *other));
    let mut serves = to.reborrow().init_serves(process.serves.len() as u32);
    for (place, (group, exposure)) in numbered(&process.serves) {
        let mut to = serves.reborrow().get(place);
        to.set_group(*group);
        to.set_exposure(*exposure);
    }
    restart(to.reborrow().init_restart(), &process.restart);
    to.set_heartbeat(process.heartbeat);
    to.set_when_asked(process.when_asked);
    let mut schedules = to.reborrow().init_schedules(process.schedules.len() as u32);
    numbered(&process.schedules).for_each(|(place, other)| schedules.set(place, *other));
    let mut pager = to.reborrow().init_pager();
    pager.set_group(process.pager.map_or(NONE, |(group, _)| group));
    if let Some((_, limits)) = process.pager {
        pager.set_frames(limits.frames);
        pager.set_pinned(limits.pinned);
        pager.set_pages(limits.pages);
    }
    if let Some(controls) = &process.controls {
        to.set_manages(true);
        let mut list = to.init_controls(controls.len() as u32);
        numbered(controls).for_each(|(place, other)| list.set(place, *other));
    }
}

fn time(mut to: schema::process::Builder<'_>, process: &Process) {
    to.set_priority(process.priority);
    to.set_ceiling(process.ceiling);
    to.set_cpu(process.cpu);
    to.set_slice(process.slice);
    to.set_room(process.room);
    if let Some(budget) = process.budget {
        to.set_budget(budget.time);
        to.set_period(budget.period);
    }
    let words = words(&process.cpus);
    let mut cpus = to.init_cpus(words.len() as u32);
    numbered(&words).for_each(|(place, word)| cpus.set(place, *word));
}

/// Returns a set of CPUs as bits; none for all CPUs.
fn words(cpus: &Cpus) -> Vec<u64> {
    let Cpus::These(set) = cpus else { return Vec::new() };
    let count = set.iter().max().map_or(0, |last| usize::from(*last) / 64 + 1);
    let mut words = vec![0; count];
    set.iter().for_each(|cpu| words[usize::from(*cpu) / 64] |= 1 << (cpu % 64));
    words
}

fn restart(mut to: schema::process::restart::Builder<'_>, restart: &Restart) {
    to.set_when(restart.when);
    to.set_wait(restart.wait);
    to.set_most(restart.most);
    to.set_limit(restart.limit);
    to.set_within(restart.within);
}
