//! Kernels with a planted bug: a run that finds the bug passes, and one that does not fails.

use anyhow::Result;

use crate::trouble::{Trouble, first_line, status, status_of};

/// The builds that have a bug, and those of them that trace.
const BUILDS: [&str; 2] = ["planted-", "trace-planted-"];

/// Returns the bug that is planted in a build of the kernel.
pub fn bug(variant: &str) -> Option<&str> {
    BUILDS.iter().find_map(|prefix| variant.strip_prefix(prefix))
}

/// Judges runs of a build. If a bug is planted in the build, the verdict is reversed.
///
/// Errors: those of the runs. For a build with a bug: none of the runs found it, with the reason
/// why a run could not look.
pub fn judge(variant: &str, verdict: Result<()>) -> Result<()> {
    let Some(bug) = bug(variant) else { return verdict };
    match verdict {
        Ok(()) => {
            let text = format!("the planted bug {bug} was not found: try more seeds, or longer runs");
            Err(Trouble::CheckFailed(text).into())
        }
        Err(error) if found_something(&error) => {
            println!("the planted bug {bug} was found: {}", first_line(&error.root_cause().to_string()));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Returns whether an error says that the run failed, and not that it could not be run.
fn found_something(error: &anyhow::Error) -> bool {
    [status::CHECK_FAILED, status::GUEST_DIED, status::TIMED_OUT].contains(&status_of(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_bug_is_planted_the_verdict_is_turned_round() {
        let failed = || Err(Trouble::CheckFailed("lost=1".to_owned()).into());
        assert!(judge("chaos", Ok(())).is_ok() && judge("chaos", failed()).is_err());
        assert!(judge("planted-lost-wake", failed()).is_ok());
        let unseen = judge("planted-lost-wake", Ok(())).expect_err("nothing was found");
        assert!(unseen.to_string().contains("lost-wake was not found"));
        assert_eq!(status_of(&unseen), status::CHECK_FAILED);
        assert!(judge("planted-lost-wake", Err(Trouble::NoMachine("no QEMU".to_owned()).into())).is_err());
    }

    #[test]
    fn builds_with_a_bug_are_known_by_name() {
        assert_eq!(bug("planted-lost-wake"), Some("lost-wake"));
        assert_eq!(bug("trace-planted-lost-wake"), Some("lost-wake"));
        assert_eq!((bug("chaos"), bug("")), (None, None));
    }

    #[test]
    fn a_machine_that_is_missing_finds_no_bug() {
        assert!(found_something(&Trouble::CheckFailed("lost=1".to_owned()).into()));
        assert!(found_something(&Trouble::TimedOut("silent".to_owned()).into()));
        assert!(!found_something(&Trouble::NoMachine("no QEMU".to_owned()).into()));
        assert!(!found_something(&anyhow::anyhow!("disk full")));
    }
}
