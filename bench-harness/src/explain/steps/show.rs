//! The functions of an operation as a person reads them in a terminal and in the book, and as JSON.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use console::style;
use serde_json::{Value, json};

use super::Visited;
use super::data::{RECIPE, Row, Steps};
use super::source::Sources;
use super::walk::{Stretch, Visit};
use crate::lab::Job;

/// Writes all parts of a row as text. The last line has the number of functions.
pub fn text(visited: &Visited) -> String {
    let mut out = String::new();
    let (walk, each) = (&visited.walk, if visited.operations > 1 { " in several operations" } else { "" });
    let head =
        format!("{}, {}: {} instructions{each}", visited.row, Job::cpus_text(visited.cpus), walk.total());
    let _ = writeln!(out, "{}", style(head).bold());
    let _ = writeln!(out, "{} of programs, {} of entry slots, and of the kernel:", walk.user, walk.slots);
    for (name, part) in visited.names.iter().zip(&walk.parts) {
        for stretch in &part.stretches {
            let cpu = if visited.cpus > 1 { format!(", CPU {}", stretch.cpu) } else { String::new() };
            let _ = writeln!(
                out,
                "\n{}",
                style(format!("{name}{cpu}: {}", count(stretch.visits.len()))).cyan().bold()
            );
            stretch.visits.iter().for_each(|visit| line(&mut out, visit));
        }
    }
    let counts =
        visited.names.iter().zip(&walk.parts).map(|(name, part)| format!("{name}={}", part.visited()));
    let _ = writeln!(out, "\nvisited: {}", counts.collect::<Vec<_>>().join(" "));
    out
}

fn count(functions: usize) -> String {
    if functions == 1 { "1 function".to_owned() } else { format!("{functions} functions") }
}

fn line(out: &mut String, visit: &Visit) {
    let name = format!("{}{}", "  ".repeat(visit.depth), visit.function.name);
    let (file, first) = (&visit.function.file, visit.function.first);
    let _ = writeln!(out, "{:>5}  {name:<52} {file}:{first}", visit.instructions);
}

/// Writes all parts of a row as JSON, for programs.
pub fn json(visited: &Visited) -> Result<String> {
    let of_visit = |visit: &Visit| {
        let function = &visit.function;
        json!({
            "name": function.name, "file": function.file, "line": function.first, "depth": visit.depth,
            "instructions": visit.instructions, "doc": function.doc,
        })
    };
    let of_stretch = |stretch: &Stretch| {
        let functions: Vec<Value> = stretch.visits.iter().map(of_visit).collect();
        json!({"cpu": stretch.cpu, "functions": functions})
    };
    let parts: Vec<Value> = visited
        .names
        .iter()
        .zip(&visited.walk.parts)
        .map(|(name, part)| {
            let on: Vec<Value> = part.stretches.iter().map(of_stretch).collect();
            json!({"name": name, "visited": part.visited(), "on": on})
        })
        .collect();
    let walk = &visited.walk;
    let value = json!({
        "row": visited.row, "cpus": visited.cpus, "operations": visited.operations, "total": walk.total(),
        "user": walk.user, "slots": walk.slots, "parts": parts,
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

/// Makes the book's list of each row: what is committed, with what the sources say about each
/// function today.
///
/// Errors: a function is not in its file any more.
pub fn lists(steps: &Steps, root: &Path) -> Result<Vec<(String, String)>> {
    let mut sources = Sources::new(root);
    steps.rows.iter().map(|(name, row)| Ok((name.clone(), list(row, &mut sources)?))).collect()
}

fn list(row: &Row, sources: &mut Sources) -> Result<String> {
    let mut out = String::new();
    for part in &row.parts {
        for on in &part.on {
            let cpu = if row.cpus > 1 { format!(" on CPU {}", on.cpu) } else { String::new() };
            let _ = writeln!(out, "**{}{cpu}**, {}:\n", part.name, count(on.functions.len()));
            for step in &on.functions {
                let function = sources.named(&step.file, &step.name);
                let function = function
                    .with_context(|| format!("{} has no {}: run `{RECIPE}`", step.file, step.name))?;
                let doc = function.doc.as_ref().map_or(String::new(), |doc| format!(": {doc}"));
                let indent = "  ".repeat(step.depth);
                let _ =
                    writeln!(out, "{indent}- `{}` ({}), `{}`{doc}", step.name, step.instructions, step.file);
            }
            out.push('\n');
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::data::tests::steps;
    use super::super::walk::{Part, Stretch, Walk};
    use super::*;
    use crate::explain::steps::source::Function;

    fn visited() -> Visited {
        let visit = |name: &str, depth| {
            let (name, file, doc) = (name.to_owned(), "kern/a.rs".to_owned(), Some("Calls.".to_owned()));
            Visit {
                function: Function { name, file, first: 7, last: 9, body: 1, doc },
                depth,
                instructions: 5,
            }
        };
        let stretch = |cpu| Stretch { cpu, visits: vec![visit("a", 0), visit("b", 1)] };
        let parts =
            vec![Part { stretches: vec![stretch(0), stretch(1)] }, Part { stretches: vec![stretch(1)] }];
        let names = vec!["call".to_owned(), "reply".to_owned()];
        let walk = Walk { parts, user: 8, slots: 2 };
        Visited { row: "r".to_owned(), cpus: 2, operations: 1, names, walk }
    }

    #[test]
    fn the_last_line_counts_each_function_once_for_each_part() {
        let text = text(&visited());
        assert!(text.contains("    5    b "), "{text}");
        assert!(text.contains("kern/a.rs:7\n") && text.contains("call, CPU 1: 2 functions"), "{text}");
        assert!(text.ends_with("\nvisited: call=2 reply=2\n"), "{text}");
    }

    #[test]
    fn json_has_what_the_text_has() {
        let value: Value = serde_json::from_str(&json(&visited()).expect("json")).expect("valid");
        assert_eq!((&value["total"], &value["parts"][0]["visited"]), (&json!(40), &json!(2)));
        assert_eq!(value["parts"][1]["on"][0]["functions"][1]["line"], json!(7));
    }

    #[test]
    fn a_function_that_is_gone_is_named() {
        let error =
            lists(&steps(&["0 3 nosuch kern/a.rs"]), Path::new("/nowhere")).expect_err("gone").to_string();
        assert!(error.contains("kern/a.rs has no nosuch"), "{error}");
    }
}
