//! Reads devices: their ports, memory and interrupts.

use abi::PAGE_SIZE;
use abi::devices::FIRST_MSI;

use crate::keys;
use crate::problem::Problems;
use crate::system::{Interrupt, Memory, Pci};
use crate::units::size_text;
use crate::values::{At, Entry, Fields};
use crate::written::Device;

/// The vendor number of an empty place on the PCI bus.
const NO_VENDOR: u64 = 0xffff;
/// Physical addresses have at most so many bits.
const ADDRESS_BITS: u32 = 52;

/// Reads the devices, in the order of the file.
pub fn devices(system: &Fields<'_>, problems: &mut Problems) -> Vec<Device> {
    let Some(table) = system.get("devices") else { return Vec::new() };
    let named = table.named("a device", problems);
    named.into_iter().map(|(name, entry)| device(name, &entry, problems)).collect()
}

fn device(name: At<String>, entry: &Entry<'_>, problems: &mut Problems) -> Device {
    let mut device = Device {
        name,
        about: String::new(),
        ports: Vec::new(),
        memory: Vec::new(),
        pci: None,
        power: None,
        interrupt: None,
    };
    let owner = format!("device `{}`", device.name.value);
    let Some(fields) = entry.table(owner.clone(), keys::DEVICE, problems) else { return device };
    device.about = fields.get("about").and_then(|about| about.line(problems)).unwrap_or_default();
    let ports = fields.get("ports");
    device.ports =
        ports.iter().flat_map(Entry::one_or_list).filter_map(|one| range(&one, problems)).collect();
    let memory_key = fields.get("memory");
    let memories = memory_key.iter().flat_map(Entry::one_or_list);
    device.memory = memories.filter_map(|one| memory(&owner, &one, problems)).collect();
    let pci_key = fields.get("pci");
    device.pci = pci_key.as_ref().and_then(|entry| pci(&owner, entry, problems));
    device.interrupt = fields.get("interrupt").and_then(|entry| interrupt(&owner, &entry, problems));
    let power_key = fields.get("power");
    let is_power = power_key.as_ref().and_then(|entry| entry.flag(problems)).unwrap_or(false);
    device.power = power_key.as_ref().filter(|_| is_power).map(|entry| At::new((), entry.span.clone()));
    // What tells where it is, in words and as a key.
    let teller = match (&pci_key, is_power) {
        (Some(_), _) => Some(("is on the PCI bus, which", "the bus", "pci")),
        (None, true) => Some(("is described by firmware, which", "firmware", "power")),
        (None, false) => None,
    };
    let places = [&ports, &memory_key];
    if let Some((is, who, key)) = teller {
        let also = power_key.as_ref().filter(|_| is_power && key == "pci");
        for place in places.into_iter().flatten().chain(also) {
            let title = format!("{owner} {is} tells its {}", place.name);
            let fix = format!("remove `{}`, or remove `{key}`", place.name);
            place.wrong(title, format!("{who} tells this"), fix, problems);
        }
    } else if places.iter().all(|place| place.is_none())
        && fields.get("interrupt").is_none()
        && !fields.has_unknown()
    {
        let fix = "add `ports`, `memory`, `pci`, `power` or `interrupt`";
        let problem = crate::problem::Problem::new(
            fields.span.clone(),
            format!("{owner} has nothing that a driver could use"),
            "no ports, memory or interrupt",
            fix,
        );
        problems.push(problem);
    }
    device
}

/// Reads a range of ports.
fn range(entry: &Entry<'_>, problems: &mut Problems) -> Option<At<(u16, u16)>> {
    let text = entry.text(problems)?;
    let (first, last) = text.value.split_once('-').unwrap_or((&text.value, &text.value));
    let port = |text: &str| {
        let text = text.trim();
        match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.parse::<u32>().ok(),
        }
    };
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        let fix = "write the first and the last port, as in `\"0x3f8-0x3ff\"`";
        entry.wrong(format!("`{}` is no range of ports", text.value), "not a range", fix, problems);
        return None;
    };
    let most = u32::from(u16::MAX);
    if first > most || last > most {
        let fix = "ports are from 0 to 0xffff; a memory address belongs to `memory`";
        entry.wrong(format!("there are no ports `{}`", text.value), "out of range", fix, problems);
        return None;
    }
    if first > last {
        let fix = format!("write `\"{last:#x}-{first:#x}\"`");
        entry.wrong("a range of ports ends before it begins", "the first is larger", fix, problems);
        return None;
    }
    Some(At::new((first as u16, last as u16), text.span))
}

/// Reads a range of memory.
fn memory(owner: &str, entry: &Entry<'_>, problems: &mut Problems) -> Option<At<Memory>> {
    let fields = entry.table(format!("memory of {owner}"), keys::MEMORY, problems)?;
    let at_key = fields.need("at", problems);
    let at = at_key.as_ref().and_then(|at| at.number(0..=(1 << ADDRESS_BITS) - 1, problems));
    let size_key = fields.need("size", problems);
    let size = size_key.as_ref().and_then(|size| size.size(problems));
    let access = fields.get("access").map(|access| access.word(&["read", "write"], problems));
    let write_combining = is_write_combining(&fields, problems);
    let (at, size) = (at?, size?);
    if at.value % PAGE_SIZE != 0 {
        let below = at.value - at.value % PAGE_SIZE;
        let fix = format!("write `\"{below:#x}\"`, and add to the size what lies before the device");
        let entry = at_key.expect("it was read");
        entry.wrong("device memory begins inside a page", "no multiple of 0x1000", fix, problems);
    }
    if size.value % PAGE_SIZE != 0 {
        let fix = format!("write `\"{}\"`", size_text(size.value.next_multiple_of(PAGE_SIZE)));
        let entry = size_key.expect("it was read");
        entry.wrong("device memory ends inside a page", "no multiple of 4 KiB", fix, problems);
    }
    let pages = u32::try_from(size.value / PAGE_SIZE).unwrap_or(u32::MAX);
    let write = access.flatten().is_none_or(|access| access.value == "write");
    Some(At::new(Memory { at: at.value, pages, write, write_combining }, entry.span.clone()))
}

/// Reads whether device memory is mapped write-combining.
fn is_write_combining(fields: &Fields<'_>, problems: &mut Problems) -> bool {
    let cache = fields.get("cache").and_then(|cache| cache.word(&["uncached", "write-combining"], problems));
    cache.is_some_and(|cache| cache.value == "write-combining")
}

/// Reads how a device is found on the bus.
fn pci(owner: &str, entry: &Entry<'_>, problems: &mut Problems) -> Option<At<Pci>> {
    let fields = entry.table(format!("`pci` of {owner}"), keys::PCI, problems)?;
    let vendor = fields.need("vendor", problems).and_then(|entry| entry.number(0..=NO_VENDOR - 1, problems));
    let device = fields.need("device", problems).and_then(|entry| entry.number(0..=0xffff, problems));
    let write_combining = is_write_combining(&fields, problems);
    let (vendor, device) = (vendor?.value as u16, device?.value as u16);
    Some(At::new(Pci { vendor, device, write_combining }, entry.span.clone()))
}

/// Reads an interrupt line.
fn interrupt(owner: &str, entry: &Entry<'_>, problems: &mut Problems) -> Option<At<Interrupt>> {
    let fields = entry.table(format!("`interrupt` of {owner}"), keys::INTERRUPT, problems)?;
    let number =
        fields.need("line", problems).and_then(|line| line.number(0..=u64::from(FIRST_MSI - 1), problems));
    let trigger = fields.get("trigger").and_then(|entry| entry.word(&["edge", "level"], problems));
    let polarity = fields.get("polarity").and_then(|entry| entry.word(&["high", "low"], problems));
    let level = trigger.is_some_and(|trigger| trigger.value == "level");
    let low = polarity.is_some_and(|polarity| polarity.value == "low");
    let number = number?;
    // The line's own place: two devices may claim it.
    Some(At::new(Interrupt::Line { number: number.value as u16, level, low }, number.span))
}
