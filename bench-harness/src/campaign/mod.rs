//! Campaigns: many seeds of one run, in shards, on as many machines as there are.
//!
//! ```text
//! DIR/campaign.json          what is run (plan), and on which builds
//! DIR/shard-2-of-8.jsonl     a line for each seed that is done; appended, never rewritten
//! DIR/runs/<seed>/…          what the guest said, of seeds that failed
//! DIR/index.html             the summary
//! ```
//!
//! A killed shard continues where it stopped: it skips the seeds in its log, drops an incomplete
//! last line, and runs that line's seed again. Shards may share a directory or have one each;
//! [`merge`] combines several directories. No shard runs twice at the same time: a running shard
//! holds a lock on its log.
//!
//! A seed fails if its guest does not pass. If a seed cannot be run at all (no QEMU, a full disk),
//! it has no result: the campaign ends and can be started again.

pub mod args;
mod gather;
mod log;
mod page;
mod plan;
mod run;

pub use gather::merge;
pub use plan::{Kind, Plan, Shard};
pub use run::run;

/// Makes an empty directory for a test. No two have the same one, even if their names are the same.
#[cfg(test)]
pub(crate) fn scratch(name: &str) -> std::path::PathBuf {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("aurora-test-{}-{number}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory for temporary files");
    dir
}
