//! Speculative execution: which known weaknesses this CPU has, and what the kernel does about them.
//!
//! [`assess`] is a pure function of the values of CPUID and the capability register, so that it
//! runs under `cargo test`. If a CPU reports nothing, it counts as affected if its vendor's older
//! CPUs were. `on` means that the kernel has turned the mitigation on: it sets control registers
//! ([`speculation_control`], [`branch_control`]), and flushes predictors between processes of
//! different security labels on a CPU ([`super::context`]). The kernel has no separate page tables
//! and does not clear buffers at its exit.

pub mod facts;
#[cfg(target_os = "none")]
mod here;
pub mod models;
#[cfg(test)]
mod tests;

use Affected::{No, Presumed, Yes};
use facts::{Capabilities, Controls, Facts, Vendor};
use heapless::Vec;
use models::Known;

#[cfg(target_os = "none")]
pub use here::{enable_here, flush_predictors, print};

/// Whether a weakness is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Affected {
    No,
    Yes,
    /// The CPU does not say; CPUs of this maker were affected.
    Presumed,
}

impl Affected {
    /// Returns one word, for results.
    pub fn key(self) -> &'static str {
        ["no", "yes", "presumed"][self as usize]
    }

    pub fn text(self) -> &'static str {
        ["not affected", "affected", "presumed affected"][self as usize]
    }
}

/// One weakness, and what is done.
pub struct Assessment {
    /// Short name without spaces, for results.
    pub name: &'static str,
    pub affected: Affected,
    /// What is on against it, without spaces; `None`: nothing.
    pub on: Option<&'static str>,
}

/// How many weaknesses are looked at.
pub const COUNT: usize = 16;

/// Judges every weakness from `facts`.
pub fn assess(facts: &Facts) -> Vec<Assessment, COUNT> {
    use Capabilities as Caps;
    let (amd, intel) = (facts.vendor == Vendor::Amd, facts.vendor == Vendor::Intel);
    let says = |capability| facts.capabilities.contains(capability);
    let has = |control| facts.controls.contains(control);
    let model = |affected, free| by_model(facts, affected, free);
    let none = Known::empty();
    // A weakness of Intel's CPUs only: those that report so are free of it.
    let of_intel = |immune| judge(amd || says(immune), intel && !facts.capabilities.is_empty(), Presumed);
    // A weakness of some models. A control against it says that it is there.
    let reported =
        |immune, control, by_model| judge(says(immune), facts.capabilities.intersects(control), by_model);
    let gather = reported(Caps::GDS_NO, Caps::GDS_CTRL, model(Known::GDS, none));
    // It remains where enhanced IBRS keeps user code from choosing the kernel's targets.
    let history = judge(amd || says(Caps::BHI_NO), intel && says(Caps::IBRS_ALL), Presumed);
    let says_ssb_no = says(Caps::SSB_NO) || has(Controls::SSB_NO);
    // Bulldozer to Zen 2; 0x18 is Hygon's Zen. RSBA: returns may be predicted by what indirect
    // branches trained.
    let confused = amd && (0x15..=0x18).contains(&facts.family) || says(Caps::RSBA);
    let before_zen = amd && facts.family < 0x17;
    let to_zen_5 = amd && facts.family <= 0x1a;
    let its = match model(Known::ITS, none) {
        // A guest may be moved to an affected CPU.
        No if facts.hypervisor && intel => Presumed,
        other => other,
    };
    // No affected CPU can disable the use of branch histories.
    let no_its = says(Caps::ITS_NO) || has(Controls::BHI_DIS_S);
    // It keeps user code from choosing the targets of the kernel's returns.
    let is_enhanced = branch_control(facts) == BranchControl::Enhanced;
    let all: [(&str, Affected, Option<&str>); COUNT] = [
        ("spectre-v1", Presumed, None),
        ("meltdown", of_intel(Caps::RDCL_NO), None),
        ("spectre-v2-kernel", Presumed, against_kernel_targets(facts)),
        ("spectre-v2-process", Presumed, between_processes(facts)),
        ("bhi", history, has(Controls::BHI_DIS_S).then_some("bhi-dis-s")),
        ("ssb", judge(says_ssb_no || before_zen, false, Presumed), None),
        ("l1tf", of_intel(Caps::RDCL_NO), None),
        ("mds", of_intel(Caps::MDS_NO), None),
        ("taa", judge(!facts.rtm, false, of_intel(Caps::TAA_NO)), None),
        ("gds", judge(!facts.avx, false, gather), None),
        ("lazyfp", model(Known::LAZY_FP, Known::NO_LAZY_FP), Some("vector-reset")),
        ("mmio-stale-data", reported(Caps::MMIO_NO, Caps::empty(), model(Known::MMIO, Known::NO_MMIO)), None),
        ("rfds", reported(Caps::RFDS_NO, Caps::RFDS_CLEAR, model(Known::RFDS, none)), None),
        (
            "retbleed",
            judge(amd && has(Controls::BTC_NO), confused, model(Known::RETBLEED, none)),
            is_enhanced.then_some("enhanced-ibrs"),
        ),
        ("srso", judge(intel || has(Controls::SRSO_NO) || before_zen, to_zen_5, Presumed), None),
        ("its", judge(no_its, false, its), None),
    ];
    let judged =
        all.map(|(name, affected, on)| Assessment { name, affected, on: on.filter(|_| affected != No) });
    judged.into_iter().collect()
}

/// Judges by what is known for certain, else by `otherwise`.
fn judge(is_free: bool, is_affected: bool, otherwise: Affected) -> Affected {
    match (is_free, is_affected) {
        (true, _) => No,
        (false, true) => Yes,
        (false, false) => otherwise,
    }
}

/// Judges a weakness of some of Intel's models. Free are the `free` ones, or, if there are none,
/// those that are known and not affected.
#[inline(never)]
fn by_model(facts: &Facts, affected: Known, free: Known) -> Affected {
    if facts.vendor == Vendor::Amd {
        return No;
    }
    match models::known(facts).filter(|_| facts.vendor == Vendor::Intel) {
        Some(known) if known.contains(affected) => Yes,
        Some(known) if free.is_empty() || known.contains(free) => No,
        _ => Presumed,
    }
}

/// Returns what keeps user code from choosing the targets of the kernel's indirect branches.
fn against_kernel_targets(facts: &Facts) -> Option<&'static str> {
    match branch_control(facts) {
        BranchControl::None => None,
        BranchControl::Enhanced if facts.controls.contains(Controls::RRSBA_DIS_S) => {
            Some("enhanced-ibrs,rrsba-dis-s")
        }
        BranchControl::Enhanced => Some("enhanced-ibrs"),
        BranchControl::Automatic => Some("automatic-ibrs"),
    }
}

/// Returns what keeps a process from choosing the targets of another's indirect branches.
fn between_processes(facts: &Facts) -> Option<&'static str> {
    let has = |control| facts.controls.contains(control);
    match (has(Controls::STIBP), has(Controls::IBPB)) {
        (true, true) => Some("stibp,ibpb-between-labels"),
        (true, false) => Some("stibp"),
        (false, true) => Some("ibpb-between-labels"),
        (false, false) => None,
    }
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

pub fn branch_control(facts: &Facts) -> BranchControl {
    if facts.controls.contains(Controls::AUTOMATIC_IBRS) {
        BranchControl::Automatic
    } else if facts.controls.contains(Controls::IBRS) && facts.capabilities.contains(Capabilities::IBRS_ALL) {
        BranchControl::Enhanced
    } else {
        BranchControl::None
    }
}

/// Returns the value for IA32_SPEC_CTRL, which is written once; 0: the register may not exist.
///
/// STIBP keeps the other thread of a core from training this one's indirect branches. The last two
/// keep the kernel's own indirect branches and returns from histories and predictors that user code
/// can train although IBRS is on.
pub fn speculation_control(facts: &Facts) -> u64 {
    let mut control = facts.controls & Controls::SPEC_CTRL;
    if branch_control(facts) != BranchControl::Enhanced {
        control.remove(Controls::IBRS);
    }
    control.bits()
}
