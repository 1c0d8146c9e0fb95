//! Boots seL4 with the root task, as Aurora's bench boots Aurora.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::build::Images;
use crate::machine::{Boot, GUEST_CPU, Medium, Mode, Outputs, Qemu};
use crate::terminal::Input;
use crate::trouble::Trouble;

/// Measuring takes ten seconds; this is for hosts that do other things besides.
const LIMIT: Duration = Duration::from_secs(300);
/// What `timeout` says of a command that it ended.
const TIMED_OUT: i32 = 124;

/// Boots, waits for the end, and returns what the serial port said.
pub fn boot(qemu: &Qemu, images: &Images, dir: &Path, cpus: u32, limit: Option<u64>) -> Result<String> {
    let outputs = Outputs::within(dir);
    let boot = Boot {
        label: "sel4".to_owned(),
        medium: Medium::Kernel { kernel: images.kernel.clone(), archive: images.root.clone() },
        command_line: String::new(),
        mode: Mode::Icount,
        cpus,
        cpu_model: GUEST_CPU,
        plugin: None,
        gather: None,
        debug: None,
        input: Input::None,
        limit: limit.map_or(LIMIT, Duration::from_secs),
    };
    let status = boot.start(qemu, &outputs)?.wait().context("waiting for QEMU")?;
    let serial = std::fs::read(&outputs.serial).unwrap_or_default();
    let serial = String::from_utf8_lossy(&serial).into_owned();
    // A guest that ends the machine itself has said why on the serial port.
    if status.code() == Some(TIMED_OUT) {
        let last = serial.lines().last().unwrap_or("nothing");
        let text = format!(
            "seL4 did not end in time; `--timeout SECONDS` gives it longer. It said last: {last}\n  all of it: {}",
            outputs.serial.display()
        );
        return Err(Trouble::TimedOut(text).into());
    }
    if serial.is_empty() {
        let said = std::fs::read_to_string(&outputs.qemu).unwrap_or_default();
        let text = format!("QEMU ended ({status}) and seL4 said nothing. QEMU said: {}", said.trim());
        return Err(Trouble::GuestDied(text).into());
    }
    Ok(serial)
}
