// Interrupt and exception entry and exit (Intel syntax). All offsets are operands.
//
// Every stub leaves: [rsp] = vector, [rsp+8] = error code (0 where the CPU pushes none), then the
// CPU's own frame: rip, cs, rflags, rsp, ss.
//
// From user mode the registers go to the current task's frame and the stack is empty again before
// Rust runs. r15 = CPU block from there to the exit; Rust keeps it.
//
// The timer has a way of its own: nothing about it has to be told.

// Saves the registers of the interrupted program, but what the CPU has pushed, in the current task's frame.
// r15 = CPU block, r14 = the task from there on.
.macro save_program
    push r15
    push r14
    mov r15, rsp
    and r15, -{stack_size}
    mov r15, [r15]                           // the CPU block
    mov r14, [r15 + {current}]
    .irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13
    mov [r14 + .L\register], \register
    .endr
    pop qword ptr [r14 + {r14}]
    pop qword ptr [r14 + {r15}]
.endm

// Saves what the CPU has pushed, and the bases of FS and GS, in the frame of the task r14.
.macro save_rest
    pop qword ptr [r14 + {rip}]
    pop rax                                  // cs: there is only one
    pop qword ptr [r14 + {rflags}]
    pop qword ptr [r14 + {rsp}]
    rdfsbase rax
    mov [r14 + {fs}], rax
    rdgsbase rax
    mov [r14 + {gs}], rax
.endm

// Makes the CPU ready for Rust. Known flags: no AC (user memory), DF, NT, TF left over from the interrupted code.
// The registers that are named become 0: nothing of the user's stays in one.
.macro begin_rust registers:vararg
    mov qword ptr [r14 + {full}], 1
    mov rsp, [r15 + {kernel_stack}]          // we may be on the #DB stack
    push {kernel_flags}
    popfq
    .irp register, \registers
    xor \register, \register
    .endr
    mov rdi, r15
.endm

.section .text.entry,"ax",@progbits
.balign 16
.global trap_stubs
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    // Where the CPU pushes no error code, a 0.
    .if vector == {timer}
    jmp trap_timer
    .else
    .if (vector < 32) && (((1 << vector) & {error_code_vectors}) != 0)
    .else
    push 0
    .endif
    push vector
    .if (vector < 32) && (((1 << vector) & {stacked_vectors}) != 0)
    jmp trap_stacked
    .else
    jmp trap_common
    .endif
    .endif
    .set vector, vector + 1
.endr

.balign 16
trap_common:
    test byte ptr [rsp + {stub_cs}], 3
    jz trap_kernel

    save_program
    pop rsi                                  // vector
    pop rdx                                  // error code
    save_rest
.global trap_saved
trap_saved:
    begin_rust eax, ebx, ebp, r8d, r9d, r10d, r11d, r12d, r13d, r14d
    cmp esi, {first_interrupt}
    jae 1f
    mov rcx, cr2
    call {user_fault}
    jmp trap_resume
1:  xor ecx, ecx
    call {user_interrupt}

// Leaves the kernel: the current task goes on where its frame says. r15 = CPU block.
.global trap_resume
trap_resume:
    mov r14, [r15 + {current}]
    mov rsp, [r15 + {kernel_stack}]
    cmp qword ptr [r14 + {full}], 0
    je trap_resume_syscall
// Leaves the kernel with all registers from the frame: r14 = the current task.
.global trap_resume_interrupted
trap_resume_interrupted:
    mov qword ptr [r14 + {full}], 0          // a running task's frame is one of a system call
    mov rax, [r14 + {fs}]
    wrfsbase rax
    mov rax, [r14 + {gs}]
    wrgsbase rax
    push {user_data}
    push qword ptr [r14 + {rsp}]
    push qword ptr [r14 + {rflags}]
    push {user_code}
    push qword ptr [r14 + {rip}]
    .irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r15, r14
    mov \register, [r14 + .L\register]
    .endr
.global trap_iret
trap_iret:
    iretq                                    // may refuse the frame: see trap::meaning
    int3

// The timer: no vector and no error code are on the stack.
.balign 16
trap_timer:
    test byte ptr [rsp + {cs_alone}], 3
    jz trap_timer_idle
    save_program
    save_rest
    begin_rust eax, ebx, ecx, edx, esi, ebp, r8d, r9d, r10d, r11d, r12d, r13d, r14d
    call {user_timer}
    jmp trap_resume

// The end of a system call: r14 = the current task. Message registers, all others zero (the ABI's list, in abi::syscall).
.global trap_resume_syscall
trap_resume_syscall:
    mov rax, [r14 + {fs_base}]
    wrfsbase rax
    mov rax, [r14 + {gs_base}]
    wrgsbase rax
// Leaves the kernel for the task that entered, after which no other has run: its bases are loaded.
.global phase.exit.own
phase.exit.own:
    .irp register, rax, rdi, rsi, rdx, r8, r9, r10, r12
    mov \register, [r14 + .L\register]
    .endr
    mov rcx, [r14 + {rip}]
    mov r11, [r14 + {rflags}]
    mov rsp, [r14 + {rsp}]
    .irp register, ebx, ebp, r13d, r14d, r15d
    xor \register, \register
    .endr
    sysretq
    int3

// Interrupted kernel code. Interrupts: only `idle` lets them in, at a place that expects a C call to happen, and
// in RAX whatever `idle_interrupt` says.
.balign 16
trap_kernel:
    cmp byte ptr [rsp], {first_interrupt}
    jb trap_stacked
    pop rdi                                  // vector
    add rsp, 8
    push rax
    call {idle_interrupt}
phase.exit.kernel:
    pop rcx
    or rax, rcx
    iretq
    int3

// The timer interrupts `idle`.
trap_timer_idle:
    push rax
    call {idle_timer}
    jmp phase.exit.kernel

// A fault of kernel code, and anything interrupted by NMI, #MC or #DF: all registers on this stack.
.balign 16
trap_stacked:
    .irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    push \register
    .endr
    push {kernel_flags}
    popfq
    mov rdi, rsp
    call {kernel_trap}
phase.exit.stacked:
    .irp register, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax
    pop \register
    .endr
    add rsp, 16
    iretq
    int3

// The `iretq` of trap_resume refused the frame: the task's frame still has its registers; only the way
// out was impossible. rdi = CPU block, rsi = vector, rdx = error code. Nothing on the stack is needed: so
// many refusals, one after the other, take no more of it than one.
.global trap_bad_frame
trap_bad_frame:
    mov r15, rdi
    mov r14, [r15 + {current}]
    jmp trap_saved
