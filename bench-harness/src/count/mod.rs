//! Counts the size of the kernel and the dependencies of its parts: code lines, functions, methods
//! of one type, cycles of files that call each other, unsafe blocks.
//!
//! All figures come from parsing the sources ([`source`]), without code that only tests have,
//! comments and blank lines. Code that a macro of the kernel expands to does not count; the macro's
//! definition does.

mod calls;
mod house;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use syn::visit::{self, Visit};

use house::{House, Names};
pub use source::CRATES as KERNEL;
use source::Source;

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench count
  aurora-bench count --root ../other          another checkout, for before and after
  aurora-bench count --calls                  each file of the largest circle, and what it calls in the others";

/// What to count.
#[derive(Args, Debug)]
pub struct Wanted {
    /// The project's root
    #[arg(long, default_value = ".", value_name = "DIR")]
    root: PathBuf,
    /// List the files of the largest circle of calls, too
    #[arg(long)]
    calls: bool,
}

/// What was counted.
#[derive(PartialEq, Eq, Debug, Default)]
struct Count {
    /// Code lines of each crate.
    crates: BTreeMap<String, usize>,
    /// Lines of each function, ascending.
    functions: Vec<usize>,
    /// The longest one.
    longest: String,
    /// The type on which most methods can be called, and how many.
    type_methods: (String, usize),
    /// Files of the largest circle, each with what it calls in the others.
    cycle: BTreeMap<String, Vec<String>>,
    cycle_lines: usize,
    /// The file that has most code lines, and how many.
    file: (String, usize),
    unsafe_blocks: usize,
}

/// Counts the kernel's code, and prints the counts.
pub fn command(wanted: &Wanted) -> Result<()> {
    let sources = source::read(&wanted.root)?;
    sources
        .first()
        .with_context(|| format!("{} has no kernel: give the project's root", wanted.root.display()))?;
    let count = Count::of(&sources);
    print!("{}", count.text(wanted.calls));
    Ok(())
}

impl Count {
    fn of(sources: &[Source]) -> Count {
        let house = House::of(sources);
        let mut count = Count::default();
        for source in sources {
            *count.crates.entry(source.of.clone()).or_default() += source.lines;
            count.unsafe_blocks += unsafe_blocks(source);
        }
        let mut functions: Vec<_> =
            house.functions.iter().filter(|function| function.body.is_some()).collect();
        functions.sort_by_key(|function| function.length);
        count.functions = functions.iter().map(|function| function.length).collect();
        count.longest = functions
            .last()
            .map_or(String::new(), |of| format!("{} in {}", of.name, name(&sources[of.file])));
        count.type_methods = most_methods(&house);
        let largest = sources.iter().max_by_key(|source| source.lines);
        count.file = largest.map_or((String::new(), 0), |source| (name(source), source.lines));
        count.take_cycle(&house, sources);
        count
    }

    fn take_cycle(&mut self, house: &House, sources: &[Source]) {
        let calls = calls::calls(house, sources);
        let graph: DiGraphMap<usize, ()> = calls.keys().copied().collect();
        let circles = tarjan_scc(&graph);
        let Some(largest) =
            circles.iter().filter(|circle| circle.len() > 1).max_by_key(|circle| circle.len())
        else {
            return;
        };
        self.cycle_lines = largest.iter().map(|file| sources[*file].lines).sum();
        for file in largest {
            let within = calls.iter().filter(|((from, to), _)| from == file && largest.contains(to));
            let of = |to: usize, functions: &BTreeSet<String>| {
                let functions: Vec<&str> = functions.iter().map(String::as_str).collect();
                format!("{}: {}", name(&sources[to]), functions.join(" "))
            };
            let of = within.map(|((_, to), functions)| of(*to, functions));
            self.cycle.insert(name(&sources[*file]), of.collect());
        }
    }

    fn text(&self, with_calls: bool) -> String {
        let mut text = String::new();
        let lines: usize = self.crates.values().sum();
        let rank = |percent: usize| {
            self.functions.get((self.functions.len() * percent / 100).saturating_sub(1)).unwrap_or(&0)
        };
        let functions = format!("{} / {} / {}", rank(50), rank(90), rank(100));
        let mut row = |what: &str, figure: &str, of: &str| {
            writeln!(text, "  {what:<34}{figure:>12}  {of}").unwrap_or_default();
        };
        self.crates
            .iter()
            .for_each(|(name, lines)| row(&format!("code lines of {name}"), &lines.to_string(), ""));
        row("code lines of the kernel", &lines.to_string(), "");
        row("functions", &self.functions.len().to_string(), "");
        row("lines of one: median / p90 / max", &functions, &self.longest);
        row("methods on one type, at most", &self.type_methods.1.to_string(), &self.type_methods.0);
        row("files in the largest circle", &self.cycle.len().to_string(), "");
        row("code lines in it", &self.cycle_lines.to_string(), "");
        row("code lines of one file, at most", &self.file.1.to_string(), &self.file.0);
        row("unsafe blocks", &self.unsafe_blocks.to_string(), "");
        if with_calls {
            for (file, calls) in &self.cycle {
                writeln!(text, "{file} calls of").unwrap_or_default();
                calls.iter().for_each(|calls| writeln!(text, "  {calls}").unwrap_or_default());
            }
        }
        writeln!(
            text,
            "count: kernel_lines={lines} type_methods={} cycle_files={} cycle_lines={} file_lines={} unsafe={}",
            self.type_methods.1,
            self.cycle.len(),
            self.cycle_lines,
            self.file.1,
            self.unsafe_blocks
        )
        .unwrap_or_default();
        text
    }
}

/// Returns a file's short name, such as `kern/core/ipc.rs`.
fn name(source: &Source) -> String {
    source.path.to_string_lossy().replacen("/src/", "/", 1)
}

/// Returns the type on which most methods can be called: its own, those of its traits, and those of
/// the types to which it dereferences.
fn most_methods(house: &House) -> (String, usize) {
    let reachable = |owner: &String| {
        let owners = house.closure(&Names::from([owner.clone()]));
        let its = house.functions.iter().filter(|function| {
            function.is_method && function.owner.as_ref().is_some_and(|owner| owners.contains(owner))
        });
        its.map(|function| function.name.as_str()).collect::<BTreeSet<_>>().len()
    };
    let counted = house.owners().into_iter().map(|owner| (reachable(&owner), owner));
    counted.max().map_or((String::new(), 0), |(methods, owner)| (owner, methods))
}

fn unsafe_blocks(source: &Source) -> usize {
    struct Blocks(usize);
    impl<'a> Visit<'a> for Blocks {
        fn visit_expr_unsafe(&mut self, block: &'a syn::ExprUnsafe) {
            self.0 += 1;
            visit::visit_expr_unsafe(self, block);
        }
    }
    let mut blocks = Blocks(0);
    blocks.visit_file(&source.file);
    blocks.0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::campaign::scratch;

    /// Makes a project whose kernel is one crate of these files.
    fn project(test: &str, files: &[(&str, &str)]) -> Vec<Source> {
        let root = scratch(test);
        for dir in ["smp/src", "sched/src", "ipc-fast/src", "kern"] {
            fs::create_dir_all(root.join(dir)).expect("made");
        }
        files
            .iter()
            .for_each(|(name, text)| fs::write(root.join("smp/src").join(name), text).expect("written"));
        source::read(&root).expect("it parses")
    }

    #[test]
    fn files_that_call_each_other_are_a_circle() {
        let with = |end: &str| {
            project(
                "count-circle",
                &[
                    (
                        "lib.rs",
                        "mod a; mod b; mod c; mod d;\npub struct Cx<'k, M: Machine> { k: &'k Kernel<M> }\n",
                    ),
                    (
                        "a.rs",
                        &format!("impl<M> Cx<'_, M> {{\n fn one(&self) {{\n  self.two();\n }}\n}}\n{end}"),
                    ),
                    (
                        "b.rs",
                        "impl<M> Cx<'_, M> { fn two(&self) { let task: Option<&Task> = None; if let Some(task) = task { task.three() } } }",
                    ),
                    (
                        "c.rs",
                        "pub struct Task { at: u8 }\nimpl Task { fn three(&self) { crate::a::four() } }\nimpl Other { fn three(&self) {} }\n",
                    ),
                    ("d.rs", "pub fn five(cx: &Cx<()>) { cx.one() }"),
                ],
            )
        };
        assert_eq!(Count::of(&with("")).cycle.len(), 0, "nothing leads from c to a");
        let sources = with("pub fn four() {}\n");
        let count = Count::of(&sources);
        assert_eq!(count.cycle.keys().collect::<Vec<_>>(), ["smp/a.rs", "smp/b.rs", "smp/c.rs"]);
        assert_eq!(count.cycle_lines, 6 + 1 + 3);
        assert!(count.text(true).contains("smp/b.rs calls of\n  smp/c.rs: three\n"), "{}", count.text(true));
        assert!(
            count.text(false).ends_with(
                "count: kernel_lines=13 type_methods=2 cycle_files=3 cycle_lines=10 file_lines=6 unsafe=0\n"
            ),
            "{}",
            count.text(false)
        );
    }

    #[test]
    fn methods_of_traits_and_behind_a_dereference_count() {
        let sources = project(
            "count-methods",
            &[(
                "lib.rs",
                "impl Cx { fn a(&self) {} fn new() {} } impl Deref for Cx { type Target = Own; fn deref(&self) -> &Own { unsafe { x() } } }
                 impl Own { fn b(&self) {} } trait Loud: Quiet { fn c(&self); fn d(&self) {} } trait Quiet { fn e(&self) {} }
                 impl Loud for Own { fn c(&self) {} } #[cfg(test)] impl Own { fn f(&self) {} }",
            )],
        );
        let count = Count::of(&sources);
        assert_eq!(count.type_methods, ("Cx".to_owned(), 6), "a, b, c, d, e and deref");
        assert_eq!(count.unsafe_blocks, 1);
    }

    #[test]
    fn a_room_has_what_it_leads_to_and_the_context() {
        let text = "room! { /// Below.\n Low: } room! { /// Above.\n High: low Low } struct Cx; impl Cx { fn a(&self) {} }
                    impl Low { fn b(&self) {} } impl High { fn c(&self) { self.low().b() } }";
        let count = Count::of(&project("count-rooms", &[("lib.rs", text)]));
        assert_eq!(count.type_methods, ("High".to_owned(), 3), "a, c and low");
    }

    #[test]
    fn rows_of_methods_are_methods() {
        let text = "struct Hot; impl Hot { fn a(&self) {} }
                    methods! { Hot: /// One.\n fn b<'k>(self, pin: Pin<'k>) -> Option<u8> = self.x.get(pin);
                    fn c(self) = { self.b(); }; }";
        let count = Count::of(&project("count-rows", &[("lib.rs", text)]));
        assert_eq!(count.type_methods, ("Hot".to_owned(), 3), "a, b and c");
    }

    #[test]
    fn the_kernel_is_read_whole() {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let count = Count::of(&source::read(&root).expect("it parses"));
        assert_eq!(count.crates.len(), 8, "{:?}", count.crates.keys());
        assert!(count.crates.values().all(|lines| *lines > 500), "{:?}", count.crates);
    }
}
