//! What the figures depend on outside this tree: compiler, QEMU, processor.

use std::path::PathBuf;
use std::process::Command;

use serde::Serialize;

/// Stands in every result file.
#[derive(Clone, Serialize, Debug)]
pub struct Host {
    pub cpu: String,
    pub os: String,
    pub rustc: String,
    pub qemu: String,
    pub guest_cpu: String,
    /// What the kernel said of each attack at boot.
    pub mitigations: Vec<String>,
    /// What else the command line of every boot had.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub options: String,
    /// For captured figures: what executed the guest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub captured: String,
}

impl Host {
    pub fn look(qemu: &str, guest_cpu: &str) -> Host {
        Host {
            cpu: cpu_model(),
            os: os(),
            rustc: rustc_version(),
            qemu: qemu.to_owned(),
            guest_cpu: guest_cpu.to_owned(),
            mitigations: Vec::new(),
            options: String::new(),
            captured: String::new(),
        }
    }

    /// Makes an example of a host, for tests.
    #[cfg(test)]
    pub fn example(rustc: &str) -> Host {
        Host { rustc: rustc.to_owned(), ..Host::look("7.2.22", "max") }
    }
}

/// Returns the compiler of the kernel, as `rustc --version` says it.
pub fn rustc_version() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    first_line(&rustc, &["--version"])
}

/// Returns the commit that is checked out, and whether it has local changes.
pub fn commit() -> String {
    let commit = first_line("git", &["rev-parse", "HEAD"]);
    let changed = first_line("git", &["status", "--porcelain", "--untracked-files=no"]);
    if ["", "unknown"].contains(&changed.as_str()) { commit } else { commit + " with changes" }
}

/// Returns the operating system's name and release.
pub fn os() -> String {
    first_line("uname", &["-sr"])
}

/// Returns the processor's own name.
pub fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// Finds a program as the shell would.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}
