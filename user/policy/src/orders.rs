//! What managers ask of a policy: calls whose words are all in registers.
//!
//! Before a manager starts a policy, it copies the capabilities of its tasks into the policy's
//! CSpace, at the [`slots`] of their numbers.

use abi::Cap;

use crate::{CPUS_MAX, TASKS_MAX};

/// The first slot of the capabilities of tasks.
const FIRST_SLOT: u32 = 1024;
/// The member's exposure in the policy's group where it listens.
pub const POLICY: u32 = 0;

/// Returns where the policy has the capabilities of the task with this number, and of the task's
/// SchedContext.
pub const fn slots(number: u16) -> (Cap, Cap) {
    let first = FIRST_SLOT + 2 * number as u32;
    (Cap(first), Cap(first + 1))
}

/// Which policy a process follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Static = 0,
    Balance = 1,
    Edf = 2,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Static, Kind::Balance, Kind::Edf];

    /// Returns the policy's name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Static => "static",
            Kind::Balance => "balance",
            Kind::Edf => "edf",
        }
    }

    pub fn of_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a process of the program is: the argument of its first task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Policy(Setup),
    Watchdog(Watch),
}

/// How a watchdog is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    /// It watches the CPUs with lower numbers.
    pub cpus: u32,
    /// TSC ticks for which a CPU may owe a sign of life: rounded down to multiples of 1,024, and
    /// below 2^48.
    pub limit: u64,
}

const WATCHDOG: u64 = 1 << 63;
const WATCH_SHIFT: u32 = 8;
const LIMIT_LOG2: u32 = 10;
const LIMIT_MAX: u64 = (1 << 38) - 1;

impl Role {
    pub const fn argument(self) -> u64 {
        match self {
            Role::Policy(setup) => setup.argument(),
            Role::Watchdog(Watch { cpus, limit }) => {
                let limit = limit >> LIMIT_LOG2;
                let limit = if limit < LIMIT_MAX { limit } else { LIMIT_MAX };
                WATCHDOG | limit << WATCH_SHIFT | cpus as u8 as u64
            }
        }
    }

    /// Returns what [`Role::argument`] says.
    pub fn of_argument(argument: u64) -> Role {
        if argument & WATCHDOG == 0 {
            return Role::Policy(Setup::of_argument(argument));
        }
        let cpus = u32::from(argument as u8).clamp(1, CPUS_MAX as u32);
        let limit = ((argument & !WATCHDOG) >> WATCH_SHIFT & LIMIT_MAX) << LIMIT_LOG2;
        Role::Watchdog(Watch { cpus, limit })
    }
}

/// How a policy is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    pub kind: Kind,
    /// It manages the CPUs with lower numbers.
    pub cpus: u32,
    /// How much of each CPU it promises to tasks with deadlines, in thousandths.
    pub capacity: u32,
}

impl Setup {
    pub const fn argument(self) -> u64 {
        let capacity = if self.capacity < 1_000 { self.capacity } else { 1_000 };
        self.kind as u64 | (self.cpus as u64) << 8 | (capacity as u64) << 32
    }

    /// Returns what [`Setup::argument`] says. Unknown kinds are static.
    pub fn of_argument(argument: u64) -> Setup {
        let kind = Kind::ALL.get(argument as u8 as usize).copied().unwrap_or(Kind::Static);
        let cpus = ((argument >> 8) as u32 & 0xff_ffff).clamp(1, CPUS_MAX as u32);
        Setup { kind, cpus, capacity: (argument >> 32) as u32 }
    }
}

/// How a task is to be scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    pub number: u16,
    /// Its priority. With deadlines, the lowest one, and the same for all tasks.
    pub priority: u8,
    /// The task has run already: it stays where it is.
    pub stays: bool,
    /// In TSC ticks; not 0.
    pub slice: u64,
    /// TSC ticks that it needs in each period, and the period; 0: no budget.
    pub budget: u64,
    pub period: u64,
}

/// An order of a manager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Place a task, and manage it from now on.
    Manage(Wish),
    /// Manage a task no more.
    Forget { number: u16 },
    /// Say what was done so far: the answer has the number of moves, that of settings, the ticks
    /// for which the CPU has idled that did so longest, and the number of rescans.
    Report,
    /// Move the tasks that are managed away from a CPU, and park it.
    Park { cpu: u32 },
    /// Let a parked CPU take tasks again.
    Unpark { cpu: u32 },
    /// To the watchdog: say which CPUs are silent. The answer has a bit for each.
    Silent,
}

/// What a policy answers: a label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Verdict {
    /// Done. For a task: the first register has the CPU.
    Done = 0,
    /// There is no such order or number, or a task cannot be managed so.
    BadOrder = 1,
    /// No CPU has so much time left, or a level for one more task.
    Overload = 2,
    /// The kernel has refused a step; the first register has its error.
    Refused = 3,
}

impl Verdict {
    pub fn from_label(label: u32) -> Verdict {
        let all = [Verdict::Done, Verdict::Overload, Verdict::Refused];
        all.into_iter().find(|verdict| *verdict as u32 == label).unwrap_or(Verdict::BadOrder)
    }
}

const MANAGE: u32 = 1;
const FORGET: u32 = 2;
const REPORT: u32 = 3;
const PARK: u32 = 4;
const UNPARK: u32 = 5;
const SILENT: u32 = 6;
const STAYS: u64 = 1 << 32;

impl Order {
    /// Returns the label and the registers of the call.
    pub const fn words(self) -> (u32, [u64; 4]) {
        match self {
            Order::Manage(Wish { number, priority, stays, slice, budget, period }) => {
                let stays = if stays { STAYS } else { 0 };
                (MANAGE, [number as u64 | (priority as u64) << 16 | stays, slice, budget, period])
            }
            Order::Forget { number } => (FORGET, [number as u64, 0, 0, 0]),
            Order::Report => (REPORT, [0; 4]),
            Order::Park { cpu } => (PARK, [cpu as u64, 0, 0, 0]),
            Order::Unpark { cpu } => (UNPARK, [cpu as u64, 0, 0, 0]),
            Order::Silent => (SILENT, [0; 4]),
        }
    }

    /// Returns the order of a call, or `None` if it is none.
    pub fn of_words(label: u32, [first, slice, budget, period]: [u64; 4]) -> Option<Order> {
        let number = first as u16;
        let is_task = usize::from(number) < TASKS_MAX;
        let cpu = u32::try_from(first).ok().filter(|cpu| *cpu < CPUS_MAX as u32);
        match label {
            MANAGE if is_task => {
                let (priority, stays) = ((first >> 16) as u8, first & STAYS != 0);
                Some(Order::Manage(Wish { number, priority, stays, slice, budget, period }))
            }
            FORGET if is_task => Some(Order::Forget { number }),
            REPORT => Some(Order::Report),
            PARK => cpu.map(|cpu| Order::Park { cpu }),
            UNPARK => cpu.map(|cpu| Order::Unpark { cpu }),
            SILENT => Some(Order::Silent),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_given() {
        let wish = Wish { number: 127, priority: 200, stays: true, slice: 1, budget: 2, period: u64::MAX };
        for order in [
            Order::Manage(wish),
            Order::Forget { number: 3 },
            Order::Report,
            Order::Park { cpu: 63 },
            Order::Unpark { cpu: 0 },
            Order::Silent,
        ] {
            let (label, words) = order.words();
            assert_eq!(Order::of_words(label, words), Some(order));
        }
        assert_eq!(Order::of_words(9, [0; 4]), None);
        assert_eq!(Order::of_words(FORGET, [TASKS_MAX as u64, 0, 0, 0]), None);
        assert_eq!(Order::of_words(PARK, [1 << 32, 0, 0, 0]), None, "there is no such CPU");
    }

    #[test]
    fn a_setup_is_an_argument() {
        let setup = Setup { kind: Kind::Edf, cpus: 4, capacity: 950 };
        assert_eq!(Setup::of_argument(setup.argument()), setup);
        assert_eq!(Setup::of_argument(0).cpus, 1);
        let watch = Role::Watchdog(Watch { cpus: 64, limit: 5 << 30 });
        for role in [Role::Policy(setup), watch] {
            assert_eq!(Role::of_argument(role.argument()), role);
        }
        let long = Role::Watchdog(Watch { cpus: 3, limit: u64::MAX }).argument();
        assert_eq!(
            Role::of_argument(long),
            Role::Watchdog(Watch { cpus: 3, limit: LIMIT_MAX << LIMIT_LOG2 })
        );
        assert!(Kind::ALL.iter().all(|kind| Kind::of_name(kind.name()) == Some(*kind)));
    }
}
