// Mapping and unmapping one page (Intel syntax): besides being saved in the frame, the arguments stay in registers, all
// the way into a function that does not come back. What that cannot do at once it serves as any other system call:
// crate::entry::Handlers::direct.

// rdi, rsi, rdx, r8 = arguments, rcx = CPU block, r9 = the task.
.macro direct handler
    mov r14, [r15 + {current}]
    save_return
    mov [r14 + {rax}], rax
    mov [r14 + {rdi}], rdi
    mov [r14 + {rsi}], rsi
    mov [r14 + {rdx}], rdx
    mov [r14 + {r8}], r8
    mov [r14 + {r9}], r9
    mov [r14 + {r10}], r10
    mov rsp, [r15 + {kernel_stack}]
    mov rcx, r15
    mov r9, r14
    xor ebp, ebp                             // the end of frame pointers
    call [AURORA_HANDLERS + \handler]        // does not return
.endm

// Of mapping, the other two arguments: all of a frame, or its only page; whatever else they say is not done here.
.macro of_one_page
    mov rbx, r10
    shr rbx, 1
    or rbx, r9
    jnz syscall_slow
.endm

.balign 16
direct_map:
    of_one_page
    direct {map}
.balign 16
direct_unmap:
    of_one_page
    direct {unmap}
