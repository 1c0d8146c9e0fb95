//! Surveys of the simulated machine: their cost, and the snapshots with which the tests of the
//! crate `invariants` begin.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use abi::{Cap, MAP_POOL, ObjType, Op, PageMode, PageRange, Target};
use invariants::pte::{Pte, What};
use invariants::{Checker, Snapshot};
use kern_base::group::MEMBER_KEY_SHIFT;
use kern_base::limits::START_CALLERS;
use kern_base::machine::Access;
use kern_base::paging;
use proptest::prelude::*;
use snapshot::SlotUse;

use crate::scene::{GROUP, call};
use crate::storm;
use crate::world::check;
use crate::world::machine::DEVICES;
use crate::world::make::{CONTROL, at};
use crate::world::{Regs, World};

fn number(name: &str, normal: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(normal)
}

/// Prints what a survey with its check costs: `cargo test … survey::cost -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn cost() {
    for (name, cpus, bytes) in
        [("1 CPU, 1 MiB", 1, 1 << 20), ("2 CPUs, 2 MiB", 2, 2 << 20), ("2 CPUs, 8 MiB", 2, 8 << 20)]
    {
        let mut w = World::unchecked(cpus, bytes);
        let process = w.process_of(abi::INIT_UNTYPED, 4, 16);
        w.start(process, 0, 10);
        let snapshot = check::snapshot(&w);
        let (mut least, mut least_survey) = (u128::MAX, u128::MAX);
        for _ in 0..number("COST_ROUNDS", 300) {
            let start = Instant::now();
            assert!(black_box(check::violations(&w)).is_empty());
            least = least.min(start.elapsed().as_nanos());
            let start = Instant::now();
            check::survey_alone(&w);
            least_survey = least_survey.min(start.elapsed().as_nanos());
        }
        println!(
            "{name}: {} extents, {} slots, {} entries, {} infos: {:.1} us, of which the survey {:.1} us",
            snapshot.extents.len(),
            snapshot.slots.len(),
            snapshot.entries.len(),
            snapshot.infos.len(),
            least as f64 / 1000.0,
            least_survey as f64 / 1000.0,
        );
    }
}

proptest! {
    /// The rules read page-table entries by code of their own: it says what the kernel's says.
    #[test]
    fn entries_are_read_alike(word in any::<u64>(), small in 0..512u64, level in 1..=4u32) {
        for word in [word, word & 0x81f0_0000_0000_03ff, word & 0x0070_0000_0000_0083 | small] {
            let (kernels, rules) = (paging::Pte::vouched(smp::host_test::vouched(word)), Pte(word));
            let what = rules.what(level);
            prop_assert_eq!(kernels.is_present(), matches!(what, What::Page | What::Table));
            prop_assert_eq!(kernels.is_present() && kernels.is_page(level), what == What::Page);
            prop_assert_eq!(kernels.is_in_transit(), what == What::Transit);
            prop_assert_eq!(kernels.has_page(level), matches!(what, What::Page | What::Transit));
            let stamp = if let What::Gone(stamp) = what { stamp } else { 0 };
            prop_assert_eq!(kernels.shootdown().map_or(0, |stamp| stamp.raw()), stamp);
            prop_assert_eq!(kernels.at().0, rules.at());
            if matches!(what, What::Page | What::Transit) {
                prop_assert_eq!(kernels.is_pooled(), rules.is_pooled());
                prop_assert_eq!(kernels.is_plain(), rules.is_plain());
                prop_assert_eq!(kernels.is_lent(), rules.is_lent());
                prop_assert_eq!(kernels.is_copied_on_write(), rules.is_copied());
                let pooled = kernels.pool_access() == Access::Write;
                prop_assert!(!kernels.is_pooled() || pooled == rules.is_writable());
            }
            if what == What::Page {
                prop_assert_eq!(kernels.access() == Access::Execute, rules.is_executable());
                prop_assert_eq!(kernels.access() == Access::Write, rules.is_writable() && !rules.is_executable());
                for (caching, device, combining) in [
                    (paging::Caching::WriteBack, false, false),
                    (paging::Caching::WriteCombining, true, true),
                    (paging::Caching::Uncached, true, false),
                ] {
                    let said = rules.is_cached_as(device, combining);
                    prop_assert_eq!(kernels.is_cached_as(caching), said, "{:?}", caching);
                }
            }
        }
    }
}

// --- snapshots for the tests of rules ------------------------------------------------------------

/// Where those are kept.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../invariants/tests/worlds");

/// Returns the sights of a snapshot: used references, states, kinds of entries and of mail.
fn sights(checker: &mut Checker, s: &Snapshot) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (reference, first) in checker.references(s) {
        if first.is_some() {
            seen.insert(reference.name.to_owned());
        }
    }
    for task in &s.tasks {
        let what = (task.state, task.plain, task.in_fault, task.ending, task.stage, task.request);
        seen.insert(format!("{what:?}"));
        seen.insert(format!("moves {}", task.under_way));
        seen.insert(format!("place {} {}", task.queue_place, task.queue_lower != 0));
        let lists = [task.senders, task.posters, task.death_waiters, task.replies, task.deadline_left];
        seen.insert(format!("lists {:?}", lists.map(|at| at != 0)));
    }
    for entry in &s.entries {
        let word = Pte(entry.word);
        let what = match word.what(entry.level) {
            What::Gone(_) => What::Gone(0),
            what => what,
        };
        let kind =
            (word.is_pooled(), word.is_writable(), word.is_executable(), word.is_copied(), word.is_lent());
        seen.insert(format!("{what:?} {} {kind:?} {}", entry.level, entry.next | entry.prev != 0));
    }
    for info in &s.infos {
        let flags = (info.stale, info.dying, info.pooled, info.unclean, info.device);
        seen.insert(format!("info {flags:?} {}", s.frames.iter().any(|frame| frame.at == info.owner)));
    }
    seen.extend(s.tasks.iter().filter(|task| task.deadline_left != 0).map(|_| "heap.child".to_owned()));
    seen.extend(s.mails.iter().map(|mail| format!("mail {:?}", mail.kind)));
    seen.extend(
        s.slots.iter().filter(|slot| slot.used != SlotUse::Full).map(|slot| format!("{:?}", slot.used)),
    );
    seen.extend(s.exposures.iter().map(|e| format!("exposure {} {}", e.per_cpu != 0, e.watch != 0)));
    seen.extend(s.extents.iter().map(|extent| format!("{:?}", extent.kind)));
    for cpu in &s.cpus {
        let lists = [cpu.grace_waiters, cpu.shootdown_waiters, cpu.unanswered, cpu.front, u64::from(cpu.top)];
        seen.insert(format!("cpu {:?}", lists.map(|at| at != 0)));
        let lists = [cpu.first_followers, cpu.followers, cpu.sent_follower];
        seen.insert(format!("followers {:?}", lists.map(|at| at != 0)));
    }
    for pool in &s.pools {
        let reader = s.slots.iter().find(|slot| slot.at == pool.reader).map(|slot| slot.object);
        let waits = s.tasks.iter().any(|task| Some(task.at) == reader && task.posters != 0);
        seen.insert(format!("pool {} {waits}", pool.closed));
    }
    seen.extend(s.contexts.iter().map(|it| format!("context {} {}", it.cpus == u64::MAX, it.slice != 0)));
    seen.extend(s.contexts.iter().filter(|context| context.queue_next != 0).map(|_| "queue".to_owned()));
    seen.extend(s.members.iter().filter(|member| member.next != 0).map(|_| "memberships".to_owned()));
    seen.extend(s.untypeds.iter().filter(|untyped| untyped.revoked).map(|_| "revoked".to_owned()));
    seen
}

/// A snapshot whose processes have keys that are the same in every run, since keys are places.
fn with_short_keys(s: &Snapshot) -> Snapshot {
    let mut s = s.clone();
    let keys: Vec<u64> = s.processes.iter().map(|process| process.key).collect();
    let short = |key: u64| keys.iter().position(|it| *it == key).map_or(0, |at| at as u64 + 1);
    s.processes.iter_mut().for_each(|process| process.key = short(process.key));
    for member in s.members.iter_mut().filter(|member| member.word != 0) {
        let rest = member.word & ((1 << MEMBER_KEY_SHIFT) - 1);
        member.process_key = short(member.process_key);
        member.word = member.process_key << MEMBER_KEY_SHIFT | rest;
    }
    s
}

/// A snapshot as text, with the world's memory where it is the same in every run.
fn text(w: &World, s: &Snapshot) -> String {
    const PAGES: u64 = 0x000f_ffff_ffff_f000;
    let places = [
        (w.regions[0].start, 1 << 20, 0x20_0000),
        (w.regions[1].start, 1 << 20, 0x10_0000),
        (w.regions[2].start, 64 << 20, 0x1000_0000),
    ];
    let mut moved = String::new();
    for line in with_short_keys(s).write().lines() {
        if line.starts_with(':') {
            moved += line;
        } else {
            for (number, part) in line.split(' ').enumerate() {
                let word = u64::from_str_radix(part, 16).ok().filter(|_| number > 0);
                let place = word.and_then(|word| {
                    places.iter().find(|(at, size, _)| (*at..at + size).contains(&(word & PAGES)))
                });
                match word.zip(place) {
                    Some((word, (at, _, to))) => _ = write!(moved, " {:x}", word - at + to),
                    None if number == 0 => moved += part,
                    None => _ = write!(moved, " {part}"),
                }
            }
        }
        moved.push('\n');
    }
    moved
}

/// Makes the snapshots again with which the tests of `invariants` begin, from storms and from
/// states that storms do not reach: `cargo test … survey::snapshots_for_rules -- --ignored`.
#[test]
#[ignore = "writes files of another crate"]
fn snapshots_for_rules() {
    let mut checker = Checker::default();
    let mut found: Vec<(BTreeSet<String>, String)> = Vec::new();
    let mut all = BTreeSet::new();
    let mut look = |w: &World| {
        let s = check::snapshot(w);
        let sights = sights(&mut checker, &s);
        if sights.iter().any(|sight| !all.contains(sight)) {
            assert_eq!(checker.check(&s), []);
            all.extend(sights.iter().cloned());
            found.push((sights, text(w, &s)));
        }
    };
    let made = [devices_and_large_pages(), capabilities(), a_move()];
    made.iter().for_each(&mut look);
    let made = made.map(|w| check::snapshot(&w)).map(|s| sights(&mut Checker::default(), &s));
    for seed in 0..number("STORMS", 200) {
        storm::watched(1 + seed as usize % 3, seed * 7919 + 1, 400, &mut look);
    }
    std::fs::create_dir_all(KEPT).expect("a directory");
    let mut missing = all;
    for number in 0..number_of_files() {
        // A reference counts more than a state in which it may be.
        let worth = |sight: &String| if sight.contains('.') { 5 } else { 1 };
        let new = |sights: &BTreeSet<String>| sights.intersection(&missing).map(worth).sum::<usize>();
        let is_made = |sights: &BTreeSet<String>| made.get(number).is_some_and(|made| made == sights);
        let next = found.iter().max_by_key(|(sights, _)| (is_made(sights), new(sights)));
        let Some((sights, text)) = next.filter(|(sights, _)| new(sights) > 0) else { break };
        println!("{number}: {} more, of {}", new(sights), missing.len());
        missing = missing.difference(sights).cloned().collect();
        std::fs::write(Path::new(KEPT).join(format!("{number:02}.txt")), text).expect("a file");
    }
    println!("not kept: {missing:#?}");
}

fn number_of_files() -> usize {
    number("FILES", 17) as usize
}

/// A device's interrupt, and a space with device memory, large pages, code, and pages of pools of
/// both sizes, in two places.
fn devices_and_large_pages() -> World {
    let mut w = World::with_memory(2, 16 << 20);
    let space = w.make(0, ObjType::VSpace, 16);
    let (small, large, pooled) = (
        w.make(0, ObjType::Frame, 12 | 3 << 8),
        w.make(0, ObjType::Frame, 21),
        w.make(0, ObjType::Frame, 21),
    );
    let map = |w: &mut World, frame: Cap, address: u64, how: u64| {
        w.must(0, Op::Map, &[space.arg(), frame.arg(), address, how]);
    };
    map(&mut w, small, 0x4000_0000, 0);
    map(&mut w, small, 0x5000_0000, 2);
    map(&mut w, large, 0x6000_0000, 1);
    map(&mut w, large, 0x6060_0000, 0);
    map(&mut w, pooled, 0x8000_0000, MAP_POOL | 1);
    let device = w.slot();
    let args = [abi::INIT_MACHINE.arg(), abi::INIT_UNTYPED.arg(), at(device), DEVICES, 12 | 2 << 8];
    w.must(0, Op::DeviceFrame, &args);
    map(&mut w, device, 0x7000_0000, 1);
    let other = w.make(0, ObjType::Frame, 12);
    map(&mut w, other, 0x9000_0000, MAP_POOL | 1);
    for mode in [PageMode::Share, PageMode::Copy] {
        let [words, count] = PageRange::new(mode, 0x9000_0000, 1).words();
        let target = 0x9100_0000 + 0x10_0000 * mode as u64;
        w.must(0, Op::PageTransfer, &[space.arg(), space.arg(), words, target, count]);
    }
    let (irq, note) = (w.make(0, ObjType::IrqHandler, 0), w.make(0, ObjType::Notification, 0));
    w.must(0, Op::IrqAllow, &[abi::INIT_MACHINE.arg(), irq.arg(), 9, 0]);
    w.must(0, Op::IrqBind, &[CONTROL, irq.arg(), note.arg(), 1, 1]);
    w
}

/// A CSpace of two tables, a process in two groups, an exposure of a task for each CPU and one that
/// watches, a CNode that cannot be emptied, and Untypeds in each other.
fn capabilities() -> World {
    let mut w = World::with_memory(2, 8 << 20);
    let process = w.process();
    let table = w.make(0, ObjType::CNode, 16);
    w.must(0, Op::CSpaceGrow, &[process.process.arg(), table.arg()]);
    let groups = [w.group(4, 16), w.group(4, 16)];
    for (group, slot) in groups.into_iter().zip([5, 6]) {
        w.join_all(group, process, Cap(slot));
    }
    for n in 0..2 {
        let task = w.start(process, n, 10 + n as u64);
        let how = abi::membership::EXPOSE_PER_CPU;
        w.must(0, Op::Expose, &[Target::new(groups[0], 1).0, task.cap.arg(), u64::from(how) | 4 << 32]);
    }
    let note = w.make(0, ObjType::Notification, 0);
    let how = abi::membership::EXPOSE_WATCH;
    w.must(0, Op::Expose, &[Target::new(groups[0], 2).0, note.arg(), u64::from(how) | 3 << 32]);
    let memory = w.make(0, ObjType::Untyped, 16);
    let inner = w.make_of(0, memory, ObjType::Untyped, 13);
    w.make_of(0, inner, ObjType::Notification, 0);
    let zombie = w.make_of(0, memory, ObjType::CNode, 8);
    let frame = w.make_of(0, memory, ObjType::Frame, 12);
    w.must(0, Op::FramePin, &[frame.arg(), abi::INIT_MACHINE.arg()]);
    w.must(0, Op::CapMove, &[frame.arg(), Target::new(zombie, 3).0]);
    w.must(0, Op::CapDelete, &[at(zombie)]);
    w
}

/// A task that moves to the CPU where it is to run, with its Notification. More callers have
/// waited for it than go along.
fn a_move() -> World {
    let mut w = World::with_memory(2, 8 << 20);
    let process = w.process_of(abi::INIT_UNTYPED, START_CALLERS as u64 + 8, 64);
    let task = w.task_of(abi::INIT_UNTYPED, process, 1, 10, true);
    let note = w.make(0, ObjType::Notification, 0);
    w.must(0, Op::NotificationBind, &[note.arg(), task.cap.arg()]);
    let group = w.group(4, 16);
    w.join_all(group, process, GROUP);
    w.expose(group, 1, task.cap);
    for n in 0..START_CALLERS as u64 + 4 {
        let caller = w.start(process, 0, 10 + n % 2);
        w.does_and_run(&caller, call(Target::new(GROUP, 1)));
    }
    w.begin(0, Regs::op(Op::TaskResume, &[task.cap.arg()]));
    w
}
