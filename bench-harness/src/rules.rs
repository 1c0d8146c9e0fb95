//! Makes the book's page of the rules of authority. Its source is the list of operations, from
//! which the kernel's checks of rights and the rights matrix are made, too ([`abi::Op::forms`]).

use std::fmt::Write;

use abi::audit::{AuditEvent, may};
use abi::{Asks, Check, Form, Op, Operand};

use crate::reference::one_line;

const INTRODUCTION: &str = "\
# Rules of authority

*The tables of this page are made from `abi/src` by `./justw reference`; a test compares the two.*

This page says which process may do what to which object. The [reference](syscalls.md) says what each operation does. [Objects](objects.md),
[groups](groups.md) and [messages](grants.md) explain the parts. [Detours](detours.md) searches for ways around these rules.
[Confinement](confinement.md) judges random histories by them. The [rights matrix](testing.md#rights-matrix) tries each
operation with each right missing. The [holes that were found](holes.md#authority-that-nobody-gave) broke these rules.

## General rules

1. **Every change to an object needs a capability of it.** An operation looks up every object in the caller's CSpace. The
   exceptions are the caller itself (Yield, WhoAmI, SetBases) and the call that it has received (Recv, Reply). A right alone is
   not sufficient where labels or consent are checked, too.
2. **A process passes on only rights that it has.** A copy, a member record or a mapping has no right that its source lacks.
3. **No detour leads to a withheld right.** Without GRANT a capability is moved, never given and kept. Without WRITE
   no page of a frame is written. A CNode's capability covers that CNode's slots. Setting and removing a pin takes DMA of the Machine.
4. **A process enters a group only where it agreed.** It joins by an offer that names the group, or the process that adds it. A
   task is called where it is exposed. Capabilities and pages come into slots and windows that the receiver has opened.
5. **No process chooses its own identity.** Only a holder of DELETE chooses custom bits. A process that a member adds gets
   that member's. The kernel sets a message's TaskId, and marks a forwarded call.
6. **An exposure belongs to the process that made it.** Only four can take it back: that process, the process of the exposed
   task, a holder of REMOVE, and a process that can revoke the exposed capability. No process can expose anything else there before that.
7. **Labels go with the contents.** The kernel checks the label of a process before it gets, joins or sees an object. It makes a copy
   only if every reader of the copy may also read the original.
8. **The audit records changes of authority.** A kill, a revoke and a reset take several entries: they are recorded before they
   begin, so also when they end in an error. All other changes are recorded in the entry that makes them, once it can no longer fail:
   capabilities that enter or leave another process's CSpace, memberships, exposures, spaces, pins and labels. Not recorded are
   mappings, pages in messages, CPU time, bound Notifications, fault handlers, and what a process does within its own CSpace.
9. **Some rights include others.** CONFIGURE of a process makes tasks in it, which act for it and may end it by a fault, and
   offers slots in its name. GRANT of a CNode stores into it, empties it, and, while the CNode serves no process, adds it with all its
   capabilities to the caller's own CSpace. MAP of an address space maps there anything that the caller may map, and takes pages of its
   pool. REGISTERS of a task lets the holder act as that task. An Untyped includes all objects that are made of it.
10. **Revoked authority has no effect.** When a revoke or the removal of a member has succeeded, no operation that used the
    revoked authority is under way on any CPU. Messages that were sent before arrive.
";

/// Makes the book's page of the rules of authority.
pub fn render() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str(
        "\n## Each operation\n\n[Rights](syscalls.md#rights) are listed in the reference.\n\n\
         - **takes**: each capability argument, by register, and the rights that it needs. *record*: the caller's \
         [member record](groups.md#member-records) must have them, too. *record or DELETE*: a capability with DELETE needs no \
         record; its holder is called the group's maker. *not the own*: the caller's own process or CNode needs no right.\n\
         - **for**: the process for which the operation acts.\n\
         - **agreed**: the consent that the other side must have given.\n\
         - **labels**: what a [rule](objects.md#security-labels) must allow to the label of the process that gets, joins or sees the \
         object. *the same*: the labels must be equal.\n\
         - **told**: what the [audit](objects.md#the-audit) records, besides denials. A Death follows every Kill of a task, later \
         and from the task's CPU; it is not repeated in each row.\n\n| operation | takes | for | agreed | labels | told |\n|---|---|---|---|---|---|\n",
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

/// Describes what the rules of labels must allow for an operation.
fn labels(asks: Asks) -> String {
    let names = [(may::GRANT, "GRANT"), (may::JOIN, "JOIN"), (may::READ, "READ"), (may::WRITE, "WRITE")];
    let bits = names.into_iter().filter(|(bit, _)| asks.bits & bit != 0).map(|(_, name)| name);
    bits.chain(asks.same.then_some("the same")).collect::<Vec<_>>().join(", ")
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "–" } else { text }
}

/// Writes all forms of an operation.
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
