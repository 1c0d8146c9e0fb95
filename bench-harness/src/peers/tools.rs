//! The programs and Python modules that the build of seL4 needs on this host.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::host::find_program;
use crate::trouble::Trouble;

/// Where Python's modules may be, if the system has none.
pub const VENV: &str = "target/peers/venv";

/// A program, and Debian's package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("git", "git"),
    ("cmake", "cmake"),
    ("ninja", "ninja-build"),
    ("xmllint", "libxml2-utils"),
    ("make", "make"),
    ("gcc", "gcc"),
    ("objcopy", "binutils"),
    ("python3", "python3"),
];

/// A module of Python, Debian's package that has it, and its name for pip.
const MODULES: &[(&str, &str, &str)] = &[
    ("jinja2", "python3-jinja2", "jinja2"),
    ("ply", "python3-ply", "ply"),
    ("yaml", "python3-yaml", "pyyaml"),
    ("lxml", "python3-lxml", "lxml"),
];

/// The programs of this host, ready to build seL4.
#[derive(Debug)]
pub struct Tools {
    /// `PATH` of the build: Python of the virtual environment first, where there is one.
    path: OsString,
    /// What `gcc --version` says first.
    pub compiler: String,
}

impl Tools {
    /// Finds all tools that the comparison needs.
    ///
    /// Errors: names all that is missing and the command that installs it.
    pub fn find() -> Result<Tools> {
        let path = path_with(Path::new(VENV));
        let programs: Vec<_> = PROGRAMS.iter().filter(|(name, _)| find_program(name).is_none()).collect();
        let has = |module: &str| {
            let words = ["-c", &format!("import {module}")];
            let output = Command::new("python3").env("PATH", &path).args(words).output();
            output.is_ok_and(|output| output.status.success())
        };
        let python = programs.iter().all(|(name, _)| *name != "python3");
        let modules: Vec<_> = MODULES.iter().filter(|(module, ..)| !python || !has(module)).collect();
        if let Some(text) = missing(&programs, &modules) {
            return Err(Trouble::Usage(text).into());
        }
        let output = Command::new("gcc").arg("--version").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Tools { path, compiler: text.lines().next().unwrap_or("unknown").to_owned() })
    }

    /// Returns a command whose program, and the programs that it starts, are those that were
    /// checked.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.path);
        // These would change what is built.
        for name in ["CC", "CFLAGS", "LDFLAGS", "MAKEFLAGS", "CMAKE_GENERATOR"] {
            command.env_remove(name);
        }
        command
    }
}

fn path_with(venv: &Path) -> OsString {
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let Ok(programs) = venv.join("bin").canonicalize() else { return usual };
    let all: Vec<PathBuf> = std::iter::once(programs).chain(std::env::split_paths(&usual)).collect();
    std::env::join_paths(all).unwrap_or(usual)
}

/// Describes missing programs and modules; `None` if nothing is missing.
fn missing(programs: &[&(&str, &str)], modules: &[&(&str, &str, &str)]) -> Option<String> {
    let names: Vec<String> = programs
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .chain(modules.iter().map(|(name, ..)| format!("Python's {name}")))
        .collect();
    if names.is_empty() {
        return None;
    }
    let packages = programs.iter().map(|(_, package)| *package).chain(modules.iter().map(|module| module.1));
    let packages: Vec<&str> = packages.collect();
    let mut text = format!("seL4's build needs {}, which this host does not have.", names.join(", "));
    text += &format!("\nInstall on Debian or Ubuntu:  apt-get install {}", packages.join(" "));
    if !modules.is_empty() {
        let pip: Vec<&str> = modules.iter().map(|module| module.2).collect();
        text += &format!(
            "\nPython's modules elsewhere:   python3 -m venv {VENV} && {VENV}/bin/pip install {}",
            pip.join(" ")
        );
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_of_what_is_there() {
        assert_eq!(missing(&[], &[]), None);
    }

    #[test]
    fn each_missing_tool_comes_with_its_package() {
        let text = missing(&[&PROGRAMS[2]], &[&MODULES[1]]).expect("two are missing");
        assert!(text.contains("needs ninja, Python's ply, which"), "{text}");
        assert!(text.contains("apt-get install ninja-build python3-ply"), "{text}");
        assert!(text.contains("bin/pip install ply"), "{text}");
        let text = missing(&[&PROGRAMS[1]], &[]).expect("one is missing");
        assert!(!text.contains("pip"), "{text}");
    }
}
