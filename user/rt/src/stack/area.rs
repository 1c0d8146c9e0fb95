//! The places of stacks in an address space, their sizes, and the meaning of a fault near a stack.
//! This module computes only addresses: it maps nothing.
//!
//! A stack's place consists of its reserve and a page below that stays unmapped, the guard. Pages
//! are mapped from the top down, without holes.
//!
//! ```text
//!        guard   reserve                      guard
//!      ├───────┼────────────┬───────────────┼───────┤
//!              low          bottom          top
//!                           └── mapped ─────┘
//! ```

use core::ops::Range;

use abi::PAGE_SIZE;

/// One stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stack {
    /// The reserve.
    pub low: u64,
    pub top: u64,
    /// The lowest address that is mapped.
    pub bottom: u64,
}

impl Stack {
    pub const fn reserve(&self) -> u64 {
        self.top - self.low
    }

    pub const fn mapped(&self) -> u64 {
        self.top - self.bottom
    }

    /// Returns the stack's addresses, guard page included.
    const fn range(&self) -> Range<u64> {
        self.low - PAGE_SIZE..self.top
    }
}

/// What a fault near a task's stack pointer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// No stack of this area is in use there.
    Foreign,
    /// The page is there by now.
    Mapped,
    /// It grows: so many pages below those that it has.
    Grows { stack: usize, pages: u64 },
    /// It is at the end of its reserve.
    Full(Stack),
    /// Above its top there is nothing.
    Empty(Stack),
}

/// The stacks of an address space: `N` at most.
#[derive(Debug)]
pub struct Area<const N: usize> {
    /// Where places are given.
    range: Range<u64>,
    stacks: [Option<Stack>; N],
}

impl<const N: usize> Area<N> {
    /// Makes an area that gives places for stacks in a range, whose ends are on page boundaries.
    pub const fn new(range: Range<u64>) -> Area<N> {
        Area { range, stacks: [None; N] }
    }

    pub fn get(&self, stack: usize) -> Option<&Stack> {
        self.stacks.get(stack)?.as_ref()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Stack> {
        self.stacks.iter().flatten()
    }

    /// Returns the number of the stack that begins at an address.
    pub fn at(&self, low: u64) -> Option<usize> {
        self.stacks.iter().position(|stack| stack.is_some_and(|stack| stack.low == low))
    }

    /// Finds a place for a stack of so many pages, none of which is mapped yet. Returns its number,
    /// or `None` if there is no room for it, or there are `N` stacks already.
    pub fn place(&mut self, pages: u64) -> Option<usize> {
        let bytes = pages.checked_mul(PAGE_SIZE).filter(|bytes| *bytes > 0)?;
        let with_guard = bytes.checked_add(PAGE_SIZE)?;
        let mut guard = self.range.start;
        // A stack that is in the way determines where to look next, so each is in the way once.
        while let Some(other) = self.iter().find(|other| {
            let Range { start, end } = other.range();
            start < guard.saturating_add(with_guard) && guard < end
        }) {
            guard = other.top;
        }
        let low = guard.checked_add(PAGE_SIZE)?;
        let top = low.checked_add(bytes).filter(|top| *top <= self.range.end)?;
        self.put(Stack { low, top, bottom: top })
    }

    /// Adds a stack at a given place to the area. Returns its number, or `None` if it overlaps with
    /// another stack, or there are `N` already.
    pub fn adopt(&mut self, stack: Stack) -> Option<usize> {
        let Range { start, end } = stack.range();
        let apart = |other: &Stack| end <= other.range().start || other.range().end <= start;
        let sound = stack.low < stack.top && (stack.low..=stack.top).contains(&stack.bottom);
        if sound && self.iter().all(apart) { self.put(stack) } else { None }
    }

    fn put(&mut self, stack: Stack) -> Option<usize> {
        let free = self.stacks.iter().position(Option::is_none)?;
        self.stacks[free] = Some(stack);
        Some(free)
    }

    /// Removes a stack.
    pub fn remove(&mut self, stack: usize) -> Option<Stack> {
        self.stacks.get_mut(stack)?.take()
    }

    /// Counts one more mapped page of a stack. Returns the page's address.
    pub fn grow(&mut self, stack: usize) -> Option<u64> {
        let stack = self.stacks.get_mut(stack)?.as_mut().filter(|stack| stack.bottom > stack.low)?;
        stack.bottom -= PAGE_SIZE;
        Some(stack.bottom)
    }

    /// Returns what a fault at `address` means for a task whose stack pointer is `rsp`. The stack
    /// is the one that contains `rsp`, and no other: an address in the reserve of another stack is
    /// a wild pointer.
    pub fn judge(&self, address: u64, rsp: u64) -> Finding {
        // An empty stack's pointer is at its top, where the next guard begins.
        let used = |stack: &Option<Stack>| stack.is_some_and(|s| s.range().contains(&rsp.wrapping_sub(1)));
        let Some((number, stack)) = self.stacks.iter().position(used).and_then(|n| Some((n, self.get(n)?)))
        else {
            return Finding::Foreign;
        };
        match address {
            _ if address >= stack.top => Finding::Empty(*stack),
            _ if address >= stack.bottom => Finding::Mapped,
            _ if address >= stack.low => {
                let page = address & !(PAGE_SIZE - 1);
                Finding::Grows { stack: number, pages: (stack.bottom - page) / PAGE_SIZE }
            }
            _ => Finding::Full(*stack),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x5000_0000;

    fn area() -> Area<4> {
        Area::new(START..START + 64 * PAGE_SIZE)
    }

    #[test]
    fn places_do_not_touch_and_are_given_again() {
        let mut area = area();
        let [a, b, c] = [10, 20, 30].map(|pages| area.place(pages).unwrap());
        assert_eq!(area.get(a).unwrap().low, START + PAGE_SIZE);
        let mut ranges: Vec<_> = area.iter().map(Stack::range).collect();
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "{ranges:?}");
        assert_eq!(area.place(1), None, "63 pages with their guards, and no room for two more");
        area.remove(b).unwrap();
        assert_eq!(area.place(21), None);
        let again = area.place(20).unwrap();
        assert_eq!(area.get(again).unwrap().low, START + 12 * PAGE_SIZE);
        area.remove(a).unwrap();
        area.remove(c).unwrap();
        let small = [3, 3].map(|pages| area.place(pages).unwrap());
        assert_ne!(small[0], small[1]);
        assert_eq!(area.place(1).and_then(|last| area.get(last)).map(Stack::reserve), Some(PAGE_SIZE));
        assert_eq!(area.place(1), None, "there are as many as it holds");
        assert_eq!(area.place(0), None);
        assert_eq!(area.place(u64::MAX), None);
        assert_eq!(area.place(u64::MAX / PAGE_SIZE), None, "with its guard more than there are addresses");
    }

    #[test]
    fn there_is_no_place_behind_the_last_address() {
        const TOP: u64 = u64::MAX / PAGE_SIZE * PAGE_SIZE;
        let mut area = Area::<2>::new(TOP - 2 * PAGE_SIZE..TOP);
        area.adopt(Stack { low: TOP - PAGE_SIZE, top: TOP, bottom: TOP }).unwrap();
        assert_eq!(area.place(1), None);
    }

    #[test]
    fn a_stack_from_elsewhere_must_be_sound_and_apart() {
        let mut area = area();
        let here = area.place(4).unwrap();
        let Stack { low, top, .. } = *area.get(here).unwrap();
        assert_eq!(
            area.adopt(Stack { low: top, top: top + PAGE_SIZE, bottom: top }),
            None,
            "no room for its guard"
        );
        assert_eq!(area.adopt(Stack { low, top, bottom: low }), None);
        let far = START << 1;
        assert_eq!(area.adopt(Stack { low: far, top: far, bottom: far }), None, "empty");
        assert_eq!(area.adopt(Stack { low: far, top: far + PAGE_SIZE, bottom: far - PAGE_SIZE }), None);
        let other =
            area.adopt(Stack { low: far, top: far + 4 * PAGE_SIZE, bottom: far + 3 * PAGE_SIZE }).unwrap();
        assert_eq!(area.at(far), Some(other));
    }

    #[test]
    fn what_a_fault_means() {
        let mut area = area();
        let number = area.place(4).unwrap();
        assert_eq!(area.grow(number), Some(START + 4 * PAGE_SIZE));
        let stack = *area.get(number).unwrap();
        let Stack { low, top, bottom } = stack;
        let next = area.place(4).unwrap();
        assert_eq!(area.get(next).unwrap().low, top + PAGE_SIZE);
        // A call pushes below; a frame's first word may be anywhere in it.
        assert_eq!(area.judge(bottom - 8, bottom), Finding::Grows { stack: number, pages: 1 });
        assert_eq!(area.judge(bottom - 8, bottom - 4000), Finding::Grows { stack: number, pages: 1 });
        assert_eq!(
            area.judge(bottom - PAGE_SIZE - 8, bottom - 100),
            Finding::Grows { stack: number, pages: 2 }
        );
        assert_eq!(area.judge(low, low), Finding::Grows { stack: number, pages: 3 });
        assert_eq!(area.judge(low - 8, low), Finding::Full(stack));
        assert_eq!(area.judge(low - 8, low - 100), Finding::Full(stack));
        assert_eq!(area.judge(top, top), Finding::Empty(stack), "not the next one's guard");
        assert_eq!(area.judge(bottom, bottom), Finding::Mapped);
        assert_eq!(area.judge(START - 8, START), Finding::Foreign);
        assert_eq!(area.judge(bottom - 8, START << 1), Finding::Foreign, "whose stack is elsewhere");
        for _ in 0..3 {
            area.grow(number).unwrap();
        }
        assert_eq!(area.grow(number), None);
        assert_eq!(area.get(number).map(Stack::mapped), Some(4 * PAGE_SIZE));
    }
}
