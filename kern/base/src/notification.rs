//! Notifications: bits that any task with the right may raise, and for which one task waits.

use core::cell::Cell;

use abi::ObjType;
use smp::coalesced::CoalescedBits;
use smp::cpu::CpuId;
use smp::door::{Homed, Link, Sendable};

use crate::cpu::Mail;
use crate::header::{Header, RootId};
use crate::task::Task;

/// What the home CPU owns.
#[repr(C)]
pub struct NotificationHot {
    pub bits: Cell<u64>,
    /// The task that waits for it, if one does.
    pub waiter: Link<Task>,
    /// The task whose Recv returns its bits.
    pub bound: Link<Task>,
}

impl Sendable for NotificationHot {}

/// A Notification. Its home is the CPU on which it was made, and only tasks of that CPU wait for
/// it. It moves only with the task that it is bound to, when that task first starts.
#[repr(C, align(64))]
pub struct Notification {
    pub header: Header,
    pub hot: Homed<NotificationHot>,
    /// Bits raised on other CPUs, and the node that tells the home of them.
    pub remote: CoalescedBits<Mail>,
}

impl Notification {
    pub fn new(root: RootId, home: CpuId) -> Notification {
        Notification {
            header: Header::new(ObjType::Notification, root),
            hot: Homed::new(
                home,
                NotificationHot { bits: Cell::new(0), waiter: Link::null(), bound: Link::null() },
            ),
            remote: CoalescedBits::new(),
        }
    }
}
