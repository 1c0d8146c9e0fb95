//! PCIDs: address spaces get them from the share of the Untyped of which they are made.

use abi::{Cap, ObjType, Op};

use super::scene::Scene;
use super::world::World;

/// Untypeds of 512 KiB and 256 KiB, for which the share is two PCIDs and one.
const TWO: u64 = 19;
const ONE: u64 = 18;

fn taken(w: &World) -> usize {
    w.k.machine.hardware().pcids_taken()
}

/// Makes an address space. Returns it, and whether it has a PCID.
fn space_of(w: &mut World, memory: Cap) -> (Cap, bool) {
    let before = taken(w);
    let space = w.make_of(0, memory, ObjType::VSpace, 2);
    (space, taken(w) > before)
}

/// Makes three address spaces of an Untyped. Returns how many have PCIDs.
fn fill(w: &mut World, memory: Cap) -> usize {
    [(); 3].iter().filter(|()| space_of(w, memory).1).count()
}

#[test]
fn a_program_takes_no_more_pcids_than_its_memory_has() {
    let mut s = Scene::new(1);
    let memory = s.w.make(0, ObjType::Untyped, TWO);
    assert_eq!(fill(&mut s.w, memory), 2);
    let (other, has_one) = space_of(&mut s.w, abi::INIT_UNTYPED);
    assert!(has_one, "others have theirs");
    s.delete(other);
}

#[test]
fn what_ends_gives_its_pcids_back() {
    let mut s = Scene::new(1);
    let before = taken(&s.w);
    for _ in 0..5 {
        let memory = s.w.make(0, ObjType::Untyped, TWO);
        for _ in 0..3 {
            assert_eq!(fill(&mut s.w, memory), 2);
            s.w.must(0, Op::UntypedReset, &[memory.arg()]);
            s.w.run();
            assert_eq!(taken(&s.w), before, "the reset has ended them");
        }
        let (first, has_one) = space_of(&mut s.w, memory);
        assert!(has_one);
        s.delete(first);
        assert_eq!(fill(&mut s.w, memory), 2, "the first one's is free again");
        s.delete(memory);
    }
    assert_eq!(taken(&s.w), before);
}

#[test]
fn memory_within_memory_has_a_part_of_its_share() {
    let mut s = Scene::new(1);
    for _ in 0..3 {
        let memory = s.w.make(0, ObjType::Untyped, TWO);
        let inner = s.w.make_of(0, memory, ObjType::Untyped, ONE);
        assert_eq!(fill(&mut s.w, inner), 1);
        assert_eq!(fill(&mut s.w, memory), 1);
        s.delete(inner);
        let (_, has_one) = space_of(&mut s.w, memory);
        assert!(has_one, "the share of the inner memory has come back");
        s.delete(memory);
    }
}
