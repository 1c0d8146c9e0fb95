//! The phases of an operation, and which code belongs to which.
//!
//! One table is for the assembly, by label: the nearest label at or before an instruction decides.
//! Where a phase begins at a place without a label, a label `phase.…` was added. The other table is
//! for Rust, by the path of the function. If functions were inlined into each other, the innermost
//! function in the table decides, so that helpers of `core` or `smp::door` count for their users.
//! An instruction that neither table covers is in no phase; that is always reported.

use std::fmt;

use serde::Serialize;

/// What a part of an operation is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The stubs of user programs, and what they do between two system calls.
    User,
    /// Into the kernel: entry slot, dispatch, saved registers.
    Entry,
    /// What is looked up and compared before anything changes.
    Checks,
    /// Writes that cannot fail.
    Commit,
    /// Rust: decoding a system call, capabilities, groups.
    Serve,
    /// Rust: the states of call, reply, receive, notify.
    Ipc,
    /// Rust: what crosses CPUs.
    Mailbox,
    /// Rust: who runs, and on whose time.
    Schedule,
    /// Rust: making and ending objects.
    Objects,
    /// Interrupt controller and timer.
    Device,
    /// Waiting for work.
    Idle,
    /// Another address space, another vector state.
    Switch,
    /// Out of the kernel.
    Exit,
}

impl Phase {
    /// In the order in which they are shown.
    pub const ALL: &[Phase] = &[
        Phase::User,
        Phase::Entry,
        Phase::Checks,
        Phase::Commit,
        Phase::Serve,
        Phase::Ipc,
        Phase::Mailbox,
        Phase::Schedule,
        Phase::Objects,
        Phase::Device,
        Phase::Idle,
        Phase::Switch,
        Phase::Exit,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::User => "user",
            Phase::Entry => "entry",
            Phase::Checks => "checks",
            Phase::Commit => "commit",
            Phase::Serve => "serve",
            Phase::Ipc => "ipc",
            Phase::Mailbox => "mailbox",
            Phase::Schedule => "schedule",
            Phase::Objects => "objects",
            Phase::Device => "device",
            Phase::Idle => "idle",
            Phase::Switch => "switch",
            Phase::Exit => "exit",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A phase, or that of the instruction before on the same CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Belongs {
    To(Phase),
    ToItsCaller,
}

use Belongs::{To, ToItsCaller};
use Phase::{Checks, Commit, Device, Entry, Exit, Idle, Ipc, Mailbox, Objects, Schedule, Serve, Switch};

/// Labels in assembly, by their beginnings; the longest that fits decides.
const LABELS: &[(&str, Phase)] = &[
    ("phase.entry.", Entry),
    ("phase.checks.", Checks),
    ("phase.commit.", Commit),
    ("phase.switch.", Switch),
    ("phase.exit.", Exit),
    // ipc-fast
    ("syscall_entry", Entry),
    ("syscall_plain", Entry),
    ("syscall_slow", Entry),
    ("syscall_null", Exit),
    ("call_elsewhere", Checks),
    ("reply_elsewhere", Checks),
    ("reply_fault", Checks),
    ("miss_", Checks),
    ("fast_map", Entry),
    ("fast_unmap", Entry),
    ("fast_", Checks),
    ("syscall_done", Exit),
    ("after_wait", Commit),
    ("after_yield", Commit),
    ("tell_reader", Commit),
    ("wait_overrun", Commit),
    ("yield_overrun", Commit),
    ("yield_next", Entry),
    // kern-hal
    ("trap_", Entry),
    ("trap_resume", Exit),
    ("trap_iret", Exit),
];

/// Functions in Rust, by the beginnings of their paths; the longest that fits decides.
const FUNCTIONS: &[(&str, Belongs)] = &[
    ("ipc_fast::entry", To(Entry)),
    ("aurora", To(Entry)),
    ("kern_core::door::entry", To(Entry)),
    ("kern_hal::trap", To(Entry)),
    ("kern_hal::trap::entry::resume", To(Exit)),
    ("kern_core::answer", To(Serve)),
    ("kern_core::args", ToItsCaller),
    ("kern_core::registers", ToItsCaller),
    ("kern_core::rooms", ToItsCaller),
    ("kern_core::outbox", To(Mailbox)),
    ("kern_core::time", To(Schedule)),
    ("kern_core::Cx::end_with_first", To(Objects)),
    ("kern_base::frames::FrameInfo::glance", To(Objects)),
    ("kern_core::caps", To(Serve)),
    ("kern_core::mem", To(Objects)),
    ("kern_core::ipc", To(Ipc)),
    ("kern_core::payload", To(Ipc)),
    ("kern_core::events", To(Ipc)),
    ("kern_core::grace", To(Objects)),
    ("kern_core::tlb", To(Objects)),
    ("kern_core::tables", To(Objects)),
    ("kern_core::security", To(Serve)),
    ("kern_core::life", To(Objects)),
    ("kern_core::make", To(Objects)),
    ("kern_base::memory", To(Objects)),
    ("kern_base::message", ToItsCaller),
    ("kern_base::message::block", To(Ipc)),
    ("kern_core::door", To(Serve)),
    ("kern_core::groups", To(Serve)),
    ("kern_core::ids", To(Serve)),
    ("kern_core::make::tasks", To(Serve)),
    ("kern_core::begun", To(Serve)),
    ("kern_core::work", To(Serve)),
    ("kern_core::make::devices", To(Serve)),
    ("kern_core::time::search", To(Serve)),
    ("kern_dump", To(Serve)),
    ("kern_core::trace", To(Serve)),
    ("kern_core::life::control", To(Ipc)),
    ("kern_base::reply", To(Ipc)),
    ("kern_base::task", ToItsCaller),
    ("kern_core::ipc::ends", To(Mailbox)),
    ("kern_core::door::arrivals", To(Mailbox)),
    ("kern_core::door::requests", To(Mailbox)),
    ("smp::mailbox", To(Mailbox)),
    ("smp::coalesced", To(Mailbox)),
    ("smp::quiesce", To(Mailbox)),
    ("smp::percpu::All::block", ToItsCaller),
    ("smp::shootdown", To(Objects)),
    ("kern_core::life::migration", To(Schedule)),
    ("sched::", To(Schedule)),
    ("kern_core::payload::pages", To(Objects)),
    ("kern_core::caps::growth", To(Objects)),
    ("kern_hal::dev", To(Device)),
    ("kern_hal::pc::Pc::set_timer", To(Device)),
    ("kern_hal::pc::Pc::wake", To(Device)),
    ("kern_hal::cpu::time", To(Device)),
    ("kern_hal::cpu::idle", To(Idle)),
    ("kern_core::events::payloads", To(Switch)),
    ("kern_core::make::vector", To(Switch)),
    ("kern_hal::cpu::context", To(Switch)),
    ("kern_hal::cpu::vector", To(Switch)),
    ("kern_hal::mem::tlb", To(Switch)),
    ("compiler_builtins::", ToItsCaller),
    ("memcmp", ToItsCaller),
    ("memcpy", ToItsCaller),
    ("memmove", ToItsCaller),
    ("memset", ToItsCaller),
];

/// Returns the phase of assembly behind this label.
pub fn of_label(label: &str) -> Option<Phase> {
    longest(LABELS, label)
}

/// Returns where a function's instructions belong, by its name as a debugger shows it.
pub fn of_function(name: &str) -> Option<Belongs> {
    longest(FUNCTIONS, &path(name))
}

fn longest<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    let fitting = table.iter().filter(|(start, _)| name.starts_with(start));
    fitting.max_by_key(|(start, _)| start.len()).map(|(_, belongs)| *belongs)
}

/// Returns the path in a name: `<a::B as c::D>::e::<F>`, `<a::B<C>>::e` and `a::B<C>::e` are all
/// `a::B::e`.
fn path(name: &str) -> String {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let Some(inner) = name.strip_prefix('<') else {
        let before: String = name.chars().take_while(|&c| is_path(c)).collect();
        let generics = name.strip_prefix(&before).filter(|rest| rest.starts_with('<'));
        let method = generics.and_then(after_brackets).unwrap_or("");
        return before + &method.chars().take_while(|&c| is_path(c)).collect::<String>();
    };
    let inner = inner.trim_start_matches(['&', '<', '*']);
    let implementer: String = inner.chars().take_while(|&c| is_path(c)).collect();
    let method = after_brackets(name).unwrap_or("");
    implementer.trim_end_matches(':').to_owned()
        + &method.chars().take_while(|&c| is_path(c)).collect::<String>()
}

/// Returns the text behind the bracket that closes the first one.
fn after_brackets(name: &str) -> Option<&str> {
    let mut depth = 0_i32;
    for (at, c) in name.char_indices() {
        match c {
            '<' => depth += 1,
            // `->` closes nothing.
            '>' if !name[..at].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return name.get(at + 1..);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_reduced_to_paths() {
        assert_eq!(path("kern_core::ipc::call::call::<kern_hal::pc::Pc>"), "kern_core::ipc::call::call::");
        assert_eq!(path("<kern_hal::pc::Pc as kern_base::machine::Machine>::wake"), "kern_hal::pc::Pc::wake");
        assert_eq!(
            path("<sched::run_queue::RunQueue<T>>::take::{closure#0}"),
            "sched::run_queue::RunQueue::take::"
        );
        assert_eq!(path("<a::B<fn(u8) -> u8>>::c"), "a::B::c");
        assert_eq!(path("memcpy"), "memcpy");
        assert_eq!(path("kern_core::Cx<M>::end_with_first"), "kern_core::Cx::end_with_first");
        assert_eq!(path("kern_core::ids::f::{closure#0}"), "kern_core::ids::f::");
    }

    #[test]
    fn the_longest_entry_decides() {
        assert_eq!(of_label("trap_resume_syscall"), Some(Phase::Exit));
        assert_eq!(of_label("trap_common"), Some(Phase::Entry));
        assert_eq!(of_label("phase.switch.cold.12"), Some(Phase::Switch));
        assert_eq!(of_function("<kern_hal::pc::Pc as kern_base::machine::Machine>::wake"), Some(To(Device)));
        assert_eq!(of_function("kern_core::ipc::call::call::<P>"), Some(To(Ipc)));
        assert_eq!(of_function("compiler_builtins::mem::memcpy"), Some(ToItsCaller));
    }

    #[test]
    fn what_no_table_knows_is_in_no_phase() {
        assert_eq!(of_label("boot_start64"), None);
        assert_eq!(of_function("core::slice::sort"), None);
        assert_eq!(of_function("kern_hal::boot::machine::boot_main"), None);
    }

    #[test]
    fn every_label_of_the_kernels_paths_has_a_phase() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let labels = crate::explain::listing::labels(&root);
        assert!(labels.len() > 40, "{labels:?}");
        let unknown: Vec<_> = labels.iter().filter(|label| of_label(label).is_none()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn every_module_of_the_kernel_has_a_phase() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../kern/core/src");
        let files =
            std::fs::read_dir(folder).expect("the kernel").map(|entry| entry.expect("an entry").path());
        let modules = files.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()));
        let unknown =
            |module: &String| module != "lib" && of_function(&format!("kern_core::{module}::f")).is_none();
        assert_eq!(modules.filter(unknown).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn all_phases_are_shown() {
        for (_, phase) in LABELS {
            assert!(Phase::ALL.contains(phase));
        }
        for (_, belongs) in FUNCTIONS {
            assert!(matches!(belongs, To(phase) if Phase::ALL.contains(phase)) || *belongs == ToItsCaller);
        }
    }
}
