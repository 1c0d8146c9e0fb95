//! Finds the record of an address: tables of records, and a list of all memory in order of
//! addresses.

use snapshot::{ExtentKind, SlotUse};

use crate::gather::Snapshot;

/// From addresses to numbers, by open addressing. Clearing costs nothing.
#[derive(Default)]
pub struct AddressTable {
    places: Vec<Place>,
    /// Places of this round are full.
    round: u32,
    shift: u32,
}

#[derive(Clone, Copy, Default)]
struct Place {
    address: u64,
    value: u32,
    round: u32,
}

impl AddressTable {
    /// Empties the table, and makes room for `count` addresses.
    fn begin(&mut self, count: usize) {
        let size = (2 * count).next_power_of_two().max(64);
        if size > self.places.len() || self.round == u32::MAX {
            self.places.clear();
            self.places.resize(size, Place::default());
            self.shift = u64::BITS - size.trailing_zeros();
            self.round = 0;
        }
        self.round += 1;
    }

    #[inline]
    fn place(&self, address: u64) -> usize {
        let mask = self.places.len() - 1;
        let mut at = (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        // Half of the table stays empty.
        loop {
            let place = &self.places[at & mask];
            if place.round != self.round || place.address == address {
                return at & mask;
            }
            at += 1;
        }
    }

    /// Adds an address with its value, unless the table has the address.
    #[inline]
    fn enter(&mut self, address: u64, value: usize) {
        let at = self.place(address);
        let place = &mut self.places[at];
        if place.round != self.round {
            *place = Place { address, value: value as u32, round: self.round };
        }
    }

    /// Returns the value that was entered for an address.
    #[inline]
    pub fn get(&self, address: u64) -> Option<usize> {
        let place = self.places.get(self.place_if_any(address)?)?;
        (place.round == self.round && place.address == address).then_some(place.value as usize)
    }

    fn place_if_any(&self, address: u64) -> Option<usize> {
        if self.places.is_empty() { None } else { Some(self.place(address)) }
    }
}

/// What a reference can name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// An Untyped.
    Untyped = abi::ObjType::Untyped as u8,
    /// A table of slots.
    CNode = abi::ObjType::CNode as u8,
    /// An address space.
    VSpace = abi::ObjType::VSpace as u8,
    /// A Frame.
    Frame = abi::ObjType::Frame as u8,
    /// A process.
    Process = abi::ObjType::Process as u8,
    /// A task.
    Task = abi::ObjType::Task as u8,
    /// A SchedContext.
    Context = abi::ObjType::SchedContext as u8,
    /// A group.
    Group = abi::ObjType::Group as u8,
    /// A Notification.
    Notification = abi::ObjType::Notification as u8,
    /// A Reply.
    Reply = abi::ObjType::Reply as u8,
    /// The machine.
    Machine = abi::ObjType::Machine as u8,
    /// An event pool.
    Pool = abi::ObjType::EventPool as u8,
    /// A SchedControl.
    Control = abi::ObjType::SchedControl as u8,
    /// The interrupt of a device.
    Irq = abi::ObjType::IrqHandler as u8,
    /// A range of I/O ports.
    Port = abi::ObjType::IoPort as u8,
    /// A capability slot that is full.
    Slot = 32,
    /// A place in a process's list of memberships.
    Member = 33,
}

impl Kind {
    const ALL: [Kind; 17] = [
        Kind::Untyped,
        Kind::CNode,
        Kind::VSpace,
        Kind::Frame,
        Kind::Process,
        Kind::Task,
        Kind::Context,
        Kind::Group,
        Kind::Notification,
        Kind::Reply,
        Kind::Machine,
        Kind::Pool,
        Kind::Control,
        Kind::Irq,
        Kind::Port,
        Kind::Slot,
        Kind::Member,
    ];

    /// Returns the kind with the number of an object type.
    pub fn from_raw(raw: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == raw)
    }
}

const KIND_SHIFT: u32 = 26;

/// A piece of memory that something uses.
#[derive(Clone, Copy, Default, Debug)]
pub struct Piece {
    /// The first byte.
    pub start: u64,
    /// The byte behind the last.
    pub end: u64,
    /// The object.
    pub object: u64,
    /// What it is for.
    pub kind: ExtentKind,
    /// One more than the number of the Untyped in whose memory it is; 0: it is in none.
    pub inside: u32,
    /// Its number among the extents.
    pub number: u32,
}

/// Finds records by addresses.
pub struct Index {
    objects: AddressTable,
    /// For each kind, how many records of other kinds come before its first, if all are put in a
    /// row.
    before: [usize; Kind::Member as usize + 1],
    /// How many records there are in that row.
    pub count: usize,
    /// Infos by page.
    pub infos: AddressTable,
    /// Entries by where they are.
    pub entries: AddressTable,
    /// Page tables by where they are.
    pub tables: AddressTable,
    /// All pieces of memory, in order. Of two that begin together the larger comes first.
    pub pieces: Vec<Piece>,
    open: Vec<usize>,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            objects: AddressTable::default(),
            before: [0; Kind::Member as usize + 1],
            count: 0,
            infos: AddressTable::default(),
            entries: AddressTable::default(),
            tables: AddressTable::default(),
            pieces: Vec::new(),
            open: Vec::new(),
        }
    }
}

impl Index {
    /// Fills the index from a snapshot.
    pub fn build(&mut self, s: &Snapshot) {
        let counts = [s.untypeds.len(), s.cnodes.len(), s.vspaces.len(), s.frames.len(), s.processes.len()];
        let more = [s.tasks.len(), s.contexts.len(), s.groups.len(), s.notifications.len(), s.replies.len()];
        let rest = [s.controls.len(), s.machines.len(), s.pools.len(), s.slots.len(), s.members.len()];
        let devices = [s.irqs.len(), s.ports.len()];
        self.objects.begin(counts.iter().chain(&more).chain(&rest).chain(&devices).sum());
        self.count = 0;
        macro_rules! enter {
            ($($list:ident = $kind:ident;)*) => {
                $(
                    self.before[Kind::$kind as usize] = self.count;
                    self.count += s.$list.len();
                    for (number, record) in s.$list.iter().enumerate() {
                        self.objects.enter(record.at, (Kind::$kind as usize) << KIND_SHIFT | number);
                    }
                )*
            };
        }
        enter! {
            untypeds = Untyped;
            cnodes = CNode;
            vspaces = VSpace;
            frames = Frame;
            processes = Process;
            tasks = Task;
            contexts = Context;
            groups = Group;
            notifications = Notification;
            replies = Reply;
            machines = Machine;
            pools = Pool;
            controls = Control;
            irqs = Irq;
            ports = Port;
            members = Member;
        }
        for (number, slot) in s.slots.iter().enumerate().filter(|(_, slot)| slot.used == SlotUse::Full) {
            self.objects.enter(slot.at, (Kind::Slot as usize) << KIND_SHIFT | number);
        }
        self.infos.begin(s.infos.len());
        s.infos.iter().enumerate().for_each(|(number, info)| self.infos.enter(info.at, number));
        self.entries.begin(s.entries.len());
        s.entries.iter().enumerate().for_each(|(number, entry)| self.entries.enter(entry.at, number));
        self.tables.begin(s.tables.len());
        s.tables.iter().enumerate().for_each(|(number, table)| self.tables.enter(table.at, number));
        self.sort(s);
    }

    /// Returns the kind of the object at an address, and its number in the snapshot's list of that
    /// kind.
    #[inline]
    pub fn at(&self, address: u64) -> Option<(u8, usize)> {
        let value = self.objects.get(address)?;
        Some(((value >> KIND_SHIFT) as u8, value & ((1 << KIND_SHIFT) - 1)))
    }

    /// Returns the number of the object at an address among the objects of all kinds.
    pub fn place(&self, address: u64) -> Option<usize> {
        let (kind, number) = self.at(address)?;
        Some(self.before.get(kind as usize)? + number)
    }

    /// Sorts the pieces of memory by address, and finds the Untyped that each piece is in.
    fn sort(&mut self, s: &Snapshot) {
        self.pieces.clear();
        self.pieces.extend((0..).zip(&s.extents).map(|(number, extent)| Piece {
            start: extent.at,
            end: extent.at.saturating_add(extent.bytes),
            object: extent.object,
            kind: extent.kind,
            inside: 0,
            number,
        }));
        self.pieces.sort_unstable_by_key(|piece| {
            (piece.start, u64::MAX - piece.end, piece.kind != ExtentKind::Untyped, piece.number)
        });
        self.open.clear();
        for at in 0..self.pieces.len() {
            let start = self.pieces[at].start;
            while self.open.last().is_some_and(|open| self.pieces[*open].end <= start) {
                self.open.pop();
            }
            let around = self.open.last().map(|open| self.pieces[*open].object);
            let untyped =
                around.and_then(|object| self.at(object)).filter(|(kind, _)| *kind == Kind::Untyped as u8);
            self.pieces[at].inside = untyped.map_or(0, |(_, number)| number as u32 + 1);
            if self.pieces[at].kind == ExtentKind::Untyped {
                self.open.push(at);
            }
        }
    }

    /// Returns the piece of memory around an address that is no Untyped's memory, and the number of
    /// the Untyped in whose memory the address is.
    pub fn memory(&self, address: u64) -> (Option<&Piece>, Option<usize>) {
        let behind = self.pieces.partition_point(|piece| piece.start <= address);
        let (mut piece, mut untyped) = (None, None);
        for at in (0..behind).rev() {
            let candidate = &self.pieces[at];
            let holds = candidate.end > address;
            if candidate.kind != ExtentKind::Untyped {
                if holds && piece.is_none() {
                    piece = Some(candidate);
                }
                continue;
            }
            if holds {
                untyped = self.at(candidate.object).filter(|(kind, _)| *kind == Kind::Untyped as u8);
                break;
            }
        }
        (piece, untyped.map(|(_, number)| number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapshot::{Extent, Untyped};

    #[test]
    fn addresses_are_found_and_forgotten() {
        let mut table = AddressTable::default();
        assert_eq!(table.get(7), None);
        for round in 0..3 {
            table.begin(1000);
            assert_eq!(table.get(64), None, "round {round}");
            (0..1000).for_each(|n| table.enter(n as u64 * 64, n));
            assert!((0..1000).all(|n| table.get(n as u64 * 64) == Some(n)));
            assert_eq!(table.get(63), None);
        }
    }

    #[test]
    fn memory_is_found_with_its_untyped() {
        let untyped = |at, base, size| Untyped { at, base, size, ..Untyped::default() };
        let extent = |at, bytes, object, kind| Extent { at, bytes, object, kind };
        let s = Snapshot {
            untypeds: vec![untyped(1, 0x1000, 0x4000), untyped(2, 0x2000, 0x1000)],
            extents: vec![
                extent(0x2040, 0x40, 9, ExtentKind::Object),
                extent(0x2000, 0x1000, 2, ExtentKind::Untyped),
                extent(0x1000, 0x4000, 1, ExtentKind::Untyped),
                extent(0x4000, 0x80, 8, ExtentKind::Object),
            ],
            ..Snapshot::default()
        };
        let mut index = Index::default();
        index.build(&s);
        let found = |at| {
            let (piece, untyped) = index.memory(at);
            (piece.map(|piece| piece.object), untyped)
        };
        assert_eq!(found(0x2050), (Some(9), Some(1)));
        assert_eq!(found(0x2090), (None, Some(1)));
        assert_eq!(found(0x4000), (Some(8), Some(0)));
        assert_eq!(found(0x3000), (None, Some(0)));
        assert_eq!(found(0x5000), (None, None));
        let inside: Vec<u32> = index.pieces.iter().map(|piece| piece.inside).collect();
        assert_eq!(inside, [0, 1, 2, 1]);
    }
}
