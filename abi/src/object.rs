//! Object types and the rights of each.
//!
//! A capability's rights are 17 bits. The ten lower ones have one meaning for all types; the upper
//! seven are the type's own control rights. Each object type has its own Rust type for sets of
//! rights ([`TaskRights`] and others), which is made only from the object type's own constants and
//! the shared ones. Look-ups of an object and copies of its capability take that Rust type. So a
//! wrong pairing does not compile:
//!
//! ```
//! let of_task: abi::TaskRights = abi::task_rights::SUSPEND | abi::Rights::LISTEN;
//! let of_group: abi::SharedRights = abi::Rights::ADD.into();
//! ```
//! ```compile_fail
//! let of_time: abi::SchedRights = abi::task_rights::SUSPEND.into();
//! ```
//! ```compile_fail
//! let of_group: abi::SharedRights = abi::task_rights::SUSPEND.into();
//! ```
//! ```compile_fail
//! let mixed = abi::task_rights::OBSERVE | abi::sched_rights::CONFIGURE;
//! ```

use crate::Named;

macro_rules! object_types {
    ($($(#[doc = $doc:expr])* $name:ident = $value:literal;)*) => {
        /// Types of kernel objects; the number is the type field of a capability.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum ObjType { $($(#[doc = $doc])* $name = $value,)* }

        impl ObjType {
            pub const ALL: &'static [ObjType] = &[$(ObjType::$name,)*];

            /// Returns the type's documentation, as in the source.
            pub const fn doc(self) -> &'static str {
                match self { $(ObjType::$name => concat!($($doc, "\n",)*),)* }
            }
        }
    };
}

object_types! {
    /// A range of physical memory from which objects are made. `size` is the base-2 logarithm of
    /// its bytes, 12 to 40.
    Untyped = 1;
    /// A table of capability slots. `size` is how many, 1 to 65,536; slot 0 is never filled.
    CNode = 2;
    /// An address space. `size` is how many page tables it gets besides its root table, 1 to 4,096;
    /// each takes 12 KiB.
    VSpace = 3;
    /// Memory that can be mapped, cleared when made. `size` is 21 for a page of 2 MiB; or 12, plus
    /// 256 times the number of pages (up to 512; 0 is one), for pages of 4 KiB in a row.
    Frame = 4;
    /// CSpace, VSpace and identity of a program. `size` is how many tasks it can have at a time, 1
    /// to 65,536.
    Process = 5;
    /// A unit of execution: registers, UTCB, IPC state. Two pages; `size` is 0.
    Task = 6;
    /// CPU time: priority, slice, time used. No task can have it before SchedConfigure has set it.
    /// `size` is 0.
    SchedContext = 7;
    /// Member records and exposures: what IPC is addressed to. `size` is members (low 16 bits) and
    /// exposures (next 16 bits), neither 0.
    Group = 8;
    /// Bits that anybody with the right raises and one task waits for. `size` is 0.
    Notification = 9;
    /// Holds one received call, to be answered later. `size` is 0.
    Reply = 10;
    /// The machine itself: log channel, exit, counters. One object, made at boot; cannot be
    /// retyped.
    Machine = 11;
    /// A process's ring of received events. `size` is the base-2 logarithm of its cells of 64
    /// bytes, 6 to 14; two to five pages more.
    EventPool = 12;
    /// Authority over CPU time: a ceiling of priority, and CPUs. A new one allows nothing until
    /// SchedAllow extends it. `size` is 0.
    SchedControl = 13;
    /// The interrupt of a device. A new one has none until IrqAllow gives it a line. `size` is 0.
    IrqHandler = 14;
    /// A range of I/O ports. A new one has none until PortAllow gives it some. `size` is 0.
    IoPort = 15;
}

impl ObjType {
    pub const fn from_raw(raw: u8) -> Option<ObjType> {
        let mut i = 0;
        while i < Self::ALL.len() {
            if Self::ALL[i] as u8 == raw {
                return Some(Self::ALL[i]);
            }
            i += 1;
        }
        None
    }
}

/// A set of rights, as it stands in a capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[repr(transparent)]
pub struct Rights(pub u32);

impl Rights {
    pub const NONE: Rights = Rights(0);
    pub const ALL: Rights = Rights(0x1_ffff);

    pub const fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// Returns the rights of `self` that `other` lacks.
    pub const fn minus(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }

    pub const fn contains(self, other: Rights) -> bool {
        other.0 & !self.0 == 0
    }
}

impl core::ops::BitOr for Rights {
    type Output = Rights;
    fn bitor(self, other: Rights) -> Rights {
        self.union(other)
    }
}

macro_rules! shared_rights {
    ($($(#[doc = $doc:expr])* $name:ident = $bit:literal;)*) => {
        impl Rights {
            $($(#[doc = $doc])* pub const $name: Rights = Rights(1 << $bit);)*

            /// The rights that mean the same for every type.
            pub const SHARED: &'static [Named<Rights>] = &[$(Named {
                name: stringify!($name), value: Rights::$name, doc: concat!($($doc, "\n",)*),
            },)*];
        }
    };
}

shared_rights! {
    /// Call through it, reply through it.
    SEND = 0;
    /// Wait for it, bind it or read from it; expose it in a group; in a group, expose there.
    LISTEN = 1;
    /// Add members to a group.
    ADD = 2;
    /// Remove members and exposures of a group.
    REMOVE = 3;
    /// Act in a group as its maker does, without a member record: add, remove, expose, withdraw.
    DELETE = 4;
    /// Map a frame; map into an address space, or give it to a process.
    MAP = 5;
    /// Store into a CNode that is not the own one, or take out of it; give it to a process. In a
    /// group: send capabilities. Of any type: a message may carry a copy.
    GRANT = 6;
    /// Raise Notification bits.
    NOTIFY = 7;
    /// Send UTCB words with a call.
    STRING = 8;
    /// Send memory with a message. No operation asks for it yet.
    STREAM = 9;
}

/// A set of rights of objects of one kind.
macro_rules! rights_of {
    ($(#[$doc:meta])* $set:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
        #[repr(transparent)]
        pub struct $set(Rights);

        impl $set {
            pub const NONE: $set = $set(Rights::NONE);

            /// Returns the rights in the form of a capability.
            pub const fn rights(self) -> Rights {
                self.0
            }

            pub const fn union(self, other: $set) -> $set {
                $set(self.0.union(other.0))
            }

            /// Adds shared rights.
            pub const fn with(self, shared: Rights) -> $set {
                $set(self.0.union(shared))
            }

            /// Returns the rights of `self` that `other` lacks.
            pub const fn minus(self, other: $set) -> $set {
                $set(self.0.minus(other.0))
            }
        }

        impl From<$set> for Rights {
            #[inline(always)]
            fn from(set: $set) -> Rights {
                set.0
            }
        }

        /// For shared rights, and for those that a capability was found to have.
        impl From<Rights> for $set {
            #[inline(always)]
            fn from(rights: Rights) -> $set {
                $set(rights)
            }
        }

        impl core::ops::BitOr<$set> for Rights {
            type Output = $set;
            fn bitor(self, other: $set) -> $set {
                other.union($set(self))
            }
        }

        impl<R: Into<$set>> core::ops::BitOr<R> for $set {
            type Output = $set;
            fn bitor(self, other: R) -> $set {
                self.union(other.into())
            }
        }
    };
}

rights_of! {
    /// Rights of an object of a type that has no control rights.
    SharedRights
}

macro_rules! control_rights {
    ($(
        $(#[$doc:meta])*
        $module:ident, $set:ident { $($(#[doc = $rdoc:expr])* $name:ident = $bit:literal;)* }
    )*) => {
        $(
            rights_of! { $(#[$doc])* $set }

            $(#[$doc])*
            pub mod $module {
                use super::{Named, Rights, $set};
                $($(#[doc = $rdoc])* pub const $name: $set = $set(Rights(1 << $bit));)*

                /// All of them.
                pub const ALL: &[Named<Rights>] = &[$(Named {
                    name: stringify!($name), value: $name.rights(), doc: concat!($($rdoc, "\n",)*),
                },)*];
            }
        )*
    };
}

control_rights! {
    /// Control rights of a CNode.
    cnode_rights, CNodeRights {
        /// Look at its slots. The caller's own CNode needs no right.
        OBSERVE = 14;
    }
    /// Control rights of a Task.
    task_rights, TaskRights {
        /// Suspend, resume, cancel.
        SUSPEND = 10;
        /// Configure it; read and write its registers; say who handles its faults.
        REGISTERS = 11;
        /// Bind CPU time or a Notification to it; yield to it.
        SCHEDULE = 12;
        /// Kill it.
        DESTROY = 13;
        /// Observe the task's state. No operation needs it yet.
        OBSERVE = 14;
        /// Set hardware breakpoints.
        DEBUG = 15;
        /// Change its memory or binary while it is suspended. No operation asks for it yet.
        MODIFY = 16;
    }
    /// Control rights of a Process.
    process_rights, ProcessRights {
        /// Set CSpace, VSpace, accept slot, fault exposure; make tasks in it.
        CONFIGURE = 10;
        /// Kill it.
        DESTROY = 13;
        /// Enumerate and verify its capabilities.
        OBSERVE = 14;
    }
    /// Control rights of a SchedContext.
    sched_rights, SchedRights {
        /// Set priority and slice; bind it to a task.
        CONFIGURE = 10;
        /// Read the time it used.
        OBSERVE = 14;
    }
    /// Control rights of a SchedControl.
    sched_control_rights, SchedControlRights {
        /// Extend what it allows.
        CONFIGURE = 10;
        /// By its authority, set priorities, give tasks their CPU, and extend other SchedControls.
        SCHEDULE = 12;
    }
    /// Control rights of an IrqHandler.
    irq_rights, IrqRights {
        /// Give it a line.
        CONFIGURE = 10;
        /// Say where its interrupts go, and let the next one come.
        HANDLE = 12;
    }
    /// Control rights of an IoPort.
    port_rights, PortRights {
        /// Give it its range.
        CONFIGURE = 10;
        /// Write ports.
        WRITE = 11;
        /// Read ports.
        READ = 14;
    }
    /// Control rights of a Frame.
    frame_rights, FrameRights {
        /// Pin it for DMA, and learn where in physical memory it is.
        DMA = 10;
        /// Map it to be written, or into a pool.
        WRITE = 11;
    }
    /// Control rights of the Machine.
    machine_rights, MachineRights {
        /// Write to the log channel of the badge.
        LOG = 10;
        /// End the machine.
        EXIT = 11;
        /// Make frames of device memory; give away interrupts of devices, and I/O ports.
        DEVICE = 12;
        /// Pin frames for DMA.
        DMA = 13;
        /// Read its counters.
        INFO = 14;
        /// Export the kernel's state, and let it try what is forbidden (test builds).
        DUMP = 15;
        /// Set security labels, and say what they allow; keep and read the audit.
        SECURITY = 16;
    }
}

impl MachineRights {
    /// Write report lines, which the harness takes for the results of a run.
    pub const REPORT: MachineRights = MachineRights(Rights::SEND.union(machine_rights::LOG.rights()));
}

/// Rights that a group's member record can hold: the ten shared ones.
pub const MEMBER_RIGHTS: Rights = Rights(0x3ff);

/// How each type is made: what `size` means to [`Op::Retype`](crate::Op::Retype).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SizeMeaning {
    /// Fixed; `size` must be 0.
    Fixed,
    /// `size` is the base-2 logarithm of the bytes.
    Log2Bytes,
    /// `size` is a count of entries.
    Entries,
    /// `size` is the base-2 logarithm of the number of cells.
    Log2Cells,
    /// Two counts: low 16 bits members, next 16 bits exposures.
    Group,
}

impl ObjType {
    pub const fn size_meaning(self) -> SizeMeaning {
        match self {
            ObjType::Untyped | ObjType::Frame => SizeMeaning::Log2Bytes,
            ObjType::CNode | ObjType::VSpace | ObjType::Process => SizeMeaning::Entries,
            ObjType::EventPool => SizeMeaning::Log2Cells,
            ObjType::Group => SizeMeaning::Group,
            _ => SizeMeaning::Fixed,
        }
    }
}
