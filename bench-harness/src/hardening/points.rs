//! Checks that released kernels contain no points, at which tests stop or perturb a run.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, elf};

/// Modules whose functions and data only kernels for tests have.
const MODULES: [&str; 3] = ["chaos", "host_test", "planted"];
/// Names of some points, which a kernel with points contains.
const NAMES: [&str; 3] = ["PushExchanged", "IdleRetracting", "GraceStarted"];

/// What a kernel has of the points.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Symbols of the modules.
    symbols: Vec<String>,
    /// Names that it loads.
    names: Vec<&'static str>,
}

/// Checks that a kernel has no points.
pub fn are_missing(kernel: &Path) -> Result<()> {
    let found = find(kernel)?;
    ensure!(found == Found::default(), "a kernel that is released has points of tests: {found:?}");
    Ok(())
}

/// Checks that a kernel for tests has points: so [`are_missing`] would see them.
pub fn are_there(kernel: &Path) -> Result<()> {
    let found = find(kernel)?;
    ensure!(!found.symbols.is_empty(), "no symbols of the modules {MODULES:?} in a kernel that has points");
    ensure!(
        found.names == NAMES,
        "of the names {NAMES:?} a kernel that has points loads only {:?}",
        found.names
    );
    Ok(())
}

fn find(kernel: &Path) -> Result<Found> {
    let bytes = std::fs::read(kernel).with_context(|| format!("reading {}", kernel.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("{}", kernel.display()))?;
    let symbols = file
        .symbols()
        .filter_map(|symbol| Some(format!("{:#}", rustc_demangle::demangle(symbol.name().ok()?))));
    let mut found =
        Found { symbols: symbols.filter(|symbol| is_of_tests(symbol)).collect(), names: Vec::new() };
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
        if sh_flags & u64::from(elf::SHF_ALLOC) != 0 {
            let data = section.data()?;
            found.names.extend(NAMES.iter().filter(|name| has(data, name.as_bytes())));
        }
    }
    Ok(found)
}

/// Returns whether a symbol's path in Rust goes through one of the modules of tests.
fn is_of_tests(symbol: &str) -> bool {
    symbol.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|part| MODULES.contains(&part))
}

fn has(data: &[u8], name: &[u8]) -> bool {
    data.windows(name.len()).any(|window| window == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_known_by_the_parts_of_their_paths() {
        for symbol in [
            "smp::chaos::hook::HOOK",
            "<smp::chaos::Point as core::fmt::Debug>::fmt",
            "smp::host_test::point",
        ] {
            assert!(is_of_tests(symbol), "{symbol}");
        }
        assert!(!is_of_tests("kern_core::chaos_free::run") && !is_of_tests("memcpy"));
    }
}
