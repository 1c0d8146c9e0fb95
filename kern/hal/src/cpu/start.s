// First instructions of an application processor (AT&T syntax): copied to a page below 1 MiB, where
// it starts in real mode after INIT and SIPI. Position independent: everything is found from the
// page's address in %ebx. `StartArgs` (start.rs) follows the code; its offsets are operands.

.section .rodata.start,"a",@progbits
.balign 16
.global ap_start_code
ap_start_code:
.code16
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    xorl %ebx, %ebx
    movw %ax, %bx
    shll $4, %ebx
    lgdtl {gdt_pointer}
    movl %cr4, %eax
    orl  $0x20, %eax                         // PAE
    movl %eax, %cr4
    movl {start_tables}, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx                   // EFER
    rdmsr
    orl  $0x901, %eax                        // NXE | LME | SCE: the boot CPU has checked NX
    wrmsr
    movl %cr0, %eax
    andl $0x9fffffff, %eax                   // not CD, not NW
    orl  $0x80010001, %eax                   // PG | WP | PE: from real mode to long mode at once
    movl %eax, %cr0
    ljmpl *{far_64}
    int3
.global ap_start_64
ap_start_64:
.code64
    // Whoever takes the stack runs; a CPU that comes too late finds none.
    xorl %eax, %eax
    xchgq %rax, {stack}(%rbx)
    testq %rax, %rax
    jz 1f
    movq %rax, %rsp
    movq {local}(%rbx), %rdi
    movq {kernel_tables}(%rbx), %rsi
    movq {entry}(%rbx), %rax
    jmp *%rax
    int3
1:  hlt
    jmp 1b
.global ap_start_end
ap_start_end:

// In the kernel image, after the jump off the start page: from here on the kernel's own tables.
.section .text.entry,"ax",@progbits
.code64
.global ap_enter_kernel
ap_enter_kernel:
    movq %rsi, %cr3
    xorl %ebp, %ebp
    call {main}
    int3
