//! The assembly of interrupt entry and exit.

use core::arch::asm;
use core::ffi::c_void;
use core::mem::offset_of;

use kern_base::cpu::{CpuBlock, CpuHot, CpuOwn};
use kern_base::task::{RegFrame, Task, TaskHot};
use smp::door::Homed;

use super::frame::KernelFrame;
use super::{DOUBLE_FAULT, FIRST_INTERRUPT, MACHINE_CHECK, NMI, TIMER, handlers};
use crate::cpu::tables;
use crate::layout::STACK_SIZE;

/// Exceptions for which the CPU pushes an error code.
const ERROR_CODE_VECTORS: u32 = 1 << 8 | 0b1_1111 << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
/// Exceptions that never go to a task, whatever they interrupt.
const STACKED_VECTORS: u32 = 1 << NMI | 1 << DOUBLE_FAULT | 1 << MACHINE_CHECK;
/// RFLAGS while the kernel runs: only the bit that is always set.
const KERNEL_FLAGS: u32 = 2;
/// Distance of two stubs.
const STUB_SIZE: u64 = 16;
/// Where a stub's stack has CS: above vector, error code and RIP.
const STUB_CS: usize = offset_of!(KernelFrame, cs) - offset_of!(KernelFrame, vector);

/// From the CPU block to what its CPU owns.
pub const HOT: usize = CpuBlock::OWN_OFFSET + offset_of!(CpuOwn, hot);
/// From a task to what its home CPU owns, and to its registers.
pub const TASK: usize = offset_of!(Task, hot) + Homed::<TaskHot>::VALUE_OFFSET;
pub const REGS: usize = TASK + offset_of!(TaskHot, regs);

/// Assembles code that gets offsets and numbers as operands, by rows:
///
/// - `{ base, Type: field … }`: the offset of each field, as an operand with the field's name and
///   as the symbol `.Lfield`, which `.irp` can make of a register's name;
/// - `( base, Type: name field, … )`: under another name;
/// - `[ base, size, Enum: name Variant, … ]`: the place of a variant's entry in a table;
/// - `< base, Type: name CONSTANT, … >`: a constant of a type, such as an offset in it.
///
/// A semicolon ends the rows. Further operands follow in `global_asm!`'s own way.
#[macro_export]
macro_rules! assembly {
    (
        ($($code:tt)*)
        $({ $base:expr, $of:ty: $($field:ident)* })*
        $(( $other_base:expr, $other:ty: $($name:ident $other_field:ident),* ))*
        $([ $table:expr, $size:expr, $enum:ty: $($entry:ident $variant:ident),* ])*
        $(< $last_base:expr, $last:ty: $($constant:ident $value:ident),* >)*;
        $($operands:tt)*
    ) => {
        ::core::arch::global_asm!(
            $($(concat!(".set .L", stringify!($field), ", {", stringify!($field), "}"),)*)*
            $($code)*
            $($($field = const $base + ::core::mem::offset_of!($of, $field),)*)*
            $($($name = const $other_base + ::core::mem::offset_of!($other, $other_field),)*)*
            $($($entry = const $table + <$enum>::$variant as usize * $size,)*)*
            $($($constant = const $last_base + <$last>::$value,)*)*
            $($operands)*
        );
    };
}

assembly! {
    (include_str!("entry.s"),)
    { HOT, CpuHot: current kernel_stack }
    { TASK, TaskHot: fs_base gs_base }
    { REGS, RegFrame: rax rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rsp rflags fs gs full };
    error_code_vectors = const ERROR_CODE_VECTORS,
    stacked_vectors = const STACKED_VECTORS,
    first_interrupt = const FIRST_INTERRUPT,
    kernel_flags = const KERNEL_FLAGS,
    timer = const TIMER,
    stub_cs = const STUB_CS,
    cs_alone = const offset_of!(KernelFrame, cs) - offset_of!(KernelFrame, rip),
    stack_size = const STACK_SIZE,
    user_code = const tables::USER_CODE,
    user_data = const tables::USER_DATA,
    kernel_trap = sym handlers::kernel_trap,
    idle_interrupt = sym handlers::idle_interrupt,
    idle_timer = sym handlers::idle_timer,
    user_timer = sym handlers::user_timer,
    user_fault = sym handlers::user_fault,
    user_interrupt = sym handlers::user_interrupt,
}

unsafe extern "C" {
    static trap_stubs: u8;
    static trap_iret: u8;
    fn trap_bad_frame(block: *const c_void, vector: u64, error: u64) -> !;
}

/// Returns the address of the entry code for `vector`.
pub fn stub(vector: u8) -> u64 {
    (&raw const trap_stubs) as u64 + u64::from(vector) * STUB_SIZE
}

/// Returns the address of the IRET with which the kernel leaves.
pub(super) fn exit_iret() -> u64 {
    (&raw const trap_iret) as u64
}

/// Turns a refusal of the current task's frame into a fault of that task.
///
/// # Safety
/// The IRET in `trap_resume` refused the frame, on the CPU of `block`; nothing on the kernel stack
/// is needed any more.
pub(super) unsafe fn blame_task(block: &CpuBlock, vector: u64, error: u64) -> ! {
    // SAFETY: the caller's promise.
    unsafe { trap_bad_frame(core::ptr::from_ref(block).cast(), vector, error) }
}

/// Leaves the kernel: `task` continues with all the registers of its frame.
///
/// # Safety
/// `task` is this CPU's current one, and its frame is not one of a system call. The frame holds a
/// canonical user RIP and user flags; address space, vector state and CR0.TS are the task's; no
/// kernel data that the abandoned stack holds is needed (nothing is dropped). This CPU's kernel
/// stack has room for a frame of the CPU.
#[inline(always)]
pub unsafe fn resume_interrupted(task: &Task) -> ! {
    // SAFETY: the caller's promise; `trap_resume_interrupted` wants the task in r14 and uses the
    // stack as it is.
    unsafe {
        asm!("mov r14, {}", "jmp trap_resume_interrupted", in(reg) core::ptr::from_ref(task), options(noreturn))
    }
}

/// Leaves the kernel: `task` continues at the end of its system call.
///
/// # Safety
/// As for [`resume_interrupted`], but the frame is one of a system call, and the stack needs no
/// room.
#[inline(always)]
pub unsafe fn resume_call(task: &Task) -> ! {
    // SAFETY: the caller's promise; `trap_resume_syscall` wants the task in r14 and leaves the
    // stack.
    unsafe {
        asm!("mov r14, {}", "jmp trap_resume_syscall", in(reg) core::ptr::from_ref(task), options(noreturn))
    }
}

// The stack is 16-byte aligned at the calls: the CPU aligns it, then 22 words follow, or 6
// (`trap_kernel`, `trap_timer_idle`).
const _: () = assert!(size_of::<KernelFrame>().is_multiple_of(16));
