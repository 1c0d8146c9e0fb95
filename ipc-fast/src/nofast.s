// The system call entry of a kernel without the fastpath.

.balign 64
.global syscall_entry
syscall_entry:
    cmp al, {op_null}
    je syscall_null
    jmp syscall_slow
