/* Capabilities and objects: copy, mint, delete, revoke, retype. */
#include "root.h"

#define COPIES 1000

INLINE seL4_Error copy_to(word slot, word source)
{
    return seL4_CNode_Copy(SLOT_CNODE, slot, seL4_WordBits, SLOT_CNODE, source, seL4_WordBits, seL4_AllRights);
}

INLINE seL4_Error delete_at(word slot)
{
    return seL4_CNode_Delete(SLOT_CNODE, slot, seL4_WordBits);
}

INLINE seL4_Error retype(word type, word bits, word slot)
{
    return seL4_Untyped_Retype(SLOT_UNTYPED, type, bits, SLOT_CNODE, 0, 0, slot, 1);
}

/* A slot is taken where nothing else can be copied to. */
INLINE void must_be_taken(word slot)
{
    seL4_Error error = copy_to(slot, SLOT_EP);
    must(error == seL4_DeleteFirst, "slot_not_taken", slot);
}

static void copy_client(void)
{
    word slot = SLOT_FRESH;
    for (unsigned n = begin_samples(); n < last_sample(); n++, slot++) {
        u64 start = stamp();
        seL4_Error error = copy_to(slot, SLOT_NOTE);
        u64 end = stamp();
        sample(n, start, end);
        must(error == seL4_NoError, "copy_refused", (word)error);
        must_be_taken(slot);
    }
}

static void mint_client(void)
{
    word slot = SLOT_FRESH;
    /* A capability that has a badge cannot get another one. */
    must(retype(seL4_NotificationObject, 0, SLOT_SPARE) == seL4_NoError, "retype_refused", 0);
    for (unsigned n = begin_samples(); n < last_sample(); n++, slot++) {
        u64 start = stamp();
        seL4_Error error = seL4_CNode_Mint(SLOT_CNODE, slot, seL4_WordBits, SLOT_CNODE, SLOT_SPARE, seL4_WordBits,
                                           seL4_CanWrite, 7);
        u64 end = stamp();
        sample(n, start, end);
        must(error == seL4_NoError, "mint_refused", (word)error);
        must_be_taken(slot);
    }
}

static void delete_client(void)
{
    for (unsigned n = 0; n < last_sample(); n++) {
        must(copy_to(SLOT_FRESH + n, SLOT_NOTE) == seL4_NoError, "copy_refused", n);
    }
    word slot = SLOT_FRESH;
    for (unsigned n = begin_samples(); n < last_sample(); n++, slot++) {
        u64 start = stamp();
        seL4_Error error = delete_at(slot);
        u64 end = stamp();
        sample(n, start, end);
        must(error == seL4_NoError, "delete_refused", (word)error);
        must(copy_to(slot, SLOT_EP) == seL4_NoError, "slot_still_taken", slot);
    }
}

static void copy_delete_client(void)
{
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        u64 start = stamp();
        seL4_Error copied = copy_to(SLOT_SPARE, SLOT_NOTE);
        seL4_Error deleted = delete_at(SLOT_SPARE);
        u64 end = stamp();
        sample(n, start, end);
        must((copied | deleted) == 0, "refused", (word)(copied | deleted));
    }
}

/* Copies into slots that are not empty are refused: so each round shows that the round before has emptied them. */
static void revoke_client(void)
{
    must(retype(seL4_NotificationObject, 0, SLOT_SPARE) == seL4_NoError, "retype_refused", 0);
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        for (word i = 0; i < COPIES; i++) {
            must(copy_to(SLOT_FRESH + i, SLOT_SPARE) == seL4_NoError, "copy_refused", i);
        }
        u64 start = stamp();
        seL4_Error error = seL4_CNode_Revoke(SLOT_CNODE, SLOT_SPARE, seL4_WordBits);
        u64 end = stamp();
        sample(n, start, end);
        must(error == seL4_NoError, "revoke_refused", (word)error);
    }
    must(copy_to(SLOT_FRESH + COPIES - 1, SLOT_SPARE) == seL4_NoError, "slot_still_taken", 0);
}

INLINE void retype_fresh(word type, word bits)
{
    word slot = SLOT_FRESH;
    for (unsigned n = begin_samples(); n < last_sample(); n++, slot++) {
        u64 start = stamp();
        seL4_Error error = retype(type, bits, slot);
        u64 end = stamp();
        sample(n, start, end);
        must(error == seL4_NoError, "retype_refused", (word)error);
        must_be_taken(slot);
    }
}

static void retype_endpoint(void) { retype_fresh(seL4_EndpointObject, 0); }
static void retype_notification(void) { retype_fresh(seL4_NotificationObject, 0); }
static void retype_tcb(void) { retype_fresh(seL4_TCBObject, 0); }
static void retype_frame(void) { retype_fresh(seL4_X86_4K, 0); }
static void retype_page_table(void) { retype_fresh(seL4_X86_PageTableObject, 0); }
static void retype_cnode(void) { retype_fresh(seL4_CapTableObject, 4); }
static void retype_untyped(void) { retype_fresh(seL4_UntypedObject, 12); }

/* The only object of some memory is made and destroyed: before the next one is made, the kernel clears that memory. */
INLINE void retype_delete(word type, word bits)
{
    must(retype(seL4_UntypedObject, bits, SLOT_FRESH) == seL4_NoError, "retype_refused", bits);
    for (unsigned n = begin_samples(); n < last_sample(); n++) {
        u64 start = stamp();
        seL4_Error made = seL4_Untyped_Retype(SLOT_FRESH, type, 0, SLOT_CNODE, 0, 0, SLOT_SPARE, 1);
        seL4_Error deleted = delete_at(SLOT_SPARE);
        u64 end = stamp();
        sample(n, start, end);
        must((made | deleted) == 0, "refused", (word)(made | deleted));
    }
}

static void retype_delete_endpoint(void) { retype_delete(seL4_EndpointObject, seL4_EndpointBits); }
static void retype_delete_frame(void) { retype_delete(seL4_X86_4K, seL4_PageBits); }
static void retype_delete_tcb(void) { retype_delete(seL4_TCBObject, seL4_TCBBits); }

#define ALONE(entry) \
    .scope = "operation", .kernels = ONE_CPU, .parts = {{.run = entry, .role = RUNNER, .space = CLIENT}}
#define RETYPE(object) "Untyped_Retype of one " object " into an empty slot, of memory that is clear already"

const struct row cap_rows[] = {
    {.name = "cap_copy", .what = "CNode_Copy of a notification's capability into a slot that was never used",
     ALONE(copy_client)},
    {.name = "cap_mint", .what = "CNode_Mint of it with a badge and fewer rights into such a slot", ALONE(mint_client)},
    {.name = "cap_delete", .what = "CNode_Delete of such a copy, which is not the last capability",
     ALONE(delete_client)},
    {.name = "cap_copy_delete", .what = "CNode_Copy and CNode_Delete, always the same slot", ALONE(copy_delete_client)},
    {.name = "cap_revoke_1000",
     .what = "CNode_Revoke of a capability from which 1,000 copies were derived; copying them is not measured",
     .samples = 100, ALONE(revoke_client)},
    {.name = "retype_endpoint", .what = RETYPE("endpoint"), ALONE(retype_endpoint)},
    {.name = "retype_notification", .what = RETYPE("notification"), ALONE(retype_notification)},
    {.name = "retype_tcb", .what = RETYPE("TCB"), ALONE(retype_tcb)},
    {.name = "retype_frame_4k", .what = RETYPE("frame of 4 KiB"), ALONE(retype_frame)},
    {.name = "retype_page_table", .what = RETYPE("page table"), ALONE(retype_page_table)},
    {.name = "retype_cnode_16", .what = RETYPE("CNode of 16 slots"), ALONE(retype_cnode)},
    {.name = "retype_untyped_4k", .what = RETYPE("Untyped of 4 KiB"), ALONE(retype_untyped)},
    {.name = "retype_delete_endpoint",
     .what = "Untyped_Retype of an endpoint that takes all of an Untyped, and CNode_Delete of it: the kernel clears "
             "the memory before each Retype",
     ALONE(retype_delete_endpoint)},
    {.name = "retype_delete_frame_4k", .what = "retype_delete_endpoint with a frame of 4 KiB",
     ALONE(retype_delete_frame)},
    {.name = "retype_delete_tcb", .what = "retype_delete_endpoint with a TCB that was never started",
     ALONE(retype_delete_tcb)},
    {0},
};
