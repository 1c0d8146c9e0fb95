//! CPU time: no context is lost or has two holders, each has the holder that the rules of donation
//! demand, and the right task runs.

use abi::status::Doing;
use snapshot::{Context, Cpu, State, Task};

use crate::facts::{Facts, awaits, awaits_here, is_runnable, name_of, receives};
use crate::report::Findings;

fn is_queued(context: &Context) -> bool {
    context.queue_rank != 0
}

fn runs(f: &Facts<'_>, context: &Context) -> bool {
    f.cpu(context.home).is_some_and(|cpu| cpu.context == context.at)
}

/// Whether an address is that of a SchedContext that may run on every CPU.
fn roams(f: &Facts<'_>, at: u64) -> bool {
    f.context(at).is_some_and(|context| f.s.cpus.iter().all(|cpu| may_run_on(context, cpu.id)))
}

fn may_run_on(context: &Context, cpu: u32) -> bool {
    // A record has only the first CPUs.
    cpu >= u64::BITS || context.cpus >> cpu & 1 != 0
}

/// A SchedContext's holder has it: as the time that it spends, as its own time that rests while it
/// goes on with a caller's, or in its message block. The SchedContext runs or is queued exactly
/// while its holder may run on it.
pub fn holders(f: &Facts<'_>, out: &mut Findings) {
    for context in f.s.contexts.iter().filter(|context| !f.is_busy(context.home)) {
        let (at, home) = (context.at, context.home);
        let (runs, queued) = (runs(f, context), is_queued(context));
        hold!(out, !(runs && queued), "SchedContext {at:#x} runs and is queued");
        let Some(holder) = f.task(context.task) else {
            hold!(out, !runs && !queued, "SchedContext {at:#x} is active on cpu{home} without a task");
            continue;
        };
        if !f.is_steady(holder) {
            continue;
        }
        let spent = holder.home == home && f.time(holder).is_some_and(|time| time.at == at);
        let own_rests = holder.home == home && holder.own_context == at;
        let in_block = holder.message_home == home && holder.message_context == at;
        let name = name_of;
        hold!(
            out,
            spent || own_rests || in_block,
            "SchedContext {at:#x} on cpu{home} is with {}, which does not have it",
            name(holder)
        );
        let should = spent && !in_block && is_runnable(holder);
        let active = runs || queued;
        hold!(
            out,
            active == should,
            "SchedContext {at:#x} of {}: on the CPU or queued {active}, and should be {should}",
            name(holder)
        );
    }
}

/// What a CPU reports about its SchedContexts is what they do, and it counts those that are ready.
pub fn told(f: &Facts<'_>, out: &mut Findings) {
    for context in f.s.contexts.iter().filter(|context| !f.is_busy(context.home) && !context.under_way) {
        let Some(told) = Doing::ALL.get(context.told as usize) else { continue };
        let at = context.at;
        let is_true = match told {
            Doing::Unknown => continue,
            // Or a message has it, and its CPU tells more when the message is there.
            Doing::Runs => {
                runs(f, context) || f.task(context.task).is_some_and(|task| task.message_context == at)
            }
            Doing::Ready => is_queued(context),
            Doing::Rests | Doing::Exhausted | Doing::Waits => !runs(f, context) && !is_queued(context),
        };
        hold!(out, is_true, "SchedContext {at:#x} does not do what was told of it: {told:?}");
        let is_ready = *told == Doing::Ready;
        let is_counted = f.s.cpus.iter().any(|cpu| is_counted(cpu, context));
        hold!(out, is_counted == is_ready, "SchedContext {at:#x} is counted wrongly as ready or not");
    }
    for cpu in f.s.cpus.iter().filter(|cpu| !cpu.busy) {
        let counted = f.s.contexts.iter().filter(|context| is_counted(cpu, context)).count();
        hold!(out, counted == cpu.ready as usize, "cpu{} counts {} ready, of {counted}", cpu.id, cpu.ready);
    }
}

/// Returns whether a CPU counts a context among those that are ready.
fn is_counted(cpu: &Cpu, context: &Context) -> bool {
    context.home == cpu.id && context.counted != 0 && context.counted == cpu.count_number
}

/// A SchedContext runs or is queued only on a CPU where it may run. One that was never set has
/// neither owner nor holder.
pub fn allowed_time(f: &Facts<'_>, out: &mut Findings) {
    for context in f.s.contexts.iter().filter(|context| !f.is_busy(context.home)) {
        let (at, home) = (context.at, context.home);
        let active = runs(f, context) || is_queued(context);
        let may_run = may_run_on(context, home);
        hold!(out, !active || may_run, "SchedContext {at:#x} is active on cpu{home}, where it may not run");
        let is_had = context.owner != 0 || context.task != 0;
        hold!(out, context.slice != 0 || !is_had, "SchedContext {at:#x} was never set, and a task has it");
    }
}

/// A task that may run, or receives, holds its own CPU time, if it has any that is not being
/// destroyed.
pub fn own_time(f: &Facts<'_>, out: &mut Findings) {
    for task in f.steady_tasks().filter(|task| !task.ending) {
        let Some(own) = f.own_time(task).filter(|own| !f.is_busy(own.home)) else { continue };
        if is_runnable(task) || receives(task) {
            let here = own.home == task.home && own.task == task.at;
            hold!(out, here, "{} may run or receives without its own time", name_of(task));
        }
    }
}

/// A task has borrowed time only where it may need it: ready and off the CPU, or waiting in a call.
/// Time waits with a call to another CPU only if it may not go there. A task that has a caller's
/// time spends that time, and not its own. A task that receives has nobody's.
pub fn lent_time(f: &Facts<'_>, out: &mut Findings) {
    for task in f.steady_tasks() {
        let name = || name_of(task);
        if task.borrowed != 0 {
            let runs = f.cpu(task.home).is_some_and(|cpu| cpu.current == task.at);
            hold!(out, !runs, "{} runs, and keeps other time", name());
            let waits = awaits(task) && (task.state != State::AwaitRemote || !roams(f, task.borrowed));
            let may = waits
                || matches!(task.state, State::Ready | State::Restart | State::Faulted | State::Exhausted);
            hold!(out, may, "{} has borrowed time, and needs none", name());
        }
        if task.lender == 0 {
            continue;
        }
        let of = || f.name(task.lender);
        hold!(out, !receives(task) && task.state != State::Dead, "{} has a lender, {}", name(), of());
        let spends = task.ending || !is_runnable(task) || f.borrowed(task).is_some();
        hold!(out, spends, "{} spends its own time as that of {}, or none", name(), of());
    }
}

/// A ready task without time can get none: its own is in use, and its first callers on this CPU
/// have none to give. While no mail is under way, no task that waits for it, directly or not, on
/// any CPU, has time that may run everywhere.
pub fn starvation(f: &Facts<'_>, out: &mut Findings) {
    let starves = |task: &&Task| is_runnable(task) && f.time(task).is_none() && !task.ending;
    let mail = f.s.cpus.iter().any(|cpu| cpu.has_mail);
    for task in f.steady_tasks().filter(starves) {
        let own = f.own_time(task).is_some();
        hold!(out, !own, "{} is ready and has time, which it does not use", name_of(task));
        // Where there are more callers than one entry looks at, the task looks for the others by
        // mail.
        let few = callers(f, task).count() <= f.kernel.call_steps as usize;
        for caller in callers(f, task).filter(|_| few) {
            let here = caller.home == task.home;
            let rests = if here { f.time(caller).is_some() } else { caller.message_context != 0 };
            hold!(
                out,
                !rests,
                "{} is ready without time while that of {} rests",
                name_of(task),
                name_of(caller)
            );
        }
        if !mail && !f.any_busy() {
            neglected(f, task, out);
        }
    }
}

/// Returns the callers of a task: those that it serves, that are queued, that wait for its locks,
/// and that Replies keep.
fn callers<'a>(f: &Facts<'a>, task: &Task) -> impl Iterator<Item = &'a Task> + use<'a> {
    let (f, at) = (*f, task.at);
    f.s.tasks.iter().filter(move |caller| {
        let Some(links) = f.linked.map(|linked| linked.of(&f, caller)) else { return false };
        let kept = f.reply(links.reply).is_some_and(|reply| reply.server == at);
        links.server == at || links.callee == at || links.lock_owner == at || kept
    })
}

fn neglected(f: &Facts<'_>, task: &Task, out: &mut Findings) {
    let (mut found, mut at) = (vec![task.at], 0);
    while let Some(next) = found.get(at).and_then(|at| f.task(*at)) {
        at += 1;
        for caller in callers(f, next) {
            let own = f.own_time(caller).map_or(0, |own| own.at);
            let has = [own, caller.borrowed, caller.message_context].iter().any(|at| roams(f, *at));
            let rests = has && !caller.ending;
            hold!(
                out,
                !rests,
                "{} is ready without time, and {} up its calls has some",
                name_of(task),
                name_of(caller)
            );
            if !found.contains(&caller.at) {
                found.push(caller.at);
            }
        }
    }
}

/// A task with the plain bit is off the CPU and has its own time, which has no budget. It is ready,
/// or waits for bits without deadline.
pub fn plain_tasks(f: &Facts<'_>, out: &mut Findings) {
    for task in f.steady_tasks().filter(|task| task.plain) {
        let name = || name_of(task);
        let running = f.cpu(task.home).is_some_and(|cpu| cpu.current == task.at);
        hold!(out, !running, "{} runs and is plain", name());
        let own = f.time(task).is_some_and(|time| time.at == task.own_context);
        hold!(
            out,
            own && !task.full_frame,
            "{} is plain, without its own time or with its whole frame",
            name()
        );
        let free = f.time(task).is_none_or(|time| time.budget == 0);
        hold!(out, free, "{} is plain, and its time has a budget", name());
        match task.state {
            State::WaitBits => hold!(out, task.deadline_rank == 0, "{} is plain and has a deadline", name()),
            state => hold!(out, state == State::Ready, "{} is plain in {state:?}", name()),
        }
    }
}

/// The task that runs is that of the SchedContext that runs, may run, and is of that CPU. Nobody
/// that is queued outranks it. A CPU idles exactly while it has nothing to run.
pub fn running(f: &Facts<'_>, out: &mut Findings) {
    for cpu in f.s.cpus.iter().filter(|cpu| !cpu.busy) {
        let n = cpu.id;
        let context = f.context(cpu.context);
        let task = context.map_or(0, |context| context.task);
        hold!(out, task == cpu.current, "cpu{n}: running task and running SchedContext disagree");
        if let Some(task) = f.task(cpu.current) {
            hold!(out, is_runnable(task) && task.home == n, "cpu{n} runs {}", name_of(task));
            hold!(out, !awaits_here(task), "cpu{n} runs {}", name_of(task));
        }
        let priority = context.map(|context| context.priority);
        let best = best_queued(f, cpu);
        if let Some(best) = best {
            hold!(
                out,
                priority.is_some_and(|p| p >= best),
                "cpu{n} runs priority {priority:?}, and {best} is queued"
            );
        }
        hold!(out, !cpu.idle || cpu.context == 0, "cpu{n} idles, and runs something");
        let Some(hardware) = f.s.hardwares.iter().find(|hardware| hardware.cpu == n) else { continue };
        hold!(out, hardware.waits == (cpu.context == 0), "cpu{n} waits {}", hardware.waits);
        hold!(out, cpu.idle == hardware.waits, "cpu{n} waits {}, and idles {}", hardware.waits, cpu.idle);
        let endless = context.is_none_or(|context| context.endless);
        let alone = priority != best || best.is_none() || endless;
        hold!(
            out,
            alone || hardware.timer != u64::MAX,
            "cpu{n}: equals wait, and no timer will end the slice"
        );
        let budget = context.filter(|context| context.budget != 0);
        hold!(
            out,
            budget.is_none_or(|_| hardware.timer <= cpu.until),
            "cpu{n}: the budget is looked at at {}, and the timer fires at {}",
            cpu.until,
            hardware.timer
        );
    }
}

/// Returns the highest priority that is queued on a CPU, by the queues of priorities.
fn best_queued(f: &Facts<'_>, cpu: &Cpu) -> Option<u32> {
    let front = f.context(cpu.front).map(|context| context.priority);
    let classes = f.s.classes.iter().filter(|class| class.cpu == cpu.id).map(|class| class.priority);
    classes.chain(front).max()
}

/// A run queue is well-formed: each SchedContext in it is of that CPU, stands under its priority
/// and knows its neighbours; who stands at the front outranks all others; and the bits say which
/// priorities have a queue. A context in no queue says so.
pub fn run_queues(f: &Facts<'_>, out: &mut Findings) {
    let mut queued = 0;
    for cpu in f.s.cpus.iter().filter(|cpu| !cpu.busy) {
        let n = cpu.id;
        let mut words = [0u64; 4];
        let mut top = 0;
        for class in f.s.classes.iter().filter(|class| class.cpu == n) {
            words[class.priority as usize / 64 % 4] |= 1 << (class.priority % 64);
            top = top.max(class.priority + 1);
            queued += class_of(f, n, class, out);
        }
        let summary = (0..4).filter(|at| words[*at] != 0).fold(0, |bits, at| bits | 1 << at);
        let said = ([cpu.word0, cpu.word1, cpu.word2, cpu.word3], cpu.summary, cpu.top);
        hold!(
            out,
            said == (words, summary, top),
            "cpu{n}: the run queue says {said:x?}, and is {words:x?}, {summary:x}, {top}"
        );
        if cpu.front != 0 {
            queued += 1;
            let Some(front) = f.context(cpu.front) else {
                out.add(format_args!("cpu{n}: at the front of the run queue is {}", f.name(cpu.front)));
                continue;
            };
            let alone = front.queue_next | front.queue_prev == 0 && front.queue_rank > top && front.home == n;
            hold!(out, alone, "cpu{n}: at the front of the run queue is {front:x?}");
        }
    }
    let busy = f.any_busy();
    let said = f.s.contexts.iter().filter(|context| is_queued(context)).count();
    hold!(out, busy || said == queued, "{said} SchedContexts are queued, and run queues have {queued}");
    for context in f.s.contexts.iter().filter(|context| !is_queued(context) && !f.is_busy(context.home)) {
        let free = context.queue_next | context.queue_prev == 0;
        hold!(out, free, "SchedContext {:#x} is in no queue, and has neighbours", context.at);
    }
}

/// Walks the run queue of a priority. Returns how many SchedContexts are in it.
fn class_of(f: &Facts<'_>, cpu: u32, class: &snapshot::Class, out: &mut Findings) -> usize {
    let (mut prev, mut next, mut count) = (0, class.first, 0);
    while count <= f.s.contexts.len() {
        let Some(context) = f.context(next) else { break };
        let fits =
            context.home == cpu && context.queue_rank == class.priority + 1 && context.queue_prev == prev;
        hold!(out, fits, "cpu{cpu}: in the queue of priority {} is {context:x?}", class.priority);
        hold!(
            out,
            context.priority == class.priority,
            "cpu{cpu}: {context:x?} is queued as priority {}",
            class.priority
        );
        (prev, next, count) = (next, context.queue_next, count + 1);
    }
    hold!(out, next == 0, "cpu{cpu}: the queue of priority {} leads to {}", class.priority, f.name(next));
    hold!(
        out,
        prev == class.last,
        "cpu{cpu}: the queue of priority {} ends with another than its last",
        class.priority
    );
    count
}

/// The timer fires no later than the soonest deadline. For priorities that rest, it fires no later
/// than the end of their rest. It is set while a task waits for nothing but its turn to wake,
/// unless the end of another shootdown will wake it.
pub fn timers(f: &Facts<'_>, out: &mut Findings) {
    for cpu in f.s.cpus.iter().filter(|cpu| !cpu.busy && cpu.timer == u64::MAX) {
        hold!(out, cpu.unanswered == 0, "cpu{}: a death is known, and no timer tells of it", cpu.id);
        let firsts = std::iter::successors(f.task(cpu.shootdown_waiters), |first| f.task(first.queue_lower));
        let is_over = firsts.take(f.s.tasks.len()).any(|first| f.is_over(first.request_stamp));
        let comes = cpu.shootdowns_over < cpu.shootdowns_begun;
        hold!(out, !is_over || comes, "cpu{}: a shootdown is over, and no timer tells of it", cpu.id);
    }
    for heap in &f.s.heaps {
        let Some(cpu) = f.s.cpus.iter().find(|cpu| cpu.id == heap.cpu && !cpu.busy) else { continue };
        let rest = if heap.priority < cpu.resting { cpu.expire_at } else { 0 };
        let (n, soonest) = (cpu.id, heap.soonest.max(rest));
        hold!(out, cpu.timer <= soonest, "cpu{n}: a deadline at {soonest}, the timer at {}", cpu.timer);
        if let Some(hardware) = f.s.hardwares.iter().find(|hardware| hardware.cpu == n) {
            hold!(
                out,
                hardware.timer <= soonest,
                "cpu{n}: a deadline at {soonest}, the hardware's timer at {}",
                hardware.timer
            );
        }
    }
}
