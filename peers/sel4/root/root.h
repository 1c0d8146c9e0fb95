/* Shared declarations of the seL4 bench: threads, spaces, rows, samples.
 *
 * The root task is the conductor. For each row it makes threads in up to three address spaces, starts them, waits
 * for the client's message, prints one line, and revokes the memory of which all objects of the row were made.
 * All address spaces map the image of the root task, so globals are memory that everybody shares. */
#pragma once

#include <sel4/sel4.h>

typedef seL4_Word word;
typedef seL4_Uint64 u64;

#define INLINE static inline __attribute__((always_inline))
#define PAGE 4096ul
#define WARM_UP 100
#define SAMPLES_MAX 1000

/* Slots in the CNode of every space. A CPtr is the slot's number. */
enum slot {
    SLOT_CNODE = 1,       /* the CNode itself */
    SLOT_VSPACE,          /* the space's own page tables */
    SLOT_CONTROL,         /* endpoint to the root task; faults go there, too */
    SLOT_REPLY,           /* MCS: reply object of the space */
    SLOT_EP,              /* the row's endpoint, all rights */
    SLOT_NOTE,            /* notification, client to server */
    SLOT_BACK,            /* notification, server to client */
    SLOT_UNTYPED,         /* memory of the client; only in the first space */
    SLOT_CLIENT_VSPACE,   /* page tables of the first space */
    SLOT_SPARE,           /* empty */
    SLOT_FRESH = 64,      /* from here on: empty slots */
    SLOT_FRAMES = 2048,   /* from here on: frames, in rows that want them */
};
#define CNODE_BITS 12
#define FRESH_SLOTS (SLOT_FRAMES - SLOT_FRESH)

/* Places where the first space has page tables and no pages; each page table covers 2 MiB. */
#define MAP_AT 0x20000000ul
#define TABLE_SPAN 0x200000ul
#define MAP_TABLES 4

/* Labels of messages to the root task that are no faults. */
enum { LABEL_DONE = 0x100, LABEL_FAILED };

enum space { CLIENT, SERVER, THIRD, SPACES };

enum role {
    NOBODY,
    WAITER,    /* runs until it waits, before the client starts */
    PASSIVE,   /* like WAITER; on MCS it then loses its scheduling context and runs on its callers' */
    RUNNER,    /* the client, or a thread that starts together with it */
};

/* A thread of a row. */
struct part {
    void (*run)(void);
    enum role role;
    enum space space;
    int vector;   /* has vector state */
    int above;    /* its priority is one above the client's */
    int below;    /* its priority is one below the client's */
    int cpu;
    int faults;   /* its faults go to SLOT_EP */
};
#define PARTS 3

/* Kernel configurations in which a row is measured. */
enum { UNIPROCESSOR = 1, SMP = 2, MCS = 4 };
#define ONE_CPU (UNIPROCESSOR | SMP)
#define EVERYWHERE (UNIPROCESSOR | SMP | MCS)

struct row {
    const char *name;
    const char *scope;
    const char *what;
    unsigned kernels;
    unsigned samples;       /* 0: SAMPLES_MAX */
    unsigned frames;        /* frames of 4 KiB at SLOT_FRAMES */
    enum space frames_in;
    struct part parts[PARTS];
};

extern const struct row call_rows[], signal_rows[], fault_rows[], memory_rows[], cap_rows[], cross_rows[];

/* The row that is being measured. */
struct run {
    unsigned samples;
    unsigned warm_up;
    u64 overhead;
    const char *failure;
    word value;
    volatile u64 start;     /* one-way rows: the first time stamp */
    u64 taken[SAMPLES_MAX];
};
extern struct run run;

/* IPC buffers of the row's threads, in the order of its parts. */
extern seL4_IPCBuffer *ipc_buffer_of(unsigned part);

/* Ends the thread and the row. */
_Noreturn void done(void);
_Noreturn void failed(const char *what, word value);

INLINE void must(int good, const char *what, word value)
{
    if (__builtin_expect(!good, 0)) {
        failed(what, value);
    }
}

/* The time, between fences, as Aurora's bench reads it. */
INLINE u64 stamp(void)
{
    u64 low, high;
    __asm__ volatile("lfence\n\trdtsc\n\tlfence\n\tshl $32, %%rdx\n\tor %%rdx, %%rax"
                     : "=a"(low), "=d"(high) : : "memory", "cc");
    return low;
}

/* Takes samples:
 *
 *     for (unsigned n = begin_samples(); n < last_sample(); n++) {
 *         u64 start = stamp(); operation; u64 end = stamp();
 *         sample(n, start, end); check
 *     }
 */
INLINE unsigned begin_samples(void)
{
    u64 least = ~0ul;
    for (int i = 0; i < 100; i++) {
        u64 start = stamp();
        u64 end = stamp();
        least = end - start < least ? end - start : least;
    }
    run.overhead = least;
    return 0;
}

/* As begin_samples, where the first time stamp is stored for another thread. */
INLINE unsigned begin_one_way(void)
{
    u64 least = ~0ul;
    for (int i = 0; i < 100; i++) {
        run.start = stamp();
        u64 end = stamp();
        least = end - run.start < least ? end - run.start : least;
    }
    run.overhead = least;
    return 0;
}

INLINE unsigned last_sample(void)
{
    return run.warm_up + run.samples;
}

INLINE void sample(unsigned n, u64 start, u64 end)
{
    if (n >= run.warm_up) {
        run.taken[n - run.warm_up] = end - start;
    }
}

/* System calls whose arguments MCS changes. */
#ifdef CONFIG_KERNEL_MCS
#define recv(ep, badge) seL4_Recv(ep, badge, SLOT_REPLY)
#define recv_words(ep, a, b, c, d) seL4_RecvWithMRs(ep, 0, a, b, c, d, SLOT_REPLY)
#define reply_recv(ep, info, a, b, c, d) seL4_ReplyRecvWithMRs(ep, info, 0, a, b, c, d, SLOT_REPLY)
#define reply_words(info, a, b, c, d) seL4_SendWithMRs(SLOT_REPLY, info, a, b, c, d)
#else
#define recv(ep, badge) seL4_Recv(ep, badge)
#define recv_words(ep, a, b, c, d) seL4_RecvWithMRs(ep, 0, a, b, c, d)
#define reply_recv(ep, info, a, b, c, d) seL4_ReplyRecvWithMRs(ep, info, 0, a, b, c, d)
#define reply_words(info, a, b, c, d) seL4_ReplyWithMRs(info, a, b, c, d)
#endif

INLINE seL4_MessageInfo_t message(word label, word caps, word words)
{
    return seL4_MessageInfo_new(label, 0, caps, words);
}
