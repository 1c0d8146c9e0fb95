// What the fastpaths share (Intel syntax). All offsets are operands.
//
// Labels that begin with `phase.` say what the code behind them is for: `./justw explain` splits an operation by
// them and by the other labels (bench-harness, explain::phase). Nothing jumps to them.
//
// Held throughout: r15 = CPU block, r14 = the task that entered, rbp = the task that leaves.

// A miss: counts why, and takes the slow path with nothing changed.
.macro miss label, counter
\label:
    inc qword ptr [r15 + \counter]
    jmp syscall_slow
.endm

// Saves where the entering task goes on. `full` in its frame is 0 while a task runs.
.macro save_return
    mov [r14 + {rip}], rcx
    mov [r14 + {rsp}], rsp
    mov [r14 + {rflags}], r11
.endm

// Saves the arguments of a system call, but rax.
.macro save_arguments
    mov [r14 + {rdi}], rdi
    mov [r14 + {rsi}], rsi
    mov [r14 + {rdx}], rdx
    mov [r14 + {r8}], r8
    mov [r14 + {r9}], r9
    mov [r14 + {r10}], r10
.endm

// Enters the address space of rbp's process where it is not process \old. Clobbers rbx, r13 (and rcx). The other
// process must not read what the last one put into the data segment registers. Rarely is anything there, and loading
// them is dear: so they are read, and loaded only if one is not 0. (Loading FS or GS clears its base: load_return
// comes later.)
.macro enter_space old
phase.switch.\@:
    mov rbx, [rbp + {process}]
    cmp rbx, \old
    je 5f
    mov r13, [rbx + {vspace_of}]
    mov [r15 + {vspace}], r13                // published before CR3 is loaded, rechecked after
    mov rbx, [r13 + {cr3}]
    mov cr3, rbx
    test rbx, rbx                            // bit 63: with PCID, translations were kept
    js 4f
6:  mov ebx, ds
    mov r13d, es
    or ebx, r13d
    mov r13d, fs
    or ebx, r13d
    mov r13d, gs
    or ebx, r13d
    jnz 7f
5:
    .pushsection .text.entry.cold,"ax",@progbits
phase.switch.cold.\@:
4:  // Another CPU may have changed this space since it last ran here: then its translations go.
    mov ecx, [r15 + {cpu_id}]
    shl ecx, 3
    add rcx, [r13 + {seen}]
    mov rbx, [r13 + {generation}]
    cmp rbx, [rcx]
    je 6b
    mov [rcx], rbx
    mov rbx, [r13 + {cr3}]
    btr rbx, 63
    mov cr3, rbx
    jmp 6b
7:  xor ebx, ebx
    mov ds, ebx
    mov es, ebx
    mov fs, ebx
    mov gs, ebx
    jmp 5b
    .popsection
.endm

// Loads what the leaving task goes on with, and its declared segment bases.
.macro load_return
phase.exit.\@:
    mov rbx, [rbp + {fs_base}]
    wrfsbase rbx
    mov rbx, [rbp + {gs_base}]
    wrgsbase rbx
    mov rcx, [rbp + {rip}]
    mov rsp, [rbp + {rsp}]
    mov r11, [rbp + {rflags}]
.endm

// INDICES OF USER LEVEL. A CPU goes on behind a comparison that it mispredicts, and what it loads by an index beyond a
// table can be told from the caches (Spectre v1). So behind the comparison of each index that user level chose stands a
// conditional move of 0 from [r15 + {zero}]: no CPU predicts that one. In Rust: smp::door::masked.

// The capability in the upper half of rdi: its object goes to \to if its type and its rights among those of \want
// are \want; its slot to rbx. r14 = current task, r13 = its process. An empty slot has no type, and slot 0 is
// always empty: a number beyond the table leads there, without a branch. \other finds the word in \to. The word is
// read once.
.macro find_object to, want, other
    mov r14, [r15 + {current}]
    mov r13, [r14 + {process}]
    mov rbx, rdi
    shr rbx, 32
    cmp rbx, [r13 + {cspace_len}]
    cmovae rbx, [r15 + {zero}]
    shl rbx, {slot_shift}
    add rbx, [r13 + {cspace_base}]
    mov \to, [rbx + {slot_word}]
    mov r12, \to
    and r12d, \want | {type_mask}
    cmp r12d, \want
    jne \other
    sar \to, {addr_shift}
    and \to, -{object_align}
.endm

// The exposure that edi names, of the group in rbp: to rbx. There are fewer than 2^16.
.macro find_exposure missing
    cmp edi, [rbp + {exposures_len}]
    jae \missing
    cmovae rdi, [r15 + {zero}]
    mov ebx, edi
    shl rbx, {exposure_shift}
    add rbx, [rbp + {exposures}]
.endm

// The member record of the group in rbp, by the capability slot in rbx, less the key of process r13: to
// r12. Rights and custom bits are left if the key is the same.
.macro read_member
    mov r12d, [rbx + {slot_meta}]            // byte offset of the member record
    add r12, [rbp + {members}]
    mov r12, [r12]
    xor r12, [r13 + {key}]
.endm

// The end of a system call, whose answer is in its registers: those that no answer uses are zero.
.macro end_call
    .irp register, ebx, ebp, r13d, r14d, r15d
    xor \register, \register
    .endr
    sysretq
    int3
.endm
// Registers of the answer that are zero.
.macro zero_answer_but_rdx
    .irp register, eax, edi, esi, r8d, r9d, r10d, r12d
    xor \register, \register
    .endr
.endm

.macro zero_answer
    zero_answer_but_rdx
    xor edx, edx
.endm
