//! Checks that everything that the book names exists: tests, steps of the suite, builds of the
//! kernel, recipes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bench_harness::suite::Step;
use clap::ValueEnum;

use crate::{pages, prose, read, root};

/// Names of tests, and those of the modules that they are in.
type Tests = BTreeMap<String, BTreeSet<String>>;

/// What a name in the book is said to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    HostTest,
    KernelTest,
    LoomModel,
    Step,
    /// Nothing is said.
    Unknown,
}

/// A name between backticks.
#[derive(PartialEq, Eq, Debug)]
struct Name<'a> {
    kind: Kind,
    text: &'a str,
}

/// Returns all names of a page. In a list, the words before the first name count for all of them.
fn names(page: &str) -> Vec<Name<'_>> {
    let parts: Vec<&str> = page.split('`').collect();
    let mut names: Vec<Name<'_>> = Vec::new();
    for around in parts.windows(3).step_by(2) {
        let [before, text, behind] = around else { continue };
        let before = before.trim_end_matches([' ', '\n']);
        let words = |kind: &str| before.ends_with(kind) || before.ends_with(&format!("{kind}s"));
        let kind = match before {
            _ if words("kernel test") => Kind::KernelTest,
            _ if words("host test") => Kind::HostTest,
            _ if words("loom") => Kind::LoomModel,
            _ if words("suite's step") || behind.starts_with(" step") => Kind::Step,
            "," | " and" => names.last().map_or(Kind::Unknown, |last| last.kind),
            _ => Kind::Unknown,
        };
        names.push(Name { kind, text });
    }
    names
}

/// Returns all Rust sources below a directory, except build output.
fn sources(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of the tree") {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found
}

/// Adds tests to each module that their file is in: the file, and the directories above it.
fn add(tests: &mut Tests, file: &Path, names: &[&str]) {
    let inside = file.strip_prefix(root()).expect("a file of the tree");
    for module in inside.with_extension("").iter() {
        let module = tests.entry(module.to_string_lossy().into_owned()).or_default();
        module.extend(names.iter().map(|name| (*name).to_owned()));
    }
}

/// Returns the functions that stand behind `#[test]`, or behind it in a `proptest!`.
fn host_tests() -> Tests {
    let mut tests = Tests::new();
    for file in sources(&root()) {
        let text = read(&file);
        let behind =
            text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn ")?.1.split_once('('));
        add(&mut tests, &file, &behind.map(|(name, _)| name).collect::<Vec<_>>());
    }
    tests.retain(|_, names| !names.is_empty());
    tests
}

/// Returns the tables of tests of the program that tests the kernel.
fn kernel_tests() -> Tests {
    let directory = root().join("tests/guest/src/bin/kerntest");
    let mut tests = Tests::new();
    for file in sources(&directory) {
        let text = read(&file);
        let table = text.split_once("\ntests! {").and_then(|(_, rest)| rest.split_once('}'));
        let names: Vec<&str> = table.map_or("", |(names, _)| names).split_whitespace().collect();
        let inside = file.strip_prefix(&directory).expect("a file of the program").with_extension("");
        let module = inside.iter().next().expect("a file has a name").to_string_lossy().into_owned();
        tests.entry(module).or_default().extend(names.into_iter().map(str::to_owned));
    }
    let modules = kernel_test_modules();
    tests.retain(|module, _| modules.contains(module));
    tests
}

fn kernel_test_modules() -> BTreeSet<String> {
    let suite = read(&root().join("tests/guest/src/bin/kerntest/suite.rs"));
    let entries = suite.split("\n    (\"").skip(1).filter_map(|rest| rest.split_once('"'));
    entries.map(|(module, _)| module.to_owned()).collect()
}

fn loom_models() -> BTreeSet<String> {
    let files = sources(&root().join("smp/tests/loom")).into_iter().filter_map(|file| {
        (file.parent()? == root().join("smp/tests/loom"))
            .then(|| file.file_stem().map(|n| n.to_string_lossy().into_owned()))?
    });
    files.filter(|name| name.starts_with("loom_")).collect()
}

fn steps() -> Vec<String> {
    let names = Step::value_variants().iter().filter_map(|step| step.to_possible_value());
    names.map(|name| name.get_name().to_owned()).collect()
}

/// Whether `text` is a module of tests, a test, or a test in its module.
fn has(tests: &Tests, text: &str) -> bool {
    match text.split_once("::") {
        None => tests.contains_key(text) || tests.values().any(|names| names.contains(text)),
        Some((module, "*")) => tests.contains_key(module),
        Some((module, test)) => tests.get(module).is_some_and(|names| names.contains(test)),
    }
}

/// Pages whose claims tests hold: a long name there is that of a test, whatever stands before it.
const CLAIMS: [&str; 2] = ["promises.md", "holes.md"];

/// Whether this can only be the name of a test: tests are called by sentences.
fn is_sentence(text: &str) -> bool {
    let is_snake_case = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    is_snake_case && text.matches('_').count() > 3
}

#[test]
fn tests_that_are_named_are_there() {
    let (host, kernel, models, steps) = (host_tests(), kernel_tests(), loom_models(), steps());
    let is_there = |name: &Name<'_>, page: &Path| match name.kind {
        Kind::HostTest => has(&host, name.text),
        Kind::KernelTest => has(&kernel, name.text),
        Kind::LoomModel => models.contains(name.text),
        Kind::Step => steps.iter().any(|step| step == name.text),
        Kind::Unknown if CLAIMS.iter().any(|claims| page.ends_with(claims)) => {
            !is_sentence(name.text) || has(&host, name.text) || has(&kernel, name.text)
        }
        Kind::Unknown => true,
    };
    let mut wrong = Vec::new();
    for page in pages() {
        let text = prose(&read(&page));
        let missing = names(&text).into_iter().filter(|name| !is_there(name, &page));
        wrong.extend(missing.map(|name| format!("{}: {:?} {}", page.display(), name.kind, name.text)));
    }
    assert!(wrong.is_empty(), "names of tests that are not there:\n{}", wrong.join("\n"));
}

#[test]
fn names_are_what_the_words_before_them_say() {
    let page = "kernel tests `a`, `b::c` and `d`; `e` step; loom `f`. The host test `g::*`; `h`";
    let found: Vec<(Kind, &str)> = names(page).into_iter().map(|name| (name.kind, name.text)).collect();
    let wanted = [
        (Kind::KernelTest, "a"),
        (Kind::KernelTest, "b::c"),
        (Kind::KernelTest, "d"),
        (Kind::Step, "e"),
        (Kind::LoomModel, "f"),
        (Kind::HostTest, "g::*"),
        (Kind::Unknown, "h"),
    ];
    assert_eq!(found, wanted);
}

/// Returns the first names of the rows of a page's table below a heading.
fn first_column(page: &str, heading: &str) -> Vec<String> {
    let text = read(&root().join("docs/src").join(page));
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect("the page has that heading");
    let section = section.split("\n##").next().unwrap_or_default();
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .filter_map(|line| line.strip_prefix("| `"));
    rows.flat_map(|row| {
        let cell = row.split(" | ").next().unwrap_or_default();
        cell.split("`, `").map(|name| name.trim_end_matches('`').to_owned()).collect::<Vec<_>>()
    })
    .collect()
}

/// A list in the book has each of these once.
fn assert_lists(listed: &[String], wanted: impl IntoIterator<Item = String>, where_it_is: &str) {
    let wanted: BTreeSet<String> = wanted.into_iter().collect();
    let found: BTreeSet<String> = listed.iter().cloned().collect();
    let missing: Vec<&String> = wanted.difference(&found).collect();
    let too_many: Vec<&String> = found.difference(&wanted).collect();
    assert!(
        missing.is_empty() && too_many.is_empty(),
        "{where_it_is}: lacks {missing:?}, has {too_many:?} which are not there"
    );
    assert_eq!(found.len(), listed.len(), "{where_it_is}: a name stands there twice");
}

#[test]
fn all_kernel_test_modules_are_listed() {
    let listed = first_column("testing.md", "Kernel tests");
    assert_lists(&listed, kernel_test_modules(), "testing.md, Kernel tests");
}

#[test]
fn all_loom_models_are_listed() {
    assert_lists(&first_column("testing.md", "Loom"), loom_models(), "testing.md, Loom");
}

#[test]
fn the_suites_steps_are_listed_in_order() {
    assert_eq!(first_column("running.md", "Tests"), steps(), "running.md, Tests");
}

/// The kernels with one planted bug each are one: `planted-`, `trace-planted-`.
fn family(variant: &str) -> String {
    let (family, _) = variant
        .split_once("planted-")
        .map_or((variant, ""), |(before, _)| variant.split_at(before.len() + "planted-".len()));
    family.to_owned()
}

#[test]
fn all_builds_of_the_kernel_are_listed() {
    let text = read(&root().join("Justfile"));
    let calls = ["_kernel ", "_quick "].into_iter().flat_map(|recipe| text.split(recipe).skip(1));
    let calls = calls.map(|rest| rest.trim_start_matches('"'));
    let variants = calls.filter_map(|rest| rest.split(['"', ' ', ')', '\n']).next());
    let is_name = |name: &&str| !name.starts_with('$') && *name != "variant";
    let built: BTreeSet<String> = variants.filter(is_name).map(family).collect();
    let listed = first_column("running.md", "Builds of the kernel");
    let listed: Vec<String> =
        listed.iter().map(|name| family(name.trim_start_matches("aurora").trim_start_matches('-'))).collect();
    assert_lists(&listed, built, "running.md, Builds of the kernel");
}

/// Returns the recipes, those that are not listed among them.
fn recipes() -> BTreeSet<String> {
    let text = read(&root().join("Justfile"));
    let heads = text.lines().filter(|line| !line.starts_with([' ', '#', '[']) && !line.contains(":="));
    let names = heads.filter_map(|line| line.split_once(':')?.0.split(' ').next());
    names.map(str::to_owned).collect()
}

#[test]
fn recipes_that_are_named_are_there() {
    let recipes = recipes();
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        let named = text
            .split("./justw ")
            .skip(1)
            .filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '-' && c != '_').next());
        let missing =
            named.filter(|name| !name.is_empty() && !name.starts_with('-') && !recipes.contains(*name));
        wrong.extend(missing.map(|name| format!("{}: {name}", page.display())));
    }
    assert!(wrong.is_empty(), "recipes that are not there:\n{}", wrong.join("\n"));
}
