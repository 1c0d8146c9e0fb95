//! Which pages were used: what the hardware notes in the entries that map them.
//!
//! The bits are cleared without telling any CPU. One that still remembers a translation does not note its next use: the
//! page looks unused for as long as that stays. So what is answered is a hint, good enough to choose which page to put
//! away; nothing that has to be true hangs on it, and no CPU is stopped for it.

use abi::Rights;
use kern_base::limits::PAGE_STEPS;
use kern_base::machine::Machine;

use super::map::mapping;
use crate::answer::Answer;
use crate::rooms::Mem;
use crate::{Me, Refusal, Result};

impl<'k, M: Machine> Mem<'k, M> {
    /// [`abi::Op::Accessed`]. One entry does it all.
    pub fn accessed(self, me: Me<'k>) -> Result<Answer> {
        let run = self.run_of(me, Rights::MAP)?;
        if run.count > PAGE_STEPS {
            return Err(Refusal::argument(5));
        }
        let _guard = run.vspace.get().lock(self.cpu);
        // All of them are mapped, or nothing is changed.
        self.each_of(me, run, false, |spot, page| mapping(spot, page).map(|_| ()))?;
        let (mut bit, mut accessed, mut dirty) = (1, 0, 0);
        self.each_of(me, run, false, |spot, _| {
            let was = spot.take_accessed();
            accessed |= if was.is_accessed() { bit } else { 0 };
            dirty |= if was.is_dirty() { bit } else { 0 };
            bit <<= 1;
            Ok(())
        })?;
        Ok(Answer::Values([accessed, dirty, 0, 0]))
    }
}
