//! Memory: the use of each page, and the places of objects.

use snapshot::ExtentKind;

use crate::facts::Facts;
use crate::index::{Kind, Piece};
use crate::report::Findings;

const PAGE: u64 = abi::PAGE_SIZE;

fn say(piece: &Piece, f: &Facts<'_>) -> String {
    format!("{:#x}..{:#x} ({:?} of {})", piece.start, piece.end, piece.kind, f.name(piece.object))
}

/// Each byte is used for one thing at most: an object, a frame, page tables, an event pool. And all
/// of it is memory that the machine has.
pub fn disjoint(f: &Facts<'_>, out: &mut Findings) {
    let mut last: Option<&Piece> = None;
    for piece in f.index.pieces.iter().filter(|piece| piece.kind != ExtentKind::Untyped) {
        if let Some(last) = last.filter(|last| last.end > piece.start) {
            out.add(format_args!("{} overlaps {}", say(piece, f), say(last, f)));
        }
        if last.is_none_or(|last| last.end < piece.end) {
            last = Some(piece);
        }
        let is_memory =
            |range: &snapshot::Range| piece.start >= range.at && piece.end <= range.at + range.bytes;
        hold!(out, f.s.ranges.iter().any(is_memory), "{} is not in memory", say(piece, f));
    }
}

/// What stands in an Untyped's memory stands where that was carved, and is of its root. An Untyped
/// has carved no more than it has. Memory that was never carved, or was started again, has nothing
/// in it.
pub fn carved(f: &Facts<'_>, out: &mut Findings) {
    for untyped in &f.s.untypeds {
        let fits = untyped.low.checked_add(untyped.high).is_some_and(|carved| carved <= untyped.size);
        hold!(
            out,
            fits,
            "Untyped {:#x} has carved {:#x} and {:#x} of {:#x}",
            untyped.at,
            untyped.low,
            untyped.high,
            untyped.size
        );
    }
    for piece in f.index.pieces.iter().filter(|piece| piece.inside != 0) {
        let Some(untyped) = f.s.untypeds.get(piece.inside as usize - 1) else { continue };
        if f.is_root_locked(untyped.root) {
            continue;
        }
        let (low, high) =
            (untyped.base + untyped.low, untyped.base + untyped.size.saturating_sub(untyped.high));
        let end = untyped.base + untyped.size;
        let is_carved = piece.end <= low || piece.start >= high && piece.end <= end;
        hold!(
            out,
            is_carved,
            "{} is not carved: Untyped {:#x} is free from {low:#x} to {high:#x}",
            say(piece, f),
            untyped.at
        );
        if let Some(root) = f.root_of(piece.object) {
            hold!(
                out,
                root == untyped.root,
                "{} is of root {root}, its memory of {}",
                say(piece, f),
                untyped.root
            );
        }
    }
}

/// A page's owner in the frame table is alive, and has the page: a Frame with that page, or a
/// VSpace that uses it as a page table. Only if a page is still in pools may its Frame have ended;
/// its memory is still carved then. A page that nobody owns is mapped nowhere.
pub fn page_owners(f: &Facts<'_>, out: &mut Findings) {
    for info in &f.s.infos {
        let page = info.at;
        match Kind::from_raw(info.owner_kind) {
            _ if info.owner_kind == 0 => {
                let free = info.locked || info.mapped == 0 && info.first == 0 || f.any_busy();
                hold!(out, free, "page {page:#x} has no owner, and is mapped {} times", info.mapped);
            }
            Some(Kind::Frame) => match f.frame(info.owner) {
                Some(frame) => {
                    let offset = page.wrapping_sub(frame.base);
                    let has =
                        offset >> frame.log2 < u64::from(frame.pages) && offset % (1 << frame.log2) == 0;
                    hold!(
                        out,
                        has && frame.device == info.device,
                        "page {page:#x} is owned by a Frame that does not have it"
                    );
                }
                None => ended(f, page, info.owner, info.pooled || info.locked, out),
            },
            Some(Kind::VSpace) => match f.vspace(info.owner) {
                Some(space) => {
                    let number = page.wrapping_sub(space.base) / PAGE;
                    let has = number < u64::from(space.used) || space.locked;
                    hold!(
                        out,
                        has,
                        "page {page:#x} is noted as a table of {}, which does not use it",
                        f.name(info.owner)
                    );
                }
                None => out.add(format_args!("page {page:#x} is a table of {}", f.name(info.owner))),
            },
            _ => out.add(format_args!("page {page:#x} is owned by an object of type {}", info.owner_kind)),
        }
    }
}

/// Checks a page whose Frame has ended.
fn ended(f: &Facts<'_>, page: u64, owner: u64, pooled: bool, out: &mut Findings) {
    if f.any_busy() || f.any_root_locked() {
        return;
    }
    hold!(out, pooled, "page {page:#x} is owned by {}, and in no pool", f.name(owner));
    hold!(out, !is_free(f, page), "page {page:#x} is in a pool, and its memory is free");
    let (piece, _) = f.index.memory(page);
    hold!(
        out,
        piece.is_none(),
        "page {page:#x} is in a pool, and is part of {}",
        piece.map_or(String::new(), |p| say(p, f))
    );
}

/// Returns whether an address is in memory of an Untyped that is not carved.
pub fn is_free(f: &Facts<'_>, at: u64) -> bool {
    let (_, untyped) = f.index.memory(at);
    untyped.and_then(|number| f.s.untypeds.get(number)).is_some_and(|untyped| {
        at >= untyped.base + untyped.low && at < untyped.base + untyped.size.saturating_sub(untyped.high)
    })
}

/// The frame table has all pages of a Frame as that Frame's, until the end of its destruction. A
/// page of a dying Frame is nobody's once the last pool has let go of it.
pub fn frame_pages(f: &Facts<'_>, out: &mut Findings) {
    for frame in &f.s.frames {
        if frame.dying && (frame.swept >= frame.pages || f.any_busy()) || f.is_root_locked(frame.root) {
            continue;
        }
        let aligned = frame.base % (1 << frame.log2) == 0 && matches!(frame.log2, 12 | 21);
        hold!(out, aligned, "Frame {:#x} has pages of 2^{} bytes at {:#x}", frame.at, frame.log2, frame.base);
        for page in (0..u64::from(frame.pages)).map(|number| frame.base + (number << frame.log2)) {
            let owner = f.info(page).map_or(0, |info| info.owner);
            hold!(
                out,
                owner == frame.at || frame.dying && owner == 0,
                "page {page:#x} of Frame {:#x} is owned by {}",
                frame.at,
                f.name(owner)
            );
        }
    }
}

/// The kernel's list of frames of device memory has each that lives, and no two of them meet.
pub fn devices(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    for frame in f.s.frames.iter().filter(|frame| frame.device) {
        let listed = f.s.devices.iter().filter(|device| device.frame == frame.at).count();
        hold!(out, listed == 1, "device frame {:#x} is listed {listed} times", frame.at);
        let end = |frame: &snapshot::Frame| frame.base + (u64::from(frame.pages) << frame.log2);
        let meets = |other: &&snapshot::Frame| {
            other.device && other.at != frame.at && other.base < end(frame) && frame.base < end(other)
        };
        if let Some(other) = f.s.frames.iter().find(meets) {
            out.add(format_args!("device frames {:#x} and {:#x} have the same memory", frame.at, other.at));
        }
    }
}
