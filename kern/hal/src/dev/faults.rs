//! Prints the faults that no handler received. A fault only leaves a report in its CPU's ring
//! ([`kern_base::fault_ring`]). A CPU prints its reports before it idles, one at a time, and
//! whatever is left when the machine ends.

use core::fmt;

use kern_base::fault_ring::{PLACES, Report};
use kern_base::machine::FaultEnd;

use super::log::Shown;
use crate::cpu::percpu;

/// Prints the oldest report of this CPU. Returns whether there was one.
#[cold]
#[inline(never)]
pub fn print_next() -> bool {
    let report = percpu::this().and_then(|cpu| cpu.faults.take());
    report.inspect(|report| print(*report)).is_some()
}

/// Prints the reports of all CPUs: the machine is about to end. Programs of other CPUs may fault
/// meanwhile, so a ring is read only once round.
pub fn print_all() {
    for cpu in percpu::all() {
        (0..=PLACES).map_while(|_| cpu.faults.take()).for_each(print);
    }
}

/// Prints a report.
pub fn print(report: Report) {
    match report {
        Report::Lost(count) => crate::warn!("{} faults had no handler, and no room to report them", count),
        Report::Fault(FaultEnd { task, vector, error, address, rip, why }) => crate::warn!(
            "the process of task {} ended: exception {} error {:#x} address {:#x} at {:#x}, {}",
            task.raw(),
            vector,
            error,
            address,
            rip,
            Shown(fmt::from_fn(|f| match why {
                None => f.write_str("no handler"),
                Some(error) => write!(f, "the call to its handler ended with {error:?}"),
            }))
        ),
    }
}
