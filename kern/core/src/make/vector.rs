//! Reads and writes the vector registers of suspended tasks.
//!
//! While the task is not running, its vector registers are in its save area, as XSAVE wrote them.
//! In a system call a task's vector registers are dead and read as the initial image. The kernel
//! corrects each written word so that XRSTOR accepts it. So the area is valid even after only some
//! of the words were written.

use abi::{Cap, Error, Op, VECTOR_WORDS_AT_ONCE};
use kern_base::machine::{Machine, VectorFormat};
use kern_base::task::{FLAG_VECTOR, INITIAL_MXCSR, State, Task};
use smp::door::masked::mask_index;
use smp::sync::Ordering::Relaxed;

use crate::rooms::Make;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Words of the XSAVE area that are no registers: MXCSR, with its mask in the upper half; the
/// present components; and reserved words, which must be zero.
const MXCSR: usize = 3;
const COMPONENTS: usize = 64;
const FIRST_ZERO: usize = COMPONENTS + 1;
const ZERO_END: usize = 72;

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out [`abi::Op::TaskReadVector`].
    pub fn task_read_vector(self, me: OpenTask<'k>, task: Cap, first: u64) -> Result<Answer> {
        let (task, format) = self.vector_of(me, task)?;
        let first = check_first(first, format)?;
        let count = (format.words - first).min(VECTOR_WORDS_AT_ONCE);
        let area = task.get().vector(self.pin()).words();
        let is_live = task.regs.full.get() != 0;
        for (number, to) in (first..first + count).zip(&me.get().utcb(self.pin()).bulk) {
            to.store(if is_live { area[number].load(Relaxed) } else { initial(number) }, Relaxed);
        }
        Ok(Answer::Values([count as u64, format.words as u64, 0, 0]))
    }

    /// Carries out [`abi::Op::TaskWriteVector`].
    pub fn task_write_vector(self, me: OpenTask<'k>, task: Cap, first: u64, count: u64) -> Result<Answer> {
        let (task, format) = self.vector_of(me, task)?;
        let first = check_first(first, format)?;
        let fits = |count: &usize| *count <= VECTOR_WORDS_AT_ONCE.min(format.words - first);
        let count = usize::try_from(count).ok().filter(fits).ok_or(Refusal::argument(2))?;
        refuse_if(task.state() != State::Ready || task.regs.full.get() == 0, Error::BadState)?;
        let area = task.get().vector(self.pin()).words();
        for (number, from) in (first..first + count).zip(&me.get().utcb(self.pin()).bulk) {
            area[number].store(sane(number, from.load(Relaxed), format), Relaxed);
        }
        Ok(Answer::DONE)
    }

    /// Returns a suspended task of this CPU that has vector state.
    fn vector_of(self, me: OpenTask<'k>, task: Cap) -> Result<(OpenTask<'k>, VectorFormat)> {
        let task = self.caps().operand::<Task, { Op::TaskReadVector as u8 }, 0>(me, task)?;
        let task = self.suspended(task)?;
        refuse_if(!task.has_flag(FLAG_VECTOR), Error::BadState)?;
        Ok((task, self.k.machine.vector_format()))
    }
}

fn check_first(first: u64, format: VectorFormat) -> Result<usize> {
    let first =
        usize::try_from(first).ok().filter(|first| *first <= format.words).ok_or(Refusal::argument(1))?;
    Ok(mask_index(first, format.words + 1))
}

/// Returns word `number` of the initial contents of a vector save area.
const fn initial(number: usize) -> u64 {
    if number == MXCSR { INITIAL_MXCSR as u64 } else { 0 }
}

/// Returns `word`, which is word `number` of a vector save area, changed so that XRSTOR accepts it.
const fn sane(number: usize, word: u64, format: VectorFormat) -> u64 {
    match number {
        MXCSR => word & format.mxcsr as u64,
        COMPONENTS => word & format.components,
        FIRST_ZERO..ZERO_END => 0,
        _ => word,
    }
}
