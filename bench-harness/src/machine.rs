//! QEMU: finding it, and the command line of one boot.
//!
//! Output goes to files, which the session reads as they grow: nothing blocks on either side, and
//! the raw bytes are still there afterwards. QEMU runs under `timeout -k`, so that it ends even if
//! it ignores TERM (a replaying QEMU does), and under `setpriv --pdeathsig`, so that it ends with
//! this program.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::host::find_program;
use crate::terminal::Input;
use crate::trouble::Trouble;

/// CPUs that the machine can have: their interrupt controllers have numbers of eight bits.
pub const CPUS_MAX: u32 = 255;
/// Guest CPU model, part of the baseline's key.
pub const GUEST_CPU: &str = "max";
/// The guest CPU for a KVM that offers a register it then cannot set, as some nested ones do.
pub const GUEST_CPU_WITHOUT_CAPABILITIES: &str = "max,-arch-capabilities";
/// Guest memory in MiB.
pub const MEMORY: &str = "512";
/// How long after TERM `timeout` sends KILL.
const KILL_AFTER: &str = "5";

/// How QEMU executes the guest, which decides what a time-stamp tick is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Emulated, one tick is one instruction, repeats exactly
    Icount,
    /// Emulated, one host thread per CPU
    Tcg,
    /// Hardware virtualisation
    Kvm,
    /// A machine without a hypervisor, from which somebody captured figures
    #[value(skip)]
    Hardware,
    /// Ticks of a machine that does not say what it is
    #[value(skip)]
    Unknown,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Icount => "icount",
            Mode::Tcg => "tcg",
            Mode::Kvm => "kvm",
            Mode::Hardware => "hardware",
            Mode::Unknown => "unknown",
        }
    }

    /// Returns the meaning of a tick of the guest's time-stamp counter.
    pub fn unit(self) -> &'static str {
        match self {
            Mode::Icount => "instructions",
            Mode::Tcg | Mode::Kvm | Mode::Hardware => "cycles",
            Mode::Unknown => "ticks",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Mode::Icount => &["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"],
            Mode::Tcg => &["-accel", "tcg,thread=multi"],
            Mode::Kvm => &["-accel", "kvm"],
            // No QEMU that this tool starts.
            Mode::Hardware | Mode::Unknown => &[],
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The QEMU in use.
#[derive(Clone, Debug)]
pub struct Qemu {
    pub program: PathBuf,
    pub version: String,
}

impl Qemu {
    /// Finds `$QEMU`, or `qemu-system-x86_64` in the path.
    pub fn find() -> Result<Qemu, Trouble> {
        let name = std::env::var("QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
        let program = find_program(&name).ok_or_else(|| {
            Trouble::NoMachine(format!(
                "{name} is missing: `./justw` installs it, or set QEMU to another one"
            ))
        })?;
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .map_err(|error| Trouble::NoMachine(format!("{} does not start: {error}", program.display())))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = version_in(&text)
            .ok_or_else(|| Trouble::NoMachine(format!("{} --version says: {text}", program.display())))?;
        Ok(Qemu { program, version })
    }
}

fn version_in(text: &str) -> Option<String> {
    let version = text.split_once("version ")?.1.split_whitespace().next()?;
    Some(version.to_owned())
}

/// What to boot from.
#[derive(Clone, Debug)]
pub enum Medium {
    /// By PVH: kernel and boot archive handed over by QEMU.
    Kernel { kernel: PathBuf, archive: PathBuf },
    /// By BIOS and GRUB; the command line is in the image.
    Iso(PathBuf),
}

/// The TCG plugin and where it writes.
#[derive(Clone, Debug)]
pub struct Plugin {
    pub library: PathBuf,
    pub output: PathBuf,
    /// Further `key=value` words for it.
    pub arguments: Vec<String>,
}

/// A debugger is to attach.
#[derive(Clone, Debug)]
pub struct Debug {
    /// Unix socket of QEMU's gdb stub.
    pub socket: PathBuf,
    /// Wait before the first instruction.
    pub hold: bool,
    pub replay: Option<Replay>,
}

/// Recording or replaying: what came from outside, and a snapshot of the start.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Else it is replayed.
    pub recording: bool,
    pub log: PathBuf,
    pub disk: PathBuf,
}

impl Debug {
    fn arguments(&self) -> Vec<OsString> {
        let stub = format!("unix:{},server=on,wait=off", option_value(&self.socket));
        let mut all: Vec<OsString> = vec!["-gdb".into(), stub.into()];
        if self.hold {
            all.push("-S".into());
        }
        if let Some(replay) = &self.replay {
            let disk = format!("if=none,driver=qcow2,file={},id=snapshot", option_value(&replay.disk));
            let how = if replay.recording { "record" } else { "replay" };
            // The later one of two `-icount` adds to the first.
            let log = format!("rr={how},rrfile={},rrsnapshot=start", option_value(&replay.log));
            all.extend(["-drive".into(), disk.into(), "-icount".into(), log.into()]);
        }
        all
    }
}

/// One boot of the machine.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Names the directory of its output; unique among boots that run at the same time.
    pub label: String,
    pub medium: Medium,
    pub command_line: String,
    pub mode: Mode,
    pub cpus: u32,
    pub cpu_model: &'static str,
    pub plugin: Option<Plugin>,
    /// The library that QEMU is to gather the guest's log with; without it each byte takes a system
    /// call.
    pub gather: Option<PathBuf>,
    pub debug: Option<Debug>,
    /// What is typed at the first serial line.
    pub input: Input,
    /// Ends the run whatever the guest says.
    pub limit: Duration,
}

/// Files that one boot writes.
#[derive(Clone, Debug)]
pub struct Outputs {
    pub serial: PathBuf,
    pub log: PathBuf,
    pub qemu: PathBuf,
    /// Unix socket of QEMU's monitor.
    pub monitor: PathBuf,
}

impl Outputs {
    pub fn within(dir: &Path) -> Outputs {
        static BOOTS: AtomicU32 = AtomicU32::new(0);
        let boot = BOOTS.fetch_add(1, Ordering::Relaxed);
        Outputs {
            serial: dir.join("serial.txt"),
            log: dir.join("log.bin"),
            qemu: dir.join("qemu.txt"),
            // Socket paths are short; a target directory need not be.
            monitor: std::env::temp_dir().join(format!("aurora-{}-{boot}.monitor", std::process::id())),
        }
    }
}

impl Outputs {
    /// Returns the value of QEMU's `-monitor`.
    pub fn monitor_option(&self) -> String {
        format!("unix:{},server=on,wait=off", option_value(&self.monitor))
    }
}

impl Boot {
    /// Returns whether the guest was asked for its trace of events: then it gets the time to write
    /// them.
    pub fn is_traced(&self) -> bool {
        self.command_line.split_ascii_whitespace().any(|word| word.starts_with("trace_events="))
    }

    /// Returns QEMU's arguments, without those for its output.
    pub fn machine_arguments(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| all.extend(words.iter().map(OsString::from));
        add(&["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-no-reboot"]);
        add(&["-cpu", self.cpu_model, "-m", MEMORY, "-smp", &self.cpus.to_string()]);
        add(self.mode.arguments());
        add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        // In this slot its interrupt is the controllers' line 20.
        add(&["-device", "edu,addr=4"]);
        match &self.medium {
            Medium::Kernel { kernel, archive } => {
                all.extend(["-kernel".into(), kernel.into(), "-initrd".into(), archive.into()]);
                all.extend(["-append".into(), OsString::from(&self.command_line)]);
            }
            Medium::Iso(image) => {
                all.extend(["-cdrom".into(), image.into(), "-boot".into(), "d".into()]);
            }
        }
        if let Some(plugin) = &self.plugin {
            let (library, output) = (option_value(&plugin.library), option_value(&plugin.output));
            let more: String = plugin.arguments.iter().map(|argument| format!(",{argument}")).collect();
            all.extend(["-plugin".into(), format!("file={library},out={output}{more}").into()]);
        }
        all.extend(self.debug.iter().flat_map(Debug::arguments));
        all
    }

    /// Returns the arguments for QEMU's output.
    pub fn output_arguments(&self, outputs: &Outputs) -> Vec<OsString> {
        let file = |id: &str, path: &Path| format!("file,id={id},path={}", option_value(path));
        let com1 = match self.input {
            Input::None => file("com1", &outputs.serial),
            Input::Script { .. } | Input::Person => "stdio,id=com1,signal=off".to_owned(),
        };
        let words = [
            "-chardev".to_owned(),
            com1,
            "-serial".to_owned(),
            "chardev:com1".to_owned(),
            "-chardev".to_owned(),
            file("log", &outputs.log),
            "-device".to_owned(),
            "isa-debugcon,iobase=0xe9,chardev=log".to_owned(),
            "-monitor".to_owned(),
            outputs.monitor_option(),
        ];
        words.into_iter().map(OsString::from).collect()
    }

    /// Starts QEMU.
    pub fn start(&self, qemu: &Qemu, outputs: &Outputs) -> Result<Child> {
        let said = std::fs::File::create(&outputs.qemu)
            .with_context(|| format!("creating {}", outputs.qemu.display()))?;
        // The session ends the run at the limit, with more to say; this is for when it cannot.
        // A person thinks for longer than a guest runs.
        let has_person = self.debug.is_some() || self.input == Input::Person;
        let patience = if has_person { 24 * 3600 } else { 30 };
        let backstop = self.limit.as_secs() + patience;
        let mut command = ending_with_us("timeout");
        if self.debug.is_some() {
            // An interrupt from the terminal is the debugger's.
            command.process_group(0);
        }
        if let Some(library) = &self.gather {
            let log = std::path::absolute(&outputs.log)?;
            command.env("LD_PRELOAD", std::path::absolute(library)?).env("AURORA_GATHERED", log);
        }
        // COM1 with input is QEMU's standard input and output. (A socket would hold up the guest as
        // long as nobody reads it.)
        let (stdin, stdout) = match self.input {
            Input::None => (Stdio::null(), said.try_clone()?),
            Input::Script { .. } | Input::Person => {
                let serial = std::fs::File::create(&outputs.serial)
                    .with_context(|| format!("creating {}", outputs.serial.display()))?;
                (Stdio::piped(), serial)
            }
        };
        let child = command
            .args(["--foreground", "-k", KILL_AFTER, &backstop.to_string()])
            .arg(&qemu.program)
            .args(self.machine_arguments())
            .args(self.output_arguments(outputs))
            .stdin(stdin)
            .stdout(stdout)
            .stderr(said)
            .spawn();
        child.map_err(|error| Trouble::NoMachine(format!("cannot start `timeout`: {error}")).into())
    }
}

/// Makes a command whose process gets TERM when this process ends, even by a kill: a campaign that
/// is killed must not leave guests behind. If there is no `setpriv`, the backstop ends them.
pub fn ending_with_us(program: &str) -> Command {
    let Some(setpriv) = find_program("setpriv") else { return Command::new(program) };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "TERM", program]);
    command
}

/// Returns a path as the value of a QEMU option, in which commas are doubled.
pub fn option_value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Boot {
        Boot {
            label: "t".into(),
            medium: Medium::Kernel { kernel: "/k".into(), archive: "/a".into() },
            command_line: "log=e9 run=test".into(),
            mode: Mode::Icount,
            cpus: 4,
            cpu_model: GUEST_CPU,
            plugin: Some(Plugin {
                library: "/p,q.so".into(),
                output: "/o".into(),
                arguments: vec!["record=on".into()],
            }),
            gather: None,
            debug: None,
            input: Input::None,
            limit: Duration::from_secs(1),
        }
    }

    #[test]
    fn command_line_of_an_icount_boot() {
        let words: Vec<String> =
            boot().machine_arguments().into_iter().map(|word| word.into_string().expect("UTF-8")).collect();
        let line = words.join(" ");
        assert!(line.contains("-accel tcg,thread=single -icount shift=0,sleep=off"), "{line}");
        assert!(line.contains("-smp 4"), "{line}");
        assert!(line.contains("-kernel /k -initrd /a -append log=e9 run=test"), "{line}");
        assert!(line.contains("-plugin file=/p,,q.so,out=/o,record=on"), "{line}");
    }

    #[test]
    fn versions_are_read_from_what_qemu_says() {
        let text = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright";
        assert_eq!(version_in(text).as_deref(), Some("7.2.22"));
        assert_eq!(version_in("nonsense"), None);
    }
}
