//! A state: the model, and two facts that the rules need: which process made each exposure, and
//! which processes offered a slot.

use std::collections::BTreeMap;

use abi::membership::EXPOSE_PER_CPU;
use abi::{Op, Rights};
use model::detours::moves::Move;
use model::detours::worlds::{self, Bare, Cast, World};
use model::object::{Access, Mapping, State as TaskState};
use model::{Id, Kind, Model, Place};

#[derive(Clone)]
pub struct State {
    pub model: Model,
    /// By exposure: the process that filled it.
    pub exposed_by: BTreeMap<(Id, u32), Id>,
    /// By exposure with a task per CPU: the process that made it one.
    pub heads: BTreeMap<(Id, u32), Id>,
    /// By process: to which group, or process, it offers a slot.
    pub offered_to: BTreeMap<Id, Id>,
}

/// Returns the first state of a world.
pub fn begin(world: &World) -> (State, Cast) {
    let mut stage = Bare::default();
    let cast = worlds::build(&mut stage, world);
    let model = stage.model;
    let mut exposed_by = BTreeMap::new();
    let mut heads = BTreeMap::new();
    if let Some(group) = cast.group {
        for (index, exposure) in (0..).zip(&model.group(group).exposures) {
            if model.slots.contains_key(&Place::Exposure(group, index)) {
                exposed_by.insert((group, index), cast.processes[1]);
            }
            if exposure.per_cpu.is_some() {
                heads.insert((group, index), cast.processes[1]);
            }
        }
    }
    (State { model, exposed_by, heads, offered_to: BTreeMap::new() }, cast)
}

impl State {
    /// Plays a move. Returns its answer.
    pub fn play(&mut self, cast: &Cast, it: &Move) -> model::Result {
        let me = cast.tasks[it.who];
        let process = self.model.process_of(me);
        let group = self.model.find_any(me, it.args.cap(0)).map(|found| found.object);
        let named = self.model.find_any(me, it.args.cap(2)).map(|found| found.object);
        let answer = worlds::play(&mut self.model, me, it.op, &it.args)?;
        let index = it.args.target(0).index();
        match (it.op, group) {
            (Op::Expose, Ok(group)) => {
                if it.args.0[2] as u32 == EXPOSE_PER_CPU {
                    self.heads.insert((group, index), process);
                }
                let new: Vec<u32> = (0..self.model.group(group).exposures.len() as u32)
                    .filter(|index| self.model.slots.contains_key(&Place::Exposure(group, *index)))
                    .filter(|index| !self.exposed_by.contains_key(&(group, *index)))
                    .collect();
                self.exposed_by.extend(new.into_iter().map(|index| ((group, index), process)));
            }
            (Op::ProcessAccept, Ok(whose)) => {
                self.offered_to.remove(&whose);
                self.offered_to.extend(named.ok().map(|to| (whose, to)));
            }
            _ => {}
        }
        let State { model, exposed_by, heads, offered_to } = self;
        let is_live = |id: Id| !model.objects[id.0].ended;
        exposed_by.retain(|(group, index), _| model.slots.contains_key(&Place::Exposure(*group, *index)));
        heads.retain(|(group, index), _| {
            is_live(*group) && model.group(*group).exposures[*index as usize].per_cpu.is_some()
        });
        offered_to.retain(|whose, _| is_live(*whose) && model.process(*whose).offer.is_some());
        Ok(answer)
    }

    /// Returns a hash of the state. States that differ only in the slots of a CNode that hold
    /// capabilities count as equal.
    pub fn digest(&self) -> u64 {
        let slots = self.model.slots.keys().map(|place| self.digest_of(*place));
        let mut all = Digest(slots.fold(0, u64::wrapping_add));
        for (index, object) in self.model.objects.iter().enumerate() {
            if !object.ended {
                all.words(&[index as u64 | u64::from(object.dying) << 32, u64::from(object.label)]);
                all.object(&object.kind);
            }
        }
        let rules = self.model.rules.iter();
        rules.for_each(|((a, b), rule)| all.words(&[u64::from(*a) << 32 | u64::from(*b), u64::from(*rule)]));
        for (at, owner) in self.exposed_by.iter().chain(&self.heads) {
            all.words(&[at.0.0 as u64 | u64::from(at.1) << 32, owner.0 as u64]);
        }
        self.offered_to.iter().for_each(|(whose, by)| all.words(&[whose.0 as u64, by.0 as u64]));
        all.0
    }
}

impl State {
    /// Hashes a capability: what it is, in which table, and all its ancestors.
    fn digest_of(&self, place: Place) -> u64 {
        let mut all = Digest(0xcbf2_9ce4_8422_2325);
        let mut at = Some(place);
        while let Some((place, it)) = at.and_then(|place| Some((place, self.model.slots.get(&place)?))) {
            let table = match place {
                Place::Slot(table, _) => table.0 as u64,
                Place::Exposure(group, index) => 1 << 62 | (group.0 as u64) << 32 | u64::from(index),
                Place::Reader(pool) => 1 << 63 | pool.0 as u64,
                Place::Target(irq) => 3 << 62 | irq.0 as u64,
            };
            all.words(&[table, it.object.0 as u64 | u64::from(it.rights.0) << 32, it.badge]);
            at = it.parent;
        }
        all.0
    }
}

struct Digest(u64);

fn number(id: Option<Id>) -> u64 {
    id.map_or(u64::MAX, |id| id.0 as u64)
}

impl Digest {
    fn words(&mut self, words: &[u64]) {
        for word in words {
            // SplitMix64's mixing: words that are nearly equal give numbers that are not.
            let mut it = (self.0 ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            it = (it ^ it >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            it = (it ^ it >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            self.0 = it ^ it >> 31;
        }
    }

    fn object(&mut self, kind: &Kind) {
        match kind {
            Kind::Untyped(it) => self.words(&[it.low, it.high]),
            Kind::CNode(it) => self.words(&[number(it.process)]),
            Kind::VSpace(it) => {
                self.words(&[number(it.process)]);
                for (address, page) in &it.pages {
                    let what = match page {
                        Mapping::Utcb(id) => [1, id.0 as u64],
                        Mapping::Pool(id) => [2, id.0 as u64],
                        Mapping::Page { frame, number, access } => {
                            let access = match access {
                                Access::Read => 3,
                                Access::Write => 4,
                                Access::Execute => 5,
                            };
                            [access | number << 8, frame.0 as u64]
                        }
                    };
                    self.words(&[*address, what[0], what[1]]);
                }
            }
            Kind::Frame(it) => self.words(&[it.pins]),
            Kind::Process(it) => {
                let offers = u64::from(it.offer.is_some());
                self.words(&[number(it.cnode), number(it.vspace), offers, number(it.pool)]);
                it.more.iter().for_each(|id| self.words(&[id.0 as u64]));
            }
            Kind::Task(it) => {
                let state = match it.state {
                    TaskState::Fresh => 0,
                    TaskState::Ready => 1,
                    TaskState::Dead => 2,
                    _ => 3,
                };
                self.words(&[state | u64::from(it.suspended) << 8, number(it.process)]);
                self.words(&[number(it.time), number(it.bound)]);
            }
            Kind::SchedContext(it) => self.words(&[u64::from(it.priority), it.slice, number(it.owner)]),
            Kind::IrqHandler(it) => self.words(&[it.line.map_or(0, |line| line + 1)]),
            Kind::IoPort(it) => self.words(&[it.first, it.count]),
            Kind::SchedControl(it) => {
                self.words(&[it.ceiling.map_or(0, |ceiling| u64::from(ceiling) + 1), it.cpus.0[0]]);
            }
            Kind::Group(it) => {
                for member in &it.members {
                    let Some(it) = member else {
                        self.words(&[1]);
                        continue;
                    };
                    let Rights(rights) = it.rights;
                    self.words(&[it.process.0 as u64, u64::from(rights) << 16 | u64::from(it.custom)]);
                }
                for it in &it.exposures {
                    let word = |it: Option<u32>| it.map_or(0, |it| u64::from(it) + 1);
                    self.words(&[word(it.per_cpu) << 32 | word(it.watch)]);
                }
            }
            Kind::Notification(it) => self.words(&[it.bits, number(it.waiter), number(it.bound)]),
            Kind::EventPool(it) => self.words(&[number(it.process)]),
            Kind::Reply(_) | Kind::Machine => {}
        }
    }
}
