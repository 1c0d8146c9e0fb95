// The fastpaths of notify, wait, yield and yield_to (Intel syntax). All offsets are operands.
//
// They take what two tasks do that take turns: raise bits that nobody waits for; wake a waiter that does
// not outrank the caller; wait, and go on with the best ready task; yield to the best ready task. The
// "best ready task" is the one alone at the front of the run queue (sched::run_queue), and both are
// *plain* (kern_base::task): no deadline, own time, an answer of one value. Everything else is Rust's.
//
// SHARED STATE. None. The home of a Notification and of a task is compared before anything inside is
// read, but for the task's state word, which has its home in it. No atomic instruction, no fence, no MSR
// write; RDTSC where another context runs from here on, one CR3 write where the address space changes.
//
// rdx, r8, r9 and r10 are no arguments of these operations, and all zero or written on return: free.

// Leaves the kernel as the plain task rbp; r14 = the task that entered.
.macro leave_plain
    enter_space "[r14 + {process}]"
    load_return
    mov rdx, [rbp + {rdx}]
    zero_answer_but_rdx
    end_call
.endm

// The time, to rax. Clobbers rdx.
.macro read_clock
    rdtsc
    shl rdx, 32
    or rax, rdx
.endm

// The plain task rbp, whose time rbx is alone at the front of the run queue, runs from here on. r14, which yields, and
// its time r12 take the place there, with the same \rank.
.macro change_places rank
    save_return
    mov byte ptr [r14 + {state}], {state_ready_plain}
    mov qword ptr [r14 + {rdx}], 0
    mov byte ptr [rbp + {state}], {state_ready}
    mov [r15 + {front}], r12
    mov [r12 + {sc_place}], \rank
    mov dword ptr [rbx + {sc_place}], 0
    mov [r15 + {running}], rbx
    mov [r15 + {current}], rbp
    inc qword ptr [r15 + {fast_yield}]
    trace yield
.endm

// Raises rsi in the Notification that rdi names.
.balign 64
fast_notify:
    // ---- checks ----
    find_object rbp, {cap_note_notify}, 4f
8:  mov ebx, [rbp + {note_home}]
    cmp ebx, [r15 + {cpu_id}]
    jne miss_notify
    mov r12, [rbp + {note_waiter}]
    test r12, r12
    jnz 2f
    cmp qword ptr [rbp + {note_bound}], 0
    jne miss_notify
phase.commit.notify:
    // ---- COMMIT: nothing below can fail ----
    or [rbp + {note_bits}], rsi
    inc qword ptr [r15 + {fast_notify}]
    trace notify
phase.exit.notify:
    zero_answer
    end_call

phase.checks.notify_waiter:
2:  // Somebody waits: goes to the front of the run queue.
    mov ebx, [r12 + {state}]
    cmp ebx, [r15 + {wait_half}]             // waits, plain, home here, no vector state, not suspended
    jne miss_notify
    test rsi, rsi
    jz miss_notify
    cmp qword ptr [r15 + {front}], 0
    jne miss_notify
    mov rbx, [r12 + {own_sc}]                // which rests here
    mov edx, [rbx + {sc_rank}]
    cmp edx, [r15 + {top}]
    jbe miss_notify
    mov r8, [r15 + {running}]
    cmp edx, [r8 + {sc_rank}]
    ja miss_notify                           // it preempts the caller
    jb 3f
    mov r8, [r15 + {until}]                  // an equal: the end of the caller's slice has to be enforced
    cmp r8, [r15 + {timer}]
    jb miss_notify
phase.commit.notify_waiter:
3:  // ---- COMMIT: nothing below can fail ----
    mov [r15 + {front}], rbx
    mov [rbx + {sc_place}], edx
    mov qword ptr [rbp + {note_waiter}], 0
    mov qword ptr [r12 + {waits_for}], 0
    mov byte ptr [r12 + {state}], {state_ready_plain}
    mov [r12 + {rdx}], rsi
    inc qword ptr [r15 + {fast_notify}]
    trace notify_waiter
phase.exit.notify_waiter:
    zero_answer
    end_call

phase.checks.notify_group:
4:  // Through a group? rbp = the capability word, rbx = its slot.
    mov r12d, ebp
    and r12d, {cap_group_notify} | {type_mask}
    cmp r12d, {cap_group_notify}
    jne miss_notify
    sar rbp, {addr_shift}
    and rbp, -{object_align}
    read_member
    mov rbx, r12
    shr rbx, {member_key_shift}              // the same key
    jnz miss_notify
    test r12d, {member_notify}
    jz miss_notify
    find_exposure miss_notify
    mov rbp, [rbx + {exposure_word}]
    cmp bpl, {type_notification}             // an exposure's word has no rights: address and type
    jne miss_notify
    sar rbp, {addr_shift}
    jmp 8b

// Waits for bits of the Notification that rdi names.
.balign 64
fast_wait:
    // ---- checks ----
    find_object r13, {cap_note_listen}, miss_wait
    mov ebx, [r13 + {note_home}]
    cmp ebx, [r15 + {cpu_id}]
    jne miss_wait
    movzx ebx, byte ptr [r13 + {note_flags}] // of one that is dying nobody would be woken
    or rbx, [r13 + {note_bits}]
    or rbx, [r13 + {note_waiter}]
    or rbx, [r13 + {note_bound}]
    jnz 2f
    mov r12, [r15 + {running}]
    cmp r12, [r14 + {own_sc}]
    jne miss_wait
    mov rbx, [r15 + {front}]
    test rbx, rbx
    jz miss_wait
    mov rbp, [rbx + {sc_task}]               // what is queued has a task that is ready
    mov edx, [rbp + {state}]
    cmp edx, [r15 + {plain_half}]            // plain, neither it nor the caller with vector state
    jne miss_wait
phase.commit.wait:
    // ---- COMMIT: nothing below can fail ----
    save_return
    mov [r13 + {note_waiter}], r14
    mov [r14 + {waits_for}], r13
    mov byte ptr [r14 + {state}], {state_wait_plain}
    mov byte ptr [rbp + {state}], {state_ready}
    mov qword ptr [r15 + {front}], 0
    mov dword ptr [rbx + {sc_place}], 0
    mov [r15 + {running}], rbx
    mov [r15 + {current}], rbp
    inc qword ptr [r15 + {fast_wait}]
    trace wait
    read_clock
    mov rdx, [r15 + {until}]
    sub rdx, rax
    jb wait_overrun
after_wait:
    mov [r12 + {sc_remaining}], rdx          // ScState::stop
    add rax, [rbx + {sc_remaining}]
    mov [r15 + {until}], rax                 // ScState::start
    leave_plain

phase.checks.wait_bits:
2:  // There are bits, or somebody else waits or is bound, or it is dying.
    cmp qword ptr [r13 + {note_bits}], 0
    je miss_wait
    cmp qword ptr [r13 + {note_bound}], 0
    jne miss_wait
phase.commit.wait_bits:
    // ---- COMMIT: nothing below can fail ----
    mov rdx, [r13 + {note_bits}]
    mov qword ptr [r13 + {note_bits}], 0
    inc qword ptr [r15 + {fast_wait}]
    trace wait_bits
phase.exit.wait_bits:
    zero_answer_but_rdx
    end_call

// Gives the rest of the slice to the task that rdi names.
.balign 64
fast_yield:
    // ---- checks ----
    find_object rbp, {cap_task_schedule}, miss_yield
    mov ebx, [rbp + {state}]
    cmp ebx, [r15 + {plain_half}]            // ready, plain, home here, nobody with vector state
    jne miss_yield
    mov rbx, [rbp + {own_sc}]
    cmp rbx, [r15 + {front}]                 // queued, as the best
    jne miss_yield
    mov r12, [r15 + {running}]
    cmp r12, [r14 + {own_sc}]                // borrowed time would have to be noted
    jne miss_yield
    mov edx, [r12 + {sc_rank}]
    cmp edx, [rbx + {sc_rank}]               // equals: the caller takes its place
    jne miss_yield
    mov r13, [r15 + {until}]                 // whose end has to be enforced
    cmp r13, [r15 + {timer}]
    jb miss_yield
phase.commit.yield:
    // ---- COMMIT: nothing below can fail ----
    change_places edx
    read_clock
    sub r13, rax                             // the rest of the slice
    jb yield_overrun
after_yield:
    mov rdx, [r12 + {sc_slice}]              // ScState::stop, ScState::donate_rest: the end stays
    mov [r12 + {sc_remaining}], rdx
    sub rdx, r13
    add [r12 + {sc_granted}], rdx
    mov rdx, r13
    sub rdx, [rbx + {sc_remaining}]
    add [rbx + {sc_granted}], rdx
    mov [rbx + {sc_remaining}], r13
    leave_plain

// Yields to the next equal, with a fresh slice for the next turn.
.balign 64
.global fast_yield_next
fast_yield_next:
    // ---- checks ----
    mov r14, [r15 + {current}]
    mov r12, [r15 + {running}]
    cmp r12, [r14 + {own_sc}]
    jne syscall_slow                         // borrowed time: there is no short way
    mov rbx, [r15 + {front}]
    test rbx, rbx
    jz yield_next
    mov rbp, [rbx + {sc_task}]               // what is queued has a task that is ready
    mov edx, [rbp + {state}]
    cmp edx, [r15 + {plain_half}]            // plain, neither it nor the caller with vector state
    jne 2f
    mov r13d, [r12 + {sc_rank}]
    cmp r13d, [rbx + {sc_rank}]              // equals: the caller takes its place
    jne yield_next
    read_clock
    mov r8, rax
    mov r9, [rbx + {sc_remaining}]
    add r9, rax                              // ScState::start
    cmp r9, [r15 + {timer}]                  // the end of its slice has to be enforced
    jb yield_next
phase.commit.yield_next:
    // ---- COMMIT: nothing below can fail ----
    change_places r13d
    sub r8, [r15 + {until}]                  // what is left of the slice, or by how much it was overrun
    mov [r15 + {until}], r9
    mov rdx, [r12 + {sc_slice}]              // ScState::stop, ScState::refill
    mov [r12 + {sc_remaining}], rdx
    add rdx, r8
    add [r12 + {sc_granted}], rdx
    leave_plain

phase.checks.yield_in_grace:
2:  // Is that only so because the caller's slice was lengthened (kern_core::door::yielding)?
    cmp qword ptr [r12 + {sc_grace}], 0
    je yield_next
    test byte ptr [r14 + {state} + 1], {flag_vector}
    jnz yield_next                           // vector state makes the same mark
    xor edx, {none_ready}
    cmp edx, [r15 + {plain_half}]
    jne yield_next
    cmp word ptr [r12 + {sc_has_budget}], 0  // nor is it watched
    jne yield_next
    cmp byte ptr [r15 + {more_mail}], 0
    jne yield_next
    mov r13d, [r12 + {sc_rank}]
    cmp r13d, [rbx + {sc_rank}]
    jne yield_next
phase.commit.yield_in_grace:
    // ---- COMMIT: nothing below can fail ----
    change_places r13d
    mov rsp, [r15 + {kernel_stack}]
    mov rdi, r15
    mov rsi, r12
    mov rdx, rbx
    mov r13, rbp
    xor ebp, ebp                             // the end of frame pointers
    call aurora_yield_in_grace
    mov rbp, r13
    leave_plain

// Yields in all other cases: in Rust, which needs no arguments.
.balign 16
yield_next:
    save_return
    mov rsp, [r15 + {kernel_stack}]
    mov rdi, r15
    mov rsi, r14
    xor ebp, ebp                             // the end of frame pointers
    call [AURORA_HANDLERS + {yield_next}]    // does not return
    int3

.pushsection .text.entry.cold,"ax",@progbits
// The slice was over before now: the context has used that much more (ScState::overrun), and nothing is left.
wait_overrun:
    sub [r12 + {sc_granted}], rdx
    xor edx, edx
    jmp after_wait
yield_overrun:
    sub [r12 + {sc_granted}], r13
    xor r13d, r13d
    mov [r15 + {until}], rax
    jmp after_yield
miss miss_notify, {miss_notify}
miss miss_wait, {miss_wait}
miss miss_yield, {miss_yield}
.popsection
