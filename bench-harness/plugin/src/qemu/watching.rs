//! QEMU's side of [`crate::watch`]: one callback for each executed block.
//!
//! A callback's data is a number: the block or marker, packed. So nothing is kept for translated
//! code, which QEMU drops and translates again as it likes.

use std::array;
use std::ffi::{c_uint, c_void};
use std::ptr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use super::{
    Block, NO_REGISTERS, qemu_plugin_insn_vaddr, qemu_plugin_register_vcpu_insn_exec_cb,
    qemu_plugin_register_vcpu_tb_exec_cb, qemu_plugin_tb_get_insn, qemu_plugin_tb_n_insns, read_bytes,
};
use crate::counts::CPUS;
use crate::marker::Marker;
use crate::stretch;
use crate::watch::{self, Places, Watched};

/// What to watch, and by which symbols.
#[derive(Clone, Default)]
pub struct Watching {
    places: Places,
}

/// One CPU, in cache lines of its own.
#[repr(align(128))]
struct Slot(Mutex<Watched>);

static SLOTS: LazyLock<[Slot; CPUS]> =
    LazyLock::new(|| array::from_fn(|_| Slot(Mutex::new(Watched::default()))));

fn slot(cpu: c_uint) -> MutexGuard<'static, Watched> {
    SLOTS[cpu as usize % CPUS].0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watching {
    /// Takes an argument of the plugin. Returns false if it does not know it.
    pub fn set(&mut self, key: &str, value: &str) -> bool {
        self.places.set(key, value)
    }

    /// Asks QEMU for a callback on a block, and on what in it tells more.
    pub fn translate(&self, version: i32, block: *mut Block) {
        // SAFETY: `block` is valid during the translation callback that called this, and its
        // instructions have the numbers below its length. The callbacks have the types that QEMU
        // expects and live for ever; their data are numbers, handed back as they are.
        unsafe {
            let length = qemu_plugin_tb_n_insns(block);
            let (mut first, mut bytes) = (0, Vec::new());
            for at in 0..length {
                let instruction = qemu_plugin_tb_get_insn(block, at);
                if at == 0 {
                    first = qemu_plugin_insn_vaddr(instruction);
                }
                bytes = read_bytes(version, instruction);
                if let Some(marker) = Marker::decode(&bytes) {
                    let data = self.pack_marker(marker, length - at - 1);
                    qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_marker, NO_REGISTERS, data);
                }
            }
            let packed = self.pack(self.places.block(first, &bytes, length));
            qemu_plugin_register_vcpu_tb_exec_cb(block, on_block, NO_REGISTERS, packed);
        }
    }

    /// A block as callback data: length, flags, vector, operation.
    fn pack(&self, block: stretch::Block) -> *mut c_void {
        let flags = u64::from(block.is_kernel)
            | u64::from(block.opens) << 1
            | u64::from(block.pauses) << 2
            | u64::from(block.vector.is_some()) << 3
            | u64::from(block.operation.is_some()) << 4;
        let vector = u64::from(block.vector.unwrap_or(0));
        let operation = u64::from(block.operation.unwrap_or(0));
        let packed = u64::from(block.instructions) & 0xffff | flags << 16 | vector << 24 | operation << 32;
        ptr::without_provenance_mut(packed as usize)
    }

    /// A marker as callback data, with the number of instructions behind it.
    fn pack_marker(&self, marker: Marker, left: usize) -> *mut c_void {
        let (kind, argument) = marker.parts();
        ptr::without_provenance_mut(usize::from(argument) | usize::from(kind) << 8 | (left & 0xffff) << 16)
    }
}

fn unpack(data: *mut c_void) -> stretch::Block {
    let packed = data.addr() as u64;
    let flag = |bit: u32| packed >> (16 + bit) & 1 != 0;
    stretch::Block {
        instructions: packed as u16,
        is_kernel: flag(0),
        opens: flag(1),
        pauses: flag(2),
        vector: flag(3).then_some((packed >> 24) as u8),
        operation: flag(4).then_some((packed >> 32) as u16),
    }
}

extern "C" fn on_block(cpu: c_uint, data: *mut c_void) {
    slot(cpu).block(unpack(data));
}

extern "C" fn on_marker(cpu: c_uint, data: *mut c_void) {
    let [argument, kind, low, high, ..] = data.addr().to_le_bytes();
    let Some(marker) = Marker::from_parts(kind, argument) else { return };
    let left = u64::from(u16::from_le_bytes([low, high]));
    if let Marker::Stretches(count) = marker {
        (0..CPUS as c_uint).for_each(|cpu| slot(cpu).count_stretches(count != 0));
        return;
    }
    slot(cpu).mark(marker, left);
}

/// Returns the text of the output file.
pub fn json() -> String {
    let mut slots: Vec<_> = (0..CPUS as c_uint).map(slot).collect();
    let used = slots.iter().rposition(|watched| watched.has_run()).map_or(0, |last| last + 1);
    watch::json(slots[..used].iter_mut().map(|watched| &mut **watched))
}
