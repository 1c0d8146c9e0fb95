//! CSpaces are listed and holders are verified while both change.

use alloc::vec::Vec;

use abi::audit::CapEntry;
use abi::{Cap, Error, MEMBER_RIGHTS, ObjType, Op, Rights, process_rights};
use user_rt::arch::Args;
use user_rt::cap::{CNode, Handle, Notification, Process};
use user_rt::holdings::Piece;
use user_rt::invoke::copy;
use user_rt::spawn::own;

use crate::lab::{CHILD_FREE, CHILD_GROUP, Lab, Wanted};
use crate::suite::Outcome;
use crate::{expect, expect_eq, tests};

tests! {
    a_list_says_what_inspect_says holders_are_verified members_are_verified observing_takes_a_right
    lists_of_a_cspace_that_changes
}

fn all(mut piece: impl FnMut(Cap) -> user_rt::Result<Piece>) -> user_rt::Result<Vec<CapEntry>> {
    let (mut found, mut next) = (Vec::new(), Some(Cap::NULL));
    while let Some(from) = next {
        let piece = piece(from)?;
        found.extend(piece.entries());
        next = piece.next;
    }
    Ok(found)
}

fn a_list_says_what_inspect_says(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.process(false)?;
    let child = lab.child(place)?;
    let (process, cnode) = (child.process.again(), child.cnode.again());
    let note: Notification = lab.nursery.make(0)?;
    copy(&note, cnode.slot(Cap(CHILD_FREE + 7)), Rights::NOTIFY, 5)?;
    let listed = all(|from| process.list(from))?;
    expect_eq!(all(|from| cnode.list(from))?, listed, "by the process and by the CNode");
    expect!(listed.len() > 4, "only {} capabilities", listed.len());
    for entry in &listed {
        let seen = cnode.inspect(Cap(entry.slot))?.map(|it| (it.object, it.rights, it.badge, it.identity));
        let told = (entry.object, entry.rights, entry.badge, entry.identity);
        expect_eq!(seen, Some(told), "slot {}", entry.slot);
    }
    let given = listed.iter().find(|entry| entry.slot == CHILD_FREE + 7);
    let given = given.map(|it| (it.object, it.rights, it.badge));
    expect_eq!(given, Some((ObjType::Notification, Rights::NOTIFY, 5)), "what it was given");
    expect!(all(|from| own::cnode().list(from))?.len() > 100, "the own CSpace, of many pieces");
    Ok(())
}

fn holders_are_verified(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.process(false)?;
    let child = lab.child(place)?;
    let (process, cnode) = (child.process.again(), child.cnode.again());
    let note: Notification = lab.nursery.make(0)?;
    let other: Notification = lab.nursery.make(0)?;
    expect_eq!(process.holds(&note, Rights::NONE)?, None, "before it is given");
    let slot = Cap(CHILD_FREE);
    copy(&note, cnode.slot(slot), Rights::NOTIFY, 0)?;
    expect_eq!(process.holds(&note, Rights::NOTIFY)?, Some(slot), "what it was given");
    expect_eq!(process.holds(&note, Rights::NOTIFY | Rights::LISTEN)?, None, "with more rights");
    expect_eq!(process.holds(&other, Rights::NONE)?, None, "another object");
    own::cnode().revoke(note.cap())?;
    expect_eq!(process.holds(&note, Rights::NONE)?, None, "after the revoke");
    expect!(own::process().holds(&note, Rights::ALL)?.is_some(), "the asker itself");
    let bare: Process = lab.nursery.make(1)?;
    let refused = bare.holds(&note, Rights::NONE).map_err(|r| r.error);
    expect_eq!(refused, Err(Error::BadState), "a process without CSpace");
    Ok(())
}

fn members_are_verified(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.process_with(false, Rights::SEND | Rights::NOTIFY, 0)?;
    let group = lab.group()?;
    let process = lab.child(place)?.process.again();
    expect_eq!(process.holds(&group, Rights::SEND)?, Some(CHILD_GROUP), "a member");
    expect_eq!(process.holds(&group, Rights::ADD)?, None, "what its record lacks");
    let index = lab.process_alone(false)?;
    let stranger = &lab.children[index];
    copy(&group, stranger.cnode.slot(Cap(CHILD_FREE)), MEMBER_RIGHTS.minus(Rights::DELETE), 0)?;
    expect_eq!(stranger.process.holds(&group, Rights::NONE)?, None, "a copy without record");
    Ok(())
}

fn observing_takes_a_right(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.process(false)?;
    let process = lab.child(place)?.process.again();
    let note: Notification = lab.nursery.make(0)?;
    let blind = lab.nursery.take_slot()?;
    copy(&process, own::cnode().slot(blind), Rights::ALL.minus(process_rights::OBSERVE.rights()), 0)?;
    let blind = Process::at(blind);
    expect_eq!(blind.holds(&note, Rights::NONE).map_err(|r| r.error), Err(Error::NoRight), "verify");
    expect_eq!(blind.list(Cap::NULL).map(|_| ()).map_err(|r| r.error), Err(Error::NoRight), "list");
    Ok(())
}

/// A CSpace is listed while a task on another CPU fills and empties its slots: the list has no
/// capability that was not there.
fn lists_of_a_cspace_that_changes(lab: &mut Lab<'_>) -> Outcome {
    let cpu = lab.cpus - 1;
    let puppet = lab.puppet(&Wanted { cpu, ..Wanted::default() })?;
    let (note, table) = (lab.nursery.make::<Notification>(0)?, lab.nursery.make::<CNode>(300)?);
    let identity = own::cnode().inspect(note.cap())?.map(|it| it.identity);
    for round in 0..200u64 {
        let to = table.slot(Cap(1 + (round * 7 % 299) as u32)).0.0;
        let args = match round % 2 {
            0 => Args::plain(Op::CapCopy, note.arg(), to, u64::from(Rights::NOTIFY.0), round),
            _ => Args::plain(Op::CapRevoke, own::cnode().slot(note.cap()).0.0, 0, 0, 0),
        };
        lab.ask(&puppet, &args)?;
        while !lab.is_through(&puppet) {
            for entry in all(|from| table.list(from))? {
                let told = (entry.object, entry.rights, Some(entry.identity));
                expect_eq!(told, (ObjType::Notification, Rights::NOTIFY, identity), "slot {}", entry.slot);
            }
            lab.sleep(1000);
        }
        expect_eq!(lab.answer(&puppet)?.error(), None, "round {round}");
    }
    Ok(())
}
