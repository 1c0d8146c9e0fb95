//! Security labels: what a process may hold, see or join, whatever capabilities it is given.
//!
//! A process, its CSpace, its address space and its tasks have one label. A process without label
//! is not confined, and within one CSpace a capability may go anywhere.

use alloc::vec::Vec;

use abi::audit::{LABELS, may};
use abi::{Error, ObjType, machine_rights};

use crate::object::{Access, Id, Kind};
use crate::{Answer, Args, Model, Place, Refusal, Result};

/// Returns what the rules must allow for a mapping with this access.
fn to_map(access: Access) -> u8 {
    match access {
        Access::Write => may::READ | may::WRITE,
        Access::Read | Access::Execute => may::READ,
    }
}

fn forbidden(subject: u32, object: u32) -> Refusal {
    Refusal::new(Error::Forbidden, u64::from(subject) << 32 | u64::from(object))
}

impl Model {
    pub fn label(&self, id: Id) -> u32 {
        self.objects[id.0].label
    }

    fn may_label(&self, subject: u32, object: u32, what: u8) -> Result<()> {
        let rule = self.rules.get(&(subject, object)).copied().unwrap_or(0);
        if subject == 0 || rule & what == 0 { Ok(()) } else { Err(forbidden(subject, object)) }
    }

    pub(crate) fn may_read(&self, subject: Id, object: Id) -> Result<()> {
        self.may_label(self.label(subject), self.label(object), may::READ)
    }

    pub(crate) fn may_join(&self, subject: Id, group: Id) -> Result<()> {
        self.may_label(self.label(subject), self.label(group), may::JOIN)
    }

    pub(crate) fn may_map(&self, vspace: Id, object: Id, access: Access) -> Result<()> {
        self.may_map_label(vspace, self.label(object), access)
    }

    pub(crate) fn may_map_label(&self, vspace: Id, label: u32, access: Access) -> Result<()> {
        self.may_label(self.label(vspace), label, to_map(access))
    }

    /// Checks that the rules let a capability of an object with this label come to a slot.
    pub(crate) fn may_grant(&self, me: Id, to: Place, label: u32) -> Result<()> {
        let Place::Slot(table, _) = to else { return Ok(()) };
        if self.tables_of(self.process_of(me)).contains(&table) {
            return Ok(());
        }
        self.may_label(self.label(table), label, may::GRANT)
    }

    /// Returns the label of an object made from an Untyped.
    pub(crate) fn label_of_new(&self, me: Id, untyped: Id) -> u32 {
        match self.label(untyped) {
            0 => self.label(self.process_of(me)),
            own => own,
        }
    }

    /// Checks that the parts of a process have one label.
    pub(crate) fn same_label(&self, parts: [Id; 3]) -> Result<()> {
        let [process, others @ ..] = parts.map(|id| self.label(id));
        match others.into_iter().find(|other| *other != process) {
            Some(other) => Err(forbidden(process, other)),
            None => Ok(()),
        }
    }

    /// Returns the process that an object is a part of.
    pub fn process_with(&self, part: Id) -> Option<Id> {
        match &self.objects[part.0].kind {
            Kind::CNode(it) => it.process,
            Kind::VSpace(it) => it.process,
            Kind::Task(it) => it.process,
            _ => None,
        }
    }

    /// Returns the label of a part of a process: the process's, if the part had none before.
    pub(crate) fn adopted_label(&self, process: Id, part: Id) -> Result<u32> {
        let (label, own) = (self.label(process), self.label(part));
        if own == label || own == 0 { Ok(label) } else { Err(forbidden(label, own)) }
    }

    pub fn label_set(&mut self, me: Id, args: &Args) -> Result {
        self.find(me, args.cap(0), ObjType::Machine, machine_rights::SECURITY)?;
        let object = self.find_any(me, args.cap(1))?.object;
        let label = u32::try_from(args.0[2]).ok().filter(|label| *label < LABELS);
        let label = label.ok_or(Refusal::argument(2))?;
        if self.is_dying(object) {
            return Err(Error::Dying.into());
        }
        if let Some(whole) = self.process_with(object).map(|process| self.label(process))
            && whole != label
        {
            return Err(forbidden(whole, label));
        }
        self.objects[object.0].label = label;
        if let Kind::Process(process) = &self.objects[object.0].kind {
            let tasks: Vec<Id> = process.tasks.iter().copied().flatten().collect();
            for part in self.tables_of(object).into_iter().chain(process.vspace).chain(tasks) {
                self.objects[part.0].label = label;
            }
        }
        Ok(Answer::DONE)
    }

    pub fn label_rule(&mut self, me: Id, args: &Args) -> Result {
        self.find(me, args.cap(0), ObjType::Machine, machine_rights::SECURITY)?;
        let [_, subject, object, allowed, ..] = args.0;
        let raw = |raw: u64, position| u32::try_from(raw).map_err(|_| Refusal::argument(position));
        let (subject, object) = (raw(subject, 1)?, raw(object, 2)?);
        if subject == 0 {
            return Err(Refusal::argument(1));
        }
        let allowed = u8::try_from(allowed).ok().filter(|allowed| allowed & !may::ALL == 0);
        let allowed = allowed.ok_or(Refusal::argument(3))?;
        if let Some(position) = [subject, object].iter().position(|label| *label >= LABELS) {
            return Err(Refusal::argument(position as u64 + 1));
        }
        let before = self.rules.insert((subject, object), may::ALL & !allowed).unwrap_or(0);
        Ok(Answer::one(u64::from(may::ALL & !before)))
    }
}
