/* Mapping and unmapping pages. */
#include "root.h"

#define MANY 512

INLINE seL4_Error map(word frame, word at)
{
    return seL4_X86_Page_Map(frame, SLOT_VSPACE, at, seL4_ReadWrite, seL4_X86_Default_VMAttributes);
}

/* Writes to the page and reads it back, so that a mapping that is not there ends the run with a fault. */
INLINE void touch(word at, word value)
{
    volatile word *place = (volatile word *)at;
    *place = value;
    must(*place == value, "page_not_written", at);
}

static void map_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        u64 start = stamp();
        seL4_Error mapped = map(SLOT_FRAMES, MAP_AT);
        u64 end = stamp();
        sample(n, start, end);
        must(mapped == seL4_NoError, "map_refused", (word)mapped);
        touch(MAP_AT, n);
        seL4_Error unmapped = seL4_X86_Page_Unmap(SLOT_FRAMES);
        must(unmapped == seL4_NoError, "unmap_refused", (word)unmapped);
    }
}

static void unmap_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        seL4_Error mapped = map(SLOT_FRAMES, MAP_AT);
        must(mapped == seL4_NoError, "map_refused", (word)mapped);
        touch(MAP_AT, n);
        u64 start = stamp();
        seL4_Error unmapped = seL4_X86_Page_Unmap(SLOT_FRAMES);
        u64 end = stamp();
        sample(n, start, end);
        must(unmapped == seL4_NoError, "unmap_refused", (word)unmapped);
    }
}

/* One page, mapped and unmapped, at one place or at two places in turns. */
INLINE void pair(word other)
{
    word at = MAP_AT;
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        u64 start = stamp();
        seL4_Error mapped = map(SLOT_FRAMES, at);
        seL4_Error unmapped = seL4_X86_Page_Unmap(SLOT_FRAMES);
        u64 end = stamp();
        sample(n, start, end);
        must(mapped == seL4_NoError && unmapped == seL4_NoError, "refused", (word)(mapped | unmapped));
        at ^= other;
    }
}

static void map_unmap_client(void) { pair(0); }
static void map_unmap_tables_client(void) { pair(TABLE_SPAN); }

static void two_frames_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        u64 start = stamp();
        seL4_Error a = map(SLOT_FRAMES, MAP_AT);
        seL4_Error b = map(SLOT_FRAMES + 1, MAP_AT + TABLE_SPAN);
        seL4_Error c = seL4_X86_Page_Unmap(SLOT_FRAMES);
        seL4_Error d = seL4_X86_Page_Unmap(SLOT_FRAMES + 1);
        u64 end = stamp();
        sample(n, start, end);
        must((a | b | c | d) == 0, "refused", (word)(a | b | c | d));
    }
}

INLINE word map_many(void)
{
    word wrong = 0;
    for (word i = 0; i < MANY; i++) {
        wrong |= (word)map(SLOT_FRAMES + i, MAP_AT + i * PAGE);
    }
    return wrong;
}

INLINE word unmap_many(void)
{
    word wrong = 0;
    for (word i = 0; i < MANY; i++) {
        wrong |= (word)seL4_X86_Page_Unmap(SLOT_FRAMES + i);
    }
    return wrong;
}

static void map_many_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        u64 start = stamp();
        word wrong = map_many();
        u64 end = stamp();
        sample(n, start, end);
        must(wrong == 0, "map_refused", wrong);
        touch(MAP_AT + (n % MANY) * PAGE, n);
        must(unmap_many() == 0, "unmap_refused", n);
    }
}

static void unmap_many_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        must(map_many() == 0, "map_refused", n);
        touch(MAP_AT + (n % MANY) * PAGE, n);
        u64 start = stamp();
        word wrong = unmap_many();
        u64 end = stamp();
        sample(n, start, end);
        must(wrong == 0, "unmap_refused", wrong);
    }
}

#define ALONE(entry, count) \
    .scope = "operation", .kernels = ONE_CPU, .frames = count, .frames_in = CLIENT, \
    .parts = {{.run = entry, .role = RUNNER, .space = CLIENT}}

const struct row memory_rows[] = {
    {.name = "map_1p", .what = "Page_Map of one page of 4 KiB in the own address space, where its page tables are",
     ALONE(map_client, 1)},
    {.name = "unmap_1p", .what = "Page_Unmap of such a page, which was written to", ALONE(unmap_client, 1)},
    {.name = "map_unmap_1p", .what = "Page_Map and Page_Unmap of one page, always at the same place",
     ALONE(map_unmap_client, 1)},
    {.name = "map_unmap_1p_two_tables",
     .what = "map_unmap_1p, at two places in turns that are under two page tables",
     ALONE(map_unmap_tables_client, 1)},
    {.name = "map_unmap_2p_two_tables",
     .what = "two pages under two page tables: map, map, unmap, unmap; all four system calls",
     ALONE(two_frames_client, 2)},
    {.name = "map_512p", .what = "512 pages of 4 KiB mapped by 512 system calls; all of them",
     .samples = 100, ALONE(map_many_client, MANY)},
    {.name = "unmap_512p", .what = "512 pages of 4 KiB unmapped by 512 system calls; all of them",
     .samples = 100, ALONE(unmap_many_client, MANY)},
    {0},
};
