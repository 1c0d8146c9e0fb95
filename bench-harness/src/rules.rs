//! The book's page of the rules of authority, out of the same table as the rights of the reference and the rights matrix
//! ([`abi::Op::forms`]), and of `abi/src/authority.rs`.

use std::fmt::Write;

use abi::audit::{AuditEvent, may};
use abi::{Asks, Check, Form, Op, Operand};

use crate::reference::one_line;

const INTRODUCTION: &str = "\
# Rules of authority

*The tables of this page are made from `abi/src` by `./justw reference`; a test compares the two.*

Who may do what to what. The [reference](syscalls.md) says what each operation does, [objects](objects.md),
[groups](groups.md) and [messages](grants.md) how the parts work. [Detours](detours.md) searches for ways around these rules,
[confinement](confinement.md) judges random histories by them, the [rights matrix](testing.md#rights-matrix) tries each
operation with each right missing, and the [holes that were found](holes.md#authority-that-nobody-gave) are where they were broken.

## What holds for all

1. **Nothing is done without a capability.** An operation acts by capabilities of the caller's CSpace, and by nothing else.
   Whoever holds all rights of an object may do all to it; nobody may do more than its capability, whoever it is.
2. **Nobody passes on what it lacks.** A copy, a member record, a mapping has no right that what it came from lacks.
3. **What is withheld cannot be had by a detour.** Without GRANT a capability is moved, never given and kept. Without WRITE
   no page of a frame is written. A CNode's capability is of that CNode's slots. A pin goes as it came.
4. **Nobody is put where it did not agree to be.** A process joins a group by an offer that names the group, or who adds. A
   task is called where it is exposed. Capabilities and pages come into slots and windows that the receiver has opened.
5. **Nobody chooses what it is seen as.** Custom bits of a group are its maker's choice; whoever a member adds is seen as that
   member. A sender's TaskId is the kernel's; a call that was handed on says so.
6. **An exposure is its process's.** Others take it back by REMOVE, and put nothing in its place before.
7. **Labels go with the contents.** What a process comes to hold, join or see is asked of its label; a copy is made only where
   nobody who may read it is kept from the original.
8. **Whatever moves authority is told to the audit before it is done**, also where it comes to an error: capabilities,
   memberships, exposures, spaces, pins, labels, and what ends. Pages that are mapped or sent, time, bound Notifications and fault
   handlers are not told of: whoever sets them has a capability for it whose way is.
9. **Some rights include others.** CONFIGURE of a process makes tasks in it, which act for it and may end it by a fault; GRANT of a
   CNode stores into it, empties it, and makes it part of one's own CSpace with all that it holds, once the process that it serves
   has ended; MAP of an address space shows it anything that the caller may map, and takes pages of its pool; REGISTERS of a task is
   to be that task; an Untyped is all that is made of it.
10. **What was taken away does nothing any more.** When a revoke or the removal of a member has succeeded, no operation that used what
    it took is under way on any CPU. Messages that were sent before arrive.
";

/// The whole page.
pub fn render() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str(
        "\n## Each operation\n\nArguments by register, with the rights that each needs; *record*: in the caller's member record, \
         too; *record or DELETE*: the group's maker needs none; *not the own*: the caller's own process or CNode needs none. \
         *For* says for whom it acts, *agreed* what the other side must have agreed to, *labels* what must be allowed to the label \
         of whoever comes to hold, join or see something, or that it must be the same, *told* what the audit is told besides \
         denials.\n\n| operation | takes | for | agreed | labels | told |\n|---|---|---|---|---|---|\n",
    );
    for &op in Op::ALL {
        let _ = writeln!(
            page,
            "| {op:?} | {} | {} | {} | {} | {} |",
            takes(op.forms()),
            op.behalf().text(),
            or_dash(op.agreed()),
            or_dash(&labels(op.asks())),
            or_dash(&op.told().iter().map(|event| format!("{event:?}")).collect::<Vec<_>>().join(", ")),
        );
    }
    page.push_str("\n## What the audit is told\n\n| event | |\n|---|---|\n");
    for &event in AuditEvent::ALL {
        let _ = writeln!(page, "| {event:?} | {} |", one_line(event.doc()));
    }
    page
}

/// What the labels are asked.
fn labels(asks: Asks) -> String {
    let names = [(may::GRANT, "GRANT"), (may::JOIN, "JOIN"), (may::READ, "READ"), (may::WRITE, "WRITE")];
    let bits = names.into_iter().filter(|(bit, _)| asks.bits & bit != 0).map(|(_, name)| name);
    bits.chain(asks.same.then_some("the same")).collect::<Vec<_>>().join(", ")
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "–" } else { text }
}

/// All forms of an operation.
fn takes(forms: &[Form]) -> String {
    let form = |form: &Form| {
        let operands = form.operands.iter().map(operand).collect::<Vec<_>>().join("; ");
        let operands = or_dash(&operands).to_owned();
        if form.when.is_empty() { operands } else { format!("*{}:* {operands}", form.when) }
    };
    or_dash(&forms.iter().map(form).collect::<Vec<_>>().join("<br>")).to_owned()
}

fn operand(operand: &Operand) -> String {
    const REGISTERS: [&str; 6] = ["rdi", "rsi", "rdx", "r8", "r9", "r10"];
    let types = if operand.types.len() > 6 {
        "any".to_owned()
    } else {
        operand.types.iter().map(|of| format!("{of:?}")).collect::<Vec<_>>().join(" or ")
    };
    let check = match operand.check {
        Check::Capability => "",
        Check::Slot | Check::UnlessOwn => " (not the own)",
        Check::Member => " (record)",
        Check::MemberOrMaker => " (record or DELETE)",
    };
    let rights = operand.names().collect::<Vec<_>>().join(" + ");
    let rights = if rights.is_empty() { String::new() } else { format!(": {rights}") };
    format!("{} {types}{rights}{}", REGISTERS[operand.position], if rights.is_empty() { "" } else { check })
}
