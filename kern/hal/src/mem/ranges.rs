//! Ranges of physical memory: what is free at boot, and the allocator for boot-time structures.
//!
//! [`FreeMemory`] starts as the usable regions of the memory map, without everything that is in
//! use. Boot code allocates pieces of it, and the rest becomes Untyped memory. Nothing is freed to
//! it later except the boot segment and the application processors' start page.

/// Most disjoint free ranges that are tracked; more are dropped, smallest first, and counted.
pub const MAX_RANGES: usize = 256;
const PAGE: u64 = crate::layout::PAGE;

/// A non-empty range of physical addresses, end exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    start: u64,
    end: u64,
}

impl Range {
    /// Makes a range; `None` if it would be empty.
    pub const fn new(start: u64, end: u64) -> Option<Range> {
        if start < end { Some(Range { start, end }) } else { None }
    }

    /// Makes a range; `None` if it would be empty or wrap around.
    pub fn sized(start: u64, size: u64) -> Option<Range> {
        Range::new(start, start.checked_add(size)?)
    }

    pub const fn start(self) -> u64 {
        self.start
    }

    pub const fn end(self) -> u64 {
        self.end
    }

    pub const fn size(self) -> u64 {
        self.end - self.start
    }

    pub fn overlaps(self, other: Range) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Returns the whole pages inside the range.
    pub fn pages_inside(self) -> Option<Range> {
        Range::new(self.start.checked_next_multiple_of(PAGE)?, self.end / PAGE * PAGE)
    }

    /// Returns the whole pages that the range touches.
    pub fn pages_around(self) -> Range {
        let end = self.end.checked_next_multiple_of(PAGE).unwrap_or(self.end / PAGE * PAGE);
        Range { start: self.start / PAGE * PAGE, end }
    }
}

/// Sorted, disjoint, page-aligned free ranges.
pub struct FreeMemory {
    ranges: heapless::Vec<Range, MAX_RANGES>,
}

impl FreeMemory {
    pub const fn new() -> FreeMemory {
        FreeMemory { ranges: heapless::Vec::new() }
    }

    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Returns the number of free bytes.
    pub fn total(&self) -> u64 {
        self.ranges.iter().map(|r| r.size()).sum()
    }

    /// Adds the whole pages inside `range`; what is free already stays so.
    pub fn add(&mut self, range: Range) {
        let Some(new) = range.pages_inside() else {
            return;
        };
        let (mut start, mut end) = (new.start, new.end);
        // Swallow every range that touches the new one, then insert the union.
        self.ranges.retain(|r| {
            let apart = r.end < start || end < r.start;
            if !apart {
                start = start.min(r.start);
                end = end.max(r.end);
            }
            apart
        });
        self.insert(Range { start, end });
    }

    /// Removes every page that `range` touches from the free memory.
    pub fn remove(&mut self, range: Range) {
        let gone = range.pages_around();
        // Looked up again each time: an insertion into a full list may drop any element.
        while let Some(i) = self.ranges.iter().position(|r| r.overlaps(gone)) {
            let r = self.ranges.remove(i);
            if let Some(before) = Range::new(r.start, gone.start) {
                self.insert(before);
            }
            if let Some(after) = Range::new(gone.end, r.end) {
                self.insert(after);
            }
        }
    }

    /// Takes `size` bytes (rounded up to pages) of free memory, aligned to `align`, at the lowest
    /// address inside `within`.
    pub fn take(&mut self, size: u64, align: u64, within: Range) -> Option<Range> {
        let size = size.checked_next_multiple_of(PAGE)?;
        let align = align.max(PAGE);
        let found = self.ranges.iter().find_map(|r| {
            let start = r.start.max(within.start).checked_next_multiple_of(align)?;
            let piece = Range::sized(start, size)?;
            (piece.end <= r.end.min(within.end)).then_some(piece)
        })?;
        self.remove(found);
        Some(found)
    }

    fn insert(&mut self, range: Range) {
        if self.ranges.is_full() {
            let smallest = (0..self.ranges.len()).min_by_key(|&i| self.ranges[i].size());
            match smallest {
                Some(i) if self.ranges[i].size() < range.size() => drop(self.ranges.remove(i)),
                _ => return,
            }
        }
        let at = self.ranges.partition_point(|r| r.start < range.start);
        // Just made room, and `at` is at most the length: this can't fail.
        let _ = self.ranges.insert(at, range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(start: u64, end: u64) -> Range {
        Range::new(start, end).unwrap()
    }

    const ALL: Range = Range { start: 0, end: 1 << 40 };

    #[test]
    fn ranges_merge_and_round_inwards() {
        let mut free = FreeMemory::new();
        free.add(r(0x1800, 0x3800));
        assert_eq!(free.ranges(), [r(0x2000, 0x3000)]);
        free.add(r(0x5000, 0x6000));
        free.add(r(0x3000, 0x5000));
        assert_eq!(free.ranges(), [r(0x2000, 0x6000)]);
        free.add(r(0x2000, 0x3000));
        assert_eq!(free.total(), 0x4000);
    }

    #[test]
    fn removing_rounds_outwards_and_splits() {
        let mut free = FreeMemory::new();
        free.add(r(0x10000, 0x20000));
        free.remove(r(0x14fff, 0x15001));
        assert_eq!(free.ranges(), [r(0x10000, 0x14000), r(0x16000, 0x20000)]);
        free.remove(r(0, 0x1_0000_0000));
        assert!(free.ranges().is_empty());
    }

    #[test]
    fn taking_is_aligned_and_bounded() {
        let mut free = FreeMemory::new();
        free.add(r(0x1000, 0x5000));
        free.add(r(0x8000, 0x40000));
        assert_eq!(free.take(1, 1, ALL), Some(r(0x1000, 0x2000)));
        assert_eq!(free.take(0x8000, 0x10000, ALL), Some(r(0x10000, 0x18000)));
        assert_eq!(free.take(0x1000, 0x1000, r(0x20000, 0x30000)), Some(r(0x20000, 0x21000)));
        assert_eq!(free.take(0x10_0000, 0x1000, ALL), None);
    }

    #[test]
    fn a_full_list_gives_up_the_smallest() {
        let mut free = FreeMemory::new();
        for i in 0..MAX_RANGES as u64 {
            free.add(Range::sized(0x10_0000 + i * 0x4000, 0x1000 + (i & 1) * 0x1000).unwrap());
        }
        free.add(Range::sized(0x4000_0000, 0x8000).unwrap());
        assert_eq!(free.ranges().iter().filter(|range| range.size() == 0x1000).count(), MAX_RANGES / 2 - 1);
        assert_eq!(free.ranges().len(), MAX_RANGES);
    }
}
