//! Reads groups and their members.

use abi::Rights;

use crate::keys;
use crate::near::advice;
use crate::problem::{Problem, Problems};
use crate::values::{At, Entry, Fields};
use crate::written::{Group, Member};

/// Reads the groups, in the order of the file.
pub fn groups(system: &Fields<'_>, problems: &mut Problems) -> Vec<Group> {
    let Some(table) = system.get("groups") else { return Vec::new() };
    let named = table.named("a group", problems);
    named.into_iter().map(|(name, entry)| group(name, &entry, problems)).collect()
}

fn group(name: At<String>, entry: &Entry<'_>, problems: &mut Problems) -> Group {
    let mut group = Group { name, about: String::new(), exposes: Vec::new(), members: Vec::new() };
    let owner = format!("group `{}`", group.name.value);
    let Some(fields) = entry.table(owner.clone(), keys::GROUP, problems) else { return group };
    group.about = fields.get("about").and_then(|about| about.line(problems)).unwrap_or_default();
    if let Some(exposes) = fields.need("exposes", problems) {
        group.exposes = exposes.texts(problems);
        if exposes.value.as_array().is_some_and(|list| list.is_empty()) {
            let fix = "name the process that answers its members, as in `exposes = [\"serial\"]`";
            exposes.wrong(format!("{owner} has no server"), "an empty list", fix, problems);
        }
    }
    let members = fields.get("members").map(|members| members.named("a member", problems));
    for (process, entry) in members.unwrap_or_default() {
        let owner = format!("member `{}` of {owner}", process.value);
        let Some(fields) = entry.table(owner.clone(), keys::MEMBER, problems) else { continue };
        let rights = fields.need("rights", problems);
        let rights = rights.map(|entry| self::rights(&owner, &entry, problems));
        let custom = fields.get("custom").and_then(|custom| custom.number(0..=0xffff, problems));
        let custom = custom.map_or(0, |custom| custom.value as u16);
        group.members.push(Member { process, rights, custom });
    }
    group
}

/// Reads the rights of a member.
fn rights(owner: &str, entry: &Entry<'_>, problems: &mut Problems) -> At<u32> {
    let names = Rights::SHARED.iter().map(|right| right.name.to_lowercase());
    let known: Vec<(String, Rights)> = names.zip(Rights::SHARED.iter().map(|right| right.value)).collect();
    if entry.value.as_array().is_some_and(|list| list.is_empty()) {
        let fix = "write `rights = [\"send\"]`, or remove the member";
        entry.wrong(format!("{owner} may do nothing"), "an empty list", fix, problems);
    }
    let rights = rights_among(&known, "in a group", entry, problems);
    At::new(rights.0, entry.span.clone())
}

/// Reads a list of rights, each of which is among the known ones. `whereto` says what they are
/// rights to.
pub(super) fn rights_among(
    known: &[(String, Rights)],
    whereto: &str,
    entry: &Entry<'_>,
    problems: &mut Problems,
) -> Rights {
    let mut rights = Rights::NONE;
    for word in entry.texts(problems) {
        match known.iter().find(|(name, _)| *name == word.value) {
            Some((_, right)) => rights = rights.union(*right),
            None => {
                let fix = advice(&word.value, known.iter().map(|(name, _)| name.as_str()));
                let title = format!("there is no right `{}` {whereto}", word.value);
                problems.push(Problem::new(word.span, title, "unknown right", fix));
            }
        }
    }
    rights
}
