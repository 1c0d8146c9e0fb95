//! The attacks, as the guest program `hostile` names them, and what each does.

/// An attack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attack {
    pub name: &'static str,
    pub does: &'static str,
}

const fn attack(name: &'static str, does: &'static str) -> Attack {
    Attack { name, does }
}

/// All attacks, in the order of the table.
pub const ATTACKS: [Attack; 52] = [
    attack("notify-flood", "raises Notifications of the victims' CPU, for which nobody waits"),
    attack("watcher-flood", "exposes and withdraws in a group that 64 Notifications of that CPU watch"),
    attack("member-flood", "joins such a group and is removed from it"),
    attack("reset-flood", "makes a small object and takes its memory back"),
    attack("cancel-flood", "cancels tasks of the victims' CPU, which wait for nothing"),
    attack("pool-stall", "shows room in a full pool, for which a sender with pages waits, and takes it away"),
    attack("shootdown-storm", "maps and unmaps in an address space that runs on the victims' CPU"),
    attack("grace-storm", "fills a slot and empties it, which takes a grace period each time"),
    attack("shared-words", "calls a server while another task writes all over the caller's UTCB"),
    attack("page-shares", "shares 64 pages together, and drops them"),
    attack("page-copies", "copies a page of 2 MiB, and maps one that was in a pool"),
    attack("large-frames", "makes frames of 2 MiB, which Retype clears"),
    attack("large-spaces", "makes address spaces of 256 page tables"),
    attack("root-lock", "holds the lock of the root of all memory by Retype, on every CPU"),
    attack("retype-storm", "makes 128 objects together and takes them back"),
    attack("nested-zombies", "deletes CNodes of CNodes of Untypeds of frames with mappings"),
    attack("flat-zombies", "deletes a CNode of Untypeds of frames with mappings"),
    attack("half-deleted-tree", "stops half-way in such a delete, so that others find it so"),
    attack("half-deleted-copies", "stops half-way in the delete of a capability with 262,000 copies"),
    attack("dying-process", "lets a process of 3,000 tasks end by a fault"),
    attack("equal-deadlines", "lets 1,900 tasks wait until one time"),
    attack("fault-reports", "lets processes without a fault handler end by faults"),
    attack("priority", "asks for priorities and CPUs that nobody allowed"),
    attack("moving-slot", "moves the slot in which it listens while a server answers"),
    attack("moving-window", "closes its window and drops what came there while a server answers with a page"),
    attack("waiting-callers", "lets 1,500 callers wait for a task, and kills that task"),
    attack("call-chain", "calls along a chain of 1,000 tasks, and kills the last"),
    attack("wide-group", "makes a group of 3,000 exposures, and deletes it"),
    attack("process-numbers", "makes processes until its memory is used up, and keeps them"),
    attack("spent-numbers", "makes processes and takes their memory back, as fast as it goes"),
    attack("far-slots", "searches and lists the last of 16 tables of a CSpace"),
    attack("hostages", "lets its slice end inside the victims' servers, and then takes its priority away"),
    attack("page-views", "takes a server's page, and maps it until that page has as many mappings as it may"),
    attack("deadline-chains", "lets deadlines of callers pass that have lent their time down long chains"),
    attack("killed-lender", "kills a task that has lent its time down a long chain"),
    attack("broadcasts", "broadcasts pages to 16 members whose readers wait with deadlines"),
    attack(
        "full-messages",
        "sends events of as many pages as fit, 64 words and 4 capabilities to a full pool",
    ),
    attack("call-crowd", "lets 900 tasks call the victims' servers"),
    attack("lent-deadlines", "lets deadlines of senders with 64 lent pages pass together"),
    attack("large-over-small", "maps a large frame where small pages have been, in vain"),
    attack("pages-both-ways", "replies with as many pages as fit, and receives as many with the next call"),
    attack("large-pool", "binds a pool of 274 pages, first where 273 fit, and ends it"),
    attack("shared-in-vain", "shares 64 pages with a receiver that has room for 63"),
    attack("killed-senders", "kills tasks that wait with 64 lent pages each"),
    attack("client-space", "maps in the address space into which a server replies with pages"),
    attack("deep-copies", "deletes the first of 32 copies of copies, then the next one"),
    attack("time-flood", "sends CPU time to the victims' CPU, for tasks that may not have it there"),
    attack(
        "lock-flood",
        "lets 200 tasks pass one lock on, and 48 wait for a victims' server as for an owner",
    ),
    attack("lock-chain", "lets chains of 60 waits for locks end at a victims' server, or close to cycles"),
    attack("lock-words", "writes all over the words of the locks that a victim takes"),
    attack("grace-hog", "asks for notices before preemption, and does not heed them, or yields to friends"),
    attack("interrupt-storm", "lets a device interrupt the victims' CPU as often as its driver may ask for"),
];

/// Returns the attacks with these names: all, if there are none.
/// Errors: the first name that no attack has.
pub fn named(names: &[String]) -> Result<Vec<Attack>, String> {
    if names.is_empty() {
        return Ok(ATTACKS.to_vec());
    }
    let find = |name: &String| ATTACKS.iter().find(|attack| attack.name == name).copied();
    names.iter().map(|name| find(name).ok_or_else(|| name.clone())).collect()
}

/// Lists all attacks for people.
pub fn list() -> String {
    ATTACKS.iter().map(|attack| format!("{:<20} {}\n", attack.name, attack.does)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_has_the_same_attacks() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../perf/src/bin/hostile/attacks/mod.rs");
        let source = std::fs::read_to_string(path).expect("the guest's source");
        let names: Vec<&str> =
            source.split("attack(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(names, ATTACKS.map(|attack| attack.name));
    }

    #[test]
    fn an_unknown_name_is_told() {
        assert_eq!(named(&[]).map(|all| all.len()), Ok(ATTACKS.len()));
        assert_eq!(named(&["priority".to_owned()]).map(|some| some[0].name), Ok("priority"));
        assert_eq!(named(&["priority".to_owned(), "x".to_owned()]), Err("x".to_owned()));
        assert!(list().contains("equal-deadlines      lets 1,900"));
    }
}
