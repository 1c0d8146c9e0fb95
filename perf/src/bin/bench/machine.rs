//! Describes the machine that the bench runs on, for a reader who has only the figures and does not
//! know how the machine was booted.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

use abi::cpu_features;
use raw_cpuid::{CpuId, Hypervisor};
use user_rt::boot;

use crate::report::say;

/// Range of the calibration loop under `-icount`: each turn of the kernel's loop of two
/// instructions takes two ticks. No host clock is as even.
const LOOP_BY_ICOUNT: core::ops::Range<u64> = 2_000_000..2_001_000;

/// The executor of the instructions, as far as a guest can tell. The harness has the same names for
/// its modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Executor {
    /// QEMU's emulator, with a clock that counts instructions.
    Icount,
    /// QEMU's emulator, with the host's clock.
    Tcg,
    Kvm,
    /// CPUID shows no hypervisor.
    Hardware,
    /// Another hypervisor, which may emulate or virtualise.
    Unknown,
}

impl Executor {
    fn of(hypervisor: Option<&Hypervisor>, loop_ticks: u64) -> Executor {
        match hypervisor {
            None => Executor::Hardware,
            Some(Hypervisor::QEMU) if LOOP_BY_ICOUNT.contains(&loop_ticks) => Executor::Icount,
            Some(Hypervisor::QEMU) => Executor::Tcg,
            Some(Hypervisor::KVM) => Executor::Kvm,
            Some(_) => Executor::Unknown,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Executor::Icount => "icount",
            Executor::Tcg => "tcg",
            Executor::Kvm => "kvm",
            Executor::Hardware => "hardware",
            Executor::Unknown => "unknown",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Executor::Icount => "instructions",
            Executor::Tcg => "ticks of an emulated clock, no processor's cycles",
            Executor::Kvm | Executor::Hardware => "cycles, as the time-stamp counter ticks",
            Executor::Unknown => "ticks of the time-stamp counter",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Executor::Icount => "QEMU's emulator, which counts instructions",
            Executor::Tcg => "QEMU's emulator",
            Executor::Kvm => "a virtual machine of KVM: neither icount nor TCG",
            Executor::Hardware => "CPUID shows no hypervisor: neither icount nor TCG",
            Executor::Unknown => "a hypervisor that is neither QEMU's nor KVM",
        }
    }
}

/// The machine that the bench runs on.
pub struct Machine {
    executor: Executor,
    /// The processor's name, from CPUID.
    cpu: String,
    cpus: u64,
    tsc_hz: u64,
}

impl Machine {
    pub fn look() -> Machine {
        let (cpuid, facts) = (CpuId::new(), boot::facts());
        let is_guest = cpuid.get_feature_info().is_some_and(|info| info.has_hypervisor());
        let hypervisor = cpuid.get_hypervisor_info().map(|info| info.identify());
        let unnamed = Hypervisor::Unknown(0, 0, 0);
        let hypervisor = is_guest.then(|| hypervisor.unwrap_or(unnamed));
        let brand = cpuid.get_processor_brand_string();
        Machine {
            executor: Executor::of(hypervisor.as_ref(), facts.kernel_loop_ticks),
            cpu: brand.as_ref().map_or("unknown", |brand| brand.as_str().trim()).to_owned(),
            cpus: facts.cpus,
            tsc_hz: facts.tsc_hz,
        }
    }

    /// Reports the machine, and the command line.
    pub fn report(&self) {
        let Machine { executor, cpu, cpus, tsc_hz } = self;
        let (executor, fastpath) = (executor.name(), u64::from(boot::has(cpu_features::FASTPATH)));
        say!("machine cpus={cpus} tsc_hz={tsc_hz} executor={executor} fastpath={fastpath} cpu={cpu}");
        say!("options {}", boot::command_line());
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { executor, cpu, cpus, tsc_hz } = self;
        let plural = if *cpus == 1 { "" } else { "s" };
        writeln!(f, "on {cpus} CPU{plural}: {cpu}")?;
        match executor {
            Executor::Icount => writeln!(f, "unit: {}", executor.unit())?,
            _ => writeln!(f, "unit: {} ({} MHz)", executor.unit(), tsc_hz / 1_000_000)?,
        }
        writeln!(f, "mode: {}: {}", executor.name(), executor.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_emulator_that_is_even_counts_instructions() {
        assert_eq!(Executor::of(None, 2_000_002), Executor::Hardware);
        assert_eq!(Executor::of(Some(&Hypervisor::QEMU), 2_000_002), Executor::Icount);
        assert_eq!(Executor::of(Some(&Hypervisor::QEMU), 4_700_000), Executor::Tcg);
        assert_eq!(Executor::of(Some(&Hypervisor::KVM), 2_000_002), Executor::Kvm);
        assert_eq!(Executor::of(Some(&Hypervisor::Xen), 2_000_002), Executor::Unknown);
    }
}
