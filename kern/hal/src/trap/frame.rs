//! The frame that the entry assembly pushes on a kernel stack.

/// Registers of interrupted kernel code, or of anything that was interrupted on an IST stack.
/// Pushed by `entry.s`, in this order from the top of memory down.
#[repr(C)]
#[derive(Default)]
pub struct KernelFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl KernelFrame {
    /// Returns whether the trap interrupted user code.
    pub fn from_user(&self) -> bool {
        self.cs & 3 != 0
    }
}
