//! Tests labels and audit as the command line asks for them: a program with a label keeps the
//! limits, process 1 refuses what a rule forbids, and the audit reports it.

use std::path::Path;

use anyhow::Result;

use crate::baseline::Baseline;
use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::plan;
use crate::report::{Report, Row};
use crate::results::Run;
use crate::session::Session;
use crate::suite::GUEST_LIMIT;
use crate::testsum::Tally;

const CPUS: u32 = 1;

pub fn run(lab: &Lab, baseline: &Path) -> Result<Tally> {
    let mut sum = limits_hold(lab, &Baseline::read(baseline)?)?;
    let forbidden = lab.run(&job("forbidden", "run=bench rows=null_syscall label=3 rules=3:0:- audit=5"))?;
    let refused = forbidden.check_ended().is_ok() && forbidden.check_passed().is_err();
    sum += told(lab, &forbidden, refused, &["cannot start bench", "event=Denial", "error=Forbidden"]);
    let audited = lab.run(&job("audited", "run=bench rows=null_syscall label=3 audit=12"))?;
    let passed = audited.check_passed().is_ok();
    sum += told(lab, &audited, passed, &["event=Label", "event=Join", "event=Expose"]);
    Ok(sum)
}

/// A label that no rule confines.
const LABELLED: &str = "label=1";

fn job(name: &str, command_line: &str) -> Job {
    Job {
        label: format!("policy-{name}"),
        variant: String::new(),
        command_line: command_line.to_owned(),
        mode: Mode::Icount,
        cpus: CPUS,
        counted: None,
        limit: GUEST_LIMIT,
    }
}

/// Checks the limits on the figures of one ordinary boot, with a label that no rule confines.
fn limits_hold(lab: &Lab, baseline: &Baseline) -> Result<Tally> {
    let mut rows = baseline.limited(CPUS);
    rows.retain(|row| !plan::OTHERS.contains(row));
    let rows = rows.join(",");
    let session = lab.run(&job("limits", &format!("run=bench idle=halt {LABELLED} rows={rows}")))?;
    session.check_passed()?;
    let row = |report: &Report| if let Report::Row(row) = report { Some(row.clone()) } else { None };
    let rows: Vec<Row> = session.reports.iter().filter_map(row).map(|row| *row).collect();
    let run = Run { mode: Mode::Icount, cpus: CPUS, rows, counters: Vec::new() };
    let findings = baseline.check_one(&run, LABELLED);
    findings.failures.iter().for_each(|failure| lab.screen.say(&format!("with a label: {failure}")));
    Ok(findings.tally(&lab.cases))
}

/// Counts a test: a boot ended as it should, and its reports contain all these texts.
fn told(lab: &Lab, session: &Session, ended: bool, wanted: &[&str]) -> Tally {
    let said = |text: &str| {
        session.reports.iter().any(|report| matches!(report, Report::Other(line) if line.contains(text)))
    };
    let missing: Vec<_> = wanted.iter().filter(|text| !said(text)).collect();
    if !ended || !missing.is_empty() {
        lab.screen.say(&format!("{}: ended as expected: {ended}; missing: {missing:?}", session.label));
    }
    let wrong = format!("ended as expected: {ended}; missing: {missing:?}");
    lab.cases.one(&session.label, (!ended || !missing.is_empty()).then_some(wrong))
}
