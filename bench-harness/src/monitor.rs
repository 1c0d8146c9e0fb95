//! Queries a machine through QEMU's monitor: where its CPUs are when it is stuck, and the contents
//! of its screen.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use object::{Object, ObjectSymbol, SymbolMapName};

/// Longest that a stuck QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Longest that it may take to write the guest's memory.
const DUMP_PATIENCE: Duration = Duration::from_secs(60);

/// Stops the machine, since QEMU does not know the registers of a CPU that runs. Returns one line
/// for each CPU: where it executes and whether it is halted; no line if QEMU does not answer.
pub fn where_are_the_cpus(socket: &Path, kernel: &Path) -> Vec<String> {
    let Some(text) = ask(socket, &["stop", "info registers -a"], PATIENCE) else { return Vec::new() };
    let elf = std::fs::read(kernel).unwrap_or_default();
    let file = object::File::parse(&*elf).ok();
    cpus(&text).map(|cpu| cpu.describe(file.as_ref())).collect()
}

/// Writes the memory of a stopped machine, at the addresses where the first CPU sees it, and the
/// registers as an ELF core file. Returns a line that says where the file is.
pub fn keep_memory(socket: &Path, file: &Path) -> Option<String> {
    ask(socket, &[&format!("dump-guest-memory -p {}", file.display())], DUMP_PATIENCE)?;
    file.is_file().then(|| format!("its memory, for gdb: {}", file.display()))
}

/// Lets a stopped machine continue, with the NMI button of every CPU pressed: a tracing kernel then
/// writes its events and ends.
pub fn press_nmi(socket: &Path) {
    let _ = ask(socket, &["nmi", "cont"], PATIENCE);
}

/// Returns the lines that a PC's text screen shows, or nothing if QEMU does not answer. Keeps the
/// screen's memory in `file`.
pub fn text_screen(socket: &Path, file: &Path) -> Vec<String> {
    const AT: u64 = 0xb_8000;
    const COLUMNS: usize = 80;
    const ROWS: usize = 25;
    // Each letter is followed by how it looks.
    let save = format!("pmemsave {AT:#x} {} \"{}\"", 2 * COLUMNS * ROWS, file.display());
    let _ = ask(socket, &[&save], PATIENCE);
    let letters: Vec<u8> = std::fs::read(file).unwrap_or_default().into_iter().step_by(2).collect();
    letters.chunks(COLUMNS).map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect()
}

/// Ends the machine.
pub fn quit(socket: &Path) {
    let _ = ask(socket, &["quit"], PATIENCE);
}

fn ask(socket: &Path, commands: &[&str], patience: Duration) -> Option<String> {
    const PROMPT: &str = "(qemu) ";
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
    stream.write_all((commands.join("\n") + "\n").as_bytes()).ok()?;
    let started = Instant::now();
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while started.elapsed() < patience {
        match stream.read(&mut chunk) {
            // QEMU has ended.
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&chunk[..n]),
            Err(_) => {}
        }
        // One prompt greets, and one follows each answer.
        if String::from_utf8_lossy(&text).matches(PROMPT).count() > commands.len() {
            break;
        }
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[derive(PartialEq, Eq, Debug)]
struct CpuState {
    number: String,
    address: u64,
    user: bool,
    halted: bool,
}

fn cpus(text: &str) -> impl Iterator<Item = CpuState> + '_ {
    text.split("CPU#").skip(1).filter_map(|block| {
        let number = block.split_whitespace().next()?.to_owned();
        let field = |name: &str| block.split_once(name)?.1.split_whitespace().next();
        // RIP, or EIP before long mode.
        let address = u64::from_str_radix(field("IP=")?, 16).ok()?;
        Some(CpuState { number, address, user: field("CPL=")? == "3", halted: field("HLT=")? == "1" })
    })
}

impl CpuState {
    fn describe(&self, kernel: Option<&object::File<'_>>) -> String {
        let symbol = kernel.and_then(|file| {
            let map = file.symbol_map();
            let symbol: SymbolMapName<'_> = *map.get(self.address).filter(|_| !self.user)?;
            let end = file.symbols().find(|s| s.address() == symbol.address()).map_or(0, |s| s.size());
            let offset = self.address - symbol.address();
            let name = rustc_demangle::demangle(symbol.name());
            (end == 0 || offset < end).then(|| format!("  {name:#}+{offset:#x}"))
        });
        let ring = if self.user { "user  " } else { "kernel" };
        let halted = if self.halted { "  halted" } else { "" };
        format!("cpu {}: {ring} {:#x}{}{halted}", self.number, self.address, symbol.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_of_all_cpus_are_read() {
        let text = "(qemu) info registers -a\r\n\r\nCPU#0\r\nRAX=0000000000000001 RBX=0\r\n\
            RIP=ffffffff80001234 RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n\
            CPU#1\r\nRIP=0000000000400010 RFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0\r\n(qemu) ";
        let all: Vec<CpuState> = cpus(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].describe(None), "cpu 0: kernel 0xffffffff80001234  halted");
        assert_eq!(all[1].describe(None), "cpu 1: user   0x400010");
    }
}
