//! Intel's models, for weaknesses that affected CPUs do not all report. The source is Intel's list
//! of affected processors.

use bitflags::bitflags;
use core::ops::RangeInclusive;

use super::facts::Facts;

bitflags! {
    /// What is known of a model.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Known: u8 {
        const LAZY_FP = 1 << 0;
        const NO_LAZY_FP = 1 << 1;
        const MMIO = 1 << 2;
        const NO_MMIO = 1 << 3;
        const RFDS = 1 << 4;
        const RETBLEED = 1 << 5;
        const GDS = 1 << 6;
        const ITS = 1 << 7;
    }
}

/// Model, steppings, and what is known of them.
type Row = (&'static [u8], RangeInclusive<u8>, Known);

const ANY: RangeInclusive<u8> = 0..=0xf;
const HASWELL: Known = Known::LAZY_FP;
const HASWELL_SERVER: Known = HASWELL.union(Known::MMIO);
const SKYLAKE: Known = HASWELL_SERVER.union(Known::RETBLEED).union(Known::GDS);
const CASCADE_LAKE: Known = SKYLAKE.union(Known::ITS);
const ICE_LAKE_SERVER: Known = Known::MMIO.union(Known::GDS).union(Known::ITS);
const ICE_LAKE: Known = ICE_LAKE_SERVER.union(Known::RETBLEED);
const TIGER_LAKE: Known = Known::GDS.union(Known::ITS).union(Known::NO_MMIO);
const ALDER_LAKE: Known = Known::RFDS.union(Known::NO_MMIO);
const GOLDMONT: Known = ALDER_LAKE.union(Known::NO_LAZY_FP);
const TREMONT: Known = Known::RFDS.union(Known::MMIO);

/// Family 6. Retbleed, GDS, RFDS and ITS are in no other of these models.
const MODELS: [Row; 22] = [
    // Haswell, Broadwell.
    (&[0x3c, 0x45, 0x46, 0x3d, 0x47], ANY, HASWELL),
    (&[0x3f, 0x4f, 0x56], ANY, HASWELL_SERVER),
    // Skylake, Cascade Lake.
    (&[0x4e, 0x5e], ANY, SKYLAKE),
    (&[0x55], 0..=5, SKYLAKE),
    (&[0x55], 6..=0xf, CASCADE_LAKE),
    // Kaby, Coffee, Whiskey, Comet, Cannon Lake.
    (&[0x8e], 0..=0xb, SKYLAKE),
    (&[0x8e], 0xc..=0xf, CASCADE_LAKE),
    (&[0x9e], 0..=0xc, SKYLAKE),
    (&[0x9e], 0xd..=0xf, CASCADE_LAKE),
    (&[0xa5], ANY, ICE_LAKE),
    (&[0xa6], 0..=0, ICE_LAKE.difference(Known::GDS)),
    (&[0xa6], 1..=0xf, ICE_LAKE),
    (&[0x66], ANY, Known::RETBLEED),
    // Ice, Rocket, Tiger Lake, Lakefield.
    (&[0x7d, 0x7e, 0xa7], ANY, ICE_LAKE),
    (&[0x6a, 0x6c], ANY, ICE_LAKE_SERVER),
    (&[0x8c, 0x8d], ANY, TIGER_LAKE),
    (&[0x8a], ANY, Known::MMIO.union(Known::RETBLEED)),
    // Alder, Raptor Lake and their small cores; Sapphire, Emerald Rapids.
    (&[0x97, 0x9a], ANY, ALDER_LAKE),
    (&[0xbe, 0xb7, 0xba, 0xbf], ANY, Known::RFDS),
    (&[0x8f, 0xcf], ANY, Known::empty()),
    // Goldmont, Goldmont Plus, Tremont.
    (&[0x5c, 0x5f, 0x7a], ANY, GOLDMONT),
    (&[0x86, 0x96, 0x9c], ANY, TREMONT),
];

/// Returns what Intel has published about the CPU model of `facts`; `None` if nothing is known.
pub fn known(facts: &Facts) -> Option<Known> {
    let row = MODELS.iter().find(|(models, steppings, _)| {
        facts.family == 6 && models.contains(&facts.model) && steppings.contains(&facts.stepping)
    });
    row.map(|(_, _, known)| *known)
}
