//! Lets an unprivileged program attack others, and shows what that costs them.
//!
//! Options: `attack=` (its name), `place=other` (the attackers have all CPUs but the victims') or
//! `place=own` (they have the victims' CPU), `ms=` (how long the attack lasts).
//!
//! Each boot has one attack. First every [victim](crate::victims) works undisturbed for a moment,
//! while programs run on the other CPUs. Then the [`attackers`] start, and every victim works
//! beside them. At the end no victim works, and the CPU does nothing except for the attack. All the
//! while a task of priority 200 sleeps and wakes. The TCG plugin counts ([`perf::mark`]). The
//! program reports what only it can know:
//! `hostile name=… place=… alive=… escapes=… late=… interrupts=…`.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod attackers;
mod attacks;
mod lab;
mod victims;
mod words;

use core::fmt;

use abi::Counter;
use perf::mark::{STRETCHES, mark};
use user_rt::cap::{Handle, SchedContext};
use user_rt::layout::slot;
use user_rt::spawn::SpawnError;
use user_rt::spawn::own;
use user_rt::{arch, boot, report, supervisor};

use attackers::ATTACKER_PRIORITY;
use attacks::{ATTACKS, Attack};
use lab::{Lab, VICTIM_CPU};
use victims::Victims;
use words::Word;

user_rt::program!(begin);

/// How long each victim works undisturbed: so long, and this part of the attack's time.
const QUIET_MS: u64 = 40;
const QUIET_PART: u64 = 20;
/// How long the attackers have to prepare themselves before they count, at most.
const PATIENCE_MS: u64 = 20_000;
/// How long a victim works, and then rests, where the attackers need its CPU.
const BURST_MS: u64 = 2;
/// The priority of this task: above the victims, whose turns it begins, and below the task that
/// must wake in time.
const DIRECTOR_PRIORITY: u8 = 180;

/// Why there is no result.
pub enum Failure {
    Image,
    Spawn(SpawnError),
    Refused(&'static str, user_rt::Refusal),
    NoAttack,
    NoCpu,
    NoDevice,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Image => f.write_str("its own file is no program"),
            Failure::Spawn(error) => error.fmt(f),
            Failure::Refused(step, refusal) => write!(f, "{step}: {refusal}"),
            Failure::NoAttack => f.write_str("attack= names no attack"),
            Failure::NoDevice => f.write_str("the machine has no device to attack with"),
            Failure::NoCpu => f.write_str("place=other needs a second CPU"),
        }
    }
}

pub fn at<T>(step: &'static str, result: user_rt::Result<T>) -> Result<T, Failure> {
    result.map_err(|refusal| Failure::Refused(step, refusal))
}

fn begin(_: u64) -> ! {
    if let Err(failure) = run() {
        report!("error hostile: {failure}");
        supervisor::finish(0, 1)
    }
    supervisor::finish(1, 0)
}

fn run() -> Result<(), Failure> {
    at("taking a lower priority", SchedContext::at(slot::SCHED).configure(DIRECTOR_PRIORITY, u64::MAX))?;
    let name = boot::options().value("attack").unwrap_or_default();
    let place = ATTACKS.iter().position(|attack| attack.name == name).ok_or(Failure::NoAttack)?;
    let attack = &ATTACKS[place];
    let is_own = boot::options().value("place") == Some("own");
    let cpus = boot::facts().cpus.min(64);
    let others = u64::MAX >> (64 - cpus) & !(1 << VICTIM_CPU);
    let attackers_cpus = if is_own { 1 << VICTIM_CPU } else { others };
    if attackers_cpus == 0 {
        return Err(Failure::NoCpu);
    }
    let mut lab = Lab::new()?;
    Word::Attack.set(place as u64);
    Word::Cpus.set(attackers_cpus);
    if is_own {
        Word::Burst.set(lab.hz / 1000 * BURST_MS);
    }
    let victims = Victims::new(&mut lab)?;
    if is_own {
        let keeper = lab.task(&victims.looping, VICTIM_CPU, 0, victims::keeper, 0)?;
        at("starting the clock's keeper", keeper.task.resume())?;
    }
    if !is_own {
        victims::start_bystanders(&mut lab, others)?;
    }
    let _ = each_victim(&lab, &victims, lab.hz / 1000 * (QUIET_MS + milliseconds() / QUIET_PART));
    start(&mut lab, &victims, attackers_cpus)?;
    endure(&mut lab, &victims, attack, is_own)
}

/// Returns how long the attack lasts.
fn milliseconds() -> u64 {
    boot::options().number("ms", 5000).unwrap_or(5000)
}

/// Lets each victim work for so many ticks, one after the other. Returns the largest part of that
/// time that interrupts took by the kernel's own account, in hundredths of a percent.
fn each_victim(lab: &Lab, victims: &Victims, ticks: u64) -> u64 {
    let account = || own::machine().counter(VICTIM_CPU, Counter::InterruptTicks).unwrap_or(0);
    let mut most = 0;
    for victim in 1..=victims::COUNT {
        report!("progress victim {victim} of {}", victims::COUNT);
        let (began, before) = (arch::now(), account());
        victims.give_turn(victim);
        lab.sleep(ticks);
        most = most.max((account() - before) * 10_000 / (arch::now() - began).max(1));
    }
    victims.give_turn(0);
    // So that the last one ends its window.
    lab.sleep(lab.hz / 1000);
    most
}

/// Starts the attackers, and waits until they are through their preparations.
fn start(lab: &mut Lab, victims: &Victims, cpus: u64) -> Result<(), Failure> {
    let child = lab.attackers(cpus, victims)?;
    let cpu = cpus.trailing_zeros();
    let first = lab.task(&child, cpu, ATTACKER_PRIORITY, attackers::begin, 0)?;
    mark::<STRETCHES, 1>();
    at("starting the attackers", first.task.resume())?;
    for _ in 0..PATIENCE_MS {
        if Word::Alive.get() > 0 {
            break;
        }
        lab.sleep(lab.hz / 1000);
    }
    Ok(())
}

/// Lets the victims work beside the attack, and reports what it came to.
fn endure(lab: &mut Lab, victims: &Victims, attack: &Attack, is_own: bool) -> Result<(), Failure> {
    let ticks = lab.hz / 1000 * milliseconds() / (victims::COUNT + 1);
    let before = Word::Alive.get();
    Word::Loud.set(1);
    let interrupts = each_victim(lab, victims, ticks);
    lab.sleep(ticks);
    let alive = Word::Alive.get() - before;
    Word::Loud.set(0);
    mark::<STRETCHES, 0>();
    let mut escapes = Word::Escapes.get();
    if !victims::can_make_process(lab) {
        report!("note hostile: no program can make a process any more");
        escapes += 1;
    }
    report!(
        "hostile name={} place={} alive={alive} escapes={escapes} granted={} refused={} late={} \
         answered={} interrupts={interrupts}",
        attack.name,
        if is_own { "own" } else { "other" },
        Word::Granted.get(),
        Word::Refused.get(),
        Word::Late.get(),
        Word::Answered.get()
    );
    Ok(())
}
