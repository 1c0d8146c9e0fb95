//! CPU features: what CPUID shows, what the kernel requires, and turning them on.
//!
//! CPUID is the only source. The kernel does not probe: some machines accept control register bits
//! that they do not implement, and hang later. Every CPU must have the features of the boot CPU.

use core::fmt;

use abi::cpu_features;
use bitflags::bitflags;
use raw_cpuid::{CpuId, CpuIdReader};

bitflags! {
    /// Features that the kernel knows about. Programs see those that [`cpu_features`] has, by the
    /// same bits.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u64 {
        const TSC = 1 << 32;
        const MSR = 1 << 33;
        const PAE = 1 << 34;
        const APIC = 1 << 35;
        const CX8 = 1 << 36;
        const PGE = 1 << 37;
        const FXSR = 1 << 38;
        const SSE2 = 1 << 39;
        const CX16 = 1 << 40;
        const XSAVE = 1 << 41;
        const NX = 1 << 42;
        const SYSCALL = 1 << 43;
        const FSGSBASE = 1 << 44;
        const MCE = 1 << 45;

        const SMEP = cpu_features::SMEP;
        const SMAP = cpu_features::SMAP;
        const UMIP = cpu_features::UMIP;
        const PCID = cpu_features::PCID;
        const INVPCID = cpu_features::INVPCID;
        const X2APIC = cpu_features::X2APIC;
        const TSC_DEADLINE = cpu_features::TSC_DEADLINE;
        const INVARIANT_TSC = 1 << 46;
        const HUGE_PAGES = 1 << 47;
        const MONITOR = 1 << 48;
        const XSAVEOPT = 1 << 49;
        const XSAVEC = 1 << 50;
        const XGETBV1 = cpu_features::XGETBV1;
        const RDTSCP = 1 << 51;
        const AVX = cpu_features::AVX;
        const AVX512 = 1 << 52;
        const HYPERVISOR = 1 << 53;
    }
}

impl Features {
    /// Without these the kernel does not start.
    pub const REQUIRED: Features = Features::from_bits_truncate(((1 << 14) - 1) << 32);
    /// What programs are told.
    pub const TOLD: Features = Features::from_bits_truncate(u32::MAX as u64);

    /// Reads what the CPU shows through `cpuid`.
    pub fn detect<R: CpuIdReader>(cpuid: &CpuId<R>) -> Features {
        let mut found = Features::empty();
        let mut put = |flag, present| found.set(flag, present);
        if let Some(f) = cpuid.get_feature_info() {
            put(Features::TSC, f.has_tsc());
            put(Features::MSR, f.has_msr());
            put(Features::PAE, f.has_pae());
            put(Features::APIC, f.has_apic());
            put(Features::CX8, f.has_cmpxchg8b());
            put(Features::PGE, f.has_pge());
            put(Features::FXSR, f.has_fxsave_fxstor());
            put(Features::SSE2, f.has_sse2());
            put(Features::CX16, f.has_cmpxchg16b());
            put(Features::XSAVE, f.has_xsave());
            put(Features::MCE, f.has_mce());
            put(Features::PCID, f.has_pcid());
            put(Features::X2APIC, f.has_x2apic());
            put(Features::TSC_DEADLINE, f.has_tsc_deadline());
            put(Features::MONITOR, f.has_monitor_mwait());
            put(Features::HYPERVISOR, f.has_hypervisor());
        }
        if let Some(f) = cpuid.get_extended_feature_info() {
            put(Features::FSGSBASE, f.has_fsgsbase());
            put(Features::SMEP, f.has_smep());
            put(Features::SMAP, f.has_smap());
            put(Features::UMIP, f.has_umip());
            put(Features::INVPCID, f.has_invpcid());
        }
        if let Some(f) = cpuid.get_extended_processor_and_feature_identifiers() {
            put(Features::NX, f.has_execute_disable());
            put(Features::SYSCALL, f.has_syscall_sysret());
            put(Features::HUGE_PAGES, f.has_1gib_pages());
            put(Features::RDTSCP, f.has_rdtscp());
        }
        if let Some(f) = cpuid.get_advanced_power_mgmt_info() {
            put(Features::INVARIANT_TSC, f.has_invariant_tsc());
        }
        if let Some(f) = cpuid.get_extended_state_info() {
            put(Features::XSAVEOPT, f.has_xsaveopt());
            put(Features::XSAVEC, f.has_xsavec());
            put(Features::XGETBV1, f.has_xgetbv());
            put(Features::AVX, f.xcr0_supports_avx_256());
            let avx512 = f.xcr0_supports_avx512_opmask()
                && f.xcr0_supports_avx512_zmm_hi256()
                && f.xcr0_supports_avx512_zmm_hi16();
            put(Features::AVX512, avx512);
        }
        // SYSCALL is not shown by CPUID on Intel outside 64-bit mode, but we are in it here.
        found
    }

    /// Returns the missing required features.
    pub fn missing(self) -> Features {
        Features::REQUIRED - self
    }

    /// Returns the extended state components that the kernel turns on: x87 and SSE, AVX and AVX-512
    /// where present, never AMX (its state would make every process's save area 8 KiB larger).
    pub fn state_components(self) -> u64 {
        let mut components = 0b11;
        if self.contains(Features::AVX) {
            components |= 1 << 2;
            if self.contains(Features::AVX512) {
                components |= 0b111 << 5;
            }
        }
        components
    }
}

impl fmt::Display for Features {
    /// Writes the names, separated by ` | `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bitflags::parser::to_writer(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_is_missing_is_named() {
        let without = Features::all() - Features::FSGSBASE - Features::NX - Features::PCID;
        assert_eq!(without.missing().to_string(), "NX | FSGSBASE");
        assert!(Features::all().missing().is_empty());
    }

    #[test]
    fn avx512_needs_avx() {
        assert_eq!(Features::all().state_components(), 0b1110_0111);
        assert_eq!((Features::all() - Features::AVX).state_components(), 0b11);
    }
}
