//! Who has which slot.

use alloc::vec::Vec;

use protocols::store::Refusal;

/// Nobody's.
const FREE: u16 = 0;

pub struct Table {
    owners: Vec<u16>,
    free: Vec<u32>,
}

impl Table {
    pub fn new(slots: u32) -> Table {
        Table { owners: alloc::vec![FREE; slots as usize], free: (0..slots).rev().collect() }
    }

    pub fn take(&mut self, pager: u16) -> Result<u64, Refusal> {
        let slot = self.free.pop().ok_or(Refusal::Full)?;
        self.owners[slot as usize] = pager;
        Ok(slot.into())
    }

    /// Whether the slot is the pager's.
    pub fn check(&self, pager: u16, slot: u64) -> Result<(), Refusal> {
        let owner = usize::try_from(slot).ok().and_then(|slot| self.owners.get(slot));
        if pager != FREE && owner == Some(&pager) { Ok(()) } else { Err(Refusal::BadRequest) }
    }

    pub fn free(&mut self, pager: u16, slot: u64) -> Result<(), Refusal> {
        self.check(pager, slot)?;
        self.owners[slot as usize] = FREE;
        self.free.push(slot as u32);
        Ok(())
    }

    /// How many are in use, of how many.
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
        let mut table = Table::new(2);
        let (first, second) = (table.take(1).unwrap(), table.take(2).unwrap());
        assert_ne!(first, second);
        assert_eq!(table.take(1), Err(Refusal::Full));
        assert_eq!(table.check(1, second), Err(Refusal::BadRequest));
        assert_eq!(table.free(2, first), Err(Refusal::BadRequest));
        assert_eq!(table.check(1, u64::MAX), Err(Refusal::BadRequest));
        table.free(1, first).unwrap();
        assert_eq!(table.free(1, first), Err(Refusal::BadRequest), "twice");
        assert_eq!(table.check(0, first), Err(Refusal::BadRequest), "what is free is nobody's");
        assert_eq!(table.used(), (1, 2));
        assert_eq!(table.take(2), Ok(first));
    }
}
