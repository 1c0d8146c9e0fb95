//! The boot archive: one ustar file with `init` first, then the other programs, by name, then the
//! compiled descriptions of systems (`systems/NAME`).
//!
//! The archive's programs have no debug information, which the guest does not use and which would
//! take its memory. A list beside the archive names the complete files. The archive has no times
//! and no owners, so equal programs give an equal archive.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{MetadataCommand, TargetKind};
use describe::System;
use object::build::elf::{Builder, SectionData};
use protocols::capnp::Word;

use crate::artifacts::{Artifacts, Program};
use crate::files;
use crate::systems;
use crate::trouble::Trouble;

/// The program that the kernel starts.
const FIRST: &str = "init";

/// Where in the archive the systems are.
const SYSTEMS: &str = "systems";

/// Packs every binary of `packages`, as built into `dir`, and every system whose programs are among
/// them.
pub fn pack(artifacts: &Artifacts, dir: &Path, packages: &[String], systems: &Path) -> Result<Vec<Program>> {
    let programs = order(binaries(packages)?, dir)?;
    let path = artifacts.boot_dir().join("boot.tar");
    let mut archive = tar::Builder::new(Vec::new());
    for program in &programs {
        let elf = std::fs::read(&program.elf)
            .with_context(|| format!("{} has not been built: run `./justw build`", program.elf.display()))?;
        append(&mut archive, &program.name, &strip(&elf).with_context(|| program.name.clone())?)?;
    }
    for system in systems::all(systems)? {
        if has_programs(&system, &programs) {
            append_system(&mut archive, &system)?;
        }
    }
    files::write(&path, archive.into_inner().context("packing the programs")?)?;
    let list = serde_json::to_string_pretty(&programs)?;
    files::write(&artifacts.manifest_path(), list + "\n")?;
    Ok(programs)
}

/// Returns whether all programs of a system are among these.
fn has_programs(system: &System, programs: &[Program]) -> bool {
    system.processes.iter().all(|process| programs.iter().any(|program| program.name == process.program))
}

/// Returns whether an entry of the archive is a system. (A program is called like their directory.)
fn is_system(name: &str) -> bool {
    name.strip_prefix(SYSTEMS).is_some_and(|rest| rest.starts_with('/'))
}

fn append_system(archive: &mut tar::Builder<Vec<u8>>, system: &System) -> Result<()> {
    append(archive, &format!("{SYSTEMS}/{}", system.name), &describe::compile(system))
}

/// Returns programs from outside the tree, by their files.
/// Errors: a file is missing, or has the name of a program of the tree.
pub fn programs_at(artifacts: &Artifacts, files: &[PathBuf]) -> Result<Vec<Program>> {
    let known = artifacts.programs()?;
    let mut programs = Vec::new();
    for file in files {
        let elf = std::path::absolute(file)?;
        let name = elf.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !elf.is_file() {
            return Err(Trouble::Usage(format!("there is no program {}", elf.display())).into());
        }
        if known.iter().any(|program| program.name == name) {
            let text = format!("{}: the tree has a program {name}; give it another name", elf.display());
            return Err(Trouble::Usage(text).into());
        }
        programs.push(Program { name, elf });
    }
    Ok(programs)
}

/// Writes a copy of the boot archive which has this system, too, in place of one of its name, and
/// these programs. Returns artifacts with that archive.
pub fn with_system(artifacts: &Artifacts, system: &System, more: Vec<Program>) -> Result<Artifacts> {
    let from = artifacts.archive()?;
    let bytes = std::fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
    let mut archive = tar::Builder::new(Vec::new());
    let mut systems = Vec::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        match is_system(&name) {
            // A program's log channel is its place.
            false => append(&mut archive, &name, &content)?,
            true if name != format!("{SYSTEMS}/{}", system.name) => systems.push((name, content)),
            true => {}
        }
    }
    for program in &more {
        let elf =
            std::fs::read(&program.elf).with_context(|| format!("reading {}", program.elf.display()))?;
        append(&mut archive, &program.name, &strip(&elf).with_context(|| program.name.clone())?)?;
    }
    for (name, content) in systems {
        append(&mut archive, &name, &content)?;
    }
    append_system(&mut archive, system)?;
    let path = artifacts.boot_dir().join(format!("boot-{}.tar", system.name));
    files::write(&path, archive.into_inner().context("packing a system")?)?;
    Ok(artifacts.with_archive(path, more))
}

/// Returns the compiled system of this name in the boot archive, as words; none if there is none.
pub fn system_of(artifacts: &Artifacts, name: &str) -> Result<Option<Vec<Word>>> {
    let path = artifacts.archive()?;
    let file = File::open(&path).with_context(|| format!("reading {}", path.display()))?;
    for entry in tar::Archive::new(file).entries_with_seek()? {
        let mut entry = entry?;
        if entry.path()? != Path::new(SYSTEMS).join(name) {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let mut words = Word::allocate_zeroed_vec(bytes.len().div_ceil(size_of::<Word>()));
        Word::words_to_bytes_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
        return Ok(Some(words));
    }
    Ok(None)
}

/// Returns the names of the systems in the boot archive, in order.
pub fn systems_of(artifacts: &Artifacts) -> Result<Vec<String>> {
    let path = artifacts.archive()?;
    let file = File::open(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut names = Vec::new();
    for entry in tar::Archive::new(file).entries_with_seek()? {
        let entry = entry?;
        let path = entry.path()?;
        // The directory itself is an entry, too.
        let name = path.strip_prefix(SYSTEMS).ok().filter(|name| !name.as_os_str().is_empty());
        names.extend(name.map(|name| name.to_string_lossy().into_owned()));
    }
    Ok(names)
}

/// Returns the names of the binaries of these packages of the workspace.
fn binaries(packages: &[String]) -> Result<Vec<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().context("asking cargo for the programs")?;
    let mut names = Vec::new();
    for wanted in packages {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == wanted);
        let package = package.with_context(|| format!("the workspace has no package {wanted}"))?;
        let bins = package.targets.iter().filter(|target| target.kind.contains(&TargetKind::Bin));
        names.extend(bins.map(|target| target.name.clone()));
    }
    Ok(names)
}

/// Orders the programs: `init` first, the others by name. Log channels must not depend on the order
/// of a listing.
fn order(mut names: Vec<String>, dir: &Path) -> Result<Vec<Program>> {
    names.sort_by_key(|name| (name != FIRST, name.clone()));
    if names.first().is_none_or(|name| name != FIRST) {
        bail!("no program is called {FIRST}, which the kernel starts");
    }
    let dir = std::path::absolute(dir)?;
    Ok(names.into_iter().map(|name| Program { elf: dir.join(&name), name }).collect())
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(bytes.len() as u64);
    header.set_mode(0o555);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    archive.append(&header, bytes).with_context(|| format!("packing {name}"))
}

/// Makes an ELF file with only what is loaded.
pub fn strip(elf: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(elf).context("not an ELF file")?;
    // Linked without defmt's script: each string is a section of its own, and nobody finds it.
    if builder.sections.iter().any(|section| section.name.starts_with(b".defmt.")) {
        bail!("its log lines could not be read: its build script has to link with `-Tdefmt.x`");
    }
    for section in &mut builder.sections {
        if !section.is_alloc() && !matches!(section.data, SectionData::SectionString) {
            section.delete = true;
        }
    }
    for symbol in &mut builder.symbols {
        symbol.delete = true;
    }
    builder.delete_orphans();
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("writing the stripped ELF file")?;
    Ok(stripped)
}

/// Writes a kernel without debug information, as GRUB wants it: it would load the rest too.
pub fn strip_file(from: &Path, to: &Path) -> Result<()> {
    let elf = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    files::write(to, strip(&elf)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs keep their places, which are their log channels.
    #[test]
    fn a_program_is_no_system() {
        let names = ["systems", "systems/test", "system", "tables"];
        assert_eq!(names.map(is_system), [false, true, false, false]);
    }
}
