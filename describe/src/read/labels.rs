//! Reads security labels and the rules between them.

use abi::audit::{LABELS, may};

use crate::keys;
use crate::near::advice;
use crate::problem::Problems;
use crate::values::{At, Fields};
use crate::written::{Label, Rule};

/// Names of what a rule denies, and the bit of each.
const DENIES: [(&str, u8); 4] =
    [("grant", may::GRANT), ("join", may::JOIN), ("read", may::READ), ("write", may::WRITE)];

/// Reads the labels, in the order of the file.
pub fn labels(system: &Fields<'_>, problems: &mut Problems) -> Vec<Label> {
    let Some(table) = system.get("labels") else { return Vec::new() };
    let named = table.named("a label", problems);
    let labels = named.into_iter().map(|(name, mut entry)| {
        entry.key = keys::LABEL;
        let number = entry.number(1..=u64::from(LABELS - 1), problems);
        Label { name, number: number.map(|number| At::new(number.value as u8, number.span)) }
    });
    labels.collect()
}

/// Reads the rules.
pub fn rules(system: &Fields<'_>, problems: &mut Problems) -> Vec<Rule> {
    let Some(list) = system.get("rules") else { return Vec::new() };
    let mut rules = Vec::new();
    for entry in list.list(problems) {
        let Some(rule) = entry.table("a rule".to_owned(), keys::RULE, problems) else { continue };
        let subjects = rule.need("subjects", problems).and_then(|label| label.text(problems));
        let objects = rule.need("objects", problems).and_then(|label| label.text(problems));
        let may = may::ALL & !denied(&rule, problems);
        rules.push(Rule { span: rule.span, subjects, objects, may });
    }
    rules
}

/// Reads what a rule denies.
fn denied(rule: &Fields<'_>, problems: &mut Problems) -> u8 {
    let Some(denies) = rule.need("denies", problems) else { return 0 };
    let words = denies.texts(problems);
    if words.is_empty() && denies.value.as_array().is_some() {
        let fix = "name `grant`, `join`, `read` or `write`, or remove the rule";
        denies.wrong("a rule denies nothing", "an empty list", fix, problems);
    }
    let mut bits = 0;
    for word in words {
        match DENIES.iter().find(|(name, _)| *name == word.value) {
            Some((_, bit)) => bits |= bit,
            None => {
                let fix = advice(&word.value, DENIES.iter().map(|(name, _)| *name));
                let title = format!("a rule cannot deny `{}`", word.value);
                problems.push(crate::problem::Problem::new(word.span, title, "unknown word", fix));
            }
        }
    }
    if bits & may::READ != 0 && bits & may::WRITE == 0 {
        let fix = "add `write` to the list: a page that may be written can be read, too";
        denies.wrong("a rule denies `read` and allows `write`", "`write` is missing", fix, problems);
    }
    bits
}
