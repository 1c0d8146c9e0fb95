//! CPUs that are parked, and one that does not answer any more.

use abi::Error;
use alloc::vec::Vec;
use guest_tests::failure::Failure;
use guest_tests::run::Run as _;

use policy_core::orders::{Kind, Order, Verdict};
use test_abi::build;
use user_rt::spawn::own;
use user_rt::{arch, boot};

use crate::board::{Of, Total};
use crate::stage::Policy;
use crate::{Director, SLICE, without_budget, worker};

/// Ticks for which a CPU may owe a sign of life: so long that a busy host's CPUs all answer.
const LIMIT: u64 = 400_000_000;
/// How often CPUs are looked at.
const LOOKS: u64 = 20;
/// Ticks for which a CPU may owe a sign when it has just been asked.
const OWES: u64 = 100_000;

impl Director<'_> {
    /// Has the policy park the last CPU, and end that: the tasks there go on elsewhere, and none
    /// comes meanwhile.
    pub fn park_one(&mut self, policy: &Policy) -> Result<(), Failure> {
        let cpu = self.setup.cpus - 1;
        if cpu == 0 {
            return Ok(());
        }
        let refused = own::machine().park_cpu(cpu);
        if !matches!(&refused, Err(refusal) if refusal.error == Error::InUse) {
            self.complain(Total::Lost, format_args!("cpu{cpu} has tasks, and is parked: {refused:?}"));
        }
        self.expect(policy, Order::Park { cpu }, Verdict::Done)?;
        self.expect(policy, Order::Park { cpu }, Verdict::BadOrder)?;
        // The policy learns what others do.
        own::machine().unpark_cpu(cpu)?;
        self.expect(policy, Order::Park { cpu }, Verdict::Done)?;
        let work = self.work_done();
        for _ in 0..LOOKS {
            self.wait(SLICE)?;
            let state = own::machine().cpu_state(cpu, true)?;
            if !state.is_parked || state.tasks != 0 || state.owes_for > OWES {
                self.complain(Total::Lost, format_args!("cpu{cpu} was parked, and now: {state:?}"));
            }
        }
        // Those that take all the time that they can get went on, and not there.
        for (number, before) in work.into_iter().enumerate().filter(|_| self.setup.kind == Kind::Static) {
            let it = &self.board.workers[number];
            if it.get(Of::Done) == before || it.get(Of::Cpu) == cpu.into() {
                self.complain(Total::Stuck, format_args!("worker {number} does not go on elsewhere"));
            }
        }
        let comes = self.workers[0].task.move_to(cpu);
        if !matches!(&comes, Err(refusal) if refusal.error == Error::Parked) {
            self.complain(Total::Lost, format_args!("a task comes to cpu{cpu}, which is parked: {comes:?}"));
        }
        self.expect(policy, Order::Unpark { cpu }, Verdict::Done)?;
        self.expect(policy, Order::Unpark { cpu }, Verdict::BadOrder)?;
        self.workers[0].task.move_to(cpu)?;
        Ok(())
    }

    /// Returns how much each worker has done.
    pub fn work_done(&self) -> Vec<u64> {
        (0..self.workers.len()).map(|number| self.board.workers[number].get(Of::Done)).collect()
    }

    fn expect(&self, policy: &Policy, order: Order, wanted: Verdict) -> Result<(), Failure> {
        let (verdict, regs) = policy.order(order)?;
        if verdict != wanted {
            let what = format_args!("{order:?} is answered with {verdict:?} {regs:?}, not {wanted:?}");
            self.complain(Total::Lost, what);
        }
        Ok(())
    }

    /// Lets the last CPU stop in the kernel, for ever: the watchdog reports it, and the
    /// tasks of the other CPUs go on.
    pub fn run_hang(&mut self) -> Result<(), Failure> {
        let last = self.setup.cpus - 1;
        if last == 0 || !boot::has(build::ATTEMPTS) {
            self.complain(Total::Lost, format_args!("it takes two CPUs, and a kernel that stops one"));
            return Ok(());
        }
        for number in 0..self.setup.cpus {
            let entry = if number == last { worker::stopper } else { worker::greedy };
            let made = self.stage.worker(entry)?;
            self.workers.push(made);
        }
        let policy = self.stage.start(&self.workers)?;
        for number in 0..self.setup.cpus as u16 {
            self.manage(&policy, without_budget(number, false))?;
            self.workers[usize::from(number)].task.resume()?;
        }
        let watchdog = self.stage.watchdog(LIMIT)?;
        self.expect(&watchdog, Order::Park { cpu: last }, Verdict::BadOrder)?;
        self.look(&watchdog, 0, LIMIT)?;
        self.board.workers[last as usize].set(Of::Jobs, 1);
        // Asked up to a quarter before, and looked at up to a quarter after.
        self.await_silence(&watchdog, 1 << last)?;
        let before = self.work_done();
        self.look(&watchdog, 1 << last, LIMIT)?;
        for (cpu, (before, after)) in before.into_iter().zip(self.work_done()).enumerate() {
            let should = cpu != last as usize;
            if (after != before) != should {
                self.complain(
                    Total::Stuck,
                    format_args!("cpu{cpu} should go on: {should}, and it is not so"),
                );
            }
        }
        Ok(())
    }

    fn silent(&self, watchdog: &Policy) -> Result<u64, Failure> {
        Ok(watchdog.order(Order::Silent)?.1[0])
    }

    /// Complains if the silent CPUs are not `wanted`, for some time.
    fn look(&self, watchdog: &Policy, wanted: u64, ticks: u64) -> Result<(), Failure> {
        for _ in 0..LOOKS {
            self.wait(ticks / LOOKS)?;
            let silent = self.silent(watchdog)?;
            if silent != wanted {
                self.complain(Total::Lost, format_args!("CPUs {silent:#b} are silent, not {wanted:#b}"));
            }
            self.board.add(Total::Life, 1);
        }
        Ok(())
    }

    fn await_silence(&self, watchdog: &Policy, wanted: u64) -> Result<(), Failure> {
        let begin = arch::now();
        while self.silent(watchdog)? != wanted {
            if arch::now() - begin > 4 * LIMIT {
                self.complain(Total::Lost, format_args!("nobody notices that CPUs {wanted:#b} are silent"));
                break;
            }
            self.wait(LIMIT / LOOKS)?;
            self.board.add(Total::Life, 1);
        }
        Ok(())
    }
}
