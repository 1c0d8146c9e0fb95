//! The protections of kernel and programs, which test builds can leave off by name. With a
//! protection off, the attempt that it stops succeeds. So a test can prove that it checks this
//! protection and no other. In all other builds every protection is on, and this module compiles to
//! nothing.

#[cfg(feature = "faults")]
use smp::sync::{AtomicU8, Ordering};

/// What keeps kernel and programs from doing what they must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// SMEP: the kernel executes nothing of the user's.
    KernelExecute,
    /// SMAP: the kernel reads and writes nothing of the user's by the user's addresses.
    KernelAccess,
    /// CR0.WP: the kernel writes to nothing that is mapped to be read.
    KernelWrite,
    /// NX: no CPU executes data.
    NoExecute,
    /// The frame table: no memory is mapped to be written and to be executed.
    WriteXorExecute,
    /// UMIP: programs do not learn where the kernel's tables are.
    Instructions,
    /// Priority inheritance: a server goes on with the time of the best of its callers, so that no
    /// program of a priority in between delays that one.
    Inheritance,
}

/// By the names that the boot option `off=` has for them.
#[cfg(feature = "faults")]
const NAMES: [(&str, Protection); 7] = [
    ("smep", Protection::KernelExecute),
    ("smap", Protection::KernelAccess),
    ("wp", Protection::KernelWrite),
    ("nx", Protection::NoExecute),
    ("wx", Protection::WriteXorExecute),
    ("umip", Protection::Instructions),
    ("inherit", Protection::Inheritance),
];

/// Bits by [`Protection`]. Set while booting, before any of them matters.
#[cfg(feature = "faults")]
static OFF: AtomicU8 = AtomicU8::new(0);

impl Protection {
    /// Returns whether the boot option `off=` has switched this protection off.
    #[inline(always)]
    pub fn is_off(self) -> bool {
        #[cfg(feature = "faults")]
        return OFF.load(Ordering::Relaxed) & 1 << self as u8 != 0;
        #[cfg(not(feature = "faults"))]
        false
    }

    /// Switches off the protections that the boot option `off=` names, with commas between the
    /// names. Returns false, and stops, at an unknown name.
    #[cfg(feature = "faults")]
    pub fn leave_off(names: &str) -> bool {
        names.split(',').all(|wanted| {
            let known = NAMES.iter().find(|(name, _)| *name == wanted);
            if let Some((_, protection)) = known {
                OFF.fetch_or(1 << *protection as u8, Ordering::Relaxed);
            }
            known.is_some()
        })
    }
}
