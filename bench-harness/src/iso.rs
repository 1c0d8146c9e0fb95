//! The bootable image: GRUB, the kernel, the boot archive, by multiboot2.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::artifacts::Artifacts;
use crate::host::find_program;
use crate::lab::words_are_known;
use crate::pack;
use crate::trouble::Trouble;

/// Writes an image that boots `variant` with this command line, without a menu.
pub fn make(artifacts: &Artifacts, variant: &str, command_line: &str, image: &Path) -> Result<()> {
    words_are_known(command_line)?;
    if find_program("grub-mkrescue").is_none() {
        let text =
            "grub-mkrescue is missing: `./justw iso` installs it (grub-common, grub-pc-bin, xorriso, mtools)";
        return Err(Trouble::NoMachine(text.to_owned()).into());
    }
    let tree = artifacts.run_dir("iso")?;
    let boot = tree.join("boot");
    fs::create_dir_all(boot.join("grub")).context("making the image's directories")?;
    pack::strip_file(&artifacts.kernel(variant)?, &boot.join("aurora"))?;
    fs::copy(artifacts.archive()?, boot.join("boot.tar")).context("copying the boot archive")?;
    fs::write(boot.join("grub/grub.cfg"), menu(command_line)).context("writing GRUB's menu")?;
    let output = Command::new("grub-mkrescue")
        .arg("-o")
        .arg(image)
        .arg(&tree)
        .output()
        .context("starting grub-mkrescue")?;
    if !output.status.success() {
        bail!("grub-mkrescue: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn menu(command_line: &str) -> String {
    format!(
        "set timeout=0\nset default=0\nmenuentry Aurora {{\n  multiboot2 /boot/aurora {command_line}\n  \
         module2 /boot/boot.tar boot.tar\n  boot\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menu_boots_at_once() {
        let menu = menu("log=com2 run=test");
        assert!(menu.starts_with("set timeout=0\n"));
        assert!(menu.contains("multiboot2 /boot/aurora log=com2 run=test\n"));
    }
}
