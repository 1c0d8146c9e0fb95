//! Finds the function and the source line of an instruction in the guest's memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use addr2line::Loader;
use anyhow::{Context, Result, anyhow};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use super::decode::decode;
use super::listing::{self, Source};
use super::phase::{self, Belongs, Phase};
use super::record::Code;

/// Kernel addresses have their top bit set.
const KERNEL: u64 = 1 << 63;
/// The labels that a CPU's entry slot jumps to, with the fastpath and without.
const COMMON_ENTRIES: [&str; 2] = ["syscall_entry", "syscall_plain"];
/// What the code of an entry slot is called: it is written at boot and in no file.
const ENTRY_SLOT: &str = "entry slot";
/// Labels that only mark phases do not name code.
const PHASE_LABEL: &str = "phase.";

/// A function that an instruction lies in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub function: String,
    /// The line of it that the instruction is of, or that calls the function inlined into it.
    pub source: Option<Source>,
}

/// Where an instruction comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// `kernel`, or the program's name; `?` if its code is in no file.
    pub program: String,
    /// Function or label, as it lies in the file, and how far in.
    pub symbol: String,
    pub offset: u64,
    /// The innermost function that was inlined there, if one was.
    pub inlined: Option<String>,
    /// All functions that it lies in, innermost first; none of assembly.
    pub frames: Arc<[Frame]>,
    pub source: Option<Source>,
    /// The phase that it belongs to; `None`: no table knows.
    pub belongs: Option<Belongs>,
}

impl Origin {
    /// Returns the origin of code that was translated and never executed in the operation.
    pub fn unneeded() -> Origin {
        unknown(0, "?")
    }
}

/// A file with symbols.
struct Image {
    name: String,
    /// By address.
    symbols: Vec<(u64, String)>,
    loader: Loader,
    /// Code sections: address and content.
    code: Vec<(u64, Vec<u8>)>,
    assembly: HashMap<u64, Source>,
}

/// All code that may run.
pub struct Symbols {
    kernel: Image,
    programs: Vec<Image>,
    root: PathBuf,
}

impl Symbols {
    /// Reads the symbols of a kernel and of user programs (by name), built from the sources under
    /// `root`.
    pub fn new(kernel: &Path, programs: &[(String, PathBuf)], root: &Path) -> Result<Symbols> {
        let root = std::fs::canonicalize(root).with_context(|| format!("finding {}", root.display()))?;
        let mut kernel = Image::open("kernel", kernel)?;
        kernel.assembly = listing::lines(&root, &kernel.addresses(), &|address| kernel.mnemonic(address))?;
        let programs = programs.iter().map(|(name, path)| Image::open(name, path)).collect::<Result<_>>()?;
        Ok(Symbols { kernel, programs, root })
    }

    /// Returns where this instruction comes from.
    pub fn origin(&self, code: &Code) -> Origin {
        if code.pc & KERNEL == 0 {
            return self.user(code);
        }
        if self.kernel.has(code) {
            return self.of_image(&self.kernel, code.pc);
        }
        Origin { program: "kernel".to_owned(), belongs: self.slot(code), ..unknown(code.pc, ENTRY_SLOT) }
    }

    /// Returns the phase of code that is in no file of the kernel, if it looks like an entry
    /// slot's.
    fn slot(&self, code: &Code) -> Option<Belongs> {
        let loads_block = code.bytes.len() == 10 && code.bytes.starts_with(&[0x49, 0xbf]);
        let jumps = match code.bytes[..] {
            [0xe9, a, b, c, d] => {
                let target =
                    code.pc.wrapping_add(5).wrapping_add_signed(i32::from_le_bytes([a, b, c, d]).into());
                self.kernel
                    .symbols
                    .iter()
                    .any(|(address, name)| *address == target && COMMON_ENTRIES.contains(&name.as_str()))
            }
            _ => false,
        };
        (loads_block || jumps).then_some(Belongs::To(Phase::Entry))
    }

    /// Returns the origin of a program's code. Programs lie at the same addresses, so it is the
    /// first program with these bytes there.
    fn user(&self, code: &Code) -> Origin {
        match self.programs.iter().find(|program| program.has(code)) {
            Some(program) => {
                Origin { belongs: Some(Belongs::To(Phase::User)), ..self.of_image(program, code.pc) }
            }
            None => unknown(code.pc, "?"),
        }
    }

    fn of_image(&self, image: &Image, pc: u64) -> Origin {
        let (label, symbol, offset) = image.symbol(pc);
        let frames: Arc<[Frame]> = image
            .frames(pc)
            .into_iter()
            .map(|(function, source)| Frame { function, source: source.map(|source| self.shorten(source)) })
            .collect();
        let source =
            image.assembly.get(&pc).cloned().or_else(|| frames.iter().find_map(|frame| frame.source.clone()));
        let belongs = if frames.is_empty() {
            phase::of_label(label).map(Belongs::To).or_else(|| phase::of_function(&demangled(label)))
        } else {
            frames.iter().find_map(|frame| phase::of_function(&frame.function))
        };
        let inlined = (frames.len() > 1).then(|| frames[0].function.clone());
        let (program, symbol) = (image.name.clone(), demangled(symbol));
        Origin { program, symbol, offset, inlined, frames, source, belongs }
    }

    /// Shortens a path: relative within the tree, and the last part of the compiler's own sources.
    fn shorten(&self, source: Source) -> Source {
        let path = Path::new(&source.file);
        let file = match path.strip_prefix(&self.root) {
            Ok(inside) => inside.display().to_string(),
            Err(_) => match source.file.split_once("/library/") {
                Some((_, rest)) => rest.to_owned(),
                None => source.file.clone(),
            },
        };
        Source { file, line: source.line }
    }
}

/// Returns the origin of code in no file.
fn unknown(pc: u64, symbol: &str) -> Origin {
    Origin {
        program: "?".to_owned(),
        symbol: symbol.to_owned(),
        offset: if symbol == ENTRY_SLOT { pc % 32 } else { pc },
        inlined: None,
        frames: Arc::default(),
        source: None,
        belongs: None,
    }
}

fn demangled(name: &str) -> String {
    // Without crate hashes.
    format!("{:#}", rustc_demangle::demangle(name))
}

impl Image {
    fn open(name: &str, path: &Path) -> Result<Image> {
        let bytes = std::fs::read(path)
            .with_context(|| format!("{} has not been built: run `./justw build`", path.display()))?;
        let file = object::File::parse(&*bytes).with_context(|| format!("{}", path.display()))?;
        let mut symbols: Vec<(u64, String)> = file
            .symbols()
            .filter(|symbol| {
                matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Label | SymbolKind::Unknown)
            })
            .filter(|symbol| symbol.section_index().is_some())
            .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?.to_owned())))
            .filter(|(_, name)| !name.is_empty())
            .collect();
        symbols.sort();
        let code = file
            .sections()
            .filter(|section| section.kind() == SectionKind::Text)
            .map(|section| Ok((section.address(), section.data()?.to_vec())))
            .collect::<Result<_>>()?;
        let loader =
            Loader::new(path).map_err(|error| anyhow!("debug information of {}: {error}", path.display()))?;
        Ok(Image { name: name.to_owned(), symbols, loader, code, assembly: HashMap::new() })
    }

    /// Returns whether the file has these bytes at this address.
    fn has(&self, code: &Code) -> bool {
        self.code.iter().any(|(start, bytes)| {
            let at = code.pc.checked_sub(*start).and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| bytes.get(at..at + code.bytes.len())) == Some(&code.bytes[..])
        })
    }

    /// Returns the nearest label at or before `pc`, the nearest that names code, and the distance
    /// from that one to `pc`.
    fn symbol(&self, pc: u64) -> (&str, &str, u64) {
        let upto = &self.symbols[..self.symbols.partition_point(|(address, _)| *address <= pc)];
        let Some((_, label)) = upto.last() else { return ("?", "?", pc) };
        let named = upto.iter().rev().find(|(_, name)| !name.starts_with(PHASE_LABEL));
        let (address, name) = named.map_or((0, "?"), |(address, name)| (*address, name.as_str()));
        // Of several at one place the one that marks the phase decides about it.
        let here =
            upto.iter().rev().take_while(|(address, _)| Some(address) == upto.last().map(|(last, _)| last));
        let label = here.map(|(_, name)| name).find(|name| name.starts_with(PHASE_LABEL)).unwrap_or(label);
        (label, name, pc - address)
    }

    /// Returns the functions that contain `pc`, innermost first, and the place in each.
    fn frames(&self, pc: u64) -> Vec<(String, Option<Source>)> {
        let mut frames = Vec::new();
        let Ok(mut found) = self.loader.find_frames(pc) else { return frames };
        while let Ok(Some(frame)) = found.next() {
            let Some(function) = &frame.function else { continue };
            let name = function.raw_name().map(|name| demangled(&name)).unwrap_or_default();
            let source = frame
                .location
                .and_then(|location| Some(Source { file: location.file?.to_owned(), line: location.line? }));
            frames.push((name, source));
        }
        frames
    }

    fn addresses(&self) -> HashMap<String, u64> {
        self.symbols.iter().map(|(address, name)| (name.clone(), *address)).collect()
    }

    /// Returns the mnemonic of the instruction at this address, and the address behind it.
    fn mnemonic(&self, address: u64) -> Option<(String, u64)> {
        let (start, bytes) = self
            .code
            .iter()
            .find(|(start, bytes)| (*start..start + bytes.len() as u64).contains(&address))?;
        let decoded = decode(address, bytes.get(usize::try_from(address - start).ok()?..)?);
        Some((decoded.name(), address + decoded.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crate_hashes_are_left_out() {
        assert_eq!(demangled("_RNvNtCs1234_7mycrate3foo3bar"), "mycrate::foo::bar");
        assert_eq!(demangled("syscall_entry"), "syscall_entry");
    }

    #[test]
    fn what_is_in_no_file_is_in_no_phase() {
        let origin = unknown(0x40_1000, "?");
        assert_eq!((origin.belongs, origin.offset), (None, 0x40_1000));
    }
}
