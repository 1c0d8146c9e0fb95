//! Wrong descriptions, each with its report: `wrong/NAME.toml` and `wrong/NAME.txt`.
//!
//! `UPDATE=1 cargo test -p describe --test wrong` writes the reports again. Read them afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use similar::TextDiff;

/// Programs of a boot image.
const PROGRAMS: [&str; 8] = ["app", "kerntest", "log", "pager", "serial", "shell", "store", "stress"];
/// So many mistakes are described, at least.
const LEAST: usize = 150;
/// Columns of the widest line of a report.
const WIDEST: usize = 125;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong")
}

/// Returns the descriptions' paths in order.
fn descriptions() -> Vec<PathBuf> {
    let files = fs::read_dir(directory()).expect("the directory of wrong descriptions");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a directory entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}

/// Returns the report of a description.
fn report(path: &Path) -> String {
    let programs: Vec<String> = PROGRAMS.map(str::to_owned).into();
    let name = path.file_name().expect("a name").to_string_lossy();
    let bytes = fs::read(path).expect("a description");
    match describe::load(&format!("systems/{name}"), &bytes, Some(&programs)) {
        Ok(_) => panic!("{name} is not wrong"),
        Err(report) => report.to_string(),
    }
}

#[test]
fn each_wrong_description_has_its_report() {
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    let mut differences = String::new();
    for path in descriptions() {
        let (found, kept) = (report(&path), path.with_extension("txt"));
        if update {
            fs::write(&kept, &found).expect("a report that can be written");
            continue;
        }
        let wanted = fs::read_to_string(&kept).unwrap_or_default();
        if found != wanted {
            let diff = TextDiff::from_lines(&wanted, &found);
            let name = kept.file_name().expect("a name").to_string_lossy().into_owned();
            differences += &diff.unified_diff().header(&name, "found").to_string();
        }
    }
    assert!(differences.is_empty(), "reports differ; UPDATE=1 writes them again:\n{differences}");
}

#[test]
fn each_report_names_the_place_and_the_fix() {
    let paths = descriptions();
    assert!(paths.len() >= LEAST, "{} wrong descriptions", paths.len());
    for path in paths {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let report = report(&path);
        let of = |begins: &str| report.lines().filter(|line| line.trim_start().starts_with(begins)).count();
        let errors = of("error: ");
        assert!(errors > 0, "{name}");
        assert_eq!(of(&format!("--> systems/{name}:")), errors, "{name}: the place of each\n{report}");
        assert_eq!(of("= help: "), errors, "{name}: the fix of each\n{report}");
        let widest = report.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        assert!(widest <= WIDEST, "{name}: {widest} columns\n{report}");
    }
}

#[test]
fn a_file_that_is_too_long_is_refused() {
    let long = vec![b'#'; 300_000];
    let report = describe::load("systems/long.toml", &long, None).unwrap_err().to_string();
    assert!(report.contains("a description of 300000 bytes is too long"), "{report}");
    assert!(report.contains("systems/long.toml:1:1"), "{report}");
}

#[test]
fn colours_are_for_terminals() {
    let report = describe::load("x.toml", b"", None).unwrap_err();
    assert!(!report.render(false).contains('\x1b'));
    assert!(report.render(true).contains('\x1b'));
}
