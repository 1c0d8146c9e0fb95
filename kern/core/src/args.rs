//! The arguments of a system call.

use abi::{Cap, Target};

/// The argument registers of a system call.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    pub info: u64,
    /// rdi, rsi, rdx, r8, r9, r10.
    pub a0: u64,
    pub a1: u64,
    pub a2: u64,
    pub a3: u64,
    pub a4: u64,
    pub a5: u64,
}

impl Args {
    /// Returns the system call's four message registers.
    #[inline(always)]
    pub fn message(&self) -> [u64; 4] {
        [self.a2, self.a3, self.a4, self.a5]
    }

    pub fn target(&self) -> Target {
        Target(self.a0)
    }

    pub fn cap(&self) -> Cap {
        self.target().cap()
    }

    pub fn cap1(&self) -> Cap {
        Target(self.a1).cap()
    }

    pub fn cap2(&self) -> Cap {
        Target(self.a2).cap()
    }
}
