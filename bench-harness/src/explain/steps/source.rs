//! Functions of the kernel in their source files: where each begins and ends, and its doc comment.
//!
//! Debug information gives the file and line of an instruction. The function whose text contains
//! that line is the one that a reader of the book can open, whatever the compiler calls it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, Expr, ImplItemFn, ItemFn, ItemImpl, ItemTrait, Lit, Meta, Signature, TraitItemFn, Type,
};

use crate::count;

/// A function, or a routine of assembly.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// With the type that it is a method of.
    pub name: String,
    /// Relative to the project's root.
    pub file: String,
    /// The line that names it, and the last one.
    pub first: u32,
    pub last: u32,
    /// Lines between its braces that are neither empty nor a comment.
    pub body: u32,
    /// The first sentence of its doc comment, without links.
    pub doc: Option<String>,
}

impl Function {
    /// Returns file and name, which distinguish the function from all others.
    pub fn key(&self) -> (&str, &str) {
        (&self.file, &self.name)
    }
}

/// Functions of files, each file read when it is first asked for.
pub struct Sources {
    root: PathBuf,
    files: HashMap<String, Vec<Function>>,
}

impl Sources {
    pub fn new(root: &Path) -> Sources {
        Sources { root: root.to_owned(), files: HashMap::new() }
    }

    /// Makes the sources of one file, without a disk.
    #[cfg(test)]
    pub fn of(file: &str, text: &str) -> Sources {
        let files = HashMap::from([(file.to_owned(), functions(file, text))]);
        Sources { root: PathBuf::from("/nowhere"), files }
    }

    /// Finds the innermost function around a line of a file of the kernel.
    pub fn at(&mut self, file: &str, line: u32) -> Option<&Function> {
        let around = |function: &&Function| (function.first..=function.last).contains(&line);
        self.of_file(file).iter().filter(around).min_by_key(|function| function.last - function.first)
    }

    /// Finds a function, or a routine of assembly, by its name.
    pub fn named(&mut self, file: &str, name: &str) -> Option<&Function> {
        self.of_file(file).iter().find(|function| function.name == name)
    }

    /// Returns the functions of a file, or none if the file is no source of the kernel or cannot be
    /// read.
    fn of_file(&mut self, file: &str) -> &[Function] {
        let path = self.root.join(file);
        self.files.entry(file.to_owned()).or_insert_with(|| {
            let text = if is_kernel(file) {
                std::fs::read_to_string(path).unwrap_or_default()
            } else {
                String::new()
            };
            if file.ends_with(".s") { labels(file, &text) } else { functions(file, &text) }
        })
    }
}

/// Says whether a file belongs to a crate of the kernel whose functions are visited.
///
/// The functions of `smp`, the primitives that all others stand on, count for the function that
/// uses them, as library functions do.
fn is_kernel(file: &str) -> bool {
    let within =
        |of: &&str| file.strip_prefix(of.trim_end_matches("/*")).is_some_and(|rest| rest.starts_with('/'));
    count::KERNEL.iter().filter(|of| **of != "smp").any(within)
}

/// Lists the functions of a file in Rust; none if it is not Rust.
fn functions(file: &str, text: &str) -> Vec<Function> {
    let mut found = Found { file, text, of: Vec::new(), functions: Vec::new() };
    if let Ok(parsed) = syn::parse_file(text) {
        found.visit_file(&parsed);
    }
    found.functions
}

struct Found<'a> {
    file: &'a str,
    text: &'a str,
    /// The types around, innermost last.
    of: Vec<String>,
    functions: Vec<Function>,
}

impl Found<'_> {
    fn push(&mut self, attributes: &[Attribute], signature: &Signature, block: &Block) {
        let name = match self.of.last() {
            Some(of) => format!("{of}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        let (open, close) = (line(block.brace_token.span.open()), line(block.brace_token.span.close()));
        self.functions.push(Function {
            name,
            file: self.file.to_owned(),
            first: line(signature.span()),
            last: close,
            body: code_lines(self.text, open, close),
            doc: doc(attributes),
        });
    }

    fn within(&mut self, of: String, walk: impl FnOnce(&mut Self)) {
        self.of.push(of);
        walk(self);
        self.of.pop();
    }
}

impl<'a> Visit<'a> for Found<'_> {
    fn visit_item_impl(&mut self, item: &'a ItemImpl) {
        self.within(type_name(&item.self_ty), |found| visit::visit_item_impl(found, item));
    }

    fn visit_item_trait(&mut self, item: &'a ItemTrait) {
        self.within(item.ident.to_string(), |found| visit::visit_item_trait(found, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'a ImplItemFn) {
        self.push(&item.attrs, &item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a TraitItemFn) {
        if let Some(block) = &item.default {
            self.push(&item.attrs, &item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_fn(&mut self, item: &'a ItemFn) {
        self.push(&item.attrs, &item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }
}

/// Counts the lines between two others that are neither empty nor a comment.
fn code_lines(text: &str, open: u32, close: u32) -> u32 {
    let between = text.lines().skip(open as usize).take((close - open).saturating_sub(1) as usize);
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    between.filter(is_code).count() as u32
}

fn line(span: Span) -> u32 {
    u32::try_from(span.start().line).unwrap_or(u32::MAX)
}

/// Returns the last part of a type's path.
fn type_name(of: &Type) -> String {
    match of {
        Type::Path(path) => path.path.segments.last().map_or(String::new(), |last| last.ident.to_string()),
        Type::Reference(reference) => type_name(&reference.elem),
        _ => "_".to_owned(),
    }
}

/// Takes the first sentence of a doc comment.
fn doc(attributes: &[Attribute]) -> Option<String> {
    let of_line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    first_sentence(attributes.iter().filter_map(of_line))
}

/// Joins the lines of the first paragraph up to the end of its first sentence, links as plain text.
fn first_sentence(lines: impl Iterator<Item = String>) -> Option<String> {
    let paragraph: Vec<String> = lines
        .map(|line| line.trim().to_owned())
        .take_while(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let paragraph = without_links(&paragraph.join(" "));
    let end = [". ", "? "].iter().filter_map(|end| paragraph.find(end)).min();
    let sentence = end.map_or(paragraph.as_str(), |end| &paragraph[..=end]).to_owned();
    (!sentence.is_empty()).then_some(sentence)
}

/// Replaces links by their text: their targets mean something to rustdoc only.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('[') {
        let Some((inner, after)) = behind.split_once(']') else { break };
        plain += before;
        plain += inner;
        rest = after;
        if let Some((_, after)) = after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            rest = after;
        }
    }
    plain + rest
}

/// Lists the labels of a file of assembly. The comment right above a label says what it is for. For
/// the first global label, by which the file is entered, the head of the file says it.
fn labels(file: &str, text: &str) -> Vec<Function> {
    let mut found: Vec<Function> = Vec::new();
    let mut comment: Vec<String> = Vec::new();
    let mut head = first_sentence(text.lines().map_while(|line| line.strip_prefix("//")).map(str::to_owned));
    let mut is_global = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(said) = line.strip_prefix("//") {
            comment.push(said.trim().to_owned());
        } else if let Some(name) = line.strip_suffix(':').filter(|name| is_name(name)) {
            let above = first_sentence(comment.drain(..));
            let doc = if is_global { head.take().or(above) } else { above };
            let (name, file) = (name.to_owned(), file.to_owned());
            found.push(Function { name, file, first: number, last: number, body: u32::MAX, doc });
            is_global = false;
        } else if line.starts_with(".global ") {
            is_global = true;
        } else if !line.starts_with('.') {
            comment.clear();
        }
    }
    found
}

/// Whether a label is a symbol of a routine: not one that marks a phase.
fn is_name(label: &str) -> bool {
    label.starts_with(|c: char| !c.is_ascii_digit()) && label.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
/// Sends a message to [`Task`]. Then more.
#[inline(always)]
pub fn send(
    task: u32,
) -> bool {
    let wanted = |x: u32| {
        x > 1
    };
    wanted(task)
}

impl<'a, M> door::Ipc<'a, M> {
    fn id(&self) -> u32 {
        self.id
    }

    /// Waits, see [the book](ipc.md),
    /// for a message
    ///
    /// Errors: none.
    fn wait(&self) {
        fn helper() {}
        helper();
    }
}

trait Machine {
    fn none();
    fn some() {}
}
";

    fn all() -> Vec<Function> {
        functions("smp/src/a.rs", TEXT)
    }

    #[test]
    fn functions_have_their_type_their_lines_and_their_first_sentence() {
        let found: Vec<_> =
            all().into_iter().map(|f| (f.name, f.first, f.last, f.body, f.doc.unwrap_or_default())).collect();
        let expected = [
            ("send", 3, 10, 4, "Sends a message to `Task`."),
            ("Ipc::id", 13, 15, 1, ""),
            ("Ipc::wait", 21, 24, 2, "Waits, see the book, for a message"),
            ("Ipc::helper", 22, 22, 0, ""),
            ("Machine::some", 29, 29, 0, ""),
        ];
        assert_eq!(
            found,
            expected.map(|(name, first, last, body, doc)| (
                name.to_owned(),
                first,
                last,
                body,
                doc.to_owned()
            ))
        );
    }

    #[test]
    fn the_innermost_function_around_a_line_is_found() {
        let mut sources = Sources::of("smp/src/a.rs", TEXT);
        let mut at = |line| sources.at("smp/src/a.rs", line).map(|function| function.name.clone());
        assert_eq!(at(7).as_deref(), Some("send"), "in a closure");
        assert_eq!((at(22).as_deref(), at(23).as_deref()), (Some("Ipc::helper"), Some("Ipc::wait")));
        assert_eq!(at(11), None);
    }

    #[test]
    fn labels_have_the_comment_above_them_and_the_first_global_one_the_head() {
        let text = "\
// All the ways in. Really.
// More.

// rax = the number.
.balign 64
.global enter
enter:
    ret // here
phase.entry.x:
1:  nop
// Goes out? To be seen.
.balign 16
leave:
    ret
.global again
again:
";
        let found: Vec<_> = labels("ipc-fast/src/a.s", text)
            .into_iter()
            .map(|f| (f.name, f.first, f.doc.unwrap_or_default()))
            .collect();
        let expected = [("enter", 7, "All the ways in."), ("leave", 13, "Goes out?"), ("again", 16, "")];
        assert_eq!(found, expected.map(|(name, first, doc)| (name.to_owned(), first, doc.to_owned())));
    }

    #[test]
    fn only_the_kernels_crates_count() {
        for (file, is) in
            [("kern/core/src/lib.rs", true), ("sched/src/lib.rs", true), ("core/src/cell.rs", false)]
        {
            assert_eq!(is_kernel(file), is, "{file}");
        }
        assert!(!is_kernel("smp/src/ring.rs") && !is_kernel("abi/src/lib.rs"));
    }
}
