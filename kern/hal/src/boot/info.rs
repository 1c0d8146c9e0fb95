//! The boot loader's information: memory map, command line, module, RSDP, text screen.
//!
//! The readers of both boot protocols copy the information into one [`BootInfo`]. GRUB may have put
//! its information anywhere, even right after the boot segment, so the kernel must copy it before
//! it allocates anything. All reads go through [`PhysMem`], so that broken tables lead to an error,
//! and so that the parsers run under `cargo test`.

use crate::dev::screen;
use crate::layout::PAGE;
use crate::mem::ranges::Range;

/// `%eax` at the PVH entry (set by the entry code; PVH itself leaves it undefined).
pub const PVH_BOOT: u32 = 0x336e_c578;
/// `%eax` at the multiboot2 entry.
pub const MULTIBOOT2_BOOT: u32 = 0x36d7_6289;
/// First word of the PVH start information.
const PVH_INFO: u32 = 0x336e_c578;

/// Longest command line that is kept.
pub const MAX_COMMAND_LINE: usize = 2048;
/// Most memory map entries that are kept.
pub const MAX_REGIONS: usize = 192;
/// Where a PC shows text: [`COLUMNS`](crate::dev::screen::COLUMNS) by
/// [`ROWS`](crate::dev::screen::ROWS) cells of two bytes.
pub const TEXT_SCREEN: u64 = 0xb_8000;
/// `framebuffer_type` of a text screen (multiboot2).
const EGA_TEXT: u8 = 2;
/// Size of an RSDP of ACPI 2 and later.
const RSDP_SIZE: usize = 36;

/// Physical memory as the parsers see it: gives the bytes at an address, so many, if they are
/// readable.
pub type PhysMem<'m> = &'m dyn Fn(u64, usize) -> Option<&'m [u8]>;

/// What a range of physical addresses holds. The numbers are E820's, in both protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    Usable,
    Reserved,
    AcpiTables,
    AcpiNvs,
    Bad,
}

impl RegionKind {
    fn from_e820(kind: u32) -> RegionKind {
        match kind {
            1 => RegionKind::Usable,
            3 => RegionKind::AcpiTables,
            4 => RegionKind::AcpiNvs,
            5 => RegionKind::Bad,
            _ => RegionKind::Reserved,
        }
    }

    /// Returns whether a region of this kind is RAM that the direct map shows.
    pub fn is_ram(self) -> bool {
        matches!(self, RegionKind::Usable | RegionKind::AcpiTables | RegionKind::AcpiNvs)
    }
}

/// One entry of the memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    pub range: Range,
    pub kind: RegionKind,
}

/// Where the ACPI root pointer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RootPointer {
    Unknown,
    At(u64),
    /// The loader gave a copy of it (multiboot2).
    Copy([u8; RSDP_SIZE]),
}

/// Why the loader's information can't be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InfoError {
    #[error("started neither by PVH nor by multiboot2 (magic {0:#x})")]
    UnknownLoader(u32),
    #[error("PVH start information has magic {0:#x}")]
    BadMagic(u32),
    /// A table of the loader lies outside memory; holds its address.
    #[error("the boot loader's information at {0:#x} can't be read")]
    Unreadable(u64),
    #[error("the boot loader gave no memory map")]
    NoMemoryMap,
}

/// The loader's information, copied.
pub struct BootInfo {
    /// Its name; `None` before its information is read.
    pub loader: Option<&'static str>,
    pub regions: heapless::Vec<Region, MAX_REGIONS>,
    /// Regions that did not fit; memory they describe is not used.
    pub regions_lost: usize,
    /// The first module: the boot archive.
    pub module: Option<Range>,
    pub root_pointer: RootPointer,
    /// The loader left a PC's text screen on.
    text_screen: bool,
    command_line: heapless::Vec<u8, MAX_COMMAND_LINE>,
    /// Whether the command line was longer than what is kept.
    pub command_line_cut: bool,
}

/// Where a PC has the controllers that take devices' interrupts (IOAPICs), which firmware may list
/// elsewhere, too; and where CPUs see their own one, unless it was moved, and messages become
/// interrupts. A write there can interrupt any CPU with any vector.
const INTERRUPTS: [u64; 2] = [0xfec0_0000, 0xfee0_0000];
const INTERRUPTS_SIZE: u64 = 1 << 20;

impl BootInfo {
    /// Returns whether a range has no memory, as far as the loader knows, and no interrupt
    /// controller. Reserved ranges may be a device's, too. Firmware's tables count as a device: the
    /// kernel reads them at boot, and nobody afterwards. If the memory map was cut short, returns
    /// false for every range.
    pub fn is_device(&self, range: Range) -> bool {
        let is_memory = |region: &Region| {
            !matches!(region.kind, RegionKind::Reserved | RegionKind::AcpiTables)
                && region.range.pages_around().overlaps(range)
        };
        let controllers = INTERRUPTS.map(|at| Range::sized(at, INTERRUPTS_SIZE));
        self.regions_lost == 0
            && !self.regions.iter().any(is_memory)
            && !controllers.into_iter().flatten().any(|controllers| controllers.overlaps(range))
    }

    pub const fn new() -> BootInfo {
        BootInfo {
            loader: None,
            regions: heapless::Vec::new(),
            regions_lost: 0,
            module: None,
            root_pointer: RootPointer::Unknown,
            text_screen: false,
            command_line: heapless::Vec::new(),
            command_line_cut: false,
        }
    }

    /// Returns the page of the text screen, if it is to be used, the loader left one on, and no
    /// memory is there.
    pub fn text_screen(&self) -> Option<Range> {
        let is_wanted = option(self.command_line(), "screen") != Some("off");
        Range::sized(TEXT_SCREEN, PAGE).filter(|page| is_wanted && self.text_screen && self.is_device(*page))
    }

    /// Returns the command line as text, up to the first byte that isn't.
    pub fn command_line(&self) -> &str {
        match core::str::from_utf8(&self.command_line) {
            Ok(text) => text,
            Err(e) => core::str::from_utf8(&self.command_line[..e.valid_up_to()]).unwrap_or(""),
        }
    }

    /// Reads the loader's information, to which `magic` and `info` (the registers at entry) lead.
    pub fn read(&mut self, magic: u32, info: u32, mem: PhysMem<'_>) -> Result<(), InfoError> {
        match magic {
            PVH_BOOT => self.read_pvh(info.into(), mem)?,
            MULTIBOOT2_BOOT => self.read_multiboot2(info.into(), mem)?,
            other => return Err(InfoError::UnknownLoader(other)),
        }
        if self.regions.is_empty() { Err(InfoError::NoMemoryMap) } else { Ok(()) }
    }

    fn read_pvh(&mut self, at: u64, mem: PhysMem<'_>) -> Result<(), InfoError> {
        self.loader = Some("PVH");
        // struct hvm_start_info: magic, version, flags, nr_modules (u32 each); modlist, cmdline,
        // rsdp, memmap (u64 each); memmap_entries, reserved (u32 each).
        let start = Reader::new(at, 56, mem)?;
        match start.u32(0) {
            PVH_INFO => (),
            other => return Err(InfoError::BadMagic(other)),
        }
        if start.u32(12) > 0 {
            // struct hvm_modlist_entry: paddr, size, cmdline, reserved (u64 each)
            let module = Reader::new(start.u64(16), 32, mem)?;
            self.module = Range::sized(module.u64(0), module.u64(8));
        }
        self.copy_command_line(start.u64(24), mem);
        if start.u64(32) != 0 {
            self.root_pointer = RootPointer::At(start.u64(32));
        }
        let (map, entries) = (start.u64(40), u64::from(start.u32(48)));
        for i in 0..entries {
            // struct hvm_memmap_table_entry: addr, size (u64); type, reserved (u32)
            let entry = Reader::new(map + 24 * i, 24, mem)?;
            self.add_region(entry.u64(0), entry.u64(8), entry.u32(16));
        }
        Ok(())
    }

    fn read_multiboot2(&mut self, at: u64, mem: PhysMem<'_>) -> Result<(), InfoError> {
        self.loader = Some("multiboot2");
        let total = u64::from(Reader::new(at, 8, mem)?.u32(0));
        let mut offset = 8;
        while offset + 8 <= total {
            let head = Reader::new(at + offset, 8, mem)?;
            let (kind, size) = (head.u32(0), head.u32(4) as usize);
            if kind == 0 || size < 8 {
                break;
            }
            let tag = Reader::new(at + offset, size, mem)?;
            self.read_tag(kind, &tag, mem);
            offset += (size as u64).next_multiple_of(8);
        }
        Ok(())
    }

    fn read_tag(&mut self, kind: u32, tag: &Reader<'_>, mem: PhysMem<'_>) {
        match kind {
            1 => self.copy_command_line(tag.at + 8, mem),
            3 if tag.bytes.len() >= 16 => {
                self.module = self.module.or(Range::new(tag.u32(8).into(), tag.u32(12).into()));
            }
            6 if tag.bytes.len() >= 16 => {
                let entry_size = (tag.u32(8) as usize).max(24);
                let mut at = 16;
                while at + 24 <= tag.bytes.len() {
                    self.add_region(tag.u64(at), tag.u64(at + 8), tag.u32(at + 16));
                    at += entry_size;
                }
            }
            8 if tag.bytes.len() >= 30 => {
                // framebuffer_addr (u64); pitch, width, height (u32 each); bpp, type (u8 each)
                let shape = [tag.u32(16), tag.u32(20), tag.u32(24)];
                let is_usual = tag.u64(8) == TEXT_SCREEN && shape == screen::SHAPE;
                self.text_screen = is_usual && tag.bytes[29] == EGA_TEXT;
            }
            // A copy of the old (14) or the new (15) root pointer; the new one wins.
            14 if self.root_pointer == RootPointer::Unknown => self.copy_root_pointer(tag),
            15 => self.copy_root_pointer(tag),
            _ => (),
        }
    }

    fn copy_root_pointer(&mut self, tag: &Reader<'_>) {
        let mut copy = [0; RSDP_SIZE];
        let given = &tag.bytes[8..];
        let len = given.len().min(RSDP_SIZE);
        copy[..len].copy_from_slice(&given[..len]);
        self.root_pointer = RootPointer::Copy(copy);
    }

    fn copy_command_line(&mut self, at: u64, mem: PhysMem<'_>) {
        if at == 0 {
            return;
        }
        self.command_line.clear();
        let mut next = at;
        while let Some(&[byte]) = mem(next, 1) {
            if byte == 0 {
                return;
            }
            if self.command_line.push(byte).is_err() {
                self.command_line_cut = true;
                return;
            }
            next += 1;
        }
    }

    fn add_region(&mut self, at: u64, size: u64, kind: u32) {
        let Some(range) = Range::sized(at, size) else {
            return;
        };
        let region = Region { range, kind: RegionKind::from_e820(kind) };
        if self.regions.push(region).is_err() {
            self.regions_lost += 1;
        }
    }
}

/// A loader's structure; offsets are checked by the caller's `len`.
struct Reader<'m> {
    at: u64,
    bytes: &'m [u8],
}

impl<'m> Reader<'m> {
    fn new(at: u64, len: usize, mem: PhysMem<'m>) -> Result<Reader<'m>, InfoError> {
        let bytes = mem(at, len).ok_or(InfoError::Unreadable(at))?;
        Ok(Reader { at, bytes })
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(core::array::from_fn(|byte| self.bytes[offset + byte]))
    }

    fn u64(&self, offset: usize) -> u64 {
        u64::from(self.u32(offset)) | u64::from(self.u32(offset + 4)) << 32
    }
}

/// Returns the value of `key=value` in a command line; the last one counts.
pub fn option<'a>(command_line: &'a str, key: &str) -> Option<&'a str> {
    command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.split_once('='))
        .filter(|(k, _)| *k == key)
        .map(|(_, value)| value)
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Reads what a loader left at `at`, in memory that has `bytes` from `base` on.
    fn read(magic: u32, at: u64, base: u64, bytes: &[u8]) -> Result<BootInfo, InfoError> {
        let mut info = BootInfo::new();
        info.read(magic, at as u32, &|at, len| {
            let start = at.checked_sub(base)? as usize;
            bytes.get(start..start.checked_add(len)?)
        })?;
        Ok(info)
    }

    fn put32(to: &mut Vec<u8>, words: &[u32]) {
        for w in words {
            to.extend_from_slice(&w.to_le_bytes());
        }
    }

    fn put64(to: &mut Vec<u8>, words: &[u64]) {
        for w in words {
            to.extend_from_slice(&w.to_le_bytes());
        }
    }

    #[test]
    fn device_memory_is_what_is_no_ram() {
        let mut info = BootInfo::new();
        for (start, end, kind) in [
            (0, 0x9_fc00, RegionKind::Usable),
            (0x9_fc00, 0xa_0000, RegionKind::Reserved),
            (0xf_0000, 0x10_0000, RegionKind::Reserved),
            (0x10_0000, 0x1ffd_f000, RegionKind::Usable),
            (0x1ffd_f000, 0x1ffe_f800, RegionKind::AcpiTables),
            (0x1ffe_f800, 0x2000_0000, RegionKind::AcpiNvs),
            (0xb000_0000, 0xc000_0000, RegionKind::Reserved),
        ] {
            info.regions.push(Region { range: Range::new(start, end).unwrap(), kind }).ok().unwrap();
        }
        let device = |at: u64, pages: u64| info.is_device(Range::sized(at, pages * 0x1000).unwrap());
        assert!(device(0xfed0_0000, 1), "in no region");
        assert!(!device(0xfec0_0000, 1) && !device(0xfecf_f000, 1), "IOAPICs");
        assert!(device(0xb000_0000, 512), "reserved");
        assert!(device(0xa_0000, 32), "the old screen");
        assert!(!device(0x9_f000, 1), "a page of which a part is RAM");
        assert!(!device(0x1000, 1) && !device(0x20_0000, 1) && !device(0x1fff_f000, 1));
        assert!(!device(0x1fff_f000, 2), "the end of RAM is in it");
        assert!(device(0x2000_0000, 1));
        assert!(device(0x1ffd_f000, 16), "firmware's tables");
        assert!(!device(0x1ffd_e000, 2) && !device(0x1ffe_f000, 1), "memory beside them");
        assert!(!device(0xfee0_0000, 1) && !device(0xfedf_f000, 2) && !device(0xfeef_f000, 1));
        info.regions_lost = 1;
        assert!(
            !info.is_device(Range::sized(0xfed0_0000, 0x1000).unwrap()),
            "nobody knows what else there is"
        );
    }

    #[test]
    fn pvh_start_info() {
        let base = 0x1000;
        let mut b = Vec::new();
        put32(&mut b, &[PVH_INFO, 1, 0, 1]);
        put64(&mut b, &[base + 56, base + 136, 0xf5a0, base + 88]);
        put32(&mut b, &[2, 0]);
        put64(&mut b, &[0x20_0000, 0x3000, 0, 0]);
        put64(&mut b, &[0, 0x9_fc00]);
        put32(&mut b, &[1, 0]);
        put64(&mut b, &[0xf_0000, 0x1_0000]);
        put32(&mut b, &[2, 0]);
        b.extend_from_slice(b"log=e9 run=bench log=off\0");
        let info = read(PVH_BOOT, base, base, &b).unwrap();
        assert_eq!(info.module, Range::new(0x20_0000, 0x20_3000));
        assert_eq!(info.root_pointer, RootPointer::At(0xf5a0));
        assert_eq!(info.regions.len(), 2);
        assert_eq!(info.regions[1].kind, RegionKind::Reserved);
        assert_eq!(info.command_line(), "log=e9 run=bench log=off");
        assert_eq!(option(info.command_line(), "log"), Some("off"));
        assert_eq!(option(info.command_line(), "idle"), None);
    }

    #[test]
    fn multiboot2_tags() {
        let base = 0x2000;
        let mut b = Vec::new();
        put32(&mut b, &[0, 0]);
        put32(&mut b, &[1, 8 + 6]);
        b.extend_from_slice(b"a=b c\0\0\0");
        put32(&mut b, &[3, 17, 0x40_0000, 0x40_1800, 0, 0]);
        put32(&mut b, &[6, 16 + 24, 24, 0]);
        put64(&mut b, &[0x10_0000, 0x700_0000]);
        put32(&mut b, &[1, 0]);
        put32(&mut b, &[14, 28]);
        b.extend_from_slice(b"RSD PTR 0123456789ab");
        b.extend_from_slice(&[0; 4]);
        put32(&mut b, &[0, 8]);
        let total = b.len() as u32;
        b[..4].copy_from_slice(&total.to_le_bytes());
        let info = read(MULTIBOOT2_BOOT, base, base, &b).unwrap();
        assert_eq!(info.command_line(), "a=b c");
        assert_eq!(info.module, Range::new(0x40_0000, 0x40_1800));
        assert_eq!(info.regions[0].range, Range::new(0x10_0000, 0x710_0000).unwrap());
        assert!(matches!(info.root_pointer, RootPointer::Copy(c) if c.starts_with(b"RSD PTR ")));
    }

    /// Makes the boot information of a screen, as a loader describes it.
    fn told_of(at: u64, shape: [u32; 3], kind: u32) -> BootInfo {
        let base = 0x2000;
        let mut b = Vec::new();
        put32(&mut b, &[0, 0, 6, 16 + 24, 24, 0]);
        put64(&mut b, &[0x10_0000, 0x700_0000]);
        put32(&mut b, &[1, 0, 8, 31]);
        put64(&mut b, &[at]);
        put32(&mut b, &shape);
        put32(&mut b, &[16 | kind << 8, 0, 0, 8]);
        let total = b.len() as u32;
        b[..4].copy_from_slice(&total.to_le_bytes());
        read(MULTIBOOT2_BOOT, base, base, &b).unwrap()
    }

    #[test]
    fn a_text_screen_is_one_that_the_loader_says_is_on() {
        let mut info = told_of(TEXT_SCREEN, screen::SHAPE, 2);
        assert_eq!(info.text_screen(), Range::sized(TEXT_SCREEN, PAGE));
        info.command_line.extend_from_slice(b"screen=off").unwrap();
        assert_eq!(info.text_screen(), None, "nobody wants it");
        info.command_line.clear();
        info.add_region(0, 0x10_0000, 1);
        assert_eq!(info.text_screen(), None, "it is memory");
        for (at, shape, kind) in [
            (0xa_0000, screen::SHAPE, 2),
            (0xe000_0000, [4096, 1024, 768], 1),
            (TEXT_SCREEN, [80, 40, 25], 2),
            (TEXT_SCREEN, screen::SHAPE, 1),
        ] {
            assert_eq!(told_of(at, shape, kind).text_screen(), None, "{at:#x} {shape:?} {kind}");
        }
        assert_eq!(BootInfo::new().text_screen(), None);
    }

    #[test]
    fn broken_tables_are_errors() {
        let error = |magic, at| read(magic, at, 0x1000, &[0; 64]).err();
        assert_eq!(error(1, 0), Some(InfoError::UnknownLoader(1)));
        assert_eq!(error(PVH_BOOT, 0x1000), Some(InfoError::BadMagic(0)));
        assert_eq!(error(PVH_BOOT, 0x9000), Some(InfoError::Unreadable(0x9000)));
        assert_eq!(error(MULTIBOOT2_BOOT, 0x1000), Some(InfoError::NoMemoryMap));
    }
}
