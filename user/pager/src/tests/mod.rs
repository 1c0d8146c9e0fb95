//! The policy against a model: contents of regions, whatever is evicted, cloned, shared, pinned,
//! failing or ended.

mod cases;
mod checks;
mod hostile;
mod sim;

use std::collections::BTreeMap;

use proptest::prelude::*;
use user_rt::cap::Access;
use user_rt::paging::{Advice, Denial, Limits, REGIONS_VA};

use crate::machine::{At, Bytes, FrameId};
use crate::state::{Account, Usage};
use crate::{Client, Pager};

use checks::Before;
use sim::{Doom, FILE_BYTES, Lie, Sim, file_word};

/// Pages that all clients may have.
const CAPACITY: u32 = 10_000;

/// What the regions should hold.
#[derive(Default)]
struct Model {
    /// Contents of objects.
    objects: Vec<Vec<u64>>,
    /// By client and address: which object, and what it may do there.
    regions: BTreeMap<(Client, u64), (usize, Access)>,
}

struct World {
    pager: Pager<Sim>,
    model: Model,
    next_word: u64,
}

impl World {
    fn new(frames: u32, room: usize) -> World {
        let pager = Pager::new(Sim::new(room), (0..frames).map(FrameId), CAPACITY);
        World { pager, model: Model::default(), next_word: 1 << 32 }
    }

    fn nth_region(&self, nth: usize) -> Option<(Client, u64)> {
        let count = self.model.regions.len();
        (count > 0).then(|| *self.model.regions.keys().nth(nth % count).expect("below the count"))
    }

    /// Accesses a page by the client's CPU, which faults until it may. Checks the contents by the
    /// model.
    fn touch(&mut self, client: Client, start: u64, page: usize, write: bool) -> Result<(), Denial> {
        let (object, access) = self.model.regions[&(client, start)];
        let page = page % self.model.objects[object].len();
        let at = At { client, address: start + page as u64 * abi::PAGE_SIZE };
        let need = if write { Access::Write } else { Access::Read };
        for _ in 0..2 {
            match self.pager.machine.mapped.get(&at).copied() {
                Some((frame, allowed)) if !write || allowed == Access::Write => {
                    let [found, _] = self.pager.machine.frames[&frame];
                    assert_eq!(found, self.model.objects[object][page], "contents of page {page} at {at:?}");
                    self.pager.machine.used.insert(at, true);
                    if write {
                        assert_eq!(access, Access::Write, "a read-only region was written");
                        self.next_word += 1;
                        self.pager.machine.frames.insert(frame, [self.next_word, 0]);
                        self.model.objects[object][page] = self.next_word;
                    }
                    return Ok(());
                }
                _ => self.pager.fault(client, at.address + 123, need)?,
            }
        }
        if self.pager.machine.lost.contains(&client) {
            // It died before it could look.
            return Err(Denial::Gone);
        }
        panic!("a fault that was served is there again");
    }

    /// Adds a new region of zeroes to the model.
    fn has_region(&mut self, client: Client, start: u64, pages: u32) {
        self.model.objects.push(vec![0; pages as usize]);
        self.model.regions.insert((client, start), (self.model.objects.len() - 1, Access::Write));
    }

    /// Removes a client's regions from the model.
    fn forget(&mut self, client: Client) {
        self.model.regions.retain(|(of, _), _| *of != client);
    }

    /// Reads everything back.
    fn read_all(&mut self) {
        self.pager.machine.gets_fail = 0;
        self.pager.machine.lies = None;
        self.pager.machine.doom = None;
        for (client, start) in self.model.regions.keys().copied().collect::<Vec<_>>() {
            let (object, _) = self.model.regions[&(client, start)];
            for page in 0..self.model.objects[object].len() {
                match self.touch(client, start, page, false) {
                    Ok(()) | Err(Denial::Memory | Denial::Limit) => {}
                    // With what it was a part of.
                    Err(Denial::Closed) => break,
                    Err(Denial::Gone) if !self.pager.machine.lost.is_empty() => {}
                    Err(denial) => panic!("reading everything back: {denial:?}"),
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Anonymous(usize, u32),
    File(usize, u64, u64, u32, bool),
    Clone(usize),
    Share(usize, usize, bool),
    Drop(usize),
    Touch(usize, usize, bool),
    Pin(usize, usize, bool),
    PutsFail(u32),
    GetsFail(u32),
    Forget(usize),
    Advice(u8, usize),
    Split(usize, Limits),
    Admit(usize, usize),
    Close(usize, usize),
    Lose(usize, bool),
    /// A region at a place that the manager chooses: so many pages from where regions begin, or
    /// just before.
    Place(usize, u64, u32),
    /// Views of a region for its own client, all of one page at the same time, and then dropped.
    Crowd(usize, usize),
    Lies(Lie, u32),
    Doom(usize, u32, bool),
}

/// Clients that have accounts of their own.
const CLIENTS: Client = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = any::<usize>;
    let limits = (3..8u32, 0..4u32, 1..30u32);
    let limits = limits.prop_map(|(frames, pinned, pages)| Limits { frames, pinned, pages });
    let lies = prop_oneof![Just(Lie::Flip), Just(Lie::Other), Just(Lie::Old), Just(Lie::Forged)];
    let step = prop_oneof![
        3 => (any(), 1..8u32).prop_map(|(c, p)| Step::Anonymous(c, p)),
        3 => (any(), 0..3u64, 1..5u64, 0..12u32, proptest::bool::ANY)
            .prop_map(|(c, f, p, more, w)| Step::File(c, f, p, more, w)),
        2 => any().prop_map(Step::Clone),
        2 => (any(), any(), proptest::bool::ANY).prop_map(|(r, c, w)| Step::Share(r, c, w)),
        2 => any().prop_map(Step::Drop),
        40 => (any(), any(), proptest::bool::ANY).prop_map(|(r, p, w)| Step::Touch(r, p, w)),
        3 => (any(), any(), proptest::bool::ANY).prop_map(|(r, p, on)| Step::Pin(r, p, on)),
        1 => (0..4u32).prop_map(Step::PutsFail),
        1 => (0..2u32).prop_map(Step::GetsFail),
        1 => any().prop_map(Step::Forget),
        1 => (0..3u8, any()).prop_map(|(what, c)| Step::Advice(what, c)),
        3 => (any(), limits).prop_map(|(c, limits)| Step::Split(c, limits)),
        3 => (any(), any()).prop_map(|(part, c)| Step::Admit(part, c)),
        1 => (any(), any()).prop_map(|(c, part)| Step::Close(c, part)),
        1 => (any(), proptest::bool::ANY).prop_map(|(c, destroyed)| Step::Lose(c, destroyed)),
        1 => (any(), 0..24u64, 1..4u32).prop_map(|(c, at, pages)| Step::Place(c, at, pages)),
        1 => (any(), 2..20usize).prop_map(|(r, views)| Step::Crowd(r, views)),
        1 => (lies, 1..4u32).prop_map(|(lie, times)| Step::Lies(lie, times)),
        1 => (any(), 0..12u32, proptest::bool::ANY).prop_map(|(c, n, destroyed)| Step::Doom(c, n, destroyed)),
    ];
    proptest::collection::vec(step, 1..150)
}

const LIMITS: Limits = Limits { frames: 6, pinned: 2, pages: 24 };
/// The limits of an account that has room for parts.
const ROOMY: Limits = Limits { frames: 14, pinned: 4, pages: 60 };
/// The limits of a part of it.
const PART: Limits = Limits { frames: 8, pinned: 1, pages: 24 };

impl World {
    /// Returns a number that the pager knows, or one that it does not know.
    fn nth_number(&self, nth: usize) -> Client {
        let nth = nth % (self.pager.clients.len() + 1);
        self.pager.clients.keys().copied().nth(nth).unwrap_or(30)
    }

    /// Returns a client with a process that can run.
    fn nth_client(&self, nth: usize) -> Client {
        let lost = &self.pager.machine.lost;
        let runs = |(client, account): &(&Client, &Account)| account.admitted && !lost.contains(client);
        let all: Vec<Client> = self.pager.clients.iter().filter(runs).map(|(client, _)| *client).collect();
        if all.is_empty() { 30 } else { all[nth % all.len()] }
    }

    /// Makes the manager forget the clients that were ended, which have nothing any more. The
    /// manager does not know about lost ones.
    fn bury(&mut self) {
        let dead = |world: &World| {
            let mut all = world.pager.clients.iter();
            let lost = &world.pager.machine.lost;
            let dead = |(client, account): &(&Client, &Account)| {
                account.admitted && account.fate.is_some() && !lost.contains(client)
            };
            all.find(dead).map(|(client, _)| *client)
        };
        let noticed: Vec<Client> = self.pager.buried.keys().copied().collect();
        for client in noticed {
            assert!(self.pager.machine.lost.contains(&client), "{client} was not lost");
            self.pager.forget(client).expect("its fate is known");
            self.forget(client);
        }
        while let Some(client) = dead(self) {
            self.pager.forget(client).expect("known");
            self.forget(client);
        }
        for client in 1..=CLIENTS {
            if !self.pager.clients.contains_key(&client) {
                self.pager.register(client, limits_of(client)).expect("room for it again");
                self.pager.machine.comes(client);
                if let Ok(part) = self.pager.split(client, PART) {
                    self.pager.admit(part, client).expect("a client for it");
                    self.pager.machine.comes(part);
                }
            }
        }
    }
}

impl World {
    /// Returns the clients that ask for something in a step, or fault. Only their accounts may
    /// grow.
    fn actors(&self, step: &Step) -> Vec<Client> {
        match *step {
            Step::Anonymous(nth, _) | Step::File(nth, ..) | Step::Place(nth, ..) => {
                vec![self.nth_client(nth)]
            }
            Step::Share(nth, with, _) => {
                let with = self.nth_client(with);
                self.nth_region(nth).map(|(client, _)| client).into_iter().chain([with]).collect()
            }
            Step::Clone(nth)
            | Step::Drop(nth)
            | Step::Touch(nth, ..)
            | Step::Crowd(nth, ..)
            | Step::Pin(nth, ..) => self.nth_region(nth).map(|(client, _)| client).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

fn limits_of(client: Client) -> Limits {
    if client == 1 { ROOMY } else { LIMITS }
}

fn carry_out(world: &mut World, step: &Step) {
    match *step {
        Step::Anonymous(nth, pages) => {
            let client = world.nth_client(nth);
            match world.pager.anonymous(client, pages, Access::Write, None) {
                Ok(start) => world.has_region(client, start, pages),
                Err(denial) => world.check_room(client, pages, denial),
            }
        }
        Step::File(nth, first, pages, more, write) => {
            let (client, access) = (world.nth_client(nth), access(write));
            let first = first * 1000;
            let bytes = Bytes { file: 0, first, count: (pages * 4000).min(FILE_BYTES - first) };
            let pages = bytes.count.div_ceil(abi::PAGE_SIZE) as u32 + more;
            if let Ok(start) = world.pager.file(client, bytes, pages, access, None) {
                let words = (0..pages as usize).map(|page| file_word(crate::faults::page_bytes(bytes, page)));
                world.model.objects.push(words.collect());
                world.model.regions.insert((client, start), (world.model.objects.len() - 1, access));
            }
        }
        Step::PutsFail(count) => world.pager.machine.puts_fail = count,
        Step::GetsFail(count) => world.pager.machine.gets_fail = count,
        Step::Forget(nth) => {
            // Lost or not.
            let client = world.nth_number(nth);
            world.pager.machine.vouched = true;
            if world.pager.forget(client).is_ok() {
                world.forget(client);
            }
            world.pager.machine.vouched = false;
        }
        Step::Advice(what, nth) => {
            let client = world.nth_client(nth);
            let advice = [Advice::Refuse, Advice::Evict(client), Advice::Kill(client)];
            world.pager.machine.advice = Some(advice[usize::from(what)]);
        }
        Step::Split(nth, limits) => {
            let whole = world.nth_number(nth);
            match world.pager.split(whole, limits) {
                Ok(part) => assert!(part > CLIENTS, "a number that the manager uses"),
                Err(Denial::Limit | Denial::BadRequest | Denial::NotYou) => {}
                // Some of the lost are ended already, or closed.
                Err(Denial::Ended | Denial::Closed) => {}
                Err(denial) => panic!("splitting was denied: {denial:?}"),
            }
        }
        Step::Admit(part, whole) => {
            let (part, whole) = (world.nth_number(part), world.nth_number(whole));
            let empty =
                world.pager.clients.get(&part).is_some_and(|it| !it.admitted && it.parent == Some(whole));
            assert_eq!(world.pager.admit(part, whole).is_ok(), empty);
            if empty {
                world.pager.machine.comes(part);
            }
        }
        Step::Close(whole, part) => {
            let (whole, part) = (world.nth_number(whole), world.nth_number(part));
            let its = world.pager.clients.get(&part).is_some_and(|it| it.parent == Some(whole));
            let living = world.pager.living(whole).is_ok();
            assert_eq!(world.pager.close(whole, part).is_ok(), its && living);
        }
        Step::Lose(nth, destroyed) => {
            let client = world.nth_client(nth);
            world.pager.machine.lose(client, destroyed);
            world.forget(client);
        }
        Step::Place(nth, page, pages) => {
            let client = world.nth_client(nth);
            let at = REGIONS_VA - 2 * abi::PAGE_SIZE + page * abi::PAGE_SIZE;
            if world.pager.anonymous(client, pages, Access::Write, Some(at)).is_ok() {
                world.has_region(client, at, pages);
            }
        }
        Step::Lies(lie, times) => world.pager.machine.lies = Some((lie, times)),
        Step::Doom(nth, steps, destroyed) => {
            let client = world.nth_client(nth);
            world.pager.machine.doom = Some(Doom { client, steps, destroyed });
        }
        ref other => of_a_region(world, other),
    }
    for client in world.pager.machine.lost.clone() {
        world.forget(client);
    }
}

fn access(write: bool) -> Access {
    if write { Access::Write } else { Access::Read }
}

fn of_a_region(world: &mut World, step: &Step) {
    let (Step::Clone(nth)
    | Step::Share(nth, ..)
    | Step::Drop(nth)
    | Step::Touch(nth, ..)
    | Step::Crowd(nth, ..)
    | Step::Pin(nth, ..)) = *step
    else {
        return;
    };
    let Some((client, start)) = world.nth_region(nth) else { return };
    let (object, may) = world.model.regions[&(client, start)];
    match *step {
        Step::Clone(_) => {
            if let Ok(twin) = world.pager.clone_of(client, start) {
                world.model.objects.push(world.model.objects[object].clone());
                world.model.regions.insert((client, twin), (world.model.objects.len() - 1, may));
            }
        }
        Step::Share(_, with, write) => {
            let with = world.nth_client(with);
            match world.pager.share(client, start, with, access(write)) {
                Ok(key) => {
                    if let Ok((view, _)) = world.pager.attach(with, key) {
                        world.model.regions.insert((with, view), (object, access(write)));
                    }
                }
                Err(Denial::Limit) => {}
                Err(denial) => assert_eq!((denial, may, write), (Denial::Access, Access::Read, true)),
            }
        }
        Step::Drop(_) => match world.pager.give_back(client, start) {
            Ok(()) => {
                world.model.regions.remove(&(client, start));
            }
            // It died while its pages were unmapped.
            Err(Denial::Gone) => assert!(world.pager.machine.lost.contains(&client), "it can be reached"),
            Err(denial) => panic!("a region was not taken back: {denial:?}"),
        },
        Step::Touch(_, page, write) => {
            let failed = world.pager.machine.gets_failed.get();
            match world.touch(client, start, page, write) {
                Ok(()) => {}
                Err(Denial::Access) => assert!(write && may == Access::Read),
                Err(denial) => world.check_refusal(client, denial, failed),
            }
        }
        Step::Crowd(_, views) => {
            let Ok(key) = world.pager.share(client, start, client, Access::Read) else { return };
            let all: Vec<u64> =
                (0..views).map_while(|_| Some(world.pager.attach(client, key).ok()?.0)).collect();
            for view in &all {
                let _ = world.pager.fault(client, *view, Access::Read);
            }
            for view in all {
                let _ = world.pager.give_back(client, view);
            }
        }
        Step::Pin(_, page, on) => {
            let page = page % world.model.objects[object].len();
            let address = start + page as u64 * abi::PAGE_SIZE;
            if !on {
                let _ = world.pager.unpin(client, address, 1);
                return;
            }
            let failed = world.pager.machine.gets_failed.get();
            match world.pager.pin(client, address, 1) {
                Err(Denial::Limit) if !world.pager.may_pin(client) => {}
                Err(denial) => world.check_refusal(client, denial, failed),
                Ok(()) => {}
            }
        }
        _ => {}
    }
}

fn play(frames: u32, room: usize, steps: &[Step]) {
    let mut world = World::new(frames, room);
    world.bury();
    for step in steps {
        let actors = world.actors(step);
        let before = Before::of(&world.pager);
        carry_out(&mut world, step);
        world.check(&before, &actors);
        world.bury();
        if let Err(wrong) = world.pager.audit() {
            panic!("after {step:?}: {wrong}");
        }
    }
    world.pager.machine.advice = None;
    world.read_all();
    world.bury();
    world.pager.machine.vouched = true;
    while let Some(client) = world.pager.clients.iter().find(|(_, it)| it.admitted).map(|(client, _)| *client)
    {
        world.pager.forget(client).expect("known");
    }
    assert!(world.pager.clients.is_empty(), "parts that nobody was admitted to go with the whole");
    world.pager.audit().expect("sound at the end");
    assert_eq!(world.pager.counts().free, u64::from(frames), "every frame came back");
    assert_eq!(world.pager.capacity, CAPACITY, "and so did what was promised");
    assert!(world.pager.machine.store.is_empty(), "every slot came back");
    assert!(world.pager.machine.mapped.is_empty(), "nothing is mapped");
}

/// Returns as many cases as the suite has time for. `PROPTEST_CASES` asks for another number.
fn config() -> ProptestConfig {
    const CASES: u32 = 1500;
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    ProptestConfig { cases: if asked { default.cases } else { CASES }, ..default }
}

proptest! {
    #![proptest_config(config())]

    /// There is enough memory for all limits together.
    #[test]
    fn contents_are_kept_within_limits(steps in steps()) {
        play(28, 1000, &steps);
    }

    /// There are fewer frames than the limits promise, and the store gets full.
    #[test]
    fn contents_are_kept_when_memory_is_short(steps in steps(), frames in 8..14u32, room in 4..30usize) {
        play(frames, room, &steps);
    }
}

/// A client that has pinned a page turns out to have ended while the page is copied for another
/// client: the writer gets the copy.
#[test]
fn who_pinned_a_page_ends_while_it_is_copied() {
    use Step::{Anonymous, Clone, Drop, Lose, Pin, PutsFail, Share, Touch};
    let steps = [
        Lose(0, false),
        Lose(0, false),
        Anonymous(852240911279277264, 5),
        Pin(0, 5627082159745921752, true),
        Anonymous(0, 1),
        Clone(984272024265433622),
        Anonymous(7840015852276370579, 1),
        Share(5922083747046057218, 6831618747575987828, true),
        Share(7045758828450303910, 11617213910311618223, true),
        Touch(0, 0, false),
        Touch(0, 0, false),
        Touch(12278561309317567904, 713369510495717699, false),
        Touch(13391692600427936317, 0, false),
        Drop(7364636837256469784),
        Touch(5881938375118822317, 541597022219870165, false),
        Touch(34150299904, 17050257088371758560, false),
        Share(9770402706664244891, 5905301124435080587, false),
        Touch(655319789236696596, 10365058898168323250, true),
        Lose(10027598485541302292, true),
        PutsFail(3),
        Touch(1951869194361519577, 18352553818573496188, true),
    ];
    play(9, 21, &steps);
}
