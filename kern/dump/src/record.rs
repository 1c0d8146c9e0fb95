//! Converts kernel state to the fields of records, by type.

use core::cell::Cell;

use abi::{MsgInfo, TaskId};
use kern_base::machine::Machine;
use kern_base::phys::Phys;
use kern_base::task::{Ending, Outcome, Stage, State};
use smp::cpu::CpuId;
use smp::door::{AtomicLink, Link, Ref};
use smp::sync::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use snapshot::{MailKind, RequestKind, SlotUse, Word};

/// Kernel state that a field of a record can show.
pub trait Shown {
    /// Returns the state as a word of a record. References become physical addresses, or 0.
    fn shown(&self, machine: &impl Machine) -> u64;
}

/// Returns the value of a field that shows kernel state.
pub fn field<W: Word>(state: &impl Shown, machine: &impl Machine) -> W {
    W::from_word(state.shown(machine))
}

/// Returns an object's physical address, as records have it: 0 for none.
pub fn address(machine: &impl Machine, addr: u64) -> u64 {
    if addr == 0 { 0 } else { machine.phys(addr).0 }
}

macro_rules! shown {
    ($($($type:ty),* => |$state:ident| $word:expr;)*) => {
        $($(
            impl Shown for $type {
                fn shown(&self, _machine: &impl Machine) -> u64 {
                    let $state = self;
                    $word
                }
            }
        )*)*
    };
}

shown! {
    u64 => |value| *value;
    u8, u16, u32, usize, bool, State, Stage, SlotUse, RequestKind, MailKind => |value| *value as u64;
    AtomicU64 => |value| value.load(Ordering::Relaxed);
    AtomicBool, AtomicU16, AtomicU32 => |value| value.load(Ordering::Relaxed).into();
    Ending, Outcome => |how| how.number().into();
    CpuId => |cpu| cpu.index() as u64;
    MsgInfo, Phys => |word| word.0;
    TaskId => |id| id.raw();
}

impl<T: Copy + Shown> Shown for Cell<T> {
    fn shown(&self, machine: &impl Machine) -> u64 {
        self.get().shown(machine)
    }
}

macro_rules! references {
    ($($reference:ty),*) => {
        $(
            impl<T> Shown for $reference {
                fn shown(&self, machine: &impl Machine) -> u64 {
                    address(machine, self.addr())
                }
            }
        )*
    };
}

impl<T> Shown for Option<Ref<'_, T>> {
    fn shown(&self, machine: &impl Machine) -> u64 {
        address(machine, self.map_or(0, Ref::addr))
    }
}

references!(Ref<'_, T>, Link<T>, AtomicLink<T>);

/// Makes a record. After `[state]` come the fields that have the names of that structure's fields
/// or methods; after `[]` those that have the names of variables. The other fields have their
/// values. A record `of` an object begins with the object's header.
macro_rules! record {
    ($survey:ident, $record:ident $(of $object:ident)? {
        $([$state:ident] $($same:ident $(($($argument:tt)*))?),*;)*
        $([] $($local:ident),*;)*
        $($field:ident = $value:expr,)*
        $(..$rest:expr)?
    }) => {{
        let machine = &$survey.cx.k.machine;
        snapshot::$record {
            $(
                at: $crate::record::Shown::shown(&$object, machine),
                refs: $object.header.refs(),
                dying: $object.header.has_flag(kern_base::header::FLAG_DYING),
                dead: $object.header.has_flag(kern_base::header::FLAG_DEAD),
                root: u32::from($object.header.root().0),
                identity: $object.header.identity(),
                label: $object.header.label(),
                swept: $object.header.swept() as u32,
            )?
            $($($same: $crate::record::field(&$state.$same $(($($argument)*))?, machine),)*)*
            $($($local: $crate::record::field(&$local, machine),)*)*
            $($field: $crate::record::field(&$value, machine),)*
            $(..$rest)?
        }
    }};
}
pub(crate) use record;
