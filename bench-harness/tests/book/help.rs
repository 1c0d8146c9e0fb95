//! Help texts of the recipes: each recipe has one, each equals the host tool's output, and showing
//! one builds nothing.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use bench_harness::{cli, helptexts};

use crate::{read, root};

/// Recipes that are listed.
fn listed() -> BTreeSet<String> {
    let justfile = read(&root().join("Justfile"));
    let heads = justfile.lines().filter_map(|line| line.strip_suffix(" *args:"));
    heads.filter(|name| !name.starts_with('_')).map(str::to_owned).collect()
}

fn texts() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("docs/help")).expect("there are help texts");
    let names = files.map(|file| file.expect("a directory entry").file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_suffix(".txt").map(str::to_owned)).collect()
}

/// Runs a program of the tree, which finds no other but those of the system.
fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.arg(root().join(program)).args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
    // Where nothing can be installed.
    command.env("JUSTW_STATE", "/dev/null/justw").output().expect("there is a shell")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn each_recipe_has_a_text_and_each_text_a_recipe() {
    let (recipes, texts) = (listed(), texts());
    assert!(recipes.len() > 25, "{recipes:?}");
    let without: Vec<_> = recipes.difference(&texts).collect();
    assert!(without.is_empty(), "recipes without docs/help/NAME.txt: {without:?}");
    let of_recipe = |text: &&String| recipes.iter().any(|recipe| text.starts_with(&format!("{recipe}-")));
    let strange: Vec<_> = texts.difference(&recipes).filter(|text| !of_recipe(text)).collect();
    assert!(strange.is_empty(), "texts of no recipe: {strange:?}");
}

#[test]
fn texts_are_what_the_host_tool_says() {
    let rendered = helptexts::render(cli::command_line());
    assert!(rendered.len() > 20, "{} texts", rendered.len());
    for (name, text) in rendered {
        let committed = read(&root().join("docs/help").join(&name));
        assert!(committed == text, "docs/help/{name}: run `./justw help-texts`");
    }
}

#[test]
fn a_recipe_shows_its_text_and_does_nothing_else() {
    for recipe in listed() {
        let text = read(&root().join("docs/help").join(format!("{recipe}.txt")));
        for program in ["docs/help/or-run", "justw"] {
            let before: &[&str] = if program == "justw" { &[] } else { &["/nonexistent/just"] };
            let shown = run(program, &[before, &[&recipe, "--help"]].concat());
            assert!(shown.status.success() && said(&shown) == text, "{program} {recipe}: {shown:?}");
        }
    }
    let part = run("justw", &["trace", "--check", "stress", "-h"]);
    assert_eq!(said(&part), read(&root().join("docs/help/trace-stress.txt")));
    let word = run("docs/help/or-run", &["/nonexistent/just", "run", "--", "--help"]);
    assert!(!word.status.success(), "behind -- it is a word for the kernel");
}

#[test]
fn without_a_recipe_they_are_listed() {
    for arguments in [&[][..], &["--list"], &["--help"]] {
        let shown = run("justw", arguments);
        assert!(shown.status.success(), "{shown:?}");
        let text = said(&shown);
        let missing = listed().into_iter().find(|name| !text.contains(&format!("\n  {name} ")));
        assert_eq!(missing, None, "{text}");
    }
}

#[test]
fn what_no_recipe_has_is_refused_before_anything_is_installed() {
    let refused = |arguments: &[&str], why: &str| {
        let shown = run("justw", arguments);
        let text = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert!(!shown.status.success() && text.contains(why), "{arguments:?}: {shown:?}");
    };
    refused(&["stress", "--sed", "7"], "no recipe has the option --sed; ./justw stress --help");
    refused(&["bench", "--bogus=1"], "no recipe has the option --bogus");
    refused(&["bogus"], "there is no recipe 'bogus'");
    // Where nothing can be installed, a right option comes so far.
    refused(&["stress", "--seed=7"], "/dev/null/justw");
}
