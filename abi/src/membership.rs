//! The bits of a group's watcher. A Notification that is exposed as a watcher gets these bits,
//! shifted as requested. A bit means that this change has happened, once or more often;
//! [`Op::GroupMember`](crate::Op::GroupMember) reports the present state.

/// Low half of the third argument of [`Op::Expose`](crate::Op::Expose): as a task of its CPU.
pub const EXPOSE_PER_CPU: u32 = 1;
/// As a watcher of the group.
pub const EXPOSE_WATCH: u32 = 2;
/// Exposures of a group that can be watchers: the first ones.
pub const WATCHERS: u32 = 32;

/// There is a new member.
pub const JOINED: u64 = 1 << 0;
/// A member was removed, or its process ended.
pub const LEFT: u64 = 1 << 1;
/// Only one member is left. With [`LEFT`].
pub const ALONE: u64 = 1 << 2;
/// An exposure was taken back.
pub const WITHDRAWN: u64 = 1 << 3;
/// How far the bits can be shifted.
pub const SHIFT_MAX: u64 = 60;

/// Custom bits of [`Op::GroupAdd`](crate::Op::GroupAdd) for who adds as a member: those of its own
/// record.
pub const SEEN_AS_ADDER: u64 = u64::MAX;

/// Returns the third argument of [`Op::Expose`](crate::Op::Expose) for a watcher.
pub const fn watch(shift: u32) -> u64 {
    EXPOSE_WATCH as u64 | (shift as u64) << 32
}
