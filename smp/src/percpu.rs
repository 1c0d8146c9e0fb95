//! Per-CPU blocks, and the kernel entry that knows its CPU's block.
//!
//! A [`PerCpu`] has state that only its CPU may touch, its mailbox, state that all CPUs see, and
//! the CPU's part in the protocols of [`quiesce`] and [`shootdown`]. These protocols reach the
//! blocks through [`Cpus`].
//!
//! [`Here`] is one word that represents two proofs: the code runs on the block's CPU (a [`Pin`]),
//! and it is the mailbox's consumer. [`LocalEntry`] is an [`Entry`] made together with that word,
//! so no code has to compare the CPU with the block afterwards.

use core::marker::PhantomData;
use core::ops::Deref;
// Not the words of `sync`: see `NUMBERS`.
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use crate::cpu::{CpuId, Entry, Pin};
use crate::door::{Ref, Table};
use crate::lock::Holder;
use crate::mailbox::{Inbox, Mailbox, Node};
use crate::quiesce::{self, Epoch, GraceMail, GracePort, GraceState};
use crate::shootdown::{self, ShootMail, ShootPort, What};

/// What each CPU has one of: `own` for that CPU alone, its mailbox, and `shared` for all.
#[repr(C)]
pub struct PerCpu<O, S, P> {
    own: O,
    id: CpuId,
    /// For that CPU alone, as `own`.
    grace: GraceState,
    mailbox: Mailbox<P>,
    pub(crate) grace_port: GracePort,
    pub(crate) shoot_port: ShootPort,
    shared: S,
    /// For each CPU, what this one needs to ask it. Never changed, and read by other CPUs: so it is
    /// far from what this CPU writes all the time.
    pub(crate) pairs: Table<Pair<P>>,
}

/// What one CPU, as initiator, needs to ask another.
pub struct Pair<P> {
    pub(crate) grace: quiesce::GracePair<P>,
    pub(crate) shoot: shootdown::ShootPair<P>,
}

impl<P> Pair<P> {
    /// Makes the CPU `initiator`'s nodes for one other CPU, for the table in the initiator's block.
    pub fn new(initiator: CpuId) -> Pair<P> {
        Pair { grace: quiesce::GracePair::new(initiator), shoot: shootdown::ShootPair::new(initiator) }
    }
}

// SAFETY: `own` and `grace` are reached only through a `Pin` of the CPU `id`, which never changes;
// so one CPU at a time has access. They move to that CPU after they were made, hence `Send`.
unsafe impl<O: Send, S: Sync, P: Send> Sync for PerCpu<O, S, P> {}

impl<O, S, P> PerCpu<O, S, P> {
    /// Offset of `own`, for assembly.
    pub const OWN_OFFSET: usize = core::mem::offset_of!(PerCpu<O, S, P>, own);
    /// Offset of the CPU's number, for assembly.
    pub const ID_OFFSET: usize = core::mem::offset_of!(PerCpu<O, S, P>, id);
    /// Offset of `shared`, for assembly.
    pub const SHARED_OFFSET: usize = core::mem::offset_of!(PerCpu<O, S, P>, shared);

    /// Makes the block of a CPU. `pairs` has an element for each CPU.
    pub fn new(id: CpuId, own: O, shared: S, pairs: Table<Pair<P>>) -> PerCpu<O, S, P> {
        PerCpu {
            own,
            id,
            grace: GraceState::default(),
            mailbox: Mailbox::new(id),
            shared,
            grace_port: GracePort::default(),
            shoot_port: ShootPort::default(),
            pairs,
        }
    }

    /// Returns the CPU's mailbox, for senders.
    #[inline(always)]
    pub fn mailbox(&self) -> &Mailbox<P> {
        &self.mailbox
    }

    /// Returns the CPU's number. Reads it from the mailbox's cache line, which a CPU that asks
    /// about another CPU will write next. The CPU's own line stays with that CPU.
    #[inline(always)]
    pub const fn id(&self) -> CpuId {
        self.mailbox.owner()
    }

    /// Returns this block's view for its own CPU; `None` on another CPU.
    #[inline(always)]
    pub fn here<'k>(&'k self, pin: Pin<'k>) -> Option<Here<'k, O, S, P>> {
        (self.id == pin.cpu()).then_some(Here { this: self, _here: PhantomData })
    }

    /// Returns two numbers of this CPU's shootdowns: up to the first all are over, and the second
    /// has begun last. For surveys.
    pub fn shootdowns(&self) -> (u64, u64) {
        self.shoot_port.numbers()
    }

    /// Returns the nodes with which this block's CPU asks the CPU `at`.
    pub(crate) fn pair<'a>(&self, pin: Pin<'a>, at: CpuId) -> Ref<'a, Pair<P>> {
        self.pairs.get(pin, at.index()).unwrap_or_else(|| no_pair(self.id, at))
    }
}

#[cold]
#[inline(never)]
fn no_pair(by: CpuId, at: CpuId) -> ! {
    panic!("{by:?} has no pair for {at:?}");
}

impl<O, S, P> Deref for PerCpu<O, S, P> {
    type Target = S;
    #[inline(always)]
    fn deref(&self) -> &S {
        &self.shared
    }
}

/// For reports: where the number of the first CPU stands, how far the next one's is from there, and
/// how many there are. Of the blocks that were made last; no loom's words, since no protocol has
/// them.
static NUMBERS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Returns the CPU whose number is stored at an address, if one is.
pub(crate) fn cpu_at(address: u64) -> Option<CpuId> {
    let [first, stride, count] = [0, 1, 2].map(|index: usize| NUMBERS[index].load(Relaxed));
    let offset = address.checked_sub(first).filter(|offset| offset.checked_rem(stride) == Some(0))?;
    let number = offset / stride;
    if number < count { CpuId::new(number as usize) } else { None }
}

/// The blocks of all CPUs of a machine, each at its number, and their count of grace rounds.
pub struct All<O, S, P> {
    blocks: Table<PerCpu<O, S, P>>,
    pub epoch: Epoch,
}

impl<O, S, P> All<O, S, P> {
    /// # Safety
    /// Every CPU that has kernel entries in which objects of this machine are used has its block in
    /// `blocks`, at its number, and its entries are of that block.
    pub unsafe fn new(blocks: Table<PerCpu<O, S, P>>) -> All<O, S, P> {
        let first = blocks.addr() + Self::ID_OFFSET as u64;
        for (word, value) in NUMBERS.iter().zip([first, Self::STRIDE, blocks.len() as u64]) {
            word.store(value, Relaxed);
        }
        All { blocks, epoch: Epoch::new() }
    }

    const ID_OFFSET: usize = PerCpu::<O, S, P>::ID_OFFSET;
    const STRIDE: u64 = size_of::<PerCpu<O, S, P>>() as u64;

    /// Returns the block of a CPU; panics if that CPU does not exist.
    #[inline]
    pub fn block<'a>(&'a self, pin: Pin<'a>, cpu: CpuId) -> &'a PerCpu<O, S, P> {
        match self.blocks.get(pin, cpu.index()) {
            Some(block) => block.get(),
            None => no_block(cpu),
        }
    }

    /// Returns the grace state of the CPU on which the caller runs.
    pub(crate) fn grace<'a>(&'a self, pin: Pin<'a>) -> &'a GraceState {
        &self.block(pin, pin.cpu()).grace
    }
}

impl<O, S, P> Deref for All<O, S, P> {
    type Target = Table<PerCpu<O, S, P>>;
    #[inline(always)]
    fn deref(&self) -> &Table<PerCpu<O, S, P>> {
        &self.blocks
    }
}

/// A kernel, as far as the protocols between its CPUs need it.
///
/// Code that implements this cannot show a protocol only some of the CPUs: [`All::new`] promises
/// that none is missing, and that there are no other blocks of the same CPUs.
pub trait Cpus {
    type Own;
    type Shared;
    /// What mailboxes carry.
    type Mail: Send + From<GraceMail> + From<(ShootMail, What)>;

    fn all(&self) -> &All<Self::Own, Self::Shared, Self::Mail>;
    /// Interrupts a CPU, so that it looks into its mailbox.
    fn interrupt(&self, cpu: CpuId);
    /// Returns the rank of what this entry sends to a CPU.
    fn rank(&self, _pin: Pin<'_>, _to: CpuId) -> u32 {
        0
    }
    /// Returns the rank of a round of grace that begins on this CPU.
    fn rank_of_round(&self, _pin: Pin<'_>) -> u32 {
        0
    }
}

/// The block of one CPU of a kernel.
pub(crate) type BlockOf<C> = PerCpu<<C as Cpus>::Own, <C as Cpus>::Shared, <C as Cpus>::Mail>;

/// Pushes a node of this CPU into the mailbox of `to`, and interrupts that CPU if necessary. `rank`
/// is called only where the rank is needed.
#[inline(always)]
pub(crate) fn send<C: Cpus>(
    cpus: &C,
    pin: Pin<'_>,
    node: Ref<'_, Node<C::Mail>>,
    mail: C::Mail,
    to: CpuId,
    rank: impl FnOnce() -> u32,
) {
    let mailbox = cpus.all().block(pin, to).mailbox();
    if mailbox.push_ranked(pin, node, mail, rank).is_needed() {
        cpus.interrupt(to);
    }
}

/// Announces that a message in the mailbox of `to` has a higher rank now, and interrupts that CPU
/// if necessary.
pub(crate) fn announce_risen<C: Cpus>(cpus: &C, pin: Pin<'_>, to: CpuId, rank: u32) {
    if cpus.all().block(pin, to).mailbox().announce_risen(rank).is_needed() {
        cpus.interrupt(to);
    }
}

#[cold]
fn no_block(cpu: CpuId) -> ! {
    panic!("no block for {cpu:?}")
}

/// A [`PerCpu`] of the CPU that runs this entry, and a [`Pin`] of that entry: both in one word.
pub struct Here<'k, O, S, P> {
    this: &'k PerCpu<O, S, P>,
    _here: PhantomData<*const ()>,
}

impl<O, S, P> Clone for Here<'_, O, S, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<O, S, P> Copy for Here<'_, O, S, P> {}

impl<'k, O, S, P> Here<'k, O, S, P> {
    #[inline(always)]
    pub fn pin(self) -> Pin<'k> {
        // SAFETY: a `Here` is made for the CPU `id` only, from a pin or an entry that it is bound
        // to.
        unsafe { Pin::new(self.this.id) }
    }

    /// Returns this CPU in the form of a lock's holder.
    #[inline(always)]
    pub fn holder(self) -> Holder {
        Holder::in_block(&self.this.id)
    }

    /// Returns this CPU's end of its mailbox.
    #[inline(always)]
    pub fn inbox(self) -> Inbox<'k, P> {
        Inbox::new(&self.this.mailbox)
    }

    #[inline(always)]
    pub fn own(self) -> &'k O {
        &self.this.own
    }

    #[inline(always)]
    pub fn shared(self) -> &'k S {
        &self.this.shared
    }

    #[inline(always)]
    pub fn grace(self) -> &'k GraceState {
        &self.this.grace
    }
}

impl<O, S, P> Deref for Here<'_, O, S, P> {
    type Target = S;
    #[inline(always)]
    fn deref(&self) -> &S {
        &self.this.shared
    }
}

/// An [`Entry`] on the CPU of a [`PerCpu`], which it knows without looking.
pub struct LocalEntry<O: 'static, S: 'static, P: 'static> {
    entry: Entry,
    block: &'static PerCpu<O, S, P>,
}

impl<O, S, P> LocalEntry<O, S, P> {
    /// # Safety
    /// As [`Entry::new`], for the CPU whose `block` is.
    #[inline(always)]
    pub const unsafe fn new(block: &'static PerCpu<O, S, P>) -> LocalEntry<O, S, P> {
        // SAFETY: the caller's promise.
        LocalEntry { entry: unsafe { Entry::new(block.id) }, block }
    }

    /// Returns the CPU's own view for one step of the entry, like [`Entry::pin`].
    #[inline(always)]
    pub fn here(&self) -> Here<'_, O, S, P> {
        Here { this: self.block, _here: PhantomData }
    }

    #[inline(always)]
    pub fn block(&self) -> &'static PerCpu<O, S, P> {
        self.block
    }

    /// Gives up everything that was loaded in this entry so far: for a quiescent point.
    #[inline(always)]
    pub fn quiescent(&mut self) -> &mut Entry {
        &mut self.entry
    }
}
