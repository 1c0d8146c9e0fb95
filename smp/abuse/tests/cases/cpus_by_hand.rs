//! Use after free: a kernel reports fewer CPUs than it has, and grace periods end too soon.
#![forbid(unsafe_code)]

use smp::cpu::{CpuId, Pin};
use smp::mailbox::Mailbox;
use smp::quiesce::{Cpus, Epoch, GraceMail, GracePort, GraceState};

struct Alone(Mailbox<GraceMail>, GracePort<GraceMail>, GraceState, Epoch);

impl Cpus for Alone {
    type Mail = GraceMail;

    fn count(&self) -> usize {
        1
    }
    fn epoch(&self) -> &Epoch {
        &self.3
    }
    fn mailbox<'a>(&'a self, _: Pin<'a>, _: CpuId) -> &'a Mailbox<GraceMail> {
        &self.0
    }
    fn port<'a>(&'a self, _: Pin<'a>, _: CpuId) -> &'a GracePort<GraceMail> {
        &self.1
    }
    fn state<'a>(&'a self, _: Pin<'a>) -> &'a GraceState {
        &self.2
    }
    fn interrupt(&self, _: CpuId) {}
}

fn main() {}
