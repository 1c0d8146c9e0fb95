// First instructions of the kernel, for both boot protocols (AT&T syntax).
//
// PVH enters at boot_pvh_entry, multiboot2 at boot_multiboot2_entry, both in 32-bit protected mode
// without paging, interrupts off, %ebx = address of the loader's information. The code builds page
// tables for the low 4 GiB (2 MiB pages, reachable three times: identity, direct map, kernel base),
// enters 64-bit mode and calls {main}(magic, info).
//
// Runs at its load address: every symbol here is below 4 GiB. EFER.NXE stays off until Rust has seen
// that the CPU has it.

.section .boot.multiboot2,"a",@progbits
.balign 8
mb2_header:
    .long 0xe85250d6
    .long 0                                  // i386, protected mode
    .long mb2_header_end - mb2_header
    .long 0x100000000 - (0xe85250d6 + (mb2_header_end - mb2_header))
    .balign 8
    .word 6, 0                               // modules start on a page
    .long 8
    .balign 8
    .word 0, 0                               // end tag
    .long 8
mb2_header_end:

.section .note.Xen,"a",@note
.balign 4
    .long 4                                  // name size
    .long 8                                  // descriptor size
    .long 18                                 // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad boot_pvh_entry

.section .boot.text,"ax",@progbits
.code32
.global boot_pvh_entry
.global boot_multiboot2_entry
boot_pvh_entry:
    movl ${pvh_magic}, %eax
boot_multiboot2_entry:
    cli
    cld
    movl %eax, %edi                          // both survive until the call to Rust
    movl %ebx, %esi
    movl $boot_stack_top, %esp

    // Long mode there?
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb boot_no_long_mode
    movl $0x80000001, %eax
    cpuid
    testl $(1 << 29), %edx
    jz boot_no_long_mode

    // Page directories: 2048 entries of 2 MiB, present | writable | large.
    movl $boot_pd, %edx
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $21, %eax
    orl  $0x83, %eax
    movl %eax, (%edx,%ecx,8)
    movl $0, 4(%edx,%ecx,8)
    incl %ecx
    cmpl $2048, %ecx
    jne 1b

    // One PDPT serves all three views: entries 0..3 = 4 GiB, entry 510 = -2 GiB.
    movl $boot_pdpt, %edx
    movl $(boot_pd + 0x0003), %eax
    movl %eax, (%edx)
    movl %eax, 510*8(%edx)
    addl $0x1000, %eax
    movl %eax, 8(%edx)
    addl $0x1000, %eax
    movl %eax, 16(%edx)
    addl $0x1000, %eax
    movl %eax, 24(%edx)
    movl $boot_pml4, %edx
    movl $(boot_pdpt + 3), %eax
    movl %eax, (%edx)
    movl %eax, {direct_map_slot}*8(%edx)
    movl %eax, 511*8(%edx)

    movl %edx, %cr3
    movl %cr4, %eax
    orl  $0x20, %eax                         // PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx                   // EFER
    rdmsr
    orl  $0x100, %eax                        // LME
    wrmsr
    movl %cr0, %eax
    orl  $0x80010001, %eax                   // PG | WP | PE
    andl $0x9fffffff, %eax                   // not CD, not NW
    movl %eax, %cr0
    lgdt boot_gdtr
    ljmp $8, $boot_start64
    int3

boot_no_long_mode:
    movl $boot_no_long_mode_text, %esi
2:  movw $0x3fd, %dx
3:  inb  %dx, %al
    testb $0x20, %al
    jz 3b
    movb (%esi), %al
    testb %al, %al
    jz 4f
    movw $0x3f8, %dx
    outb %al, %dx
    incl %esi
    jmp 2b
4:  movw $0xf4, %dx
    movb ${exit_panic}, %al
    outb %al, %dx
5:  hlt
    jmp 5b
boot_no_long_mode_text:
    .asciz "aurora: this CPU lacks a required feature: LM (64-bit mode)\r\naurora: exit panic\r\n"

.code64
boot_start64:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movabsq $boot_start_high, %rax
    jmp *%rax
    int3

.balign 8
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                 // 0x08: 64-bit code
    .quad 0x00cf93000000ffff                 // 0x10: data
boot_gdtr:
    .word . - boot_gdt - 1
    .quad boot_gdt

.section .text.entry,"ax",@progbits
.code64
boot_start_high:
    movabsq ${fast_map}, %rax
    leaq boot_stack_top(%rax), %rsp
    leaq boot_gdt(%rax), %rcx                // the GDT, too, through the direct map from now on
    subq $16, %rsp
    movw $23, 6(%rsp)
    movq %rcx, 8(%rsp)
    lgdt 6(%rsp)
    addq $16, %rsp
    movl %edi, %edi
    movl %esi, %esi
    xorl %ebp, %ebp
    call {main}
    int3

.section .boot.bss,"aw",@nobits
.balign 16384
boot_stack:     .skip 16384
boot_stack_top:
.global boot_pml4
boot_pml4:      .skip 4096
boot_pdpt:      .skip 4096
boot_pd:        .skip 4*4096
