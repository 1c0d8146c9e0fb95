/* Notifications. */
#include "calls.h"

/* Signals, and takes sample `n` of that. */
INLINE void timed_signal(unsigned n)
{
    u64 start = stamp();
    seL4_Signal(SLOT_NOTE);
    u64 end = stamp();
    sample(n, start, end);
}

/* Takes away the bit that a Signal without waiter has left. */
INLINE void take_bit(void)
{
    word bits = 0;
    seL4_Poll(SLOT_NOTE, &bits);
    must(bits == 1, "wrong_bits", bits);
}

static void signal_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        timed_signal(n);
        take_bit();
    }
}

static void signal_again_client(void)
{
    seL4_Signal(SLOT_NOTE);
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        timed_signal(n);
    }
    take_bit();
}

void ping_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        word bits = 0;
        u64 start = stamp();
        seL4_Signal(SLOT_NOTE);
        seL4_Wait(SLOT_BACK, &bits);
        u64 end = stamp();
        sample(n, start, end);
        must(bits == 2, "wrong_bits", bits);
    }
}

void pong_server(void)
{
    for (;;) {
        seL4_Wait(SLOT_NOTE, 0);
        seL4_Signal(SLOT_BACK);
    }
}

/* The waiter outranks the client: it has run and waits again when Signal returns. */
static void signal_higher_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        run.value = 0;
        timed_signal(n);
        must(run.value == 1, "waiter_did_not_run_once", run.value);
    }
}

static void counting_waiter(void)
{
    for (;;) {
        word bits = 0;
        seL4_Wait(SLOT_NOTE, &bits);
        run.value += bits;
    }
}

static void signal_one_way_client(void)
{
    begin_one_way();
    for (unsigned n = 0; n < last_sample(); n++) {
        run.value = 0;
        run.start = stamp();
        seL4_Signal(SLOT_NOTE);
        must(run.value == 1, "waiter_did_not_run_once", run.value);
    }
}

static void stamping_waiter(void)
{
    for (unsigned n = 0;; n++) {
        word bits = 0;
        seL4_Wait(SLOT_NOTE, &bits);
        u64 end = stamp();
        sample(n, run.start, end);
        run.value += bits;
    }
}

static void signal_equal_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        run.value = 0;
        timed_signal(n);
        must(run.value == 0, "waiter_ran_too_early", run.value);
        seL4_Yield();
        must(run.value == 1, "waiter_did_not_run_once", run.value);
    }
}

#define RUN(entry) {.run = entry, .role = RUNNER, .space = CLIENT}

const struct row signal_rows[] = {
    {.name = "signal_no_waiter", .scope = "operation", .kernels = EVERYWHERE,
     .what = "Signal to a notification without bits for which nobody waits; taking the bit away is not measured",
     .parts = {RUN(signal_client)}},
    {.name = "signal_no_waiter_again", .scope = "operation", .kernels = EVERYWHERE,
     .what = "Signal to a notification for which nobody waits and which has the bit already",
     .parts = {RUN(signal_again_client)}},
    {.name = "signal_wait_round_trip", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "Signal the server and Wait; the server in another address space, same priority, waits and signals back",
     .parts = {{.run = pong_server, .role = WAITER, .space = SERVER}, RUN(ping_client)}},
    {.name = "signal_wait_round_trip_higher", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "signal_wait_round_trip with a server of higher priority, which runs before the client has called Wait",
     .parts = {{.run = pong_server, .role = WAITER, .space = SERVER, .above = 1}, RUN(ping_client)}},
    {.name = "signal_waiter_higher", .scope = "one-way", .kernels = EVERYWHERE,
     .what = "from before Signal until the waiter, of higher priority and in another address space, runs",
     .parts = {{.run = stamping_waiter, .role = WAITER, .space = SERVER, .above = 1}, RUN(signal_one_way_client)}},
    {.name = "signal_waiter_higher_and_back", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "from before Signal until it returns: the waiter, of higher priority and in another address space, has "
             "run and waits again",
     .parts = {{.run = counting_waiter, .role = WAITER, .space = SERVER, .above = 1}, RUN(signal_higher_client)}},
    {.name = "signal_waiter_equal", .scope = "operation", .kernels = EVERYWHERE,
     .what = "Signal to a waiter of the same priority, which is made ready and runs later: no switch",
     .parts = {{.run = counting_waiter, .role = WAITER, .space = SERVER}, RUN(signal_equal_client)}},
    {0},
};
