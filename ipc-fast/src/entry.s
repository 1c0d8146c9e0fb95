// System call entry and exit (Intel syntax). All offsets are operands.
//
// The entry point itself is `syscall_entry` in fastpath.s, or `syscall_plain` for a kernel without.
// On entry, from the CPU's slot: r15 = CPU block; rax = message word, rdi, rsi, rdx, r8, r9, r10 =
// arguments; rcx = user rip, r11 = user rflags, rsp = user stack. rbx, rbp, r12, r13, r14 are free.

// The system call entry of a kernel without the fastpath.
.balign 64
.global syscall_plain
.global syscall_slow
syscall_plain:
    cmp al, {op_null}
    je syscall_null
syscall_slow:
    mov r14, [r15 + {current}]
    save_return
    mov [r14 + {rax}], rax
    save_arguments
    mov rsp, [r15 + {kernel_stack}]
    movzx ebx, al
    mov rdi, r15
    xor ebp, ebp                             // the end of frame pointers
    call [AURORA_HANDLERS + rbx * 8]         // it has a handler for every byte: nothing to compare, or to mispredict
phase.exit.slow:
    cmp [r15 + {current}], r14
    je phase.exit.own                       // kern_hal::trap
phase.switch.slow:
    mov rdi, r15
    call [AURORA_HANDLERS + {switch}]        // does not return
    int3

// A running task's `full` is 0, so the frame saved above is one of a system call.

// The end of a system call that answers with zeros: rcx = CPU block, whose current task made it.
.global syscall_done
syscall_done:
    mov r14, [rcx + {current}]
    mov rcx, [r14 + {rip}]
    mov r11, [r14 + {rflags}]
    mov rsp, [r14 + {rsp}]
    // Continues below.

// Op::Null: an ordinary number of the table that needs none of the above.
syscall_null:
    zero_answer
    end_call
