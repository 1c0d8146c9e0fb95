//! Makes a program outside the tree, which a plain `cargo build` builds, and a system in which it
//! runs.

use std::path::{Path, PathBuf};

use abi::level::PARTS;
use anyhow::{Context, Result};
use clap::Args;

use crate::files;
use crate::trouble::Trouble;

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench new-program hello                    in the directory hello
  aurora-bench new-program hello --out ~/hello
  cd ~/hello && cargo run --release                 builds it, and boots its system
  cargo run --release -- --cpus 2                   words behind -- are for `justw run`

The book's pages Write a server and Write a driver continue from there.";

/// The program, and where it goes.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    /// The program's name: a-z, 0-9 and -, at most 31 characters
    name: String,
    /// The directory, which must not exist [default: NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Files of a program, as templates.
const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("../templates/new-program/Cargo.toml")),
    (SETTINGS, include_str!("../templates/new-program/config.toml")),
    ("src/main.rs", include_str!("../templates/new-program/main.rs")),
    ("@NAME@.toml", include_str!("../templates/new-program/system.toml")),
];
const SETTINGS: &str = ".cargo/config.toml";
const DEBIAN: &str = include_str!("../templates/new-program/debian.toml");
const IGNORED: &str = "/target\n";

/// Runs the command. The tree is the current directory.
pub fn command(wanted: &Wanted) -> Result<()> {
    let tree = std::env::current_dir().context("finding the tree")?;
    let out = std::path::absolute(files::as_given(wanted.out.as_deref().unwrap_or(Path::new(&wanted.name))))?;
    make(&tree, &wanted.name, &out)?;
    println!("{}: build and run it there with `cargo run --release`", out.display());
    Ok(())
}

/// Makes a program of the runtime in `tree`.
pub fn make(tree: &Path, name: &str, out: &Path) -> Result<()> {
    let is_good = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    let begins = name.starts_with(|letter: char| letter.is_ascii_lowercase());
    if !begins || name.len() > 31 || !name.chars().all(is_good) {
        let text = format!(
            "`{name}` is no name of a program: it begins with a letter and has at most 31 of a-z, 0-9 and -"
        );
        return Err(Trouble::Usage(text).into());
    }
    if PARTS.contains(&name) {
        return Err(Trouble::Usage(format!("the tree has a program {name}; choose another name")).into());
    }
    if out.exists() {
        let text = format!("{} exists; name another directory with --out", out.display());
        return Err(Trouble::Usage(text).into());
    }
    let debian = debian();
    let fill = |text: &str| {
        let text = text.replace("@NAME@", name);
        text.replace("@TREE@", &tree.display().to_string()).replace("@OUT@", &out.display().to_string())
    };
    for (file, text) in FILES {
        let path = out.join(fill(file));
        files::make_dir_of(&path)?;
        files::write(&path, fill(text) + if file == SETTINGS { &debian } else { "" })?;
    }
    files::write(&out.join(".gitignore"), IGNORED)?;
    // The same versions of crates as in the tree.
    let lock = std::fs::read(tree.join("Cargo.lock")).context("reading the tree's Cargo.lock")?;
    files::write(&out.join("Cargo.lock"), lock)
}

/// Returns more settings for Debian's compiler, which has no core for the target, and a linker of
/// another name. Cargo then takes `RUSTC_BOOTSTRAP=1`.
fn debian() -> String {
    if std::env::var("AURORA_BUILD_STD").is_ok_and(|value| value == "1") {
        let linker = std::env::var("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER").unwrap_or("ld.lld".to_owned());
        return DEBIAN.replace("@LINKER@", &linker);
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_nothing_is_overwritten() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let place = std::env::temp_dir().join(format!("aurora-new-{}", std::process::id()));
        for name in ["", "store", "Hello", "9lives", "a b", "../x", &"x".repeat(32)] {
            assert!(make(&tree, name, &place).is_err(), "{name}");
        }
        assert!(!place.exists());
        make(&tree, "hello-2", &place).expect("a program");
        let main = std::fs::read_to_string(place.join("src/main.rs")).expect("its source");
        assert!(main.contains("note hello-2: hello") && !main.contains('@'), "{main}");
        assert!(place.join("hello-2.toml").is_file());
        let again = make(&tree, "hello-2", &place).expect_err("it is there").to_string();
        assert!(again.contains("exists; name another"), "{again}");
        std::fs::remove_dir_all(&place).expect("removed");
    }
}
