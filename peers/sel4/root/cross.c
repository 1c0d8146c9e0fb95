/* From CPU 0 to CPU 1. An idle CPU halts; the clock counts the instructions of both. */
#include "calls.h"

/* Waits for the waiter's answer, and then long enough for CPU 1 to be idle again before the next sample. */
static void cross_signal_client(void)
{
    begin_one_way();
    for (unsigned n = 0; n < last_sample(); n++) {
        word bits = 0;
        run.start = stamp();
        seL4_Signal(SLOT_NOTE);
        seL4_Wait(SLOT_BACK, &bits);
        must(bits == 2, "wrong_bits", bits);
        for (u64 until = stamp() + 10000; stamp() < until;) {
            __asm__ volatile("pause");
        }
    }
}

static void cross_stamping_waiter(void)
{
    for (unsigned n = 0;; n++) {
        word bits = 0;
        seL4_Wait(SLOT_NOTE, &bits);
        u64 end = stamp();
        sample(n, run.start, end);
        must(bits == 1, "wrong_bits", bits);
        seL4_Signal(SLOT_BACK);
    }
}

#define CROSS(client, server) \
    .kernels = SMP, .parts = {{.run = server, .role = WAITER, .space = SERVER, .cpu = 1}, \
                              {.run = client, .role = RUNNER, .space = CLIENT}}

const struct row cross_rows[] = {
    {.name = "cross_cpu_call_reply_0w", .scope = "round-trip",
     .what = "Call and ReplyRecv from CPU 0 to a server on CPU 1, two address spaces, no words; idle CPUs halt",
     CROSS(call_0_client, echo_0_server)},
    {.name = "cross_cpu_call_reply_4w", .scope = "round-trip", .what = "cross_cpu_call_reply_0w with 4 words each way",
     CROSS(call_4_client, echo_4_server)},
    {.name = "cross_cpu_call_reply_64w", .scope = "round-trip",
     .what = "cross_cpu_call_reply_0w with 64 words each way, which are in the IPC buffers already",
     CROSS(call_64_client, echo_64_server)},
    {.name = "cross_cpu_signal_wait_round_trip", .scope = "round-trip",
     .what = "Signal a server on CPU 1 and Wait; it waits and signals back; idle CPUs halt",
     CROSS(ping_client, pong_server)},
    {.name = "cross_cpu_signal_waiter", .scope = "one-way",
     .what = "from before Signal on CPU 0 until the waiter runs on CPU 1, which was idle; what CPU 0 does meanwhile "
             "on its way to its own Wait is in it",
     CROSS(cross_signal_client, cross_stamping_waiter)},
    {0},
};
