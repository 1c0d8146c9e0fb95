// The fastpath of call and reply_recv (Intel syntax). All offsets are operands.
//
// Both have the same shape: checks that change nothing, each with a counted way out to the slow path;
// a marked commit point; then only writes that cannot fail; then the way out.
//
// Held throughout: r15 = CPU block, r14 = the task that entered, rbp = the task that leaves.
// rax, rdx, r8, r9, r10 pass through untouched: they are the message.
//
// SHARED STATE. None: every line written here belongs to this CPU. The capability word, the member
// record and the exposure word are each read once; what belongs to them stays put for this entry
// (smp::quiesce). No atomic instruction, no fence, no MSR write; one CR3 write where the address space changes.

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

// Enters the address space of rbp's process where it is not process \old. Clobbers rbx, r13 (and rcx).
.macro enter_space old
    mov rbx, [rbp + {process}]
    cmp rbx, \old
    je 5f
    mov r13, [rbx + {vspace_of}]
    mov [r15 + {vspace}], r13                // published before CR3 is loaded, rechecked after
    mov rbx, [r13 + {cr3}]
    mov cr3, rbx
    test rbx, rbx                            // bit 63: with PCID, translations were kept
    js 4f
5:
    .pushsection .text.entry.cold,"ax",@progbits
4:  // Another CPU may have changed this space since it last ran here: then its translations go.
    mov ecx, [r15 + {cpu_id}]
    shl ecx, 3
    add rcx, [r13 + {seen}]
    mov rbx, [r13 + {generation}]
    cmp rbx, [rcx]
    je 5b
    mov [rcx], rbx
    mov rbx, [r13 + {cr3}]
    btr rbx, 63
    mov cr3, rbx
    jmp 5b
    .popsection
.endm

// Loads what the leaving task goes on with, and its declared segment bases.
.macro load_return
    mov rbx, [rbp + {fs_base}]
    wrfsbase rbx
    mov rbx, [rbp + {gs_base}]
    wrgsbase rbx
    mov rcx, [rbp + {rip}]
    mov rsp, [rbp + {rsp}]
    mov r11, [rbp + {rflags}]
.endm

// Both tasks have vector state: what is live is dead by the IPC ABI, the next one finds the initial
// image. Clobbers rbx, r13, rcx.
.macro reset_vector
    mov rbx, rax
    mov r13, rdx
    cmp byte ptr [AURORA_XGETBV1], 0
    je 6f
    stmxcsr [r15 + {scratch}]
    cmp dword ptr [r15 + {scratch}], {initial_mxcsr}
    jne 6f
    mov ecx, 1
    xgetbv
    test eax, eax                            // components in use; none above 31 is switched on
    jz 7f
6:  mov eax, -1
    mov edx, -1
    xrstor64 [{initial_vector}]
7:  mov rax, rbx
    mov rdx, r13
.endm

// The committed half of a call. rbp = callee, r13 = caller's process, r12w = custom bits, edi = exposure.
.macro commit_call vector
    // ---- COMMIT: nothing below can fail ----
    save_return
    mov byte ptr [r14 + {state}], {state_await}
    mov byte ptr [rbp + {state}], {state_ready}
    mov [rbp + {caller}], r14
    mov [r14 + {callee}], rbp
    mov rbx, [r14 + {sc}]
    mov [rbp + {sc}], rbx                    // the caller's own stays as it is: the reply finds it so
    mov [rbp + {lender}], r14
    mov [rbx + {sc_task}], rbp
    mov [r15 + {current}], rbp
    inc qword ptr [r15 + {fast_call}]
    mov rsi, [r14 + {id}]
    enter_space r13
    .if \vector
    reset_vector
    .endif
    load_return
    mov edi, edi
    movzx r12d, r12w
    xor ebx, ebx
    xor ebp, ebp
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    sysretq
.endm

.macro commit_reply vector
    // ---- COMMIT: nothing below can fail ----
    save_return
    mov byte ptr [r14 + {state}], {state_recv}
    mov byte ptr [rbp + {state}], {state_ready}
    mov qword ptr [r14 + {caller}], 0
    mov qword ptr [rbp + {callee}], 0
    mov [rbx + {sc_task}], rbp
    mov r12, [r14 + {own_sc}]
    mov [r14 + {sc}], r12
    mov [r15 + {current}], rbp
    inc qword ptr [r15 + {fast_reply}]
    enter_space "[r14 + {process}]"
    .if \vector
    reset_vector
    .endif
    load_return
    xor al, al
    xor edi, edi
    xor esi, esi
    xor ebx, ebx
    xor ebp, ebp
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    sysretq
.endm

.balign 64
.global syscall_entry
syscall_entry:
    test al, al
    .if {op_call} != 0
    .error "the entry takes a call to be operation 0"
    .endif
    jnz 20f

    // ---- call: checks ----
    test eax, {not_fast}
    jnz miss_call_message
    mov r14, [r15 + {current}]
    mov r13, [r14 + {process}]
    mov rbx, rdi                             // capability
    shr rbx, 32
    cmp rbx, [r13 + {cspace_len}]
    jae miss_call_cap
    shl rbx, {slot_shift}
    add rbx, [r13 + {cspace_base}]
    mov rbp, [rbx + {slot_word}]
    mov r12d, ebp
    and r12d, {cap_mask}
    cmp r12d, {cap_group_send}
    jne miss_call_cap
    sar rbp, {addr_shift}
    and rbp, -{object_align}                 // the group
    mov r12d, [rbx + {slot_meta}]            // byte offset of the member record
    add r12, [rbp + {members}]
    mov r12, [r12]
    xor r12, [r13 + {key}]                   // leaves rights and custom bits if the key is the same
    cmp r12, {member_send_limit}
    ja miss_call_member
    mov ebx, edi                             // exposure
    cmp rbx, [rbp + {exposures_len}]
    jae miss_call_exposure
    shl rbx, {exposure_shift}
    add rbx, [rbp + {exposures}]
    mov rbp, [rbx + {exposure_word}]
    cmp bpl, {type_task}                     // an exposure's word has no rights: address and type
    jne 10f
1:  sar rbp, {addr_shift}                    // the callee
    mov rbx, [rbx + {exposure_tag}]
    add rbx, [r15 + {recv_half}]             // live, of that generation, receiving, home here
    cmp rbx, [rbp + {state}]
    jne 11f
    commit_call 0

10: // One task per CPU: this CPU's entry.
    mov ebp, [rbx + {exposure_per_cpu}]
    test ebp, ebp
    jz miss_call_exposure
    mov r13d, edi
    shl r13, {exposure_shift}
    sub rbx, r13
    dec ebp
    add ebp, [r15 + {cpu_id}]
    shl rbp, {exposure_shift}
    add rbx, rbp
    mov r13, [r14 + {process}]
    mov rbp, [rbx + {exposure_word}]
    cmp bpl, {type_task}
    je 1b
    jmp miss_call_exposure

11: // Not as expected: both with vector state?
    test byte ptr [r14 + {state} + 1], {flag_vector}
    jz 12f
    sub rbx, [r15 + {recv_half}]
    add rbx, [r15 + {recv_vector_half}]
    cmp rbx, [rbp + {state}]
    jne 12f
    commit_call 1
12: // Either side's vector state, or the receiver.
    mov ebx, [rbp + {state}]
    shr ebx, 8
    xor bl, [r14 + {state} + 1]
    test bl, {flag_vector}
    jz miss_call_receiver
    jmp miss_call_vector

20: cmp al, {op_reply_recv}
    jne 30f

    // ---- reply_recv: checks ----
    test eax, {not_fast}
    jnz miss_reply_message
    mov r14, [r15 + {current}]
    mov rbp, [r14 + {caller}]
    test rbp, rbp
    jz miss_reply_caller
    mov ebx, [rbp + {state}]
    cmp rbx, [r15 + {await_half}]            // awaiting, no deadline, home here
    jne 21f
    cmp qword ptr [r14 + {pending}], 0
    jne miss_reply_pending
    cmp [r14 + {lender}], rbp                // the caller's time, which goes back to it
    jne miss_reply_sched
    mov rbx, [r14 + {sc}]
    commit_reply 0

21: test byte ptr [r14 + {state} + 1], {flag_vector}
    jz 22f
    cmp rbx, [r15 + {await_vector_half}]
    jne 22f
    cmp qword ptr [r14 + {pending}], 0
    jne miss_reply_pending
    cmp [r14 + {lender}], rbp
    jne miss_reply_sched
    mov rbx, [r14 + {sc}]
    commit_reply 1
22: shr ebx, 8
    xor bl, [r14 + {state} + 1]
    test bl, {flag_vector}
    jz miss_reply_caller
    jmp miss_reply_vector

30: cmp al, {op_null}
    je syscall_null
    jmp syscall_slow

.pushsection .text.entry.cold,"ax",@progbits
miss miss_call_message, {miss_call_message}
miss miss_call_cap, {miss_call_cap}
miss miss_call_member, {miss_call_member}
miss miss_call_exposure, {miss_call_exposure}
miss miss_call_receiver, {miss_call_receiver}
miss miss_call_vector, {miss_call_vector}
miss miss_reply_message, {miss_reply_message}
miss miss_reply_caller, {miss_reply_caller}
miss miss_reply_pending, {miss_reply_pending}
miss miss_reply_sched, {miss_reply_sched}
miss miss_reply_vector, {miss_reply_vector}
.popsection
