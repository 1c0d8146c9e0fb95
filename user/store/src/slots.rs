//! The owner of each slot, and the share of each pager, so that no pager takes slots that others
//! need.

use alloc::vec::Vec;

use protocols::store::Refusal;

/// Nobody's.
const FREE: u16 = 0;

/// What a pager has, and may have.
#[derive(Clone, Copy)]
struct Share {
    used: u64,
    most: u64,
}

pub struct Table {
    owners: Vec<u16>,
    free: Vec<u32>,
    /// The shares of pagers 1, 2, ….
    shares: Vec<Share>,
}

impl Table {
    /// Makes a table in which all pagers may have equally many slots, until the manager changes
    /// that.
    pub fn new(slots: u32, pagers: u16) -> Table {
        let most = u64::from(slots) / u64::from(pagers.max(1));
        Table {
            owners: alloc::vec![FREE; slots as usize],
            free: (0..slots).rev().collect(),
            shares: alloc::vec![Share { used: 0, most }; pagers.into()],
        }
    }

    fn share(&mut self, pager: u16) -> Result<&mut Share, Refusal> {
        let index = usize::from(pager).checked_sub(1).ok_or(Refusal::BadRequest)?;
        self.shares.get_mut(index).ok_or(Refusal::BadRequest)
    }

    /// Sets how many slots a pager may have. The pager keeps what it has.
    pub fn allow(&mut self, pager: u16, slots: u64) -> Result<(), Refusal> {
        self.share(pager)?.most = slots;
        Ok(())
    }

    pub fn take(&mut self, pager: u16) -> Result<u64, Refusal> {
        let share = self.share(pager)?;
        if share.used >= share.most {
            return Err(Refusal::Full);
        }
        let slot = self.free.pop().ok_or(Refusal::Full)?;
        self.owners[slot as usize] = pager;
        self.share(pager)?.used += 1;
        Ok(slot.into())
    }

    /// Whether the slot is the pager's.
    pub fn check(&self, pager: u16, slot: u64) -> Result<(), Refusal> {
        let owner = usize::try_from(slot).ok().and_then(|slot| self.owners.get(slot));
        if pager != FREE && owner == Some(&pager) { Ok(()) } else { Err(Refusal::BadRequest) }
    }

    pub fn free(&mut self, pager: u16, slot: u64) -> Result<(), Refusal> {
        self.check(pager, slot)?;
        self.share(pager)?.used -= 1;
        self.owners[slot as usize] = FREE;
        self.free.push(slot as u32);
        Ok(())
    }

    /// Frees all slots of a pager, which has ended or begins again.
    pub fn forget(&mut self, pager: u16) -> Result<(), Refusal> {
        self.share(pager)?.used = 0;
        for (owner, slot) in self.owners.iter_mut().zip(0..).filter(|(owner, _)| **owner == pager) {
            *owner = FREE;
            self.free.push(slot);
        }
        Ok(())
    }

    /// Returns how many slots are in use, and how many there are.
    pub fn used(&self) -> (u64, u64) {
        let all = self.owners.len() as u64;
        (all - self.free.len() as u64, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_its_pagers_alone() {
        let mut table = Table::new(2, 2);
        let (first, second) = (table.take(1).unwrap(), table.take(2).unwrap());
        assert_ne!(first, second);
        assert_eq!(table.take(1), Err(Refusal::Full));
        assert_eq!(table.check(1, second), Err(Refusal::BadRequest));
        assert_eq!(table.free(2, first), Err(Refusal::BadRequest));
        assert_eq!(table.check(1, u64::MAX), Err(Refusal::BadRequest));
        table.free(1, first).unwrap();
        assert_eq!(table.free(1, first), Err(Refusal::BadRequest), "twice");
        assert_eq!(table.check(0, first), Err(Refusal::BadRequest), "what is free is nobody's");
        assert_eq!(table.take(0), Err(Refusal::BadRequest), "nobody takes any");
        assert_eq!(table.used(), (1, 2));
        table.allow(2, 2).unwrap();
        assert_eq!(table.take(2), Ok(first));
    }

    #[test]
    fn a_pager_leaves_its_share_to_nobody_and_in_the_end_all_of_it() {
        let mut table = Table::new(8, 2);
        let hoarded = core::iter::from_fn(|| table.take(1).ok()).count();
        assert_eq!((hoarded, table.take(1)), (4, Err(Refusal::Full)), "half of them");
        let kept = table.take(2).unwrap();
        table.forget(1).unwrap();
        assert_eq!(table.used(), (1, 8));
        assert_eq!(table.check(2, kept), Ok(()), "another's");
        assert_eq!(core::iter::from_fn(|| table.take(1).ok()).count(), 4, "it may begin anew");
        table.allow(1, 2).unwrap();
        assert_eq!(table.take(1), Err(Refusal::Full));
        for nobody in [0, 3] {
            assert_eq!(table.forget(nobody), Err(Refusal::BadRequest));
            assert_eq!(table.allow(nobody, 1), Err(Refusal::BadRequest));
        }
    }

    /// Pagers that take, free what they like, end and get other shares, in any order.
    #[test]
    fn shares_hold_whatever_pagers_do() {
        const SLOTS: u64 = 24;
        const PAGERS: u16 = 3;
        for seed in 0..200 {
            let mut random = oorandom::Rand64::new(seed);
            let mut table = Table::new(SLOTS as u32, PAGERS);
            let mut owners = [FREE; SLOTS as usize];
            let mut most = [SLOTS / u64::from(PAGERS); PAGERS as usize];
            for _ in 0..300 {
                let pager = random.rand_range(1..u64::from(PAGERS) + 1) as u16;
                let used = |owners: &[u16]| owners.iter().filter(|owner| **owner == pager).count() as u64;
                let share = &mut most[usize::from(pager) - 1];
                match random.rand_range(0..20) {
                    0 => {
                        table.forget(pager).unwrap();
                        owners.iter_mut().filter(|owner| **owner == pager).for_each(|owner| *owner = FREE);
                    }
                    1 => {
                        *share = random.rand_range(0..SLOTS);
                        table.allow(pager, *share).unwrap();
                    }
                    2..9 => {
                        let slot = random.rand_range(0..SLOTS);
                        let is_its = owners[slot as usize] == pager;
                        assert_eq!(table.free(pager, slot).is_ok(), is_its, "seed {seed}");
                        owners[slot as usize] = if is_its { FREE } else { owners[slot as usize] };
                    }
                    _ => {
                        let may = used(&owners) < *share && owners.contains(&FREE);
                        let taken = table.take(pager);
                        assert_eq!(taken.is_ok(), may, "seed {seed}");
                        if let Ok(slot) = taken {
                            assert_eq!(core::mem::replace(&mut owners[slot as usize], pager), FREE);
                        }
                    }
                }
                let all = owners.iter().filter(|owner| **owner != FREE).count() as u64;
                assert_eq!(table.used(), (all, SLOTS), "seed {seed}");
            }
        }
    }
}
