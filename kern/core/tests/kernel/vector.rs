//! Vector registers of suspended tasks: which tasks may read and write them, and how written values
//! are corrected.

use abi::{Cap, Error, ObjType, Op, Rights, Target, VECTOR_WORDS_AT_ONCE};
use core::sync::atomic::Ordering::Relaxed;

use crate::world::make::Proc;
use crate::world::{Regs, Tcb, World};

/// Words of the simulated machine's areas.
const WORDS: u64 = 104;

/// A process with vector state.
fn process(w: &mut World) -> Proc {
    let process = w.make(0, ObjType::Process, 8);
    let (cnode, vspace) = (w.make(0, ObjType::CNode, 64), w.make(0, ObjType::VSpace, 16));
    w.must(0, Op::ProcessConfigure, &[process.arg(), cnode.arg(), vspace.arg(), 1]);
    Proc { process, cnode, vspace }
}

fn reads(w: &mut World, task: &Tcb, first: u64) -> Result<Vec<u64>, (Error, u64)> {
    (0..VECTOR_WORDS_AT_ONCE).for_each(|index| w.bulk(0, index, 0x5a));
    let answer = w.ask(0, Op::TaskReadVector, &[task.cap.arg(), first])?;
    assert_eq!(answer.rsi, WORDS);
    let agent = w.agent(0);
    let bulk = &agent.object.get().utcb(agent.pin()).bulk;
    assert_eq!(bulk[answer.rdi as usize].load(Relaxed), 0x5a, "no more than was said");
    Ok(bulk[..answer.rdi as usize].iter().map(|word| word.load(Relaxed)).collect())
}

fn writes(w: &mut World, task: &Tcb, first: u64, words: &[u64]) -> Result<(), (Error, u64)> {
    words.iter().enumerate().for_each(|(index, word)| w.bulk(0, index, *word));
    w.ask(0, Op::TaskWriteVector, &[task.cap.arg(), first, words.len() as u64]).map(drop)
}

#[test]
fn what_is_written_is_read_as_far_as_there_is_such_a_thing() {
    let mut w = World::with_memory(2, 4 << 20);
    let of = process(&mut w);
    let fresh = w.task_with(of, 0, 10, true);
    let all = [u64::MAX; WORDS as usize];
    assert_eq!(writes(&mut w, &fresh, 0, &all), Ok(()));
    let got = reads(&mut w, &fresh, 0).expect("it is fresh");
    for (number, word) in got.iter().enumerate() {
        let wanted = match number {
            3 => 0xffbf,
            64 => 7,
            65..72 => 0,
            _ => u64::MAX,
        };
        assert_eq!(*word, wanted, "word {number}");
    }
    // A part of it, and the end.
    assert_eq!(writes(&mut w, &fresh, 100, &[1, 2, 3, 4]), Ok(()));
    assert_eq!(reads(&mut w, &fresh, 99), Ok(vec![u64::MAX, 1, 2, 3, 4]));
    assert_eq!(reads(&mut w, &fresh, WORDS), Ok(vec![]));
    assert_eq!(writes(&mut w, &fresh, WORDS, &[]), Ok(()));
    for (first, count, error) in
        [(100, 5, 2), (WORDS, 1, 2), (0, u64::MAX, 2), (WORDS + 1, 0, 1), (1 << 63, 1, 1)]
    {
        let refused = w.ask(0, Op::TaskWriteVector, &[fresh.cap.arg(), first, count]).map(drop);
        assert_eq!(refused, Err((Error::BadArgument, error)), "{count} words from {first}");
    }
    let past = reads(&mut w, &fresh, WORDS + 1);
    assert_eq!(past, Err((Error::BadArgument, 1)));
}

#[test]
fn only_of_suspended_tasks_that_have_some() {
    let mut w = World::with_memory(2, 4 << 20);
    let (with, without) = (process(&mut w), w.process());
    let plain = w.task_with(without, 0, 10, true);
    assert_eq!(reads(&mut w, &plain, 0), Err((Error::BadState, 0)), "its process has none");
    assert_eq!(writes(&mut w, &plain, 0, &[1]), Err((Error::BadState, 0)));
    let task = w.start(with, 0, 10);
    w.run();
    assert_eq!(reads(&mut w, &task, 0), Err((Error::BadState, 0)), "it was never suspended");
    // In a system call they are dead.
    w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
    let initial: Vec<u64> = (0..WORDS).map(|number| if number == 3 { 0x1f80 } else { 0 }).collect();
    assert_eq!(reads(&mut w, &task, 0), Ok(initial));
    assert_eq!(writes(&mut w, &task, 0, &[1]), Err((Error::BadState, 0)), "it waits");
    let far = w.start(with, 1, 10);
    w.run();
    w.must(0, Op::TaskSuspend, &[far.cap.arg()]);
    w.run();
    assert_eq!(reads(&mut w, &far, 0), Err((Error::WrongCpu, 1)));
}

#[test]
fn a_task_keeps_its_registers_if_the_end_of_a_grace_round_preempts_it() {
    let mut w = World::with_memory(2, 4 << 20);
    let with = process(&mut w);
    let task = w.start(with, 1, 10);
    w.start(with, 0, 10);
    let better = w.start(with, 1, 20);
    w.give(with.cnode, with, Cap(1));
    w.give(better.cap, with, Cap(2));
    w.run();
    let place = Target::new(Cap(1), 3).0;
    let copy = Regs::op(Op::CapCopy, &[Cap(2).arg(), place, u64::from(Rights::ALL.0), 0]);
    w.does_and_run(&better, copy);
    w.does_and_run(&better, Regs::op(Op::CapDelete, &[place]));
    // The slot is not free yet. Meanwhile the other task runs.
    w.does(&better, copy);
    assert!(w.runs(1, &task));
    w.run();
    assert!(w.runs(1, &better));
}
