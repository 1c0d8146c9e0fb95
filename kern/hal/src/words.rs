//! The layout of the kernel's packed words, for a debugger: debug information has statics, but not
//! constants.
//!
//! `kern/gdb/aurora.py` reads [`AURORA_WORDS`] by the names of its fields.

use abi::ProcessKey;
use kern_base::paging;
use kern_base::slot::BADGE_BITS;
use kern_base::task::{HOME_MASK, HOME_SHIFT, PLAIN};
use smp::door::{ADDR_SHIFT, OBJECT_ALIGN, RIGHTS_BITS, RIGHTS_SHIFT, TYPE_MASK};

use crate::layout::DIRECT_MAP;

/// Shifts, masks and bases by the names that they have in the code.
#[repr(C)]
pub struct Words {
    addr_shift: u32,
    object_align: u32,
    rights_shift: u32,
    rights_bits: u32,
    type_mask: u64,
    badge_bits: u32,
    /// The plain bit of a task's state word.
    state_plain: u32,
    state_flags_shift: u32,
    state_home_shift: u32,
    state_home_mask: u32,
    state_generation_shift: u32,
    flag_suspended: u32,
    flag_vector: u32,
    /// The shift of a process's key in its word.
    key_shift: u32,
    /// The shift of a process's key in the record of a member.
    member_key_shift: u32,
    node_free: u32,
    fast_map: u64,
    /// In an entry of a page table, and in the note of one.
    page_plain: u64,
    table_level_mask: u64,
}

// The word of a task's state is packed by `state_half`: these say the same, and are checked against
// it.
const FLAGS_SHIFT: u32 = 8;
const GENERATION_SHIFT: u32 = 32;
const _: () = {
    use kern_base::task::{State, state_half};
    use smp::cpu::CpuId;
    let base = state_half(State::Fresh, 0, CpuId::BOOT);
    assert!(state_half(State::Fresh, 1, CpuId::BOOT) - base == 1 << FLAGS_SHIFT);
    assert!(CpuId::BOOT.raw() == 0 && GENERATION_SHIFT == u32::BITS);
};

/// Kept by the linker script: nothing in the kernel reads it.
// SAFETY: a section for constants.
#[unsafe(link_section = ".rodata.aurora_words")]
#[used]
static AURORA_WORDS: Words = Words {
    addr_shift: ADDR_SHIFT,
    object_align: OBJECT_ALIGN as u32,
    rights_shift: RIGHTS_SHIFT,
    rights_bits: RIGHTS_BITS,
    type_mask: TYPE_MASK,
    badge_bits: BADGE_BITS,
    state_plain: PLAIN as u32,
    state_flags_shift: FLAGS_SHIFT,
    state_home_shift: HOME_SHIFT,
    state_home_mask: HOME_MASK,
    state_generation_shift: GENERATION_SHIFT,
    flag_suspended: kern_base::task::FLAG_SUSPENDED as u32,
    flag_vector: kern_base::task::FLAG_VECTOR as u32,
    key_shift: 64 - ProcessKey::BITS,
    member_key_shift: kern_base::group::MEMBER_KEY_SHIFT,
    node_free: smp::mailbox::FREE,
    fast_map: DIRECT_MAP,
    page_plain: paging::PLAIN,
    table_level_mask: paging::LEVEL_MASK,
};
