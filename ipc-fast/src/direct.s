// The entry of operations that are frequent and mostly need no wait (Intel syntax). Their arguments stay in registers,
// all the way into a function that does not return. If that function would have to wait, it serves the operation like any
// other system call: crate::entry::Handlers::at_once, at_leisure.
//
// The system call entry jumps here through the table AURORA_DIRECT, by operation number, if the message has no UTCB words,
// no flags and no label. For most operations the table has `syscall_slow`.

// rdi, rsi, rdx, r8 = arguments, rcx = CPU block, r9 = the process. Besides they are in the frame, but for rax.
.macro direct handler
    mov r14, [r15 + {current}]
    save_return
    mov [r14 + {rdi}], rdi
    mov [r14 + {rsi}], rsi
    mov [r14 + {rdx}], rdx
    mov [r14 + {r8}], r8
    mov [r14 + {r9}], r9
    mov [r14 + {r10}], r10
    mov rsp, [r15 + {kernel_stack}]
    mov rcx, r15
    mov r9, [r14 + {process}]
    xor ebp, ebp                             // the end of frame pointers
    call [AURORA_HANDLERS + \handler]        // does not return
    int3
.endm

// Of mapping, the other two arguments: all of a frame, or its only page; whatever else they say is not done here.
.macro of_one_page
    mov rbx, r10
    shr rbx, 1
    or rbx, r9
    jnz syscall_slow
.endm

.balign 16
.global direct_map
direct_map:
    of_one_page
    direct {map}
.balign 16
.global direct_unmap
direct_unmap:
    of_one_page
    direct {unmap}
.balign 16
.global direct_copy
direct_copy:
    direct {cap_copy}
.balign 16
.global direct_delete
direct_delete:
    direct {cap_delete}
.balign 16
.global direct_retype
direct_retype:
    direct {retype}
