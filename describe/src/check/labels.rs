//! Checks labels and rules against each other.

use crate::problem::{Problem, Problems};
use crate::read::NO_LABEL;
use crate::written::Written;

/// Reports labels with one number, rules of one pair, and rules for processes without a label.
pub fn check(written: &Written, problems: &mut Problems) {
    for (place, label) in written.labels.iter().enumerate() {
        let Some(number) = &label.number else { continue };
        let numbers = written.labels[..place].iter().filter_map(|other| other.number.as_ref());
        if let Some(first) = numbers.into_iter().find(|other| other.value == number.value) {
            let title = format!("two labels have the number {}", number.value);
            let free = (1..abi::audit::LABELS as u8).find(|free| {
                written.labels.iter().flat_map(|label| &label.number).all(|at| at.value != *free)
            });
            let fix = match free {
                Some(free) => format!("write a number that no label has, such as {free}"),
                None => "remove a label".to_owned(),
            };
            let problem = Problem::new(number.span.clone(), title, "the second", fix);
            problems.push(problem.also(first.span.clone(), "the first"));
        }
    }
    for (place, rule) in written.rules.iter().enumerate() {
        let (Some(subjects), Some(objects)) = (&rule.subjects, &rule.objects) else { continue };
        if subjects.value == NO_LABEL {
            let title = "a rule cannot confine processes without a label";
            let fix = "give the processes a label, and name it in the rule";
            problems.push(Problem::new(subjects.span.clone(), title, "no label", fix));
        }
        let same = written.rules[..place].iter().find(|other| {
            let is =
                |a: &Option<crate::values::At<String>>, b: &str| a.as_ref().is_some_and(|a| a.value == b);
            is(&other.subjects, &subjects.value) && is(&other.objects, &objects.value)
        });
        if let Some(first) = same {
            let title = format!("two rules are for `{}` and `{}`", subjects.value, objects.value);
            let fix = "join their lists `denies` in one rule";
            let problem = Problem::new(rule.span.clone(), title, "the second", fix);
            problems.push(problem.also(first.span.clone(), "the first"));
        }
    }
}
