//! ELF images: their segments, page by page, checked before anything is made.
//!
//! Accepts only programs like those of this system: static x86-64 executables whose loadable
//! segments are in the image range, share no page, and are never both writable and executable.

use core::fmt;

use abi::PAGE_SIZE;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;

use crate::cap::Access;

/// Loadable segments of one image at most.
pub const SEGMENTS_MAX: usize = 8;
/// Images lie between these addresses.
const LOWEST: u64 = 0x1_0000;
const HIGHEST: u64 = abi::BOOT_PAGE_VA;

/// Why an image cannot be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// Not a 64-bit ELF file, or cut short.
    NotElf,
    /// For another machine, or not an executable.
    NotForUs,
    /// Wants a dynamic linker.
    Dynamic,
    TooManySegments,
    /// A segment is writable and executable.
    WriteExecute,
    /// A segment lies outside the image range.
    OutOfRange,
    /// Two segments share a page, or are not in order.
    Overlap,
    /// More bytes in the file than in memory, or not in the file at all.
    BadSize,
    /// The entry point is not in an executable segment.
    BadEntry,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ImageError::NotElf => "not a 64-bit ELF file",
            ImageError::NotForUs => "not an x86-64 executable",
            ImageError::Dynamic => "dynamically linked",
            ImageError::TooManySegments => "more loadable segments than supported",
            ImageError::WriteExecute => "a segment is writable and executable",
            ImageError::OutOfRange => "a segment lies outside the image's address range",
            ImageError::Overlap => "segments share a page or are out of order",
            ImageError::BadSize => "a segment's bytes are not all in the file",
            ImageError::BadEntry => "the entry point is not executable",
        })
    }
}

impl core::error::Error for ImageError {}

/// One loadable segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    address: u64,
    memory: u64,
    data: &'a [u8],
    /// Where the data is in the file.
    offset: u64,
    pub access: Access,
}

impl<'a> Segment<'a> {
    /// Returns the address of the segment's first page.
    pub fn first_page(&self) -> u64 {
        self.address & !(PAGE_SIZE - 1)
    }

    fn end(&self) -> u64 {
        self.address + self.memory
    }

    pub fn pages(&self) -> u32 {
        ((self.end() - self.first_page()).div_ceil(PAGE_SIZE)) as u32
    }

    /// Returns offset and length of the file's bytes that begin with the segment's first page;
    /// zeroes follow them. `None` if the file does not have the beginning of that page.
    pub fn in_file(&self) -> Option<(u64, u64)> {
        let lead = self.address - self.first_page();
        Some((self.offset.checked_sub(lead)?, lead + self.data.len() as u64))
    }

    /// Returns the file's bytes for the segment's page number `page`, and their offset in the page.
    /// The rest of the page is zero.
    pub fn page(&self, page: u32) -> (usize, &'a [u8]) {
        let lead = self.address - self.first_page();
        let start = u64::from(page) * PAGE_SIZE;
        let from = start.saturating_sub(lead).min(self.data.len() as u64) as usize;
        let to = (start + PAGE_SIZE).saturating_sub(lead).min(self.data.len() as u64) as usize;
        let offset = if page == 0 { lead as usize } else { 0 };
        (offset, &self.data[from..to])
    }
}

/// An image that can be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub entry: u64,
    segments: [Option<Segment<'a>>; SEGMENTS_MAX],
    /// The whole file.
    pub file: &'a [u8],
}

impl<'a> Image<'a> {
    pub fn parse(file: &'a [u8]) -> Result<Image<'a>, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::NotElf)?;
        let header = elf.ehdr;
        if header.class != Class::ELF64 {
            return Err(ImageError::NotElf);
        }
        if header.e_machine != EM_X86_64 || header.e_type != ET_EXEC {
            return Err(ImageError::NotForUs);
        }
        let mut image = Image { entry: header.e_entry, segments: [None; SEGMENTS_MAX], file };
        let mut count = 0;
        let mut lowest = LOWEST;
        for header in elf.segments().into_iter().flatten() {
            match header.p_type {
                PT_DYNAMIC | PT_INTERP => return Err(ImageError::Dynamic),
                PT_LOAD if header.p_memsz > 0 => {}
                _ => continue,
            }
            let data = elf.segment_data(&header).map_err(|_| ImageError::BadSize);
            let segment = segment(&header, data, lowest)?;
            lowest = segment.first_page() + u64::from(segment.pages()) * PAGE_SIZE;
            *image.segments.get_mut(count).ok_or(ImageError::TooManySegments)? = Some(segment);
            count += 1;
        }
        image.check_entry()?;
        Ok(image)
    }

    pub fn segments(&self) -> impl Iterator<Item = &Segment<'a>> {
        self.segments.iter().flatten()
    }

    fn check_entry(&self) -> Result<(), ImageError> {
        let holds =
            |s: &Segment<'_>| s.access == Access::Execute && (s.address..s.end()).contains(&self.entry);
        if self.segments().any(holds) { Ok(()) } else { Err(ImageError::BadEntry) }
    }
}

/// Checks one program header; `lowest` is where the segment before it ends.
fn segment<'a>(
    header: &ProgramHeader,
    data: Result<&'a [u8], ImageError>,
    lowest: u64,
) -> Result<Segment<'a>, ImageError> {
    let access = match (header.p_flags & PF_W != 0, header.p_flags & PF_X != 0) {
        (true, true) => return Err(ImageError::WriteExecute),
        (true, false) => Access::Write,
        (false, true) => Access::Execute,
        (false, false) => Access::Read,
    };
    let (address, memory) = (header.p_vaddr, header.p_memsz);
    let end = address.checked_add(memory).ok_or(ImageError::OutOfRange)?;
    if address < LOWEST || end > HIGHEST {
        return Err(ImageError::OutOfRange);
    }
    if address & !(PAGE_SIZE - 1) < lowest {
        return Err(ImageError::Overlap);
    }
    let data = data?;
    if data.len() as u64 > memory {
        return Err(ImageError::BadSize);
    }
    Ok(Segment { address, memory, data, offset: header.p_offset, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXECUTE: u32 = 5;
    const READ: u32 = 4;
    const WRITE: u32 = 6;

    /// Makes an ELF file with these segments: flags, address, file bytes, memory bytes.
    fn elf(entry: u64, segments: &[(u32, u64, &[u8], u64)]) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend(2u16.to_le_bytes());
        file.extend(62u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(entry.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        file.extend([0; 12]);
        for half in [64u16, 56, segments.len() as u16, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let mut offset = (64 + 56 * segments.len()) as u64;
        for (flags, address, bytes, memory) in segments {
            file.extend(1u32.to_le_bytes());
            file.extend(flags.to_le_bytes());
            for word in [offset, *address, *address, bytes.len() as u64, *memory, 1] {
                file.extend(word.to_le_bytes());
            }
            offset += bytes.len() as u64;
        }
        for (.., bytes, _) in segments {
            file.extend(*bytes);
        }
        file
    }

    fn error(entry: u64, segments: &[(u32, u64, &[u8], u64)]) -> ImageError {
        Image::parse(&elf(entry, segments)).unwrap_err()
    }

    #[test]
    fn pages_cover_the_segment_exactly() {
        let bytes: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
        let file = elf(0x40_0000, &[(EXECUTE, 0x40_0000, &[0x90; 16], 16), (WRITE, 0x40_1ffc, &bytes, 9000)]);
        let image = Image::parse(&file).unwrap();
        let data = image.segments().nth(1).unwrap();
        assert_eq!((data.first_page(), data.pages(), data.access), (0x40_1000, 4, Access::Write));
        assert_eq!(data.page(0), (0xffc, &bytes[..4]));
        assert_eq!(data.page(1), (0, &bytes[4..4100]));
        assert_eq!(data.page(2), (0, &bytes[4100..]));
        assert_eq!(data.page(3), (0, &[][..]));
        let text = image.segments().next().unwrap();
        assert_eq!(text.in_file(), Some((176, 16)));
        assert_eq!(data.in_file(), None, "the file does not have what is before it on its first page");
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let text: (u32, u64, &[u8], u64) = (EXECUTE, 0x40_0000, &[0x90; 16], 16);
        assert_eq!(Image::parse(b"#!/bin/sh").unwrap_err(), ImageError::NotElf);
        assert_eq!(error(0x40_0000, &[(7, 0x40_0000, &[0x90], 1)]), ImageError::WriteExecute);
        assert_eq!(error(0x40_0000, &[text, (READ, 0x40_0800, &[1], 1)]), ImageError::Overlap);
        assert_eq!(error(0x40_0000, &[text, (READ, 0x1000, &[1], 1)]), ImageError::OutOfRange);
        assert_eq!(error(0x40_0000, &[text, (READ, !0xfff, &[1], 0x2000)]), ImageError::OutOfRange);
        assert_eq!(error(0x40_0000, &[text, (READ, 0x50_0000, &[1, 2], 1)]), ImageError::BadSize);
        assert_eq!(error(0x50_0000, &[text, (READ, 0x50_0000, &[1], 1)]), ImageError::BadEntry);
        let many: Vec<_> = (0..9).map(|n| (EXECUTE, 0x40_0000 + n * 0x1000, &[0x90u8][..], 1)).collect();
        assert_eq!(error(0x40_0000, &many), ImageError::TooManySegments);
    }

    #[test]
    fn a_file_cut_short_anywhere_is_refused_not_read() {
        let file = elf(0x40_0000, &[(EXECUTE, 0x40_0000, &[0x90; 64], 64)]);
        for length in 0..file.len() {
            assert!(Image::parse(&file[..length]).is_err(), "{length} bytes");
        }
        let mut other = file;
        other[18] = 3;
        assert_eq!(Image::parse(&other).unwrap_err(), ImageError::NotForUs);
    }
}
