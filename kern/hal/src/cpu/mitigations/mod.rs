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
    let none = Known::empty();
    let gather = reported(facts, Caps::GDS_NO, Caps::GDS_CTRL, [Known::GDS, none]);
    let mmio = reported(facts, Caps::MMIO_NO, Caps::empty(), [Known::MMIO, Known::NO_MMIO]);
    let register_file = reported(facts, Caps::RFDS_NO, Caps::RFDS_CLEAR, [Known::RFDS, none]);
    // It keeps user code from choosing the targets of the kernel's returns.
    let is_enhanced = branch_control(facts) == BranchControl::Enhanced;
    let all: [(&str, Affected, Option<&str>); COUNT] = [
        ("spectre-v1", Presumed, None),
        ("meltdown", said(facts, Capabilities::RDCL_NO), None),
        ("spectre-v2-kernel", Presumed, against_kernel_targets(facts)),
        ("spectre-v2-process", Presumed, between_processes(facts)),
        ("bhi", history_injection(facts), facts.has(Controls::BHI_DIS_S, "bhi-dis-s")),
        ("ssb", store_bypass(facts), None),
        ("l1tf", said(facts, Capabilities::RDCL_NO), None),
        ("mds", said(facts, Capabilities::MDS_NO), None),
        ("taa", if facts.rtm { said(facts, Capabilities::TAA_NO) } else { No }, None),
        ("gds", if facts.avx { gather } else { No }, None),
        ("lazyfp", by_model(facts, Known::LAZY_FP, Known::NO_LAZY_FP), Some("vector-reset")),
        ("mmio-stale-data", mmio, None),
        ("rfds", register_file, None),
        ("retbleed", retbleed(facts), is_enhanced.then_some("enhanced-ibrs")),
        ("srso", return_stack(facts), None),
        ("its", indirect_targets(facts), None),
    ];
    let judged =
        all.map(|(name, affected, on)| Assessment { name, affected, on: on.filter(|_| affected != No) });
    judged.into_iter().collect()
}

impl Facts {
    fn is_immune(&self, capability: Capabilities) -> bool {
        self.capabilities.contains(capability)
    }

    /// Returns the text if the CPU has the control.
    fn has(&self, control: Controls, text: &'static str) -> Option<&'static str> {
        self.controls.contains(control).then_some(text)
    }
}

/// Judges a weakness of Intel's CPUs only: those that report so are free of it.
fn said(facts: &Facts, immune: Capabilities) -> Affected {
    match facts.vendor {
        _ if facts.is_immune(immune) => No,
        Vendor::Amd => No,
        Vendor::Intel if !facts.capabilities.is_empty() => Yes,
        _ => Presumed,
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

fn history_injection(facts: &Facts) -> Affected {
    match facts.vendor {
        Vendor::Amd => No,
        _ if facts.is_immune(Capabilities::BHI_NO) => No,
        // It remains where enhanced IBRS keeps user code from choosing the kernel's targets.
        Vendor::Intel if facts.is_immune(Capabilities::IBRS_ALL) => Yes,
        _ => Presumed,
    }
}

fn store_bypass(facts: &Facts) -> Affected {
    let old_amd = facts.vendor == Vendor::Amd && facts.family < 0x17;
    let says_no = facts.is_immune(Capabilities::SSB_NO) || facts.controls.contains(Controls::SSB_NO);
    if says_no || old_amd { No } else { Presumed }
}

/// Judges a weakness of some of Intel's models. Before the model counts what the CPU says: that it
/// is immune, or that it has a control against the weakness.
fn reported(facts: &Facts, immune: Capabilities, control: Capabilities, models: [Known; 2]) -> Affected {
    let [affected, free] = models;
    match facts.capabilities {
        says if says.contains(immune) => No,
        says if says.intersects(control) => Yes,
        _ => by_model(facts, affected, free),
    }
}

fn retbleed(facts: &Facts) -> Affected {
    match facts.vendor {
        Vendor::Amd if facts.controls.contains(Controls::BTC_NO) => No,
        // Bulldozer to Zen 2; 0x18 is Hygon's Zen.
        Vendor::Amd if (0x15..=0x18).contains(&facts.family) => Yes,
        // The CPU says that returns may be predicted by what indirect branches trained.
        _ if facts.is_immune(Capabilities::RSBA) => Yes,
        _ => by_model(facts, Known::RETBLEED, Known::empty()),
    }
}

fn return_stack(facts: &Facts) -> Affected {
    match facts.vendor {
        Vendor::Intel => No,
        _ if facts.controls.contains(Controls::SRSO_NO) => No,
        Vendor::Amd if facts.family < 0x17 => No,
        // Zen to Zen 5.
        Vendor::Amd if facts.family <= 0x1a => Yes,
        _ => Presumed,
    }
}

fn indirect_targets(facts: &Facts) -> Affected {
    // No affected CPU can disable the use of branch histories.
    if facts.is_immune(Capabilities::ITS_NO) || facts.controls.contains(Controls::BHI_DIS_S) {
        return No;
    }
    match by_model(facts, Known::ITS, Known::empty()) {
        // A guest may be moved to an affected CPU.
        No if facts.hypervisor && facts.vendor == Vendor::Intel => Presumed,
        other => other,
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
    } else if facts.controls.contains(Controls::IBRS) && facts.is_immune(Capabilities::IBRS_ALL) {
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
