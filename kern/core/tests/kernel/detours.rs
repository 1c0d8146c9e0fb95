//! The small worlds of the search for [detours](model::detours), on the kernel and the model side
//! by side: the moves to all findings, and random moves. If kernel and model give the same answers,
//! the rules hold for the kernel, too.

use std::panic::{AssertUnwindSafe, catch_unwind};

use abi::{Cap, MsgInfo, ObjType, Op, Target};
use model::detours::moves::{Move, moves};
use model::detours::worlds::{self, CPUS, Cast, Stage, World};
use model::{Args, Id, Model};

use crate::differ::pair::{Outcome, Pair};
use crate::world::dice::Dice;

/// The findings: the shortest way to each, also to those that are fixed.
const FOUND: &str = include_str!("detours.txt");
/// Random walks in a normal test run.
const WALKS: u64 = 2_000;
/// Moves of the longest.
const LONGEST: usize = 8;

/// Where a world is made on both.
struct Both(Pair);

impl Stage for Both {
    fn model(&self) -> &Model {
        &self.0.model
    }

    fn slot(&mut self) -> Cap {
        self.0.world.slot()
    }

    fn memory(&self) -> Cap {
        self.0.playground
    }

    fn does(&mut self, me: Option<Id>, op: Op, args: [u64; 6]) {
        let done = match me {
            None => self.0.must(0, op, args),
            Some(me) => self.0.task(me, op, &Args(args, MsgInfo(0))),
        };
        done.expect("a world is made without refusals");
    }
}

/// A world on both sides.
fn begin(world: &World, is_fast: bool) -> Outcome<(Pair, Cast)> {
    let mut both = Both(Pair::booted(CPUS, is_fast));
    let cast = worlds::build(&mut both, world);
    both.0.begin(false)?;
    Ok((both.0, cast))
}

/// Plays moves, compares all, and ends everything: whether the last one is refused.
fn play(world: &World, moves: &[Move]) -> Outcome<bool> {
    let (mut pair, cast) = begin(world, false)?;
    for it in moves {
        pair.task(cast.tasks[it.who], it.op, &it.args).map_err(|why| format!("{}: {why}", it.text()))?;
        pair.audit()?;
    }
    let refused = pair.tally.ops.values().map(|counts| counts[1]).sum::<u64>();
    pair.end()?;
    // Those before it lead there: they are done.
    Ok(refused == 1)
}

#[test]
fn every_way_to_a_finding_ends_with_a_refusal() {
    let mut played = 0;
    for finding in FOUND.split("finding ").skip(1) {
        let mut lines = finding.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let name = lines.next().expect("a finding has a name");
        let world = lines.next().and_then(|line| line.strip_prefix("world ")).and_then(World::parse);
        let world = world.unwrap_or_else(|| panic!("{name} begins in no world"));
        let moves: Option<Vec<Move>> = lines.map(Move::parse).collect();
        let moves = moves.unwrap_or_else(|| panic!("{name} has a line that is no move"));
        let is_refused = play(&world, &moves).unwrap_or_else(|why| panic!("{name}: {why}"));
        // A list is not refused; it has fewer entries.
        assert!(is_refused || name.starts_with("CapList"), "{name}: the last move is done");
        played += 1;
    }
    assert!(played > 0, "nothing was played");
}

/// A walk: moves by chance of those that the search would make, but such as the model says
/// everything about.
fn walk(worlds: &[World], seed: u64) -> (World, Vec<Move>, Outcome<[u64; 2]>) {
    let mut dice = Dice::new(seed);
    let world = worlds[dice.below(worlds.len())].clone();
    let mut way = Vec::new();
    let walked = catch_unwind(AssertUnwindSafe(|| {
        let (mut pair, cast) = begin(&world, dice.once_in(2))?;
        for _ in 0..LONGEST {
            let who = dice.below(2);
            let me = cast.tasks[who];
            let all = moves(&pair.model, &cast, who);
            if all.is_empty() || !pair.is_equal(me) {
                continue;
            }
            let it = all[dice.below(all.len())];
            if !pair.is_clear(me, it.op, &it.args) {
                continue;
            }
            way.push(it);
            pair.task(me, it.op, &it.args)?;
        }
        let counts = pair.tally.ops.values().fold([0, 0], |all, it| [all[0] + it[0], all[1] + it[1]]);
        pair.end()?;
        Ok(counts)
    }));
    (world, way, walked.unwrap_or_else(|_| Err("the kernel panicked".to_owned())))
}

#[test]
fn the_kernel_walks_as_the_model_does() {
    let worlds = World::all();
    let walks = std::env::var("DETOURS_WALKS").ok().and_then(|text| text.parse().ok()).unwrap_or(WALKS);
    let (mut done, mut refused) = (0, 0);
    for seed in 0..walks {
        let (world, way, walked) = walk(&worlds, seed);
        let counts = walked.unwrap_or_else(|why| {
            let way: Vec<String> = way.iter().map(Move::text).collect();
            panic!("walk {seed}: {why}\nworld {}\n{}", world.text(), way.join("\n"))
        });
        (done, refused) = (done + counts[0], refused + counts[1]);
    }
    println!("detours: walks={walks} done={done} refused={refused}");
    assert!(done * 5 > refused, "walks whose moves are refused show nothing");
}

/// A process with CONFIGURE of another process may end it: the rule "ends with its spaces".
#[test]
fn configure_of_a_process_includes_its_end() {
    let world = World::parse("victim:400 memory:1ffff").expect("a world");
    let (mut pair, cast) = begin(&world, false).expect("a world is made");
    let (victim, memory) = (Cap(4), Cap(5));
    let table = Cap(9);
    let at_home = Target::new(worlds::OWN_CNODE, table.0).0;
    let moves = [
        (Op::Retype, [Target::new(memory, ObjType::CNode as u32).0, 4, at_home, 1, 0, 0]),
        (Op::CSpaceGrow, [victim.arg(), table.arg(), 0, 0, 0, 0]),
        (Op::UntypedReset, [memory.arg(), 0, 0, 0, 0, 0]),
    ];
    for (op, args) in moves {
        assert!(!pair.model.is_dying(cast.processes[1]));
        pair.task(cast.tasks[0], op, &Args(args, MsgInfo(0))).expect("both do the same");
        assert_eq!(pair.model.task(cast.tasks[0]).regs.values[0], 0, "{op:?} is refused");
    }
    assert!(pair.model.is_dying(cast.processes[1]), "the process lives on without a part of its CSpace");
    assert_eq!(pair.model.task(cast.tasks[1]).state, model::object::State::Dead);
    pair.end().expect("all memory is back");
}
