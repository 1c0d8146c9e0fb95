//! Checks the structure of the workspace: which crate may depend on which, which crates may use
//! `unsafe` and assembly, and which room of the kernel may name which.
//!
//! The book has the same table. Every kind of dependency counts, dev-dependencies, too: a test that
//! bypasses a layer would depend on that layer's internals and make them hard to change.

mod rooms;

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, TargetKind};

/// What one crate may do.
struct Rule {
    /// A directory of the workspace; `user/*` stands for every directory in `user`.
    directory: &'static str,
    /// Workspace crates that it may depend on.
    depends: &'static [&'static str],
    code: Code,
}

/// How much of a crate may be unsafe or assembly.
enum Code {
    /// None: every root says `forbid(unsafe_code)`.
    Safe,
    /// Only these modules: the root says `deny(unsafe_code)`, and assembly is in them alone.
    Modules(&'static [&'static str]),
    /// `unsafe`; assembly in these files alone.
    Unsafe(&'static [&'static str]),
    /// Both.
    UnsafeAndAsm,
}

use Code::{Modules, Safe, Unsafe, UnsafeAndAsm};

const fn rule(directory: &'static str, depends: &'static [&'static str], code: Code) -> Rule {
    Rule { directory, depends, code }
}

/// The first rule that fits a crate's directory is its rule.
const RULES: &[Rule] = &[
    rule("abi", &[], Safe),
    rule("test-abi", &["abi"], Safe),
    rule("protocols", &[], Safe),
    rule("describe", &["abi", "protocols"], Safe),
    rule("model", &["abi", "test-abi"], Safe),
    rule("snapshot", &[], Safe),
    rule("invariants", &["abi", "snapshot"], Safe),
    rule("confine", &["abi", "snapshot", "invariants"], Safe),
    // One instruction that no compiler can be asked for.
    rule("smp", &["abi", "test-abi"], Unsafe(&["door/masked.rs"])),
    rule("sched", &["abi", "test-abi", "smp"], Safe),
    rule("kern/base", &["abi", "test-abi", "smp", "sched"], Safe),
    rule("smp/abuse", &["abi", "smp", "kern-base"], Safe),
    rule("kern/hal", &["abi", "test-abi", "smp", "sched", "kern-base"], UnsafeAndAsm),
    // From the snapshot on only for tests: see below.
    rule(
        "kern/core",
        &[
            "abi",
            "test-abi",
            "smp",
            "sched",
            "kern-base",
            "snapshot",
            "kern-dump",
            "model",
            "invariants",
            "confine",
        ],
        Safe,
    ),
    rule("kern/dump", &["abi", "test-abi", "snapshot", "smp", "sched", "kern-base", "kern-core"], Safe),
    rule("ipc-fast", &["abi", "test-abi", "smp", "sched", "kern-base", "kern-hal"], UnsafeAndAsm),
    rule(
        "kern/image",
        &["abi", "test-abi", "smp", "sched", "kern-base", "kern-hal", "kern-core", "kern-dump", "ipc-fast"],
        Modules(&["boot"]),
    ),
    rule("user/rt", &["abi", "protocols"], Modules(&["arch", "heap", "utcb"])),
    rule("user/*", &["abi", "protocols", "user-rt"], Safe),
    rule("drivers/mmio", &["abi", "user-rt"], Unsafe(&[])),
    rule("drivers/*", &["abi", "protocols", "user-rt", "mmio"], Safe),
    rule("perf", &["abi", "test-abi", "protocols", "user-rt"], UnsafeAndAsm),
    rule("tests/guest", &["abi", "test-abi", "model", "policy", "protocols", "user-rt"], UnsafeAndAsm),
    rule(
        "bench-harness",
        &["abi", "confine", "describe", "instructions", "invariants", "protocols", "snapshot", "test-abi"],
        Safe,
    ),
    rule("bench-harness/instructions", &[], Safe),
    rule("bench-harness/plugin", &["instructions"], Modules(&["qemu"])),
    rule("bench-harness/gather", &[], Modules(&["preload"])),
];

struct Member<'a> {
    package: &'a Package,
    directory: PathBuf,
    rule: &'a Rule,
}

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().exec().expect("cargo metadata")
}

fn members(metadata: &Metadata) -> Vec<Member<'_>> {
    let root = metadata.workspace_root.as_std_path();
    let member = |package| {
        let directory = directory_of(package);
        let relative = directory.strip_prefix(root).expect("members are below the root");
        let rule = RULES.iter().find(|rule| fits(rule.directory, relative));
        let rule = rule.unwrap_or_else(|| panic!("{} has no rule: add it to the table", relative.display()));
        Member { package, directory: directory.clone(), rule }
    };
    metadata.packages.iter().map(member).collect()
}

fn directory_of(package: &Package) -> PathBuf {
    package.manifest_path.parent().expect("a manifest is in a directory").into()
}

fn fits(pattern: &str, directory: &Path) -> bool {
    match pattern.strip_suffix("/*") {
        Some(parent) => directory.parent() == Some(Path::new(parent)),
        None => directory == Path::new(pattern),
    }
}

/// Code of a line, without the comment.
fn code_of(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "s" || extension == "S")
        {
            found.push(path);
        }
    }
}

impl Member<'_> {
    fn sources(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        sources(&self.directory.join("src"), &mut found);
        found
    }

    /// The file that each library or program starts with.
    fn roots(&self) -> Vec<String> {
        let built =
            |kind: &TargetKind| matches!(kind, TargetKind::Lib | TargetKind::Bin | TargetKind::CDyLib);
        let targets = self.package.targets.iter().filter(|target| target.kind.iter().any(built));
        targets.map(|target| fs::read_to_string(&target.src_path).expect("a target's source")).collect()
    }

    /// Whether a file is one of these, or of one of these modules.
    fn is_in(&self, file: &Path, places: &[&str]) -> bool {
        let relative = file.strip_prefix(self.directory.join("src")).expect("a source of this crate");
        let first = relative.components().next().expect("a file has a name").as_os_str().to_string_lossy();
        places.contains(&first.trim_end_matches(".rs"))
            || places.iter().any(|place| relative == Path::new(place))
    }

    /// Every place outside `allowed` where a file's code has one of `words`.
    fn uses(&self, words: &[&str], allowed: &[&str]) -> Vec<String> {
        let mut places = Vec::new();
        for file in self.sources().iter().filter(|file| !self.is_in(file, allowed)) {
            let text = fs::read_to_string(file).expect("a source file");
            for (number, line) in text.lines().enumerate() {
                if words.iter().any(|word| code_of(line).contains(word)) {
                    places.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
                }
            }
        }
        places
    }
}

const ASSEMBLY: &[&str] = &["asm!("];

#[test]
fn each_crate_depends_only_on_what_the_table_allows() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for member in members(&metadata) {
        for dependency in member.package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            if !member.rule.depends.contains(&dependency.name.as_str()) {
                wrong.push(format!("{} → {}", member.package.name, dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that the table does not have:\n{}", wrong.join("\n"));
}

/// What it is to be judged by is no part of the kernel. Only test builds have the export of its
/// state. The fuzzer, a program in the guest, judges by the model, and the harness by the
/// invariants and by the oracle of confinement, which reads the same snapshots.
#[test]
fn only_tests_use_what_judges() {
    let metadata = metadata();
    let users = [
        ("snapshot", vec!["kern-dump", "invariants", "confine", "bench-harness"]),
        ("kern-dump", vec!["kern-image"]),
        ("model", vec!["guest-tests"]),
        ("invariants", vec!["bench-harness", "confine"]),
        ("confine", vec!["bench-harness"]),
    ];
    for (judge, users) in users {
        let judged = metadata.packages.iter().filter(|package| !users.contains(&package.name.as_str()));
        let dependencies = judged.flat_map(|package| &package.dependencies);
        let uses: Vec<_> = dependencies.filter(|dependency| dependency.name == judge).collect();
        assert!(uses.iter().all(|dependency| dependency.kind == DependencyKind::Development), "{uses:?}");
    }
}

#[test]
fn a_kernel_exports_its_state_only_where_that_is_asked_for() {
    let metadata = metadata();
    let image = metadata.packages.iter().find(|package| package.name == "kern-image").expect("the image");
    let export = image.dependencies.iter().find(|dependency| dependency.name == "kern-dump");
    assert!(export.is_some_and(|export| export.optional));
    assert!(!image.features["default"].contains(&"dump".to_owned()));
}

#[test]
fn unsafe_code_is_where_the_table_allows_it() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for member in members(&metadata) {
        let demanded = match member.rule.code {
            Safe => "#![forbid(unsafe_code)]",
            Modules(_) => "#![deny(unsafe_code)]",
            Unsafe(_) | UnsafeAndAsm => continue,
        };
        if !member.roots().iter().all(|root| root.contains(demanded)) {
            wrong.push(format!("{}: a root lacks {demanded}", member.package.name));
        }
        if let Modules(modules) = member.rule.code {
            wrong.extend(member.uses(&["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"], modules));
        }
    }
    assert!(wrong.is_empty(), "unsafe code out of place:\n{}", wrong.join("\n"));
}

#[test]
fn assembly_is_where_the_table_allows_it() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for member in members(&metadata) {
        let places = match member.rule.code {
            UnsafeAndAsm => continue,
            Modules(places) | Unsafe(places) => places,
            Safe => &[],
        };
        wrong.extend(member.uses(ASSEMBLY, places));
        let files = member.sources();
        let assembled =
            files.iter().filter(|file| file.extension().is_some_and(|extension| extension != "rs"));
        wrong.extend(assembled.map(|file| file.display().to_string()));
    }
    assert!(wrong.is_empty(), "assembly out of place:\n{}", wrong.join("\n"));
}

#[test]
fn the_top_page_of_the_documentation_has_every_crate() {
    let page = include_str!("../../../docs/api/index.md");
    let metadata = metadata();
    let mut targets = Vec::new();
    for member in members(&metadata) {
        let names: Vec<String> = (member.package.targets.iter())
            .filter(|target| target.is_bin() || target.is_lib() || target.is_cdylib())
            .map(|target| target.name.replace('-', "_"))
            .collect();
        let name = &member.package.name;
        let is_there = names.iter().any(|target| page.contains(&format!("({target}/index.html)")));
        assert!(is_there, "docs/api/index.md has no link to {name}: one of {names:?}");
        targets.extend(names);
    }
    for link in page.split("](").skip(1).filter_map(|rest| rest.split_once("/index.html)")) {
        assert!(
            targets.iter().any(|target| target == link.0),
            "docs/api/index.md: there is no crate {}",
            link.0
        );
    }
}
