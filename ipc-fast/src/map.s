// Map and Unmap of one page (Intel syntax): the arguments stay in registers, all the way into a function that does not
// come back. What that function cannot do, the general path does: crate::entry::Table, fields `map` and `unmap`.
//
// The entry comes here through the table AURORA_FAST, by operation number, where there are neither UTCB words nor flags
// nor a label; most operations have `syscall_slow` in it.

// rdi, rsi, rdx, r8 = arguments, rcx = CPU block, r9 = the process. The arguments are in the frame, too, without rax.
// Of the other two arguments: all of a frame, or its only page; the general path serves all other values.
.macro of_one_page handler
    mov rbx, r10
    shr rbx, 1
    or rbx, r9
    jnz syscall_slow
    mov r14, [r15 + {current}]
    save_return
    save_arguments
    mov rsp, [r15 + {kernel_stack}]
    mov rcx, r15
    mov r9, [r14 + {process}]
    xor ebp, ebp                             // the end of frame pointers
    call [AURORA_HANDLERS + \handler]        // does not return
    int3
.endm

.balign 16
.global fast_map
fast_map:
    of_one_page {map}
.balign 16
.global fast_unmap
fast_unmap:
    of_one_page {unmap}
