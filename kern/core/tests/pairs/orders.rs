//! The result of two operations at the same time must be the result of one after the other, in
//! either order, or with the first between the two system calls of the second, if that makes two.
//! If one is refused because of the other, it must be the result of the other alone.
//!
//! Each answer and each fact is compared by itself: one fact may be as in one order, and another
//! fact as in the other order. If a [`PARTIAL`] operation is refused, its results are not compared.

use abi::Error;

use crate::facts::{Facts, MEMORY, Name, REGISTERS, said};
use crate::play::{Case, Outcome, WAYS, one_behind_the_other};

/// What was answered, or in which state the caller is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Said {
    #[default]
    Done,
    Refused(Error),
    /// It waits, or is gone.
    Silent(kern_base::task::State),
}

/// Operations that may be refused when a part is done, by the beginnings of their names.
const PARTIAL: [&str; 9] = [
    "CapDelete",
    "CapRevoke",
    "UntypedReset",
    "ProcessKill",
    "Unmap",
    "Protect",
    "Retype into table",
    "make in child",
    "Broadcast",
];

/// Pairs of operations of which more can come than of any order, and why that is right.
const MORE: [(&str, &str, &str); 22] = [
    (
        "TaskMove server",
        "Reply with pages",
        "a receive after a reply leaves the next caller's pages to another entry, and until then it moves",
    ),
    ("CapRevoke", "CapDelete", "what is deleted meanwhile is revoked no further"),
    ("Retype into table", "Retype ", "the objects of one Retype have memory of others between them"),
    ("AuditStart", "AuditRead", "the rings of CPUs come one after the other"),
    ("CapRevoke", "CapMove", "what is moved away meanwhile is revoked no further"),
    ("CapDelete", "CapMove", "what is moved away meanwhile is not deleted, and keeps what is left"),
    (
        "ProcessKill",
        "CapDelete client process",
        "a process that has ended names no groups that expose its tasks",
    ),
    (
        "ProcessKill",
        "CapDelete server process",
        "a process that has ended names no groups that expose its tasks",
    ),
    (
        "ProcessKill",
        "CapRevoke group",
        "a process that ends leaves its tasks exposed where it can name the group no more",
    ),
    ("ProcessKill", "Expose watcher", "a watcher is told of each member that leaves from then on"),
    ("answer the fault: TearDown", "Expose watcher", "the same"),
    (
        "CapDelete server process",
        "Expose watcher",
        "the same: the process of a fault that it handled leaves after it",
    ),
    ("PageCopy", "PageCopy", "both find that the other space sees the page, and neither keeps it"),
    (
        "PageCopy",
        "TaskKill of whoever does it",
        "the page is replaced, and waits for CPUs to forget the old one",
    ),
    (
        "CapDelete client cnode",
        "Reply with capabilities",
        "a caller whose CSpace is ending takes nothing, and a reply does not wait for that end",
    ),
    (
        "share views of one page",
        "Reply with pages",
        "a page that has too many mappings for a moment stays with who replies",
    ),
    ("copy views of one page on write", "Reply with pages", "the same"),
    (
        "TaskCancel server",
        "Reply with pages",
        "a receive after a reply leaves the next caller's pages to another entry, and a cancel ends that wait",
    ),
    (
        "share pooled",
        "move pooled",
        "a page that another message is about to share moves as it is: no longer writable",
    ),
    ("copy pooled on write", "move pooled", "the same"),
    ("TaskResume fresh", "TaskSuspend fresh", "a task that is suspended again at once does not move first"),
    (
        "TaskSuspend server",
        "Reply with pages",
        "a receive after a reply leaves the next caller's pages to another entry; a task that is suspended \
         until then receives when it is resumed",
    ),
];

/// Whether an operation has steps between which others see a part of it.
fn takes_steps(name: &str) -> bool {
    PARTIAL.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether an operation answers the state that it has found, which others may just be changing: the
/// contents, a free place, or what keeps a task.
fn tells(name: &str) -> bool {
    ["CapVerify", "CapInspect", "CapList", "GroupMember", "AuditRead", "GroupAdd", "TaskMove"]
        .iter()
        .any(|beginning| name.starts_with(beginning))
}

/// Whether an operation can be refused so because another one is under way.
fn by_the_other(said: Said, other: &str) -> bool {
    use Error::{BadAddress, BadState, Dead, Dying, Gone, InUse, NoCapability, NoExposure, NoPage, NoPool};
    use Error::{Full, NotMember, SlotOccupied, WrongCpu};
    match said {
        Said::Refused(Error::Cancelled) => other.starts_with("TaskCancel"),
        Said::Refused(error) => matches!(
            error,
            BadAddress
                | BadState
                | Dead
                | Dying
                | Full
                | Gone
                | InUse
                | NoCapability
                | NoExposure
                | NoPage
                | NoPool
                | NotMember
                | SlotOccupied
                | WrongCpu
        ),
        Said::Silent(_) => true,
        Said::Done => false,
    }
}

/// The results of two operations one after the other, and of each alone, played on request.
pub struct Orders<'a> {
    case: Case<'a>,
    /// By [`Way`].
    played: [Option<Outcome>; WAYS.len()],
}

/// The ways to play that are asked first: without mail in between.
const FIRST: usize = 2;
/// At the end of [`WAYS`], the ways to play one of the two alone.
const ALONE: usize = 2;

impl<'a> Orders<'a> {
    pub fn new(case: &Case<'a>) -> Orders<'a> {
        Orders { case: Case { third: None, at: None, entries: None, ..*case }, played: Default::default() }
    }

    /// Says what is wrong about an outcome, if something is.
    pub fn judge(&mut self, outcome: &Outcome) -> Result<(), String> {
        self.judge_by(outcome, FIRST).or_else(|_| self.judge_by(outcome, WAYS.len()))
    }

    fn judge_by(&mut self, outcome: &Outcome, count: usize) -> Result<(), String> {
        for (way, played) in WAYS.into_iter().zip(&mut self.played).take(count) {
            if played.is_none() && way.fits(&self.case) {
                *played = Some(one_behind_the_other(&self.case, way)?);
            }
        }
        let (orders, alone) = self.played.split_at(WAYS.len() - ALONE);
        let orders: Vec<&Outcome> = orders.iter().flatten().collect();
        let alone: Vec<&Outcome> = alone.iter().flatten().collect();
        let names = [Some(self.case.first), self.case.second].map(|deed| deed.map_or("", |deed| deed.name));
        judge(names, outcome, &orders, &alone)
    }
}

/// Judges a result. `alone`: the result of each alone, if that is known.
fn judge(names: [&str; 2], this: &Outcome, orders: &[&Outcome], alone: &[&Outcome]) -> Result<(), String> {
    let known = [0, 1].map(|n: usize| orders.iter().any(|order| order.said[n] == this.said[n]));
    // Between the steps of the other there may be what is in no order.
    let is_between = |n: usize| takes_steps(names[1 - n]);
    if (0..2).any(|n| !known[n] && this.said[n] == Said::Done && is_between(n)) {
        return Ok(());
    }
    if let Some(n) = (0..2).find(|n| !known[*n] && !by_the_other(this.said[*n], names[1 - *n])) {
        let said: Vec<Said> = orders.iter().map(|order| order.said[n]).collect();
        return Err(format!("{} was answered {:?}, in order {said:?}", names[n], this.said[n]));
    }
    let is_one =
        |[one, other]: [&str; 2]| MORE.iter().any(|(a, b, _)| one.starts_with(a) && other.starts_with(b));
    let is_known = is_one(names) || is_one([names[1], names[0]]);
    let both = |said: [Said; 2]| said == [Said::Done; 2];
    if both(this.said) && !is_known && !orders.iter().any(|order| both(order.said)) {
        let said: Vec<[Said; 2]> = orders.iter().map(|order| order.said).collect();
        return Err(format!("both are done, in order they were answered {said:?}"));
    }
    if let Some(what) = this.half_dead.filter(|_| !is_known) {
        return Err(format!("all is over, and a {what} is dying and not dead"));
    }
    let is_partial = |n: usize| this.said[n] != Said::Done && takes_steps(names[n]);
    if this.kept || is_partial(0) || is_partial(1) || is_known {
        return Ok(());
    }
    let mut like: Vec<&Facts> = orders.iter().map(|order| &order.facts).collect();
    // Who was refused because of the other has done nothing.
    let refused = |n: usize| !known[n] || !orders.iter().any(|order| order.said == this.said);
    alone.iter().enumerate().filter(|(n, _)| refused(1 - n)).for_each(|(_, alone)| like.push(&alone.facts));
    let leave_out = |name: Name| {
        let of_actor = || names.get(name.task() as usize).zip(names.get(1 ^ name.task() as usize));
        // Of an operation that was refused as in no order there are no registers to compare; and
        // what one finds may be a part of what another does in several steps.
        [REGISTERS, MEMORY].contains(&name.kind()) && this.facts.get(&name).is_none()
            || name.kind() == REGISTERS
                && name.task() < 2
                && of_actor().is_some_and(|(one, other)| tells(one) && takes_steps(other))
    };
    let said = || format!("    they were answered {:?}", this.said);
    difference(&this.facts, &like, leave_out).map_or(Ok(()), |wrong| Err(format!("{wrong}\n{}", said())))
}

/// Facts that are nowhere as they are, the first few of them.
fn difference(facts: &Facts, like: &[&Facts], leave_out: impl Fn(Name) -> bool) -> Option<String> {
    const TOLD: usize = 6;
    if like.contains(&facts) {
        return None;
    }
    let same = |name: &Name| like.iter().any(|other| other.get(name) == facts.get(name));
    let mut names: Vec<Name> = facts.names().chain(like.iter().flat_map(|other| other.names())).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !same(name) && !leave_out(*name));
    let say = |name: &Name| {
        let orders: Vec<String> = like.iter().map(|other| said(other.get(name))).collect();
        format!("{name} is {}, in order {}", said(facts.get(name)), orders.join(", "))
    };
    let told: Vec<String> = names.iter().take(TOLD).map(say).collect();
    (!told.is_empty()).then(|| told.join("\n    "))
}
