/* The root task: measures row after row and prints each as a line.
 *
 *     row name=… scope=… n=… min=… p50=… p99=… max=… overhead=… what=…
 *     failed row=… reason=… value=…
 *     done rows=… */
#include "console.h"
#include "objects.h"

struct run run;
__thread seL4_IPCBuffer *__sel4_ipc_buffer;

static struct {
    seL4_IPCBuffer *ipc_buffer;
    void *self;
} root_tls;

#if defined(CONFIG_KERNEL_MCS)
#define THIS_KERNEL MCS
#elif CONFIG_MAX_NUM_NODES > 1
#define THIS_KERNEL SMP
#else
#define THIS_KERNEL UNIPROCESSOR
#endif

_Noreturn void done(void)
{
    for (;;) {
        seL4_SendWithMRs(SLOT_CONTROL, message(LABEL_DONE, 0, 0), 0, 0, 0, 0);
    }
}

_Noreturn void failed(const char *what, word value)
{
    run.failure = what;
    run.value = value;
    for (;;) {
        seL4_SendWithMRs(SLOT_CONTROL, message(LABEL_FAILED, 0, 0), 0, 0, 0, 0);
    }
}

static void sort(u64 *numbers, unsigned count)
{
    for (unsigned gap = count / 2; gap > 0; gap /= 2) {
        for (unsigned i = gap; i < count; i++) {
            u64 number = numbers[i];
            unsigned at = i;
            for (; at >= gap && numbers[at - gap] > number; at -= gap) {
                numbers[at] = numbers[at - gap];
            }
            numbers[at] = number;
        }
    }
}

static void say_field(const char *name, u64 number)
{
    say(name);
    say_number(number);
}

/* The smallest sample that so many percent do not exceed, without the overhead. */
static u64 percentile(unsigned percent)
{
    unsigned rank = (run.samples * percent + 99) / 100;
    u64 found = run.taken[rank > 0 ? rank - 1 : 0];
    return found > run.overhead ? found - run.overhead : 0;
}

static void report(const struct row *row)
{
    sort(run.taken, run.samples);
    say("row name=");
    say(row->name);
    say(" scope=");
    say(row->scope);
    say_field(" n=", run.samples);
    say_field(" min=", percentile(0));
    say_field(" p50=", percentile(50));
    say_field(" p99=", percentile(99));
    say_field(" max=", percentile(100));
    say_field(" overhead=", run.overhead);
    say(" what=");
    say(row->what);
    say("\n");
}

/* Waits for the client, or for the first fault of anybody. */
static void wait_for_client(const struct row *row)
{
    word badge = 0;
    seL4_MessageInfo_t info = recv(control_endpoint(), &badge);
    word label = seL4_MessageInfo_get_label(info);
    if (label == LABEL_DONE) {
        return;
    }
    say("failed row=");
    say(row->name);
    say(" reason=");
    if (label == LABEL_FAILED) {
        say(run.failure);
        say_field(" value=", run.value);
    } else {
        say_field("fault of kind ", label);
        say_field(" at address ", seL4_GetMR(seL4_VMFault_Addr));
        say_field(" by the instruction at ", seL4_GetMR(seL4_VMFault_IP));
        say_field(" value=", badge);
    }
    say("\n");
    end_machine(1);
}

static void measure(const struct row *row)
{
    run.samples = row->samples ? row->samples : SAMPLES_MAX;
    run.warm_up = run.samples < WARM_UP ? run.samples : WARM_UP;
    run.overhead = 0;
    begin_row(row);
    for (unsigned number = 0; number < PARTS; number++) {
        const struct part *part = &row->parts[number];
        if (part->role == WAITER || part->role == PASSIVE) {
            make_thread(number, part);
            start_thread(number);
            settle(part->cpu);
            if (part->role == PASSIVE) {
                make_passive(number);
            }
        }
    }
    for (unsigned number = 0; number < PARTS; number++) {
        if (row->parts[number].role == RUNNER) {
            make_thread(number, &row->parts[number]);
            start_thread(number);
        }
    }
    wait_for_client(row);
    report(row);
    end_row();
}

static unsigned measure_all(const struct row *rows)
{
    unsigned count = 0;
    for (; rows->name; rows++) {
        if (rows->kernels & THIS_KERNEL) {
            measure(rows);
            count++;
        }
    }
    return count;
}

_Noreturn void root_main(seL4_BootInfo *info)
{
    root_tls.self = &root_tls.self;
#ifdef CONFIG_SET_TLS_BASE_SELF
    seL4_SetTLSBase((word)&root_tls.self);
#else
    __asm__ volatile("wrfsbase %0" : : "r"(&root_tls.self));
#endif
    seL4_SetIPCBuffer(info->ipcBuffer);
    objects_init(info);
    const struct row *const groups[] = {call_rows, signal_rows, fault_rows, memory_rows, cap_rows, cross_rows};
    unsigned count = 0;
    for (unsigned group = 0; group < sizeof groups / sizeof groups[0]; group++) {
        count += measure_all(groups[group]);
    }
    say_field("done rows=", count);
    say("\n");
    end_machine(0);
}

static char stack[65536] __attribute__((aligned(16), used));

__asm__(".globl _start\n"
        "_start:\n\t"
        "lea stack + 65536(%rip), %rsp\n\t"
        "call root_main\n\t"
        "ud2\n");
