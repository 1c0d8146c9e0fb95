//! Machine checks: hardware errors that the CPU reports. All errors of all banks are enabled. When
//! the CPU raises the exception, the kernel prints the banks' contents and ends the run.

use raw_cpuid::CpuId;
use x86_64::registers::model_specific::Msr;

use crate::{eprintln, warn};

const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MCG_CTL: u32 = 0x17b;
/// Registers of bank 0; each bank has four: control, status, address, more.
const MC0_CTL: u32 = 0x400;
const BANK_COUNT: u64 = 0xff;
const HAS_MCG_CTL: u64 = 1 << 8;

const STATUS_VALID: u64 = 1 << 63;
const STATUS_HAS_ADDRESS: u64 = 1 << 58;
const STATUS_HAS_MORE: u64 = 1 << 59;

/// Returns MCG_CAP, which describes this CPU's machine check registers; 0 if it has none.
fn capabilities() -> u64 {
    let has_any = CpuId::new().get_feature_info().is_some_and(|f| f.has_mca());
    // SAFETY: the register comes with the feature.
    if has_any { unsafe { read(MCG_CAP) } } else { 0 }
}

/// # Safety
/// `register` is a machine check register that exists, by [`capabilities`].
unsafe fn read(register: u32) -> u64 {
    // SAFETY: the caller's promise; reading has no effect.
    unsafe { Msr::new(register).read() }
}

/// Makes this CPU's machine check banks report errors, after it has reported and cleared the errors
/// from before the boot.
pub fn init() {
    let capabilities = capabilities();
    for bank in 0..(capabilities & BANK_COUNT) as u32 {
        let control = MC0_CTL + 4 * bank;
        // SAFETY: the registers of a bank that MCG_CAP counts.
        let status = unsafe { read(control + 1) };
        if status & STATUS_VALID != 0 {
            warn!("machine check bank {} from before the boot: status {:#x}", bank, status);
        }
        // SAFETY: as above; CR4.MCE is on and #MC has a handler.
        unsafe {
            Msr::new(control + 1).write(0);
            Msr::new(control).write(u64::MAX);
        }
    }
    if capabilities & HAS_MCG_CTL != 0 {
        // SAFETY: MCG_CTL exists where MCG_CAP says so.
        unsafe { Msr::new(MCG_CTL).write(u64::MAX) };
    }
}

/// Prints the errors that the machine check banks of this CPU report.
pub fn print() {
    let capabilities = capabilities();
    if capabilities == 0 {
        return;
    }
    // SAFETY: exists with MCG_CAP.
    eprintln!("  machine check, global status {:#x}", unsafe { read(MCG_STATUS) });
    for bank in 0..(capabilities & BANK_COUNT) as u32 {
        let status_register = MC0_CTL + 4 * bank + 1;
        // SAFETY: the registers of a bank that MCG_CAP counts; address and more only where valid.
        unsafe {
            let status = read(status_register);
            if status & STATUS_VALID == 0 {
                continue;
            }
            let address = if status & STATUS_HAS_ADDRESS != 0 { read(status_register + 1) } else { 0 };
            let more = if status & STATUS_HAS_MORE != 0 { read(status_register + 2) } else { 0 };
            eprintln!("  bank {bank}: status {status:#018x} address {address:#x} more {more:#x}");
        }
    }
}
