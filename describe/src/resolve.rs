//! Resolves a description without mistakes: places for names, values for defaults.

use abi::Rights;

use crate::check::{Needs, pager_clients, pagers};
use crate::read::{NO_LABEL, process, time};
use crate::system::{
    Cpus, Device, Found, Group, Interrupt, Label, Member, Place, Process, Rule, System, Untyped,
};
use crate::values::At;
use crate::written::{self, Controls, Written};

/// Makes the system of a description in which all names are known.
pub fn resolve(name: &str, written: &Written, needs: &Needs) -> System {
    let places = Places::of(written, needs);
    let processes =
        needs.order.iter().map(|node| places.process(&written.processes[*node], &needs.of[*node]));
    System {
        name: name.to_owned(),
        about: written.about.clone(),
        verdict: written.verdict.as_ref().map(|verdict| places.of_process(&verdict.value)),
        labels: written.labels.iter().filter_map(label).collect(),
        rules: written.rules.iter().filter_map(|rule| places.rule(rule)).collect(),
        devices: written.devices.iter().map(device).collect(),
        groups: places.groups(),
        processes: processes.collect(),
    }
}

/// The places of what has names.
struct Places<'a> {
    written: &'a Written,
    /// The place of each process in the order of the start, by its place in the file.
    started: Vec<Place>,
}

fn label(label: &written::Label) -> Option<Label> {
    Some(Label { name: label.name.value.clone(), number: label.number.as_ref()?.value })
}

fn device(device: &written::Device) -> Device {
    let interrupt = match &device.interrupt {
        Some(line) => line.value,
        None if device.pci.is_some() => Interrupt::Msi,
        None => Interrupt::None,
    };
    Device {
        name: device.name.value.clone(),
        about: device.about.clone(),
        ports: device.ports.iter().map(|range| range.value).collect(),
        memory: device.memory.iter().map(|range| range.value).collect(),
        found: match &device.pci {
            Some(pci) => Found::Pci(pci.value),
            None if device.power.is_some() => Found::Power,
            None => Found::Fixed,
        },
        interrupt,
    }
}

/// Returns the place of a name that the checks have found.
fn position<'a>(mut names: impl Iterator<Item = &'a At<String>>, name: &str) -> usize {
    names.position(|known| known.value == name).expect("the checks have found every name")
}

impl Places<'_> {
    fn of<'a>(written: &'a Written, needs: &Needs) -> Places<'a> {
        let place = |node: usize| needs.order.iter().position(|other| *other == node);
        let started = (0..written.processes.len()).map(|node| place(node).expect("all are ordered") as Place);
        Places { written, started: started.collect() }
    }

    fn of_process(&self, name: &str) -> Place {
        self.started[position(self.written.processes.iter().map(|process| &process.name), name)]
    }

    fn of_group(&self, name: &str) -> Place {
        position(self.written.groups.iter().map(|group| &group.name), name) as Place
    }

    fn of_device(&self, name: &str) -> Place {
        position(self.written.devices.iter().map(|device| &device.name), name) as Place
    }

    /// Returns the number of a label.
    fn of_label(&self, name: &str) -> u8 {
        if name == NO_LABEL {
            return 0;
        }
        let label = &self.written.labels[position(self.written.labels.iter().map(|label| &label.name), name)];
        label.number.as_ref().map_or(0, |number| number.value)
    }

    fn rule(&self, rule: &written::Rule) -> Option<Rule> {
        let label = |name: &Option<At<String>>| name.as_ref().map(|name| self.of_label(&name.value));
        Some(Rule { subjects: label(&rule.subjects)?, objects: label(&rule.objects)?, may: rule.may })
    }

    fn group(&self, group: &written::Group) -> Group {
        let member = |member: &written::Member| Member {
            process: self.of_process(&member.process.value),
            rights: member.rights.as_ref().map_or(0, |rights| rights.value),
            custom: member.custom,
        };
        Group {
            name: group.name.value.clone(),
            about: group.about.clone(),
            exposes: group.exposes.iter().map(|server| self.of_process(&server.value)).collect(),
            members: group.members.iter().map(member).collect(),
        }
    }

    /// Returns all groups: those of the file, and behind them one for each pager and its clients.
    fn groups(&self) -> Vec<Group> {
        let written = self.written.groups.iter().map(|group| self.group(group));
        let rights = (Rights::SEND | Rights::STRING).0;
        let clients = |pager: &str| {
            let clients = pager_clients(self.written, pager);
            let member = |(custom, client): (u16, &written::Process)| Member {
                process: self.of_process(&client.name.value),
                rights,
                custom,
            };
            clients.map(member).collect()
        };
        let paging = pagers(self.written).into_iter().map(|pager| Group {
            // A group of the file cannot have this name.
            name: format!("{pager}'s clients"),
            about: format!("gets pages of {pager}"),
            exposes: vec![self.of_process(pager)],
            members: clients(pager),
        });
        written.chain(paging).collect()
    }

    /// Returns the place of the group of a pager and its clients.
    fn of_pager(&self, pager: &str) -> Place {
        let place = pagers(self.written).iter().position(|name| *name == pager);
        (self.written.groups.len() + place.expect("a pager that has a client")) as Place
    }

    /// Returns the groups in which a process is exposed.
    fn serves(&self, name: &str) -> Vec<(Place, u16)> {
        let exposures = self.written.groups.iter().zip(0..).flat_map(|(group, place)| {
            let servers = group.exposes.iter().zip(0..);
            servers.filter(|(server, _)| server.value == name).map(move |(_, index)| (place, index))
        });
        let pages = pagers(self.written).contains(&name).then(|| (self.of_pager(name), 0));
        exposures.chain(pages).collect()
    }

    fn controlled(&self, controls: &Controls) -> Vec<Place> {
        match controls {
            Controls::All => (0..self.started.len() as Place).collect(),
            Controls::These(names) => names.iter().map(|name| self.of_process(&name.value)).collect(),
        }
    }

    fn process(&self, process: &written::Process, needs: &[usize]) -> Process {
        let name = process.name.value.clone();
        let written::Time { priority, ceiling, cpus, slice, budget, room, .. } = &process.time;
        let priority = priority.as_ref().map_or(1, |priority| priority.value);
        let number =
            |number: &Option<At<u32>>, default| number.as_ref().map_or(default, |number| number.value);
        let options = [&self.written.options, &process.options];
        let options =
            options.into_iter().flatten().map(|line| line.value.trim()).filter(|line| !line.is_empty());
        let mut needs: Vec<Place> = needs.iter().map(|node| self.started[*node]).collect();
        needs.sort_unstable();
        let uses =
            process.uses.iter().map(|used| (used.name.value.clone(), self.of_group(&used.group.value)));
        Process {
            about: process.about.clone(),
            program: process.program.value.clone(),
            options: options.collect::<Vec<_>>().join(" "),
            priority,
            ceiling: ceiling.as_ref().map_or(priority, |ceiling| ceiling.value),
            label: process.label.as_ref().map_or(0, |label| self.of_label(&label.value)),
            memory: process.memory.as_ref().map_or(Untyped::None, |memory| memory.value),
            cpu: crate::check::first_cpu(process),
            cpus: cpus.as_ref().map_or(Cpus::All, |cpus| cpus.value.clone()),
            slice: slice.unwrap_or(process::SLICE),
            budget: budget.as_ref().map(|budget| budget.value),
            room: number(room, 0),
            stack_pages: process.stack_pages,
            tasks: number(&process.tasks, process::TASKS),
            slots: number(&process.slots, process::SLOTS),
            machine: process.machine,
            vector: process.vector,
            archive: process.archive,
            devices: process.devices.iter().map(|device| self.of_device(&device.value)).collect(),
            uses: uses.collect(),
            needs,
            serves: self.serves(&name),
            restart: process.restart.as_ref().map_or(time::NEVER, |restart| restart.value),
            heartbeat: process.heartbeat.unwrap_or(0),
            when_asked: process.asked.is_some(),
            controls: process.controls.as_ref().map(|controls| self.controlled(controls)),
            schedules: process.schedules.iter().map(|name| self.of_process(&name.value)).collect(),
            pager: process.pager.as_ref().map(|paged| (self.of_pager(&paged.by.value), paged.limits)),
            name,
        }
    }
}
