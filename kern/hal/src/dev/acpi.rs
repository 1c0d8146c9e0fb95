//! Firmware tables: the CPUs (MADT); the ACPI timer, and where power is controlled (FADT).
//!
//! The kernel uses the `acpi` crate only to read tables: it runs no ACPI byte code and accesses no
//! ACPI registers through the crate.

use core::ptr::NonNull;

use abi::{PortWrite, Power};
use acpi::address::{AddressSpace, GenericAddress};
use acpi::rsdp::Rsdp;
use acpi::sdt::fadt::Fadt;
use acpi::sdt::madt::{Madt, MadtEntry};
use acpi::{AcpiTable, AcpiTables, Handler, PciAddress, RawPhysicalMapping};

use crate::boot::info::RootPointer;
use crate::boot::madt::is_well_formed;
use crate::dev::log::Shown;
use crate::layout::DIRECT_MAP;
use crate::mem::kernel;
use crate::mem::ranges::Range;
use crate::warn;

/// Gives the `acpi` crate the tables it asks for.
#[derive(Clone, Copy)]
pub struct Firmware;

macro_rules! tables_only {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)*) => {
        $(fn $name(&self, $($arg: $ty),*) $(-> $ret)? {
            $(let _ = $arg;)*
            panic!(concat!("ACPI ", stringify!($name), ": the kernel reads ACPI tables only"))
        })*
    };
}

impl Handler for Firmware {
    unsafe fn map_physical_region<T>(&self, at: usize, size: usize) -> RawPhysicalMapping<T> {
        let address = match Range::sized(at as u64, size as u64) {
            Some(range) if kernel::in_direct_map(range) => DIRECT_MAP + at as u64,
            _ => match kernel::map_device(at as u64, size as u64, kernel::READ_ONLY) {
                Ok(address) => address,
                Err(e) => panic!("can't map the ACPI table at {at:#x}, {size:#x} bytes: {e:?}"),
            },
        };
        let Some(start) = NonNull::new(address as *mut T) else {
            panic!("ACPI table mapped at address 0");
        };
        // SAFETY: mapped for the rest of the run, and this crate only reads it; unmapping does
        // nothing.
        unsafe { RawPhysicalMapping::new(at, start, size, size) }
    }

    unsafe fn unmap_physical_region<T>(&self, _region: RawPhysicalMapping<T>) {}

    tables_only! {
        read_u8(at: usize) -> u8;
        read_u16(at: usize) -> u16;
        read_u32(at: usize) -> u32;
        read_u64(at: usize) -> u64;
        write_u8(at: usize, value: u8);
        write_u16(at: usize, value: u16);
        write_u32(at: usize, value: u32);
        write_u64(at: usize, value: u64);
        read_io_u8(port: u16) -> u8;
        read_io_u16(port: u16) -> u16;
        read_io_u32(port: u16) -> u32;
        write_io_u8(port: u16, value: u8);
        write_io_u16(port: u16, value: u16);
        write_io_u32(port: u16, value: u32);
        read_pci_u8(address: PciAddress, offset: u16) -> u8;
        read_pci_u16(address: PciAddress, offset: u16) -> u16;
        read_pci_u32(address: PciAddress, offset: u16) -> u32;
        write_pci_u8(address: PciAddress, offset: u16, value: u8);
        write_pci_u16(address: PciAddress, offset: u16, value: u16);
        write_pci_u32(address: PciAddress, offset: u16, value: u32);
        nanos_since_boot() -> u64;
        stall(microseconds: u64);
        sleep(milliseconds: u64);
    }
}

/// The firmware's tables.
pub struct Tables(AcpiTables<Firmware>);

/// The ACPI power management timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PmTimer {
    pub port: u16,
    /// The counter has 32 bits, otherwise 24.
    pub wide: bool,
}

impl Tables {
    /// Finds the tables. Says why where it can't: the kernel then runs on one CPU.
    pub fn find(root: &RootPointer) -> Option<Tables> {
        let at = match root {
            RootPointer::At(at) => *at as usize,
            RootPointer::Copy(copy) => kernel::image_address(copy.as_ptr()) as usize,
            RootPointer::Unknown => {
                // SAFETY: a PC whose loader gave no root pointer: the BIOS areas are memory.
                match unsafe { Rsdp::search_for_on_bios(Firmware) } {
                    Ok(found) => found.raw().physical_start(),
                    Err(_) => {
                        warn!("no ACPI root pointer: one CPU only");
                        return None;
                    }
                }
            }
        };
        // SAFETY: an address that the loader named, or where the signature was found.
        match unsafe { AcpiTables::from_rsdp(Firmware, at) } {
            Ok(tables) => Some(Tables(tables)),
            Err(e) => {
                warn!(
                    "ACPI root pointer at {:#x} is unusable ({}): one CPU only",
                    at,
                    Shown(format_args!("{e:?}"))
                );
                None
            }
        }
    }

    /// Calls `f` for each processor of the MADT, in its order: with its APIC's id, and whether it
    /// is there now. Otherwise it may be added while the machine runs.
    pub fn for_each_processor(&self, mut f: impl FnMut(u32, bool)) {
        self.for_each_entry(|entry| {
            let (apic_id, flags) = match entry {
                MadtEntry::LocalApic(e) => (u32::from(e.apic_id), e.flags),
                MadtEntry::LocalX2Apic(e) => (e.x2apic_id, e.flags),
                _ => return,
            };
            let (enabled, online_capable) = (flags & 1 != 0, flags & 2 != 0);
            if enabled || online_capable {
                f(apic_id, enabled);
            }
        });
    }

    /// Calls `f` with the address of each controller that takes devices' interrupts, and the number
    /// of its first line.
    pub fn for_each_io_apic(&self, mut f: impl FnMut(u64, u32)) {
        self.for_each_entry(|entry| {
            if let MadtEntry::IoApic(e) = entry {
                f(u64::from(e.io_apic_address), e.global_system_interrupt_base);
            }
        });
    }

    fn for_each_entry(&self, f: impl FnMut(MadtEntry<'_>)) {
        let Some(madt) = self.0.find_table::<Madt>() else {
            warn!("no MADT: one CPU only");
            return;
        };
        if let Err(e) = madt.get().get_ref().validate() {
            warn!("the MADT is broken ({}), used all the same", Shown(format_args!("{e:?}")));
        }
        let length = madt.raw().region_length();
        // SAFETY: the crate has mapped `length` bytes of the table, read-only and for the rest of
        // the run.
        let bytes = unsafe { core::slice::from_raw_parts(madt.as_ptr().cast::<u8>(), length) };
        if !bytes.get(size_of::<Madt>()..).is_some_and(is_well_formed) {
            warn!("the lengths in the MADT make no sense: one CPU only");
            return;
        }
        madt.get().entries().for_each(f);
    }

    /// Returns the address of the power management timer, if there is one.
    pub fn pm_timer(&self) -> Option<PmTimer> {
        let fadt = self.0.find_table::<Fadt>()?;
        let (block, length, flags) = (fadt.pm_timer_block, fadt.pm_timer_length, fadt.flags);
        let port = u16::try_from(block).ok().filter(|&p| p != 0 && length == 4)?;
        Some(PmTimer { port, wide: flags.pm_timer_is_32_bit() })
    }

    /// Returns where the machine is switched off and reset. Registers that are no ports are left
    /// out.
    pub fn power(&self) -> Power {
        let Some(fadt) = self.0.find_table::<Fadt>() else { return Power::default() };
        let methods = self.0.dsdt().ok();
        let sleep = [fadt.pm1a_control_block().ok(), fadt.pm1b_control_block().ok().flatten()];
        let reset =
            if { fadt.flags }.supports_system_reset_via_fadt() { fadt.reset_register().ok() } else { None };
        let hand_over = u16::try_from(fadt.smi_cmd_port).unwrap_or(0);
        Power {
            methods: methods.as_ref().map_or(0, |table| table.phys_address as u64),
            methods_len: methods.as_ref().map_or(0, |table| table.length),
            sleep: sleep.map(port),
            reset: PortWrite { port: port(reset), value: fadt.reset_value.into() },
            hand_over: PortWrite { port: hand_over, value: fadt.acpi_enable.into() },
        }
    }
}

/// Returns the port of a register, or 0 if it has none.
fn port(register: Option<GenericAddress>) -> u16 {
    let register = register.filter(|register| register.address_space == AddressSpace::SystemIo);
    register.and_then(|register| u16::try_from(register.address).ok()).unwrap_or(0)
}
