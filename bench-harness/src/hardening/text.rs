//! The machine code of a kernel, with its symbols.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use object::{Object, ObjectSection, ObjectSymbol};

/// The section that has the kernel's code, and the symbols around the entry code in it
/// (`kern/hal/kernel.ld`).
const SECTION: &str = ".text";
const ENTRY: [&str; 2] = ["__entry_text_start", "__entry_text_end"];

/// Code that lies in one piece.
pub struct Text {
    start: u64,
    bytes: Vec<u8>,
    /// By address.
    symbols: Vec<(u64, String)>,
}

impl Text {
    /// Reads a kernel's code.
    pub fn read(path: &Path) -> Result<Text> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let file = object::File::parse(&*bytes).with_context(|| format!("{}", path.display()))?;
        let section = file.section_by_name(SECTION).context("a kernel without code")?;
        let names =
            file.symbols().filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?.to_owned())));
        let symbols = names.filter(|(_, name)| !name.is_empty());
        Ok(Text::new(section.address(), section.data()?.to_vec(), symbols.collect()))
    }

    /// Makes a text of code at an address, and symbols in any order.
    pub fn new(start: u64, bytes: Vec<u8>, mut symbols: Vec<(u64, String)>) -> Text {
        symbols.sort();
        Text { start, bytes, symbols }
    }

    /// Returns the range of all code.
    pub fn all(&self) -> Range<u64> {
        self.start..self.start + self.bytes.len() as u64
    }

    /// Returns the range of the code that is written in assembly.
    pub fn entry(&self) -> Result<Range<u64>> {
        let [start, end] =
            ENTRY.map(|name| self.address_of(name).with_context(|| format!("no symbol {name}")));
        Ok(start?..end?)
    }

    /// Returns the address of a symbol, by its name in the source, without crate hashes.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        let is = |(_, symbol): &&(u64, String)| format!("{:#}", rustc_demangle::demangle(symbol)) == name;
        self.symbols.iter().find(is).map(|(address, _)| *address)
    }

    /// Names an address by the symbol before it.
    pub fn place(&self, address: u64) -> String {
        let before = self.symbols[..self.symbols.partition_point(|(at, _)| *at <= address)].last();
        match before {
            Some((at, name)) => format!("{:#}+{:#x}", rustc_demangle::demangle(name), address - at),
            None => format!("{address:#x}"),
        }
    }

    /// Returns the symbols at an address.
    pub fn symbols_at(&self, address: u64) -> impl Iterator<Item = &str> {
        let from = &self.symbols[self.symbols.partition_point(|(at, _)| *at < address)..];
        from.iter().take_while(move |(at, _)| *at == address).map(|(_, name)| name.as_str())
    }

    /// Returns the instruction at an address.
    pub fn instruction(&self, address: u64) -> Option<Instruction> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get(at..).filter(|bytes| !bytes.is_empty())?;
        Some(Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode())
    }

    /// Returns the instructions of a range, one after the other.
    pub fn instructions(&self, range: Range<u64>) -> impl Iterator<Item = Instruction> {
        let first = self.instruction(range.start);
        let next = |instruction: &Instruction| self.instruction(instruction.next_ip());
        std::iter::successors(first, next).take_while(move |instruction| instruction.ip() < range.end)
    }
}
