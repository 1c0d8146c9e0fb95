//! Committed figures by name.
//!
//! ```text
//! call_reply_cross_as          median of a row of the bench on one CPU, icount
//! map_unmap_1p[label=1]        … with more words on the command line
//! shootdown_4cpu@4             … on so many CPUs
//! fault_null.max               min, p50, p99, max; atomics, cr_writes, msr_writes, serialising, lines (medians)
//! seL4/call_reply_cross_as_4w  median of a row of peers/sel4/results.json, of the uniprocessor kernel
//! seL4/smp/cross_cpu_…         … of another configuration
//! scale/pairs_crossing@4.lines instructions, lines or interrupts of one operation of perf/scale.json, rounded
//! steps/task_kill.kill         functions that a part of an operation visits, of perf/steps.json
//! moved_page                   one of `DERIVED`, which are made of others
//! ```

use std::path::Path;

use anyhow::{Context, Result};

use super::worst::{self, Worst};
use crate::baseline::Baseline;
use crate::explain::shares::{self, Shares};
use crate::explain::steps::data::{self as steps, Steps};
use crate::peers::results as peers;
use crate::{mailbox, scale};

/// Where the data is, from the root of the project.
const BASELINE: &str = "perf/baseline.json";
const SCALE: &str = "perf/scale.json";
const PEERS: &str = "peers/sel4/results.json";

/// All that is committed.
pub struct Data {
    pub baseline: Baseline,
    pub peers: peers::Results,
    pub scale: scale::Results,
    pub mailbox: mailbox::Results,
    pub phases: Shares,
    pub steps: Steps,
    pub worst: Worst,
}

/// Figures that are made of others.
type Made = fn(&Data) -> Option<u64>;
const DERIVED: &[(&str, Made)] = &[
    ("moved_page", |data| data.each(63, "remap_move_64p", "remap_move_1p")),
    ("moved_fixed", |data| data.fixed("remap_move_1p", "moved_page")),
    ("moved_pays", |data| data.pays("moved_fixed", "moved_page")),
    ("moved_page_2cpu", |data| data.each(63, "remap_move_64p_2cpu@2", "remap_move_1p_2cpu@2")),
    ("moved_fixed_2cpu", |data| data.fixed("remap_move_1p_2cpu@2", "moved_page_2cpu")),
    ("moved_pays_2cpu", |data| data.pays("moved_fixed_2cpu", "moved_page_2cpu")),
    ("shared_page", |data| data.each(63, "share_ro_64p", "share_ro_1p")),
    ("shared_fixed", |data| data.fixed("share_ro_1p", "shared_page")),
    ("shared_pays", |data| data.pays("shared_fixed", "shared_page")),
    ("copied_page", |data| data.each(63, "copy_64p", "copy_1p")),
    ("copied_fixed", |data| data.fixed("copy_1p", "copied_page")),
    ("broadcast_member", |data| data.each(56, "broadcast_64", "broadcast_8")),
    ("exposure_per_cpu", |data| data.each(1, "scale/server_per_cpu@1", "scale/pairs_local@1")),
];

impl Data {
    pub fn read(root: &Path) -> Result<Data> {
        Ok(Data {
            baseline: Baseline::read(&root.join(BASELINE))?,
            peers: peers::Results::read(&root.join(PEERS))?,
            scale: scale::Results::read(&root.join(SCALE))?,
            mailbox: mailbox::Results::read(&root.join(mailbox::COMMITTED))?,
            phases: Shares::read(&root.join(shares::COMMITTED))?,
            steps: Steps::read(&root.join(steps::COMMITTED))?,
            worst: Worst::read(&root.join(worst::COMMITTED))?,
        })
    }

    /// Returns the figure of this name.
    ///
    /// Errors: there is none.
    pub fn figure(&self, name: &str) -> Result<u64> {
        self.find(name).with_context(|| format!("there is no figure {name} in the committed data"))
    }

    fn find(&self, name: &str) -> Option<u64> {
        if let Some((_, made)) = DERIVED.iter().find(|(derived, _)| *derived == name) {
            return made(self);
        }
        if let Some(row) = name.strip_prefix("seL4/") {
            let (configuration, row) = row.split_once('/').unwrap_or(("uniprocessor", row));
            return self.of_peer(configuration, row);
        }
        if let Some(part) = name.strip_prefix("steps/") {
            return self.steps.visited(part);
        }
        // The options may have points in them.
        let (name, options) = match name.split_once('[') {
            Some((row, rest)) => (row, rest.strip_suffix(']')?),
            None => (name, ""),
        };
        let (row, field) = name.split_once('.').map_or((name, None), |(row, field)| (row, Some(field)));
        let (row, cpus) = match row.split_once('@') {
            Some((row, cpus)) => (row, cpus.parse().ok()?),
            None => (row, 1),
        };
        match row.strip_prefix("scale/") {
            Some(load) => self.scale.figure(load, cpus, field.unwrap_or("instructions")),
            None => self.baseline.shown_with(options, cpus)?.get(row)?.field(field.unwrap_or("p50")),
        }
    }

    /// Returns the median of a row of another kernel.
    pub fn of_peer(&self, configuration: &str, row: &str) -> Option<u64> {
        let measured = self.peers.configurations.iter().find(|measured| measured.name == configuration)?;
        measured.rows.iter().find(|other| other.name == row).map(|row| row.p50)
    }

    /// Returns the cost of each of `count` additional items, rounded: the difference of two rows,
    /// divided.
    fn each(&self, count: u64, many: &str, few: &str) -> Option<u64> {
        let more = self.find(many)?.checked_sub(self.find(few)?)?;
        Some((more + count / 2) / count)
    }

    /// Returns the figure of a row with one page, without that page.
    fn fixed(&self, row: &str, page: &str) -> Option<u64> {
        self.find(row)?.checked_sub(self.find(page)?)
    }

    /// Returns the number of pages from which on a row is cheaper than copying.
    fn pays(&self, fixed: &str, page: &str) -> Option<u64> {
        let more = self.find(fixed)?.checked_sub(self.find("copied_fixed")?)?;
        let less = self.find("copied_page")?.checked_sub(self.find(page)?)?;
        Some(more / less.max(1) + 1)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn committed() -> Data {
        Data::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("the committed data")
    }

    #[test]
    fn every_kind_of_name_is_found() {
        let data = committed();
        for name in [
            "call_reply_cross_as",
            "shootdown_4cpu@4",
            "fault_roundtrip.max",
            "call_reply_cross_cpu_halted@2.lines",
            "seL4/call_reply_cross_as_4w",
            "seL4/smp/cross_cpu_call_reply_4w",
            "scale/pairs_crossing@4",
            "scale/pairs_crossing@4.lines",
            "steps/task_kill.kill",
        ] {
            assert!(data.figure(name).is_ok_and(|figure| figure > 0), "{name}");
        }
        for (name, _) in DERIVED {
            assert!(data.figure(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let data = committed();
        for name in [
            "nosuch",
            "shootdown_4cpu",
            "null_syscall.mean",
            "seL4/nosuch",
            "scale/nosuch@4",
            "steps/task_kill",
        ] {
            let error = data.figure(name).expect_err("no figure").to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
