//! Builds seL4's kernel and the root task.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::settings::Settings;
use super::tools::Tools;

/// The Makefile of the root task.
const MAKEFILE: &str = "peers/sel4/root/Makefile";
/// Lines of a failed command's output that are shown.
const LAST_LINES: usize = 12;

/// What QEMU boots.
pub struct Images {
    pub kernel: PathBuf,
    pub root: PathBuf,
}

/// Builds the other kernel and its programs again in `dir`.
/// Requires: `source` is absolute.
pub fn build(tools: &Tools, source: &Path, dir: &Path, settings: &Settings) -> Result<Images> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", dir.display()));
        }
        _ => fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?,
    }
    let dir = dir.canonicalize()?;
    let kernel = build_kernel(tools, source, &dir, settings)?;
    let root = build_root(tools, source, &dir)?;
    Ok(Images { kernel, root })
}

/// Returns the kernel as QEMU wants it: a 32-bit ELF file, since QEMU loads it by Multiboot.
fn build_kernel(tools: &Tools, source: &Path, dir: &Path, settings: &Settings) -> Result<PathBuf> {
    let built = dir.join("kernel");
    let mut cmake = tools.command("cmake");
    cmake.args(["-G", "Ninja", "-S"]).arg(source).arg("-B").arg(&built);
    cmake.arg(format!("-DCMAKE_TOOLCHAIN_FILE={}", source.join("gcc.cmake").display()));
    cmake.arg("-DCROSS_COMPILER_PREFIX=");
    cmake.args(settings.iter().map(|(name, value)| format!("-D{name}={value}")));
    run(&mut cmake, &dir.join("cmake.log"))?;
    check_cache(&fs::read_to_string(built.join("CMakeCache.txt"))?, settings)?;
    run(tools.command("ninja").arg("-C").arg(&built), &dir.join("ninja.log"))?;
    let kernel = dir.join("kernel32.elf");
    let mut objcopy = tools.command("objcopy");
    objcopy.args(["-O", "elf32-i386"]).arg(built.join("kernel.elf")).arg(&kernel);
    run(&mut objcopy, &dir.join("objcopy.log"))?;
    Ok(kernel)
}

fn build_root(tools: &Tools, source: &Path, dir: &Path) -> Result<PathBuf> {
    let output = dir.join("root");
    fs::create_dir_all(&output)?;
    let mut make = tools.command("make");
    make.args(["-f", MAKEFILE]).arg(format!("SOURCE={}", source.display()));
    make.arg(format!("KERNEL={}", dir.join("kernel").display()));
    make.arg(format!("OUTPUT={}", output.display()));
    run(&mut make, &dir.join("root.log"))?;
    Ok(output.join("root.elf"))
}

/// Checks that CMake knows the settings and has used them: another commit may have renamed one.
fn check_cache(cache: &str, settings: &Settings) -> Result<()> {
    for (name, wanted) in settings {
        let line = cache.lines().find_map(|line| line.strip_prefix(name.as_str())?.strip_prefix(':'));
        match line.and_then(|line| line.split_once('=')) {
            Some(("UNINITIALIZED", _)) | None => {
                bail!("this commit of seL4 has no setting {name}: `config.cmake` there lists them")
            }
            Some((_, value)) if value != wanted => {
                bail!("seL4's build set {name} to {value} instead of {wanted}: another setting excludes it")
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Runs a command whose output goes to a file.
fn run(command: &mut Command, log: &Path) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let status = command
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("starting {program}"))?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  | ");
    bail!("{program} failed ({status}). All of its output is in {}; the end:\n  | {last}", log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::from([("KernelFastpath".to_owned(), "ON".to_owned())])
    }

    #[test]
    fn settings_must_have_been_taken() {
        assert!(check_cache("// Fastpath\nKernelFastpath:BOOL=ON\n", &settings()).is_ok());
        let error = check_cache("KernelFastpath:BOOL=OFF\n", &settings()).expect_err("not taken");
        assert!(error.to_string().contains("to OFF instead of ON"), "{error}");
    }

    #[test]
    fn settings_must_be_known() {
        for cache in ["", "KernelFastpath:UNINITIALIZED=ON\n", "KernelFastpathOther:BOOL=ON\n"] {
            let error = check_cache(cache, &settings()).expect_err("not known");
            assert!(error.to_string().contains("has no setting KernelFastpath"), "{error}");
        }
    }

    #[test]
    fn a_failed_command_shows_its_last_lines() {
        let log = std::env::temp_dir().join(format!("aurora-peers-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; seq 30; echo last; exit 3"]);
        let text = run(&mut command, &log).expect_err("it fails").to_string();
        let _ = fs::remove_file(&log);
        assert!(text.contains("| last"), "{text}");
        assert!(!text.contains("first"), "{text}");
    }
}
