//! Used pages: the bits that the hardware sets in the entries that map them.
//!
//! The kernel clears the bits without a flush. A CPU that still has the translation does not set
//! the bit at its next use, so the page seems unused as long as the CPU keeps the translation. So
//! the answer is only a hint, good enough to choose a page to evict. In return, no CPU is
//! interrupted.

use abi::Rights;
use kern_base::limits::PAGE_STEPS;
use kern_base::machine::Machine;

use super::map::mapping;
use crate::answer::Answer;
use crate::rooms::Mem;
use crate::{OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Mem<'k, M> {
    /// Carries out [`abi::Op::Accessed`], in one entry.
    pub fn accessed(self, me: OpenTask<'k>) -> Result<Answer> {
        let run = self.run_of(me, Rights::MAP)?;
        refuse_if(run.count > PAGE_STEPS, Refusal::argument(5))?;
        let _guard = run.vspace.get().lock(self.cpu);
        // All of them are mapped, or nothing changes.
        self.each_of(me, run, false, |spot, page| mapping(spot, page).map(|_| ()))?;
        let (mut bit, mut accessed, mut dirty) = (1, 0, 0);
        self.each_of(me, run, false, |spot, _| {
            let was = spot.entry.take_accessed();
            accessed |= if was.is_accessed() { bit } else { 0 };
            dirty |= if was.is_dirty() { bit } else { 0 };
            bit <<= 1;
            Ok(())
        })?;
        Ok(Answer::Values([accessed, dirty, 0, 0]))
    }
}
