//! Planted violations about capabilities and objects: derivation trees, processes, tasks, calls,
//! CPU time, mail.

use invariants::Snapshot;
use snapshot::{MailKind, Root, SlotUse, Stage, State};

use super::{NOTHING, Planted, kind_of};

const FULL: SlotUse = SlotUse::Full;

/// The slots with capabilities of one type.
fn slots_of(s: &Snapshot, object: abi::ObjType) -> impl Iterator<Item = u64> {
    s.slots.iter().filter(move |slot| slot.kind == kind_of(object)).map(|slot| slot.at)
}

/// In the order of the rules.
pub const PLANTS: &[Planted] = &[
    ("tree-links", "a next slot that does not know the one before", |s| {
        let next = s.slots.iter().find(|slot| slot.used == FULL && slot.next != 0)?.next;
        first!(s.slots, |slot| slot.at == next)?.prev = 0;
        Some(())
    }),
    ("tree-links", "a neighbour in a table that was reset", |s| {
        first!(s.slots, |slot| slot.used == FULL && slot.next != 0)?.next = NOTHING;
        Some(())
    }),
    ("tree-links", "an empty slot in a tree", |s| {
        let slot = first!(s.slots, |slot| slot.used == FULL && slot.next != 0)?;
        slot.used = SlotUse::Empty;
        Some(())
    }),
    ("tree-links", "a capability for memory that is no object", |s| {
        first!(s.slots, |slot| slot.used == FULL)?.object = NOTHING;
        Some(())
    }),
    ("tree-links", "a capability of another type", |s| {
        let task = s.tasks.first()?.at;
        first!(s.slots, |slot| slot.kind == kind_of(abi::ObjType::Frame))?.object = task;
        Some(())
    }),
    ("tree-depths", "a slot that is too deep", |s| {
        s.roots.clear();
        let slot = first!(s.slots, |slot| slot.used == FULL && slot.prev != 0)?;
        (slot.depth, slot.floor) = (slot.depth + 4, slot.floor + 4);
        Some(())
    }),
    ("reference-counts", "a reference too many", |s| {
        s.contexts.first_mut()?.refs += 1;
        Some(())
    }),
    ("reference-counts", "a dead object with a capability", |s| {
        s.groups.first_mut()?.dead = true;
        Some(())
    }),
    ("first-slots", "a capability in slot 0", |s| {
        let tables: Vec<u64> = s.cnodes.iter().map(|cnode| cnode.at).collect();
        first!(s.slots, |slot| slot.used == FULL && tables.contains(&slot.table))?.number = 0;
        Some(())
    }),
    ("claims", "a slot that nobody fills", |s| {
        let mut slot = *s.slots.first()?;
        (slot.at, slot.used, slot.object, slot.kind) = (NOTHING, SlotUse::Claimed, 0, 0);
        (slot.next, slot.prev) = (0, 0);
        s.slots.push(slot);
        Some(())
    }),
    ("made-of", "an object that its Untyped's revoke does not find", |s| {
        s.roots.clear();
        let untyped =
            s.slots.iter().find(|slot| slot.kind == kind_of(abi::ObjType::Untyped) && slot.next != 0)?;
        let (depth, next) = (untyped.depth, untyped.next);
        let slot = first!(s.slots, |slot| slot.at == next && slot.floor > depth)?;
        (slot.depth, slot.floor) = (depth, depth);
        Some(())
    }),
    ("revoked", "an Untyped that starts again, with what was made of it", |s| {
        let with_child =
            |slot: &&snapshot::Slot| slot.kind == kind_of(abi::ObjType::Untyped) && slot.next != 0;
        let slot = s.slots.iter().find(|slot| with_child(slot) && slot.depth == 0)?.object;
        let untyped = first!(s.untypeds, |untyped| untyped.at == slot)?;
        (untyped.revoked, untyped.resetting) = (true, true);
        Some(())
    }),
    ("badges", "a badge behind the last member", |s| {
        first!(s.slots, |slot| slot.kind == kind_of(abi::ObjType::Group))?.badge = 8 * 0x1_0000;
        Some(())
    }),
    ("badges", "rights that there are not", |s| {
        first!(s.slots, |slot| slot.used == FULL)?.rights |= 1 << 31;
        Some(())
    }),
    ("zombies", "a CNode that is emptied, and has a capability", |s| {
        s.untypeds[0].zombies = s.cnodes.iter().find(|cnode| cnode.refs > 0)?.at;
        Some(())
    }),
    ("zombies", "a CNode without capability that nobody empties", |s| {
        first!(s.untypeds, |untyped| untyped.zombies != 0)?.zombies = 0;
        Some(())
    }),
    ("task-numbers", "a free number that would never be given", |s| {
        s.processes.first_mut()?.free_number += 1;
        Some(())
    }),
    ("task-numbers", "a state word with another tag", |s| {
        first!(s.tasks, |task| task.process != 0)?.state_tag += 1;
        Some(())
    }),
    ("process-lists", "a process that its root does not list", |s| {
        let first = s.roots.iter_mut().find(|root| root.processes != 0)?;
        first.processes = 0;
        Some(())
    }),
    ("cspaces", "a fastpath that finds other slots", |s| {
        first!(s.processes, |process| process.cnode != 0)?.cspace_len += 1;
        Some(())
    }),
    ("event-pools", "a pool that is read by a stranger", |s| {
        let pool = s.pools.iter().find(|pool| pool.process != 0)?;
        let (reader, process) = (pool.reader, pool.process);
        let stranger = s.tasks.iter().find(|task| task.owner != process && !task.dead)?.at;
        first!(s.slots, |slot| slot.at == reader)?.object = stranger;
        Some(())
    }),
    ("event-pools", "a pool that is open while senders wait", |s| {
        let reader = s.tasks.iter().find(|task| task.posters != 0)?.at;
        let slots: Vec<u64> =
            s.slots.iter().filter(|slot| slot.object == reader).map(|slot| slot.at).collect();
        first!(s.pools, |pool| slots.contains(&pool.reader))?.closed = false;
        Some(())
    }),
    ("members", "a record whose place is another's", |s| {
        first!(s.members, |member| member.word != 0)?.place_group += 0x40;
        Some(())
    }),
    ("members", "a member that does not live", |s| {
        first!(s.members, |member| member.word != 0)?.process_key += 1 << 40;
        Some(())
    }),
    ("members", "a member that nobody counts", |s| {
        s.groups.first_mut()?.count += 1;
        Some(())
    }),
    ("membership-lists", "a membership that its process does not know", |s| {
        first!(s.processes, |process| process.memberships != 0)?.memberships = 0;
        Some(())
    }),
    ("exposures", "an exposed task with another tag", |s| {
        let tasks: Vec<u64> = slots_of(s, abi::ObjType::Task).collect();
        first!(s.exposures, |exposure| tasks.contains(&exposure.slot))?.tag += 1;
        Some(())
    }),
    ("exposures", "entries behind the last exposure", |s| {
        let slots: Vec<u64> = s.slots.iter().map(|slot| slot.at).collect();
        let exposure = first!(s.exposures, |exposure| slots.contains(&exposure.slot))?;
        exposure.per_cpu = 0xffff;
        Some(())
    }),
    ("exposures", "a watcher that the group does not know", |s| {
        let notes: Vec<u64> = slots_of(s, abi::ObjType::Notification).collect();
        let exposure = first!(s.exposures, |exposure| notes.contains(&exposure.slot))?;
        exposure.watch = 1;
        let group = exposure.group;
        first!(s.groups, |of| of.at == group)?.watched = 0;
        Some(())
    }),
    ("states", "a task whose state names another home", |s| {
        s.tasks.first_mut()?.state_home += 1;
        Some(())
    }),
    ("states", "a fault that waits for no answer", |s| {
        first!(s.tasks, |task| task.state == State::Ready && !task.ending)?.in_fault = true;
        Some(())
    }),
    ("states", "a task that is killed, and may run", |s| {
        first!(s.tasks, |task| task.state == State::Ready && !task.suspended)?.ending = true;
        Some(())
    }),
    ("states", "a task that receives while its bits are there", |s| {
        let task =
            first!(s.tasks, |task| task.state == State::Recv && !task.suspended && task.own_context != 0)?;
        task.pending |= 2;
        Some(())
    }),
    ("labels", "a task that nobody told of its process's label", |s| {
        let running: Vec<u64> = s.cpus.iter().map(|cpu| cpu.current).collect();
        let mut tasks = s.tasks.iter().filter(|task| task.process != 0 && !task.ending && !task.label_comes);
        let process = tasks.find(|task| !running.contains(&task.at))?.process;
        first!(s.processes, |of| of.at == process)?.label ^= 1;
        Some(())
    }),
    ("labels", "a task that keeps an old label and runs", |s| {
        let running: Vec<u64> = s.cpus.iter().map(|cpu| cpu.current).collect();
        first!(s.tasks, |task| running.contains(&task.at))?.state_label ^= 1;
        Some(())
    }),
    ("labels", "a fastpath from one label to another", |s| {
        first!(s.cpus, |cpu| cpu.current == 0)?.expects_labels |= 1 << 31;
        Some(())
    }),
    ("waiting", "a task that waits for nothing", |s| {
        first!(s.tasks, |task| task.state == State::Ready && !task.ending)?.state = State::Restart;
        Some(())
    }),
    ("waiting", "a task in a queue, which says that it is in none", |s| {
        first!(s.tasks, |task| task.queue_place == 1)?.queue_place = 0;
        Some(())
    }),
    ("deadlines", "a deadline that no heap has", |s| {
        first!(s.tasks, |task| task.state == State::Ready && task.deadline_rank == 0)?.deadline_rank = 1;
        Some(())
    }),
    ("deadlines", "a wait with a deadline, and none", |s| {
        first!(s.tasks, |task| task.state == State::Recv && !task.ending)?.state = State::RecvTimed;
        Some(())
    }),
    ("dead-tasks", "a dead task with time", |s| {
        let context = s.contexts.first()?.at;
        first!(s.tasks, |task| task.state == State::Dead)?.borrowed = context;
        Some(())
    }),
    ("dead-tasks", "a living task that is marked as dead", |s| {
        first!(s.tasks, |task| task.state == State::Ready)?.dead = true;
        Some(())
    }),
    ("message-blocks", "a message block that is away", |s| {
        s.cpus.get(1)?;
        first!(s.tasks, |task| task.state == State::Ready && task.home == 0 && !task.ending)?.message_home =
            1;
        Some(())
    }),
    ("message-blocks", "a node that is under way", |s| {
        let task = first!(s.tasks, |task| task.state == State::Ready && !task.ending)?;
        task.message_node = snapshot::IN_MAILBOX;
        Some(())
    }),
    ("followers", "calls that have to follow, and none that is sent", |s| {
        first!(s.cpus, |cpu| cpu.followers != 0)?.sent_follower = 0;
        Some(())
    }),
    ("followers", "a call that was sent, and is in no mailbox", |s| {
        let sent = s.cpus.iter().find(|cpu| cpu.sent_follower != 0)?.sent_follower;
        s.mails.retain(|mail| mail.about != sent);
        Some(())
    }),
    ("followers", "a call that follows nobody", |s| {
        let first = s.cpus.iter().find(|cpu| cpu.followers != 0)?.followers;
        first!(s.tasks, |task| task.at == first)?.callee = 0;
        Some(())
    }),
    ("followers", "a call that follows, and was received", |s| {
        let first = s.cpus.iter().find(|cpu| cpu.followers != 0)?.followers;
        first!(s.tasks, |task| task.at == first)?.stage = Stage::Owed;
        Some(())
    }),
    ("pending", "callers that a receive would overlook", |s| {
        first!(s.tasks, |task| task.senders != 0)?.pending &= !1;
        Some(())
    }),
    ("pending", "bits that a receive would overlook", |s| {
        let bound = s.tasks.iter().find(|task| task.bound != 0 && task.pending & 2 == 0)?.bound;
        first!(s.notifications, |object| object.at == bound)?.bits = 4;
        Some(())
    }),
    ("clients", "a caller that two tasks serve", |s| {
        let caller = s.tasks.iter().find(|task| task.caller != 0)?.caller;
        first!(s.tasks, |task| task.state == State::Ready && task.caller == 0 && !task.ending)?.caller =
            caller;
        Some(())
    }),
    ("clients", "a Reply that keeps a call, and has no home", |s| {
        first!(s.replies, |reply| reply.server != 0)?.unclaimed = true;
        Some(())
    }),
    ("clients", "an empty Reply that a CPU owns", |s| {
        first!(s.replies, |reply| reply.server == 0 && !reply.dead)?.unclaimed = false;
        Some(())
    }),
    ("clients", "a Reply that knows one side only", |s| {
        first!(s.replies, |reply| reply.caller != 0)?.server = 0;
        Some(())
    }),
    ("holders", "time that its holder does not have", |s| {
        let holder = s.contexts.iter().find(|context| context.task != 0)?.task;
        let task = first!(s.tasks, |task| task.at == holder)?;
        (task.borrowed, task.own_context) = (0, 0);
        for cpu in s.cpus.iter_mut().filter(|cpu| cpu.current == holder) {
            cpu.context = 0;
        }
        Some(())
    }),
    ("told", "time that does not do what was told of it", |s| {
        let at = s.contexts.iter().find(|context| context.queue_rank == 0 && context.told == 0)?.at;
        (first!(s.contexts, |context| context.at == at)?).told = abi::status::Doing::Ready as u32;
        Some(())
    }),
    ("residents", "a CPU that counts one more task than it has", |s| {
        s.cpus.first_mut()?.residents += 1;
        Some(())
    }),
    ("residents", "a parked CPU that has a task", |s| {
        first!(s.cpus, |cpu| cpu.residents != 0)?.parked = true;
        Some(())
    }),
    ("mail-nodes", "a CPU that owes a sign and is not asked for it", |s| {
        first!(s.cpus, |cpu| !cpu.owes_sign)?.owes_sign = true;
        Some(())
    }),
    ("told", "a CPU that counts one more than are ready", |s| {
        s.cpus.first_mut()?.ready += 1;
        Some(())
    }),
    ("allowed-time", "time that runs where it may not", |s| {
        let runs = s.cpus.iter().find(|cpu| cpu.context != 0)?.context;
        first!(s.contexts, |context| context.at == runs)?.cpus = 0;
        Some(())
    }),
    ("allowed-time", "time that a task has and nobody has set", |s| {
        first!(s.contexts, |context| context.owner != 0)?.slice = 0;
        Some(())
    }),
    ("holders", "time that runs for a task that waits", |s| {
        let current = s.cpus.iter().find(|cpu| cpu.current != 0)?.current;
        first!(s.tasks, |task| task.at == current)?.suspended = true;
        Some(())
    }),
    ("own-time", "a task that runs without its own time", |s| {
        let task = s.tasks.iter().find(|task| task.own_context != 0 && task.state == State::Recv)?;
        let own = task.own_context;
        first!(s.contexts, |context| context.at == own)?.task = 0;
        Some(())
    }),
    ("lent-time", "a task that spends its own time as a caller's", |s| {
        let lender = s.tasks.iter().find(|task| task.callee != 0 && task.stage != Stage::Home)?.at;
        let spends = |s: &Snapshot, task: &snapshot::Task| {
            let own = s.contexts.iter().any(|own| own.at == task.own_context && own.task == task.at);
            own && task.state == State::Ready && task.borrowed == 0 && task.lender == 0 && !task.suspended
        };
        let at = s
            .tasks
            .iter()
            .find(|task| spends(s, task) && !s.cpus.iter().any(|cpu| cpu.current == task.at))?
            .at;
        first!(s.tasks, |task| task.at == at)?.lender = lender;
        Some(())
    }),
    ("lent-time", "a task that receives, and keeps a caller's time", |s| {
        let borrowed = s.contexts.first()?.at;
        first!(s.tasks, |task| task.state == State::Recv)?.borrowed = borrowed;
        Some(())
    }),
    ("lent-time", "a task that receives, and has a lender", |s| {
        let lender = s.tasks.iter().find(|task| task.state != State::Recv)?.at;
        first!(s.tasks, |task| task.state == State::Recv)?.lender = lender;
        Some(())
    }),
    ("starvation", "a ready task that has time, and does not use it", |s| {
        let task = first!(s.tasks, |task| task.state == State::Ready
            && !task.suspended
            && task.own_context != 0
            && !task.ending)?;
        let (own, at) = (task.own_context, task.at);
        task.borrowed = 0;
        for cpu in s.cpus.iter_mut().filter(|cpu| cpu.current == at) {
            (cpu.current, cpu.context) = (0, 0);
        }
        first!(s.contexts, |context| context.at == own)?.task = 0;
        Some(())
    }),
    ("plain-tasks", "a task that runs and is plain", |s| {
        let current = s.cpus.iter().find(|cpu| cpu.current != 0)?.current;
        first!(s.tasks, |task| task.at == current)?.plain = true;
        Some(())
    }),
    ("plain-tasks", "a plain task with borrowed time", |s| {
        first!(s.tasks, |task| task.plain && task.state == State::WaitBits)?.own_context = NOTHING;
        Some(())
    }),
    ("plain-tasks", "a plain task whose time has a budget", |s| {
        let own = s.tasks.iter().find(|task| task.plain && task.own_context != 0)?.own_context;
        first!(s.contexts, |context| context.at == own)?.budget = 1000;
        Some(())
    }),
    ("running", "a budget that no timer ends", |s| {
        let cpu = s.cpus.iter().find(|cpu| cpu.context != 0)?;
        let (id, context) = (cpu.id, cpu.context);
        first!(s.contexts, |of| of.at == context)?.budget = 1000;
        first!(s.hardwares, |hardware| hardware.cpu == id)?.timer = u64::MAX;
        Some(())
    }),
    ("running", "a task that runs on another's time", |s| {
        let other = s.tasks.first()?.at;
        first!(s.cpus, |cpu| cpu.current != 0 && cpu.current != other)?.current = other;
        Some(())
    }),
    ("running", "somebody who is queued outranks who runs", |s| {
        let cpu = s.cpus.iter().find(|cpu| cpu.context != 0 && (cpu.front != 0 || cpu.top != 0))?.context;
        first!(s.contexts, |context| context.at == cpu)?.priority = 0;
        let front = s.cpus.iter().find(|cpu| cpu.front != 0)?.front;
        first!(s.contexts, |context| context.at == front)?.priority = 250;
        Some(())
    }),
    ("running", "a CPU that idles while it runs something", |s| {
        first!(s.cpus, |cpu| cpu.context != 0)?.idle = true;
        Some(())
    }),
    ("run-queues", "a queued context that no queue has", |s| {
        first!(s.contexts, |context| context.queue_rank == 0)?.queue_rank = 11;
        Some(())
    }),
    ("run-queues", "a priority whose bit is not set", |s| {
        let class = s.classes.first()?.cpu;
        first!(s.cpus, |cpu| cpu.id == class)?.summary = 0;
        Some(())
    }),
    ("run-queues", "a queue that ends with another than its last", |s| {
        s.classes.first_mut()?.last = NOTHING;
        Some(())
    }),
    ("run-queues", "time that is queued under another priority", |s| {
        let class = s.classes.first()?.first;
        first!(s.contexts, |context| context.at == class)?.priority ^= 1;
        Some(())
    }),
    ("timers", "a deadline that no timer will end", |s| {
        first!(s.cpus, |cpu| cpu.soonest != u64::MAX)?.timer = u64::MAX;
        Some(())
    }),
    ("timers", "a deadline that the hardware will not end", |s| {
        let cpu = s.cpus.iter().find(|cpu| cpu.soonest != u64::MAX)?.id;
        first!(s.hardwares, |hardware| hardware.cpu == cpu)?.timer = u64::MAX;
        Some(())
    }),
    ("timers", "a death that no timer tells of", |s| {
        let at = s.tasks.first()?.at;
        let cpu = s.cpus.first_mut()?;
        (cpu.timer, cpu.unanswered) = (u64::MAX, at);
        Some(())
    }),
    ("timers", "a shootdown that no timer tells the end of", |s| {
        let at = s.tasks.iter().find(|task| task.request_stamp != 0 && task.stage == Stage::Kept)?.at;
        let cpu = s.cpus.iter_mut().find(|cpu| cpu.shootdown_waiters == at)?;
        (cpu.timer, cpu.shootdowns_over) = (u64::MAX, cpu.shootdowns_begun);
        Some(())
    }),
    ("mailboxes", "a message that is not under way", |s| {
        let task = s.mails.iter().find(|mail| mail.kind == MailKind::Message)?.about;
        first!(s.tasks, |of| of.at == task)?.stage = Stage::Home;
        Some(())
    }),
    ("mailboxes", "a task that goes where it does not move to", |s| {
        let mail = first!(s.mails, |mail| mail.kind == MailKind::Arrival)?;
        mail.cpu ^= 1;
        Some(())
    }),
    ("moves", "a task that moves without its message block", |s| {
        first!(s.tasks, |task| task.under_way)?.message_under_way = false;
        Some(())
    }),
    ("moves", "a task that moves without its Notification", |s| {
        let bound = s.tasks.iter().find(|task| task.under_way)?.bound;
        first!(s.notifications, |object| object.at == bound)?.under_way = false;
        Some(())
    }),
    ("moves", "a task that moves while it runs", |s| {
        first!(s.tasks, |task| task.under_way)?.suspended = false;
        Some(())
    }),
    ("moves", "a task that moves, and has a process, and was never resumed", |s| {
        first!(s.tasks, |task| task.under_way)?.state = State::Fresh;
        Some(())
    }),
    ("moves", "a task that moves in the middle of a call", |s| {
        first!(s.tasks, |task| task.under_way)?.borrowed = NOTHING;
        Some(())
    }),
    ("moves", "a task that moves in no mailbox", |s| {
        s.tasks.iter().find(|task| task.under_way)?;
        s.mails.clear();
        Some(())
    }),
    ("moves", "CPU time that moves for nobody", |s| {
        first!(s.contexts, |context| context.owner == 0)?.under_way = true;
        Some(())
    }),
    ("moves", "a Notification that moves for nobody", |s| {
        first!(s.notifications, |object| object.bound == 0)?.under_way = true;
        Some(())
    }),
    ("mailboxes", "a message about free memory", |s| {
        first!(s.mails, |mail| mail.kind == MailKind::Control)?.about = NOTHING;
        Some(())
    }),
    ("mail-nodes", "a message block that is in two mailboxes", |s| {
        let mail = *s.mails.iter().find(|mail| mail.kind == MailKind::Message)?;
        s.mails.push(mail);
        Some(())
    }),
    ("mail-nodes", "control bits that nobody announces", |s| {
        first!(s.tasks, |task| task.control == 0)?.control = 1;
        Some(())
    }),
    ("mail-nodes", "bits that nobody announces", |s| {
        first!(s.notifications, |object| object.remote == 0)?.remote = 1;
        Some(())
    }),
    ("wake-ups", "mail that nobody will look at", |s| {
        let cpu = s.cpus.iter().find(|cpu| cpu.has_mail)?.id;
        let hardware = first!(s.hardwares, |hardware| hardware.cpu == cpu)?;
        (hardware.interrupted, hardware.polls) = (false, false);
        Some(())
    }),
    ("wake-ups", "a mailbox that says that it is empty", |s| {
        first!(s.cpus, |cpu| cpu.has_mail)?.has_mail = false;
        Some(())
    }),
    ("steps", "an entry that takes too many steps", |s| {
        s.kernels[0].steps_max = 10;
        s.cpus.first_mut()?.steps = 11;
        Some(())
    }),
    ("lists", "a queue with a neighbour that is another's", |s| {
        let first =
            s.tasks.iter().find(|task| task.senders != 0 && task.senders != task.senders_last)?.senders;
        first!(s.tasks, |task| task.at == first)?.queue_next = NOTHING;
        Some(())
    }),
    ("lists", "a queue whose order is not that of priorities", |s| {
        let queue = s.tasks.iter().find(|task| task.senders != 0 && task.senders != task.senders_last)?;
        let (first, last) = (queue.senders, queue.senders_last);
        let lowest = s.tasks.iter().find(|task| task.at == first)?.queue_priority;
        first!(s.tasks, |task| task.at == last)?.queue_priority = lowest + 1;
        Some(())
    }),
    ("lists", "a heap whose root is not the soonest", |s| {
        s.heaps.first_mut()?.soonest += 1;
        Some(())
    }),
    ("lists", "a CPU that knows of no heap", |s| {
        first!(s.cpus, |cpu| cpu.soonest != u64::MAX)?.soonest += 1;
        Some(())
    }),
    ("lists", "a heap whose child is sooner", |s| {
        let child = s.tasks.iter().find(|task| task.deadline_left != 0)?.deadline_left;
        first!(s.tasks, |task| task.at == child)?.deadline = 0;
        Some(())
    }),
    ("lists", "Replies that lead to a caller", |s| {
        let number = s.replies.iter().position(|reply| reply.server != 0)?;
        s.replies[number].next = s.replies[number].caller;
        Some(())
    }),
    ("lists", "a list of waiters for a grace period that leads to memory", |s| {
        let waiter = s.cpus.iter().find(|cpu| cpu.grace_waiters != 0)?.grace_waiters;
        first!(s.tasks, |task| task.at == waiter)?.queue_next = NOTHING;
        Some(())
    }),
    ("tree-depths", "a first slot that is deep", |s| {
        s.roots.clear();
        first!(s.slots, |slot| slot.used == FULL && slot.prev == 0)?.depth = 3;
        Some(())
    }),
    ("tree-links", "a neighbour of another root", |s| {
        let number = s.slots.iter().position(|slot| {
            slot.used == FULL && slot.kind == kind_of(abi::ObjType::SchedContext) && slot.prev != 0
        })?;
        let object = s.slots[number].object;
        first!(s.contexts, |context| context.at == object)?.root = 7;
        s.roots = vec![Root { id: 9, locked: false, processes: 0 }];
        Some(())
    }),
];
