//! Calls, replies, forwards: what messages deliver, in which order, and who learns when a task
//! ends.
//!
//! Every test runs with client and server in one process, in two, and (with several CPUs) on two
//! CPUs.

use alloc::vec::Vec;

use abi::{Error, FLAG_FORWARDED, MsgInfo, Op, Target, TaskId};
use user_rt::arch::Args;
use user_rt::cap::{Handle, Reply};

use crate::lab::{Lab, Place, Puppet, Shown, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    registers_travel words_travel reply_recv_serves callers_go_by_priority_then_in_order
    forward_keeps_the_caller replies_can_be_kept nested_calls a_call_left_unanswered_is_gone
    suspended_server_queues suspended_caller_keeps_its_answer
}

/// The processes and CPUs of client and server.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Whether client and server are in different processes.
    apart: bool,
    /// Whether the server is on the last CPU.
    far: bool,
}

/// Returns the setups for this machine.
pub fn setups(lab: &Lab<'_>) -> Vec<Setup> {
    let near = [Setup { apart: false, far: false }, Setup { apart: true, far: false }];
    let far = [Setup { apart: false, far: true }, Setup { apart: true, far: true }];
    near.into_iter().chain(far.into_iter().filter(|_| lab.cpus > 1)).collect()
}

impl Setup {
    /// Returns the process of a side. All clients are in one process, all servers in another.
    fn place(&self, lab: &mut Lab<'_>, side: usize) -> Result<Place, Failure> {
        if !self.apart {
            return Ok(Place::Own);
        }
        while lab.children.len() <= side {
            lab.process(false)?;
        }
        Ok(Place::Child(side))
    }

    /// Makes a client's puppet, on the director's CPU.
    pub fn client(&self, lab: &mut Lab<'_>) -> Result<Puppet, Failure> {
        self.client_of(lab, crate::lab::PRIORITY)
    }

    /// Makes a client's puppet with a priority.
    pub fn client_of(&self, lab: &mut Lab<'_>, priority: u8) -> Result<Puppet, Failure> {
        let place = self.place(lab, 0)?;
        lab.puppet(&Wanted { place, cpu: 0, priority })
    }

    pub fn server(&self, lab: &mut Lab<'_>) -> Result<Puppet, Failure> {
        let place = self.place(lab, 1)?;
        let cpu = if self.far { lab.cpus - 1 } else { 0 };
        lab.puppet(&Wanted { place, cpu, ..Wanted::default() })
    }
}

/// Runs a test in every setup, and names the setup in which it fails.
pub fn in_every_setup(lab: &mut Lab<'_>, test: impl Fn(&mut Lab<'_>, Setup) -> Outcome) -> Outcome {
    for setup in setups(lab) {
        test(lab, setup).map_err(|failure| match failure {
            Failure::Of(why) => Failure::Of(alloc::format!("{setup:?}: {why}")),
            lacks => lacks,
        })?;
        lab.reset()?;
    }
    Ok(())
}

/// Returns a message operation: label, registers, words in the UTCB.
pub fn message(op: Op, target: Target, label: u32, regs: [u64; 4], words: u8) -> Args {
    let [rdx, r8, r9, r10] = regs;
    Args { info: MsgInfo::new(label, words).op(op), rdi: target.0, rsi: 0, rdx, r8, r9, r10 }
}

pub const NOBODY: Target = Target(0);

/// Returns the registers that `seed` stands for.
pub fn regs(seed: u64) -> [u64; 4] {
    core::array::from_fn(|index| (seed + index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Makes the client call the server, and leaves both sides in the middle of the call.
pub fn call(lab: &Lab<'_>, client: &Puppet, server: &Puppet, seed: u64) -> Outcome {
    lab.ask(client, &message(Op::Call, lab.target(client, server), seed as u32, regs(seed), 0))
}

/// Checks that the server receives from the client what [`call`] sent.
pub fn receive(lab: &Lab<'_>, server: &Puppet, client: &Puppet, seed: u64) -> Outcome {
    let shown = lab.run(server, &Args::new(Op::Recv))?;
    is_call_of(&shown, server, client, seed)
}

/// Checks a received call against what [`call`] sends.
pub fn is_call_of(shown: &Shown, server: &Puppet, client: &Puppet, seed: u64) -> Outcome {
    let answer = &shown.answer;
    expect_eq!(shown.error(), None, "receiving");
    expect_eq!(TaskId::from_raw(answer.rsi), client.id, "sender");
    expect_eq!(answer.rdi, u64::from(server.number + 1), "exposure");
    let info = MsgInfo(answer.info.0 & !FLAG_FORWARDED);
    expect_eq!(info, MsgInfo::new(seed as u32, 0), "message word");
    expect_eq!(answer.message_registers(), regs(seed), "registers");
    expect_eq!((answer.r12, shown.dirt), (0, 0), "custom bits, other registers");
    Ok(())
}

/// Makes the server answer its current call.
pub fn reply(lab: &Lab<'_>, server: &Puppet, seed: u64) -> Outcome {
    let shown = lab.run(server, &message(Op::Reply, NOBODY, seed as u32, regs(seed), 0))?;
    expect_eq!(shown.error(), None, "replying");
    expect_eq!(shown.dirt, 0, "registers after a reply");
    Ok(())
}

/// Checks that the client returns with what [`reply`] sent.
pub fn answered(lab: &Lab<'_>, client: &Puppet, seed: u64) -> Outcome {
    let shown = lab.answer(client)?;
    let answer = &shown.answer;
    expect_eq!(answer.info, MsgInfo::new(seed as u32, 0), "the reply's message word");
    expect_eq!(answer.message_registers(), regs(seed), "the reply's registers");
    expect_eq!((answer.rdi, answer.rsi, answer.r12), (0, 0, 0), "a reply says nothing of its sender");
    expect_eq!(shown.dirt, 0, "registers after a call");
    Ok(())
}

/// Checks that the client returns with an error that names the server.
pub fn failed(lab: &Lab<'_>, client: &Puppet, error: Error, who: TaskId) -> Outcome {
    let shown = lab.answer(client)?;
    expect_eq!(shown.error(), Some(error), "the call's end");
    expect_eq!(TaskId::from_raw(shown.answer.rsi), who, "whom {error:?} is about");
    expect_eq!(shown.answer.message_registers(), [0; 4], "registers with an error");
    expect_eq!((shown.answer.r12, shown.dirt), (0, 0), "other registers with an error");
    Ok(())
}

fn registers_travel(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        // The server first, so that it waits when the call comes; then the client first.
        for round in 0..4 {
            if round % 2 == 0 {
                lab.ask(&server, &Args::new(Op::Recv))?;
                lab.stays_blocked(&server)?;
                call(lab, &client, &server, round)?;
                is_call_of(&lab.answer(&server)?, &server, &client, round)?;
            } else {
                call(lab, &client, &server, round)?;
                lab.stays_blocked(&client)?;
                receive(lab, &server, &client, round)?;
            }
            lab.stays_blocked(&client)?;
            reply(lab, &server, 100 + round)?;
            answered(lab, &client, 100 + round)?;
        }
        Ok(())
    })
}

fn words_travel(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        let (there, back): (Vec<u64>, Vec<u64>) = (0..64).map(|n| (n * 3 + 1, n * 5 + 2)).unzip();
        for (sent, returned) in [(64, 64), (1, 63), (0, 64), (64, 0), (7, 1)] {
            lab.ask(&server, &Args::new(Op::Recv))?;
            let target = lab.target(&client, &server);
            let args = message(Op::Call, target, 1, regs(1), sent);
            lab.ask_with_words(&client, &args, &there)?;
            let shown = lab.answer(&server)?;
            expect_eq!(shown.answer.info.words(), usize::from(sent), "words announced");
            let got = lab.words(&server);
            expect_eq!(got[..sent.into()], there[..sent.into()], "words of the call");
            let args = message(Op::Reply, NOBODY, 2, regs(2), returned);
            lab.ask_with_words(&server, &args, &back)?;
            expect_eq!(lab.answer(&server)?.error(), None, "replying");
            let shown = lab.answer(&client)?;
            expect_eq!(shown.answer.info.words(), usize::from(returned), "words announced in the reply");
            let (got, count) = (lab.words(&client), usize::from(returned));
            expect_eq!(got[..count], back[..count], "words of the reply");
            // No more than was announced: the words after it are the client's own.
            expect_eq!(got[count..], there[count..], "words behind the reply");
        }
        Ok(())
    })
}

fn reply_recv_serves(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        lab.ask(&server, &message(Op::ReplyRecv, NOBODY, 0, regs(0), 0))?;
        for round in 1..6 {
            call(lab, &client, &server, round)?;
            is_call_of(&lab.answer(&server)?, &server, &client, round)?;
            lab.ask(&server, &message(Op::ReplyRecv, NOBODY, 50 + round as u32, regs(50 + round), 0))?;
            answered(lab, &client, 50 + round)?;
            lab.stays_blocked(&server)?;
        }
        Ok(())
    })
}

fn callers_go_by_priority_then_in_order(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let server = setup.server(lab)?;
        let priorities = [50, 90, 50, 70, 90, 70, 50];
        let mut clients = Vec::new();
        for priority in priorities {
            clients.push(setup.client_of(lab, priority)?);
        }
        for (seed, client) in (0..).zip(&clients) {
            call(lab, client, &server, seed)?;
            lab.stays_blocked(client)?;
        }
        // Highest priority first; among equals the first caller first.
        for index in [1, 4, 3, 5, 0, 2, 6] {
            receive(lab, &server, &clients[index], index as u64)?;
            reply(lab, &server, 20 + index as u64)?;
            answered(lab, &clients[index], 20 + index as u64)?;
        }
        Ok(())
    })
}

fn forward_keeps_the_caller(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, front, back) = (setup.client(lab)?, setup.server(lab)?, setup.server(lab)?);
        let home = setup.client(lab)?;
        // To a task beside the front, then to a task on the client's side; waiting or not.
        for (round, (back, waits)) in
            [(&back, true), (&back, false), (&home, true), (&home, false)].iter().enumerate()
        {
            let seed = round as u64 * 10;
            call(lab, &client, &front, seed)?;
            receive(lab, &front, &client, seed)?;
            if *waits {
                lab.ask(back, &Args::new(Op::Recv))?;
                lab.settle();
            }
            let target = lab.target(&front, back);
            let args = message(Op::Forward, target, (seed + 1) as u32, regs(seed + 1), 0);
            let shown = lab.run(&front, &args)?;
            expect_eq!(shown.error(), None, "forwarding");
            if *waits {
                let shown = lab.answer(back)?;
                expect!(
                    shown.answer.info.has(FLAG_FORWARDED),
                    "it is not told that it is no call of the sender's"
                );
                is_call_of(&shown, back, &client, seed + 1)?;
            } else {
                receive(lab, back, &client, seed + 1)?;
            }
            expect_eq!(
                lab.run(&front, &Args::new(Op::Reply))?.error(),
                Some(Error::Gone),
                "the call is gone"
            );
            lab.stays_blocked(&client)?;
            reply(lab, back, seed + 2)?;
            answered(lab, &client, seed + 2)?;
        }
        Ok(())
    })
}

/// Checks Replies. A puppet's capability argument names an object of the director, so they must be
/// in one process.
fn replies_can_be_kept(lab: &mut Lab<'_>) -> Outcome {
    let near = Setup { apart: false, far: false };
    let (first, second, server) = (near.client(lab)?, near.client(lab)?, near.server(lab)?);
    let kept: [Reply; 2] = [lab.nursery.make(0)?, lab.nursery.make(0)?];
    let save = |reply: &Reply| Args::plain(Op::SaveReply, reply.arg(), 0, 0, 0);
    for round in 0..3 {
        call(lab, &first, &server, round)?;
        receive(lab, &server, &first, round)?;
        expect_eq!(lab.run(&server, &save(&kept[0]))?.error(), None, "keeping the first");
        expect_eq!(lab.run(&server, &Args::new(Op::Reply))?.error(), Some(Error::Gone), "it is kept");
        call(lab, &second, &server, 10 + round)?;
        receive(lab, &server, &second, 10 + round)?;
        expect_eq!(lab.run(&server, &save(&kept[0]))?.error(), Some(Error::InUse), "keeping over another");
        expect_eq!(lab.run(&server, &save(&kept[1]))?.error(), None, "keeping the second");
        for (reply, client) in [(&kept[1], &second), (&kept[0], &first)] {
            lab.stays_blocked(client)?;
            let args = Args { rdi: reply.arg(), ..message(Op::Reply, NOBODY, 7, regs(7), 0) };
            expect_eq!(lab.run(&server, &args)?.error(), None, "answering a kept call");
            answered(lab, client, 7)?;
            expect_eq!(lab.run(&server, &args)?.error(), Some(Error::Gone), "answering it twice");
        }
    }
    Ok(())
}

fn nested_calls(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let mut chain = alloc::vec![setup.client(lab)?];
        for _ in 0..4 {
            chain.push(setup.server(lab)?);
            chain.push(setup.client(lab)?);
        }
        for (seed, pair) in (0..).zip(chain.windows(2)) {
            call(lab, &pair[0], &pair[1], seed)?;
            receive(lab, &pair[1], &pair[0], seed)?;
        }
        for (seed, pair) in (0..).zip(chain.windows(2)).collect::<Vec<_>>().into_iter().rev() {
            lab.stays_blocked(&pair[0])?;
            reply(lab, &pair[1], 100 + seed)?;
            answered(lab, &pair[0], 100 + seed)?;
        }
        Ok(())
    })
}

fn a_call_left_unanswered_is_gone(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        call(lab, &client, &server, 1)?;
        receive(lab, &server, &client, 1)?;
        // Receiving again without an answer drops the call.
        lab.ask(&server, &Args::new(Op::Recv))?;
        failed(lab, &client, Error::Gone, server.id)?;
        call(lab, &client, &server, 2)?;
        is_call_of(&lab.answer(&server)?, &server, &client, 2)?;
        reply(lab, &server, 3)?;
        answered(lab, &client, 3)
    })
}

fn suspended_server_queues(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        lab.ask(&server, &Args::new(Op::Recv))?;
        lab.stays_blocked(&server)?;
        server.task.suspend()?;
        lab.settle();
        call(lab, &client, &server, 5)?;
        lab.stays_blocked(&client)?;
        expect!(!lab.is_through(&server), "a suspended server received");
        server.task.resume()?;
        is_call_of(&lab.answer(&server)?, &server, &client, 5)?;
        reply(lab, &server, 6)?;
        answered(lab, &client, 6)
    })
}

fn suspended_caller_keeps_its_answer(lab: &mut Lab<'_>) -> Outcome {
    in_every_setup(lab, |lab, setup| {
        let (client, server) = (setup.client(lab)?, setup.server(lab)?);
        call(lab, &client, &server, 5)?;
        receive(lab, &server, &client, 5)?;
        client.task.suspend()?;
        lab.settle();
        reply(lab, &server, 6)?;
        lab.stays_blocked(&client)?;
        client.task.resume()?;
        answered(lab, &client, 6)
    })
}
