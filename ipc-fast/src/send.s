// The fastpath of send (Intel syntax): an event of four words in registers into a pool that has room, on whatever CPU
// its reader is. All offsets are operands.
//
// Not taken: UTCB words, flags, an exposure of one task per CPU, a pool that is full, closed, or of which
// another CPU takes a cell at the same moment. That is Rust's: kern_core::events.
//
// SHARED STATE. The ring, by the protocol of smp::events, whose models are smp/tests/loom_events.rs. On x86 an instruction
// that locks is a full fence, a load is Acquire and a store Release; so line by line:
//
//     Reserved::reserve   R1  load `reserved`                mov
//                         R2  closed: no                     test, js
//                         R3  load the head, Acquire         sub; after R1, as loads keep their order
//                         R4  room?                          cmp, jae: no head makes more room than there are cells
//                         R5  compare and exchange, AcqRel   lock cmpxchg; fails only if `reserved` is not R1's any more
//     Shown::write_header W   stores, Relaxed                mov; not before R5, which is a full fence
//     Reserved::publish   P1  exchange the stamp, Release    xchg; W is seen by who sees it
//                         P2  fence_after_exchange           nothing: P1 is one
//                         P3  load `armed`                   cmp; after P1
//
// Two atomic instructions, R5 and P1; no other fence, no MSR write, no CR3 write. What the reader writes, its head and
// `armed`, is read once each and used for nothing but R4 and P3.
//
// rsi is no argument of a send without flags: free, like rbx, rbp, r12, r13, r14.

.balign 64
.global fast_send
fast_send:
    // ---- checks ----
    find_object rbp, {cap_group_send}, miss_send
    read_member
    cmp r12, {member_send_limit}             // the same key, and SEND
    ja miss_send
    find_exposure miss_send
    mov r13, [rbx + {exposure_word}]
    cmp r13b, {type_task}                    // an exposure's word has no rights: address and type
    jne miss_send
    sar r13, {addr_shift}                    // the task
    test byte ptr [r13 + {task_flags}], {flag_dead}
    jnz miss_send
    mov ebx, [rbx + {exposure_tag_part}]     // of that tag: the low bits of its id
    .if {id_other_bits}
    xor ebx, [r13 + {id}]
    shl ebx, {id_other_bits}
    jnz miss_send
    .else
    cmp ebx, [r13 + {id}]
    jne miss_send
    .endif
    mov rbp, [r13 + {owner}]                 // its process; none: it has ended just now
    test rbp, rbp
    jz miss_send
    mov rbp, [rbp + {pool_of}]
    test rbp, rbp
    jz miss_send
phase.checks.send_room:
    mov r13, rax
    mov rax, [rbp + {pool_reserved}]         // R1
    test rax, rax
    js miss_send_room                        // R2
    mov rbx, [rbp + {pool_control}]
    mov r14, rax
    sub r14, [rbx + {control_head}]          // R3
    cmp r14, [rbp + {pool_cells_len}]        // R4
    jae miss_send_room
    lea r14, [rax + 1]
    lock cmpxchg [rbp + {pool_reserved}], r14 // R5: where it succeeds
    jne miss_send_room
phase.commit.send:
    // ---- COMMIT: nothing below can fail ----
    mov r14, [r15 + {current}]
    mov rbx, [rbp + {pool_cells_len}]        // a power of two
    dec rbx
    and rbx, rax                             // the cell
    mov rsi, rbx
    shl rsi, {cell_shift}
    add rsi, [rbp + {pool_cells}]
    xor r13b, r13b                           // the operation; there are no words: the label is left
    mov [rsi + {cell_info}], r13             // W
    mov r13, [r14 + {id}]
    mov [rsi + {cell_sender}], r13
    mov [rsi + {cell_exposure}], edi
    movzx r12d, r12w                         // custom bits
    mov [rsi + {cell_custom}], r12d
    mov qword ptr [rsi + {cell_free}], 0
    mov [rsi + {cell_regs}], rdx
    mov [rsi + {cell_regs} + 8], r8
    mov [rsi + {cell_regs} + 16], r9
    mov [rsi + {cell_regs} + 24], r10
    mov rdi, rcx
    mov cl, [rbp + {pool_cells_log2}]
    shr rax, cl                              // the round, from 1 on
    mov rcx, rdi
    inc eax
    mov rsi, [rbp + {pool_stamps}]
    xchg [rsi + rbx * {stamp_size}], eax     // P1, P2
    mov rsi, [rbp + {pool_control}]
    inc qword ptr [r15 + {fast_send}]
    cmp qword ptr [rsi + {control_armed}], 0 // P3
    jne tell_reader
phase.exit.send:
    zero_answer
    end_call

.pushsection .text.entry.cold,"ax",@progbits
// The event is there, and the reader wants to be told: by Rust, which ends the system call. r14 = sender, rbp = pool.
tell_reader:
    save_return
    leave_to_rust {tell_reader}
miss_send_room:
    mov rax, r13
miss miss_send, {miss_send}
.popsection
