//! Tests that the machine ends, and reports the reason, when process 1 dies in any of the possible
//! ways.

use anyhow::Result;

use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::session::{Ending, Session};
use crate::suite::GUEST_LIMIT;
use crate::testsum::Tally;

/// What the boot option `die=` takes.
const WAYS: [&str; 3] = ["panic", "fault", "kill"];
const SAYS: &str = "aurora: process 1 is dead";
const CPUS: u32 = 2;

/// Runs one test for each way to die.
pub fn run(lab: &Lab) -> Result<Tally> {
    let jobs = WAYS.map(|how| Job {
        label: format!("test-die-{how}"),
        variant: String::new(),
        command_line: format!("die={how}"),
        mode: Mode::Icount,
        cpus: CPUS,
        counted: None,
        limit: GUEST_LIMIT,
    });
    let mut sum = Tally::default();
    for session in lab.run_all(&jobs) {
        let session = session?;
        let wrong = is_wrong(&session);
        if let Some(wrong) = &wrong {
            lab.screen.say(&format!("{}: {wrong}", session.label));
        }
        sum += lab.cases.one(&session.label, wrong);
    }
    Ok(sum)
}

fn is_wrong(session: &Session) -> Option<String> {
    if session.ending != Ending::Orphaned {
        return Some(format!("process 1 has died, and the run ends as {:?}", session.ending));
    }
    let said = session.last_words.iter().any(|line| line.starts_with(SAYS));
    (!said).then(|| format!("the kernel does not say \"{SAYS}\""))
}
