//! Broadcasts: which members get them, how often, and what the answer says when they stop.

use std::sync::atomic::Ordering::Relaxed;

use abi::events::{BROADCAST, Progress};
use abi::{Cap, Error, FLAG_CAPS, FLAG_NONBLOCK, MEMBER_RIGHTS, ObjType, Op, Rights, Target};
use kern_base::task::State;

use crate::events::{BITS, LOG2, Reader};
use crate::world::make::{Proc, at};
use crate::world::{Regs, Tcb, World};

/// The group, in every member's CSpace.
const GROUP: Cap = Cap(5);
const CELLS: u64 = 1 << LOG2;

/// A sender, and others, each in a process of its own, in one group.
pub struct Meeting {
    pub w: World,
    group: Cap,
    pub process: Proc,
    pub sender: Tcb,
    pub ears: Vec<Ear>,
}

/// A member that listens.
pub struct Ear {
    pub process: Proc,
    pub task: Tcb,
    pub reader: Reader,
}

impl Meeting {
    /// With a sender on CPU `n`, which is member 0.
    pub fn new(cpus: usize, n: usize, members: u64) -> Meeting {
        let mut w = World::with_memory(cpus, 16 << 20);
        let process = w.process();
        let group = w.make(0, ObjType::Group, members | 4 << 16);
        w.join(group, process, GROUP, MEMBER_RIGHTS, 0x77);
        let sender = w.start(process, n, 10);
        w.run();
        Meeting { w, group, process, sender, ears: Vec::new() }
    }

    /// One more member with such rights, whose reader is on CPU `n`: where it is among the ears.
    pub fn ear(&mut self, n: usize, rights: Rights) -> usize {
        let process = self.w.process();
        self.w.join(self.group, process, GROUP, rights, 0);
        let task = self.w.start(process, n, 20);
        self.w.run();
        self.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
        let reader = Reader::bind(&mut self.w, process, &task);
        self.ears.push(Ear { process, task, reader });
        self.ears.len() - 1
    }

    pub fn ears(cpus: usize, n: usize, count: usize) -> Meeting {
        let mut m = Meeting::new(cpus, n, count as u64 + 2);
        for number in 0..count {
            m.ear(number % cpus, Rights::LISTEN);
        }
        m
    }

    pub fn says(&mut self, args: Regs) {
        self.w.does_and_run(&self.sender.clone(), args);
    }

    /// What the sender was answered: how many got it; or the error, how far it came, and how many
    /// got it.
    pub fn answer(&self) -> Result<u64, (Error, u16, u16)> {
        let answer = self.w.result(&self.sender).result();
        answer.map(|regs| regs.rdi).map_err(|(error, detail)| {
            let Progress { next, sent } = Progress::from_raw(detail as u32);
            (error, next, sent)
        })
    }

    fn heard(&mut self) -> Vec<Vec<u64>> {
        self.ears.iter_mut().map(|ear| ear.reader.registers()).collect()
    }

    /// Makes a pool full.
    pub fn fill(&self, ear: usize) {
        let head = &self.ears[ear].reader;
        let pool = self.w.object::<kern_base::events::EventPool>(head.cap);
        let position = pool.map_or(0, |pool| pool.get().reserved.position());
        head.word(0).store(position.wrapping_sub(CELLS), Relaxed);
    }

    /// The reader of a pool says that everything is read, and lets those in that wait.
    pub fn room(&mut self, ear: usize) {
        let reader = &mut self.ears[ear].reader;
        let pool = self.w.object::<kern_base::events::EventPool>(reader.cap);
        let position = pool.map_or(0, |pool| pool.get().reserved.position());
        reader.next = position;
        reader.word(0).store(position, Relaxed);
        let cap = reader.cap;
        self.w.must(0, Op::PoolRoom, &[cap.arg()]);
        self.w.run();
    }
}

pub fn say(value: u64) -> Regs {
    say_from(Progress::default(), value)
}

pub fn say_from(progress: Progress, value: u64) -> Regs {
    Regs::message(Op::Broadcast, Target::new(GROUP, progress.raw()), [value, 2, 3, 4])
}

#[test]
fn all_that_listen_get_it_once() {
    for sender_cpu in [0, 1] {
        let mut m = Meeting::ears(2, sender_cpu, 37);
        let deaf = m.ear(1, MEMBER_RIGHTS.minus(Rights::LISTEN));
        let utcb = m.sender.object.get().utcb(m.sender.pin());
        utcb.msg.iter().zip(500..).for_each(|(word, value)| word.store(value, Relaxed));
        m.says(say(1).words(9));
        assert_eq!(m.answer(), Ok(37));
        let slot = at(m.group);
        let identity = m.w.must(0, Op::CapInspect, &[slot]).r8;
        for (number, ear) in m.ears.iter_mut().enumerate() {
            let Some((event, words)) = ear.reader.read() else {
                assert_eq!(number, deaf, "one that listens got nothing");
                continue;
            };
            assert_eq!((event.regs, event.custom, event.exposure), ([1, 2, 3, 4], 0x77, BROADCAST));
            assert_eq!((event.group, event.sender), (identity, m.sender.id));
            assert_eq!(words, (500..509).collect::<Vec<_>>());
            assert!(number != deaf && ear.reader.read().is_none());
        }
    }
}

#[test]
fn who_may_not_is_refused() {
    let mut m = Meeting::ears(1, 0, 1);
    let mut refused = |rights: Option<Rights>, words: u8, error: Error, detail: u64| {
        let process = m.w.process();
        let group = m.w.make(0, ObjType::Group, 4 | 4 << 16);
        if let Some(rights) = rights {
            m.w.join(group, process, GROUP, rights, 0);
        } else {
            m.w.give(group, process, GROUP);
        }
        let task = m.w.start(process, 0, 30);
        m.w.does_and_run(&task, say(1).words(words));
        assert_eq!(m.w.result(&task).result().map(drop), Err((error, detail)), "{rights:?}");
        m.w.must(0, Op::CapDelete, &[at(task.cap)]);
    };
    refused(Some(Rights::LISTEN), 0, Error::NoRight, u64::from(Rights::SEND.0));
    refused(Some(Rights::SEND), 1, Error::NoRight, u64::from(Rights::STRING.0));
    refused(None, 0, Error::NotMember, 0);
    m.says(say(1).flag(FLAG_CAPS));
    assert_eq!(m.w.result(&m.sender).error(), Some(Error::NoCapability));
    m.says(say(1).words(65));
    assert_eq!(m.w.result(&m.sender).error(), Some(Error::TooLong));
    m.says(Regs::message(Op::Broadcast, Target::new(Cap(77), 0), [0; 4]));
    assert_eq!(m.w.result(&m.sender).error(), Some(Error::NoCapability));
    // Removed: its capability is there, and does nothing.
    m.w.must(0, Op::GroupRemove, &[Target::new(m.group, 0).0]);
    m.says(say(1));
    assert_eq!(m.w.result(&m.sender).error(), Some(Error::NotMember));
    assert_eq!(m.heard(), [vec![]]);
}

#[test]
fn who_is_gone_is_passed_over() {
    let mut m = Meeting::ears(2, 0, 5);
    m.w.must(0, Op::GroupRemove, &[Target::new(m.group, 2).0]);
    m.w.must(0, Op::CapDelete, &[at(m.ears[2].process.process)]);
    m.w.must(0, Op::CapDelete, &[at(m.ears[3].reader.cap)]);
    m.w.run();
    m.says(say(7));
    assert_eq!(m.answer(), Ok(2));
    assert_eq!((m.ears[0].reader.registers(), m.ears[4].reader.registers()), (vec![7], vec![7]));
    assert_eq!(m.ears[1].reader.registers(), [], "it was removed");
    // A process with the number of a dead one is no member for that.
    let new = m.ear(0, Rights::NONE);
    m.says(say(8));
    assert_eq!(m.answer(), Ok(2));
    assert_eq!(m.ears[new].reader.registers(), []);
}

#[test]
fn a_full_pool_stops_who_does_not_wait() {
    let mut m = Meeting::ears(2, 0, 4);
    m.fill(2);
    m.says(say(1).flag(FLAG_NONBLOCK));
    // Members 1 and 2 got it; member 3 has no room.
    assert_eq!(m.answer(), Err((Error::WouldBlock, 3, 2)));
    m.says(say_from(Progress { next: 3, sent: 2 }, 1).flag(FLAG_NONBLOCK));
    assert_eq!(m.answer(), Err((Error::WouldBlock, 3, 2)), "still");
    m.says(say_from(Progress { next: 4, sent: 2 }, 1).flag(FLAG_NONBLOCK));
    assert_eq!(m.answer(), Ok(3));
    m.room(2);
    assert_eq!(m.heard(), [vec![1], vec![1], vec![], vec![1]]);
    m.says(say_from(Progress { next: 999, sent: 2 }, 1));
    assert_eq!(m.answer(), Ok(2), "there are no more members");
}

#[test]
fn a_full_pool_is_waited_for_in_turn() {
    for (sender_cpu, reader_cpu) in [(0, 0), (0, 1), (1, 0)] {
        let mut m = Meeting::new(2, sender_cpu, 9);
        for _ in 0..4 {
            m.ear(reader_cpu, Rights::LISTEN);
        }
        let other = m.w.process();
        m.w.join(m.group, other, GROUP, MEMBER_RIGHTS, 1);
        let other = m.w.start(other, 1 - sender_cpu, 10);
        m.w.run();
        m.fill(1);
        m.fill(3);
        m.says(say(1));
        assert!(!m.sender.is_through());
        // No sender overtakes a waiting one, and the other listeners receive the event meanwhile.
        m.w.does_and_run(&other, say(2).flag(FLAG_NONBLOCK));
        assert_eq!(m.w.result(&other).result().map(drop), Err((Error::WouldBlock, 2 | 1 << 16)));
        assert_eq!(m.heard(), [vec![1, 2], vec![], vec![], vec![]]);
        m.room(1);
        assert!(!m.sender.is_through(), "the last has no room");
        assert_eq!(m.ears[2].reader.registers(), [1]);
        m.room(3);
        assert_eq!(m.answer(), Ok(4), "sender on CPU {sender_cpu}, readers on {reader_cpu}");
        assert_eq!(m.heard(), [vec![], vec![1], vec![], vec![1]]);
    }
}

/// Each way to end a wait for a member's room, and its result.
#[test]
fn waits_for_members_end() {
    for (sender_cpu, reader_cpu) in [(0, 0), (1, 0), (0, 1)] {
        for what in 0..7 {
            let mut m = Meeting::new(2, sender_cpu, 6);
            for _ in 0..3 {
                m.ear(reader_cpu, Rights::LISTEN);
            }
            m.fill(1);
            let soon = m.w.now() + 1000;
            m.says(if what == 0 { say(9).deadline(soon) } else { say(9) });
            assert!(!m.sender.is_through());
            let Ear { process, task, reader } = &m.ears[1];
            let (process, task, pool) = (*process, *task, reader.cap);
            let want = match what {
                0 => {
                    m.w.wait_until(soon + 1);
                    Err((Error::Timeout, 2, 1))
                }
                1 => {
                    m.w.must(0, Op::TaskCancel, &[m.sender.cap.arg()]);
                    Err((Error::Cancelled, 2, 1))
                }
                2 => {
                    m.w.must(0, Op::TaskKill, &[task.cap.arg()]);
                    Err((Error::Dead, 2, 1))
                }
                // The member listens no more, or is no more: the others get it.
                3 => {
                    m.w.must(0, Op::CapDelete, &[at(pool)]);
                    Ok(2)
                }
                4 => {
                    m.w.must(0, Op::CapDelete, &[at(process.process)]);
                    Ok(2)
                }
                // It may still get what was sent to it.
                5 => {
                    m.w.must(0, Op::GroupRemove, &[Target::new(m.group, 2).0]);
                    m.w.run();
                    assert!(!m.sender.is_through());
                    m.room(1);
                    Ok(3)
                }
                _ => {
                    m.w.must(0, Op::TaskKill, &[m.sender.cap.arg()]);
                    m.w.run();
                    assert_eq!(m.sender.state(), State::Dead);
                    m.room(1);
                    assert_eq!(m.heard(), [vec![9], vec![], vec![]], "the others are not sent to");
                    continue;
                }
            };
            m.w.run();
            assert_eq!(m.answer(), want, "case {what}, sender on CPU {sender_cpu}");
            let last = m.ears[2].reader.registers();
            assert_eq!(last.len(), usize::from(want.is_ok()), "case {what}");
            let Err((_, next, sent)) = want else { continue };
            m.says(say_from(Progress { next: next + 1, sent }, 9));
            assert_eq!(m.answer(), Ok(2), "it goes on behind");
            assert_eq!(m.ears[2].reader.registers(), [9]);
        }
    }
}

#[test]
fn members_that_come_and_go_in_between_get_it_once_at_most() {
    let mut m = Meeting::new(1, 0, 4);
    for _ in 0..3 {
        m.ear(0, Rights::LISTEN);
    }
    m.fill(1);
    m.says(say(5));
    assert!(!m.sender.is_through());
    // The first, which has it, leaves, and another process takes its record.
    m.w.must(0, Op::GroupRemove, &[Target::new(m.group, 1).0]);
    let new = m.ear(0, Rights::LISTEN);
    // The last leaves and comes back.
    m.w.must(0, Op::GroupRemove, &[Target::new(m.group, 3).0]);
    let last = m.ears[2].process;
    m.w.join(m.group, last, Cap(6), Rights::LISTEN, 0);
    m.room(1);
    assert_eq!(m.answer(), Ok(3));
    assert_eq!((m.ears[0].reader.registers(), m.ears[new].reader.registers()), (vec![5], vec![]));
    assert_eq!(m.ears[2].reader.registers(), [5]);
}

#[test]
fn armed_readers_are_told_while_it_goes_on() {
    for reader_cpu in [0, 1] {
        let mut m = Meeting::new(2, 0, 40);
        for _ in 0..20 {
            let ear = m.ear(reader_cpu, Rights::LISTEN);
            let note = m.w.make(0, ObjType::Notification, 0);
            let task = m.ears[ear].task;
            m.ears[ear].reader.arm();
            if task.home() == 0 {
                m.w.must(0, Op::NotificationBind, &[note.arg(), task.cap.arg()]);
            }
        }
        m.says(say(3));
        let mut told = 0;
        // Of higher priority than the sender, they run first.
        while let Some(ear) = m.ears.iter().find(|ear| m.w.runs(0, &ear.task)) {
            assert_eq!(ear.task.regs().rdx, BITS);
            told += 1;
            m.w.does_and_run(&ear.task.clone(), Regs::op(Op::Recv, &[]));
        }
        assert_eq!((m.answer(), told), (Ok(20), if reader_cpu == 0 { 20 } else { 0 }));
        assert!(m.heard().iter().all(|heard| *heard == [3]));
    }
}

/// A call that its server drops fails, whatever its sender did before: here, a broadcast that
/// waited, of which the message block still has the kind.
#[test]
fn a_dropped_call_after_a_broadcast_that_waited_is_gone() {
    let mut m = Meeting::ears(1, 0, 1);
    m.fill(0);
    m.says(say(1));
    assert_eq!(m.sender.state(), State::Sending, "it waits for room");
    m.room(0);
    assert_eq!(m.answer(), Ok(1));
    let w = &mut m.w;
    let q = w.process();
    let server = w.start(q, 0, 20);
    let group = w.group(4, 4);
    w.join_all(group, m.process, Cap(7));
    w.expose(group, 1, server.cap);
    w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    w.does_and_run(&m.sender, Regs::message(Op::Call, Target::new(Cap(7), 1), [1, 2, 3, 4]));
    assert_eq!(w.result(&server).msg(), [1, 2, 3, 4]);
    w.does(&server, Regs::op(Op::Recv, &[]));
    w.run();
    assert_eq!(w.result(&m.sender).error(), Some(Error::Gone));
}
