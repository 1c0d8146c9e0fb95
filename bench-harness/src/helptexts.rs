//! `docs/help`: the help text of each recipe of the Justfile, which prints it without building
//! anything.
//!
//! Recipes that are commands of this program have clap's text; the others have texts of their own.

use std::path::Path;

use anyhow::Result;

use crate::files;
use clap::Command;

/// Recipes that are commands of this program. One has another name here.
const RECIPES: [(&str, &str); 25] = [
    ("run", "run"),
    ("bench", "bench"),
    ("explain", "explain"),
    ("stress", "stress"),
    ("torture", "torture"),
    ("fuzz", "fuzz"),
    ("policy", "policy"),
    ("restarts", "restarts"),
    ("new-program", "new-program"),
    ("campaign", "campaign"),
    ("trace", "trace"),
    ("scale", "scale"),
    ("hostile", "hostile"),
    ("peers", "peers"),
    ("mailbox", "mailbox"),
    ("diff", "diff"),
    ("judge", "judge"),
    ("systems", "systems"),
    ("test", "test"),
    ("test-bochs", "bochs"),
    ("iso", "iso"),
    ("decode", "decode"),
    ("count", "count"),
    ("figures", "figures"),
    ("gdb", "gdb"),
];
const WIDTH: usize = 110;
/// What clap says where there is a longer text.
const MORE: &str = " (see more with '--help')";
/// How the program, and its recipes, are called.
const PROGRAM: &str = "aurora-bench";
const WRAPPER: &str = "./justw";

/// Returns name and text of each help file that is made of this command line.
pub fn render(cli: Command) -> Vec<(String, String)> {
    let mut cli = cli.term_width(WIDTH);
    cli.build();
    let mut texts = Vec::new();
    for (recipe, name) in RECIPES {
        let Some(command) = cli.find_subcommand_mut(name) else { continue };
        let of_recipe = |text: String| {
            let text = text.replace(&format!("{PROGRAM} {name}"), &format!("{WRAPPER} {recipe}"));
            text.replace(PROGRAM, WRAPPER)
        };
        texts.push((format!("{recipe}.txt"), of_recipe(text(command))));
        for part in command.get_subcommands_mut().filter(|part| part.get_name() != "help") {
            texts.push((format!("{recipe}-{}.txt", part.get_name()), of_recipe(text(part))));
        }
    }
    texts
}

fn text(command: &mut Command) -> String {
    let text = command.render_help().to_string();
    let lines: Vec<&str> =
        text.trim_end().lines().map(|line| line.trim_end().trim_end_matches(MORE)).collect();
    lines.join("\n") + "\n"
}

/// Writes the help files into a directory.
pub fn write(cli: Command, dir: &Path) -> Result<()> {
    for (name, text) in render(cli) {
        let path = dir.join(name);
        files::write(&path, text)?;
    }
    Ok(())
}
