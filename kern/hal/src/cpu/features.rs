//! CPU features: what CPUID shows, what the kernel requires, and turning them on.
//!
//! CPUID is the only source. The kernel does not probe: some machines accept control register bits
//! that they do not implement, and hang later. Every CPU must have the features of the boot CPU.

use core::fmt;

use abi::cpu_features;
use bitflags::bitflags;
use raw_cpuid::{CpuId, CpuIdReader};

/// Names features, by the part of CPUID that shows them: each with its bit here, and the method
/// that says whether the CPU has it.
macro_rules! features {
    ($($part:ident { $($name:ident = $bit:expr, $shown:ident;)* })*) => {
        bitflags! {
            /// Features that the kernel knows about. Programs see those that [`cpu_features`] has,
            /// by the same bits.
            #[derive(Clone, Copy, PartialEq, Eq, Debug)]
            pub struct Features: u64 {
                $($(const $name = $bit;)*)*
                const AVX512 = 1 << 52;
            }
        }

        impl Features {
            /// Reads what the CPU shows through `cpuid`.
            ///
            /// CPUID does not show SYSCALL on Intel outside 64-bit mode, but the kernel is in it.
            pub fn detect<R: CpuIdReader>(cpuid: &CpuId<R>) -> Features {
                let mut found = Features::empty();
                $(if let Some(part) = cpuid.$part() {
                    $(found.set(Features::$name, part.$shown());)*
                })*
                let avx512 = cpuid.get_extended_state_info().is_some_and(|part| {
                    part.xcr0_supports_avx512_opmask()
                        && part.xcr0_supports_avx512_zmm_hi256()
                        && part.xcr0_supports_avx512_zmm_hi16()
                });
                found.set(Features::AVX512, avx512);
                found
            }
        }
    };
}

features! {
    get_feature_info {
        TSC = 1 << 32, has_tsc;
        MSR = 1 << 33, has_msr;
        PAE = 1 << 34, has_pae;
        APIC = 1 << 35, has_apic;
        CX8 = 1 << 36, has_cmpxchg8b;
        PGE = 1 << 37, has_pge;
        FXSR = 1 << 38, has_fxsave_fxstor;
        SSE2 = 1 << 39, has_sse2;
        CX16 = 1 << 40, has_cmpxchg16b;
        XSAVE = 1 << 41, has_xsave;
        MCE = 1 << 45, has_mce;
        PCID = cpu_features::PCID, has_pcid;
        X2APIC = cpu_features::X2APIC, has_x2apic;
        TSC_DEADLINE = cpu_features::TSC_DEADLINE, has_tsc_deadline;
        MONITOR = 1 << 48, has_monitor_mwait;
        HYPERVISOR = 1 << 53, has_hypervisor;
    }
    get_extended_processor_and_feature_identifiers {
        NX = 1 << 42, has_execute_disable;
        SYSCALL = 1 << 43, has_syscall_sysret;
        HUGE_PAGES = 1 << 47, has_1gib_pages;
        RDTSCP = 1 << 51, has_rdtscp;
    }
    get_extended_feature_info {
        FSGSBASE = 1 << 44, has_fsgsbase;
        SMEP = cpu_features::SMEP, has_smep;
        SMAP = cpu_features::SMAP, has_smap;
        UMIP = cpu_features::UMIP, has_umip;
        INVPCID = cpu_features::INVPCID, has_invpcid;
    }
    get_advanced_power_mgmt_info {
        INVARIANT_TSC = 1 << 46, has_invariant_tsc;
    }
    get_extended_state_info {
        XSAVEOPT = 1 << 49, has_xsaveopt;
        XSAVEC = 1 << 50, has_xsavec;
        XGETBV1 = cpu_features::XGETBV1, has_xgetbv;
        AVX = cpu_features::AVX, xcr0_supports_avx_256;
    }
}

impl Features {
    /// Without these the kernel does not start.
    pub const REQUIRED: Features = Features::from_bits_truncate(((1 << 14) - 1) << 32);
    /// What programs are told.
    pub const TOLD: Features = Features::from_bits_truncate(u32::MAX as u64);

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
