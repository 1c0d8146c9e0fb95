//! Each operation by which a process gets, joins or sees something checks that process's label, as
//! the [rules](abi::Op::asks) say. Each is tried with only the needed permission forbidden, and
//! with only the needed permission allowed.

use abi::audit::{AuditEvent, may};
use abi::events::Window;
use abi::{
    Cap, Error, FLAG_CAPS, FLAG_PAGES, FLAG_UNTAKEN, Fate, Listening, LockWord, MEMBER_RIGHTS, ObjType, Op,
    PageMode, PageRange, Rights, Target,
};
use std::sync::atomic::Ordering::Relaxed;

use crate::audit::{all, audits};
use crate::broadcast::{Meeting, say};
use crate::events::{receiver, send};
use crate::grants::{MINE, OFFER, came, copy, lists};
use crate::labels::{SECRET, SUBJECT, confined, rule, set};
use crate::pages::{FROM, POOL, lists as lists_pages};
use crate::scene::{GROUP, Scene, call};
use crate::world::machine::DEVICES;
use crate::world::make::{CONTROL, INIT, Proc};
use crate::world::{Regs, Tcb, World};

type Outcome = Result<(), (Error, u64)>;

const WINDOW: u64 = 0x7000_0000;
const PAGES: u64 = 2;

/// Makes an object with the label.
fn secret(w: &mut World, of: ObjType, size: u64) -> Cap {
    let made = w.make(0, of, size);
    set(w, made, SECRET);
    made
}

/// Pages with the label, in the pool of a space.
fn secret_pages(w: &mut World, space: Cap) {
    let frame = secret(w, ObjType::Frame, 12 | PAGES << 8);
    w.must(0, Op::Map, &[space.arg(), frame.arg(), FROM, POOL]);
}

/// Pages to be seen, or to be written.
fn pages(what: u8) -> PageRange {
    let mode = if what == may::READ { PageMode::Copy } else { PageMode::Move };
    PageRange::new(mode, FROM, PAGES)
}

/// A task gets ready to send what is asked for: what its message says.
fn load(task: &Tcb, what: u8) -> u64 {
    if what == may::GRANT {
        lists(task, &[copy(MINE)]);
        return FLAG_CAPS;
    }
    lists_pages(task, &[pages(what)]);
    FLAG_PAGES
}

/// A task of a process takes what comes.
fn opens(task: &Tcb) {
    let utcb = task.object.get().utcb(task.pin());
    utcb.listening.store(Listening { next: OFFER, count: 4 }.word(), Relaxed);
    let [start, length] = &utcb.window;
    start.store(WINDOW, Relaxed);
    length.store(PAGES * abi::PAGE_SIZE, Relaxed);
}

/// What a task of the scene's process sends: a capability, and pages.
fn sender(s: &mut Scene) -> (Tcb, Target) {
    let note = secret(&mut s.w, ObjType::Notification, 0);
    s.w.give(note, s.process, MINE);
    secret_pages(&mut s.w, s.process.vspace);
    s.running(0, 10)
}

/// A process that is a member of the scene's group, and gets the label; its task.
fn labelled(s: &mut Scene) -> (Proc, Tcb) {
    let process = s.w.process();
    s.w.join_all(s.group, process, GROUP);
    let task = s.w.start(process, 0, 20);
    s.w.run();
    set(&mut s.w, process.process, SUBJECT);
    opens(&task);
    (process, task)
}

/// A message by which what is asked for goes to a process with the label, or would. A reply is not
/// refused: it leaves behind what the label forbids, and the audit has the denial.
fn says(op: Op, what: u8, allowed: u8) -> Outcome {
    let mut s = Scene::new(1);
    audits(&mut s.w);
    let (from, to_it) = sender(&mut s);
    let mut client = None;
    let sent = match op {
        Op::Send => {
            let (process, _, target, reader) = receiver(&mut s, 0);
            set(&mut s.w, process.process, SUBJECT);
            reader.offers(Listening { next: OFFER, count: 4 }, Window { address: WINDOW, pages: PAGES });
            send(target, 1)
        }
        Op::Call => {
            let (_, task) = labelled(&mut s);
            let target = Target::new(GROUP, 9);
            s.w.expose(s.group, target.index(), task.cap);
            s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
            call(target)
        }
        _ => {
            s.w.does_and_run(&from, Regs::op(Op::Recv, &[]));
            let (_, task) = labelled(&mut s);
            s.w.does_and_run(&task, call(to_it));
            client = Some(task);
            Regs::message(op, Target(0), [1; 4])
        }
    };
    rule(&mut s.w, SUBJECT, SECRET, allowed);
    let flag = load(&from, what);
    s.w.does_and_run(&from, sent.flag(flag));
    // Who waits for the answer, or for the next call, has been refused nothing.
    let told = if from.is_through() { s.w.result(&from).result().map(drop) } else { Ok(()) };
    let Some(client) = client else { return told };
    assert_eq!(told, Ok(()), "a client's label makes no {op:?} fail");
    left_behind(&mut s.w, op, &from, &client)
}

/// What the audit has of the payload that a reply left behind, if it did.
fn left_behind(w: &mut World, op: Op, server: &Tcb, client: &Tcb) -> Outcome {
    let got = w.result(client);
    assert_eq!((got.error(), got.msg()), (None, [1; 4]), "the words come");
    let is_untaken = got.info().has(FLAG_UNTAKEN) || came(client).iter().any(|it| it.fate == Fate::Untaken);
    let denials: Vec<_> = all(w, 0).into_iter().filter(|it| it.event == AuditEvent::Denial).collect();
    assert_eq!(denials.len(), usize::from(is_untaken), "{denials:?}");
    let Some(denial) = denials.first() else { return Ok(()) };
    assert_eq!((denial.actor, denial.op), (server.id, Some(op)));
    Err((denial.error.expect("an error"), denial.detail))
}

fn broadcasts(what: u8, allowed: u8) -> Outcome {
    let mut m = Meeting::new(1, 0, 2);
    let ear = m.ear(0, MEMBER_RIGHTS);
    secret_pages(&mut m.w, m.process.vspace);
    m.ears[ear].reader.offers(Listening::NOT, Window { address: WINDOW, pages: PAGES });
    set(&mut m.w, m.ears[ear].process.process, SUBJECT);
    rule(&mut m.w, SUBJECT, SECRET, allowed);
    let flag = load(&m.sender, what);
    m.says(say(1).flag(flag));
    m.w.result(&m.sender).result().map(drop)
}

/// An operation by which a process with the label comes to what is asked for, or would.
fn does(op: Op, what: u8, allowed: u8) -> Outcome {
    let mut s = Scene::new(1);
    let child = confined(&mut s.w);
    let (w, group) = (&mut s.w, s.group);
    let to = Target::new(child.cnode, 4).0;
    let write = u64::from(what == may::WRITE);
    let args: Vec<u64> = match op {
        Op::CapCopy => vec![secret(w, ObjType::Notification, 0).arg(), to, u64::from(Rights::ALL.0), 0],
        Op::CapMove => vec![secret(w, ObjType::Notification, 0).arg(), to],
        Op::Retype => {
            let memory = secret(w, ObjType::Untyped, 16);
            vec![Target::new(memory, ObjType::Notification as u32).0, 0, to, 1]
        }
        Op::DeviceFrame => {
            vec![abi::INIT_MACHINE.arg(), secret(w, ObjType::Untyped, 16).arg(), to, DEVICES, 12]
        }
        Op::GroupAdd => {
            set(w, group, SECRET);
            w.must(0, Op::ProcessAccept, &[child.process.arg(), 9, group.arg()]);
            vec![group.arg(), child.process.arg(), u64::from(Rights::SEND.0), 0]
        }
        Op::Map => vec![child.vspace.arg(), secret(w, ObjType::Frame, 12).arg(), FROM, write, 0, 1],
        Op::Protect => {
            let frame = secret(w, ObjType::Frame, 12);
            w.must(0, Op::Map, &[child.vspace.arg(), frame.arg(), FROM, 1 - write, 0, 1]);
            vec![child.vspace.arg(), frame.arg(), FROM, write, 0, 1]
        }
        Op::PageTransfer => {
            secret_pages(w, INIT.vspace);
            let [words, count] = pages(what).words();
            vec![INIT.vspace.arg(), child.vspace.arg(), words, WINDOW, count]
        }
        Op::PageCopy => {
            // What is copied is a view of another's page.
            let plain = w.make(0, ObjType::Frame, 12);
            w.must(0, Op::Map, &[INIT.vspace.arg(), plain.arg(), FROM, POOL]);
            let [words, count] = PageRange::new(PageMode::Copy, FROM, 1).words();
            w.must(0, Op::PageTransfer, &[INIT.vspace.arg(), child.vspace.arg(), words, FROM, count]);
            vec![child.vspace.arg(), secret(w, ObjType::Frame, 12).arg(), FROM]
        }
        Op::TaskConfigure => {
            vec![CONTROL, w.make(0, ObjType::Task, 0).arg(), child.process.arg(), WINDOW, 0]
        }
        Op::Expose => {
            set(w, group, SECRET);
            vec![Target::new(group, 3).0, s.w.start(child, 0, 10).cap.arg(), 0]
        }
        Op::PoolBind => {
            let reader = s.w.start(child, 0, 10);
            let pool = secret(&mut s.w, ObjType::EventPool, 6);
            vec![pool.arg(), child.process.arg(), reader.cap.arg(), WINDOW, 1]
        }
        _ => panic!("nobody has tried whether {op:?} asks the labels"),
    };
    rule(&mut s.w, SUBJECT, asked(op), allowed);
    s.w.ask(0, op, &args).map(drop)
}

/// The label of what a process with the label comes to. A task has its own.
fn asked(op: Op) -> u64 {
    if op == Op::TaskConfigure { SUBJECT } else { SECRET }
}

/// Somebody without label has the call of a process with the label, and lets it go elsewhere.
fn passes(op: Op, allowed: u8) -> Outcome {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 10);
    let args = if op == Op::Forward {
        let (other, _) = s.server(0, 10);
        let (group, process) = (s.w.group(4, 4), s.process);
        set(&mut s.w, group, SECRET);
        s.w.expose(group, 1, other.cap);
        s.w.join(group, process, Cap(6), MEMBER_RIGHTS, 0);
        Target::new(Cap(6), 1).0
    } else {
        let reply = secret(&mut s.w, ObjType::Reply, 0);
        s.w.give(reply, s.process, Cap(7));
        Cap(7).arg()
    };
    let (_, client) = labelled(&mut s);
    s.w.does_and_run(&client, call(target));
    rule(&mut s.w, SUBJECT, SECRET, allowed);
    s.w.does_and_run(&server, Regs::op(op, &[args]));
    s.w.result(&server).result().map(drop)
}

/// A task with the label waits for a lock, whose word it learns something of, or would.
fn waits(allowed: u8) -> Outcome {
    let mut s = Scene::new(1);
    let frame = secret(&mut s.w, ObjType::Frame, 12);
    let (process, task) = labelled(&mut s);
    s.w.give(frame, process, MINE);
    rule(&mut s.w, SUBJECT, SECRET, allowed);
    // Nobody has it.
    s.w.does_and_run(&task, Regs::op(Op::LockWait, &[GROUP.arg(), 0, MINE.arg(), LockWord::WAITS | 2]));
    s.w.result(&task).result().map(drop)
}

/// The parts of a process have one label: so does what becomes a part of it.
fn binds(op: Op, label: u64) -> Outcome {
    let mut s = Scene::new(1);
    let table = s.w.make(0, ObjType::CNode, 8);
    if op == Op::CSpaceGrow {
        let child = confined(&mut s.w);
        set(&mut s.w, table, label);
        return s.w.ask(0, op, &[child.process.arg(), table.arg()]).map(drop);
    }
    if op == Op::LabelSet {
        let child = confined(&mut s.w);
        return s.w.ask(0, op, &[abi::INIT_MACHINE.arg(), child.cnode.arg(), label]).map(drop);
    }
    if op == Op::TaskConfigure {
        let (child, task) = (confined(&mut s.w), s.w.make(0, ObjType::Task, 0));
        set(&mut s.w, task, label);
        return s.w.ask(0, op, &[CONTROL, task.arg(), child.process.arg(), WINDOW, 0]).map(drop);
    }
    let (process, space) = (s.w.make(0, ObjType::Process, 1), s.w.make(0, ObjType::VSpace, 4));
    set(&mut s.w, process, SUBJECT);
    set(&mut s.w, space, SUBJECT);
    set(&mut s.w, table, label);
    s.w.ask(0, op, &[process.arg(), table.arg(), space.arg(), 0]).map(drop)
}

#[test]
fn each_operation_asks_the_labels_that_the_rules_say() {
    let messages = [Op::Call, Op::Send, Op::Reply, Op::ReplyRecv];
    for &op in Op::ALL {
        let asks = op.asks();
        for what in
            [may::GRANT, may::JOIN, may::READ, may::WRITE].into_iter().filter(|bit| asks.bits & bit != 0)
        {
            let tries = |allowed| match op {
                op if messages.contains(&op) => says(op, what, allowed),
                Op::Broadcast => broadcasts(what, allowed),
                Op::Forward | Op::SaveReply => passes(op, allowed),
                Op::LockWait => waits(allowed),
                op => does(op, what, allowed),
            };
            // READ goes with WRITE, and these three need both.
            let both = what == may::WRITE || matches!(op, Op::PageCopy | Op::TaskConfigure | Op::PoolBind);
            let enough = if both { may::READ | may::WRITE } else { what };
            assert_eq!(tries(enough), Ok(()), "{op:?} with {enough:#x} allowed");
            let told = tries(may::ALL & !what);
            // A broadcast tells how far it came instead of the labels.
            let detail = if op == Op::Broadcast { 1 } else { SUBJECT << 32 | asked(op) };
            assert_eq!(told, Err((Error::Forbidden, detail)), "{op:?} with {what:#x} forbidden");
        }
        if asks.same {
            assert_eq!(binds(op, SUBJECT), Ok(()), "{op:?}");
            assert_eq!(binds(op, SECRET), Err((Error::Forbidden, SUBJECT << 32 | SECRET)), "{op:?}");
        }
    }
}
