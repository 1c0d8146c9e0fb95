//! Chooses the accelerator for cycle figures by measuring the machine.
//!
//! A KVM may emulate the guest's kernel mode instruction by instruction (nested virtualisation on
//! some hosts). Its cycles would mean nothing. So the probe runs a loop of a million turns in
//! kernel mode, and refuses KVM if TCG, an emulator, is faster.

use std::fs::OpenOptions;
use std::time::Duration;

use anyhow::Result;

use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::report::Report;
use crate::trouble::{Trouble, first_line};

/// The row that a calibrating guest reports.
const LOOP: &str = "loop_1m";
/// TCG boots and loops in well under a second; a KVM that takes this long has answered.
const LIMIT: Duration = Duration::from_secs(20);

/// The accelerator for cycle figures, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    pub mode: Mode,
    pub reason: String,
}

/// The fate of the loop under one accelerator.
type Measured = Result<u64, String>;

/// Measures the loop under TCG and, where it opens, KVM.
pub fn choose(lab: &Lab) -> Result<Choice> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok(Choice { mode: Mode::Tcg, reason: format!("/dev/kvm does not open: {error}") });
    }
    lab.screen.say(&format!("cycles: trying KVM, {} s at most", LIMIT.as_secs()));
    let tcg = calibrate(lab, Mode::Tcg)?;
    Ok(judge(tcg, calibrate(lab, Mode::Kvm)?))
}

/// Refuses KVM for a run if it would only emulate the guest's kernel code.
pub fn check_mode(lab: &Lab, mode: Mode) -> Result<()> {
    if mode == Mode::Kvm { demand_kvm(lab) } else { Ok(()) }
}

/// Chooses as [`choose`] does, for a user who asked for KVM: any other result is an error.
pub fn demand_kvm(lab: &Lab) -> Result<()> {
    let choice = choose(lab)?;
    if choice.mode == Mode::Kvm {
        return Ok(());
    }
    Err(Trouble::NoAccelerator(format!("--mode kvm: {}", choice.reason)).into())
}

fn judge(tcg: Measured, kvm: Measured) -> Choice {
    let refused = |reason: String| Choice { mode: Mode::Tcg, reason };
    match (tcg, kvm) {
        (_, Err(why)) => refused(format!("KVM refused: {why}")),
        (Err(why), Ok(kvm)) => {
            Choice { mode: Mode::Kvm, reason: format!("{LOOP} takes {kvm} cycles; TCG: {why}") }
        }
        (Ok(tcg), Ok(kvm)) if kvm > tcg => refused(format!(
            "KVM refused: its kernel-mode loop takes {kvm} cycles, TCG's {tcg}; this host emulates kernel code"
        )),
        (Ok(tcg), Ok(kvm)) => Choice {
            mode: Mode::Kvm,
            reason: format!("its kernel-mode loop takes {kvm} cycles, TCG's {tcg}"),
        },
    }
}

fn calibrate(lab: &Lab, mode: Mode) -> Result<Measured> {
    let job = Job {
        label: format!("calibrate-{mode}"),
        variant: String::new(),
        command_line: "run=calibrate".to_owned(),
        mode,
        cpus: 1,
        counted: None,
        limit: LIMIT,
    };
    let session = lab.run(&job)?;
    if let Err(trouble) = session.check_passed() {
        return Ok(Err(first_line(&trouble.to_string()).to_owned()));
    }
    let row = session.reports.into_iter().find_map(|report| match report {
        Report::Row(row) if row.name == LOOP => Some(row),
        _ => None,
    });
    Ok(row.map(|row| row.p50).ok_or_else(|| format!("the guest reported no {LOOP}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_taken_only_if_it_is_the_faster() {
        assert_eq!(judge(Ok(4_500_000), Ok(1_000_000)).mode, Mode::Kvm);
        let refused = judge(Ok(4_500_000), Ok(1_500_000_000));
        assert_eq!(refused.mode, Mode::Tcg);
        assert!(
            refused.reason.contains("1500000000") && refused.reason.contains("4500000"),
            "{}",
            refused.reason
        );
        assert_eq!(judge(Ok(1), Err("no end after 20 s".into())).mode, Mode::Tcg);
    }
}
