//! The kernel's parsed sources, without code that only tests have.
//!
//! A crate is read from its root, module by module, so that files that no module declares do not
//! count. Items that exist only in tests are left out with all their contents: `test`, `loom` and
//! the feature `host-test` are assumed to be off, all other conditions may be on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Block, File, ImplItem, Item, Meta, Stmt, Token, TraitItem};

/// Directories of crates that are the kernel, below the project's root; with `/*`, all below one.
pub const CRATES: &[&str] = &["smp", "sched", "kern/*", "ipc-fast"];

/// What is off outside tests.
const TESTS: &[&str] = &["test", "loom", "host-test"];

/// One file of a crate.
pub struct Source {
    /// Directory of the crate, as `kern/core`.
    pub of: String,
    /// Relative to the project's root.
    pub path: PathBuf,
    /// Assembly has no items.
    pub file: File,
    /// Lines that have code.
    pub lines: usize,
}

impl Source {
    /// Returns the name of the file's module: `b` for `a/b.rs` and for `a/b/mod.rs`.
    pub fn module(&self) -> String {
        let stem = self.path.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
        if stem != "mod" {
            return stem;
        }
        let above = self.path.parent().and_then(Path::file_name);
        above.map_or(stem, |above| above.to_string_lossy().into_owned())
    }
}

/// Reads all files of the kernel, in the order of their crates.
pub fn read(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for of in crates(root)? {
        let place = root.join(&of).join("src");
        let main = ["lib.rs", "main.rs"].map(|name| place.join(name)).into_iter().find(|file| file.is_file());
        let Some(main) = main else { continue };
        module(root, &of, &main, &mut sources)?;
        assembly(root, &of, &place, &mut sources)?;
    }
    Ok(sources)
}

/// Returns the directories of the kernel's crates.
fn crates(root: &Path) -> Result<Vec<String>> {
    let mut crates = Vec::new();
    for of in CRATES {
        let Some(above) = of.strip_suffix("/*") else {
            crates.push((*of).to_owned());
            continue;
        };
        let mut below = entries(&root.join(above))?;
        below.retain(|entry| entry.join("Cargo.toml").is_file());
        let names = below.iter().filter_map(|entry| entry.file_name());
        crates.extend(names.map(|name| format!("{above}/{}", name.to_string_lossy())));
    }
    Ok(crates)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut entries: Vec<PathBuf> = read.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    Ok(entries)
}

/// Reads a file, and the modules that it names.
fn module(root: &Path, of: &str, path: &Path, sources: &mut Vec<Source>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut file = syn::parse_file(&text).with_context(|| format!("parsing {}", path.display()))?;
    Clean.visit_file_mut(&mut file);
    let below = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") => path.parent().unwrap_or(root).to_owned(),
        _ => path.with_extension(""),
    };
    let modules: Vec<String> = named(&file.items);
    let lines = lines(file.to_token_stream()).len();
    let relative = path.strip_prefix(root).unwrap_or(path).to_owned();
    sources.push(Source { of: of.to_owned(), path: relative, file, lines });
    for name in modules {
        let places = [below.join(format!("{name}.rs")), below.join(&name).join("mod.rs")];
        let found = places.iter().find(|place| place.is_file());
        let found = found.with_context(|| format!("{}: no file of module {name}", path.display()))?;
        module(root, of, found, sources)?;
    }
    Ok(())
}

/// Returns the modules that have files of their own.
fn named(items: &[Item]) -> Vec<String> {
    let modules = items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
        _ => None,
    });
    modules.collect()
}

/// Reads all assembly files below a directory.
fn assembly(root: &Path, of: &str, dir: &Path, sources: &mut Vec<Source>) -> Result<()> {
    for path in entries(dir)? {
        if path.is_dir() {
            assembly(root, of, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "s") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let is_code =
                |line: &&str| !line.is_empty() && !["#", "//"].iter().any(|mark| line.starts_with(mark));
            let lines = text.lines().map(str::trim).filter(is_code).count();
            let file = File { shebang: None, frontmatter: None, attrs: Vec::new(), items: Vec::new() };
            let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
            sources.push(Source { of: of.to_owned(), path: relative, file, lines });
        }
    }
    Ok(())
}

/// Returns the lines with a token that is no comment. A text of several lines has all of them.
pub fn lines(tokens: TokenStream) -> BTreeSet<usize> {
    let mut lines = BTreeSet::new();
    gather(tokens, &mut lines);
    lines
}

fn gather(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            // A comment of documentation: `#[doc = …]`, or `#![doc = …]`.
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                let has_bang = matches!(tokens.peek(), Some(TokenTree::Punct(bang)) if bang.as_char() == '!');
                let bang = if has_bang { tokens.next() } else { None };
                let is_doc = matches!(tokens.peek(), Some(TokenTree::Group(group))
                    if group.stream().to_string().starts_with("doc ="));
                if is_doc {
                    tokens.next();
                } else {
                    lines.insert(mark.span().start().line);
                    lines.extend(bang.map(|bang| bang.span().start().line));
                }
            }
            TokenTree::Group(group) => {
                lines.extend([group.span_open().start().line, group.span_close().end().line]);
                gather(group.stream(), lines);
            }
            other => lines.extend(other.span().start().line..=other.span().end().line),
        }
    }
    lines.remove(&0);
}

/// Takes out what only tests have.
struct Clean;

impl VisitMut for Clean {
    fn visit_file_mut(&mut self, file: &mut File) {
        file.items.retain(|item| !is_of_tests(attributes(item)));
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| !is_of_tests(attributes(item)));
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, of: &mut syn::ItemImpl) {
        of.items.retain(|item| match item {
            ImplItem::Fn(function) => !is_of_tests(&function.attrs),
            ImplItem::Const(constant) => !is_of_tests(&constant.attrs),
            _ => true,
        });
        visit_mut::visit_item_impl_mut(self, of);
    }

    fn visit_item_trait_mut(&mut self, of: &mut syn::ItemTrait) {
        of.items.retain(|item| !matches!(item, TraitItem::Fn(function) if is_of_tests(&function.attrs)));
        visit_mut::visit_item_trait_mut(self, of);
    }

    fn visit_block_mut(&mut self, block: &mut Block) {
        block.stmts.retain(|statement| match statement {
            Stmt::Local(local) => !is_of_tests(&local.attrs),
            Stmt::Item(item) => !is_of_tests(attributes(item)),
            _ => true,
        });
        visit_mut::visit_block_mut(self, block);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Returns whether an item with these attributes is compiled in tests only.
fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        attribute.parse_args::<Meta>().is_ok_and(|condition| holds(&condition) == Some(false))
    })
}

/// Returns whether a `cfg` condition holds outside tests; `None` if that depends on the build.
fn holds(condition: &Meta) -> Option<bool> {
    match condition {
        Meta::Path(path) => TESTS.iter().any(|test| path.is_ident(test)).then_some(false),
        Meta::NameValue(pair) => {
            let value = pair.value.to_token_stream().to_string();
            TESTS.contains(&value.trim_matches('"')).then_some(false)
        }
        Meta::List(list) => {
            let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
            let parts: Vec<Option<bool>> = parts.iter().map(holds).collect();
            let every = |wanted| parts.iter().all(|part| *part == Some(wanted)).then_some(wanted);
            match list.path.get_ident()?.to_string().as_str() {
                "not" => parts.first().copied().flatten().map(|part| !part),
                "all" if parts.contains(&Some(false)) => Some(false),
                "all" => every(true),
                "any" if parts.contains(&Some(true)) => Some(true),
                "any" => every(false),
                _ => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> File {
        let mut file = syn::parse_file(text).expect("it parses");
        Clean.visit_file_mut(&mut file);
        file
    }

    #[test]
    fn comments_and_blank_lines_are_no_code() {
        let file = cleaned(
            "//! Module.\n\n/// One.\n#[inline]\nfn one() {\n    // why\n    let text = \"a\n    b\";\n\n    drop(text); /* x */\n}\n",
        );
        assert_eq!(lines(file.to_token_stream()).into_iter().collect::<Vec<_>>(), [4, 5, 7, 8, 10, 11]);
    }

    #[test]
    fn what_tests_have_is_left_out() {
        let file = cleaned(
            "#[cfg(test)] mod tests; #[cfg(all(test, not(loom)))] fn a() {} #[cfg(any(loom, feature = \"host-test\"))] fn b() {}
             #[cfg(feature = \"dump\")] fn c() {} #[cfg(not(loom))] fn d() { #[cfg(test)] let x = 1; }
             impl S { #[cfg(test)] fn e() {} fn f() {} } #[cfg(any(test, feature = \"dump\"))] fn g() {}",
        );
        let text = file.to_token_stream().to_string();
        let is_there = |name: &str| text.contains(&format!("fn {name}"));
        assert_eq!(
            ["a", "b", "c", "d", "e", "f", "g"].map(is_there),
            [false, false, true, true, false, true, true]
        );
        assert!(!text.contains("mod tests") && !text.contains("let x"));
    }
}
