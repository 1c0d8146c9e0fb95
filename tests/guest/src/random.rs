//! Pseudo-random numbers (splitmix64): a sequence for each user, from the seed.

/// Returns the state after `state`; the number between them is [`mix`] of the earlier one.
pub const fn next_state(state: u64) -> u64 {
    state.wrapping_add(0x9e37_79b9_7f4a_7c15)
}

/// Makes one mixing step.
pub const fn mix(value: u64) -> u64 {
    let mut z = next_state(value);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub struct Random(u64);

impl Random {
    /// Returns the sequence of user `who` under a seed.
    pub const fn new(seed: u64, who: u64) -> Random {
        Random(mix(seed) ^ mix(who.wrapping_mul(0x2545_f491_4f6c_dd1d)))
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = next_state(self.0);
        mix(self.0)
    }

    /// Draws a number below `limit`, which is not 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns true in `percent` of a hundred cases.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
