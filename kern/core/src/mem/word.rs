//! Words of frames that the kernel reads: those of locks.

use abi::{Error, PAGE_LOG2};
use kern_base::machine::Machine;
use kern_base::memory::Frame;
use smp::door::Ref;
use smp::door::masked::mask_index;

use crate::rooms::Mem;
use crate::{Refusal, Result, refuse_if};

/// Bytes of a word, as a base-2 logarithm.
const WORD_LOG2: u8 = 3;

impl<'k, M: Machine> Mem<'k, M> {
    /// Returns the name of a frame's word: no two words of frames that exist have the same one.
    /// `position` is that of the argument that says which word.
    pub fn name_of_word(self, frame: Ref<'k, Frame>, number: u32, position: u64) -> Result<u64> {
        let frame = frame.get();
        let words = u64::from(frame.pages()) << (frame.log2() - WORD_LOG2);
        refuse_if(u64::from(number) >= words || frame.is_device(), Refusal::argument(position))?;
        Ok(frame.base().0 + (u64::from(number) << WORD_LOG2))
    }

    /// Reads the word of a frame that has this name. The page's record is locked meanwhile, so the
    /// page does not come to another process.
    /// Errors: Dying; InUse if a pool has the page, or had it, and it is not cleared.
    pub fn read_word(self, frame: Ref<'k, Frame>, name: u64) -> Result<u64> {
        const { assert!(PAGE_LOG2 > WORD_LOG2) };
        let frame = frame.get();
        let within = name - frame.base().0;
        let number = mask_index((within >> frame.log2()) as usize, frame.pages() as usize) as u64;
        let page = frame.memory(number).ok_or(Error::BadState)?;
        let locked = self.info(page.at())?.lock(self.cpu);
        let counts = locked.counts.get();
        refuse_if(counts.is_dying(), Error::Dying)?;
        refuse_if(counts.is_pooled() || counts.is_unclean(), Error::InUse)?;
        let in_page = within & ((1 << frame.log2()) - 1);
        Ok(self.k.machine.read_word(page, in_page >> WORD_LOG2))
    }
}
