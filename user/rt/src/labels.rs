//! Security labels: for a holder of the right SECURITY of the machine.

use abi::Op;

use crate::Result;
use crate::arch::{Args, syscall};
use crate::cap::{Handle, Machine};

impl Machine {
    /// Sets the security label of an object; 0 is none. The label of a process is also that of its
    /// CSpace and address space.
    pub fn set_label<T: Handle>(&self, object: &T, label: u32) -> Result<()> {
        syscall(Args::plain(Op::LabelSet, self.arg(), object.arg(), u64::from(label), 0)).done()
    }

    /// Sets what subjects of one label may do with objects of another: bits of
    /// [`may`](abi::audit::may). Returns what they could do before.
    pub fn set_rule(&self, subject: u32, object: u32, allowed: u8) -> Result<u8> {
        let [subject, object, allowed] = [u64::from(subject), u64::from(object), u64::from(allowed)];
        Ok(syscall(Args::plain(Op::LabelRule, self.arg(), subject, object, allowed)).check()?.rdi as u8)
    }
}
