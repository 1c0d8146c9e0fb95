//! Reads the facts of the calling CPU, and turns its mitigations on.

use core::sync::atomic::{AtomicU64, Ordering};

use raw_cpuid::CpuIdReaderNative;
use x86_64::registers::control::{Efer, EferFlags};
use x86_64::registers::model_specific::Msr;

use super::facts::{Controls, Facts};
use super::{Affected, BranchControl, assess, branch_control, speculation_control};
use crate::dev::logport;
use crate::println;

const SPEC_CTRL: u32 = 0x48;
const PRED_CMD: u32 = 0x49;
const PRED_CMD_IBPB: u64 = 1 << 0;
const ARCH_CAPABILITIES: u32 = 0x10a;
const EFER_AUTOMATIC_IBRS: u64 = 1 << 21;

/// The controls that all CPUs have which came up so far.
static COMMON: AtomicU64 = AtomicU64::new(u64::MAX);

/// Reads the facts of the CPU that runs this function.
fn facts_here() -> Facts {
    // SAFETY: `read` asks only where CPUID says that the register exists.
    Facts::read(&CpuIdReaderNative, || unsafe { Msr::new(ARCH_CAPABILITIES).read() })
}

/// Turns on the mitigations that [`assess`] says are on. Every CPU calls it.
pub fn enable_here() {
    let facts = facts_here();
    COMMON.fetch_and(facts.controls.bits(), Ordering::Relaxed);
    if branch_control(&facts) == BranchControl::Automatic {
        // SAFETY: CPUID says that the bit exists; the others stay.
        unsafe {
            Efer::write_raw(
                Efer::read_raw() | EFER_AUTOMATIC_IBRS | EferFlags::SYSTEM_CALL_EXTENSIONS.bits(),
            );
        }
    }
    let control = speculation_control(&facts);
    if control != 0 {
        // SAFETY: CPUID says that each of the bits exists, and so the register; they only restrain
        // prediction.
        unsafe { Msr::new(SPEC_CTRL).write(control) };
    }
}

fn common() -> Controls {
    Controls::from_bits_truncate(COMMON.load(Ordering::Relaxed))
}

/// Makes this CPU forget where indirect branches went, if it can: tasks that ran before do not
/// steer those that run next.
#[cold]
pub fn flush_predictors() {
    if common().contains(Controls::IBPB) {
        // SAFETY: CPUID says on every CPU that the command exists; it only restrains prediction.
        unsafe { Msr::new(PRED_CMD).write(PRED_CMD_IBPB) };
    }
}

/// Prints one line for each weakness, since captures of COM1 are decoded, too, and reports it for
/// the results. Called when all CPUs are up.
pub fn print() {
    let mut facts = facts_here();
    facts.controls &= common();
    let all = assess(&facts);
    let affected = all.iter().filter(|a| a.affected != Affected::No).count();
    let on = all.iter().filter(|a| a.on.is_some()).count();
    crate::info!("{} known weaknesses of this CPU; mitigations on for {}", affected, on);
    for a in all {
        let on = a.on.unwrap_or(if a.affected == Affected::No { "nothing needed" } else { "off" });
        println!("aurora: mitigation {}: {}, {on}", a.name, a.affected.text());
        logport::report(format_args!(
            "mitigation name={} affected={} on={}",
            a.name,
            a.affected.key(),
            a.on.unwrap_or("-")
        ));
    }
}
