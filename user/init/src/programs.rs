//! Which rights to the machine each program gets. This is a table here, as long as there is no
//! description of a system.

use abi::{MachineRights, Rights, machine_rights};
use user_rt::views::{Allows, Grant, Range};

/// What a program may do.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    pub name: &'static str,
    /// With the machine.
    pub machine: MachineRights,
    /// Views of sensitive memory that it may ask for.
    pub views: &'static [Grant],
    /// It starts other programs: it is given the boot archive in place of its own file.
    pub starts_others: bool,
}

/// Log, report results, and read counters; and let children do so.
const COUNTS: MachineRights = MachineRights::REPORT.union(machine_rights::INFO).with(Rights::GRANT);
/// And export the kernel's state.
const DUMPS: MachineRights = COUNTS.union(machine_rights::DUMP);

/// A program that is not in the table.
const OTHERS: Description = Description { name: "", machine: COUNTS, views: &[], starts_others: false };

/// Where a PC has its timer, of which a scenario reads a register.
const HPET: Range = Range::at(0xfed0_0000, 1);

/// Describes the bench, by each of its names: some of its rows pin frames and set labels.
const fn bench(name: &'static str) -> Description {
    Description { name, machine: COUNTS.union(machine_rights::DMA).union(machine_rights::SECURITY), ..OTHERS }
}

const TABLE: [Description; 9] = [
    bench("bench"),
    bench("samples"),
    bench("tables"),
    // Its tests make frames of device memory, pin frames, and set labels.
    Description {
        name: "kerntest",
        machine: DUMPS
            .union(machine_rights::DEVICE)
            .union(machine_rights::DMA)
            .union(machine_rights::SECURITY),
        ..OTHERS
    },
    Description { name: "stress", machine: DUMPS, ..OTHERS },
    // Its rooms have labels.
    Description { name: "fuzz", machine: DUMPS.union(machine_rights::SECURITY), ..OTHERS },
    // Its workers pin frames.
    Description { name: "torture", machine: DUMPS.union(machine_rights::DMA), ..OTHERS },
    Description {
        name: "paging",
        views: &[Grant { range: HPET, allows: Allows::READ }],
        starts_others: true,
        ..OTHERS
    },
    // Its policy watches CPUs, and it exports the kernel's state.
    Description {
        name: "policies",
        machine: DUMPS.union(machine_rights::SECURITY),
        starts_others: true,
        ..OTHERS
    },
];

pub fn of(name: &str) -> &'static Description {
    TABLE.iter().find(|description| description.name == name).unwrap_or(&OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_tests_have_all_devices() {
        let devices = machine_rights::DEVICE
            .union(machine_rights::DMA)
            .union(machine_rights::EXIT)
            .union(machine_rights::SECURITY);
        for name in ["scale", "stress", "paging", "pager", "anything"] {
            assert_eq!(of(name).machine.minus(devices), of(name).machine, "{name}");
        }
        let torture = of("torture").machine;
        assert_eq!(torture.minus(devices.minus(machine_rights::DMA)), torture, "it pins, and nothing else");
        let fuzz = of("fuzz").machine;
        assert_eq!(
            fuzz.minus(devices.minus(machine_rights::SECURITY)),
            fuzz,
            "it sets labels, and nothing else"
        );
        for name in ["bench", "samples", "tables"] {
            let Description { machine, views, .. } = of(name);
            let kept = devices.minus(machine_rights::DMA.union(machine_rights::SECURITY));
            assert_eq!(machine.minus(kept), *machine, "{name} pins and sets labels, and nothing else");
            assert!(views.is_empty());
        }
    }
}
