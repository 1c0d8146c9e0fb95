//! State that has a home CPU, and how it moves to another CPU.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::Deref;

use super::{Ref, Table};
use crate::chaos::{self, Point};
use crate::cpu::{CpuId, MAX_CPUS, Pin};
use crate::sync::{AtomicU32, Ordering, const_unless_loom};

/// State that only its home CPU reads and writes. Any CPU may read which CPU that is.
///
/// # How state gets another home
/// * With a message block, as CPU time does: the sender stores the new home
///   ([`Held::hand_to_with`]).
/// * Under way, as a task does with all that is bound to it. The old home gives each part up
///   ([`Held::leave_for`]) and sends the new home one message; the new home takes each part over
///   when it gets that message ([`Homed::arrive`]). In between no CPU can open any of the parts.
///   Mail about a part goes to its old home, which sends it on ([`Homed::mail_target`]). In a
///   mailbox, nothing overtakes that message, so this mail comes behind it.
/// * By a claim, as a Reply does that keeps no call. Its home leaves it *unclaimed*
///   ([`Held::unclaim`]), and the next CPU that needs it makes itself the home ([`Homed::claim`]).
///   If several try, one succeeds. Mail about it goes to the last home.
#[repr(C)]
pub struct Homed<T> {
    /// The number of the home CPU. While the state is under way, the upper half has the number of
    /// the new home, plus one; while it is unclaimed, the bit [`UNCLAIMED`] is set. Then the word
    /// equals no CPU's number.
    home: AtomicU32,
    value: T,
}

/// Where the new home of state that is under way stands.
const TO_SHIFT: u32 = 16;
const CPU_MASK: u32 = MAX_CPUS as u32 - 1;
const UNCLAIMED: u32 = 1 << (TO_SHIFT - 1);
const _: () = assert!(MAX_CPUS.is_power_of_two() && MAX_CPUS <= UNCLAIMED as usize);

/// Returns the CPU whose number is in the low bits of `word`.
fn cpu_of(word: u32) -> CpuId {
    match CpuId::new((word & CPU_MASK) as usize) {
        Some(cpu) => cpu,
        None => CpuId::BOOT,
    }
}

// SAFETY: `value` is reached only through `open`, which compares the opener's CPU with the home
// word, so at any time one CPU at most has access. The word is atomic, and only the home changes
// it, which then uses the value no more (rule 4). While it names no home, the CPU changes it to
// which the state is under way, or one CPU that claims it, by a compare-and-exchange. Each change
// by a home is a `Release` that the new home `Acquire`s, in `open`, `arrive` or `claim`. The value
// moves from CPU to CPU, hence `Send`.
unsafe impl<T: Send> Sync for Homed<T> {}

impl<T> Homed<T> {
    const_unless_loom! {
        pub fn new(home: CpuId, value: T) -> Homed<T> {
            Homed { home: AtomicU32::new(home.raw()), value }
        }
    }

    const_unless_loom! {
        /// Makes unclaimed state, whose last home counts as `home`.
        pub fn unclaimed(home: CpuId, value: T) -> Homed<T> {
            Homed { home: AtomicU32::new(home.raw() | UNCLAIMED), value }
        }
    }

    /// Offset of the home's number, for assembly that makes the check itself.
    pub const HOME_OFFSET: usize = core::mem::offset_of!(Homed<T>, home);
    /// Offset of the inside, for assembly that has made it.
    pub const VALUE_OFFSET: usize = core::mem::offset_of!(Homed<T>, value);

    /// Returns the CPU that owns the state, or will when a message with it arrives there. For state
    /// that is under way, the old home; for unclaimed state, the last one. On another CPU the
    /// answer may be stale by the time it is used.
    #[inline(always)]
    pub fn home(&self) -> CpuId {
        cpu_of(self.home.load(Ordering::Relaxed))
    }

    /// Returns the CPU to which this CPU sends mail about the state: its home. The old home of
    /// state that is under way sends to the new home. So the answer is this CPU only if this CPU
    /// can open the state, or claim it.
    #[inline(always)]
    pub fn mail_target(&self, pin: Pin<'_>) -> CpuId {
        let word = self.home.load(Ordering::Relaxed);
        let home = cpu_of(word);
        if home == pin.cpu() { Self::end_of_way(word) } else { home }
    }

    /// Returns the state's home, or the next home of state that is under way.
    pub fn destination(&self) -> CpuId {
        Self::end_of_way(self.home.load(Ordering::Relaxed))
    }

    fn end_of_way(word: u32) -> CpuId {
        match word >> TO_SHIFT {
            0 => cpu_of(word),
            to => cpu_of(to - 1),
        }
    }

    /// Whether the state is under way, so that no CPU can open it.
    pub fn is_under_way(&self) -> bool {
        self.home.load(Ordering::Relaxed) >> TO_SHIFT != 0
    }

    /// Returns the state, whichever CPU owns it.
    /// Requires: the owner does nothing, as `crate::host_test` and [`crate::standstill`] ensure.
    pub(crate) const fn value(&self) -> &T {
        &self.value
    }

    /// Returns the element of the state's home CPU in a table that has one for each CPU; `None` for
    /// state that is under way or unclaimed.
    #[inline(always)]
    pub fn at_home<'k, U>(&self, pin: Pin<'k>, table: &Table<U>) -> Option<Ref<'k, U>> {
        table.get(pin, self.home.load(Ordering::Relaxed) as usize)
    }

    /// Opens the state, on the home CPU; `None` elsewhere: then send a message.
    ///
    /// `Acquire`, which costs nothing on x86: a new home that opens before the message with the
    /// state has come sees what the old one wrote before [`Held::hand_to_with`].
    #[inline(always)]
    pub fn open<'a>(&'a self, pin: Pin<'a>) -> Option<&'a T> {
        (self.home.load(Ordering::Acquire) == pin.cpu().raw()).then_some(&self.value)
    }

    /// Opens the state if the caller knows that this CPU is its home; panics if that is wrong.
    #[inline(always)]
    pub fn here<'a>(&'a self, pin: Pin<'a>) -> &'a T {
        match self.open(pin) {
            Some(value) => value,
            None => self.not_here(pin),
        }
    }

    #[cold]
    #[inline(never)]
    fn not_here(&self, pin: Pin<'_>) -> ! {
        let (home, to) = (self.home(), self.destination());
        panic!(
            "{:?} opened or moved state whose home is {home:?}, or which is under way to {to:?}",
            pin.cpu()
        );
    }

    /// Makes this CPU the home of state that is under way to it.
    ///
    /// Returns: whether the state was under way to this CPU.
    ///
    /// Ordering: this CPU sees what the old home wrote before [`Held::leave_for`].
    pub fn arrive(&self, pin: Pin<'_>) -> bool {
        let here = pin.cpu();
        let arrives = self.home.load(Ordering::Acquire) >> TO_SHIFT == here.raw() + 1;
        if arrives {
            self.home.store(here.raw(), Ordering::Release);
            chaos::point(Point::HomeSet);
        }
        arrives
    }

    /// Returns whether the state has no home, so that any CPU can claim it.
    pub fn is_unclaimed(&self) -> bool {
        self.home.load(Ordering::Relaxed) & UNCLAIMED != 0
    }

    /// Makes this CPU the home of unclaimed state, and opens it.
    ///
    /// Returns: `None` if the state has a home. If several CPUs claim it, that is so for all but
    /// one.
    ///
    /// Ordering: this CPU sees what the last home wrote before [`Held::unclaim`].
    pub fn claim<'a>(&'a self, pin: Pin<'a>) -> Option<&'a T> {
        let (word, here) = (self.home.load(Ordering::Relaxed), pin.cpu().raw());
        if word & UNCLAIMED == 0 {
            return None;
        }
        self.home.compare_exchange(word, here, Ordering::Acquire, Ordering::Relaxed).ok()?;
        chaos::point(Point::HomeSet);
        Some(&self.value)
    }
}

/// State that the CPU which owns it may send to another CPU whenever it likes. A part that travels
/// on its own is not: only its [holder](HeldOf) sends it.
pub trait Sendable {}

impl<T> Sendable for Cell<T> {}
#[cfg(loom)]
impl<T> Sendable for loom::cell::Cell<T> {}
impl Sendable for () {}

impl<T: Sendable> Homed<T> {
    /// Opens the state, on its home CPU, for a caller that may send it to another CPU; `None`
    /// elsewhere.
    #[inline(always)]
    pub fn hold<'a>(&'a self, pin: Pin<'a>) -> Option<Held<'a, T>> {
        self.open(pin).map(|_| Held(self, PhantomData))
    }

    /// Opens the state as [`Homed::hold`] does, for a caller that knows that this CPU is its home.
    /// Panics if that is wrong.
    #[inline(always)]
    pub fn hold_here<'a>(&'a self, pin: Pin<'a>) -> Held<'a, T> {
        self.here(pin);
        Held(self, PhantomData)
    }
}

/// An object that has a part with a home.
pub trait HasHomed<S>: Sized {
    /// What only the code has that may [hold](HeldOf) the part.
    type Key;

    /// Returns the object's part that has a home: for one object always the same part.
    fn homed(&self) -> &Homed<S>;
}

/// An object whose part of type `S` this CPU has opened: one word for both.
pub struct Opened<'k, O, S>(Ref<'k, O>, PhantomData<*const S>);

impl<O, S> Clone for Opened<'_, O, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O, S> Copy for Opened<'_, O, S> {}

impl<'k, O: HasHomed<S>, S: 'k> Opened<'k, O, S> {
    /// Opens the object's part, on the part's home CPU; `None` elsewhere.
    #[inline(always)]
    pub fn open(object: Ref<'k, O>, pin: Pin<'k>) -> Option<Self> {
        object.get().homed().open(pin).map(|_| Opened(object, PhantomData))
    }

    /// Opens the object's part for a caller that knows that this CPU is its home. Panics if that is
    /// wrong.
    #[inline(always)]
    pub fn here(object: Ref<'k, O>, pin: Pin<'k>) -> Self {
        let _ = object.get().homed().here(pin);
        Opened(object, PhantomData)
    }

    #[inline(always)]
    pub fn object(self) -> Ref<'k, O> {
        self.0
    }

    /// Returns the object, of which all CPUs may see the other parts.
    #[inline(always)]
    pub fn get(self) -> &'k O {
        self.0.get()
    }

    /// Returns the object's part that this CPU has opened.
    #[inline(always)]
    pub fn part(self) -> &'k S {
        &self.0.get().homed().value
    }
}

impl<'k, O: HasHomed<S>, S: 'k> Deref for Opened<'k, O, S> {
    type Target = S;
    #[inline(always)]
    fn deref(&self) -> &S {
        self.part()
    }
}

/// An object whose part of type `S` this CPU holds: one word, as [`Held`] is, that also names the
/// object.
pub struct HeldOf<'k, O, S>(Ref<'k, O>, PhantomData<*const S>);

impl<'k, O: HasHomed<S>, S> HeldOf<'k, O, S> {
    /// Holds the object's part for a caller that knows that this CPU is its home. Panics if that is
    /// wrong.
    #[inline(always)]
    pub fn here(object: Ref<'k, O>, pin: Pin<'k>, _: O::Key) -> Self {
        let _ = object.get().homed().here(pin);
        HeldOf(object, PhantomData)
    }

    #[inline(always)]
    pub fn object(&self) -> Ref<'k, O> {
        self.0
    }

    /// Returns the guard that can send the part to another CPU.
    #[inline(always)]
    pub fn held(self) -> Held<'k, S> {
        Held(self.0.get().homed(), PhantomData)
    }
}

impl<O: HasHomed<S>, S> Deref for HeldOf<'_, O, S> {
    type Target = S;
    #[inline(always)]
    fn deref(&self) -> &S {
        &self.0.get().homed().value
    }
}

/// The inside of a [`Homed`], held by its home CPU, which may make another CPU its home. Whatever
/// else that CPU had opened of it is given up with it (rule 4). It stays on that CPU.
pub struct Held<'k, T>(&'k Homed<T>, PhantomData<*const ()>);

impl<T> Deref for Held<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Held<'_, T> {
    /// Makes `to` the home of this state, and then of `referred`, to which the state refers. So
    /// `referred`'s owner can always open this state and take the reference out.
    #[inline(always)]
    pub fn hand_to_with<U>(self, referred: Option<Held<'_, U>>, to: CpuId) {
        self.0.home.store(to.raw(), Ordering::Release);
        chaos::point(Point::HomeSet);
        if let Some(referred) = referred {
            referred.0.home.store(to.raw(), Ordering::Release);
        }
    }

    /// Gives the state up: from here on it is under way to another CPU, which [takes it
    /// over](Homed::arrive). The caller sends that CPU a message in this entry, and no other mail
    /// about the state before that message.
    pub fn leave_for(self, to: CpuId) {
        let home = self.0.home.load(Ordering::Relaxed) & CPU_MASK;
        self.0.home.store(home | (to.raw() + 1) << TO_SHIFT, Ordering::Release);
        chaos::point(Point::HomeLeft);
    }

    /// Gives the state up: from here on it has no home, until a CPU [claims](Homed::claim) it.
    pub fn unclaim(self) {
        let home = self.0.home.load(Ordering::Relaxed) & CPU_MASK;
        self.0.home.store(home | UNCLAIMED, Ordering::Release);
    }
}
