//! The parts of a task's state word, and their meaning.

use kern_base::task::{Ending, FLAG_SUSPENDED, PLAIN, State, TaskHot};

/// Returns the state in the state word.
#[inline(always)]
pub fn state_of(hot: &TaskHot) -> State {
    State::of_word(hot.state.get())
}

#[inline(always)]
pub fn set_state(hot: &TaskHot, state: State) {
    hot.state.set((hot.state.get() & !0xff) | state as u64);
}

pub fn has_flag(hot: &TaskHot, flag: u8) -> bool {
    hot.state.get() & (u64::from(flag) << 8) != 0
}

pub fn set_flag(hot: &TaskHot, flag: u8, on: bool) {
    let bit = u64::from(flag) << 8;
    let word = hot.state.get();
    hot.state.set(if on { word | bit } else { word & !bit });
}

/// Whether a task is being killed and still waits for something.
pub fn is_dying(hot: &TaskHot) -> bool {
    hot.ending.get() == Ending::Kill || state_of(hot) == State::Dead
}

/// Whether a task is ready and not suspended.
#[inline(always)]
pub fn runnable(hot: &TaskHot) -> bool {
    let word = hot.state.get();
    word as u8 & !PLAIN == State::Ready as u8 && word & (u64::from(FLAG_SUSPENDED) << 8) == 0
}
