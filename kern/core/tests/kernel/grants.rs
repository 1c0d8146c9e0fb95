//! Capabilities in messages: which arrive, and the fate of those that do not.

use abi::{Cap, Error, FLAG_CAPS, FLAG_PAGES, Fate, Grant, Listening, ObjType, Op, Received, Rights, Target};
use abi::{PageMode, PageRange, TaskRights, task_rights};
use core::sync::atomic::Ordering::Relaxed;
use kern_base::header::FLAG_DEAD;
use kern_base::memory::Untyped;
use kern_base::notification::Notification;
use kern_base::task::State;
use smp::host_test;

use crate::scene::{GROUP, Scene, call as plain_call};
use crate::world::make::{Proc, at};
use crate::world::{Regs, Tcb};

const ALL: Rights = Rights::ALL;
/// Slots that the sender has capabilities in.
pub const MINE: Cap = Cap(20);
/// Slots that receivers offer.
pub const OFFER: Cap = Cap(40);

/// What a task sends with its next message.
pub fn lists(task: &Tcb, grants: &[Grant]) {
    let utcb = task.object.get().utcb(task.pin());
    utcb.grant_count.store(grants.len() as u64, Relaxed);
    for (grant, words) in grants.iter().zip(&utcb.grants) {
        words.iter().zip(grant.words()).for_each(|(word, value)| word.store(value, Relaxed));
    }
}

/// Where capabilities may come to it.
pub fn listens(task: &Tcb, next: Cap, count: u32) {
    task.object.get().utcb(task.pin()).listening.store(Listening { next, count }.word(), Relaxed);
}

/// What came.
pub fn came(task: &Tcb) -> Vec<Received> {
    let utcb = task.object.get().utcb(task.pin());
    let count = utcb.grant_count.load(Relaxed) as usize;
    let words = utcb.grants[..count].iter().map(|words| [0, 1].map(|n: usize| words[n].load(Relaxed)));
    words.filter_map(Received::from_words).collect()
}

/// Returns the fates of the capabilities that a task has sent.
pub fn fates(task: &Tcb) -> Vec<Fate> {
    let word = task.object.get().utcb(task.pin()).grant_fates.load(Relaxed);
    (0..8).map_while(|place| Fate::in_word(word, place)).collect()
}

pub fn arrived(slot: u32, rights: Rights, object: ObjType) -> Received {
    Received { fate: Fate::Arrived, cap: Cap(slot), rights, object: Some(object) }
}

pub fn not(fate: Fate) -> Received {
    Received { fate, cap: Cap::NULL, rights: Rights::NONE, object: None }
}

pub fn copy(cap: Cap) -> Grant {
    Grant::Copy { cap, rights: ALL, badge: 0 }
}

fn call(target: Target) -> Regs {
    plain_call(target).flag(FLAG_CAPS)
}

fn reply() -> Regs {
    Regs::message(Op::ReplyRecv, Target(0), [9; 4])
}

/// What a slot of a process has: type, rights, badge.
pub fn holds(s: &mut Scene, of: Proc, slot: Cap) -> Option<(ObjType, Rights, u64)> {
    let r = s.w.must(0, Op::CapInspect, &[Target::new(of.cnode, slot.0).0]);
    ObjType::from_raw(r.rdi as u8).map(|object| (object, Rights(r.rsi as u32), r.rdx))
}

/// A process with a task that receives on CPU `n` and listens, and where it does.
fn receiver(s: &mut Scene, n: usize) -> (Proc, Tcb, Target) {
    let process = s.w.process();
    let group = s.group;
    s.w.join_all(group, process, GROUP);
    let task = s.w.start(process, n, 10);
    s.w.run();
    let index = 10 + n as u32;
    s.w.expose(group, index, task.cap);
    listens(&task, OFFER, 8);
    s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    (process, task, Target::new(GROUP, index))
}

/// A new object, whose only capability the senders' process has.
pub fn owned(s: &mut Scene, what: ObjType, size: u64, slot: Cap) {
    let made = s.w.make(0, what, size);
    let to = Target::new(s.process.cnode, slot.0).0;
    s.w.must(0, Op::CapMove, &[made.arg(), to]);
}

#[test]
fn capabilities_come_with_calls_and_replies() {
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (process, server, target) = receiver(&mut s, server_cpu);
        let (client, _) = s.running(0, 10);
        let sender = s.process;
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, sender, MINE);
        owned(&mut s, ObjType::Reply, 0, Cap(21));
        let few = Rights::NOTIFY | Rights::GRANT;
        lists(&client, &[Grant::Copy { cap: MINE, rights: few, badge: 77 }, Grant::Move { cap: Cap(21) }]);
        s.w.does_and_run(&client, call(target));
        let got = s.w.result(&server);
        assert!(got.info().has(FLAG_CAPS) && got.msg() == [1, 2, 3, 4], "{got:?}");
        let expected = [arrived(40, few, ObjType::Notification), arrived(41, ALL, ObjType::Reply)];
        assert_eq!(came(&server), expected);
        assert_eq!(holds(&mut s, process, OFFER), Some((ObjType::Notification, few, 77)));
        assert_eq!(holds(&mut s, process, Cap(41)), Some((ObjType::Reply, ALL, 0)));
        assert_eq!(holds(&mut s, sender, MINE), Some((ObjType::Notification, ALL, 0)));
        assert_eq!(holds(&mut s, sender, Cap(21)), None, "it has moved");
        assert_eq!(fates(&client), [Fate::Arrived; 2]);
        assert!(came(&client).is_empty(), "they have gone");
        // One comes back; the other is derived, and goes with what it was derived from.
        listens(&client, Cap(30), 1);
        lists(&server, &[Grant::Move { cap: Cap(41) }]);
        s.w.does_and_run(&server, reply().flag(FLAG_CAPS));
        let back = s.w.result(&client);
        assert!(back.error().is_none() && back.info().has(FLAG_CAPS), "{back:?}");
        assert_eq!(came(&client), [arrived(30, ALL, ObjType::Reply)]);
        assert_eq!((fates(&client), fates(&server)), (vec![Fate::Arrived; 2], vec![Fate::Arrived]));
        s.w.must(0, Op::CapRevoke, &[Target::new(sender.cnode, MINE.0).0]);
        assert_eq!(holds(&mut s, process, OFFER), None);
    }
}

#[test]
fn who_does_not_listen_gets_none() {
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (process, server, target) = receiver(&mut s, server_cpu);
        let (client, _) = s.running(0, 10);
        let sender = s.process;
        let own = s.process.process;
        s.w.give(own, sender, Cap(23));
        owned(&mut s, ObjType::Notification, 0, MINE);
        owned(&mut s, ObjType::Untyped, 12, Cap(21));
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, sender, Cap(22));
        let pin = host_test::pin(0);
        let cnode =
            s.w.object::<kern_base::slot::CNode>(sender.cnode)
                .and_then(|c| c.get().slots.get_but_first(pin, 20));
        let ends = cnode.and_then(|slot| slot.get().word.load(pin).get::<Notification>());
        let Some(ends) = ends else { panic!("no Notification") };
        let moves = [MINE, Cap(21)].map(|cap| Grant::Move { cap });
        lists(&client, &[moves[0], moves[1], copy(Cap(22)), Grant::Move { cap: Cap(23) }]);
        listens(&server, OFFER, 0);
        s.w.does_and_run(&client, call(target));
        let expected = [Fate::Disposed, Fate::Kept, Fate::Disposed, Fate::Disposed];
        assert!(s.w.result(&server).info().has(FLAG_CAPS));
        assert_eq!(came(&server), expected.map(not));
        assert_eq!(fates(&client), expected);
        let left = [MINE, Cap(21), Cap(22), Cap(23)].map(|slot| holds(&mut s, sender, slot).map(|it| it.0));
        assert_eq!(left, [None, Some(ObjType::Untyped), Some(ObjType::Notification), None]);
        assert!(ends.get().header.has_flag(FLAG_DEAD), "its last capability was disposed of");
        assert_eq!(holds(&mut s, process, OFFER), None);
        s.w.does_and_run(&server, reply());
        assert_eq!(s.w.result(&client).msg(), [9; 4]);
    }
}

#[test]
fn offers_are_used_up_and_full_slots_are_none() {
    let mut s = Scene::new(1);
    let (process, server, target) = receiver(&mut s, 0);
    let (client, _) = s.running(0, 10);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.give(note, s.process, MINE);
    s.w.give(note, process, Cap(41));
    listens(&server, OFFER, 3);
    lists(&client, &[copy(MINE); 4]);
    s.w.does_and_run(&client, call(target));
    let here = |slot| arrived(slot, ALL, ObjType::Notification);
    assert_eq!(came(&server), [here(40), not(Fate::Disposed), here(42), not(Fate::Disposed)]);
    // Slots that there are not, and the one that is never filled.
    for (first, count) in [(0, 1), (64, 9), (u32::MAX, u32::MAX)] {
        s.w.does_and_run(&server, reply());
        listens(&server, Cap(first), count);
        lists(&client, &[copy(MINE)]);
        s.w.does_and_run(&client, call(target));
        assert_eq!(came(&server), [not(Fate::Disposed)], "{first} {count}");
    }
}

#[test]
fn a_slot_is_waited_for_until_nobody_can_read_what_was_there() {
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (process, server, target) = receiver(&mut s, server_cpu);
        let (client, _) = s.running(0, 10);
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, s.process, MINE);
        for round in 0..5 {
            lists(&client, &[copy(MINE)]);
            s.w.does_and_run(&client, call(target));
            assert_eq!(came(&server), [arrived(40, ALL, ObjType::Notification)], "round {round}");
            listens(&server, OFFER, 1);
            s.w.does_and_run(&server, reply());
            s.w.must(0, Op::CapDelete, &[Target::new(process.cnode, OFFER.0).0]);
        }
    }
}

#[test]
fn what_cannot_go_is_the_senders_error() {
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (process, server, target) = receiver(&mut s, server_cpu);
        let (client, _) = s.running(0, 10);
        let note = s.w.make(0, ObjType::Notification, 0);
        let to = |slot: u32| Target::new(s.process.cnode, slot).0;
        s.w.must(0, Op::CapCopy, &[note.arg(), to(20), u64::from(Rights::NOTIFY.0), 0]);
        let most = ALL.minus(Rights::LISTEN);
        s.w.must(0, Op::CapCopy, &[note.arg(), to(21), u64::from(most.0), 0]);
        owned(&mut s, ObjType::Untyped, 12, Cap(22));
        let good = Grant::Copy { cap: Cap(21), rights: most, badge: 0 };
        let few = Grant::Copy { cap: MINE, rights: Rights::NOTIFY, badge: 0 };
        let wrong = [
            (vec![good, few], Error::NoRight, u64::from(Rights::GRANT.0)),
            (vec![good, copy(Cap(21))], Error::Amplifies, u64::from(Rights::LISTEN.0)),
            (vec![good, copy(Cap(22))], Error::Amplifies, 0),
            (vec![good, copy(Cap(29))], Error::NoCapability, 29),
            (vec![Grant::Move { cap: Cap(999) }], Error::NoCapability, 999),
            (vec![Grant::Move { cap: Cap::NULL }], Error::NoCapability, 0),
        ];
        for (list, error, detail) in wrong {
            let copies_memory = list.contains(&copy(Cap(22)));
            lists(&client, &list);
            s.w.does_and_run(&client, call(target));
            let expected =
                if copies_memory { (Error::WrongType, ObjType::Untyped as u64) } else { (error, detail) };
            assert_eq!(s.w.result(&client).result().map(|_| ()), Err(expected), "{list:?}");
            assert!(matches!(server.state(), State::Recv), "the receiver hears nothing");
            // Nor is its slot in use.
            assert_eq!(holds(&mut s, process, OFFER), None);
        }
        let utcb = client.object.get().utcb(client.pin());
        lists(&client, &[good, good]);
        utcb.grants[1][0].store(u64::MAX, Relaxed);
        s.w.does_and_run(&client, call(target));
        assert_eq!(s.w.result(&client).result().map(|_| ()), Err((Error::BadArgument, 9)));
        utcb.grant_count.store(5, Relaxed);
        s.w.does_and_run(&client, call(target));
        assert_eq!(s.w.result(&client).result().map(|_| ()), Err((Error::TooLong, 4)));
        lists(&client, &[good]);
        s.w.does_and_run(&client, call(target));
        assert_eq!(came(&server), [arrived(40, most, ObjType::Notification)], "the slot is free");
    }
}

#[test]
fn a_group_allows_it_or_not() {
    let mut s = Scene::new(1);
    let (_, _, target) = receiver(&mut s, 0);
    let other = s.w.process();
    let group = s.group;
    s.w.join(group, other, GROUP, abi::MEMBER_RIGHTS.minus(Rights::GRANT), 0);
    let client = s.w.start(other, 0, 10);
    s.w.does_and_run(&client, call(target));
    let refused = s.w.result(&client).result().map(|_| ());
    assert_eq!(refused, Err((Error::NoRight, u64::from(Rights::GRANT.0))));
}

/// A client whose call waits behind another's, with what it sends.
fn waiting(s: &mut Scene, server_cpu: usize, grants: &[Grant]) -> (Proc, Tcb, Tcb) {
    let (process, server, target) = receiver(s, server_cpu);
    let (busy, _) = s.running(server_cpu, 8);
    let (client, _) = s.running(0, 9);
    if server_cpu == 0 {
        s.w.must(0, Op::TaskSuspend, &[client.cap.arg()]);
        s.w.run();
    }
    s.w.does_and_run(&busy, plain_call(target));
    lists(&client, grants);
    s.w.must(0, Op::TaskSuspend, &[server.cap.arg()]);
    s.w.must(0, Op::TaskResume, &[client.cap.arg()]);
    s.w.run();
    s.w.does_and_run(&client, call(target));
    s.w.must(0, Op::TaskResume, &[server.cap.arg()]);
    s.w.run();
    assert!(!client.is_through(), "it waits");
    (process, server, client)
}

#[test]
fn what_waits_is_still_the_senders() {
    for server_cpu in [0, 1] {
        let make = |s: &mut Scene| {
            let note = s.w.make(0, ObjType::Notification, 0);
            s.w.give(note, s.process, MINE);
            owned(s, ObjType::Reply, 0, Cap(21));
            note
        };
        let list = [copy(MINE), Grant::Move { cap: Cap(21) }];
        // It is received later.
        let mut s = Scene::new(2);
        make(&mut s);
        let (_, server, client) = waiting(&mut s, server_cpu, &list);
        s.w.does_and_run(&server, reply());
        s.w.run();
        assert_eq!(
            came(&server),
            [arrived(40, ALL, ObjType::Notification), arrived(41, ALL, ObjType::Reply)],
            "on cpu{server_cpu}"
        );
        assert_eq!(fates(&client), [Fate::Arrived; 2]);
        // A revoke wins.
        let mut s = Scene::new(2);
        let note = make(&mut s);
        let (process, server, client) = waiting(&mut s, server_cpu, &list);
        s.w.must(0, Op::CapRevoke, &[at(note)]);
        s.w.does_and_run(&server, reply());
        s.w.run();
        let told = s.w.result(&client).result().map(|_| ());
        assert_eq!(told, Err((Error::NoCapability, u64::from(MINE.0))));
        assert!(matches!(server.state(), State::Recv));
        assert_eq!(holds(&mut s, process, OFFER), None);
        // Cancelled, killed: nothing has gone.
        for op in [Op::TaskCancel, Op::TaskKill] {
            let mut s = Scene::new(2);
            make(&mut s);
            let (process, server, client) = waiting(&mut s, server_cpu, &list);
            s.w.must(0, op, &[client.cap.arg()]);
            s.w.run();
            if op == Op::TaskCancel {
                s.w.must(0, Op::TaskSuspend, &[client.cap.arg()]);
            }
            s.w.run();
            s.w.does_and_run(&server, reply());
            s.w.run();
            let sender = s.process;
            assert_eq!(holds(&mut s, sender, Cap(21)).map(|it| it.0), Some(ObjType::Reply));
            assert_eq!(holds(&mut s, process, OFFER), None);
        }
    }
}

#[test]
fn who_stops_listening_while_a_call_waits_has_it_disposed_of() {
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        owned(&mut s, ObjType::CNode, 8, MINE);
        owned(&mut s, ObjType::Untyped, 12, Cap(21));
        let list = [Grant::Move { cap: MINE }, Grant::Move { cap: Cap(21) }];
        let (_, server, client) = waiting(&mut s, server_cpu, &list);
        listens(&server, OFFER, 0);
        s.w.does_and_run(&server, reply());
        s.w.run();
        assert_eq!(came(&server), [Fate::Disposed, Fate::Kept].map(not), "on cpu{server_cpu}");
        assert_eq!(fates(&client), [Fate::Disposed, Fate::Kept]);
        let sender = s.process;
        assert_eq!(holds(&mut s, sender, MINE), None);
        assert_eq!(holds(&mut s, sender, Cap(21)).map(|it| it.0), Some(ObjType::Untyped));
    }
}

#[test]
fn a_kept_call_that_is_disposed_of_is_told() {
    for reply_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (_, listener, target) = receiver(&mut s, 0);
        listens(&listener, OFFER, 0);
        // A server keeps a call in a Reply object and gives it away.
        let object = s.w.make(reply_cpu, ObjType::Reply, 0);
        let to = Target::new(s.process.cnode, MINE.0).0;
        s.w.must(0, Op::CapMove, &[object.arg(), to]);
        let (server, server_target) = s.server(reply_cpu, 10);
        let (caller, _) = s.running(reply_cpu, 5);
        s.w.must(0, Op::TaskSuspend, &[listener.cap.arg()]);
        s.w.run();
        s.w.does_and_run(&caller, plain_call(server_target));
        s.w.does_and_run(&server, Regs::op(Op::SaveReply, &[MINE.arg()]));
        assert!(s.w.result(&server).error().is_none());
        s.w.must(0, Op::TaskSuspend, &[server.cap.arg()]);
        s.w.must(0, Op::TaskResume, &[listener.cap.arg()]);
        let (giver, _) = s.running(0, 10);
        lists(&giver, &[Grant::Move { cap: MINE }]);
        s.w.does_and_run(&giver, call(target));
        assert_eq!(came(&listener), [not(Fate::Disposed)]);
        assert_eq!(caller.regs().error(), Some(Error::Gone), "on cpu{reply_cpu}");
        assert_eq!(fates(&giver), [Fate::Disposed]);
    }
}

#[test]
fn what_the_sender_lives_in_it_keeps() {
    let mut s = Scene::new(1);
    let (_, server, target) = receiver(&mut s, 0);
    listens(&server, OFFER, 0);
    let (client, _) = s.running(0, 10);
    // Its only capability is the client's own.
    let to = Target::new(s.process.cnode, MINE.0).0;
    s.w.must(0, Op::CapMove, &[client.cap.arg(), to]);
    s.w.must(0, Op::CapRevoke, &[to]);
    lists(&client, &[Grant::Move { cap: MINE }]);
    s.w.does_and_run(&client, call(target));
    assert_eq!(came(&server), [not(Fate::Kept)]);
    s.w.does_and_run(&server, reply());
    assert_eq!(s.w.result(&client).msg(), [9; 4]);
}

#[test]
fn pages_and_capabilities_come_together_or_not_at_all() {
    const FROM: u64 = 0x6000_0000;
    const WINDOW: u64 = 0x7000_0000;
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (process, server, target) = receiver(&mut s, server_cpu);
        let (client, _) = s.running(0, 10);
        let frame = s.w.make(0, ObjType::Frame, 12);
        s.w.must(0, Op::Map, &[s.process.vspace.arg(), frame.arg(), FROM, abi::MAP_POOL | 1]);
        owned(&mut s, ObjType::Reply, 0, MINE);
        let sends = |s: &mut Scene| {
            let utcb = client.object.get().utcb(client.pin());
            let range = PageRange::new(PageMode::Move, FROM, 1).words();
            utcb.ranges[0].iter().zip(range).for_each(|(word, value)| word.store(value, Relaxed));
            utcb.range_count.store(1, Relaxed);
            lists(&client, &[Grant::Move { cap: MINE }]);
            s.w.does_and_run(&client, call(target).flag(FLAG_PAGES));
        };
        let sender = s.process;
        // Whether it listens or not, there is no room: nothing is disposed of, and nothing marked.
        for count in [0, 8] {
            listens(&server, OFFER, count);
            sends(&mut s);
            assert_eq!(s.w.result(&client).error(), Some(Error::NoRoom));
            assert!(holds(&mut s, sender, MINE).is_some() && holds(&mut s, process, OFFER).is_none());
            let listed = client.object.get().utcb(client.pin()).grants[0][0].load(Relaxed);
            assert_eq!(listed, Grant::Move { cap: MINE }.words()[0]);
        }
        let window = &server.object.get().utcb(server.pin()).window;
        window[0].store(WINDOW, Relaxed);
        window[1].store(abi::PAGE_SIZE, Relaxed);
        sends(&mut s);
        assert_eq!(came(&server), [arrived(40, ALL, ObjType::Reply)], "on cpu{server_cpu}");
        assert!(s.w.runs(server_cpu, &server) && s.w.touch(server_cpu, WINDOW));
        s.w.does_and_run(&server, reply());
        assert!(s.w.result(&client).error().is_none());
    }
}

#[test]
fn a_receiver_that_ends_leaves_the_sender_what_it_sent() {
    let mut s = Scene::new(2);
    owned(&mut s, ObjType::Untyped, 12, MINE);
    let (process, server, client) = waiting(&mut s, 1, &[Grant::Move { cap: MINE }]);
    s.kill(&server);
    assert_eq!(s.w.result(&client).error(), Some(Error::Dead));
    let sender = s.process;
    assert_eq!(holds(&mut s, sender, MINE).map(|it| it.0), Some(ObjType::Untyped));
    assert_eq!(holds(&mut s, process, OFFER), None);
}

/// What arrived in a process that ends is disposed of with all else it has.
#[test]
fn what_a_dead_process_had_is_disposed_of() {
    let mut s = Scene::new(1);
    let (process, server, target) = receiver(&mut s, 0);
    let (client, _) = s.running(0, 10);
    owned(&mut s, ObjType::Untyped, 12, MINE);
    owned(&mut s, ObjType::Notification, 0, Cap(21));
    lists(&client, &[Grant::Move { cap: MINE }, Grant::Move { cap: Cap(21) }]);
    s.w.does_and_run(&client, call(target));
    assert_eq!(came(&server).len(), 2);
    let pin = host_test::pin(0);
    let cnode = s.w.object::<kern_base::slot::CNode>(process.cnode);
    let word = |slot: usize| {
        cnode.and_then(|c| c.get().slots.get_but_first(pin, slot)).map(|at| at.get().word.load(pin))
    };
    let memory = word(40).and_then(|word| word.get::<Untyped>());
    let note = word(41).and_then(|word| word.get::<Notification>());
    let (Some(memory), Some(note)) = (memory, note) else { panic!("they are not there") };
    s.w.must(0, Op::CapRevoke, &[at(process.cnode)]);
    s.delete(process.cnode);
    assert_eq!(s.w.result(&client).error(), Some(Error::Dead));
    assert!(memory.get().header.has_flag(FLAG_DEAD) && note.get().header.has_flag(FLAG_DEAD));
}

/// One right of a Task at a time: what a process that receives it by message can do, and what it
/// cannot.
#[test]
fn control_of_a_task_is_handed_out_by_the_right() {
    let all: [(TaskRights, &[Op]); 4] = [
        (task_rights::SUSPEND, &[Op::TaskSuspend, Op::TaskResume, Op::TaskCancel]),
        (task_rights::DESTROY, &[Op::TaskKill]),
        (task_rights::OBSERVE, &[]),
        (task_rights::REGISTERS, &[Op::TaskReadRegs, Op::FaultHandler]),
    ];
    let ops = [
        Op::TaskSuspend,
        Op::TaskReadRegs,
        Op::TaskDebug,
        Op::FaultHandler,
        Op::TaskResume,
        Op::TaskCancel,
        Op::TaskKill,
    ];
    for (right, allowed) in all {
        let mut s = Scene::new(1);
        let (_, server, target) = receiver(&mut s, 0);
        let (client, _) = s.running(0, 10);
        let (subject, _) = s.task(0, 10, true);
        s.w.give(subject.cap, s.process, MINE);
        lists(&client, &[Grant::Copy { cap: MINE, rights: right.rights(), badge: 0 }]);
        s.w.does_and_run(&client, call(target));
        assert_eq!(came(&server), [arrived(40, right.rights(), ObjType::Task)]);
        for op in ops {
            s.w.does_and_run(&server, Regs::op(op, &[OFFER.arg()]));
            while !server.is_through() {
                s.w.run();
            }
            let refused = s.w.result(&server).error() == Some(Error::NoRight);
            assert_eq!(!refused, allowed.contains(&op), "{op:?} with {right:?}");
        }
        // It cannot be copied on.
        lists(&server, &[Grant::Copy { cap: OFFER, rights: right.rights(), badge: 0 }]);
        s.w.does_and_run(&server, reply().flag(FLAG_CAPS));
        assert_eq!(s.w.result(&server).error(), Some(Error::NoRight));
    }
}

/// Waking somebody is a right of a Notification, and no more than that.
#[test]
fn waking_is_handed_out_alone() {
    let mut s = Scene::new(1);
    let (_, server, target) = receiver(&mut s, 0);
    let (client, _) = s.running(0, 10);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.give(note, s.process, MINE);
    lists(&client, &[Grant::Copy { cap: MINE, rights: Rights::NOTIFY, badge: 0 }]);
    s.w.does_and_run(&client, call(target));
    let mut asks = |op, arg| {
        s.w.does_and_run(&server, Regs::op(op, &[OFFER.arg(), arg]));
        s.w.result(&server).error()
    };
    assert_eq!(asks(Op::Notify, 4), None);
    assert_eq!(asks(Op::Wait, 0), Some(Error::NoRight));
    assert_eq!(asks(Op::NotificationBind, 0), Some(Error::NoRight));
    assert_eq!(s.w.must(0, Op::Wait, &[note.arg()]).rdx, 4);
}

/// What is disposed of may be whom the message is for.
#[test]
fn the_receiver_itself_is_disposed_of() {
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (process, server, target) = receiver(&mut s, server_cpu);
        listens(&server, OFFER, 0);
        let (client, _) = s.running(0, 10);
        let to = Target::new(s.process.cnode, MINE.0).0;
        s.w.must(0, Op::CapMove, &[process.process.arg(), to]);
        lists(&client, &[Grant::Move { cap: MINE }]);
        s.w.does_and_run(&client, call(target));
        assert_eq!(s.w.result(&client).error(), Some(Error::Dead), "on cpu{server_cpu}");
        assert_eq!(server.state(), State::Dead);
    }
}

/// Or the time of who sends it.
#[test]
fn the_senders_time_is_disposed_of() {
    let mut s = Scene::new(1);
    let (_, server, target) = receiver(&mut s, 0);
    listens(&server, OFFER, 0);
    let (client, _) = s.running(0, 10);
    let to = Target::new(s.process.cnode, MINE.0).0;
    s.w.must(0, Op::CapMove, &[client.sc.arg(), to]);
    lists(&client, &[Grant::Move { cap: MINE }]);
    s.w.does_and_run(&client, call(target));
    assert!(matches!(server.state(), State::Recv), "nobody has time to send it");
    let time = s.time(10);
    s.w.must(0, Op::SchedBind, &[time.arg(), client.cap.arg()]);
    s.w.run();
    assert_eq!(came(&server), [not(Fate::Disposed)]);
    s.w.does_and_run(&server, reply());
    assert_eq!(s.w.result(&client).msg(), [9; 4]);
}

/// What the receiver's label forbids it to hold is the sender's error.
#[test]
fn labels_forbid_what_a_receiver_may_not_hold() {
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (process, server, target) = receiver(&mut s, server_cpu);
        let (client, _) = s.running(0, 10);
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, s.process, MINE);
        owned(&mut s, ObjType::Reply, 0, Cap(21));
        let machine = abi::INIT_MACHINE.arg();
        let label =
            |s: &mut Scene, cap: Cap, label: u64| s.w.must(0, Op::LabelSet, &[machine, cap.arg(), label]);
        label(&mut s, process.process, 3);
        label(&mut s, process.cnode, 3);
        label(&mut s, note, 7);
        let rule = |s: &mut Scene, allowed: u8| {
            s.w.must(0, Op::LabelRule, &[machine, 3, 7, u64::from(allowed)]);
        };
        rule(&mut s, abi::audit::may::ALL & !abi::audit::may::GRANT);
        let list = [Grant::Move { cap: Cap(21) }, copy(MINE)];
        lists(&client, &list);
        s.w.does_and_run(&client, call(target));
        let told = s.w.result(&client).result().map(|_| ());
        assert_eq!(told, Err((Error::Forbidden, 3 << 32 | 7)), "on cpu{server_cpu}");
        let sender = s.process;
        assert_eq!(holds(&mut s, sender, Cap(21)), Some((ObjType::Reply, ALL, 0)), "nothing has gone");
        assert_eq!(holds(&mut s, process, OFFER), None);
        rule(&mut s, abi::audit::may::ALL);
        lists(&client, &list);
        s.w.does_and_run(&client, call(target));
        assert_eq!(came(&server).len(), 2);
    }
}

#[test]
fn a_list_that_is_refused_half_way_is_as_it_was() {
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (_, server, target) = receiver(&mut s, server_cpu);
        listens(&server, OFFER, 0);
        let (client, _) = s.running(0, 10);
        owned(&mut s, ObjType::Reply, 0, MINE);
        let grants = [Grant::Move { cap: MINE }, copy(Cap(29))];
        lists(&client, &grants);
        s.w.does_and_run(&client, call(target));
        assert_eq!(s.w.result(&client).result(), Err((Error::NoCapability, 29)));
        let listed = client.object.get().utcb(client.pin()).grants[0][0].load(Relaxed);
        assert_eq!(listed, grants[0].words()[0], "on cpu{server_cpu}");
        let sender = s.process;
        assert!(holds(&mut s, sender, MINE).is_some());
        // Nobody but the kernel says that something has arrived.
        lists(&client, &[Grant::Settled { cap: MINE, fate: Fate::Arrived }]);
        s.w.does_and_run(&client, call(target));
        assert_eq!(s.w.result(&client).result(), Err((Error::BadArgument, 8)));
    }
}

#[test]
fn a_receiver_refuses_a_bounded_number_at_a_time() {
    const CALLERS: usize = 20;
    let mut s = Scene::new(1);
    let (server, target) = s.running(0, 10);
    let note = s.w.make(0, ObjType::Notification, 0);
    let sender = s.w.process_of(abi::INIT_UNTYPED, 32, 64);
    s.w.join_all(s.group, sender, GROUP);
    s.w.give(note, sender, MINE);
    // The best calls last, since its server goes on at its priority.
    let callers: Vec<_> = (0..=CALLERS).map(|n| s.w.task_with(sender, 0, 60 - n as u64, true)).collect();
    s.w.resume(&callers[CALLERS]);
    s.w.does_and_run(&callers[CALLERS], plain_call(target));
    for caller in callers[..CALLERS].iter().rev() {
        s.w.resume(caller);
        lists(caller, &[copy(MINE)]);
        s.w.does_and_run(caller, call(target));
    }
    // What they list goes: none of them can be received, but the last.
    s.w.must(0, Op::CapDelete, &[Target::new(sender.cnode, MINE.0).0]);
    s.w.does(&server, Regs::op(Op::Recv, &[]));
    let waiting = |callers: &[Tcb]| callers.iter().filter(|caller| caller.state() == State::Sending).count();
    assert_eq!(waiting(&callers), CALLERS, "a payload may take an entry's whole work");
    s.w.run();
    assert_eq!(s.w.result(&server).msg(), [1, 2, 3, 4]);
    assert_eq!(waiting(&callers), 0);
    for caller in &callers[..CALLERS] {
        assert_eq!(caller.regs().error(), Some(Error::NoCapability));
    }
}
