// First instructions of the kernel, for both boot protocols (AT&T syntax).
//
// PVH enters at boot_pvh_entry, multiboot2 at boot_multiboot2_entry, both in 32-bit protected mode
// without paging, interrupts off, %ebx = address of the loader's information. The code loads the boot
// page tables, enters 64-bit mode and calls {main}(magic, info).
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

    movl $boot_pml4, %edx
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
    lgdt boot_gdtr
    movabsq $boot_start_high, %rax
    jmp *%rax
    int3

.balign 8
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                 // 0x08: 64-bit code
    .quad 0x00cf93000000ffff                 // 0x10: data
// The GDT in the direct map. Code in 32-bit mode loads the lower half of the address: the GDT itself.
boot_gdtr:
    .word . - boot_gdt - 1
    .quad boot_gdt + {fast_map}

.section .text.entry,"ax",@progbits
.code64
boot_start_high:
    movabsq ${fast_map}, %rax
    leaq boot_stack_top(%rax), %rsp
    movl %edi, %edi
    movl %esi, %esi
    xorl %ebp, %ebp
    call {main}
    int3

.section .boot.bss,"aw",@nobits
.balign 16384
boot_stack:     .skip 16384
boot_stack_top:

// The low 4 GiB, reachable three times: identity, direct map, kernel base. One PDPT serves all three:
// entries 0..3 = 4 GiB, entry 510 = -2 GiB. Entries: present | writable, for pages of 2 MiB | large.
.section .boot.tables,"aw",@progbits
.balign 4096
.global boot_pml4
boot_pml4:
    .quad boot_pdpt + 3
    .org boot_pml4 + {direct_map_slot}*8
    .quad boot_pdpt + 3
    .org boot_pml4 + 511*8
    .quad boot_pdpt + 3
boot_pdpt:
    .quad boot_pd + 0x0003, boot_pd + 0x1003, boot_pd + 0x2003, boot_pd + 0x3003
    .org boot_pdpt + 510*8
    .quad boot_pd + 0x0003, 0
boot_pd:
.set entry, 0x83
.rept 2048
    .quad entry
    .set entry, entry + (2 << 20)
.endr
