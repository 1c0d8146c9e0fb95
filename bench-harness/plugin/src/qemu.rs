//! The plugin's side of QEMU's interface.
//!
//! It is declared here by hand: distributions ship no header for it, and two of its functions
//! changed between the supported versions (1 in QEMU 7.2, up to 5 in QEMU 10). QEMU reads the
//! plugin's version from a variable, and refuses a version that it does not know. So the variable
//! is set when the library is loaded, to a version that the loading QEMU offers.
#![allow(unsafe_code)]

mod watching;

use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use instructions::{Class, class_of};

use crate::counts::{Counts, Where};
use crate::marker::Marker;
use crate::recorder::{Access, Code, Recorder, Wanted};
use watching::Watching;

/// Opaque to plugins.
#[repr(C)]
struct Block {
    _private: [u8; 0],
}

/// Opaque to plugins.
#[repr(C)]
struct Instruction {
    _private: [u8; 0],
}

/// Opaque to plugins.
#[repr(C)]
struct HardwareAddress {
    _private: [u8; 0],
}

/// Head of QEMU's description of itself; the rest is not used.
#[repr(C)]
pub struct Info {
    target_name: *const c_char,
    oldest_version: c_int,
    version: c_int,
}

type PluginId = u64;
type MemoryInfo = u32;
type ExecCallback = extern "C" fn(c_uint, *mut c_void);
type MemoryCallback = extern "C" fn(c_uint, MemoryInfo, u64, *mut c_void);

/// `QEMU_PLUGIN_CB_NO_REGS`.
const NO_REGISTERS: c_int = 0;
/// `QEMU_PLUGIN_MEM_RW`.
const READS_AND_WRITES: c_int = 3;
/// From here on, `qemu_plugin_insn_data` copies to a buffer.
const VERSION_DATA_IS_COPIED: c_int = 3;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: PluginId, callback: extern "C" fn(PluginId, *mut Block));
    fn qemu_plugin_register_atexit_cb(
        id: PluginId,
        callback: extern "C" fn(PluginId, *mut c_void),
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        callback: ExecCallback,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_mem_cb(
        instruction: *mut Instruction,
        callback: MemoryCallback,
        flags: c_int,
        which: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_tb_exec_cb(
        block: *mut Block,
        callback: ExecCallback,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    fn qemu_plugin_insn_size(instruction: *const Instruction) -> usize;
    fn qemu_plugin_insn_haddr(instruction: *const Instruction) -> *mut c_void;
    fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    /// Before version 3 it has the first argument only and returns a pointer to the bytes; the
    /// C calling convention lets both be called like this.
    fn qemu_plugin_insn_data(instruction: *const Instruction, to: *mut c_void, size: usize) -> usize;
    fn qemu_plugin_mem_is_store(info: MemoryInfo) -> bool;
    fn qemu_plugin_mem_size_shift(info: MemoryInfo) -> c_uint;
    fn qemu_plugin_get_hwaddr(info: MemoryInfo, address: u64) -> *mut HardwareAddress;
    fn qemu_plugin_hwaddr_is_io(address: *const HardwareAddress) -> bool;
    fn qemu_plugin_hwaddr_phys_addr(address: *const HardwareAddress) -> u64;

    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The version that QEMU checks before it installs the plugin; an `int` in C.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)] // the name is QEMU's
pub static qemu_plugin_version: AtomicI32 = AtomicI32::new(1);

/// Runs when the library is loaded, before QEMU looks at it.
#[used]
#[unsafe(link_section = ".init_array")]
static ON_LOAD: extern "C" fn() = choose_version;

/// QEMU has this function from version 2 on, and refuses version 1 from then on.
extern "C" fn choose_version() {
    const SINCE_2: &CStr = c"qemu_plugin_num_vcpus";
    // SAFETY: a null handle searches the whole process; the name is NUL-terminated.
    let found = unsafe { dlsym(ptr::null_mut(), SINCE_2.as_ptr()) };
    if !found.is_null() {
        qemu_plugin_version.store(2, Ordering::Relaxed);
    }
}

struct State {
    counts: Counts,
    /// In place of counting.
    recorder: Option<Recorder>,
    /// In place of both.
    watching: Option<Watching>,
    /// Host addresses of instructions in skipped stretches.
    skipped: HashSet<usize>,
    output: Option<String>,
    version: c_int,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    Mutex::new(State {
        counts: Counts::default(),
        recorder: None,
        watching: None,
        skipped: HashSet::new(),
        output: None,
        version: 1,
    })
});

/// What the plugin was told to do.
#[derive(Default)]
struct Arguments {
    output: Option<String>,
    record: Option<Wanted>,
    watch: Option<Watching>,
}

impl Arguments {
    fn take(&mut self, argument: &str) -> Result<(), String> {
        let usage = "it takes out=FILE; with record=on also region=, skip= and ops=; with watch=on also stubs= \
            and op=";
        let unknown = || format!("unknown argument {argument}; {usage}");
        match argument.split_once('=').ok_or_else(unknown)? {
            ("out", path) => self.output = Some(path.to_owned()),
            ("record", "on") => self.record = Some(Wanted::default()),
            ("watch", "on") => self.watch = Some(Watching::default()),
            (key, value) => {
                let taken = match (&mut self.watch, &mut self.record) {
                    (Some(watching), _) => watching.set(key, value),
                    (None, Some(wanted)) => wanted.set(key, value),
                    (None, None) => false,
                };
                if !taken {
                    return Err(unknown());
                }
            }
        }
        Ok(())
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called once by QEMU.
///
/// # Safety
/// As QEMU's interface has it: `info` points to an [`Info`], `values` to `count` C strings, all
/// valid during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    info: *const Info,
    count: c_int,
    values: *const *const c_char,
) -> c_int {
    let mut arguments = Arguments::default();
    for at in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the caller passes `count` valid C strings.
        let value = unsafe { CStr::from_ptr(*values.add(at)) }.to_string_lossy();
        if let Err(error) = arguments.take(&value) {
            eprintln!("aurora-plugin: {error}");
            return 1;
        }
    }
    if arguments.output.is_none() {
        eprintln!("aurora-plugin: say where to write: out=FILE");
        return 1;
    }
    let mut state = state();
    state.output = arguments.output;
    state.recorder = arguments.record.map(Recorder::new);
    state.watching = arguments.watch;
    // SAFETY: the caller passes a valid description, which starts as `Info` does in every version.
    state.version = unsafe { (*info).version };
    drop(state);
    // SAFETY: `id` is the one that QEMU gave; the callbacks have the types that it expects and live
    // as long as the library, which is never unloaded.
    unsafe {
        qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
        qemu_plugin_register_atexit_cb(id, at_exit, ptr::null_mut());
    }
    0
}

/// Takes a translated block of guest code: asks QEMU for callbacks on its instructions.
extern "C" fn translate(_: PluginId, block: *mut Block) {
    let mut state = state();
    if let Some(watching) = &state.watching {
        watching.translate(state.version, block);
        return;
    }
    // SAFETY: `block` is valid during this callback.
    let length = unsafe { qemu_plugin_tb_n_insns(block) };
    for at in 0..length {
        // SAFETY: as above, and `at` is below the block's length.
        let instruction = unsafe { qemu_plugin_tb_get_insn(block, at) };
        translate_one(&mut state, instruction);
    }
}

fn translate_one(state: &mut State, instruction: *mut Instruction) {
    // SAFETY: `instruction` is valid during the translation callback that called this.
    let place = unsafe { qemu_plugin_insn_haddr(instruction) } as usize;
    let bytes = read_bytes(state.version, instruction);
    let marker = Marker::decode(&bytes);
    if let Some(Marker::Skip(length)) = marker {
        state.skipped.extend((place..place + usize::from(length)).filter(|_| place != 0));
    }
    if state.skipped.contains(&place) {
        return;
    }
    let (callback, data) = match (marker, &mut state.recorder) {
        (Some(marker), _) => (on_marker as ExecCallback, pack(marker)),
        (None, None) => {
            // SAFETY: as above.
            let pc = unsafe { qemu_plugin_insn_vaddr(instruction) };
            (on_instruction as ExecCallback, pack_instruction(where_is(pc, &bytes), class_of(&bytes)))
        }
        (None, Some(recorder)) => {
            // SAFETY: as above.
            let pc = unsafe { qemu_plugin_insn_vaddr(instruction) };
            let number = recorder.number(Code { pc, place: place as u64, bytes });
            (on_recorded as ExecCallback, ptr::without_provenance_mut(number as usize))
        }
    };
    // SAFETY: `instruction` is valid during translation; the callbacks have the types that QEMU
    // expects and live for ever; `data` is a number, handed back as it is.
    unsafe {
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, callback, NO_REGISTERS, data);
        qemu_plugin_register_vcpu_mem_cb(
            instruction,
            on_memory,
            NO_REGISTERS,
            READS_AND_WRITES,
            ptr::null_mut(),
        );
    }
}

/// The instruction's bytes, of which there are 15 at most.
fn read_bytes(version: c_int, instruction: *const Instruction) -> Vec<u8> {
    let mut bytes = Vec::new();
    // SAFETY: `instruction` is valid during translation; the buffer is as long as is said.
    unsafe {
        bytes.resize(qemu_plugin_insn_size(instruction), 0);
        let got = qemu_plugin_insn_data(instruction, bytes.as_mut_ptr().cast(), bytes.len());
        if version < VERSION_DATA_IS_COPIED {
            // It was a pointer to the instruction's bytes, as many as its size says.
            ptr::copy_nonoverlapping(got as *const u8, bytes.as_mut_ptr(), bytes.len());
        }
    }
    bytes
}

/// A marker as callback data: a number in a pointer's place.
fn pack(marker: Marker) -> *mut c_void {
    let (kind, argument) = marker.parts();
    ptr::without_provenance_mut(usize::from(u16::from_be_bytes([kind, argument])))
}

extern "C" fn on_marker(cpu: c_uint, data: *mut c_void) {
    let [argument, kind, ..] = data.addr().to_le_bytes();
    let Some(marker) = Marker::from_parts(kind, argument) else { return };
    let mut state = state();
    match &mut state.recorder {
        Some(recorder) => recorder.mark(cpu as u8, marker),
        None => state.counts.mark(cpu as usize, marker),
    }
}

extern "C" fn on_recorded(cpu: c_uint, data: *mut c_void) {
    if let Some(recorder) = &mut state().recorder {
        recorder.instruction(cpu as u8, data.addr() as u32);
    }
}

/// Whether an instruction is the kernel's, and lets interrupts in: STI behind the next one; HLT,
/// SYSRETQ and IRETQ.
fn where_is(pc: u64, bytes: &[u8]) -> Where {
    match bytes {
        [0x0f, 0x05] if pc >> 63 == 0 => Where::UserCalls,
        _ if pc >> 63 == 0 => Where::User,
        [0xfb] => Where::KernelOpens,
        [0xf4] | [0x48, 0x0f, 0x07] | [0x48, 0xcf] => Where::KernelLeaves,
        _ => Where::Kernel,
    }
}

/// Bits of a [`Where`] in callback data.
const PLACE_BITS: u32 = 3;

/// What is counted of an instruction, as callback data.
fn pack_instruction(place: Where, class: Class) -> *mut c_void {
    let kinds = [class.atomic, class.cr_write, class.msr_write, class.serialising];
    let kinds = kinds.into_iter().rev().fold(0, |bits, is| bits << 1 | usize::from(is));
    ptr::without_provenance_mut(kinds << PLACE_BITS | place as usize)
}

extern "C" fn on_instruction(cpu: c_uint, data: *mut c_void) {
    let places = [Where::User, Where::UserCalls, Where::Kernel, Where::KernelOpens, Where::KernelLeaves];
    let number = data.addr() & ((1 << PLACE_BITS) - 1);
    let place = places.into_iter().find(|place| *place as usize == number).unwrap_or(Where::User);
    let is = |bit: u32| data.addr() >> PLACE_BITS >> bit & 1 != 0;
    let class =
        Class { atomic: is(0), cr_write: is(1), msr_write: is(2), serialising: is(3), ..Class::default() };
    state().counts.instruction(cpu as usize, place, class);
}

extern "C" fn on_memory(cpu: c_uint, info: MemoryInfo, address: u64, _: *mut c_void) {
    let mut state = state();
    let State { counts, recorder, .. } = &mut *state;
    let watched = match &recorder {
        Some(recorder) => recorder.is_watched(cpu as u8),
        None => counts.is_watched(cpu as usize),
    };
    if !watched {
        return;
    }
    let access = describe(info, address);
    match recorder {
        Some(recorder) => recorder.access(cpu as u8, access),
        None if access.device => {}
        None => counts.access(cpu as usize, access.address, 1 << access.log2, access.write),
    }
}

/// What an access is, at its physical address if it is of memory.
fn describe(info: MemoryInfo, address: u64) -> Access {
    // SAFETY: `info` and `address` are those of the callback that this is called in, and the handle
    // is used within it.
    unsafe {
        let handle = qemu_plugin_get_hwaddr(info, address);
        let device = handle.is_null() || qemu_plugin_hwaddr_is_io(handle);
        Access {
            address: if device { address } else { qemu_plugin_hwaddr_phys_addr(handle) },
            log2: qemu_plugin_mem_size_shift(info) as u8,
            write: qemu_plugin_mem_is_store(info),
            device,
        }
    }
}

extern "C" fn at_exit(_: PluginId, _: *mut c_void) {
    let mut state = state();
    let State { counts, recorder, watching, output, .. } = &mut *state;
    let Some(path) = output else { return };
    let written = match (watching, recorder) {
        (Some(_), _) => std::fs::write(&*path, watching::json()),
        (None, Some(recorder)) => std::fs::write(&*path, recorder.file()),
        (None, None) => std::fs::write(&*path, counts.json()),
    };
    if let Err(error) = written {
        // Half a file is none. The harness reads this line.
        let _ = std::fs::remove_file(&*path);
        eprintln!("aurora-plugin: writing {path}: {error}");
    }
}
