// Interrupt and exception entry and exit (Intel syntax). All offsets are operands.
//
// Every stub leaves: [rsp] = vector, [rsp+8] = error code (0 where the CPU pushes none), then the
// CPU's own frame: rip, cs, rflags, rsp, ss.

.section .text.entry,"ax",@progbits
.balign 16
.global trap_stubs
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    // Vectors for which the CPU pushes an error code: 8, 10-14, 17, 21, 29, 30.
    .if (vector < 32) && (((1 << vector) & {error_code_vectors}) != 0)
    .else
    push 0
    .endif
    push vector
    jmp trap_common
    .set vector, vector + 1
.endr

.balign 16
trap_common:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    // Known flags: no AC (user memory), DF, NT, TF left over from the interrupted code.
    push {kernel_flags}
    popfq
    mov rdi, rsp
    call {kernel_trap}
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
    iretq
