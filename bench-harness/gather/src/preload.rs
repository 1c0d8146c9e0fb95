//! The `writev` that QEMU calls in place of the C library's.
//!
//! # Concurrency
//! QEMU calls it from the threads of its CPUs and from its main thread. All state is behind one
//! mutex. A thread of this library takes it, too, and so does the handler that runs when QEMU
//! ends.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::{File, metadata};
use std::io::IoSlice;
use std::mem::transmute;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::{EVERY, Gathered};

/// Names the file whose bytes are gathered.
const FILE: &str = "AURORA_GATHERED";
/// Descriptors from here on are not looked at: QEMU opens the file early.
const DESCRIPTORS: usize = 256;
/// `RTLD_NEXT`: the definition behind this library's.
const NEXT: *mut c_void = -1_isize as *mut c_void;
const NAME: &CStr = c"writev";

type Writev = unsafe extern "C" fn(c_int, *const IoSlice<'_>, c_int) -> isize;

unsafe extern "C" {
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn atexit(handler: extern "C" fn()) -> c_int;
}

/// The C library's own `writev`.
static OTHER: LazyLock<Writev> = LazyLock::new(|| {
    // SAFETY: the name is a C string, and `RTLD_NEXT` is valid in a library.
    let found = unsafe { dlsym(NEXT, NAME.as_ptr()) };
    assert!(!found.is_null(), "the C library has no writev");
    // SAFETY: POSIX gives `writev` this signature; an `IoSlice` has the layout of an `iovec`.
    unsafe { transmute::<*mut c_void, Writev>(found) }
});

static STATE: Mutex<State> = Mutex::new(State { looked: [false; DESCRIPTORS], log: None });

struct State {
    /// Which descriptors have been compared with the file.
    looked: [bool; DESCRIPTORS],
    /// The file's descriptor, and its bytes.
    log: Option<(c_int, Gathered<File>)>,
}

impl State {
    /// Returns the bytes gathered for a descriptor, if it is the file's.
    fn gathered(&mut self, descriptor: c_int) -> Option<&mut Gathered<File>> {
        let looked = usize::try_from(descriptor).ok().and_then(|number| self.looked.get_mut(number))?;
        if !std::mem::replace(looked, true) && self.log.is_none() && is_the_file(descriptor) {
            // SAFETY: the caller is about to write to the descriptor, so it is open.
            let descriptor_now = unsafe { BorrowedFd::borrow_raw(descriptor) };
            let file = File::from(descriptor_now.try_clone_to_owned().ok()?);
            // Without the two, bytes could stay here.
            thread::Builder::new().spawn(flush_for_ever).ok()?;
            // SAFETY: the handler is a function of this library, which is never unloaded.
            (unsafe { atexit(flush) } == 0).then_some(())?;
            self.log = Some((descriptor, Gathered::new(file)));
        }
        self.log.as_mut().filter(|(log, _)| *log == descriptor).map(|(_, gathered)| gathered)
    }
}

fn is_the_file(descriptor: c_int) -> bool {
    let identity = |path: &str| metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let wanted = std::env::var(FILE).ok().and_then(|path| identity(&path));
    wanted.is_some() && wanted == identity(&format!("/proc/self/fd/{descriptor}"))
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn flush() {
    if let Some((_, gathered)) = &mut state().log {
        gathered.flush();
    }
}

fn flush_for_ever() {
    loop {
        thread::sleep(EVERY);
        flush();
    }
}

/// Gathers what goes to the log, and passes everything else on.
///
/// # Safety
/// As for `writev`: `slices` points to `count` valid slices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(descriptor: c_int, slices: *const IoSlice<'_>, count: c_int) -> isize {
    let mut state = state();
    let Some(gathered) = state.gathered(descriptor) else {
        if let Some((_, gathered)) = &mut state.log {
            gathered.flush();
        }
        drop(state);
        // SAFETY: the caller's promise.
        return unsafe { OTHER(descriptor, slices, count) };
    };
    // SAFETY: the caller's promise; `IoSlice` has the layout of the C type.
    let slices = unsafe { std::slice::from_raw_parts(slices, usize::try_from(count).unwrap_or(0)) };
    let mut sum = 0;
    for slice in slices {
        gathered.push(slice);
        sum += slice.len();
    }
    sum as isize
}
