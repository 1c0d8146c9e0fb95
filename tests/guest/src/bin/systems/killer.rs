//! Kills the processes of its system at random, and sees that they come back: `count=N` kills,
//! drawn by `seed=N`.
//!
//! Before each kill of a server at least 20 requests to it are answered, and another task of this
//! process has one that the server is in the middle of: that one fails, and its client is told.
//! Then the next request, by a new connection, has to be answered by a new process. A pager ends
//! while its client is in the middle of one, and all of that one's memory comes from the pager.
//! Scheduling policy and log answer immediately, so nothing is in their middle for long.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};

use abi::level::Level;
use oorandom::Rand32;
use policy_core::orders::{Order, Verdict};
use protocols::log;
use protocols::manager::{Client, State};
use user_rt::cap::{Group, Handle, Notification};
use user_rt::console::Console;
use user_rt::ipc::{Message, Patience};
use user_rt::journal::Journal;
use user_rt::names::{AskError, Service};
use user_rt::spawn::{Home, Nursery, Run, TaskSpec, own, task};
use user_rt::supervisor::to_parent;
use user_rt::talk::Line;
use user_rt::{arch, boot, heap, report, supervisor};

use crate::asker::supply_heap;
use crate::servers::{Counted, HELD, reconnect, sleep, slot};

/// Requests that are answered before a kill, at least.
const ANSWERED: u32 = 20;
/// Kills whose times fit in a page of the heap.
const KILLS_A_PAGE: u64 = 64;
/// Seconds after which a process that was killed is stuck.
const PATIENCE_S: u64 = 20;
/// The longest time between the request that is not answered and the kill, in microseconds.
const IN_THE_MIDDLE_US: u32 = 300;

/// What the other task does: nothing; call the counter in this slot; read from the console there.
const IDLE: u32 = 0;
const CALLS: u32 = 1 << 16;
const READS: u32 = 2 << 16;
/// It is about to make its request.
const ASKS: u32 = 1;
/// Its request was answered; it failed because the server died that had it; it failed otherwise.
const ANSWERED_IT: u32 = 2;
const FAILED: u32 = 3;
const WRONG: u32 = 4;

static WANTED: AtomicU32 = AtomicU32::new(IDLE);
static STATE: AtomicU32 = AtomicU32::new(IDLE);
/// The error of a request that failed otherwise.
static ERROR: AtomicU64 = AtomicU64::new(0);

/// A process that is killed.
enum Target {
    Counter(Counted, &'static str),
    Console(Console),
    /// The pager of a counter, which ends with it.
    Pager(Counted),
    /// These have answered each request by the time that the next one is made.
    Policy(Service),
    Log(Journal),
    /// Nobody asks it for anything.
    Client(&'static str),
}

impl Target {
    const fn name(&self) -> &'static str {
        match self {
            Target::Counter(_, name) | Target::Client(name) => name,
            Target::Console(_) => "serial",
            Target::Pager(_) => "pager",
            Target::Policy(_) => "policy",
            Target::Log(_) => "log",
        }
    }

    /// Makes a request, and repeats it if the server was started again.
    fn ask(&mut self) {
        match self {
            Target::Counter(counter, _) | Target::Pager(counter) => counter.count_or_reconnect(),
            Target::Console(console) => console.write(b".").expect("the console takes a byte"),
            Target::Policy(policy) => ask_for_report(policy),
            Target::Log(journal) => write_and_read(journal),
            Target::Client(_) => {}
        }
    }

    /// Returns the request that the other task makes, of which the server is in the middle when it
    /// is killed.
    fn request(&mut self) -> u32 {
        match self {
            Target::Counter(counter, _) | Target::Pager(counter) => CALLS | slot_of(counter.service()),
            Target::Console(_) => READS | slot(2).0,
            Target::Policy(_) | Target::Log(_) | Target::Client(_) => IDLE,
        }
    }
}

/// Asks a policy what it has done.
fn ask_for_report(policy: &mut Service) {
    let (label, regs) = Order::Report.words();
    loop {
        let until = Patience::Until(arch::now() + PATIENCE_S * boot::facts().tsc_hz);
        match policy.server(0).call_within(&Message { label, regs, ..Message::default() }, until) {
            Ok(answer) => return assert_eq!(answer.label, Verdict::Done as u32, "what the policy answers"),
            Err(refusal) => reconnect(policy, &refusal),
        }
    }
}

/// Writes a line to a log, and asks for it.
fn write_and_read(journal: &mut Journal) {
    let (number, lost) = (arch::now(), journal.lost());
    journal.write(Level::Info, format_args!("{number}")).expect("the log takes a line");
    // A log that begins may not take it yet.
    if journal.lost() != lost {
        return;
    }
    let until = arch::now() + PATIENCE_S * boot::facts().tsc_hz;
    loop {
        let line = journal.service().ask(|log| {
            log::Client(log).read(
                |mut read| {
                    read.set_last(1);
                    read.set_level(u8::MAX);
                },
                |line| Ok(str::from_utf8(line.get_text()?).is_ok_and(|text| text.parse() == Ok(number))),
            )
        });
        match line {
            Ok(true) => return,
            // It has not read its pool yet.
            Ok(false) | Err(AskError::Refused(log::Refusal::NoMore)) => {}
            Err(error) => panic!("stuck: reading the log: {error:?}"),
        }
        assert!(arch::now() < until, "lost: a line of the log");
    }
}

struct Killer {
    random: Rand32,
    /// The bell of the other task.
    bell: Notification,
    /// On which nobody rings.
    rest: Notification,
    /// Requests that a server was in the middle of when it was killed, and kills of servers.
    in_the_middle: u64,
    servers: u64,
    killed: u64,
    recovered: u64,
    /// Ticks from each kill to the next request that was answered: of the driver, of others.
    took: [Vec<u64>; 2],
}

/// Kills `count=` times, and ends the system with the verdict.
pub fn kill() -> ! {
    let option = |key, default| boot::options().number(key, default).unwrap_or(default);
    let (seed, count) = (option("seed", 1), option("count", 20));
    let mut nursery = supply_heap();
    // The times of all kills, and a copy of them while their room grows.
    let pages = count.div_ceil(KILLS_A_PAGE) as u32;
    heap::add(&own::vspace(), &mut nursery, pages).expect("memory for the times");
    let mut targets = [
        Target::Counter(Counted::connect("counter", slot(0)), "counter"),
        Target::Counter(Counted::connect("ledger", slot(1)), "ledger"),
        Target::Console(Console::connect("console", slot(2)).expect("a console")),
        Target::Pager(Counted::connect("hoard", slot(3))),
        Target::Policy(Service::connect("policy", slot(4)).expect("a policy")),
        Target::Log(Journal::connect("log", slot(5)).expect("a log")),
        Target::Client("load"),
        Target::Client("load-too"),
    ];
    let bell: Notification = nursery.make(0).expect("a Notification");
    let mut killer = Killer {
        random: Rand32::new(seed),
        rest: nursery.make(0).expect("a Notification"),
        bell: Notification::at(bell.cap()),
        in_the_middle: 0,
        servers: 0,
        killed: 0,
        recovered: 0,
        took: [Vec::new(), Vec::new()],
    };
    start_other(&mut nursery, &bell);
    for _ in 0..count {
        let which = killer.random.rand_range(0..targets.len() as u32);
        killer.round(&mut targets[which as usize]);
    }
    killer.tell(seed);
    let all_back = killer.killed == count && killer.recovered == count && leaked() == 0;
    let all_back = all_back && killer.in_the_middle == killer.servers;
    supervisor::finish(u64::from(all_back), u64::from(!all_back))
}

impl Killer {
    fn round(&mut self, target: &mut Target) {
        (0..ANSWERED).for_each(|_| target.ask());
        let request = target.request();
        let starts = starts(target.name());
        if request != IDLE {
            self.begin(request);
        }
        let begun = arch::now();
        let killed = parent().kill(|mut kill| kill.set_name(target.name()));
        killed.unwrap_or_else(|error| panic!("killing {}: {error:?}", target.name()));
        self.killed += 1;
        self.servers += u64::from(request != IDLE);
        if request != IDLE {
            self.end();
        }
        target.ask();
        self.await_start(target.name(), starts);
        self.took[usize::from(!matches!(target, Target::Console(_)))].push(arch::now() - begun);
        let now = self::starts(target.name());
        assert_eq!(now, starts + 1, "starts of {}", target.name());
        self.recovered += 1;
    }

    /// Lets the other task make a request, and returns when the server is in the middle of it.
    fn begin(&mut self, request: u32) {
        STATE.store(IDLE, Relaxed);
        WANTED.store(request, Release);
        self.bell.notify(1).expect("the other task's bell");
        self.wait_for(|state| state != IDLE, "does not begin");
        let pause = self.random.rand_range(50..IN_THE_MIDDLE_US);
        sleep(&self.rest, u64::from(pause) * boot::facts().tsc_hz / 1_000_000);
    }

    /// Waits until the other task's request is over.
    fn end(&mut self) {
        self.wait_for(|state| state >= ANSWERED_IT, "is stuck in its request");
        let state = STATE.load(Acquire);
        assert_ne!(state, WRONG, "lost: the request failed with {:#x}", ERROR.load(Relaxed));
        self.in_the_middle += u64::from(state == FAILED);
    }

    fn wait_for(&self, is: impl Fn(u32) -> bool, otherwise: &str) {
        let until = arch::now() + PATIENCE_S * boot::facts().tsc_hz;
        while !is(STATE.load(Acquire)) {
            assert!(arch::now() < until, "stuck: the other task {otherwise}");
            sleep(&self.rest, boot::facts().tsc_hz / 20_000);
        }
    }

    /// Waits until a process has been started again.
    fn await_start(&self, name: &str, before: u32) {
        let until = arch::now() + PATIENCE_S * boot::facts().tsc_hz;
        while starts(name) == before {
            assert!(arch::now() < until, "stuck: {name} is not started again");
            sleep(&self.rest, boot::facts().tsc_hz / 10_000);
        }
    }

    fn tell(&mut self, seed: u64) {
        let [driver, others] = &mut self.took;
        let [d50, d99, dmax] = figures(driver);
        let [p50, p99, max] = figures(others);
        report!(
            "restarts seed={seed} killed={} servers={} middle={} recovered={} leaked={} d50={d50} d99={d99} dmax={dmax} \
             p50={p50} p99={p99} max={max}",
            self.killed,
            self.servers,
            self.in_the_middle,
            self.recovered,
            leaked(),
        );
    }
}

/// Returns the median of figures, what 99 % of them do not exceed, and the largest.
fn figures(of: &mut [u64]) -> [u64; 3] {
    of.sort_unstable();
    let at = |permille: usize| {
        let place = (of.len() * permille).div_ceil(1_000).saturating_sub(1);
        of.get(place).copied().unwrap_or(0)
    };
    [at(500), at(990), at(1_000)]
}

fn parent() -> Client<Line> {
    Client(to_parent())
}

/// Returns how many objects process 1 has made of its own memory since the system began.
pub fn leaked() -> u64 {
    parent().machine(|told| Ok(told.get_leaked())).expect("what process 1 knows of leaks")
}

/// Returns how often a process was started. It runs, or process 1 has begun to start it.
pub fn starts(name: &str) -> u32 {
    for place in 0.. {
        let told = parent().process(
            |mut asked| asked.set_place(place),
            |told| {
                let it = told.get_process()?;
                let is_it = it.get_name()?.to_str().is_ok_and(|its| its == name);
                Ok((is_it, it.get_starts(), it.get_state()?))
            },
        );
        match told {
            Ok((true, _, State::Ended)) => panic!("stuck: {name} has ended"),
            Ok((true, starts, _)) => return starts,
            Ok(_) => {}
            Err(error) => panic!("asking for {name}: {error:?}"),
        }
    }
    0
}

fn slot_of(service: &Service) -> u32 {
    service.group().cap().0
}

/// Starts the task that makes requests which are not answered.
fn start_other(nursery: &mut Nursery, bell: &Notification) {
    let spec = TaskSpec {
        index: 1,
        cpu: 0,
        priority: PRIORITY,
        stack_pages: 4,
        run: Run::Function(ask),
        argument: bell.cap().0.into(),
    };
    let other = Home::own(|home| task(nursery, home, &spec)).expect("another task");
    other.task.resume().expect("another task that runs");
}

/// The priority of the other task: that of the description.
const PRIORITY: u8 = 100;

extern "C" fn ask(bell: u64) -> ! {
    let bell = Notification::at(abi::Cap(bell as u32));
    loop {
        let _ = bell.wait();
        let wanted = WANTED.load(Acquire);
        let server = Group::at(abi::Cap(wanted & 0xffff)).exposure(0);
        STATE.store(ASKS, Release);
        let asked = match wanted & !0xffff {
            CALLS => server.call(&Message { label: HELD, ..Message::default() }).map(|_| ()),
            READS => {
                let console = protocols::console::Client(Line::to(server));
                match console.read(|mut read| read.set_most(1), |_| Ok(())) {
                    Err(protocols::Failure::Transport(refusal)) => Err(refusal),
                    other => other.map_err(|_| user_rt::Refusal::local(abi::Error::BadArgument, 0)),
                }
            }
            _ => continue,
        };
        let state = match asked {
            Ok(()) => ANSWERED_IT,
            // It names who has died: the server had the request.
            Err(refusal) if refusal.error == abi::Error::Dead => FAILED,
            Err(refusal) => {
                ERROR.store(refusal.error as u64, Relaxed);
                WRONG
            }
        };
        STATE.store(state, Release);
    }
}
