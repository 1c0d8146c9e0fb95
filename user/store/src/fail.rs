//! Faults of a store for tests: random, by a seed.

use user_rt::paging::Faulty;

/// The fate of a get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Get {
    Works,
    Fails,
    /// Something else comes back: which word of the page is wrong.
    Spoils(usize),
}

pub struct Fails {
    how: Faulty,
    random: oorandom::Rand64,
    /// Gets that did not work, puts that did not.
    pub gets: u64,
    pub puts: u64,
}

impl Default for Fails {
    fn default() -> Fails {
        Fails { how: Faulty::default(), random: oorandom::Rand64::new(0), gets: 0, puts: 0 }
    }
}

impl Fails {
    /// Sets the faults from now on; the counts begin at 0.
    pub fn set(&mut self, how: Faulty) {
        *self = Fails { how, random: oorandom::Rand64::new(how.seed.into()), gets: 0, puts: 0 };
    }

    pub fn delay(&self) -> u64 {
        self.how.delay
    }

    /// Whether a put fails.
    pub fn put(&mut self) -> bool {
        let fails = self.how.puts > 0 && self.random.rand_range(0..1000) < self.how.puts.into();
        self.puts += u64::from(fails);
        fails
    }

    pub fn get(&mut self) -> Get {
        if self.gets >= self.how.at_most || (self.how.gets, self.how.spoiled) == (0, 0) {
            return Get::Works;
        }
        let (fail, spoil) = (u64::from(self.how.gets), u64::from(self.how.spoiled));
        let outcome = match self.random.rand_range(0..1000) {
            drawn if drawn < fail => Get::Fails,
            drawn if drawn < fail + spoil => Get::Spoils(self.random.rand_u64() as usize),
            _ => Get::Works,
        };
        self.gets += u64::from(outcome != Get::Works);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fails_as_often_as_told_and_no_more() {
        let mut fails = Fails::default();
        assert!((0..1000).all(|_| fails.get() == Get::Works && !fails.put()));
        fails.set(Faulty { gets: 100, spoiled: 100, puts: 500, seed: 7, at_most: 50, ..Faulty::default() });
        let failed = (0..10_000).filter(|_| fails.get() != Get::Works).count();
        assert_eq!((failed, fails.gets), (50, 50), "no more than it may");
        let failed = (0..10_000).filter(|_| fails.put()).count();
        assert!((4_500..5_500).contains(&failed), "{failed} of 10,000 at one half");
    }
}
