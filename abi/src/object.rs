//! Object types and the rights of each.
//!
//! A capability's rights are 17 bits. The ten lower ones mean the same wherever they apply; the
//! upper seven are the type's own control rights, so each type has its own enum-like set here and a
//! wrong pairing does not compile.

/// Types of kernel objects; the number is the type field of a capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum ObjType {
    Untyped = 1,
    CNode = 2,
    VSpace = 3,
    Frame = 4,
    Process = 5,
    Task = 6,
    SchedContext = 7,
    Group = 8,
    Notification = 9,
    Reply = 10,
    /// The machine itself: log channel, exit, description. One object, made at boot.
    Machine = 11,
}

impl ObjType {
    pub const ALL: &'static [ObjType] = &[
        ObjType::Untyped,
        ObjType::CNode,
        ObjType::VSpace,
        ObjType::Frame,
        ObjType::Process,
        ObjType::Task,
        ObjType::SchedContext,
        ObjType::Group,
        ObjType::Notification,
        ObjType::Reply,
        ObjType::Machine,
    ];

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

    /// Call, send and notify through it.
    pub const SEND: Rights = Rights(1 << 0);
    /// Receive and wait through it; expose in a group.
    pub const LISTEN: Rights = Rights(1 << 1);
    /// Add members.
    pub const ADD: Rights = Rights(1 << 2);
    /// Remove members and exposures.
    pub const REMOVE: Rights = Rights(1 << 3);
    /// Delete the object for everybody.
    pub const DELETE: Rights = Rights(1 << 4);
    /// Map it, or map into it.
    pub const MAP: Rights = Rights(1 << 5);
    /// Pass it on: copy into another process, store into it.
    pub const GRANT: Rights = Rights(1 << 6);
    /// Raise Notification bits.
    pub const NOTIFY: Rights = Rights(1 << 7);
    /// Send more than the message registers.
    pub const STRING: Rights = Rights(1 << 8);
    /// Send memory.
    pub const STREAM: Rights = Rights(1 << 9);

    pub const fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// Those of `self` that `other` lacks.
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

macro_rules! control_rights {
    ($($(#[$doc:meta])* $module:ident { $($(#[$rdoc:meta])* $name:ident = $bit:literal;)* })*) => {
        $($(#[$doc])* pub mod $module {
            use super::Rights;
            $($(#[$rdoc])* pub const $name: Rights = Rights(1 << $bit);)*
        })*
    };
}

control_rights! {
    /// Control rights of a Task.
    task_rights {
        /// Suspend, resume, cancel.
        SUSPEND = 10;
        /// Read and write its registers.
        REGISTERS = 11;
        /// Bind CPU time, yield to it.
        SCHEDULE = 12;
        /// Kill it.
        DESTROY = 13;
        /// Be told of what happens to it.
        OBSERVE = 14;
        /// Read its memory, set hardware breakpoints.
        DEBUG = 15;
        /// Change its memory or binary while it is suspended.
        MODIFY = 16;
    }
    /// Control rights of a Process.
    process_rights {
        /// Set CSpace, VSpace, accept slot; make tasks in it.
        CONFIGURE = 10;
        /// Kill it.
        DESTROY = 13;
        /// Enumerate and verify its capabilities.
        OBSERVE = 14;
    }
    /// Control rights of a SchedContext.
    sched_rights {
        /// Set priority, slice and CPUs; bind and unbind.
        CONFIGURE = 10;
        /// Read the time it used.
        OBSERVE = 14;
    }
    /// Control rights of the Machine.
    machine_rights {
        /// Write to the log channel of the badge.
        LOG = 10;
        /// End the machine.
        EXIT = 11;
        /// Read its description and counters.
        INFO = 14;
        /// Export the kernel's state (test builds).
        DUMP = 15;
    }
}

/// Rights a group's member record can hold (the ten shared ones); SEND is stored inverted.
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
    /// Two counts: low 16 bits members, next 16 bits exposures.
    Group,
}

impl ObjType {
    pub const fn size_meaning(self) -> SizeMeaning {
        match self {
            ObjType::Untyped | ObjType::Frame => SizeMeaning::Log2Bytes,
            ObjType::CNode | ObjType::VSpace | ObjType::Process => SizeMeaning::Entries,
            ObjType::Group => SizeMeaning::Group,
            _ => SizeMeaning::Fixed,
        }
    }
}
