//! The types of kernel objects: the only list of their numbers, and of the rights of each.

use abi::ObjType;
use smp::door::KernelObject;

use crate::events::EventPool;
use crate::group::Group;
use crate::header::{Header, RootId};
use crate::irq::IrqHandler;
use crate::memory::{Frame, Untyped, VSpace};
use crate::notification::Notification;
use crate::port::IoPort;
use crate::process::Process;
use crate::reply::Reply;
use crate::sched_context::SchedContext;
use crate::sched_control::SchedControl;
use crate::slot::CNode;
use crate::task::Task;

/// The machine as a kernel object: what the Machine capability refers to.
#[repr(C, align(64))]
pub struct MachineObject {
    pub header: Header,
}

impl MachineObject {
    pub fn new(root: RootId) -> MachineObject {
        MachineObject { header: Header::new(ObjType::Machine, root) }
    }
}

smp::kernel_objects! {
    /// All types of kernel objects.
    pub enum Objects(header: Header) {
        Untyped = ObjType::Untyped as u8, abi::SharedRights;
        CNode = ObjType::CNode as u8, abi::CNodeRights;
        VSpace = ObjType::VSpace as u8, abi::SharedRights;
        Frame = ObjType::Frame as u8, abi::FrameRights;
        Process = ObjType::Process as u8, abi::ProcessRights;
        Task = ObjType::Task as u8, abi::TaskRights;
        SchedContext = ObjType::SchedContext as u8, abi::SchedRights;
        Group = ObjType::Group as u8, abi::SharedRights;
        Notification = ObjType::Notification as u8, abi::SharedRights;
        Reply = ObjType::Reply as u8, abi::SharedRights;
        MachineObject = ObjType::Machine as u8, abi::MachineRights;
        EventPool = ObjType::EventPool as u8, abi::SharedRights;
        SchedControl = ObjType::SchedControl as u8, abi::SchedControlRights;
        IrqHandler = ObjType::IrqHandler as u8, abi::IrqRights;
        IoPort = ObjType::IoPort as u8, abi::PortRights;
    }
}

/// The first word of a capability slot.
pub type ObjWord = smp::door::ObjWord<Objects>;

/// One reading of an [`ObjWord`].
pub type RawWord<'k> = smp::door::RawWord<'k, Objects>;

/// A kernel object, by its header.
pub trait Headed: KernelObject<Set = Objects> {
    fn header(&self) -> &Header;
}

macro_rules! headed {
    ($($object:ty)*) => {
        $(impl Headed for $object {
            #[inline(always)]
            fn header(&self) -> &Header {
                &self.header
            }
        })*

        /// Returns the header of the object that a word refers to. All types have the header in the
        /// same place, so the compiler merges the cases.
        pub fn header_of<'k>(word: RawWord<'k>) -> Option<&'k Header> {
            $(if let Some(object) = word.get::<$object>() {
                return Some(&object.get().header);
            })*
            None
        }
    };
}
headed!(
    Untyped CNode VSpace Frame Process Task SchedContext Group Notification Reply MachineObject EventPool
    SchedControl IrqHandler IoPort
);
