// The system call entry with the fastpath of call and reply_recv (Intel syntax). All offsets are operands.
//
// All fastpaths have the same shape: checks that change nothing, each with a counted way out to the slow
// path; a marked commit point; then only writes that cannot fail; then the way out.
//
// rax, rdx, r8, r9, r10 pass through untouched: they are the message. UTCB words, where there are any,
// are copied after the commit: both UTCBs are reached through the direct map, so no access can fault, and
// each word is read once.
//
// What lives on another CPU (the callee, or the caller that is answered) is found here, too; the message goes
// into the caller's message block, which belongs to this CPU, and Rust sends that (kern_core::ipc::fastpath).
//
// SHARED STATE. None: every line written here belongs to this CPU. The capability word, the member
// record and the exposure word are each read once; what belongs to them stays put for this entry
// (smp::quiesce). No atomic instruction, no fence, no MSR write; one CR3 write where the address space changes.

// Both tasks have vector state: what is live is dead by the IPC ABI, the next one finds the initial
// image. Clobbers rbx, r13, rcx.
.macro reset_vector
    mov rbx, rax
    mov r13, rdx
    cmp byte ptr [{has_xgetbv1}], 0
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

// The UTCB words of the message, as many as rax says (at most 64, checked), from r14's UTCB to rbp's.
// Clobbers rcx, rsi, rdi.
.macro copy_words
    movzx ecx, ah
    mov rsi, [r14 + {utcb}]
    mov rdi, [rbp + {utcb}]
    rep movsq
.endm

// The committed half of a call. rbp = callee, r13 = caller's process, r12w = custom bits, edi = exposure.
.macro commit_call words, vector
phase.commit.\@:
    // ---- COMMIT: nothing below can fail ----
    save_return
    .if \words
    mov ebx, edi
    copy_words
    mov edi, ebx
    .endif
    mov byte ptr [r14 + {state}], {state_await}
    mov byte ptr [rbp + {state}], {state_ready}
    mov [rbp + {caller}], r14
    mov [r14 + {callee}], rbp
    mov rbx, [r15 + {running}]               // the caller's time, on which the callee runs from here on
    mov [rbp + {lender}], r14
    mov [rbx + {sc_task}], rbp
    mov [r15 + {current}], rbp
    inc qword ptr [r15 + {fast_call}]
    trace call
    mov rsi, [r14 + {id}]
    enter_space r13
    .if \vector
    reset_vector
    .endif
    load_return
    mov edi, edi
    movzx r12d, r12w
    end_call
.endm

// The committed half of a reply. rbp = caller, on whose time the task that answers runs.
.macro commit_reply words, vector
phase.commit.\@:
    // ---- COMMIT: nothing below can fail ----
    save_return
    .if \words
    copy_words
    .endif
    mov byte ptr [r14 + {state}], {state_recv}
    mov byte ptr [rbp + {state}], {state_ready}
    mov qword ptr [r14 + {caller}], 0
    mov qword ptr [r14 + {lender}], 0
    mov qword ptr [rbp + {callee}], 0
    mov rbx, [r15 + {running}]
    mov [rbx + {sc_task}], rbp
    mov [r15 + {current}], rbp
    inc qword ptr [r15 + {fast_reply}]
    trace reply
    enter_space "[r14 + {process}]"
    .if \vector
    reset_vector
    .endif
    load_return
    xor al, al
    xor edi, edi
    xor esi, esi
    xor r12d, r12d
    end_call
.endm

// The message registers go to the message block of task \block, which is on this CPU: a running task's is, and
// that of a caller who waits for an answer from here.
.macro save_message block
    mov [\block + {msg_info}], rax
    mov [\block + {msg_regs}], rdx
    mov [\block + {msg_regs} + 8], r8
    mov [\block + {msg_regs} + 16], r9
    mov [\block + {msg_regs} + 24], r10
.endm

// Goes on in Rust, for good. rbp = the other side.
.macro leave_to_rust handler
    mov rsp, [r15 + {kernel_stack}]
    mov rdi, r15
    mov rsi, r14
    mov rdx, rbp
    xor ebp, ebp                             // the end of frame pointers
    call [AURORA_HANDLERS + \handler]        // does not return
    int3
.endm

// A whole call. rdi = target. With UTCB words it takes the right STRING too, of capability and member record.
.macro fast_call words, cap_want, elsewhere
phase.checks.\@:
    // ---- call: checks ----
    find_object rbp, \cap_want, miss_call_cap
    read_member
    cmp r12, {member_send_limit}             // the same key, and SEND
    ja miss_call_member
    .if \words
    test r12d, {member_string}
    jz miss_call_member
    .endif
    find_exposure miss_call_exposure
    mov rbp, [rbx + {exposure_word}]
    cmp bpl, {type_task}                     // an exposure's word has no rights: address and type
    jne 12f
8:  sar rbp, {addr_shift}                    // the callee
    mov rbx, [rbx + {exposure_tag}]
    add rbx, [r15 + {recv_half}]             // live, of that tag, receiving, home here
    cmp rbx, [rbp + {state}]
    jne 13f
    commit_call \words, 0

phase.checks.other.\@:
12: // One task per CPU: this CPU's entry.
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
    mov rbp, [rbx + {exposure_word}]
    lea r13d, [rdi + 1]                      // behind the word: it was that exposure's entry when that was read
    cmp [rbx + {exposure_part_of}], r13d
    jne miss_call_exposure
    mov r13, [r14 + {process}]
    cmp bpl, {type_task}
    je 8b
    jmp miss_call_exposure

13: // Not as expected: both with vector state?
    test byte ptr [r14 + {state} + 1], {flag_vector}
    jz \elsewhere
    sub rbx, [r15 + {recv_half}]
    add rbx, [r15 + {recv_vector_half}]
    cmp rbx, [rbp + {state}]
    jne \elsewhere
    commit_call \words, 1
.endm

// What else an answer to rbp takes: nothing waits to be received but \pending, and the task runs on rbp's time, which
// goes back to rbp.
.macro can_answer pending
    cmp qword ptr [r14 + {pending}], \pending
    jne miss_reply_pending
    cmp [r14 + {lender}], rbp
    jne miss_reply_sched
.endm

// A whole reply_recv.
.macro fast_reply words, elsewhere
phase.checks.\@:
    // ---- reply_recv: checks ----
    mov r14, [r15 + {current}]
    mov rbp, [r14 + {caller}]
    test rbp, rbp
    jz miss_reply_caller
    mov ebx, [rbp + {state}]
    cmp rbx, [r15 + {await_half}]            // awaiting, no deadline, home here
    jne 21f
    can_answer 0
    commit_reply \words, 0

phase.checks.other.\@:
21: test byte ptr [r14 + {state} + 1], {flag_vector}
    jz \elsewhere
    cmp rbx, [r15 + {await_vector_half}]
    jne \elsewhere
    can_answer 0
    commit_reply \words, 1
.endm

// rax = message word: operation in bits 0-7, UTCB words in 8-15, flags in 16-31. What has neither words
// nor flags is its operation's number in eax.
.balign 64
.global syscall_entry
syscall_entry:
    test eax, eax
    jnz 20f
    fast_call 0, {cap_group_send}, call_elsewhere

phase.entry.reply:
20: cmp eax, {op_null}
    jae 30f
    fast_reply 0, reply_elsewhere

phase.entry.light:
30: je syscall_null
    cmp eax, {op_wait}
    jb fast_notify
    je fast_wait
    cmp eax, {op_yield_to}
    je fast_yield
    cmp rax, {op_numbers}
    jae 35f
    movzx eax, al                            // however the branch was predicted, the index is one of the table
    jmp [AURORA_FAST + rax * 8]
    int3

phase.entry.long:
35: test al, al
    jz 40f
    cmp al, {op_reply_recv}
    je 50f
    cmp eax, {op_send}                       // with a label
    je fast_send
    jmp syscall_slow

40: cmp eax, {words_end}                     // no flags, and not too long
    jae miss_call_message
    fast_call 1, {cap_group_string}, miss_call_other

phase.entry.reply_words:
50: cmp eax, {words_end}
    jae miss_reply_message
    fast_reply 1, miss_reply_other

// Does the callee live on another CPU? rbp = callee, upper half of rbx = its generation, r12w = custom bits.
.balign 16
call_elsewhere:
    mov r13d, [rbp + {task_home}]
    cmp r13d, [r15 + {cpu_id}]
    je miss_call_other
phase.commit.call_elsewhere:
    save_return
    save_message r14
    mov [r14 + {msg_target}], rdi
    mov [r14 + {msg_custom}], r12w
    mov r8, rdi
    shr rbx, 32
    shl rbx, 32
    mov rcx, rbx
    inc qword ptr [r15 + {express_call}]
    leave_to_rust {call_elsewhere}

// Does the caller live on another CPU? rbp = caller, ebx = low half of its state.
.balign 16
reply_elsewhere:
    mov r13d, [rbp + {task_home}]
    cmp r13d, [r15 + {cpu_id}]
    je miss_reply_other
    can_answer 0
phase.commit.reply_elsewhere:
    save_return
    xor al, al
    save_message rbp
    inc qword ptr [r15 + {express_reply}]
    leave_to_rust {reply_elsewhere}

// An answer to a fault. rbp = the faulter, which waits here, without deadline if its state is as Rust expects it.
.balign 16
reply_fault:
    cmp eax, {op_reply_recv}
    jne miss_reply_message
    can_answer {pending_fault}
phase.commit.reply_fault:
    save_return
    save_message rbp
    leave_to_rust {answer_fault}

.pushsection .text.entry.cold,"ax",@progbits
// A call whose receiver does not wait here for it, or in which one side has vector state. rbp = callee.
miss_call_other:
    mov ebx, [rbp + {state}]
    shr ebx, 8
    xor bl, [r14 + {state} + 1]
    test bl, {flag_vector}
    jz miss_call_receiver
miss miss_call_vector, {miss_call_vector}
// A reply whose caller does not wait here for a plain answer: it is elsewhere, or has faulted, or has
// vector state. ebx = low half of the caller's state.
miss_reply_other:
    test bh, {flag_in_fault}
    jnz reply_fault
    shr ebx, 8
    xor bl, [r14 + {state} + 1]
    test bl, {flag_vector}
    jz miss_reply_caller
miss miss_reply_vector, {miss_reply_vector}
miss miss_call_message, {miss_call_message}
miss miss_call_cap, {miss_call_cap}
miss miss_call_member, {miss_call_member}
miss miss_call_exposure, {miss_call_exposure}
miss miss_call_receiver, {miss_call_receiver}
miss miss_reply_message, {miss_reply_message}
miss miss_reply_caller, {miss_reply_caller}
miss miss_reply_pending, {miss_reply_pending}
miss miss_reply_sched, {miss_reply_sched}
.popsection
