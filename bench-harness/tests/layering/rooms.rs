//! Checks that no room of the portable kernel names one above it, in any way that the compiler
//! would accept: paths from the crate or from modules around a file, groups and new names of
//! imports, and what stands in macros. The compiler does the rest: a context comes only from one
//! above it.

use proc_macro2::{Span, TokenStream, TokenTree};
use std::fs;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::sources;

/// The rooms of the portable kernel, from the lowest to the highest. Each is a folder of
/// `kern/core/src` and a context in `rooms.rs`.
const ROOMS: [(&str, &str); 15] = [
    ("outbox", "Outbox"),
    ("time", "Time"),
    ("security", "Security"),
    ("caps", "Caps"),
    ("tlb", "Tlb"),
    ("tables", "Tables"),
    ("mem", "Mem"),
    ("payload", "Payload"),
    ("ipc", "Ipc"),
    ("events", "Events"),
    ("grace", "Grace"),
    ("groups", "Groups"),
    ("life", "Life"),
    ("make", "Make"),
    ("door", "Door"),
];
/// What stands beside the rooms, and may look into all.
const BESIDE: &str = "rooms.rs";
/// The data of a room that the kernel's own structure has.
const DATA: [&str; 3] = ["security::labels::Rules", "security::records::Told", "life::zombies::Zombies"];

/// A file of the portable kernel, or a module in it, while its paths are looked at.
struct Reader {
    /// The modules from the crate's root to here.
    module: Vec<String>,
    /// The room's rank; `None` for the files that all rooms use.
    own: Option<usize>,
    /// The line of each path that leads to a room above, and that room.
    upward: Vec<(usize, String)>,
}

impl Reader {
    /// Notes where a path leads, if that is a room above: a path from the crate's root, or from a
    /// module around this one.
    fn look_at(&mut self, path: &[String], span: Span) {
        let supers = path.iter().take_while(|name| *name == "super").count();
        let around = self.module.len().saturating_sub(supers);
        let (from, rest) = match path.first().map(String::as_str) {
            Some("crate") => (&[][..], &path[1..]),
            Some("self") => (&self.module[..], &path[1..]),
            Some("super") => (&self.module[..around], &path[supers..]),
            _ if self.module.is_empty() => (&[][..], path),
            _ => return,
        };
        let absolute = [from, rest].concat();
        if let Some(above) = self.above(&absolute) {
            self.upward.push((span.start().line, above));
        }
    }

    /// Returns the room above that a path from the crate's root leads to.
    fn above(&self, path: &[String]) -> Option<String> {
        let whole = path.join("::");
        if DATA.iter().any(|data| whole.starts_with(data)) {
            return None;
        }
        let name = |at: usize| path.get(at).map_or("*", String::as_str);
        let is_all = matches!(name(0), "*" | "crate") || name(0) == "rooms" && name(1) == "*";
        if is_all {
            return self.own.map(|_| "all rooms".into());
        }
        let leads = |(folder, context): &(&str, &str)| {
            name(0) == *folder || name(0) == "rooms" && name(1) == *context
        };
        let rank = ROOMS.iter().position(leads)?;
        self.own.is_none_or(|own| rank > own).then(|| ROOMS[rank].0.into())
    }

    /// Looks at the paths of an import, each from the root of its tree.
    fn import(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.import(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(before, tree)),
            syn::UseTree::Name(name) if name.ident == "self" => self.look_at(before, name.span()),
            syn::UseTree::Name(name) => self.look_at(&with(&name.ident), name.span()),
            syn::UseTree::Rename(name) => self.look_at(&with(&name.ident), name.span()),
            syn::UseTree::Glob(glob) => self.look_at(&[before, &["*".into()]].concat(), glob.span()),
        }
    }

    /// Looks at the paths in the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        path.clear();
                    }
                    path.push(ident.to_string());
                    if path.len() > 1 {
                        self.look_at(&path.clone(), ident.span());
                    }
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => self.tokens(group.stream()),
                _ => path.clear(),
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.look_at(&names, path.span());
        visit::visit_path(self, path);
    }

    /// `pub(crate)` and the like name whom something is shown to, not what is used.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.upward.push((item.span().start().line, "all rooms".into()));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the lines of a file that name rooms above its own, and which. `inside` is its path in
/// the crate's sources.
fn upward(inside: &Path, text: &str) -> Vec<(usize, String)> {
    let mut module: Vec<String> =
        inside.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|name| name == "mod" || name == "lib") {
        module.pop();
    }
    let own = module.first().and_then(|first| ROOMS.iter().position(|(folder, _)| folder == first));
    let mut reader = Reader { module, own, upward: Vec::new() };
    reader.visit_file(&syn::parse_file(text).expect("a Rust file"));
    reader.upward
}

#[test]
fn no_room_reaches_into_one_above() {
    let core = root().join("kern/core/src");
    let (mut wrong, mut files) = (Vec::new(), Vec::new());
    sources(&core, &mut files);
    assert!(files.len() > 50, "{files:?}");
    for file in files {
        let inside = file.strip_prefix(&core).expect("a file of the crate");
        if inside == Path::new(BESIDE) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("readable");
        for (line, above) in upward(inside, &text) {
            wrong.push(format!("{}:{line} reaches into {above}", inside.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_room_leads_to_those_below_it() {
    let text = fs::read_to_string(root().join("kern/core/src/rooms.rs")).expect("readable");
    let mut seen: Vec<&str> = Vec::new();
    for (folder, context) in ROOMS {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{context}:")));
        let line = line.unwrap_or_else(|| panic!("{folder} has no context"));
        let leads: Vec<&str> = line.split_whitespace().collect();
        let below: Vec<&str> = leads.chunks(2).map(|pair| pair[0]).collect();
        assert!(below.iter().all(|room| seen.contains(room)), "{context} leads to {below:?}");
        seen.push(folder);
    }
}

/// Returns the rooms above that a line names, in a file of the kernel's sources.
fn seen(inside: &str, line: &str) -> Vec<String> {
    upward(Path::new(inside), line).into_iter().map(|(_, above)| above).collect()
}

#[test]
fn a_reach_into_a_room_above_is_seen() {
    let reaches = [
        "use crate::life::control::Unwait;",
        "use crate::{life::control::Unwait};",
        "use crate::{\n    Answer,\n    life::control::Unwait,\n};",
        "use super::super::life::control::Unwait;",
        "use crate::rooms::Life;",
        "use crate::{rooms::Life as Up};",
        "use crate::life as up;",
        "pub use crate::rooms::{self, Life};",
        "fn kill() { <crate::rooms::Life<M>>::kill(task) }",
        "fn kill() { assert!(crate::life::kill::is_dead(task)); }",
        "mod inner { use super::super::super::life::control; }",
        "const UP: usize = super::super::life::COUNT;",
    ];
    for line in reaches {
        assert!(seen("ipc/receive.rs", line).contains(&"life".into()), "{line}");
    }
    for line in ["use crate::*;", "use crate as all;", "use crate::rooms::*;", "extern crate self as all;"] {
        assert_eq!(seen("ipc/receive.rs", line), ["all rooms"], "{line}");
    }
    assert_eq!(seen("answer.rs", "use crate::time::search::Search;"), ["time"]);
    assert_eq!(seen("lib.rs", "pub use life::kill::Kill;"), ["life"]);
}

#[test]
fn a_reach_into_a_room_below_is_allowed() {
    let own = [
        "use crate::outbox::mail::Next; // not crate::life::x",
        "use crate::{Answer, caps::slots::Place, rooms::{Caps, Ipc}};",
        "use super::faults::life;",
        "/// Ends like [`crate::life::kill`].\nfn end() { self.time().start(task, hot) }",
    ];
    for line in own {
        assert_eq!(seen("ipc/receive.rs", line), [""; 0], "{line}");
    }
    assert_eq!(seen("lib.rs", "pub use life::zombies::Zombies;"), [""; 0]);
}

/// Returns the rooms as the book shows them, from the highest to the lowest: the work of each, from
/// its `mod.rs`, and its modules.
fn map_of_rooms() -> String {
    let core = root().join("kern/core/src");
    let row = |(folder, context): &(&str, &str)| {
        let text = fs::read_to_string(core.join(folder).join("mod.rs")).expect("readable");
        let what = text.lines().next().and_then(|line| line.strip_prefix("//! ")).expect("a description");
        let what = what.split_once(": the room").map_or(what, |(what, _)| what);
        let names = text.lines().filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';'));
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        format!("| `{context}` | {what} | {} |\n", names.join(", "))
    };
    let rows: String = ROOMS.iter().rev().map(row).collect();
    format!("| room | work | modules |\n|---|---|---|\n{rows}")
}

#[test]
fn the_book_has_the_map_of_the_rooms() {
    let page = fs::read_to_string(root().join("docs/src/architecture.md")).expect("readable");
    let map = map_of_rooms();
    assert!(page.contains(&map), "docs/src/architecture.md should have:\n{map}");
}
