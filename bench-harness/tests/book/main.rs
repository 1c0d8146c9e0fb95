//! Checks the book: generated parts agree with the code, links have targets, and every chapter is
//! in the table of contents.

mod english;
mod help;
mod names;
mod prose;
mod unnamed;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The chapters, and the README.
fn pages() -> Vec<PathBuf> {
    let chapters = fs::read_dir(root().join("docs/src")).expect("the book is there");
    let chapters = chapters.map(|entry| entry.expect("a directory entry").path());
    chapters
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .chain([root().join("README.md")])
        .collect()
}

/// Text outside code blocks.
fn prose(page: &str) -> String {
    let mut code = false;
    let mut text = String::new();
    for line in page.lines() {
        if line.starts_with("```") {
            code = !code;
        } else if !code {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// What a page's links lead to.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(to, _)| to.to_owned()).collect()
}

/// The anchors that a page's headings have.
fn anchors(page: &str) -> Vec<String> {
    let headings = prose(page);
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[test]
fn the_system_call_reference_is_the_codes() {
    let committed = read(&root().join("docs/src/syscalls.md"));
    assert!(committed == bench_harness::reference::render(), "docs/src/syscalls.md: run `./justw reference`");
}

#[test]
fn the_rules_of_authority_are_the_codes() {
    let committed = read(&root().join("docs/src/authority.md"));
    assert!(committed == bench_harness::rules::render(), "docs/src/authority.md: run `./justw reference`");
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        for link in links(&read(&page)).iter().filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name("").join(file) };
            let found =
                target.exists() && (anchor.is_empty() || anchors(&read(&target)).iter().any(|a| a == anchor));
            if !found {
                wrong.push(format!("{} → {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_chapter_is_in_the_table_of_contents() {
    let summary = root().join("docs/src/SUMMARY.md");
    let listed = links(&read(&summary));
    for page in pages() {
        let name = page.file_name().expect("a page has a name").to_string_lossy().into_owned();
        let known = name == "SUMMARY.md" || name == "README.md" || listed.contains(&name);
        assert!(known, "{name} is not in SUMMARY.md");
    }
}
