//! Speculative execution: which known weaknesses this CPU has, and what the kernel does about them.
//!
//! [`assess`] is a pure function of what CPUID and the capability register say, so that it runs under
//! `cargo test`; a CPU that says nothing is taken to be affected where its maker's CPUs were. Honest
//! by rule: `on` is said only of what the kernel really does. Today that is what a control register
//! can do by itself; separate kernel page tables and buffer clearing on exit are not done (the entry
//! code keeps room for them).

use bitflags::bitflags;
use heapless::Vec;

bitflags! {
    /// IA32_ARCH_CAPABILITIES, as far as it matters here.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Capabilities: u64 {
        const RDCL_NO = 1 << 0;
        const IBRS_ALL = 1 << 1;
        const SSB_NO = 1 << 4;
        const MDS_NO = 1 << 5;
        const TAA_NO = 1 << 8;
        const SBDR_SSDP_NO = 1 << 13;
        const FBSDP_NO = 1 << 14;
        const PSDP_NO = 1 << 15;
        const BHI_NO = 1 << 20;
        const GDS_NO = 1 << 26;
        const RFDS_NO = 1 << 27;
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Vendor {
    Intel,
    Amd,
    #[default]
    Other,
}

/// What the CPU says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    pub vendor: Vendor,
    pub family: u8,
    pub capabilities: Capabilities,
    /// IA32_SPEC_CTRL exists (IBRS).
    pub speculation_control: bool,
    /// Leaf 0x8000_0021: automatic IBRS.
    pub automatic_ibrs: bool,
    /// AMD: no speculative store bypass.
    pub amd_ssb_no: bool,
    /// Transactional memory.
    pub rtm: bool,
}

/// Whether a weakness is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Affected {
    No,
    Yes,
    /// The CPU does not say; CPUs of this maker were affected.
    Presumed,
}

impl Affected {
    /// One word, for results.
    pub fn key(self) -> &'static str {
        match self {
            Affected::No => "no",
            Affected::Yes => "yes",
            Affected::Presumed => "presumed",
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Affected::No => "not affected",
            Affected::Yes => "affected",
            Affected::Presumed => "presumed affected",
        }
    }
}

/// One weakness, and what is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assessment {
    /// Short name without spaces, for results.
    pub name: &'static str,
    pub affected: Affected,
    /// What is on against it; `None`: nothing.
    pub on: Option<&'static str>,
}

/// How many weaknesses are looked at.
pub const COUNT: usize = 9;

/// Judges every weakness from `facts`.
pub fn assess(facts: &Facts) -> Vec<Assessment, COUNT> {
    use Affected::{No, Presumed, Yes};
    let intel = facts.vendor == Vendor::Intel;
    let amd = facts.vendor == Vendor::Amd;
    let knows = !facts.capabilities.is_empty();
    let says = |flag| facts.capabilities.contains(flag);
    // Intel-only weaknesses: the capability register clears them one by one.
    let unless = |flag| match (intel, says(flag)) {
        (false, _) if amd => No,
        (_, true) => No,
        (true, false) if knows => Yes,
        _ => Presumed,
    };
    let branches = branch_control(facts);
    let old_amd = amd && facts.family < 0x17;
    let mut all = Vec::new();
    let mut add = |name, affected, on: Option<&'static str>| {
        let on = on.filter(|_| affected != No);
        // COUNT is the number of calls below.
        let _ = all.push(Assessment { name, affected, on });
    };
    add("spectre-v1", Presumed, None);
    add("meltdown", unless(Capabilities::RDCL_NO), None);
    add("spectre-v2", Presumed, branches.name());
    add("bhi", unless(Capabilities::BHI_NO), None);
    add("ssb", if says(Capabilities::SSB_NO) || facts.amd_ssb_no || old_amd { No } else { Presumed }, None);
    add("l1tf", unless(Capabilities::RDCL_NO), None);
    add("mds", unless(Capabilities::MDS_NO), None);
    let taa = if facts.rtm { unless(Capabilities::TAA_NO) } else { No };
    add("taa", taa, None);
    add("gds", unless(Capabilities::GDS_NO), None);
    all
}

/// What a control register can do against trained branch predictors, once and for all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BranchControl {
    None,
    /// Enhanced IBRS: IA32_SPEC_CTRL.IBRS, set once.
    Enhanced,
    /// AMD's automatic IBRS: a bit of EFER.
    Automatic,
}

impl BranchControl {
    pub fn name(self) -> Option<&'static str> {
        match self {
            BranchControl::None => None,
            BranchControl::Enhanced => Some("enhanced-ibrs"),
            BranchControl::Automatic => Some("automatic-ibrs"),
        }
    }
}

pub fn branch_control(facts: &Facts) -> BranchControl {
    if facts.automatic_ibrs {
        BranchControl::Automatic
    } else if facts.speculation_control && facts.capabilities.contains(Capabilities::IBRS_ALL) {
        BranchControl::Enhanced
    } else {
        BranchControl::None
    }
}

#[cfg(target_os = "none")]
pub use here::{enable_here, facts_here, print};

#[cfg(target_os = "none")]
mod here {
    use raw_cpuid::{CpuId, cpuid};
    use x86_64::registers::control::{Efer, EferFlags};
    use x86_64::registers::model_specific::Msr;

    use super::{BranchControl, Capabilities, Facts, Vendor, assess, branch_control};
    use crate::dev::logport;
    use crate::println;

    const ARCH_CAPABILITIES: u32 = 0x10a;
    const SPEC_CTRL: u32 = 0x48;
    const SPEC_CTRL_IBRS: u64 = 1 << 0;
    const EFER_AUTOMATIC_IBRS: u64 = 1 << 21;

    /// Asks the CPU that runs this.
    pub fn facts_here() -> Facts {
        let info = CpuId::new();
        let vendor = match info.get_vendor_info() {
            Some(v) if v.as_str() == "GenuineIntel" => Vendor::Intel,
            Some(v) if matches!(v.as_str(), "AuthenticAMD" | "HygonGenuine") => Vendor::Amd,
            _ => Vendor::Other,
        };
        let max = cpuid!(0).eax;
        let leaf_7 = if max >= 7 { cpuid!(7, 0) } else { cpuid!(0, 0) };
        let (ebx_7, edx_7) = if max >= 7 { (leaf_7.ebx, leaf_7.edx) } else { (0, 0) };
        let max_extended = cpuid!(0x8000_0000).eax;
        let ebx_8 = if max_extended >= 0x8000_0008 { cpuid!(0x8000_0008).ebx } else { 0 };
        let eax_21 = if max_extended >= 0x8000_0021 { cpuid!(0x8000_0021).eax } else { 0 };
        let capabilities = if edx_7 >> 29 & 1 != 0 {
            // SAFETY: CPUID says that the register exists.
            Capabilities::from_bits_truncate(unsafe { Msr::new(ARCH_CAPABILITIES).read() })
        } else {
            Capabilities::empty()
        };
        Facts {
            vendor,
            family: info.get_feature_info().map_or(0, |f| f.family_id()),
            capabilities,
            speculation_control: edx_7 >> 26 & 1 != 0,
            automatic_ibrs: eax_21 >> 8 & 1 != 0,
            amd_ssb_no: ebx_8 >> 26 & 1 != 0,
            rtm: ebx_7 >> 11 & 1 != 0,
        }
    }

    /// Turns on what [`assess`] says is on; on every CPU.
    pub fn enable_here() {
        match branch_control(&facts_here()) {
            BranchControl::None => (),
            // SAFETY: CPUID says that the register and the bit exist; it only restrains prediction.
            BranchControl::Enhanced => unsafe { Msr::new(SPEC_CTRL).write(SPEC_CTRL_IBRS) },
            // SAFETY: CPUID says that the bit exists; the others stay.
            BranchControl::Automatic => unsafe {
                Efer::write_raw(
                    Efer::read_raw() | EFER_AUTOMATIC_IBRS | EferFlags::SYSTEM_CALL_EXTENSIONS.bits(),
                );
            },
        }
    }

    /// Prints one line for each weakness, and reports it for the results.
    pub fn print() {
        let facts = facts_here();
        for a in assess(&facts) {
            let on = a.on.unwrap_or(if a.affected == super::Affected::No { "nothing needed" } else { "off" });
            println!("aurora: mitigation {}: {}, {on}", a.name, a.affected.text());
            logport::report(format_args!(
                "mitigation name={} affected={} on={}",
                a.name,
                a.affected.key(),
                a.on.unwrap_or("-")
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(all: &[Assessment], name: &str) -> Assessment {
        *all.iter().find(|a| a.name == name).unwrap()
    }

    #[test]
    fn a_silent_intel_cpu_is_presumed_affected() {
        let all = assess(&Facts { vendor: Vendor::Intel, family: 6, ..Facts::default() });
        assert_eq!(all.len(), COUNT);
        assert_eq!(find(&all, "meltdown").affected, Affected::Presumed);
        assert_eq!(find(&all, "taa").affected, Affected::No);
        assert!(all.iter().all(|a| a.on.is_none()));
    }

    #[test]
    fn capabilities_clear_one_by_one() {
        let capabilities = Capabilities::RDCL_NO | Capabilities::IBRS_ALL;
        let facts = Facts {
            vendor: Vendor::Intel,
            capabilities,
            speculation_control: true,
            rtm: true,
            ..Facts::default()
        };
        let all = assess(&facts);
        assert_eq!(find(&all, "meltdown").affected, Affected::No);
        assert_eq!(find(&all, "mds").affected, Affected::Yes);
        assert_eq!(find(&all, "taa").affected, Affected::Yes);
        assert_eq!(find(&all, "spectre-v2").on, Some("enhanced-ibrs"));
    }

    #[test]
    fn amd_lacks_intels_weaknesses() {
        let facts = Facts { vendor: Vendor::Amd, family: 0x19, automatic_ibrs: true, ..Facts::default() };
        let all = assess(&facts);
        for name in ["meltdown", "l1tf", "mds", "gds"] {
            assert_eq!(find(&all, name).affected, Affected::No, "{name}");
        }
        assert_eq!(find(&all, "spectre-v2").on, Some("automatic-ibrs"));
        assert_eq!(find(&all, "ssb").affected, Affected::Presumed);
    }
}
