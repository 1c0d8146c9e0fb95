//! Reply objects on several CPUs: an empty one belongs to no CPU, so each server can keep a call in
//! it, wherever it was made and its server runs.

use abi::{Cap, Error, ObjType, Op, Target};

use crate::scene::{Scene, call};
use crate::world::make::{CONTROL, at};
use crate::world::{Regs, Tcb};

/// Where the servers have the Reply.
const REPLY: Cap = Cap(30);
const HOME: usize = 0;
const FAR: usize = 1;

fn save() -> Regs {
    Regs::op(Op::SaveReply, &[REPLY.arg()])
}

fn reply(word: u64) -> Regs {
    Regs::message(Op::Reply, Target(REPLY.arg()), [word; 4])
}

/// A scene whose process has a Reply that CPU 0 made.
fn scene(cpus: usize) -> Scene {
    let mut s = Scene::new(cpus);
    let made = s.w.make(HOME, ObjType::Reply, 0);
    s.w.must(HOME, Op::CapMove, &[made.arg(), place(&s)]);
    s
}

/// The slot of the Reply, for an agent.
fn place(s: &Scene) -> u64 {
    Target::new(s.process.cnode, REPLY.0).0
}

/// A client calls, and the server keeps the call.
fn keeps(s: &mut Scene, server: &(Tcb, Target), client: &Tcb) -> Option<Error> {
    s.w.does_and_run(client, call(server.1));
    s.w.does_and_run(&server.0, save());
    s.w.result(&server.0).error()
}

#[test]
fn a_server_that_moves_keeps_calls_where_it_is() {
    let mut s = scene(3);
    let server = s.server(HOME, 20);
    for (round, cpu) in [FAR, 2, HOME, FAR].into_iter().enumerate() {
        s.w.must(HOME, Op::TaskMove, &[CONTROL, server.0.cap.arg(), cpu as u64]);
        s.w.run();
        assert_eq!(server.0.home(), cpu);
        let (client, _) = s.running((cpu + round) % 3, 10 + round as u64);
        assert_eq!(keeps(&mut s, &server, &client), None);
        s.w.does_and_run(&server.0, save());
        assert_eq!(s.w.result(&server.0).error(), Some(Error::InUse), "it has a call");
        s.w.does_and_run(&server.0, reply(round as u64));
        assert_eq!(s.w.result(&server.0).error(), None);
        assert_eq!(s.w.result(&client).msg(), [round as u64; 4]);
        s.w.does_and_run(&server.0, reply(9));
        assert_eq!(s.w.result(&server.0).error(), Some(Error::Gone), "it is empty");
        s.w.does_and_run(&server.0, Regs::op(Op::Recv, &[]));
    }
}

#[test]
fn a_full_reply_belongs_to_the_cpu_of_its_server() {
    let mut s = scene(2);
    let (near, far) = (s.server(HOME, 20), s.server(FAR, 20));
    let (first, second) = (s.running(HOME, 12).0, s.running(FAR, 10).0);
    s.w.does_and_run(&second, call(near.1));
    assert_eq!(keeps(&mut s, &far, &first), None);
    s.w.does_and_run(&near.0, save());
    assert_eq!(s.w.result(&near.0).error(), Some(Error::InUse));
    s.w.does_and_run(&near.0, reply(1));
    let refused = s.w.result(&near.0).result();
    assert_eq!(refused, Err((Error::WrongCpu, FAR as u64)));
    s.w.does_and_run(&far.0, reply(2));
    assert_eq!(s.w.result(&first).msg(), [2; 4]);
    s.w.must(HOME, Op::TaskSuspend, &[first.cap.arg()]);
    s.w.run();
    s.w.does_and_run(&near.0, save());
    assert_eq!(s.w.result(&near.0).error(), None, "whoever comes first has it");
    s.w.does_and_run(&near.0, reply(3));
    assert_eq!(s.w.result(&second).msg(), [3; 4]);
}

/// The delete of a Reply, at each point of it, while a server of another CPU keeps a call in it.
#[test]
fn no_call_is_kept_in_a_reply_that_is_gone() {
    let mut seen = Vec::new();
    for point in 0.. {
        let mut s = scene(2);
        let far = s.server(FAR, 20);
        let (client, _) = s.running(FAR, 10);
        s.w.does_and_run(&client, call(far.1));
        let delete = Regs::op(Op::CapDelete, &[place(&s)]);
        let mut points = 0..;
        let here = move |_| points.next() == Some(point);
        let stopped = s.w.torn_where(HOME, delete, here, |w| {
            w.does(&far.0, save());
            let _ = (0..40).map(|_| w.step(FAR)).count();
        });
        s.w.finish(HOME);
        s.w.run();
        if !stopped {
            break;
        }
        let kept = s.w.result(&far.0).error();
        seen.push(kept);
        match kept {
            None => assert_eq!(s.w.result(&client).error(), Some(Error::Gone), "at point {point}"),
            Some(_) => assert!(!client.is_through(), "at point {point}: {kept:?}"),
        }
    }
    assert!(seen.contains(&None) && seen.contains(&Some(Error::Dying)), "{seen:?}");
}

/// Nothing that an empty Reply needs is on another CPU: its delete asks no CPU.
#[test]
fn an_empty_reply_of_another_cpu_ends_at_once() {
    let mut s = Scene::new(2);
    let made = s.w.make(FAR, ObjType::Reply, 0);
    s.w.hold(Some(FAR));
    s.w.begin(HOME, Regs::op(Op::CapDelete, &[at(made)]));
    let _ = (0..200).map(|_| s.w.step(HOME)).count();
    assert!(s.w.is_over(HOME), "it does not wait for the other CPU");
    s.w.hold(None);
    s.w.run();
}
