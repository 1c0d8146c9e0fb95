//! Messages with pages, between a worker and a [porter](crate::porter) on any CPU, in any space.

use abi::{Error, PageMode, PageRange, Target};
use guest_tests::run::Run as _;
use user_rt::cap::Exposure;
use user_rt::ipc::{Message, Patience};
use user_rt::layout::slot;
use user_rt::{Refusal, arch, utcb};

use crate::board::{PORTERS, Total, address};
use crate::handlers::porter_index;
use crate::pool::{Due, Row};
use crate::porter::{Command, refused};
use crate::worker::Worker;

/// Most ticks until a call's deadline; most ticks that a porter naps.
const DEADLINE: u64 = 600_000;
const NAP: u64 = 400_000;

/// A porter that this worker has taken.
#[derive(Clone, Copy)]
struct Porter {
    space: usize,
    era: u64,
    number: usize,
}

/// Pages to send.
#[derive(Clone, Copy)]
struct Parcel {
    from: Row,
    to: Row,
    mode: PageMode,
}

impl Worker {
    fn exposure(&self, porter: Porter) -> Exposure {
        let index = porter_index(self.board.get(Total::Cpus) as u32, porter.space, porter.number);
        Exposure(Target::new(slot::GROUPS, index))
    }

    fn is_porter_gone(&self, porter: Porter) -> bool {
        self.is_over(porter.space, porter.era)
    }

    /// Runs a function with a porter that no other worker has meanwhile.
    fn with_porter(&mut self, then: impl FnOnce(&mut Worker, Porter)) {
        let (space, era) = self.pick_space();
        let number = self.random.below(PORTERS as u64) as usize;
        if self.board.take_porter(self.me, space, number) {
            then(self, Porter { space, era, number });
            self.board.leave_porter(self.me, space, number);
        }
    }

    /// Opens a porter's window. Returns whether that porter still exists.
    fn open(&self, porter: Porter, [start, bytes]: [u64; 2]) -> bool {
        let open = Message::new(Command::Open as u32, [start, bytes, 0, 0]);
        let opened = self.exposure(porter).call(&open);
        let gone = self.is_porter_gone(porter);
        if let Err(refusal) = opened
            && !gone
        {
            self.wrong(Total::Refused, format_args!("telling a porter of space {}: {refusal}", porter.space));
        }
        opened.is_ok() && !gone
    }

    /// Returns the window for a row, and the expected answer: sometimes the window is too small, or
    /// not empty.
    fn window(&mut self, to: Row) -> ([u64; 2], Due) {
        let start = address(self.me, to.place);
        if self.random.chance(6) {
            return ([start, to.bytes() - 1], Some((Error::NoRoom, to.bytes())));
        }
        ([start, to.bytes()], self.in_the_way(to))
    }

    /// Makes a call with pages of this space.
    pub fn send(&mut self) {
        self.with_porter(Worker::send_to);
    }

    fn send_to(&mut self, porter: Porter) {
        let Some(from) = self.pick_pooled_in(self.space, self.era) else { return self.map_pool() };
        let (asked, missing) = self.and_one_that_is_not(from, 8);
        let to = match missing {
            None => self.pick_target(from, porter.space, porter.era),
            Some(_) => self.pick_gap(asked, asked.count, porter.space, porter.era),
        };
        let Some(to) = to.map(|to| Row { count: from.count, ..to }) else { return };
        let mode = self.pick_mode();
        let first = Parcel { from, to, mode };
        let second = if missing.is_none() && self.random.chance(30) { self.second(first) } else { None };
        let (window, due) = match (second, missing) {
            (Some(second), _) => {
                let taken = self.in_the_way(first.to).or_else(|| self.in_the_way(second.to));
                ([address(self.me, to.place), first.to.bytes() + second.to.bytes()], taken)
            }
            // With enough room.
            (None, Some(_)) => ([address(self.me, to.place), asked.bytes()], missing),
            (None, None) => self.window(to),
        };
        if !self.open(porter, window) {
            return;
        }
        let parcels = [Some(first), second];
        let ranges = [
            asked.range(self.me, mode),
            second.map_or(crate::porter::NOTHING, |p| p.from.range(self.me, p.mode)),
        ];
        utcb::current().send_ranges(&ranges[..if second.is_some() { 2 } else { 1 }]);
        for Parcel { from, to, mode } in parcels.into_iter().flatten() {
            self.begin_passing(from, to, mode, due);
        }
        let went = self.call_with_pages(porter, first, second, due);
        for Parcel { from, to, mode } in parcels.into_iter().flatten() {
            self.settle_passing(from, to, mode, due, went);
            self.look_after_passing(from, to);
        }
    }

    /// Picks other small pages of this space, and their place after the first.
    fn second(&mut self, first: Parcel) -> Option<Parcel> {
        let from = self.pick_pooled_in(self.space, self.era)?;
        let place = first.to.place + first.to.count as usize;
        let to = Row { place, count: from.count, ..first.to };
        let fits = place + from.count as usize <= crate::board::SMALL_PAGES;
        if from.large || first.from.large || !fits || from.overlaps(first.from) || from.overlaps(first.to) {
            return None;
        }
        (!to.overlaps(first.from)).then_some(Parcel { from, to, mode: self.pick_mode() })
    }

    /// Calls with the pages that the UTCB lists. Returns whether they were sent.
    fn call_with_pages(&mut self, porter: Porter, first: Parcel, second: Option<Parcel>, due: Due) -> bool {
        let soon = self.random.chance(30);
        let deadline = arch::now() + self.random.below(DEADLINE);
        let patience = if soon { Patience::Until(deadline) } else { Patience::Forever };
        let take = Message::new(Command::Take as u32, [0; 4]).with_pages();
        let answer = self.exposure(porter).call_within(&take, patience);
        self.count();
        let gone = self.is_porter_gone(porter);
        let refusal = match answer {
            Ok(reply) => {
                self.judge("pages in a call", first.from, Ok(()), due, gone);
                let seen = [Some(first), second].into_iter().flatten();
                let seen = seen.flat_map(|parcel| parcel.to.range(self.me, parcel.mode).words());
                if !seen.zip(reply.regs).all(|(word, seen)| word == seen) {
                    let regs = reply.regs;
                    self.wrong(Total::Refused, format_args!("a porter saw {regs:x?} of {:?}", first.to));
                }
                return true;
            }
            Err(refusal) => refusal,
        };
        // A call without an answer may have sent the pages all the same.
        let went = utcb::current().ranges().next().is_none();
        self.board.add(Total::Late, u64::from(refusal.error == Error::Timeout));
        let late = soon && refusal.error == Error::Timeout && !(went && due.is_some());
        if !late && (!self.judge_refusal(first.from, &refusal, due) || went) && !gone {
            let at = first.from.address(self.me);
            let what = format_args!(
                "pages in a call, {at:#x}, {:?}, went {went}: {refusal}, due {due:x?}",
                first.from
            );
            self.wrong(Total::Refused, what);
        }
        went
    }

    fn judge_refusal(&self, row: Row, refusal: &Refusal, due: Due) -> bool {
        let no_place = row.large && refusal.error == Error::NoRoom;
        due == Some((refusal.error, refusal.detail)) || no_place || self.may_be_full(refusal.error)
    }

    /// Makes a call whose reply brings pages to this space.
    pub fn ask(&mut self) {
        self.with_porter(Worker::ask_from);
    }

    fn ask_from(&mut self, porter: Porter) {
        let Some(from) = self.pick_pooled_in(porter.space, porter.era) else { return self.map_pool() };
        let (asked, missing) = self.and_one_that_is_not(from, 8);
        let to = match missing {
            None => self.pick_target(from, self.space, self.era),
            Some(_) => self.pick_gap(asked, asked.count, self.space, self.era),
        };
        let Some(to) = to else { return };
        let (window, due) = match missing {
            Some(_) => ([address(self.me, to.place), asked.bytes()], missing),
            None => self.window(to),
        };
        let mode = self.pick_mode();
        let range = asked.range(self.me, mode);
        let [words, count] = range.words();
        utcb::current().open_window(window[0], window[1]);
        self.begin_passing(from, to, mode, due);
        let give = Message::new(Command::Give as u32, [words, count, 0, 0]);
        let answer = self.exposure(porter).call(&give);
        self.count();
        let gone = self.is_porter_gone(porter);
        let went = match answer {
            Ok(reply) if reply.pages => {
                let came = utcb::current().ranges().next();
                let right = came == Some(PageRange { address: to.address(self.me), ..range });
                self.judge("pages in a reply", from, Ok(()), due, gone || !right);
                if !right {
                    self.wrong(Total::Refused, format_args!("{from:?} came as {came:x?}, not at {to:?}"));
                }
                true
            }
            Ok(reply) => {
                // A page for which the worker has no place, or that is gone, is no error of the
                // porter.
                let is_due = due.is_some_and(|(error, detail)| match error {
                    Error::NoRoom | Error::NoPage => reply.untaken,
                    _ => reply.label == refused(error) && reply.regs[0] == detail,
                });
                let no_place = reply.untaken && (from.large || self.has_small_limits());
                if !is_due && !no_place && !gone {
                    let Message { label, regs, untaken, .. } = reply;
                    self.wrong(
                        Total::Refused,
                        format_args!("{from:?} from a porter: {label} {regs:x?} {untaken}, due {due:x?}"),
                    );
                }
                false
            }
            Err(refusal) => {
                if !gone {
                    self.wrong(Total::Refused, format_args!("asking a porter for {from:?}: {refusal}"));
                }
                false
            }
        };
        self.settle_passing(from, to, mode, due, went);
        self.look_after_passing(from, to);
    }

    /// Lets a porter nap, even one that another worker has taken: its calls are queued meanwhile,
    /// and some expire.
    pub fn keep_busy(&mut self) {
        let (space, era) = self.pick_space();
        let number = self.random.below(PORTERS as u64) as usize;
        let porter = Porter { space, era, number };
        let nap = Message::new(Command::Nap as u32, [self.random.below(NAP), 0, 0, 0]);
        let patience = Patience::Until(arch::now() + self.random.below(NAP));
        match self.exposure(porter).call_within(&nap, patience) {
            Err(refusal) if refusal.error != Error::Timeout && !self.is_porter_gone(porter) => {
                self.wrong(Total::Refused, format_args!("keeping a porter busy: {refusal}"));
            }
            _ => {}
        }
    }
}
