/* Faults to a handler in another address space. */
#include "root.h"

#define FRAMES (WARM_UP + SAMPLES_MAX)

/* An undefined instruction of two bytes, behind which the handler lets the client go on. */
static void exception_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        u64 start = stamp();
        __asm__ volatile("ud2" : : : "memory");
        u64 end = stamp();
        sample(n, start, end);
    }
    must(run.value == last_sample(), "wrong_number_of_faults", run.value);
}

#define UNDEFINED_INSTRUCTION_LENGTH 2

static void exception_handler(void)
{
    run.value = 0;
    word place, b, c, d;
    seL4_MessageInfo_t got = recv_words(SLOT_EP, &place, &b, &c, &d);
    for (;;) {
        must(seL4_MessageInfo_get_label(got) == seL4_Fault_UserException, "wrong_fault", got.words[0]);
        run.value++;
        place += UNDEFINED_INSTRUCTION_LENGTH;
        got = reply_recv(SLOT_EP, message(0, 0, 1), &place, &b, &c, &d);
    }
}

/* Reads page after page that is not mapped. */
static void touch_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        volatile word *page = (volatile word *)(MAP_AT + n * PAGE);
        u64 start = stamp();
        word value = *page;
        u64 end = stamp();
        sample(n, start, end);
        must(value == 0, "page_not_clear", value);
        *page = n;
        must(*page == n, "page_not_written", n);
    }
    must(run.value == last_sample(), "wrong_number_of_faults", run.value);
}

static void mapping_handler(void)
{
    run.value = 0;
    word frame = SLOT_FRAMES;
    word a, place, c, d;
    seL4_MessageInfo_t got = recv_words(SLOT_EP, &a, &place, &c, &d);
    for (;;) {
        must(seL4_MessageInfo_get_label(got) == seL4_Fault_VMFault, "wrong_fault", got.words[0]);
        run.value++;
        seL4_Error error = seL4_X86_Page_Map(frame++, SLOT_CLIENT_VSPACE, place & ~(PAGE - 1), seL4_ReadWrite,
                                             seL4_X86_Default_VMAttributes);
        must(error == seL4_NoError, "map_refused", (word)error);
        got = reply_recv(SLOT_EP, message(0, 0, 0), &a, &place, &c, &d);
    }
}

#define HANDLED(entry, handler) \
    .parts = {{.run = handler, .role = PASSIVE, .space = SERVER}, \
              {.run = entry, .role = RUNNER, .space = CLIENT, .faults = 1}}

const struct row fault_rows[] = {
    {.name = "fault_null", .scope = "round-trip", .kernels = EVERYWHERE,
     .what = "an undefined instruction, whose handler in another address space answers with the place behind it: "
             "nothing is mapped",
     HANDLED(exception_client, exception_handler)},
    {.name = "fault_map", .scope = "round-trip", .kernels = EVERYWHERE, .frames = FRAMES, .frames_in = SERVER,
     .what = "a read of a page that is not mapped, whose handler in another address space maps a frame of its own "
             "there; the page tables are there",
     HANDLED(touch_client, mapping_handler)},
    {0},
};
