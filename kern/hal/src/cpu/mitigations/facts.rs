//! What a CPU reports about its speculative execution.

use bitflags::bitflags;
use raw_cpuid::{CpuId, CpuIdReader};

bitflags! {
    /// IA32_ARCH_CAPABILITIES, as far as it matters here.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Capabilities: u64 {
        const RDCL_NO = 1 << 0;
        const IBRS_ALL = 1 << 1;
        const RSBA = 1 << 2;
        const SSB_NO = 1 << 4;
        const MDS_NO = 1 << 5;
        const TAA_NO = 1 << 8;
        const SBDR_SSDP_NO = 1 << 13;
        const FBSDP_NO = 1 << 14;
        const PSDP_NO = 1 << 15;
        const BHI_NO = 1 << 20;
        const GDS_CTRL = 1 << 25;
        const GDS_NO = 1 << 26;
        const RFDS_NO = 1 << 27;
        const RFDS_CLEAR = 1 << 28;
        const ITS_NO = 1 << 62;
        /// All three variants of MMIO stale data.
        const MMIO_NO = Self::SBDR_SSDP_NO.bits() | Self::FBSDP_NO.bits() | Self::PSDP_NO.bits();
    }
}

bitflags! {
    /// What can be switched on, or asked for, against misused branch predictors; and which
    /// attacks CPUs are immune to without.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Controls: u64 {
        /// This one and the next three: their bits of IA32_SPEC_CTRL.
        const IBRS = 1 << 0;
        const STIBP = 1 << 1;
        const RRSBA_DIS_S = 1 << 6;
        const BHI_DIS_S = 1 << 10;
        /// A command of IA32_PRED_CMD.
        const IBPB = 1 << 32;
        /// AMD's automatic IBRS, a bit of EFER.
        const AUTOMATIC_IBRS = 1 << 33;
        /// AMD's CPUs say that they are not affected. Intel's say so in [`Capabilities`].
        const SSB_NO = 1 << 40;
        /// Branch type confusion: Retbleed.
        const BTC_NO = 1 << 41;
        const SRSO_NO = 1 << 42;
        /// All that are bits of IA32_SPEC_CTRL.
        const SPEC_CTRL = Self::IBRS.bits() | Self::STIBP.bits() | Self::RRSBA_DIS_S.bits() | Self::BHI_DIS_S.bits();
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Vendor {
    Intel,
    /// AMD, and Hygon.
    Amd,
    #[default]
    Other,
}

/// What the CPU says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    pub vendor: Vendor,
    pub family: u8,
    pub model: u8,
    pub stepping: u8,
    pub capabilities: Capabilities,
    pub controls: Controls,
    /// A hypervisor may hide what the CPU has.
    pub hypervisor: bool,
    /// Transactional memory.
    pub rtm: bool,
    /// Gathers come with AVX.
    pub avx: bool,
}

/// Leaves of CPUID for which `raw_cpuid` has no names.
const FEATURES: u32 = 7;
const SPECULATION_SUBLEAF: u32 = 2;
const EXTENDED_MAX: u32 = 0x8000_0000;
const AMD_SPECULATION: u32 = 0x8000_0008;
const AMD_FEATURES_2: u32 = 0x8000_0021;

impl Facts {
    /// Reads the facts that the CPU shows through `reader`, and IA32_ARCH_CAPABILITIES if that
    /// register exists.
    pub fn read<R: CpuIdReader>(reader: &R, capabilities: impl FnOnce() -> u64) -> Facts {
        let named = CpuId::with_cpuid_reader(reader.clone());
        let vendor = match named.get_vendor_info() {
            Some(v) if v.as_str() == "GenuineIntel" => Vendor::Intel,
            Some(v) if matches!(v.as_str(), "AuthenticAMD" | "HygonGenuine") => Vendor::Amd,
            _ => Vendor::Other,
        };
        let Some(basic) = named.get_feature_info() else { return Facts::default() };
        let structured = named.get_extended_feature_info();
        // A subleaf that the CPU does not have is zero.
        let leaf_7 = |subleaf| structured.as_ref().map_or(0, |_| reader.cpuid2(FEATURES, subleaf).edx);
        let (leaf_7, leaf_7_2) = (leaf_7(0), leaf_7(SPECULATION_SUBLEAF));
        let extended_max = reader.cpuid1(EXTENDED_MAX).eax;
        let extended = |leaf| (extended_max >= leaf).then(|| reader.cpuid1(leaf));
        let amd_8 = extended(AMD_SPECULATION).map_or(0, |leaf| leaf.ebx);
        let amd_21 = extended(AMD_FEATURES_2).map_or(0, |leaf| leaf.eax);
        let bit = |word: u32, n: u32| word >> n & 1 != 0;
        let capabilities = if bit(leaf_7, 29) { capabilities() } else { 0 };
        Facts {
            vendor,
            family: basic.family_id(),
            model: basic.model_id(),
            stepping: basic.stepping_id(),
            capabilities: Capabilities::from_bits_truncate(capabilities),
            controls: [
                (Controls::IBRS, bit(leaf_7, 26) || bit(amd_8, 14)),
                (Controls::IBPB, bit(leaf_7, 26) || bit(amd_8, 12)),
                (Controls::STIBP, bit(leaf_7, 27) || bit(amd_8, 15)),
                (Controls::BHI_DIS_S, bit(leaf_7_2, 4)),
                (Controls::RRSBA_DIS_S, bit(leaf_7_2, 2)),
                (Controls::AUTOMATIC_IBRS, bit(amd_21, 8)),
                (Controls::SSB_NO, bit(amd_8, 26)),
                (Controls::BTC_NO, bit(amd_8, 29)),
                (Controls::SRSO_NO, bit(amd_21, 29)),
            ]
            .into_iter()
            .filter_map(|(control, is_there)| is_there.then_some(control))
            .collect(),
            hypervisor: basic.has_hypervisor(),
            rtm: structured.is_some_and(|f| f.has_rtm()),
            avx: basic.has_avx(),
        }
    }
}
