//! Source lines of the kernel's assembly files, which have no debug information.
//!
//! The files are parsed like an assembler does, as far as lines are concerned: macros are expanded,
//! conditions on macro arguments are evaluated, sections are separated. The result is the
//! instructions in the order of their addresses, and labels, whose addresses are in the kernel's
//! symbol table. From each label on, the file's instructions are compared with the kernel's. Where
//! the mnemonics differ, the lines count as unknown up to the next label.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};

/// The pieces of assembly in the kernel: files that are assembled together.
const PIECES: &[&[&str]] = &[
    &[
        "ipc-fast/src/trace_off.s",
        "ipc-fast/src/common.s",
        "ipc-fast/src/entry.s",
        "ipc-fast/src/fastpath.s",
        "ipc-fast/src/light.s",
        "ipc-fast/src/send.s",
        "ipc-fast/src/map.s",
    ],
    &["kern/hal/src/trap/entry.s"],
];

/// Returns the files of assembly.
pub fn files() -> impl Iterator<Item = &'static str> {
    PIECES.iter().copied().flatten().copied()
}

/// Where something stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub file: String,
    pub line: u32,
}

/// What assembling a line leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    Label(String),
    /// An instruction, by its mnemonic.
    Instruction(String, Source),
    /// Something whose size is not known from here.
    Gap,
}

/// The kernel's text: the mnemonic of the instruction at an address, and where the next one is.
pub type Text<'a> = &'a dyn Fn(u64) -> Option<(String, u64)>;

/// Returns the lines of all assembly under `root`, by address.
pub fn lines(root: &Path, symbols: &HashMap<String, u64>, text: Text<'_>) -> Result<HashMap<u64, Source>> {
    let mut found = HashMap::new();
    for files in PIECES {
        let mut listing = Listing::default();
        for file in *files {
            let path = root.join(file);
            let content =
                std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            listing.read(file, &content);
        }
        for items in listing.sections.values() {
            place(items, symbols, text, &mut found);
        }
    }
    Ok(found)
}

/// Matches the items of an assembly section with the code in the text, and notes the source of each
/// instruction.
fn place(items: &[Item], symbols: &HashMap<String, u64>, text: Text<'_>, found: &mut HashMap<u64, Source>) {
    let mut at: Option<u64> = None;
    for item in items {
        match item {
            Item::Label(name) => at = symbols.get(name).copied().or(at),
            Item::Gap => at = None,
            Item::Instruction(mnemonic, source) => {
                let Some(address) = at else { continue };
                at = match text(address) {
                    Some((there, next)) if same(mnemonic, &there) => {
                        found.insert(address, source.clone());
                        Some(next)
                    }
                    _ => None,
                };
            }
        }
    }
}

/// Returns whether a mnemonic of the source is the one that the decoder shows.
fn same(source: &str, decoded: &str) -> bool {
    let canonical = match source {
        "jz" => "je",
        "jnz" => "jne",
        "jc" | "jnae" => "jb",
        "jnc" | "jnb" => "jae",
        "sal" => "shl",
        other => other,
    };
    canonical == decoded
}

/// A macro: its parameters and its lines.
#[derive(Clone, Default, Debug)]
struct Macro {
    parameters: Vec<String>,
    lines: Vec<(Source, String)>,
}

/// Files as they are assembled, one after the other.
#[derive(Debug)]
struct Listing {
    macros: HashMap<String, Macro>,
    sections: HashMap<String, Vec<Item>>,
    /// The innermost section is the last.
    section: Vec<String>,
    /// Whether the lines in each open condition count.
    conditions: Vec<bool>,
    /// Depth of `.rept`, whose content is a gap.
    repeats: u32,
    /// An open `.irp`: its parameter and the lines so far, and the values.
    each: Option<(Macro, Vec<String>)>,
}

impl Default for Listing {
    fn default() -> Listing {
        Listing {
            macros: HashMap::new(),
            sections: HashMap::new(),
            section: vec![String::new()],
            conditions: Vec::new(),
            repeats: 0,
            each: None,
        }
    }
}

impl Listing {
    fn read(&mut self, file: &str, content: &str) {
        let mut defining: Option<(String, Macro)> = None;
        for (number, line) in (1..).zip(content.lines()) {
            let line = line.split("//").next().unwrap_or("").trim();
            let source = Source { file: file.to_owned(), line: number };
            if let Some((name, mut definition)) = defining.take() {
                if line == ".endm" {
                    self.macros.insert(name, definition);
                } else {
                    definition.lines.push((source, line.to_owned()));
                    defining = Some((name, definition));
                }
            } else if let Some(head) = line.strip_prefix(".macro ") {
                let (name, parameters) = head.trim().split_once(' ').unwrap_or((head.trim(), ""));
                let parameters = arguments(parameters);
                defining = Some((name.to_owned(), Macro { parameters, lines: Vec::new() }));
            } else {
                self.line(&source, line);
            }
        }
    }

    fn line(&mut self, source: &Source, line: &str) {
        if let Some((mut body, values)) = self.each.take() {
            if line == ".endr" {
                values.iter().for_each(|value| self.expand(&body, std::slice::from_ref(value)));
            } else {
                body.lines.push((source.clone(), line.to_owned()));
                self.each = Some((body, values));
            }
            return;
        }
        let mut rest = line;
        while let Some((label, after)) = label(rest) {
            // A numeric label is no symbol, and one with `\@` has a number that only the assembler
            // knows.
            if label.starts_with(|c: char| !c.is_ascii_digit()) && !label.contains('@') {
                self.push(Item::Label(label.to_owned()));
            }
            rest = after;
        }
        let (word, operands) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if word.is_empty() || self.directive(word, operands.trim()) || !self.is_active() {
            return;
        }
        if let Some(definition) = self.macros.get(word).cloned() {
            self.expand(&definition, &arguments(operands));
            return;
        }
        let mnemonic = if matches!(word, "rep" | "lock" | "repe" | "repne") { operands.trim() } else { word };
        let mnemonic = mnemonic.split_whitespace().next().unwrap_or(mnemonic);
        self.push(Item::Instruction(mnemonic.to_owned(), source.clone()));
    }

    fn expand(&mut self, definition: &Macro, values: &[String]) {
        for (source, line) in &definition.lines {
            let line = definition.fill(values, line);
            self.line(source, &line);
        }
    }

    /// Reads a directive. Returns false if the word is no directive.
    fn directive(&mut self, word: &str, operands: &str) -> bool {
        match word {
            ".if" => self.conditions.push(operands != "0"),
            ".else" => {
                if let Some(last) = self.conditions.last_mut() {
                    *last = !*last;
                }
            }
            ".endif" => drop(self.conditions.pop()),
            ".rept" => {
                self.push(Item::Gap);
                self.repeats += 1;
            }
            ".irp" => {
                let mut values = arguments(operands);
                let parameters = values.drain(..1.min(values.len())).collect();
                self.each = Some((Macro { parameters, lines: Vec::new() }, values));
            }
            ".endr" => self.repeats = self.repeats.saturating_sub(1),
            ".balign" | ".align" | ".skip" | ".byte" => self.push(Item::Gap),
            ".section" => {
                if let Some(current) = self.section.last_mut() {
                    *current = operands.to_owned();
                }
            }
            ".pushsection" => self.section.push(operands.to_owned()),
            ".popsection" => drop(self.section.pop()),
            _ => return word.starts_with('.'),
        }
        true
    }

    fn is_active(&self) -> bool {
        self.repeats == 0 && self.conditions.iter().all(|&counts| counts)
    }

    fn push(&mut self, item: Item) {
        if !self.is_active() {
            return;
        }
        let section = self.section.last().cloned().unwrap_or_default();
        // `.text.entry,"ax",@progbits`: the name decides.
        let name = section.split(',').next().unwrap_or("").to_owned();
        self.sections.entry(name).or_default().push(item);
    }
}

impl Macro {
    /// Fills the parameters' values into a line.
    fn fill(&self, values: &[String], line: &str) -> String {
        let mut filled = line.to_owned();
        let mut by_length: Vec<_> = self.parameters.iter().enumerate().collect();
        by_length.sort_by_key(|(_, name)| std::cmp::Reverse(name.len()));
        for (index, name) in by_length {
            let value = values.get(index).map_or("", String::as_str);
            filled = filled.replace(&format!("\\{name}"), value);
        }
        filled
    }
}

/// Splits `name: rest`, if the line starts with a label.
fn label(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(':')?;
    let is_name = |c: char| c.is_alphanumeric() || "._\\@$".contains(c);
    (!name.is_empty() && name.chars().all(is_name)).then(|| (name, rest.trim_start()))
}

/// Splits arguments at commas. Quotes keep one together and are removed.
fn arguments(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(String::new()),
            c => all.last_mut().expect("never empty").push(c),
        }
    }
    all.iter().map(|argument| argument.trim().to_owned()).filter(|argument| !argument.is_empty()).collect()
}

/// Returns all labels of the kernel's assembly, for the test of the phase table.
#[cfg(test)]
pub fn labels(root: &Path) -> Vec<String> {
    let mut labels = Vec::new();
    for file in PIECES.iter().copied().flatten() {
        let content = std::fs::read_to_string(root.join(file)).expect("is there");
        let found = content.lines().filter_map(|line| label(line.trim())).map(|(name, _)| name.to_owned());
        labels.extend(found.filter(|name| !name.starts_with(|c: char| c.is_ascii_digit() || c == '\\')));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
// comment: not a label
.macro move to, also
    mov \\to, 1                 // 3
    .if \\also
    inc \\to
    .endif
    .pushsection .cold,\"ax\"
4:  nop
    .popsection
.endm
.section .text,\"ax\"
.balign 64
.global start
start:
    move rax, 0
    jz 4b
    .irp register, rax, rbx
    push \\register               // 18, 18
    .endr
other:
1:  move \"[rbx + 1, 2]\", 1
    rep movsq
";

    fn listing() -> Listing {
        let mut listing = Listing::default();
        listing.read("a.s", FILE);
        listing
    }

    fn placed(list: &[&str], symbols: &[(&str, u64)]) -> Vec<(u64, u32)> {
        let symbols = symbols.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        let mut found = HashMap::new();
        // One byte each, from 100 on.
        let text = |address: u64| Some((list.get(address as usize - 100)?.to_string(), address + 1));
        place(&listing().sections[".text"], &symbols, &text, &mut found);
        let mut lines: Vec<_> = found.into_iter().map(|(address, source)| (address, source.line)).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn macros_are_expanded_to_their_own_lines() {
        let lines = placed(&["mov", "je", "push", "push", "mov", "inc", "movsq"], &[("start", 100)]);
        assert_eq!(lines, [(100, 3), (101, 16), (102, 18), (103, 18), (104, 3), (105, 5), (106, 22)]);
        let cold = &listing().sections[".cold"];
        assert!(
            matches!(&cold[..], [Item::Instruction(a, _), Item::Instruction(b, _)] if a == "nop" && b == "nop")
        );
    }

    #[test]
    fn where_the_text_differs_lines_are_unknown_up_to_the_next_label() {
        let symbols = [("start", 100), ("other", 103)];
        let lines = placed(&["mov", "nop", "je", "mov", "inc", "movsq"], &symbols);
        assert_eq!(lines, [(100, 3), (103, 3), (104, 5), (105, 22)]);
    }

    #[test]
    fn the_kernels_own_files_are_read_to_the_end() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for files in PIECES {
            let mut listing = Listing::default();
            for file in *files {
                listing.read(file, &std::fs::read_to_string(root.join(file)).expect("is there"));
            }
            assert!(listing.conditions.is_empty() && listing.repeats == 0, "{files:?}");
            assert_eq!(listing.section.len(), 1, "{files:?}");
            let unknown: Vec<_> = listing.sections.values().flatten().filter(|item| {
                matches!(item, Item::Instruction(mnemonic, _) if !mnemonic.chars().all(|c| c.is_ascii_alphanumeric()))
            }).collect();
            assert_eq!(unknown, Vec::<&Item>::new(), "{files:?}");
        }
    }
}
