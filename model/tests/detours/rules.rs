//! The rules that allow changes: the book's list (`docs/src/detours.md`), as predicates.
//!
//! The rules check only rights, in the state before a step, and do not use the model's decision. A
//! change that no rule allows is a finding.

use abi::{Op, Rights, audit::may, cnode_rights, frame_rights, machine_rights, process_rights};
use abi::{irq_rights, port_rights, sched_control_rights, sched_rights, task_rights};
use model::detours::moves::Move;
use model::object::{Access, Mapping, Member};
use model::{Id, Kind, Model, Place};

use crate::changes::Change;
use crate::state::State;

/// A step of a process.
pub struct Step<'a> {
    pub before: &'a State,
    pub after: &'a State,
    /// The task that made it, and its process.
    pub me: Id,
    pub mover: Id,
    pub it: &'a Move,
}

pub struct Rule {
    /// As in the book's list.
    pub name: &'static str,
    pub allows: fn(&Step, &Change) -> bool,
}

macro_rules! rules {
    ($($name:literal: $allows:expr;)*) => {
        /// Every rule, in the order of the book.
        pub const RULES: &[Rule] = &[$(Rule { name: $name, allows: $allows },)*];
    };
}

rules! {
    // --- capabilities
    "copy": |s, it| s.is(Op::CapCopy) && given(it, |place, cap| s.may_fill(place, cap.object) && s.has_source(cap));
    "give and keep": |s, it| s.is(Op::CapCopy) && matches!(it, Change::Doubled { object } if s.holds(*object, Rights::GRANT));
    "move": |s, it| s.is(Op::CapMove) && match it {
        Change::Given { place, cap } => s.may_fill(*place, cap.object) && s.has_source(cap),
        Change::Taken { place } => s.is_own(*place),
        _ => false,
    };
    "make": |s, it| s.is(Op::Retype) && match it {
        Change::Given { place, cap } => s.model().objects.len() <= cap.object.0 && s.may_fill(*place, cap.object),
        Change::Carved { memory } => s.holds(*memory, Rights::NONE),
        _ => false,
    };
    "delete": |s, it| s.is(Op::CapDelete) && taken(it, |place| s.reaches(place, Rights::GRANT));
    "revoke": |s, it| s.is(Op::CapRevoke)
        && taken(it, |place| s.ancestors(place).any(|above| s.reaches(above, Rights::GRANT)));
    "reset": |s, it| s.is(Op::UntypedReset) && match it {
        Change::Carved { memory } => s.holds(*memory, Rights::NONE),
        other => taken(other, |place| s.ancestors(place).any(|above| s.is_own(above) && s.is_memory(above))),
    };
    "delete memory": |s, it| s.is(Op::CapDelete)
        && taken(it, |place| s.ancestors(place).any(|above| s.is_memory(above) && s.reaches(above, Rights::GRANT)));
    "with its table": |s, it| {
        let ended = |place| s.is_gone(table_of(place));
        taken(it, |place| ended(place) || s.ancestors(place).any(|above| s.is_memory(above) && ended(above)))
    };
    "look at slots": |s, it| match it {
        Change::SawSlot { place } => s.reaches(*place, cnode_rights::OBSERVE.into()),
        _ => false,
    };
    "look at a process": |s, it| {
        matches!(it, Change::SawProcess { process } if s.holds(*process, process_rights::OBSERVE.into()))
    };
    // --- how objects end
    "last capability": |s, it| match it {
        Change::Ended { object } => s.is_gone(*object),
        Change::Killed { task } => s.is_gone(*task),
        Change::Withdrawn { object: Some(object), .. } => s.is_gone(*object),
        Change::Unmapped { page: Mapping::Page { frame, .. }, .. } => s.is_gone(*frame),
        Change::Unmapped { space, .. } => s.is_gone(*space),
        _ => false,
    };
    "ends with its spaces": |s, it| match it {
        Change::Ended { object } => s.spaces(*object).iter().any(|space| s.is_gone(*space)),
        _ => false,
    };
    "kill a process": |s, it| s.is(Op::ProcessKill) && match it {
        Change::Ended { object } => s.holds(*object, process_rights::DESTROY.into()),
        Change::Withdrawn { object: Some(task), .. } => {
            s.process_of(*task).is_some_and(|process| s.holds(process, process_rights::DESTROY.into()))
        }
        _ => false,
    };
    "ends with its process": |s, it| match it {
        Change::Killed { task } => s.process_of(*task).is_some_and(|process| s.is_dying(process)),
        Change::Left { process, .. } => s.is_dying(*process),
        Change::Unmapped { page: Mapping::Utcb(task), .. } => s.process_of(*task).is_some_and(|it| s.is_dying(it)),
        Change::Unmapped { page: Mapping::Pool(pool), .. } => {
            s.model().event_pool(*pool).process.is_some_and(|it| s.is_dying(it))
        }
        _ => false,
    };
    "kill a task": |s, it| s.is(Op::TaskKill)
        && matches!(it, Change::Killed { task } if s.holds(*task, task_rights::DESTROY.into()));
    "UTCB ends with its task": |s, it| {
        matches!(it, Change::Unmapped { page: Mapping::Utcb(task), .. } if s.is_dead(*task))
    };
    // --- groups
    "add a member": |s, it| s.is(Op::GroupAdd) && match it {
        Change::Joined { group } => s.may_in(*group, Rights::ADD),
        // Its capability does in the group what its record says, and nothing to the group itself.
        Change::Given { place, cap } if s.asked_rights().minus(Rights::DELETE).contains(cap.rights) => {
            s.offered(*place).is_some_and(|process| {
                s.may_in(cap.object, Rights::ADD) && s.labels_allow(process, cap.object, may::JOIN)
            })
        }
        _ => false,
    };
    "member's rights": |s, it| {
        matches!(it, Change::GotRights { group, member } if s.may_pass(*group, member.rights))
    };
    "member's custom bits": |s, it| match it {
        Change::GotCustom { group, member } => {
            s.is_maker(*group, Rights::ADD) || s.records(*group).any(|own| own.custom == member.custom)
        }
        _ => false,
    };
    "consent": |s, it| matches!(it, Change::Consented { group, process } if s.consents(*process, *group));
    "remove a member": |s, it| s.is(Op::GroupRemove)
        && matches!(it, Change::Left { group, .. } if s.may_in(*group, Rights::REMOVE));
    "list members": |s, it| matches!(it, Change::SawMembers { group } if s.may_in(*group, Rights::LISTEN));
    "offer a slot": |s, it| s.is(Op::ProcessAccept) && matches!(it, Change::Offered { process } if s.may_set(*process));
    "expose": |s, it| s.is(Op::Expose) && match it {
        Change::Exposed { group, object } => {
            s.may_in(*group, Rights::LISTEN)
                && s.holds(*object, Rights::LISTEN)
                && s.labels_allow(*object, *group, may::JOIN)
        }
        Change::ExposedSo { group, .. } => s.may_in(*group, Rights::LISTEN),
        _ => false,
    };
    "fill an entry": |s, it| match it {
        Change::EntryFilled { group, index } => {
            s.heads_over(*group, *index).all(|owner| owner == s.mover) || s.may_in(*group, Rights::REMOVE)
        }
        _ => false,
    };
    "withdraw own": |s, it| s.is(Op::Withdraw) && match it {
        Change::Withdrawn { group, index, .. } => s.may_in(*group, Rights::LISTEN) && s.has_exposed(*group, *index),
        _ => false,
    };
    "withdraw": |s, it| s.is(Op::Withdraw)
        && matches!(it, Change::Withdrawn { group, .. } if s.may_in(*group, Rights::REMOVE));
    "delete what is exposed": |s, it| match it {
        Change::Withdrawn { group, .. } if s.is_gone(*group) => true,
        Change::Withdrawn { group, index, .. } if s.is(Op::CapRevoke) => {
            s.ancestors(Place::Exposure(*group, *index)).any(|above| s.reaches(above, Rights::GRANT))
        }
        Change::Withdrawn { group, index, .. } if s.is(Op::UntypedReset) => {
            s.ancestors(Place::Exposure(*group, *index)).any(|above| s.is_own(above) && s.is_memory(above))
        }
        _ => false,
    };
    // --- bits
    "notify": |s, it| s.is(Op::Notify) && match it {
        Change::Raised { note } => s.holds(*note, Rights::NOTIFY) || s.notifies_in_group(*note),
        _ => false,
    };
    "tell watchers": |s, it| matches!(it, Change::Raised { note } if s.watches(*note));
    "read bits": |s, it| matches!(it, Change::BitsRead { note } if s.holds(*note, Rights::LISTEN));
    "bind a Notification": |s, it| match it {
        Change::NoteBound { note, task } => {
            s.holds(*note, Rights::LISTEN) && s.holds(*task, task_rights::SCHEDULE.into())
        }
        _ => false,
    };
    // --- memory
    "map": |s, it| (s.is(Op::Map) || s.is(Op::Protect)) && match it {
        Change::Mapped { space, page: Mapping::Page { frame, access, .. } } => s.may_map(*space, *frame, *access),
        Change::Unmapped { space, page: Mapping::Page { frame, .. } } => s.may_map(*space, *frame, Access::Read),
        _ => false,
    };
    "unmap": |s, it| s.is(Op::Unmap) && match it {
        Change::Unmapped { space, page: Mapping::Page { frame, .. } } => {
            s.holds(*space, Rights::MAP) && s.holds(*frame, Rights::MAP)
        }
        _ => false,
    };
    "map a UTCB": |s, it| match it {
        Change::Mapped { space, page: Mapping::Utcb(task) } => {
            s.holds(*task, task_rights::REGISTERS.into())
                && s.allows(*space, s.model().label(*space), may::READ | may::WRITE)
        }
        _ => false,
    };
    "map a pool": |s, it| match it {
        Change::Mapped { space, page: Mapping::Pool(pool) } => {
            s.holds(*pool, Rights::LISTEN) && s.labels_allow(*space, *pool, may::READ | may::WRITE)
        }
        _ => false,
    };
    "pin": |s, it| s.is(Op::FramePin)
        && matches!(it, Change::Pinned { frame } if s.holds(*frame, frame_rights::DMA.into()) && s.may_pin());
    "unpin": |s, it| s.is(Op::FrameUnpin)
        && matches!(it, Change::Unpinned { frame } if s.holds(*frame, frame_rights::DMA.into()) && s.may_pin());
    "reset with pins": |s, it| s.is(Op::UntypedReset) && matches!(it, Change::Unpinned { .. } if s.may_pin());
    // --- processes, tasks, time
    "give a process its spaces": |s, it| match it {
        Change::SlotsAdded { process, table } => s.may_set(*process) && s.holds(*table, Rights::GRANT),
        Change::SpaceAdded { process, space } => {
            s.holds(*process, process_rights::CONFIGURE.into()) && s.holds(*space, Rights::MAP)
        }
        _ => false,
    };
    "make a task": |s, it| match it {
        Change::TaskMade { task, process } => {
            s.holds(*task, task_rights::REGISTERS.into()) && s.holds(*process, process_rights::CONFIGURE.into())
                && s.after.model.label(*task) == s.model().label(*process)
        }
        _ => false,
    };
    "take a label": |s, it| s.is(Op::TaskConfigure)
        && matches!(it, Change::Labelled { object } if s.model().label(*object) == 0 && s.takes_label(*object));
    "bind a pool": |s, it| matches!(it, Change::PoolBound { pool } if s.holds(*pool, Rights::LISTEN));
    "suspend": |s, it| matches!(it, Change::Held { task } if s.holds(*task, task_rights::SUSPEND.into()));
    "registers": |s, it| match it {
        Change::SawRegisters { task } | Change::RegistersWritten { task } => {
            s.holds(*task, task_rights::REGISTERS.into())
        }
        _ => false,
    };
    "debug": |s, it| matches!(it, Change::Debugged { task } if s.holds(*task, task_rights::DEBUG.into()));
    "set time": |s, it| matches!(it, Change::TimeSet { time } if s.holds(*time, sched_rights::CONFIGURE.into()))
        && s.has_authority();
    "extend authority": |s, it| match it {
        Change::Allowed { control } => s.holds(*control, sched_control_rights::CONFIGURE.into()) && s.has_authority(),
        _ => false,
    };
    "bind time": |s, it| match it {
        Change::TimeBound { time, task } => {
            s.holds(*time, sched_rights::CONFIGURE.into()) && s.holds(*task, task_rights::SCHEDULE.into())
        }
        _ => false,
    };
    "look at time": |s, it| matches!(it, Change::SawTime { time } if s.holds(*time, sched_rights::OBSERVE.into()));
    // --- devices
    "give a device away": |s, it| match it {
        Change::DeviceGiven { object } => s.holds_machine(machine_rights::DEVICE.into())
            && (s.holds(*object, irq_rights::CONFIGURE.into()) || s.holds(*object, port_rights::CONFIGURE.into())),
        _ => false,
    };
    "bind interrupts": |s, it| s.is(Op::IrqBind) && match it {
        Change::IrqBound { irq, note } => {
            s.holds(*irq, irq_rights::HANDLE.into()) && s.holds(*note, Rights::NOTIFY) && s.has_authority()
        }
        _ => false,
    };
    "unbind interrupts": |s, it| s.is(Op::IrqBind)
        && taken(it, |place| matches!(place, Place::Target(irq) if s.holds(irq, irq_rights::HANDLE.into())));
    // --- the machine
    "label": |s, it| matches!(it, Change::Labelled { .. } | Change::RuleSet) && s.holds_machine(machine_rights::SECURITY.into());
}

fn given(it: &Change, allows: impl Fn(Place, &model::Capability) -> bool) -> bool {
    matches!(it, Change::Given { place, cap } if allows(*place, cap))
}

fn taken(it: &Change, allows: impl Fn(Place) -> bool) -> bool {
    matches!(it, Change::Taken { place } if allows(*place))
}

fn table_of(place: Place) -> Id {
    place.table()
}

/// What the mover had before the step.
impl Step<'_> {
    fn is(&self, op: Op) -> bool {
        self.it.op == op
    }

    /// Returns the rights in the move's third argument.
    fn asked_rights(&self) -> Rights {
        Rights(self.it.args.0[2] as u32)
    }

    fn model(&self) -> &Model {
        &self.before.model
    }

    fn own_tables(&self) -> Vec<Id> {
        self.model().tables_of(self.mover)
    }

    fn own_caps(&self) -> impl Iterator<Item = &model::Capability> {
        let places = self.own_tables().into_iter();
        let caps = places.flat_map(|table| {
            self.model().slots.range(Place::Slot(table, 0)..=Place::Slot(table, u32::MAX)).map(|it| it.1)
        });
        caps.collect::<Vec<_>>().into_iter()
    }

    /// Whether it has a capability of an object, with these rights.
    fn holds(&self, object: Id, rights: Rights) -> bool {
        self.own_caps().any(|it| it.object == object && it.rights.contains(rights))
    }

    fn holds_machine(&self, rights: Rights) -> bool {
        let is_it = |it: &model::Capability| matches!(self.model().objects[it.object.0].kind, Kind::Machine);
        self.own_caps().any(|it| is_it(it) && it.rights.contains(rights))
    }

    /// Whether it has authority over CPU time.
    fn has_authority(&self) -> bool {
        let mut caps = self.own_caps().filter(|it| it.rights.contains(sched_control_rights::SCHEDULE.into()));
        caps.any(|it| match &self.before.model.objects[it.object.0].kind {
            Kind::SchedControl(control) => control.ceiling.is_some(),
            _ => false,
        })
    }

    fn is_own(&self, place: Place) -> bool {
        matches!(place, Place::Slot(table, _) if self.own_tables().contains(&table))
    }

    /// Whether a slot is in the mover's CSpace, or in a CNode of which it has a capability with the
    /// right.
    fn reaches(&self, place: Place, right: Rights) -> bool {
        self.is_own(place) || matches!(place, Place::Slot(table, _) if self.holds(table, right))
    }

    fn may_fill(&self, place: Place, object: Id) -> bool {
        let Place::Slot(table, _) = place else { return false };
        let labels = self.is_own(place) || self.allows(table, self.after.model.label(object), may::GRANT);
        self.reaches(place, Rights::GRANT) && labels
    }

    /// Whether it has a capability that a copy can be made of: with as many rights, and the badge,
    /// or none.
    fn has_source(&self, copy: &model::Capability) -> bool {
        self.own_caps().any(|it| {
            let is_group = matches!(self.model().objects[it.object.0].kind, Kind::Group(_));
            let badge = it.badge == copy.badge || it.badge == 0 && !is_group;
            it.object == copy.object && it.rights.contains(copy.rights) && badge
        })
    }

    /// Returns the capabilities from which a capability was derived, directly or not.
    fn ancestors(&self, place: Place) -> impl Iterator<Item = Place> {
        let parent = |place: &Place| self.model().slots.get(place).and_then(|it| it.parent);
        std::iter::successors(parent(&place), parent)
    }

    fn is_memory(&self, place: Place) -> bool {
        let it = self.model().slots.get(&place);
        it.is_some_and(|it| matches!(self.model().objects[it.object.0].kind, Kind::Untyped(_)))
    }

    /// Whether an object has no capability any more.
    fn is_gone(&self, object: Id) -> bool {
        self.after.model.references(object) == 0
    }

    fn is_dying(&self, object: Id) -> bool {
        self.after.model.is_dying(object)
    }

    fn is_dead(&self, task: Id) -> bool {
        self.is_gone(task) || self.after.model.task(task).state == model::object::State::Dead
    }

    /// Returns the process of a task, alive or dead.
    fn process_of(&self, task: Id) -> Option<Id> {
        match &self.model().objects[task.0].kind {
            Kind::Task(it) => it.born_in,
            _ => None,
        }
    }

    /// Returns the spaces of a process, and nothing for any other object.
    fn spaces(&self, object: Id) -> Vec<Id> {
        let Kind::Process(it) = &self.model().objects[object.0].kind else { return Vec::new() };
        self.model().tables_of(object).into_iter().chain(it.vspace).collect()
    }

    // --- groups ----------------------------------------------------------------------------------

    /// Returns the mover's own member records in a group, if it has capabilities that name them.
    fn records(&self, group: Id) -> impl Iterator<Item = Member> {
        self.memberships(group).map(|(_, record)| record)
    }

    /// Returns the mover's own member records, each with the rights of the capability.
    fn memberships(&self, group: Id) -> impl Iterator<Item = (Rights, Member)> {
        let members = &self.model().group(group).members;
        self.own_caps().filter(move |it| it.object == group).filter_map(|it| {
            let record = members.get((it.badge / 8) as usize).copied().flatten()?;
            (record.process == self.mover).then_some((it.rights, record))
        })
    }

    fn is_maker(&self, group: Id, right: Rights) -> bool {
        self.holds(group, Rights::DELETE | right)
    }

    /// Whether it may act on a group: as its maker, or as a member with the right.
    fn may_in(&self, group: Id, right: Rights) -> bool {
        let as_member = self.memberships(group).any(|(rights, it)| rights.and(it.rights).contains(right));
        as_member || self.is_maker(group, right)
    }

    /// Whether it may give a member these rights: it has them in the capability by which it adds,
    /// and as a member, too. DELETE means nothing in a record.
    fn may_pass(&self, group: Id, rights: Rights) -> bool {
        let need = Rights::ADD | rights.minus(Rights::DELETE);
        self.is_maker(group, need)
            || self.memberships(group).any(|(held, it)| held.and(it.rights).contains(need))
    }

    /// Returns the process that offers a slot.
    fn offered(&self, place: Place) -> Option<Id> {
        let offers = |id: &Id| {
            let Kind::Process(it) = &self.model().objects[id.0].kind else { return false };
            it.offer.is_some_and(|offer| self.model().slot_of(*id, offer.slot).ok() == Some(place))
        };
        self.model().ids().find(offers)
    }

    /// Whether a process has consented to be added: it offers a slot to the group, or to the mover.
    fn consents(&self, process: Id, group: Id) -> bool {
        self.before.offered_to.get(&process).is_some_and(|to| *to == group || *to == self.mover)
    }

    /// Whether it may say what a process offers, and add to its CSpace.
    fn may_set(&self, process: Id) -> bool {
        process == self.mover || self.holds(process, process_rights::CONFIGURE.into())
    }

    /// Returns the makers of the exposures with a task per CPU that contain an entry.
    fn heads_over(&self, group: Id, entry: u32) -> impl Iterator<Item = Id> {
        self.before.heads.iter().filter_map(move |((of, index), owner)| {
            let first = self.model().group(group).exposures.get(*index as usize)?.per_cpu?;
            let is_part = (first..first + self.model().cpus as u32).contains(&entry);
            (*of == group && is_part).then_some(*owner)
        })
    }

    /// Whether an exposure, or what is exposed there, is its own.
    fn has_exposed(&self, group: Id, index: u32) -> bool {
        let by = self.before.exposed_by.get(&(group, index)).or(self.before.heads.get(&(group, index)));
        let place = Place::Exposure(group, index);
        let task = self.model().slots.get(&place).and_then(|it| self.process_of(it.object));
        by == Some(&self.mover) || task == Some(self.mover)
    }

    fn notifies_in_group(&self, note: Id) -> bool {
        let exposed = self.model().slots.iter().filter(|it| it.1.object == note);
        let mut groups = exposed.filter_map(|(place, _)| match place {
            Place::Exposure(group, _) => Some(*group),
            _ => None,
        });
        groups.any(|group| {
            self.memberships(group).any(|(rights, it)| rights.and(it.rights).contains(Rights::NOTIFY))
        })
    }

    /// Whether a Notification watches a group.
    fn watches(&self, note: Id) -> bool {
        let is_group = |id: &Id| matches!(self.model().objects[id.0].kind, Kind::Group(_));
        self.model().ids().filter(is_group).any(|group| self.model().watchers(group).any(|it| it.0 == note))
    }

    // --- memory and labels -----------------------------------------------------------------------

    fn may_map(&self, space: Id, frame: Id, access: Access) -> bool {
        let (rights, label) = match access {
            Access::Write => (Rights::MAP | frame_rights::WRITE, may::READ | may::WRITE),
            _ => (Rights::MAP.into(), may::READ),
        };
        self.holds(space, Rights::MAP)
            && self.holds(frame, rights.into())
            && self.labels_allow(space, frame, label)
    }

    fn may_pin(&self) -> bool {
        self.holds_machine(machine_rights::DMA.into())
    }

    /// Whether a task has the label of the process of which it is a part now.
    fn takes_label(&self, task: Id) -> bool {
        let process = self.after.model.process_with(task);
        process.is_some_and(|process| self.after.model.label(task) == self.model().label(process))
    }

    fn labels_allow(&self, subject: Id, object: Id, what: u8) -> bool {
        self.allows(subject, self.model().label(object), what)
    }

    fn allows(&self, subject: Id, object: u32, what: u8) -> bool {
        let subject = self.model().label(subject);
        let forbidden = self.model().rules.get(&(subject, object)).copied().unwrap_or(0);
        subject == 0 || forbidden & what == 0
    }
}
