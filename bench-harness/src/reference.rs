//! The system call reference of the book, made from the documentation in `abi`.
//!
//! Names, numbers and texts are constants of that crate, so the page always agrees with the code; a
//! test compares it with the committed one. Only the sentences between are written here.

use std::fmt::Write;
use std::mem::offset_of;

use abi::{
    Counter, Error, FaultAnswer, FaultKind, MSG_FLAGS, Named, ObjType, Op, RegIndex, Rights, SizeMeaning,
    Utcb,
};

const INTRODUCTION: &str = "\
# System calls

*This page is made from the documentation in `abi/src` by `./justw reference`; a test compares the two.*

A program enters the kernel by `SYSCALL` with an operation number in the low byte of `rax`. A refused call changes
nothing, except where its entry says so; the answer carries an [error](#errors) in the low byte of `rax` (0: none), a
detail in `rdi` and, where the error is about a task, its id in `rsi`.
";

const REGISTERS: &str = include_str!("../../abi/src/lib.rs");
const OPERATIONS: &str = include_str!("../../abi/src/syscall.rs");
const FAULTS: &str = include_str!("../../abi/src/fault.rs");

/// Makes the book's page of system calls.
pub fn render() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Registers\n\n");
    page.push_str(&module_section(REGISTERS, "# Register convention"));
    message_word(&mut page);
    operations(&mut page);
    faults(&mut page);
    errors(&mut page);
    object_types(&mut page);
    rights(&mut page);
    utcb(&mut page);
    counters(&mut page);
    page
}

/// Returns lines of a module's documentation: those behind `heading`, or all but the first
/// paragraph.
fn module_section(source: &str, heading: &str) -> String {
    let lines = source.lines().take_while(|line| line.starts_with("//!")).map(|line| {
        let text = line.trim_start_matches("//!");
        text.strip_prefix(' ').unwrap_or(text)
    });
    let end = if heading.is_empty() { "" } else { heading };
    let text: Vec<&str> = lines.skip_while(|line| *line != end).skip(1).collect();
    plain(&text.join("\n")) + "\n"
}

fn message_word(page: &mut String) {
    page.push_str(
        "\n### Message word\n\n`rax`, in and out: bits 0–7 operation or error, 8–15 UTCB words (64 at most), 16–31 flags, \
         32–63 a label that the kernel passes on unread.\n\n| flag | bit | |\n|---|---|---|\n",
    );
    for Named { name, value, doc } in MSG_FLAGS {
        let _ = writeln!(page, "| {name} | {} | {} |", value.trailing_zeros(), one_line(doc));
    }
    page.push_str(
        "\n### Target\n\nA word that names a capability holds its slot in bits 32–63. Bits 0–31 are a second parameter: the \
         exposure index of a target, the slot of a \"CNode and slot\", or what the operation's entry says.\n",
    );
}

fn operations(page: &mut String) {
    page.push_str("\n## Operations\n\n");
    page.push_str(&module_section(OPERATIONS, ""));
    for &op in Op::ALL {
        let _ = writeln!(page, "\n### {} {op:?}\n", op as u8);
        page.push_str(&entry(op.doc()));
    }
}

/// The lines that begin a field of an entry.
const FIELDS: &[&str] = &["In: ", "Out: ", "Rights: ", "Errors: "];

/// Writes an operation's documentation: what it does, then a list of its fields.
fn entry(doc: &str) -> String {
    let doc = plain(doc);
    let mut fields: Vec<String> = vec![String::new()];
    for line in doc.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let begins = FIELDS.iter().any(|field| line.starts_with(field));
        if begins {
            fields.push(String::new());
        }
        if let Some(field) = fields.last_mut() {
            if !field.is_empty() {
                field.push(' ');
            }
            field.push_str(line);
        }
    }
    let mut text = format!("{}\n", fields[0]);
    for (i, field) in fields.iter().skip(1).enumerate() {
        let (name, rest) = field.split_once(": ").unwrap_or((field, ""));
        // What comes out stands behind what goes in.
        let rest = rest.replace(". Out: ", ".\n- **Out:** ");
        let _ = writeln!(text, "{}- **{name}:** {rest}", if i == 0 { "\n" } else { "" });
    }
    text
}

fn faults(page: &mut String) {
    page.push_str("\n## Faults\n\n");
    page.push_str(&module_section(FAULTS, ""));
    page.push_str("\n| label | kind of fault | |\n|---|---|---|\n");
    for &kind in FaultKind::ALL {
        let _ = writeln!(page, "| {} | {kind:?} | {} |", kind.label(), one_line(kind.doc()));
    }
    page.push_str("\n| label | answer: the task… | |\n|---|---|---|\n");
    for &answer in FaultAnswer::ALL {
        let _ = writeln!(page, "| {} | {answer:?} | {} |", answer.label(), one_line(answer.doc()));
    }
}

fn errors(page: &mut String) {
    page.push_str(
        "\n## Errors\n\nThe column *blame* says which side has to change something: the *caller*, the *peer* (the other side of a \
         message), the provider of *resources*, or no side (*state*: ask again later, or not).\n\n| | error | blame | |\n|---|---|---|---|\n",
    );
    for &error in Error::ALL {
        let blame = format!("{:?}", error.blame()).to_lowercase();
        let _ = writeln!(page, "| {} | {error:?} | {blame} | {} |", error as u8, one_line(error.text()));
    }
}

fn object_types(page: &mut String) {
    page.push_str("\n## Object types\n\nThe number is the index that Retype takes.\n\n| | type | size is | |\n|---|---|---|---|\n");
    for &object in ObjType::ALL {
        let size = match object.size_meaning() {
            SizeMeaning::Fixed => "0",
            SizeMeaning::Log2Bytes => "log2 of bytes",
            SizeMeaning::Log2Cells => "log2 of cells",
            SizeMeaning::Entries => "entries",
            SizeMeaning::Group => "members, exposures",
        };
        let _ = writeln!(page, "| {} | {object:?} | {size} | {} |", object as u8, one_line(object.doc()));
    }
}

fn rights(page: &mut String) {
    page.push_str(
        "\n## Rights\n\nA capability has 17 rights: ten that mean the same for every type, seven of the type's own. A \
         group's member record has the first ten.\n\n| of | right | bit | |\n|---|---|---|---|\n",
    );
    let sets: [(&str, &[Named<Rights>]); 7] = [
        ("all", Rights::SHARED),
        ("CNode", abi::cnode_rights::ALL),
        ("Task", abi::task_rights::ALL),
        ("Process", abi::process_rights::ALL),
        ("SchedContext", abi::sched_rights::ALL),
        ("Frame", abi::frame_rights::ALL),
        ("Machine", abi::machine_rights::ALL),
    ];
    for (of, set) in sets {
        for Named { name, value, doc } in set {
            let _ = writeln!(page, "| {of} | {name} | {} | {} |", value.0.trailing_zeros(), one_line(doc));
        }
    }
}

fn utcb(page: &mut String) {
    page.push_str("\n## UTCB\n\nOne page of 64-bit words that a task and the kernel share.\n\n| bytes | | |\n|---|---|---|\n");
    let parts = [
        (offset_of!(Utcb, msg), "msg", "UTCB words of a message"),
        (
            offset_of!(Utcb, preempt_pending),
            "preempt_pending",
            "until when this task may run on after a notice, or 0",
        ),
        (offset_of!(Utcb, task_id), "task_id", "this task's id"),
        (offset_of!(Utcb, home_cpu), "home_cpu", "this task's CPU"),
        (offset_of!(Utcb, bulk), "bulk", "register sets, log text"),
        (offset_of!(Utcb, wants_notice), "wants_notice", "not 0: this task wants a notice before preemption"),
        (offset_of!(Utcb, user), "user", "the program's own"),
    ];
    for (offset, name, meaning) in parts {
        let _ = writeln!(page, "| {offset:#x} | `{name}` | {meaning} |");
    }
    let registers: Vec<String> = (0..abi::REG_COUNT).map(|i| format!("{i} {}", register(i))).collect();
    let _ = writeln!(page, "\nRegister sets, by word of `bulk`: `{}`.", registers.join(", "));
}

/// Returns the name of a register in a set.
fn register(index: usize) -> String {
    use RegIndex as R;
    const ALL: [RegIndex; abi::REG_COUNT] = [
        R::Rax,
        R::Rbx,
        R::Rcx,
        R::Rdx,
        R::Rsi,
        R::Rdi,
        R::Rbp,
        R::R8,
        R::R9,
        R::R10,
        R::R11,
        R::R12,
        R::R13,
        R::R14,
        R::R15,
        R::Rip,
        R::Rsp,
        R::Rflags,
        R::FsBase,
        R::GsBase,
    ];
    let register = ALL[index];
    assert_eq!(register as usize, index, "registers are listed in order");
    format!("{register:?}").to_lowercase()
}

fn counters(page: &mut String) {
    page.push_str("\n## Counters\n\nPer CPU, since boot; the number is what MachineCounter takes.\n\n| | counter | |\n|---|---|---|\n");
    for (number, counter) in Counter::ALL.iter().enumerate() {
        let _ = writeln!(page, "| {number} | `{}` | {} |", counter.name(), one_line(counter.doc()));
    }
}

pub fn one_line(doc: &str) -> String {
    plain(doc).split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Returns documentation without its links: ``[`Name`](path)`` and ``[`path::Name`]`` become ``
/// `Name` ``.
fn plain(doc: &str) -> String {
    let mut text = String::new();
    let mut rest = doc;
    while let Some((before, link)) = rest.split_once("[`") {
        text.push_str(before);
        let (name, after) = link.split_once("`]").unwrap_or((link, ""));
        let _ = write!(text, "`{}`", name.rsplit("::").next().unwrap_or(name));
        rest = match after.strip_prefix('(').and_then(|path| path.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_names() {
        assert_eq!(plain("as [`Op`](crate::Op) and [`Error::Gone`] say"), "as `Op` and `Gone` say");
    }

    #[test]
    fn entries_become_lists() {
        let text = entry(" Does it.\n\n In: rdi = x. Out: rdi = y\n and more.\n Errors: Gone.\n");
        assert_eq!(
            text,
            "Does it.\n\n- **In:** rdi = x.\n- **Out:** rdi = y and more.\n- **Errors:** Gone.\n"
        );
    }
}
