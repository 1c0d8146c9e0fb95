/* Kernel objects: memory, slots, spaces, threads. */
#include "objects.h"

#include "console.h"

#define ROW_MEMORY_BITS 25
#define CLIENT_MEMORY_BITS 23
#define STACK 16384
#define ROOT_DEPTH seL4_WordBits
#define CLIENT_PRIORITY 100
/* What a thread starts with: interrupts on, and the bit that is always set. */
#define RFLAGS 0x202

struct space_objects {
    seL4_CPtr cnode, vspace;
};

/* Thread-local storage: the compiler finds the one variable of it right below the thread pointer. */
struct tls {
    seL4_IPCBuffer *ipc_buffer;
    void *self;
};

struct thread_memory {
    char stack[STACK] __attribute__((aligned(4096)));
    char ipc_buffer[PAGE] __attribute__((aligned(4096)));
    struct tls tls;
};

extern char __executable_start[], _end[];
extern __thread seL4_IPCBuffer *__sel4_ipc_buffer;

static seL4_BootInfo *boot;
static seL4_CPtr next_slot, first_row_slot, permanent_memory, row_memory, control;
static struct space_objects spaces[SPACES];
static struct thread_memory memory[PARTS];
static seL4_CPtr tcbs[PARTS];
static seL4_CPtr row_endpoint;
#ifdef CONFIG_KERNEL_MCS
static seL4_CPtr contexts[PARTS];
#define BUDGET_US 2000000
#endif

seL4_IPCBuffer *ipc_buffer_of(unsigned part)
{
    return (seL4_IPCBuffer *)memory[part].ipc_buffer;
}

void expect(seL4_Error error, const char *step)
{
    if (error != seL4_NoError) {
        say("failed setup step=");
        say(step);
        say(" error=");
        say_number((u64)error);
        say("\n");
        end_machine(1);
    }
}

static seL4_CPtr new_slot(void)
{
    expect(next_slot < boot->empty.end ? seL4_NoError : seL4_NotEnoughMemory, "slot of the root task");
    return next_slot++;
}

static seL4_CPtr make(seL4_CPtr from, word type, word size_bits, const char *step)
{
    seL4_CPtr slot = new_slot();
    expect(seL4_Untyped_Retype(from, type, size_bits, seL4_CapInitThreadCNode, 0, 0, slot, 1), step);
    return slot;
}

/* Copies a capability of the root task into a space. */
static void give(enum space to, word slot, seL4_CPtr what, seL4_CapRights_t rights, word badge)
{
    expect(seL4_CNode_Mint(spaces[to].cnode, slot, CNODE_BITS, seL4_CapInitThreadCNode, what, ROOT_DEPTH, rights,
                           badge),
           "capability for a space");
}

static word cnode_guard(void)
{
    return seL4_CNode_CapData_new(0, seL4_WordBits - CNODE_BITS).words[0];
}

static seL4_CPtr image_frame(const void *at)
{
    return boot->userImageFrames.start + ((word)at - (word)__executable_start) / PAGE;
}

static void map_table(seL4_CPtr vspace, word at)
{
    seL4_CPtr table = make(permanent_memory, seL4_X86_PageTableObject, 0, "page table");
    expect(seL4_X86_PageTable_Map(table, vspace, at, seL4_X86_Default_VMAttributes), "mapping a page table");
}

/* Page tables with the image of the root task in them, where the root task has it. */
static seL4_CPtr make_vspace(void)
{
    seL4_CPtr vspace = make(permanent_memory, seL4_X64_PML4Object, 0, "PML4");
    expect(seL4_X86_ASIDPool_Assign(seL4_CapInitThreadASIDPool, vspace), "ASID");
    word image = (word)__executable_start;
    seL4_CPtr pdpt = make(permanent_memory, seL4_X86_PDPTObject, 0, "PDPT");
    expect(seL4_X86_PDPT_Map(pdpt, vspace, image, seL4_X86_Default_VMAttributes), "mapping a PDPT");
    seL4_CPtr directory = make(permanent_memory, seL4_X86_PageDirectoryObject, 0, "page directory");
    expect(seL4_X86_PageDirectory_Map(directory, vspace, image, seL4_X86_Default_VMAttributes),
           "mapping a page directory");
    map_table(vspace, image);
    for (word at = image; at < (word)_end; at += PAGE) {
        seL4_CPtr copy = new_slot();
        expect(seL4_CNode_Copy(seL4_CapInitThreadCNode, copy, ROOT_DEPTH, seL4_CapInitThreadCNode,
                               image_frame((void *)at), ROOT_DEPTH, seL4_AllRights),
               "copy of a frame of the image");
        expect(seL4_X86_Page_Map(copy, vspace, at, seL4_AllRights, seL4_X86_Default_VMAttributes),
               "mapping the image");
    }
    return vspace;
}

static void make_space(enum space number)
{
    struct space_objects *space = &spaces[number];
    space->cnode = make(permanent_memory, seL4_CapTableObject, CNODE_BITS, "CNode");
    space->vspace = make_vspace();
    give(number, SLOT_CNODE, space->cnode, seL4_AllRights, cnode_guard());
    give(number, SLOT_VSPACE, space->vspace, seL4_AllRights, 0);
    give(number, SLOT_CLIENT_VSPACE, spaces[CLIENT].vspace, seL4_AllRights, 0);
    give(number, SLOT_CONTROL, control, seL4_AllRights, number + 1);
}

/* Finds an Untyped that is no device memory: the first of at least that size, after another one. */
static seL4_CPtr find_memory(word bits, seL4_CPtr after)
{
    for (seL4_CPtr at = boot->untyped.start; at < boot->untyped.end; at++) {
        seL4_UntypedDesc *found = &boot->untypedList[at - boot->untyped.start];
        if (!found->isDevice && found->sizeBits >= bits && at != after) {
            return at;
        }
    }
    expect(seL4_NotEnoughMemory, "boot memory");
    return 0;
}

seL4_CPtr control_endpoint(void)
{
    return control;
}

seL4_CPtr port_range(word first, word last)
{
    seL4_CPtr slot = new_slot();
    expect(seL4_X86_IOPortControl_Issue(seL4_CapIOPortControl, first, last, seL4_CapInitThreadCNode, slot,
                                        ROOT_DEPTH),
           "I/O ports");
    return slot;
}

void objects_init(seL4_BootInfo *info)
{
    boot = info;
    next_slot = info->empty.start;
    console_open(port_range(0x3f8, 0x3ff), port_range(0xf4, 0xf7));
    seL4_CPtr large = find_memory(ROW_MEMORY_BITS, 0);
    permanent_memory = find_memory(22, large);
    row_memory = make(large, seL4_UntypedObject, ROW_MEMORY_BITS, "memory of the rows");
    control = make(permanent_memory, seL4_EndpointObject, 0, "control endpoint");
    for (enum space space = 0; space < SPACES; space++) {
        make_space(space);
    }
    for (word table = 0; table < MAP_TABLES; table++) {
        map_table(spaces[CLIENT].vspace, MAP_AT + table * TABLE_SPAN);
    }
#ifdef CONFIG_KERNEL_MCS
    /* The calls of root.h name SLOT_REPLY. In the root task's CNode the control of interrupts is there, which
       nobody needs here. */
    seL4_CPtr reply = make(permanent_memory, seL4_ReplyObject, 0, "reply object");
    expect(seL4_CNode_Delete(seL4_CapInitThreadCNode, SLOT_REPLY, ROOT_DEPTH), "slot of the reply object");
    expect(seL4_CNode_Copy(seL4_CapInitThreadCNode, SLOT_REPLY, ROOT_DEPTH, seL4_CapInitThreadCNode, reply,
                           ROOT_DEPTH, seL4_AllRights),
           "reply object in its slot");
#endif
    first_row_slot = next_slot;
}

static void make_frames(const struct row *row)
{
    for (word made = 0; made < row->frames;) {
        word count = row->frames - made > 256 ? 256 : row->frames - made;
        expect(seL4_Untyped_Retype(row_memory, seL4_X86_4K, 0, spaces[row->frames_in].cnode, 0, 0,
                                   SLOT_FRAMES + made, count),
               "frames of the row");
        made += count;
    }
}

void begin_row(const struct row *row)
{
    row_endpoint = make(row_memory, seL4_EndpointObject, 0, "endpoint");
    seL4_CPtr note = make(row_memory, seL4_NotificationObject, 0, "notification");
    seL4_CPtr back = make(row_memory, seL4_NotificationObject, 0, "notification");
    for (enum space space = 0; space < SPACES; space++) {
        give(space, SLOT_EP, row_endpoint, seL4_AllRights, 0);
        give(space, SLOT_NOTE, note, seL4_AllRights, 1);
        give(space, SLOT_BACK, back, seL4_AllRights, 2);
#ifdef CONFIG_KERNEL_MCS
        give(space, SLOT_REPLY, make(row_memory, seL4_ReplyObject, 0, "reply object"), seL4_AllRights, 0);
#endif
    }
    expect(seL4_Untyped_Retype(row_memory, seL4_UntypedObject, CLIENT_MEMORY_BITS, spaces[CLIENT].cnode, 0, 0,
                               SLOT_UNTYPED, 1),
           "memory of the client");
    make_frames(row);
}

void end_row(void)
{
    expect(seL4_CNode_Revoke(seL4_CapInitThreadCNode, row_memory, ROOT_DEPTH), "revoking the row's memory");
    next_slot = first_row_slot;
}

/* Where every thread begins. */
static void thread_main(void (*entry)(void))
{
    entry();
    done();
}

static void set_registers(unsigned number, const struct part *part)
{
    struct thread_memory *own = &memory[number];
    own->tls.ipc_buffer = (seL4_IPCBuffer *)own->ipc_buffer;
    own->tls.self = &own->tls.self;
    /* A function begins with a stack pointer that is 8 above a multiple of 16. */
    seL4_UserContext registers = {
        .rip = (word)thread_main,
        .rsp = (word)own->stack + STACK - 8,
        .rflags = RFLAGS,
        .rdi = (word)part->run,
        .fs_base = (word)&own->tls.self,
    };
    expect(seL4_TCB_WriteRegisters(tcbs[number], 0, 0, sizeof registers / sizeof(word), &registers), "registers");
}

#ifdef CONFIG_KERNEL_MCS
static void schedule_thread(unsigned number, const struct part *part, word priority, seL4_CPtr fault)
{
    seL4_CPtr context = make(row_memory, seL4_SchedContextObject, seL4_MinSchedContextBits, "scheduling context");
    contexts[number] = context;
    expect(seL4_SchedControl_ConfigureFlags(boot->schedcontrol.start + (word)part->cpu, context, BUDGET_US,
                                            BUDGET_US, 0, 0, 0),
           "CPU time");
    expect(seL4_TCB_SetSchedParams(tcbs[number], seL4_CapInitThreadTCB, 0, priority, context, fault), "priority");
}

void make_passive(unsigned number)
{
    expect(seL4_SchedContext_Unbind(contexts[number]), "making a server passive");
}
#else
static void schedule_thread(unsigned number, const struct part *part, word priority, seL4_CPtr fault)
{
    (void)fault;
    expect(seL4_TCB_SetPriority(tcbs[number], seL4_CapInitThreadTCB, priority), "priority");
#if CONFIG_MAX_NUM_NODES > 1
    expect(seL4_TCB_SetAffinity(tcbs[number], (word)part->cpu), "affinity");
#else
    (void)part;
#endif
}

void make_passive(unsigned number)
{
    (void)number;
}
#endif

/* What SetSpace wants as the way to the fault handler: MCS takes a capability of the root task, else it is a slot
   of the thread's own CNode. */
static seL4_CPtr fault_handler(const struct part *part)
{
#ifdef CONFIG_KERNEL_MCS
    return part->faults ? row_endpoint : control;
#else
    return part->faults ? SLOT_EP : SLOT_CONTROL;
#endif
}

void make_thread(unsigned number, const struct part *part)
{
    struct space_objects *space = &spaces[part->space];
    seL4_CPtr tcb = make(row_memory, seL4_TCBObject, 0, "TCB");
    tcbs[number] = tcb;
    seL4_CPtr fault = fault_handler(part);
    expect(seL4_TCB_SetSpace(tcb, fault, space->cnode, cnode_guard(), space->vspace, 0), "space of a thread");
    const char *buffer = memory[number].ipc_buffer;
    expect(seL4_TCB_SetIPCBuffer(tcb, (word)buffer, image_frame(buffer)), "IPC buffer");
    schedule_thread(number, part, (word)(CLIENT_PRIORITY + part->above - part->below), fault);
    if (!part->vector) {
        seL4_TCB_SetFlags_t flags = seL4_TCB_SetFlags(tcb, 0, seL4_TCBFlag_fpuDisabled);
        expect((seL4_Error)flags.error, "no vector state");
    }
    set_registers(number, part);
}

void start_thread(unsigned number)
{
    expect(seL4_TCB_Resume(tcbs[number]), "starting a thread");
}

void settle(int elsewhere)
{
    expect(seL4_TCB_SetPriority(seL4_CapInitThreadTCB, seL4_CapInitThreadTCB, 1), "lowering the priority");
    /* A thread of another CPU is waiting long before that. */
    for (u64 until = stamp() + (elsewhere ? 1000000 : 0); stamp() < until;) {
        __asm__ volatile("pause");
    }
    expect(seL4_TCB_SetPriority(seL4_CapInitThreadTCB, seL4_CapInitThreadTCB, seL4_MaxPrio), "raising the priority");
}
