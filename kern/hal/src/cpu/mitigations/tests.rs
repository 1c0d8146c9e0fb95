//! Tests with the CPUID and capability register of real CPUs.

use raw_cpuid::CpuIdResult;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::facts::{Facts, Vendor};
use super::{COUNT, assess, speculation_control};

const IBRS: u64 = 1 << 0;
const STIBP: u64 = 1 << 1;
const RRSBA_DIS_S: u64 = 1 << 6;
const BHI_DIS_S: u64 = 1 << 10;

/// A CPU to be.
#[derive(Clone, Copy, Default)]
struct Fake {
    vendor: &'static str,
    /// Family, model, stepping, as leaf 1 packs them.
    signature: u32,
    leaf_1_ecx: u32,
    leaf_7_ebx: u32,
    leaf_7_edx: u32,
    leaf_7_2_edx: u32,
    /// Leaf 0x8000_0008, EBX.
    amd_8: u32,
    /// Leaf 0x8000_0021, EAX.
    amd_21: u32,
    capabilities: u64,
}

const INTEL: &str = "GenuineIntel";
const AMD: &str = "AuthenticAMD";
/// Leaf 1, ECX.
const AVX: u32 = 1 << 28;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 7, EBX.
const RTM: u32 = 1 << 11;
/// Leaf 7, EDX: IBRS and IBPB, STIBP, the capability register, SSBD.
const INTEL_CONTROLS: u32 = 1 << 26 | 1 << 27 | 1 << 29 | 1 << 31;
/// Leaf 7.2, EDX: IPRED_CTRL, RRSBA_CTRL, BHI_CTRL.
const INTEL_CONTROLS_2: u32 = 1 << 1 | 1 << 2 | 1 << 4;
/// Leaf 0x8000_0008, EBX: IBPB, IBRS, STIBP, SSBD.
const AMD_CONTROLS: u32 = 1 << 12 | 1 << 14 | 1 << 15 | 1 << 24;
const AMD_BTC_NO: u32 = 1 << 29;

impl Fake {
    fn leaf(&self, leaf: u32, subleaf: u32) -> CpuIdResult {
        let word = |at: usize| {
            let bytes = self.vendor.as_bytes()[at..at + 4].try_into();
            u32::from_le_bytes(bytes.expect("four bytes"))
        };
        let none = CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
        match (leaf, subleaf) {
            (0, _) => CpuIdResult { eax: 0x16, ebx: word(0), edx: word(4), ecx: word(8) },
            (1, _) => CpuIdResult { eax: self.signature, ecx: self.leaf_1_ecx, ..none },
            (7, 0) => CpuIdResult { eax: 2, ebx: self.leaf_7_ebx, edx: self.leaf_7_edx, ..none },
            (7, 2) => CpuIdResult { edx: self.leaf_7_2_edx, ..none },
            (0x8000_0000, _) => CpuIdResult { eax: 0x8000_0021, ..none },
            (0x8000_0008, _) => CpuIdResult { ebx: self.amd_8, ..none },
            (0x8000_0021, _) => CpuIdResult { eax: self.amd_21, ..none },
            _ => none,
        }
    }

    fn facts(&self) -> Facts {
        let cpu = *self;
        Facts::read(&move |leaf, subleaf| cpu.leaf(leaf, subleaf), || {
            assert!(cpu.leaf_7_edx >> 29 & 1 != 0, "there is no such register");
            cpu.capabilities
        })
    }

    /// Returns the report: name, whether affected, which mitigation is on.
    fn report(&self) -> Vec<String> {
        let all = assess(&self.facts());
        assert_eq!(all.len(), COUNT);
        all.iter().map(|a| format!("{} {} {}", a.name, a.affected.key(), a.on.unwrap_or("-"))).collect()
    }

    #[track_caller]
    fn reports(&self, expected: &str) {
        let expected: Vec<String> = expected.lines().map(|line| line.trim().to_string()).collect();
        assert_eq!(self.report(), expected[1..expected.len() - 1]);
    }
}

#[test]
fn skylake() {
    let cpu = Fake {
        vendor: INTEL,
        signature: 0x0005_06e3,
        leaf_1_ecx: AVX,
        leaf_7_edx: INTEL_CONTROLS,
        // RSBA, GDS_CTRL, RFDS_NO, and what is of no interest here.
        capabilities: 0x0a00_0c04,
        ..Fake::default()
    };
    cpu.reports(
        "
        spectre-v1 presumed -
        meltdown yes -
        spectre-v2-kernel presumed -
        spectre-v2-process presumed stibp,ibpb-between-labels
        bhi presumed -
        ssb presumed -
        l1tf yes -
        mds yes -
        taa no -
        gds yes -
        lazyfp yes vector-reset
        mmio-stale-data yes -
        rfds no -
        retbleed yes -
        srso no -
        its no -
        ",
    );
    assert_eq!(speculation_control(&cpu.facts()), STIBP);
    // With transactions.
    let with_tsx = Fake { leaf_7_ebx: RTM, ..cpu };
    assert!(with_tsx.report().contains(&"taa yes -".to_string()));
}

#[test]
fn ice_lake() {
    let cpu = Fake {
        vendor: INTEL,
        signature: 0x0007_06e5,
        leaf_1_ecx: AVX,
        leaf_7_edx: INTEL_CONTROLS,
        // RDCL_NO, IBRS_ALL, MDS_NO, GDS_CTRL, RFDS_NO.
        capabilities: 0x0a00_0c2b,
        ..Fake::default()
    };
    cpu.reports(
        "
        spectre-v1 presumed -
        meltdown no -
        spectre-v2-kernel presumed enhanced-ibrs
        spectre-v2-process presumed stibp,ibpb-between-labels
        bhi yes -
        ssb presumed -
        l1tf no -
        mds no -
        taa no -
        gds yes -
        lazyfp presumed vector-reset
        mmio-stale-data yes -
        rfds no -
        retbleed yes enhanced-ibrs
        srso no -
        its yes -
        ",
    );
    assert_eq!(speculation_control(&cpu.facts()), IBRS | STIBP);
    // As firmware shows that has been updated.
    let repaired = Fake { capabilities: cpu.capabilities | 1 << 26 | 1 << 62 | 0b111 << 13, ..cpu };
    for row in ["gds no -", "mmio-stale-data no -", "its no -"] {
        assert!(repaired.report().contains(&row.to_string()), "{row}");
    }
}

#[test]
fn alder_lake() {
    let cpu = Fake {
        vendor: INTEL,
        signature: 0x0009_0672,
        leaf_1_ecx: AVX,
        leaf_7_edx: INTEL_CONTROLS,
        leaf_7_2_edx: INTEL_CONTROLS_2,
        // RDCL_NO, IBRS_ALL, MDS_NO, TAA_NO, the three of MMIO, GDS_NO, RFDS_CLEAR.
        capabilities: 0x1400_ed6b,
        ..Fake::default()
    };
    cpu.reports(
        "
        spectre-v1 presumed -
        meltdown no -
        spectre-v2-kernel presumed enhanced-ibrs,rrsba-dis-s
        spectre-v2-process presumed stibp,ibpb-between-labels
        bhi yes bhi-dis-s
        ssb presumed -
        l1tf no -
        mds no -
        taa no -
        gds no -
        lazyfp presumed vector-reset
        mmio-stale-data no -
        rfds yes -
        retbleed no -
        srso no -
        its no -
        ",
    );
    assert_eq!(speculation_control(&cpu.facts()), IBRS | STIBP | RRSBA_DIS_S | BHI_DIS_S);
}

/// Returns the common part of AMD's CPUs from Zen to Zen 4.
fn zen(kernel: &str, retbleed: &str) -> String {
    format!(
        "
        spectre-v1 presumed -
        meltdown no -
        spectre-v2-kernel presumed {kernel}
        spectre-v2-process presumed stibp,ibpb-between-labels
        bhi no -
        ssb presumed -
        l1tf no -
        mds no -
        taa no -
        gds no -
        lazyfp no -
        mmio-stale-data no -
        rfds no -
        retbleed {retbleed} -
        srso yes -
        its no -
        "
    )
}

#[test]
fn zen_2() {
    let cpu =
        Fake { vendor: AMD, signature: 0x0087_0f10, leaf_1_ecx: AVX, amd_8: AMD_CONTROLS, ..Fake::default() };
    cpu.reports(&zen("-", "yes"));
    assert_eq!(speculation_control(&cpu.facts()), STIBP);
}

#[test]
fn zen_3() {
    let cpu = Fake {
        vendor: AMD,
        signature: 0x00a2_0f10,
        leaf_1_ecx: AVX,
        amd_8: AMD_CONTROLS | AMD_BTC_NO,
        ..Fake::default()
    };
    cpu.reports(&zen("-", "no"));
    // Without the microcode that says so it is not one of the affected families either.
    Fake { amd_8: AMD_CONTROLS, ..cpu }.reports(&zen("-", "no"));
}

#[test]
fn zen_4() {
    let cpu = Fake {
        vendor: AMD,
        signature: 0x00a1_0f11,
        leaf_1_ecx: AVX,
        amd_8: AMD_CONTROLS | AMD_BTC_NO,
        // Automatic IBRS among them.
        amd_21: 0x0006_2fcf,
        ..Fake::default()
    };
    cpu.reports(&zen("automatic-ibrs", "no"));
    assert_eq!(speculation_control(&cpu.facts()), STIBP, "EFER has the bit");
    // SRSO_NO.
    assert!(Fake { amd_21: cpu.amd_21 | 1 << 29, ..cpu }.report().contains(&"srso no -".to_string()));
}

/// `-cpu max`: AMD's name on a CPU that predicts nothing, and needs no mitigation.
#[test]
fn qemu_without_hardware() {
    let cpu = Fake { vendor: AMD, signature: 0x663, leaf_1_ecx: AVX | HYPERVISOR, ..Fake::default() };
    cpu.reports(
        "
        spectre-v1 presumed -
        meltdown no -
        spectre-v2-kernel presumed -
        spectre-v2-process presumed -
        bhi no -
        ssb no -
        l1tf no -
        mds no -
        taa no -
        gds no -
        lazyfp no -
        mmio-stale-data no -
        rfds no -
        retbleed no -
        srso no -
        its no -
        ",
    );
    assert_eq!(speculation_control(&cpu.facts()), 0);
}

#[test]
fn a_silent_intel_cpu_is_presumed_affected() {
    let cpu = Fake { vendor: INTEL, signature: 0x0000_06f0, leaf_1_ecx: AVX, ..Fake::default() };
    for row in cpu.report() {
        let no = ["taa", "srso"].iter().any(|name| row.starts_with(name));
        let expected = if no { " no -" } else { " presumed -" };
        let lazy = row == "lazyfp presumed vector-reset";
        assert!(lazy || row.ends_with(expected), "{row}");
    }
    assert_eq!(speculation_control(&cpu.facts()), 0);
}

#[test]
fn an_unknown_maker_is_presumed_affected() {
    let cpu = Fake { vendor: "CentaurHauls", signature: 0x0000_06f0, ..Fake::default() };
    assert_eq!(cpu.facts().vendor, Vendor::Other);
    for name in ["meltdown", "mds", "lazyfp", "retbleed", "srso", "its"] {
        assert!(cpu.report().iter().any(|row| row.starts_with(&format!("{name} presumed"))), "{name}");
    }
}

#[test]
fn families_and_models_are_read() {
    let of = |vendor, signature| {
        let facts = Fake { vendor, signature, ..Fake::default() }.facts();
        (facts.family, facts.model, facts.stepping)
    };
    assert_eq!(of(INTEL, 0x0009_0672), (6, 0x97, 2));
    assert_eq!(of(AMD, 0x00a1_0f11), (0x19, 0x11, 1));
    assert_eq!(of("HygonGenuine", 0x0090_0f02), (0x18, 0, 2));
}
