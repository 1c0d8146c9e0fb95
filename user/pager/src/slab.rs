//! Numbered records: a number is not given to another record while a reference to the old one may
//! still exist.

use alloc::vec::Vec;
use core::marker::PhantomData;

/// Number of a `T`: its place, and how often that was used before.
pub struct Id<T> {
    place: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Id<T> {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Id<T>) -> bool {
        (self.place, self.generation) == (other.place, other.generation)
    }
}

impl<T> Eq for Id<T> {}

impl<T> core::fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.place, self.generation)
    }
}

impl<T> Id<T> {
    pub fn raw(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }

    /// Returns the number of the place in the slab, without the generation.
    pub fn place(self) -> u32 {
        self.place
    }

    pub fn from_raw(raw: u64) -> Id<T> {
        Id { place: raw as u32, generation: (raw >> 32) as u32, of: PhantomData }
    }
}

struct Place<T> {
    generation: u32,
    value: Option<T>,
}

pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    /// Bytes for each thing: its place, and the number of that when it is free.
    pub const PLACE: usize = size_of::<Place<T>>() + size_of::<u32>();

    /// Makes a slab with room for `count` values: its memory does not move as long as it has no
    /// more.
    pub fn with_room(count: u32) -> Slab<T> {
        Slab { places: Vec::with_capacity(count as usize), free: Vec::with_capacity(count as usize) }
    }

    pub fn add(&mut self, value: T) -> Id<T> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, value: None });
            self.places.len() as u32 - 1
        });
        let at = &mut self.places[place as usize];
        at.value = Some(value);
        Id { place, generation: at.generation, of: PhantomData }
    }

    pub fn get(&self, id: Id<T>) -> Option<&T> {
        self.places.get(id.place as usize).filter(|at| at.generation == id.generation)?.value.as_ref()
    }

    /// Returns the id of the value at a place, if there is one.
    pub fn at(&self, place: u32) -> Option<Id<T>> {
        let at = self.places.get(place as usize).filter(|at| at.value.is_some())?;
        Some(Id { place, generation: at.generation, of: PhantomData })
    }

    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        self.places.get_mut(id.place as usize).filter(|at| at.generation == id.generation)?.value.as_mut()
    }

    /// Removes the value with this id, and returns it. A place whose generations are used up is not
    /// used again.
    pub fn remove(&mut self, id: Id<T>) -> Option<T> {
        let at = self.places.get_mut(id.place as usize).filter(|at| at.generation == id.generation)?;
        let value = at.value.take()?;
        if let Some(next) = at.generation.checked_add(1) {
            at.generation = next;
            self.free.push(id.place);
        }
        Some(value)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter_map(|at| at.value.as_mut())
    }

    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        self.places.iter().zip(0..).filter_map(|(at, place)| {
            let id = Id { place, generation: at.generation, of: PhantomData };
            Some((id, at.value.as_ref()?))
        })
    }
}

/// What an [`Id`] of something known to be there leads to.
impl<T> core::ops::Index<Id<T>> for Slab<T> {
    type Output = T;

    fn index(&self, id: Id<T>) -> &T {
        self.get(id).expect("a number of something that is there")
    }
}

impl<T> core::ops::IndexMut<Id<T>> for Slab<T> {
    fn index_mut(&mut self, id: Id<T>) -> &mut T {
        self.get_mut(id).expect("a number of something that is there")
    }
}
