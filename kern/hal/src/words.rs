//! The layout of the kernel's packed words, for a debugger: debug information contains statics, but
//! no constants.
//!
//! `kern/gdb/aurora.py` reads [`AURORA_WORDS`] by the names.

use kern_base::group::{MEMBER_KEY_SHIFT, MEMBER_NO_SEND, MEMBER_RIGHTS_SHIFT};
use kern_base::paging;
use kern_base::slot::BADGE_BITS;
use kern_base::task::{HOME_MASK, HOME_SHIFT, PLAIN, TAG_SHIFT};
use smp::door::{ADDR_SHIFT, OBJECT_ALIGN, RIGHTS_BITS, RIGHTS_SHIFT, TYPE_MASK};

use crate::layout::DIRECT_MAP;

// The word of a task's state is packed by `state_half`: these say the same, and are checked against
// it.
const FLAGS_SHIFT: u32 = 8;
const _: () = {
    use kern_base::task::{State, state_half};
    use smp::cpu::CpuId;
    let base = state_half(State::Fresh, 0, CpuId::BOOT);
    assert!(state_half(State::Fresh, 1, CpuId::BOOT) - base == 1 << FLAGS_SHIFT);
    assert!(CpuId::BOOT.raw() == 0);
};

/// Shifts, masks and bases by the names that they have in the code. Kept by the linker script:
/// nothing in the kernel reads it.
// SAFETY: a section for constants.
#[unsafe(link_section = ".rodata.aurora_words")]
#[used]
static AURORA_WORDS: [(&str, u64); 20] = [
    ("addr_shift", ADDR_SHIFT as u64),
    ("object_align", OBJECT_ALIGN as u64),
    ("rights_shift", RIGHTS_SHIFT as u64),
    ("rights_bits", RIGHTS_BITS as u64),
    ("type_mask", TYPE_MASK),
    ("badge_bits", BADGE_BITS as u64),
    // The plain bit of a task's state word.
    ("state_plain", PLAIN as u64),
    ("state_flags_shift", FLAGS_SHIFT as u64),
    ("state_home_shift", HOME_SHIFT as u64),
    ("state_home_mask", HOME_MASK as u64),
    ("state_tag_shift", TAG_SHIFT as u64),
    ("flag_suspended", kern_base::task::FLAG_SUSPENDED as u64),
    ("flag_vector", kern_base::task::FLAG_VECTOR as u64),
    // The shift of a process's key in its word, and in the record of a member.
    ("key_shift", MEMBER_KEY_SHIFT as u64),
    ("member_no_send", MEMBER_NO_SEND),
    ("member_rights_shift", MEMBER_RIGHTS_SHIFT as u64),
    ("node_free", smp::mailbox::FREE as u64),
    ("fast_map", DIRECT_MAP),
    // In an entry of a page table, and in the note of one.
    ("page_plain", paging::PLAIN),
    ("table_level_mask", paging::LEVEL_MASK),
];
