//! Tests of the text of small states.

use abi::ObjType;
use snapshot::{
    CNode, Call, Class, Context, Control, Cpu, Entry, Exposure, Frame, Group, Info, Irq, Kernel, Machine,
    Member, Notification, Pool, Port, Process, Registers, Reply, RequestKind, Slot, SlotUse, Stage,
    State as Doing, Task, TaskNumber, Untyped, VSpace,
};

use super::*;

const MINUTE: u64 = 1 << TIME_SHIFT;
const FULL: SlotUse = SlotUse::Full;

/// Makes a client that calls a server, on one CPU. Objects lie from `base` on.
fn world(base: u64) -> Snapshot {
    let at = |number: u64| base + number * 0x1000;
    let [client, server, third] = [at(1), at(2), at(3)];
    let [time, spare] = [at(4), at(5)];
    let [process, space, cnode, frame] = [at(6), at(7), at(8), at(9)];
    let [group, note, reply, pool] = [at(10), at(11), at(12), at(13)];
    let slot = |number: u32, object, kind: ObjType| Slot {
        at: cnode + 0x100 * u64::from(number),
        table: cnode,
        number,
        used: FULL,
        kind: kind as u8,
        object,
        rights: 7,
        ..Slot::default()
    };
    let task = |at, number, state| Task { at, id: number, refs: 1, process, state, ..Task::default() };
    Snapshot {
        kernels: vec![Kernel { cpus: 1, epoch: 5, now: base, ..Kernel::default() }],
        cpus: vec![Cpu {
            current: server,
            context: time,
            vspace: space,
            expects_receiver: 2,
            until: base + 3 * MINUTE,
            timer: u64::MAX,
            soonest: u64::MAX,
            look_at: u64::MAX,
            ..Cpu::default()
        }],
        classes: vec![Class { cpu: 0, priority: 9, first: spare, last: spare }],
        processes: vec![Process { at: process, cnode, vspace: space, pool, ..Process::default() }],
        task_numbers: vec![TaskNumber { process, number: 0, task: client }],
        tasks: vec![
            Task { own_context: time, callee: server, ..task(client, 1, Doing::Await) },
            Task {
                caller: client,
                lender: client,
                senders: third,
                replies: reply,
                ..task(server, 2, Doing::Ready)
            },
            Task {
                callee: server,
                stage: Stage::Queued,
                own_context: spare,
                queue_priority: 9,
                ..task(third, 3, Doing::Sending)
            },
        ],
        registers: vec![
            Registers { task: client, rip: 0x40_0000, rax: 1, ..Registers::default() },
            Registers { task: server, rip: 0x50_0000, ..Registers::default() },
            Registers { task: third, rip: 0x60_0000, ..Registers::default() },
        ],
        calls: vec![
            Call { task: client, mr0: 0xaa, ..Call::default() },
            Call { task: server, ..Call::default() },
            Call { task: third, info: 0x10, mr0: 0xbb, sender: 3, ..Call::default() },
        ],
        contexts: vec![
            Context {
                at: time,
                task: server,
                owner: client,
                priority: 8,
                slice: 16 * MINUTE,
                remaining: 16 * MINUTE - 1000,
                consumed: 1000,
                ..Context::default()
            },
            Context { at: spare, task: third, owner: third, queue_rank: 10, ..Context::default() },
        ],
        groups: vec![Group { at: group, ..Group::default() }],
        members: vec![Member {
            group,
            number: 0,
            word: 0x100_0000_0001,
            place_process: process,
            rights: 1,
            ..Member::default()
        }],
        exposures: vec![Exposure {
            group,
            number: 4,
            slot: group + 0x40,
            tag: 2,
            owner: 1,
            ..Exposure::default()
        }],
        notifications: vec![Notification { at: note, bits: 4, ..Notification::default() }],
        replies: vec![Reply { at: reply, server, ..Reply::default() }],
        pools: vec![Pool { at: pool, process, log2: 3, reserved: 2, bits: 1, ..Pool::default() }],
        controls: vec![Control { at: at(18), bound: 256, cpus: 3, ..Control::default() }],
        irqs: vec![Irq { at: at(19), line: 9, bits: 1, ..Irq::default() }],
        ports: vec![Port { at: at(20), first: 0x70, count: 2, ..Port::default() }],
        machines: vec![Machine { at: at(14), ..Machine::default() }],
        untypeds: vec![Untyped { at: at(15), size: 0x1000, low: 0x80, ..Untyped::default() }],
        cnodes: vec![CNode { at: cnode, process, ..CNode::default() }],
        vspaces: vec![VSpace { at: space, process, used: 4, ..VSpace::default() }],
        frames: vec![Frame { at: frame, base: at(16), log2: 12, pages: 2, ..Frame::default() }],
        infos: vec![Info {
            at: at(17),
            mapped: 1,
            owner: frame,
            owner_kind: ObjType::Frame as u8,
            ..Info::default()
        }],
        entries: vec![Entry {
            space,
            level: 1,
            address: 0x1_0000,
            word: at(17) | 1 << 63 | 7,
            ..Entry::default()
        }],
        slots: vec![
            Slot { next: cnode + 0x200, ..slot(1, note, ObjType::Notification) },
            Slot { prev: cnode + 0x100, depth: 1, badge: 6, ..slot(2, note, ObjType::Notification) },
            Slot {
                at: group + 0x40,
                table: group,
                number: 4,
                used: FULL,
                object: server,
                prev: 1,
                ..Slot::default()
            },
        ],
        ..Snapshot::default()
    }
}

/// What changes, and how.
type Change = (&'static str, fn(&mut Snapshot));

fn line<'t>(text: &'t [String], name: &str) -> &'t str {
    let start = format!("{name} ");
    text.iter().find(|line| line.starts_with(&start)).map_or("", String::as_str)
}

#[test]
fn objects_have_names_and_no_addresses() {
    let here = text(&world(0x10_0000));
    assert_eq!(here, text(&world(0x7abc_0000)), "the text does not say where objects lie");
    assert_eq!(
        here[0],
        "cpu=0 runs=task2 with=time1 in=vspace1 expects=[2 0 0] left=3 queued=[9:time2] for-grace=[] for-shootdown=[] unanswered=[]"
    );
    assert_eq!(
        line(&here, "process1"),
        "process1 refs=0 cnode=cnode1 vspace=vspace1 pool=pool1 accepts=0 accepts-from=0 tasks=[0:task1]"
    );
    let exposed = "group1 refs=0 members=[0:process1 1 0] exposed=[4:task2 tag=2 owner=1]";
    assert_eq!(line(&here, "group1"), exposed);
    assert!(line(&here, "vspace1").ends_with("pages=[10001:frame1+1]"), "{}", line(&here, "vspace1"));
    assert!(line(&here, "frame1").ends_with("log2=12 pages=2 mapped=1 writable=0 executable=0"));
    let tree = here.iter().position(|line| line == "tree").expect("a tree");
    let slots =
        ["depth=0 note1 rights=7 badge=0 in=cnode1 at=1", "depth=1 note1 rights=7 badge=6 in=cnode1 at=2"];
    assert_eq!(here[tree + 1..tree + 3], slots);
    assert_eq!(here.last().map(String::as_str), Some("kernel epoch=5 objects=18 zombies=[]"));
}

#[test]
fn a_call_is_shown_while_it_waits() {
    let here = text(&world(0x10_0000));
    let [client, server, third] = ["task1", "task2", "task3"].map(|name| line(&here, name));
    assert!(client.contains(" state=await#0 ") && client.contains(" time=lent lender=- "), "{client}");
    assert!(client.ends_with(" rip=400000 rsp=0 flags=0 callee=task2 held=-"), "{client}");
    assert!(server.contains(" time=time1 lender=task1 caller=task1 senders=[9:task3] "), "{server}");
    assert!(
        server.ends_with(
            " kept=[reply1] bound=- waits-for=- recall=0 starts-on=0 words=0 fs=0 gs=0 callee=- held=-"
        ),
        "{server}"
    );
    let call = " stage=queued#0 info=10 mr0=bb mr1=0 mr2=0 mr3=0 exposure=0 custom=0 sender=3";
    assert!(third.ends_with(call), "{third}");
}

/// What a program could come to see changes the text.
#[test]
fn what_programs_see_is_in_the_text() {
    let before = text(&world(0x10_0000));
    let changes: &[Change] = &[
        ("epoch", |s| s.kernels[0].epoch += 1),
        ("running task", |s| s.cpus[0].current = 0),
        ("slice", |s| s.cpus[0].until += MINUTE),
        ("timer", |s| s.cpus[0].timer = 9 * MINUTE),
        ("expected receiver", |s| s.cpus[0].expects_receiver += 1),
        ("mail", |s| s.cpus[0].more_mail = true),
        ("look", |s| s.cpus[0].look_at = 9 * MINUTE),
        ("queue", |s| s.classes.clear()),
        ("state", |s| s.tasks[0].state = Doing::AwaitTimed),
        ("tag", |s| s.tasks[0].state_tag += 1),
        ("suspension", |s| s.tasks[0].suspended = true),
        ("control bits", |s| s.tasks[0].control = 1),
        ("deadline", |s| s.tasks[0].deadline_rank = 1),
        ("UTCB", |s| s.tasks[0].utcb_hash = 1),
        ("caller", |s| s.tasks[1].caller = s.tasks[2].at),
        ("sender", |s| s.tasks[1].senders = 0),
        ("kept call", |s| s.tasks[1].replies = 0),
        ("borrowed time", |s| s.tasks[0].borrowed = s.contexts[1].at),
        ("instruction pointer", |s| s.registers[0].rip += 2),
        ("FS base", |s| s.registers[1].fs_base += 1),
        ("debug register", |s| s.registers[1].dr7 += 1),
        ("message register", |s| s.calls[2].mr3 += 1),
        ("message number", |s| s.calls[2].number += 1),
        ("reference count", |s| s.notifications[0].refs += 1),
        ("bits", |s| s.notifications[0].bits = 0),
        ("remote bits", |s| s.notifications[0].remote = 1),
        ("reply", |s| s.replies[0].caller = s.tasks[0].at),
        ("holder of time", |s| s.contexts[0].task = 0),
        ("priority", |s| s.contexts[0].priority += 1),
        ("where time may run", |s| s.contexts[0].cpus += 1),
        ("a ceiling", |s| s.controls[0].bound += 1),
        ("the line of an interrupt", |s| s.irqs[0].line += 1),
        ("how a line signals", |s| s.irqs[0].signals += 1),
        ("where an interrupt arrives", |s| s.irqs[0].place += 1),
        ("what an interrupt raises", |s| s.irqs[0].bits += 1),
        ("a port", |s| s.ports[0].first += 1),
        ("how many ports", |s| s.ports[0].count += 1),
        ("CPUs that are covered", |s| s.controls[0].cpus += 1),
        ("an account of CPU time", |s| s.controls[0].account += 1),
        ("the account of a share", |s| s.contexts[0].account += 1),
        ("a share of an account", |s| s.contexts[0].share += 1),
        ("a slice handed over", |s| s.contexts[0].consumed += 16 * MINUTE),
        ("member", |s| s.members[0].word = 0),
        ("exposure", |s| s.exposures[0].tag += 1),
        ("event", |s| s.pools[0].reserved += 1),
        ("offer", |s| s.processes[0].offer_slot = 3),
        ("task number", |s| s.task_numbers[0].number += 1),
        ("carved memory", |s| s.untypeds[0].low += 1),
        ("mapping", |s| s.entries[0].address += 0x1000),
        ("mappings", |s| s.infos[0].writable += 1),
        ("rights", |s| s.slots[1].rights = 1),
        ("claimed slot", |s| s.slots[1].used = SlotUse::Claimed),
    ];
    for (what, change) in changes {
        let mut changed = world(0x10_0000);
        change(&mut changed);
        assert_ne!(text(&changed), before, "{what}");
    }
}

/// What one way through the kernel leaves behind, and another does not, changes nothing.
#[test]
fn what_depends_on_the_way_is_left_out() {
    let before = text(&world(0x10_0000));
    let changes: &[Change] = &[
        ("the plain bit", |s| s.tasks[0].plain = true),
        ("a register that the end of the wait writes", |s| s.registers[0].rax += 1),
        ("saved registers of a running task", |s| s.registers[1].rip += 1),
        ("words of a call that was received", |s| s.calls[0].mr0 += 1),
        ("the stage of a call that was received", |s| s.tasks[0].stage = Stage::Owed),
        ("a request that is not under way", |s| s.tasks[0].request = RequestKind::Kill),
        ("some time", |s| s.contexts[0].consumed += 1000),
        ("the clock", |s| s.kernels[0].now += 1000),
    ];
    for (what, change) in changes {
        let mut changed = world(0x10_0000);
        change(&mut changed);
        assert_eq!(text(&changed), before, "{what}");
    }
}

#[test]
fn registers_are_shown_as_far_as_they_matter() {
    let of = |change: fn(&mut Snapshot)| {
        let mut s = world(0x10_0000);
        s.tasks[0].state = Doing::Ready;
        change(&mut s);
        line(&text(&s), "task1").to_owned()
    };
    let answer = of(|s| s.registers[0].rdx = 5);
    assert!(answer.contains(" flags=0 rdx=5 rax=1 rdi=0 ") && !answer.contains("rbx="), "{answer}");
    let plain = of(|s| s.tasks[0].plain = true);
    assert!(plain.contains(" rdx=0 rax=0 "), "{plain}");
    let whole = of(|s| s.tasks[0].full_frame = true);
    assert!(whole.contains(" full rax=1 ") && whole.contains(" rbx=0 "), "{whole}");
    let again = of(|s| s.tasks[0].state = Doing::Restart);
    assert!(
        again.contains(" for-epoch=0 ") && again.contains(" rax=1 ") && !again.contains("full"),
        "{again}"
    );
    let fault = of(|s| (s.tasks[0].state, s.tasks[0].in_fault) = (Doing::Await, true));
    assert!(fault.contains(" in-fault ") && fault.contains(" full rax=1 "), "{fault}");
}

#[test]
fn requests_are_shown_while_they_are_under_way() {
    let mut s = world(0x10_0000);
    let task = &mut s.tasks[0];
    (task.state, task.stage, task.request) = (Doing::Restart, Stage::Ask, RequestKind::StopTime);
    (task.request_about, task.message_home) = (s.contexts[0].at, 1);
    let text = text(&s);
    assert!(
        line(&text, "task1").ends_with(" stage=ask#0 stop-time=time1 carries=-"),
        "{}",
        line(&text, "task1")
    );
}

#[test]
fn broken_lists_end() {
    let mut s = world(0x10_0000);
    s.tasks[2].queue_next = s.tasks[2].at;
    s.contexts[1].queue_next = s.contexts[1].at;
    s.slots[1].next = s.slots[0].at;
    assert!(text(&s).len() > 16);
}

#[test]
fn without_memory_its_objects_have_no_names() {
    let mut s = world(0x10_0000);
    s.kernels[0].without_memory = true;
    (s.cnodes, s.vspaces, s.frames, s.untypeds) = Default::default();
    let text = text(&s);
    assert!(text[0].contains(" in=? "), "{}", text[0]);
    assert!(!text.iter().any(|line| line == "tree"));
}
