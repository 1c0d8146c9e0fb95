//! Checks each process, and what only one process of a system can have.

use abi::{CMDLINE_MAX, options};

use super::Known;
use crate::near::{nearest, one_of};
use crate::problem::{Problem, Problems, Span};
use crate::system::{Untyped, When};
use crate::values::At;
use crate::written::{Controls, Process, Written};

/// Reports unknown programs, wrong options, and what two processes cannot both have.
pub fn check(written: &Written, known: Known<'_>, problems: &mut Problems) {
    let of_all = written.options.as_ref();
    if let Some(options) = of_all {
        check_options(options, "", known, problems);
    }
    for process in &written.processes {
        check_program(process, known, problems);
        if let Some(options) = &process.options {
            check_options(options, &process.program.value, known, problems);
            let length = of_all.map_or(0, |of_all| of_all.value.len() + 1) + options.value.len();
            if length > CMDLINE_MAX {
                let title = format!("the command line of `{}` has {length} bytes", process.name.value);
                let fix =
                    format!("shorten it: with the system's `options` it has at most {CMDLINE_MAX} bytes");
                problems.push(Problem::new(options.span.clone(), title, "too long", fix));
            }
        }
        if process.memory.as_ref().is_none_or(|memory| memory.value == Untyped::None)
            && let Some(room) = &process.time.room
        {
            let title = format!("process `{}` has room for budgets, and no memory", process.name.value);
            let fix = "add `memory`, of which it makes the tasks that have budgets; or remove `room`";
            problems.push(Problem::new(room.span.clone(), title, "of no use", fix));
        }
    }
    check_rest(written, problems);
    check_verdict(written, problems);
    check_asked(written, problems);
}

fn check_program(process: &Process, known: Known<'_>, problems: &mut Problems) {
    let Some(programs) = known.programs else { return };
    let At { value: program, span } = &process.program;
    if programs.contains(program) {
        return;
    }
    let names = || programs.iter().map(String::as_str);
    let is_own_name = *span == process.name.span;
    let fix = match nearest(program, names()) {
        Some(close) if is_own_name => format!("add `program = \"{close}\"`"),
        Some(close) => format!("write `{close}`"),
        None if is_own_name => format!("add `program = …` with {}", one_of(names())),
        None => format!("write {}", one_of(names())),
    };
    let title = format!("the boot image has no program `{program}`");
    problems.push(Problem::new(span.clone(), title, "unknown program", fix));
}

/// Reports a word that the program does not read, or two of one key.
fn check_options(line: &At<String>, program: &str, known: Known<'_>, problems: &mut Problems) {
    if let Some(strange) = line.value.chars().find(|letter| !(' '..='~').contains(letter)) {
        let title = format!("`options` has the character {strange:?}");
        let fix = "a command line has printable ASCII characters only";
        problems.push(Problem::new(line.span.clone(), title, "not ASCII", fix));
        return;
    }
    if let Err(options::Wrong::Twice(first, second)) = options::once(&line.value) {
        let title = format!("`{first}` and `{second}` have one key: only the second would count");
        problems.push(Problem::new(line.span.clone(), title, "one key twice", "remove one of them"));
        return;
    }
    let run = if program.is_empty() { String::new() } else { format!("run={program} ") };
    let whole = run + &line.value;
    if let Err(wrong) = options::check(&whole) {
        let (key, title, fix) = explained(wrong);
        problems.push(Problem::new(word_in(line, key, known.text), title, "this word", fix));
    }
}

/// Returns the key of a wrong word, what is wrong with it, and what would be right.
fn explained(wrong: options::Wrong<'_>) -> (&str, String, String) {
    match wrong {
        options::Wrong::Unknown(key) | options::Wrong::Twice(key, _) => {
            let names = options::WORDS.iter().map(|word| word.key);
            let fix = match nearest(key, names) {
                Some(close) => format!("write `{close}=`"),
                None => "remove the word; `abi/src/options.rs` has all words".to_owned(),
            };
            (key, format!("no program reads `{key}=`"), fix)
        }
        options::Wrong::Others(key, program) => {
            let readers = options::WORDS.iter().filter(|word| word.key == key).flat_map(|word| word.readers);
            let fix = format!("remove the word, which is for {}", one_of(readers.copied()));
            (key, format!("program `{program}` does not read `{key}=`"), fix)
        }
        options::Wrong::Value(word, value) => {
            let text = wrong.to_string();
            let takes = text.rsplit("; ").next().unwrap_or_default();
            let fix = format!("`{}=` means {}; {takes}", word.key, word.meaning);
            (word.key, format!("`{}=` cannot be `{value}`", word.key), fix)
        }
    }
}

/// Returns the place of a key's word in the file's text of a command line.
fn word_in(line: &At<String>, key: &str, text: &str) -> Span {
    let written = text.get(line.span.clone()).unwrap_or_default();
    let begins = |at: usize| written[..at].ends_with([' ', '"', '\'', '\n']);
    let found = written.match_indices(key).map(|(at, _)| at).find(|at| begins(*at));
    let Some(at) = found else { return line.span.clone() };
    let length = written[at..].find([' ', '"', '\'']).unwrap_or(key.len());
    line.span.start + at..line.span.start + at + length
}

/// Reports a second process that gets the rest of the memory, and one that would be started again:
/// process 1 gives the rest away whole.
fn check_rest(written: &Written, problems: &mut Problems) {
    for process in &written.processes {
        if let (Some(memory), Some(restart)) = (&process.memory, &process.restart)
            && memory.value == Untyped::Rest
            && restart.value.when != When::Never
        {
            let title = format!(
                "process `{}` has the rest of the memory, and is never restarted",
                process.name.value
            );
            let fix = "write a size for `memory`, or remove `restart`";
            let problem = Problem::new(restart.span.clone(), title, "of no use", fix);
            problems.push(problem.also(memory.span.clone(), "all that there is"));
        }
    }
    let memories = written.processes.iter().filter_map(|process| process.memory.as_ref());
    let mut rest = memories.filter(|memory| memory.value == Untyped::Rest);
    let Some(first) = rest.next() else { return };
    for second in rest {
        let fix = "write a size for all processes except one";
        let problem =
            Problem::new(second.span.clone(), "two processes get the rest of the memory", "the second", fix);
        problems.push(problem.also(first.span.clone(), "the first"));
    }
}

/// Reports a process that nobody can start, and one that starts behind such a process.
fn check_asked(written: &Written, problems: &mut Problems) {
    for process in &written.processes {
        let Some(asked) = &process.asked else { continue };
        let name = &process.name.value;
        let others = || written.processes.iter().filter(|other| other.name.value != *name);
        let is_controlled = others().any(|other| match &other.controls {
            Some(Controls::All) => true,
            Some(Controls::These(names)) => names.iter().any(|at| at.value == *name),
            None => false,
        });
        if !is_controlled {
            let title = format!("process `{name}` starts when asked, and no process may ask");
            let fix = format!("remove `start`, or add `controls = [\"{name}\"]` to a shell");
            problems.push(Problem::new(asked.span.clone(), title, "never", fix));
        }
        for other in others().filter(|other| other.asked.is_none()) {
            let is_it = |need: &&At<String>| need.value == *name;
            let need = other.needs.iter().find(is_it).map(|need| (need, "remove it from `needs`"));
            let pager = other.pager.iter().map(|paged| &paged.by).find(is_it);
            let Some((need, fix)) = need.or(pager.map(|pager| (pager, "name another pager"))) else {
                continue;
            };
            let title = format!("process `{}` needs `{name}`, which starts when asked", other.name.value);
            let fix = format!("{fix}, or remove `start` of `{name}`");
            let problem = Problem::new(need.span.clone(), title, "starts later, or never", fix);
            problems.push(problem.also(asked.span.clone(), "not with the system"));
        }
    }
}

/// Reports a process whose verdict ends the machine, and which would be started again.
fn check_verdict(written: &Written, problems: &mut Problems) {
    let Some(verdict) = &written.verdict else { return };
    let judged = written.processes.iter().find(|process| process.name.value == verdict.value);
    let restart = judged.and_then(|process| process.restart.as_ref());
    if let Some(restart) = restart.filter(|restart| restart.value.when != When::Never) {
        let title = format!("the machine ends with process `{}`, which is never restarted", verdict.value);
        let fix = "remove `restart`, or remove `verdict`";
        let problem = Problem::new(restart.span.clone(), title, "of no use", fix);
        problems.push(problem.also(verdict.span.clone(), "its end is the machine's"));
    }
}
