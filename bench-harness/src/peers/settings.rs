//! The configurations of seL4's kernel that are measured.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::trouble::Trouble;

/// CMake settings by name.
pub type Settings = BTreeMap<String, String>;

/// What all configurations have. Optimisation and instruction set are those that seL4's own
/// benchmark sets.
const COMMON: &[(&str, &str)] = &[
    ("KernelPlatform", "pc99"),
    ("KernelSel4Arch", "x86_64"),
    ("KernelVerificationBuild", "OFF"),
    ("KernelDebugBuild", "OFF"),
    ("KernelPrinting", "OFF"),
    ("KernelBenchmarks", "none"),
    ("KernelOptimisation", "-O2"),
    ("KernelFWholeProgram", "ON"),
    ("KernelX86MicroArch", "haswell"),
    ("KernelFastpath", "ON"),
    ("KernelSkimWindow", "OFF"),
    ("KernelSupportPCID", "OFF"),
];
/// A tick of 2 ms, the default, would end in one of some hundred samples. MCS has no ticks.
const RARE_TICKS: (&str, &str) = ("KernelTimerTickMS", "1000");

/// A kernel to build and the machine to boot it on.
pub struct Configuration {
    pub name: &'static str,
    pub cpus: u32,
    own: &'static [(&'static str, &'static str)],
}

pub const CONFIGURATIONS: &[Configuration] = &[
    Configuration {
        name: "uniprocessor",
        cpus: 1,
        own: &[("KernelMaxNumNodes", "1"), ("KernelIsMCS", "OFF"), RARE_TICKS],
    },
    Configuration {
        name: "smp",
        cpus: 2,
        own: &[("KernelMaxNumNodes", "4"), ("KernelIsMCS", "OFF"), RARE_TICKS],
    },
    Configuration { name: "mcs", cpus: 1, own: &[("KernelMaxNumNodes", "1"), ("KernelIsMCS", "ON")] },
];

impl Configuration {
    /// Returns the settings of this configuration, changed by `--define`.
    pub fn settings(&self, changes: &Settings) -> Settings {
        let all = COMMON.iter().chain(self.own);
        let mut settings: Settings = all.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        settings.extend(changes.iter().map(|(name, value)| (name.clone(), value.clone())));
        settings
    }
}

/// Reads the words of `--define`.
pub fn changes(words: &[String]) -> Result<Settings> {
    let read = |word: &String| {
        let (name, value) =
            word.split_once('=').filter(|(name, _)| name.starts_with("Kernel")).ok_or_else(|| {
                Trouble::Usage(format!(
                    "--define {word}: expected a CMake setting of the kernel, as KernelOptimisation=-O3"
                ))
            })?;
        Ok((name.to_owned(), value.to_owned()))
    };
    words.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_wins_over_what_is_usual() {
        let changes = changes(&["KernelOptimisation=-O3".to_owned()]).expect("a setting");
        let settings = CONFIGURATIONS[0].settings(&changes);
        assert_eq!(settings["KernelOptimisation"], "-O3");
        assert_eq!(settings["KernelMaxNumNodes"], "1");
    }

    #[test]
    fn a_change_without_value_is_refused() {
        assert!(changes(&["KernelOptimisation".to_owned()]).is_err());
        assert!(changes(&["CMAKE_C_FLAGS=-O3".to_owned()]).is_err());
    }
}
