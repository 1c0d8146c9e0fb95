//! Two agents, a giver and a taker in their own processes, carry out the director's calls. If one
//! of them uses memory that it does not have, the [handler](faults::handler) of both lets it
//! continue after that instruction.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::{FaultKind, PAGE_SIZE, PageMode, PageRange, RANGES_MAX, Target, Utcb};
use guest_tests::board::Part as _;
use user_rt::arch;
use user_rt::boot;
use user_rt::cap::{Exposure, Frame, Group, Handle, VSpace};
use user_rt::invoke::yield_now;
use user_rt::ipc::{Event, Message, Patience, recv, reply_recv};
use user_rt::layout::SHARED_VA;
use user_rt::utcb;

use crate::block::Block;
use crate::faults::{self, HANDLER_INDEX, Note, Script};
use crate::lab::{CHILD_GROUP, Lab, PUPPETS_MAX, Place, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq};

/// The giver's pages, the taker's window, the giver's window: holes in every process of this
/// program.
pub const FROM: u64 = SHARED_VA + 0x1000_0000;
pub const WINDOW: u64 = SHARED_VA + 0x1800_0000;
pub const BACK: u64 = SHARED_VA + 0x2000_0000;
pub const WINDOW_BYTES: u64 = 4 << 20;
pub const PAGE_WORDS: u64 = PAGE_SIZE / 8;
pub const LARGE: u64 = 2 << 20;
/// Seconds that an agent may take for a command.
pub const LIMIT_SECONDS: u64 = 20;

/// Blocks and exposures of the agents; block of the disturber.
pub const GIVER: Agent = Agent { block: PUPPETS_MAX - 3, index: PUPPETS_MAX + 5 };
pub const TAKER: Agent = Agent { block: PUPPETS_MAX - 4, index: PUPPETS_MAX + 6 };
pub const DISTURBER: u32 = PUPPETS_MAX - 5;

/// Words of an agent's block: its next list, as words of ranges; what came last, likewise; the
/// number of deliveries; sums of what came, and how often one changed.
pub const LIST_COUNT: usize = 0;
pub const LIST: usize = 1;
pub const CAME_COUNT: usize = 32;
pub const CAME: usize = 33;
pub const DELIVERIES: usize = 64;
pub const SUM: usize = 65;
pub const CHANGES: usize = 66;
/// How it replies to a delivery: 1: with the pages that came.
pub const RETURNS: usize = 67;

#[derive(Clone, Copy)]
pub struct Agent {
    pub block: u32,
    pub index: u32,
}

/// Labels of calls to agents. The director sends the first ones, and another agent the last two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Command {
    /// (address, pages, seed): writes a pattern. Answers how many words it could not write.
    Fill = 1,
    /// (address, pages, seed): answers how many words differ from the pattern, and how many it
    /// could not read.
    Check,
    /// (address): answers whether it can be read, and the word there.
    Peek,
    /// (address, value): answers whether it can be written.
    Poke,
    /// (address, bytes): opens a window for pages. Answers the address of its UTCB.
    Open,
    /// (agent, label, own list): calls with the pages of its list, or of the list in its UTCB.
    /// Answers 1 + error, or 0; and the detail.
    Send,
    /// Answers how often received contents have changed.
    Recheck,
    /// (address, pages): treats the range as received.
    Look,
    Deliver,
    Give,
}

impl Command {
    pub const ALL: [Command; 10] = {
        use Command::*;
        [Fill, Check, Peek, Poke, Open, Send, Recheck, Look, Deliver, Give]
    };
}

/// Returns the pattern of word `word` of a page.
pub const fn pattern(seed: u64, word: u64) -> u64 {
    ((seed << 32) | (word + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

// --- what agents do ------------------------------------------------------------------------------

/// Writes a word. Returns whether that was possible.
pub fn try_write(address: u64, value: u64) -> bool {
    let done: u64;
    // SAFETY: if the write faults, the handler continues at r15; otherwise it writes memory that
    // only the test uses.
    unsafe {
        asm!("lea r15, [rip + 2f]", "xor {done:e}, {done:e}", "mov [{at}], {value}", "mov {done:e}, 1", "2:",
            done = out(reg) done, at = in(reg) address, value = in(reg) value, out("r15") _)
    };
    done == 1
}

/// Reads a word, if that is possible.
pub fn try_read(address: u64) -> Option<u64> {
    let (done, value): (u64, u64);
    // SAFETY: as above.
    unsafe {
        asm!("lea r15, [rip + 2f]", "xor {done:e}, {done:e}", "mov {value}, [{at}]", "mov {done:e}, 1", "2:",
            done = out(reg) done, value = out(reg) value, at = in(reg) address, out("r15") _)
    };
    (done == 1).then_some(value)
}

/// Returns a UTCB of this process.
pub fn utcb_at(address: u64) -> &'static Utcb {
    // SAFETY: the addresses come from FS bases of tasks of this process, which live as long as the
    // test. All fields are atomics.
    unsafe { &*(address as *const Utcb) }
}

pub fn words(address: u64, pages: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    (0..pages * PAGE_WORDS).map(move |n| (address + n * 8, n / PAGE_WORDS, n % PAGE_WORDS))
}

pub fn fill(address: u64, pages: u64, seed: u64) -> u64 {
    let failed =
        words(address, pages).filter(|(at, page, word)| !try_write(*at, pattern(seed + page, *word)));
    failed.count() as u64
}

/// Returns how many words differ, and how many cannot be read.
pub fn check(address: u64, pages: u64, seed: u64) -> (u64, u64) {
    let (mut wrong, mut missing) = (0, 0);
    for (at, page, word) in words(address, pages) {
        match try_read(at) {
            Some(value) => wrong += u64::from(value != pattern(seed + page, word)),
            None => missing += 1,
        }
    }
    (wrong, missing)
}

/// Sums the words in all ranges that came last.
pub fn sum_of_what_came(block: &'static Block) -> u64 {
    let mut sum = 0u64;
    for n in 0..block.note(CAME_COUNT).load(Relaxed) as usize {
        let [first, pages] = [0, 1].map(|word| block.note(CAME + 2 * n + word).load(Relaxed));
        for (at, ..) in words(first & !(PAGE_SIZE - 1), pages) {
            sum = sum.rotate_left(5) ^ try_read(at).unwrap_or(0x0bad);
        }
    }
    sum
}

pub fn recheck(block: &'static Block) -> u64 {
    let same = sum_of_what_came(block) == block.note(SUM).load(Relaxed);
    block.note(CHANGES).fetch_add(u64::from(!same), Relaxed) + u64::from(!same)
}

/// Notes the ranges that came, reads them, and reads them again after tasks that should not change
/// them had time to.
pub fn take(block: &'static Block, ranges: impl Iterator<Item = PageRange>) {
    let mut count = 0;
    for range in ranges {
        for (word, value) in range.words().into_iter().enumerate() {
            block.note(CAME + 2 * count + word).store(value, Relaxed);
        }
        count += 1;
    }
    block.note(CAME_COUNT).store(count as u64, Relaxed);
    block.note(SUM).store(sum_of_what_came(block), Relaxed);
    for _ in 0..2 {
        let _ = yield_now();
        recheck(block);
    }
    block.note(DELIVERIES).fetch_add(1, Relaxed);
}

/// Copies its block's list into the UTCB, unchecked.
pub fn list(block: &'static Block) {
    let utcb = utcb_at(arch::fs_base());
    for (n, words) in utcb.ranges.iter().enumerate() {
        words
            .iter()
            .enumerate()
            .for_each(|(word, to)| to.store(block.note(LIST + 2 * n + word).load(Relaxed), Relaxed));
    }
    utcb.range_count.store(block.note(LIST_COUNT).load(Relaxed), Relaxed);
}

/// Calls another agent with pages.
pub fn send(block: &'static Block, [index, label, own, _]: [u64; 4]) -> [u64; 4] {
    let delivers = label == Command::Deliver as u64;
    if own != 0 && delivers {
        list(block);
    }
    let message = Message::new(label as u32, [0; 4]);
    let message = if delivers { message.with_pages() } else { message };
    let patience = Patience::Until(arch::now() + LIMIT_SECONDS / 2 * boot::facts().tsc_hz);
    match Exposure(Target::new(CHILD_GROUP, index as u32)).call_within(&message, patience) {
        Ok(reply) => {
            if reply.pages {
                take(block, utcb::current().ranges());
            }
            [0, 0, u64::from(reply.pages), u64::from(reply.label)]
        }
        Err(refusal) => [1 + refusal.error as u64, refusal.detail, 0, 0],
    }
}

pub extern "C" fn agent(number: u64) -> ! {
    let block = Block::at(number as u32);
    let mut event = recv();
    loop {
        let Ok(Event::Call(call)) = event else {
            event = recv();
            continue;
        };
        let reply = act(block, &call.message);
        event = reply_recv(&reply);
        if let Err(refusal) = event
            && reply.pages
        {
            // The pages could not be sent: the caller gets the error.
            event = reply_recv(&Message::new(1 + refusal.error as u32, [refusal.detail, 0, 0, 0]));
        }
    }
}

pub fn act(block: &'static Block, message: &Message) -> Message {
    let [a, b, c, _] = message.regs;
    let answer = match Command::ALL.into_iter().find(|command| *command as u32 == message.label) {
        Some(Command::Fill) => [fill(a, b, c), 0, 0, 0],
        Some(Command::Check) => {
            let (wrong, missing) = check(a, b, c);
            [wrong, missing, 0, 0]
        }
        Some(Command::Peek) => try_read(a).map_or([0; 4], |value| [1, value, 0, 0]),
        Some(Command::Poke) => [u64::from(try_write(a, b)), 0, 0, 0],
        Some(Command::Open) => {
            utcb::current().open_window(a, b);
            [arch::fs_base(), 0, 0, 0]
        }
        Some(Command::Send) => send(block, message.regs),
        Some(Command::Recheck) => [recheck(block), 0, 0, 0],
        Some(Command::Look) => {
            take(block, core::iter::once(PageRange::new(PageMode::Move, a, b)));
            [0; 4]
        }
        Some(Command::Deliver) => {
            if message.pages {
                take(block, utcb::current().ranges());
            }
            if message.pages && block.note(RETURNS).load(Relaxed) != 0 {
                return Message::default().with_pages();
            }
            [0; 4]
        }
        Some(Command::Give) => {
            list(block);
            return Message::default().with_pages();
        }
        None => [u64::MAX; 4],
    };
    Message::new(0, answer)
}

// --- how they are directed -----------------------------------------------------------------------

/// Both agents, and the director's view of their processes.
pub struct Pair {
    pub group: Group,
    pub giver: Place,
    pub giver_space: VSpace,
    pub taker_space: VSpace,
    /// Address of the giver's UTCB in its process.
    pub giver_utcb: u64,
}

/// Makes the giver on CPU 0 and the taker on `cpu`, each in its own process.
pub fn pair(lab: &mut Lab<'_>, cpu: u32) -> Result<Pair, Failure> {
    pair_handled_on(lab, cpu, 0)
}

pub fn pair_handled_on(lab: &mut Lab<'_>, cpu: u32, handler_cpu: u32) -> Result<Pair, Failure> {
    let (giver, taker, home) = (lab.process(false)?, lab.process(false)?, lab.process(false)?);
    let handler = Wanted { place: home, cpu: handler_cpu, ..Wanted::default() };
    faults::start_handler(lab, giver, &handler, Script::ToR15)?;
    lab.child(taker)?.process.fault_handler(Some(Target::new(CHILD_GROUP, HANDLER_INDEX)))?;
    let group = lab.group()?;
    for (which, place, cpu) in [(GIVER, giver, 0), (TAKER, taker, cpu)] {
        Block::at(which.block).clear();
        let wanted = Wanted { place, cpu, ..Wanted::default() };
        let task = lab.task(&wanted, agent, u64::from(which.block))?.task;
        group.expose_task(which.index, &task)?;
        task.resume()?;
    }
    let (giver_space, taker_space) = (lab.child(giver)?.vspace.again(), lab.child(taker)?.vspace.again());
    let mut pair = Pair { group, giver, giver_space, taker_space, giver_utcb: 0 };
    pair.tell(TAKER, Command::Open, [WINDOW, WINDOW_BYTES, 0, 0])?;
    pair.giver_utcb = pair.tell(GIVER, Command::Open, [BACK, WINDOW_BYTES, 0, 0])?[0];
    Ok(pair)
}

/// Returns the CPUs on which takers are tested: the giver's, and the last.
pub fn taker_cpus(lab: &Lab<'_>) -> impl Iterator<Item = u32> + use<> {
    [0, lab.cpus - 1].into_iter().take(if lab.cpus > 1 { 2 } else { 1 })
}

impl Pair {
    pub fn tell(&self, agent: Agent, command: Command, regs: [u64; 4]) -> Result<[u64; 4], Failure> {
        let patience = Patience::Until(arch::now() + LIMIT_SECONDS * boot::facts().tsc_hz);
        let told =
            self.group.exposure(agent.index).call_within(&Message::new(command as u32, regs), patience);
        match told {
            Ok(reply) => Ok(reply.regs),
            Err(refusal) => {
                Err(Failure::Of(alloc::format!("agent {} at {command:x?} {regs:x?}: {refusal}", agent.block)))
            }
        }
    }

    /// Makes pages of the giver, filled with their pattern.
    pub fn filled(&self, lab: &mut Lab<'_>, pages: u64, seed: u64) -> Result<Frame, Failure> {
        let frame: Frame = lab.nursery.make(12 | pages << 8)?;
        self.giver_space.map_pool(&frame, FROM)?;
        expect_eq!(self.tell(GIVER, Command::Fill, [FROM, pages, seed, 0])?[0], 0, "filling new pages");
        Ok(frame)
    }

    /// Checks that an agent can read all words and that they have their pattern.
    pub fn holds(&self, agent: Agent, address: u64, pages: u64, seed: u64, what: &str) -> Outcome {
        let [wrong, missing, ..] = self.tell(agent, Command::Check, [address, pages, seed, 0])?;
        expect_eq!((wrong, missing), (0, 0), "{what}: words that are wrong, and missing");
        Ok(())
    }

    /// Checks that an agent can neither read nor write a range.
    pub fn lacks(&self, agent: Agent, address: u64, pages: u64, what: &str) -> Outcome {
        for page in 0..pages {
            let at = address + page * PAGE_SIZE + 8 * page;
            let before = faults::seen(Note::Count);
            expect_eq!(self.tell(agent, Command::Peek, [at, 0, 0, 0])?[0], 0, "{what}: reading page {page}");
            expect_eq!(self.tell(agent, Command::Poke, [at, 1, 0, 0])?[0], 0, "{what}: writing page {page}");
            expect_eq!(faults::seen(Note::Count), before + 2, "{what}: faults");
            let (kind, where_) = (faults::seen(Note::Kind), faults::seen(Note::Address));
            expect_eq!(
                (kind, where_),
                (u64::from(FaultKind::Page.label()), at),
                "{what}: what the handler saw"
            );
        }
        Ok(())
    }

    /// Checks that an agent can read and not write.
    pub fn only_reads(&self, agent: Agent, address: u64, what: &str) -> Outcome {
        let [read, before, ..] = self.tell(agent, Command::Peek, [address, 0, 0, 0])?;
        expect_eq!(read, 1, "{what}: reading");
        expect_eq!(self.tell(agent, Command::Poke, [address, !before, 0, 0])?[0], 0, "{what}: writing");
        // Write, user, present.
        let seen = (faults::seen(Note::Kind), faults::seen(Note::Address), faults::seen(Note::Error));
        expect_eq!(seen, (u64::from(FaultKind::Page.label()), address, 7), "{what}: what the handler saw");
        Ok(())
    }

    /// Sets the giver's next list, in words.
    pub fn lists(&self, count: u64, ranges: &[[u64; 2]]) {
        let block = Block::at(GIVER.block);
        block.note(LIST_COUNT).store(count, Relaxed);
        for (n, word) in ranges.iter().flatten().enumerate() {
            block.note(LIST + n).store(*word, Relaxed);
        }
    }

    /// Makes the giver call with these ranges.
    pub fn gives(&self, count: u64, ranges: &[[u64; 2]]) -> Result<Result<[u64; 4], (u64, u64)>, Failure> {
        self.lists(count, ranges);
        let regs = [u64::from(TAKER.index), Command::Deliver as u64, 1, 0];
        let answer = self.tell(GIVER, Command::Send, regs)?;
        Ok(if answer[0] == 0 { Ok(answer) } else { Err((answer[0] - 1, answer[1])) })
    }

    pub fn gives_all(&self, ranges: &[PageRange]) -> Outcome {
        let mut list = [[0; 2]; RANGES_MAX];
        list.iter_mut().zip(ranges).for_each(|(to, range)| *to = range.words());
        let given = self.gives(ranges.len() as u64, &list)?;
        expect!(given.is_ok(), "giving {ranges:x?}: error and detail {given:?}");
        Ok(())
    }

    pub fn returns(&self, agent: Agent, how: bool) {
        Block::at(agent.block).note(RETURNS).store(u64::from(how), Relaxed);
    }
}

/// Returns the ranges that came to an agent last.
pub fn came(agent: Agent) -> impl Iterator<Item = PageRange> {
    let block = Block::at(agent.block);
    let count = block.note(CAME_COUNT).load(Relaxed) as usize;
    let words = move |n: usize| [0, 1].map(|word| block.note(CAME + 2 * n + word).load(Relaxed));
    (0..count.min(RANGES_MAX)).filter_map(move |n| PageRange::from_words(words(n)))
}

pub fn note(agent: Agent, which: usize) -> &'static AtomicU64 {
    Block::at(agent.block).note(which)
}

impl Pair {
    pub fn lists_of(&self, agent: Agent, ranges: &[PageRange]) {
        note(agent, LIST_COUNT).store(ranges.len() as u64, Relaxed);
        for (n, word) in ranges.iter().flat_map(|range| range.words()).enumerate() {
            note(agent, LIST + n).store(word, Relaxed);
        }
    }
}
