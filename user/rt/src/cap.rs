//! Handles: capabilities with the type of their object.
//!
//! A handle is a claim that a slot of this process's CSpace holds a capability of that type; the
//! kernel checks the claim at every use. Each operation exists only on handles of its type. Handles
//! cannot be copied by accident: [`Handle::again`] makes a second handle for a slot.

use abi::{Cap, ObjType, Rights, Target};

/// What all handles have in common.
pub trait Handle: Sized + private::Sealed {
    const TYPE: ObjType;
    /// What a capability of such an object can allow.
    type Rights: Into<Rights> + From<Rights>;

    /// Makes a handle of the slot `cap`. The caller claims that the slot holds a capability of this
    /// type.
    fn at(cap: Cap) -> Self;

    /// Returns the slot that the handle names.
    fn cap(&self) -> Cap;

    /// Makes another handle for the same slot, for another task of the process.
    fn again(&self) -> Self {
        Self::at(self.cap())
    }

    /// Returns the handle's slot as a system call's argument.
    fn arg(&self) -> u64 {
        self.cap().arg()
    }
}

mod private {
    pub trait Sealed {}
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident: $rights:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, PartialEq, Eq)]
        pub struct $name(Cap);

        impl private::Sealed for $name {}

        impl Handle for $name {
            const TYPE: ObjType = ObjType::$name;
            type Rights = abi::$rights;

            fn at(cap: Cap) -> $name {
                $name(cap)
            }

            fn cap(&self) -> Cap {
                self.0
            }
        }
    )*};
}

handles! {
    /// Memory from which objects are made.
    Untyped: SharedRights
    /// A table of capability slots.
    CNode: CNodeRights
    /// An address space.
    VSpace: SharedRights
    /// Memory that can be mapped.
    Frame: FrameRights
    /// A process.
    Process: ProcessRights
    /// A task.
    Task: TaskRights
    /// The right to CPU time.
    SchedContext: SchedRights
    /// A group, with this process's member record in it.
    Group: SharedRights
    /// Bits that wake a task.
    Notification: SharedRights
    /// Keeps a call for a later answer.
    Reply: SharedRights
    /// Log, exit, counters.
    Machine: MachineRights
    /// A process's ring of events.
    EventPool: SharedRights
    /// Authority over CPU time.
    SchedControl: SchedControlRights
    /// The interrupt of a device.
    IrqHandler: IrqRights
    /// A range of I/O ports.
    IoPort: PortRights
}

/// One slot of a CNode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(pub Target);

impl CNode {
    /// Returns the place of slot `number` of this CNode.
    pub fn slot(&self, number: Cap) -> Place {
        Place(Target::new(self.0, number.0))
    }
}

/// Somebody in a group: the task or Notification exposed at an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exposure(pub Target);

impl Group {
    /// Returns the exposure at an index of this group.
    pub fn exposure(&self, index: u32) -> Exposure {
        Exposure(Target::new(self.0, index))
    }
}

/// What a mapping allows besides reading: writing or executing, never both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
    Execute,
}

impl Access {
    pub const fn bits(self) -> u64 {
        match self {
            Access::Read => 0,
            Access::Write => 1,
            Access::Execute => 2,
        }
    }
}

/// The contents of a slot, as [`CNode::inspect`] reports them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inspection {
    pub object: ObjType,
    pub rights: Rights,
    pub badge: u64,
    /// Equal for two capabilities of one object, and different for every other object that ever was
    /// or will be.
    pub identity: u64,
}
