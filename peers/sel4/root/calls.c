/* Calls and their replies, sends, yields, and what a system call costs that does nothing. */
#include "calls.h"

/* Messages of up to four words travel in registers. */
INLINE void call_in_registers(word words)
{
    const seL4_MessageInfo_t ask = message(ASK, 0, words);
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        word a = WORD_A, b = WORD_B, c = WORD_C, d = WORD_D;
        u64 start = stamp();
        seL4_MessageInfo_t got = words ? seL4_CallWithMRs(SLOT_EP, ask, &a, &b, &c, &d)
                                       : seL4_CallWithMRs(SLOT_EP, ask, 0, 0, 0, 0);
        u64 end = stamp();
        sample(n, start, end);
        must(seL4_MessageInfo_get_label(got) == ANSWER, "wrong_label", got.words[0]);
        must(seL4_MessageInfo_get_length(got) == words, "wrong_length", got.words[0]);
        must((a ^ WORD_A | b ^ WORD_B | c ^ WORD_C | d ^ WORD_D) == 0, "wrong_words", a);
    }
}

/* Further words are in the IPC buffer: written before the first time stamp, read after the second one. */
INLINE void call_in_buffer(word words)
{
    const seL4_MessageInfo_t ask = message(ASK, 0, words);
    volatile word *own = ipc_buffer_of(1)->msg, *servers = ipc_buffer_of(0)->msg;
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        word a = WORD_A, b = WORD_B, c = WORD_C, d = WORD_D;
        for (word i = 4; i < words; i++) {
            own[i] = n * 1000 + i;
        }
        u64 start = stamp();
        seL4_MessageInfo_t got = seL4_CallWithMRs(SLOT_EP, ask, &a, &b, &c, &d);
        u64 end = stamp();
        sample(n, start, end);
        must(seL4_MessageInfo_get_label(got) == ANSWER, "wrong_label", got.words[0]);
        must(seL4_MessageInfo_get_length(got) == words, "wrong_length", got.words[0]);
        must((a ^ WORD_A | b ^ WORD_B | c ^ WORD_C | d ^ WORD_D) == 0, "wrong_words", a);
        for (word i = 4; i < words; i++) {
            must(own[i] == n * 1000 + i, "wrong_word_of_the_reply", i);
            must(servers[i] == n * 1000 + i, "wrong_word_at_the_server", i);
        }
    }
}

INLINE void echo(word words)
{
    const seL4_MessageInfo_t answer = message(ANSWER, 0, words);
    word a, b, c, d;
    recv_words(SLOT_EP, &a, &b, &c, &d);
    for (;;) {
        if (words) {
            reply_recv(SLOT_EP, answer, &a, &b, &c, &d);
        } else {
            reply_recv(SLOT_EP, answer, 0, 0, 0, 0);
        }
    }
}

void call_0_client(void) { call_in_registers(0); }
void call_4_client(void) { call_in_registers(4); }
void call_10_client(void) { call_in_buffer(10); }
void call_64_client(void) { call_in_buffer(64); }
void echo_0_server(void) { echo(0); }
void echo_4_server(void) { echo(4); }
void echo_10_server(void) { echo(10); }
void echo_64_server(void) { echo(64); }

/* Vector registers are not saved by the system call's stub: what the client has put there must be there still. */
INLINE void load_vector(word value)
{
    __asm__ volatile("movq %0, %%xmm7" : : "r"(value));
}

INLINE word read_vector(void)
{
    word value;
    __asm__ volatile("movq %%xmm7, %0" : "=r"(value));
    return value;
}

static void vector_4_client(void)
{
    load_vector(77);
    call_in_registers(4);
    must(read_vector() == 77, "lost_vector_state", read_vector());
}

static void vector_0_client(void)
{
    load_vector(77);
    call_in_registers(0);
    must(read_vector() == 77, "lost_vector_state", read_vector());
}

static void vector_0_server(void)
{
    load_vector(88);
    echo(0);
}

static void vector_4_server(void)
{
    load_vector(88);
    echo(4);
}

static void two_calls_server(void)
{
    const seL4_MessageInfo_t answer = message(ANSWER, 0, 4);
    for (;;) {
        word a, b, c, d;
        recv_words(SLOT_EP, &a, &b, &c, &d);
        reply_words(answer, &a, &b, &c, &d);
    }
}

/* Lets the other client call before it answers, so that one is always in the queue. */
static void yielding_server(void)
{
    const seL4_MessageInfo_t answer = message(ANSWER, 0, 4);
    word a, b, c, d;
    recv_words(SLOT_EP, &a, &b, &c, &d);
    for (;;) {
        seL4_Yield();
        reply_recv(SLOT_EP, answer, &a, &b, &c, &d);
    }
}

static void second_client(void)
{
    for (;;) {
        word a = WORD_A, b = WORD_B, c = WORD_C, d = WORD_D;
        seL4_CallWithMRs(SLOT_EP, message(ASK, 0, 4), &a, &b, &c, &d);
    }
}

static void yielder(void)
{
    for (;;) {
        seL4_Yield();
    }
}

/* One way: the sender stores the first time stamp, the receiver takes the second. */
static void call_one_way_client(void)
{
    begin_one_way();
    for (unsigned n = 0; n < last_sample(); n++) {
        word a = WORD_A, b = WORD_B, c = WORD_C, d = WORD_D;
        run.start = stamp();
        seL4_MessageInfo_t got = seL4_CallWithMRs(SLOT_EP, message(ASK, 0, 4), &a, &b, &c, &d);
        must(seL4_MessageInfo_get_label(got) == ANSWER, "wrong_label", got.words[0]);
    }
}

static void call_one_way_server(void)
{
    const seL4_MessageInfo_t answer = message(ANSWER, 0, 4);
    word a, b, c, d;
    recv_words(SLOT_EP, &a, &b, &c, &d);
    for (unsigned n = 0;; n++) {
        u64 end = stamp();
        sample(n, run.start, end);
        must((a ^ WORD_A | b ^ WORD_B | c ^ WORD_C | d ^ WORD_D) == 0, "wrong_words", a);
        reply_recv(SLOT_EP, answer, &a, &b, &c, &d);
    }
}

static void reply_one_way_client(void)
{
    begin_one_way();
    for (unsigned n = 0; n < last_sample(); n++) {
        word a = WORD_A, b = WORD_B, c = WORD_C, d = WORD_D;
        seL4_MessageInfo_t got = seL4_CallWithMRs(SLOT_EP, message(ASK, 0, 4), &a, &b, &c, &d);
        u64 end = stamp();
        sample(n, run.start, end);
        must(seL4_MessageInfo_get_label(got) == ANSWER, "wrong_label", got.words[0]);
        must((a ^ WORD_A | b ^ WORD_B | c ^ WORD_C | d ^ WORD_D) == 0, "wrong_words", a);
    }
}

static void reply_one_way_server(void)
{
    const seL4_MessageInfo_t answer = message(ANSWER, 0, 4);
    word a, b, c, d;
    recv_words(SLOT_EP, &a, &b, &c, &d);
    for (;;) {
        run.start = stamp();
        reply_recv(SLOT_EP, answer, &a, &b, &c, &d);
    }
}

/* Sends to a receiver that waits and that has the higher priority. */
INLINE void send_client(int blocking)
{
    const seL4_MessageInfo_t ask = message(ASK, 0, 4);
    begin_one_way();
    for (unsigned n = 0; n < last_sample(); n++) {
        word a = WORD_A, b = WORD_B, c = WORD_C, d = WORD_D;
        run.value = n;
        run.start = stamp();
        if (blocking) {
            seL4_SendWithMRs(SLOT_EP, ask, &a, &b, &c, &d);
        } else {
            seL4_NBSendWithMRs(SLOT_EP, ask, &a, &b, &c, &d);
        }
        must(run.value == n + 1, "receiver_did_not_run", n);
    }
}

static void send_waiting_client(void) { send_client(1); }
static void nbsend_waiting_client(void) { send_client(0); }

static void receiver(void)
{
    for (unsigned n = 0;; n++) {
        word a, b, c, d;
        seL4_MessageInfo_t got = recv_words(SLOT_EP, &a, &b, &c, &d);
        u64 end = stamp();
        sample(n, run.start, end);
        must(seL4_MessageInfo_get_label(got) == ASK, "wrong_label", got.words[0]);
        must((a ^ WORD_A | b ^ WORD_B | c ^ WORD_C | d ^ WORD_D) == 0, "wrong_words", a);
        run.value++;
    }
}

/* Sends to a receiver of the same priority, which takes the message later. */
static void send_ready_client(void)
{
    const seL4_MessageInfo_t ask = message(ASK, 0, 4);
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        word a = WORD_A, b = WORD_B, c = WORD_C, d = WORD_D;
        run.value = n;
        u64 start = stamp();
        seL4_SendWithMRs(SLOT_EP, ask, &a, &b, &c, &d);
        u64 end = stamp();
        sample(n, start, end);
        must(run.value == n, "receiver_ran_too_early", n);
        seL4_Yield();
        must(run.value == n + 1, "receiver_did_not_run", n);
    }
}

static void counting_receiver(void)
{
    for (;;) {
        word a, b, c, d;
        recv_words(SLOT_EP, &a, &b, &c, &d);
        must((a ^ WORD_A | b ^ WORD_B | c ^ WORD_C | d ^ WORD_D) == 0, "wrong_words", a);
        run.value++;
    }
}

static void nbsend_dropped_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        word a = WORD_A, b = WORD_B, c = WORD_C, d = WORD_D;
        u64 start = stamp();
        seL4_NBSendWithMRs(SLOT_EP, message(ASK, 0, 4), &a, &b, &c, &d);
        u64 end = stamp();
        sample(n, start, end);
    }
}

static void null_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        u64 start = stamp();
#ifdef CONFIG_KERNEL_MCS
        seL4_NBSendWithMRs(SLOT_SPARE, message(0, 0, 0), 0, 0, 0, 0);
#else
        seL4_ReplyWithMRs(message(0, 0, 0), 0, 0, 0, 0);
#endif
        u64 end = stamp();
        sample(n, start, end);
    }
}

static void nbsend_null_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        u64 start = stamp();
        seL4_NBSendWithMRs(SLOT_SPARE, message(0, 0, 0), 0, 0, 0, 0);
        u64 end = stamp();
        sample(n, start, end);
    }
}

/* A million turns of a loop of two instructions. */
static void loop_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        unsigned turns = 1000000;
        u64 start = stamp();
        __asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(turns) : : "cc");
        u64 end = stamp();
        sample(n, start, end);
        must(turns == 0, "loop_not_finished", turns);
    }
}

static void yield_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        u64 start = stamp();
        seL4_Yield();
        u64 end = stamp();
        sample(n, start, end);
    }
}

/* The other thread has to run exactly once in each sample. */
static void yield_two_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        run.value = 0;
        u64 start = stamp();
        seL4_Yield();
        u64 end = stamp();
        sample(n, start, end);
        must(n == 0 || run.value == 1, "other_thread_did_not_run_once", run.value);
    }
}

static void counting_yielder(void)
{
    for (;;) {
        run.value++;
        seL4_Yield();
    }
}

/* Each call carries a copy of a capability to the server, into a slot that is empty. */
static void grant_client(void)
{
    const seL4_MessageInfo_t ask = message(ASK, 1, 0);
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        seL4_SetCap(0, SLOT_NOTE);
        u64 start = stamp();
        seL4_MessageInfo_t got = seL4_CallWithMRs(SLOT_EP, ask, 0, 0, 0, 0);
        u64 end = stamp();
        sample(n, start, end);
        must(seL4_MessageInfo_get_label(got) == ANSWER, "wrong_label", got.words[0]);
    }
}

static void grant_server(void)
{
    word slot = SLOT_FRESH;
    seL4_SetCapReceivePath(SLOT_CNODE, slot, seL4_WordBits);
    seL4_MessageInfo_t got = recv_words(SLOT_EP, 0, 0, 0, 0);
    for (;;) {
        must(seL4_MessageInfo_get_extraCaps(got) == 1, "no_capability_came", slot);
        seL4_SetCapReceivePath(SLOT_CNODE, ++slot, seL4_WordBits);
        got = reply_recv(SLOT_EP, message(ANSWER, 0, 0), 0, 0, 0, 0);
    }
}

#define SERVER_IN(where, entry) {.run = entry, .role = PASSIVE, .space = where}
#define CLIENT_OF(entry) {.run = entry, .role = RUNNER, .space = CLIENT}
#define PAIR(in, client, server) .parts = {SERVER_IN(in, server), CLIENT_OF(client)}
#define ALONE(entry) .parts = {CLIENT_OF(entry)}

const struct row call_rows[] = {
    {.name = "loop_1m", .scope = "operation", .kernels = EVERYWHERE, .samples = 10,
     .what = "a million turns of a loop of two instructions in user mode: shows what a tick is", ALONE(loop_client)},
    {.name = "call_reply_cross_as_0w", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "Call and ReplyRecv between two address spaces, no words, no vector state",
     PAIR(SERVER, call_0_client, echo_0_server)},
    {.name = "call_reply_cross_as_4w", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "Call and ReplyRecv between two address spaces, 4 words each way, no vector state",
     PAIR(SERVER, call_4_client, echo_4_server)},
    {.name = "call_reply_same_as_0w", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "Call and ReplyRecv between two threads of one address space, no words",
     PAIR(CLIENT, call_0_client, echo_0_server)},
    {.name = "call_reply_same_as_4w", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "Call and ReplyRecv between two threads of one address space, 4 words each way",
     PAIR(CLIENT, call_4_client, echo_4_server)},
    {.name = "call_reply_both_vec_0w", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "call_reply_cross_as_0w, client and server with vector state in use",
     .parts = {{.run = vector_0_server, .role = PASSIVE, .space = SERVER, .vector = 1},
               {.run = vector_0_client, .role = RUNNER, .space = CLIENT, .vector = 1}}},
    {.name = "call_reply_both_vec_4w", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "call_reply_cross_as_4w, client and server with vector state in use",
     .parts = {{.run = vector_4_server, .role = PASSIVE, .space = SERVER, .vector = 1},
               {.run = vector_4_client, .role = RUNNER, .space = CLIENT, .vector = 1}}},
    {.name = "call_reply_client_vec_0w", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "call_reply_cross_as_0w, only the client with vector state in use",
     .parts = {SERVER_IN(SERVER, echo_0_server),
               {.run = vector_0_client, .role = RUNNER, .space = CLIENT, .vector = 1}}},
    {.name = "call_reply_client_vec_4w", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "call_reply_cross_as_4w, only the client with vector state in use",
     .parts = {SERVER_IN(SERVER, echo_4_server),
               {.run = vector_4_client, .role = RUNNER, .space = CLIENT, .vector = 1}}},
    {.name = "call_reply_10w", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "call_reply_cross_as_4w with 10 words each way: off the fastpath; words beyond 4 are in the IPC buffers "
             "already and are read after the second time stamp",
     PAIR(SERVER, call_10_client, echo_10_server)},
    {.name = "call_reply_64w", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "call_reply_10w with 64 words each way", PAIR(SERVER, call_64_client, echo_64_server)},
    {.name = "call_recv_then_reply", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "call_reply_cross_as_4w with a server that makes two system calls, Recv and Reply (MCS: a Send to the "
             "reply object, by a server with CPU time of its own)",
     .parts = {{.run = two_calls_server, .role = WAITER, .space = SERVER}, CLIENT_OF(call_4_client)}},
    {.name = "call_reply_queued", .scope = "round-trip", .kernels = ONE_CPU,
     .what = "4 words; two clients in two address spaces and a server in a third; the server yields before each "
             "reply, so that one client is always in its queue: from Call to answer, with all that others do",
     .parts = {SERVER_IN(SERVER, yielding_server), CLIENT_OF(call_4_client),
               {.run = second_client, .role = RUNNER, .space = THIRD}}},
    {.name = "call_reply_third_ready", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "call_reply_cross_as_4w while a third thread of the same priority is ready",
     .parts = {SERVER_IN(SERVER, echo_4_server), CLIENT_OF(call_4_client),
               {.run = yielder, .role = RUNNER, .space = THIRD}}},
    {.name = "null_syscall", .scope = "operation", .kernels = EVERYWHERE,
     .what = "the cheapest system call that does nothing: Reply without a caller (MCS has none: NBSend to an empty slot)",
     ALONE(null_client)},
    {.name = "nbsend_empty_slot", .scope = "operation", .kernels = EVERYWHERE,
     .what = "NBSend to a slot without a capability, which is ignored", ALONE(nbsend_null_client)},
    {.name = "call_one_way", .scope = "one-way", .kernels = EVERYWHERE,
     .what = "from before Call to after the server's ReplyRecv, 4 words, two address spaces",
     PAIR(SERVER, call_one_way_client, call_one_way_server)},
    {.name = "reply_one_way", .scope = "one-way", .kernels = EVERYWHERE,
     .what = "from before the server's ReplyRecv to after Call, 4 words, two address spaces",
     PAIR(SERVER, reply_one_way_client, reply_one_way_server)},
    {.name = "send_waiting_higher", .scope = "one-way", .kernels = EVERYWHERE,
     .what = "Send of 4 words to a waiting receiver of higher priority in another address space, until it has the "
             "message: with the switch",
     .parts = {{.run = receiver, .role = WAITER, .space = SERVER, .above = 1}, CLIENT_OF(send_waiting_client)}},
    {.name = "nbsend_waiting_higher", .scope = "one-way", .kernels = EVERYWHERE,
     .what = "send_waiting_higher by NBSend",
     .parts = {{.run = receiver, .role = WAITER, .space = SERVER, .above = 1}, CLIENT_OF(nbsend_waiting_client)}},
    {.name = "send_waiting_equal", .scope = "operation", .kernels = EVERYWHERE,
     .what = "Send of 4 words to a waiting receiver of the same priority, which is made ready and runs later: no switch",
     .parts = {{.run = counting_receiver, .role = WAITER, .space = SERVER}, CLIENT_OF(send_ready_client)}},
    {.name = "nbsend_no_receiver", .scope = "operation", .kernels = EVERYWHERE,
     .what = "NBSend of 4 words to an endpoint at which nobody waits: the message is dropped",
     ALONE(nbsend_dropped_client)},
    {.name = "yield_alone", .scope = "operation", .kernels = EVERYWHERE,
     .what = "Yield when no other thread of that priority is ready", ALONE(yield_client)},
    {.name = "yield_two_switches", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "Yield to a thread of the same priority in another address space, and its Yield back",
     .parts = {{0}, CLIENT_OF(yield_two_client), {.run = counting_yielder, .role = RUNNER, .space = SERVER}}},
    {.name = "call_reply_grant_cap", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "Call that carries a copy of a notification's capability into an empty slot of the server, and the reply, "
             "no words; the server names the next slot in its IPC buffer",
     PAIR(SERVER, grant_client, grant_server)},
    {0},
};
