// What the fastpaths write into this CPU's ring of events, in builds with the feature `trace` (Intel syntax). In all
// others trace_off.s stands here instead, and none of it is assembled. All offsets are operands.
//
// The protocol is that of smp::ring: the words first, then the count. On x86 stores become visible in their order.
//
// Behind a commit point: no flags are live. Held: r15 = CPU block. All registers are kept.

// Begins an event, unless tracing is stopped: rcx = its place, rdx = the ring's offset, rax is free.
.macro event_begin
    cmp byte ptr [AURORA_TRACE + {trace_on}], 0
    je 92f
    mov [r15 + {spilled}], rax
    mov [r15 + {spilled} + 8], rdx
    mov [r15 + {spilled} + 16], rcx
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov edx, [r15 + {cpu_id}]
    shl edx, {ring_shift}
    mov rcx, [AURORA_TRACE + {rings} + rdx + {ring_head}]
    shl rcx, {event_words_log2}
    and rcx, [AURORA_TRACE + {rings} + rdx + {ring_mask}]
    shl rcx, 3
    add rcx, [AURORA_TRACE + {rings} + rdx + {ring_words}]
    mov [rcx], rax
.endm

// Publishes it.
.macro event_end
    inc qword ptr [AURORA_TRACE + {rings} + rdx + {ring_head}]
    mov rax, [r15 + {spilled}]
    mov rdx, [r15 + {spilled} + 8]
    mov rcx, [r15 + {spilled} + 16]
92:
.endm

// \kind: kind and small fields. \first, \second: where the words are.
.macro event kind, first, second
    event_begin
    mov qword ptr [rcx + 8], \kind
    mov rax, \first
    mov [rcx + 16], rax
    mov rax, \second
    mov [rcx + 24], rax
    event_end
.endm

// The name of the object at \from (test_abi::trace::object_name), to rax.
.macro name_object from
    mov rax, \from
    shl rax, 16
    shr rax, 16
.endm

// Kind, and in field A the priority of context \context.
.macro event_priority kind, context
    mov eax, [\context + {sc_rank}]
    dec eax
    shl eax, {field_a}
    or rax, \kind
    mov [rcx + 8], rax
.endm

// rbp runs with context \context.
.macro event_run context
    event_begin
    event_priority {event_run}, \context
    mov rax, [rbp + {id}]
    mov [rcx + 16], rax
    name_object \context
    mov [rcx + 24], rax
    event_end
.endm

// Context \context left the run queue.
.macro event_dequeued context
    event_begin
    mov qword ptr [rcx + 8], {event_dequeued}
    name_object \context
    mov [rcx + 16], rax
    event_end
.endm

// Context \context stands in the run queue, behind its equals.
.macro event_enqueued context
    event_begin
    event_priority {event_enqueued}, \context
    name_object \context
    mov [rcx + 16], rax
    event_end
.endm

// Task \task gets the bits of the Notification \object.
.macro event_bits task, object
    event_begin
    mov qword ptr [rcx + 8], {event_bits}
    mov rax, [\task + {id}]
    mov [rcx + 16], rax
    name_object \object
    mov [rcx + 24], rax
    event_end
.endm

// What each fastpath has to say.
.macro trace what
    trace_\what
.endm

// r14 calls rbp, which runs on its context rbx.
.macro trace_call
    event {event_call}, "[r14 + {id}]", "[rbp + {id}]"
    event {event_stop_await}, "[r14 + {id}]", 0
    event_run rbx
.endm

// r14 answers rbp, which runs on its context rbx.
.macro trace_reply
    event {event_reply}, "[rbp + {id}]", "[r14 + {id}]"
    event {event_stop_recv}, "[r14 + {id}]", 0
    event_run rbx
.endm

// rsi are raised in the Notification rbp, whose home is here.
.macro trace_notify
    event_begin
    mov qword ptr [rcx + 8], {event_notified}
    name_object rbp
    mov [rcx + 16], rax
    mov [rcx + 24], rsi
    event_end
.endm

// The same, and its waiter r12 gets them and is queued with context rbx.
.macro trace_notify_waiter
    trace_notify
    event_bits r12, rbp
    event_enqueued rbx
.endm

// r14 waits; rbp runs on context rbx, which was queued.
.macro trace_wait
    event {event_stop_wait}, "[r14 + {id}]", 0
    event_dequeued rbx
    event_run rbx
.endm

// r14 takes the bits of the Notification r13.
.macro trace_wait_bits
    event_bits r14, r13
.endm

// r14 yields; rbp runs on context rbx, in whose place r12 is queued.
.macro trace_yield
    event {event_stop_yield}, "[r14 + {id}]", 0
    event_dequeued rbx
    event_enqueued r12
    event_run rbx
.endm
