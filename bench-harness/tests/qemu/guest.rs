//! A guest of a few dozen bytes, assembled by hand: enough to test the harness on a real QEMU.

use std::path::{Path, PathBuf};

use bench_harness::artifacts::Artifacts;
use bench_harness::lab::{Job, Lab};
use bench_harness::machine::{Mode, Qemu};
use bench_harness::records;

const LOAD_ADDRESS: u32 = 0x10_0000;
const COM1: u16 = 0x3f8;
const LOG: u16 = 0xe9;
const EXIT: u16 = 0xf4;

/// 32-bit machine code that QEMU starts by PVH.
#[derive(Default, Clone)]
pub struct Guest {
    code: Vec<u8>,
}

impl Guest {
    fn out(mut self, port: u16, bytes: &[u8]) -> Guest {
        self.code.extend([0x66, 0xba]); // mov dx, port
        self.code.extend(port.to_le_bytes());
        for &byte in bytes {
            self.code.extend([0xb0, byte, 0xee]); // mov al, byte; out dx, al
        }
        self
    }

    pub fn serial(self, text: &str) -> Guest {
        self.out(COM1, text.as_bytes())
    }

    /// A snapshot of a kernel's state in which every rule holds.
    pub fn snapshot(self) -> Guest {
        let text = ":kernel cpus steps_max\nkernel 1 -\n:cpu id soonest\ncpu - ffffffffffffffff\n:end\n";
        self.record(records::SNAPSHOT, text.as_bytes())
    }

    pub fn record(self, channel: u8, payload: &[u8]) -> Guest {
        self.out(LOG, &records::encode(channel, payload))
    }

    pub fn report(self, line: &str) -> Guest {
        self.record(records::REPORT, line.as_bytes())
    }

    pub fn exit(self, code: u8) -> Guest {
        self.out(EXIT, &[code]).hang()
    }

    /// `hlt` for ever.
    pub fn hang(self) -> Guest {
        self.raw(&[0xf4, 0xeb, 0xfd])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Guest {
        self.code.extend(bytes);
        self
    }

    pub fn nops(self, count: usize) -> Guest {
        self.raw(&vec![0x90; count])
    }

    pub fn marker(self, kind: u8, argument: u8) -> Guest {
        self.raw(&[0x0f, 0x1f, 0x84, 0x00, argument, kind, 0x52, 0x41])
    }

    /// An ELF64 file with one segment and the note that makes QEMU boot it.
    pub fn elf(&self) -> Vec<u8> {
        const HEADERS: u32 = 64 + 2 * 56;
        const NOTE: u32 = 24;
        let entry = LOAD_ADDRESS + HEADERS + NOTE;
        let mut note = Vec::new();
        for word in [4_u32, 8, 18] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"Xen\0");
        note.extend(u64::from(entry).to_le_bytes());
        let length = u64::from(HEADERS + NOTE) + self.code.len() as u64;
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64
        for word in [u64::from(entry), 64, 0] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
        program_header(&mut elf, 1, 7, 0, length, 0x1000);
        program_header(&mut elf, 4, 4, u64::from(HEADERS), u64::from(NOTE), 4);
        elf.extend(note);
        elf.extend(&self.code);
        elf
    }
}

fn program_header(elf: &mut Vec<u8>, kind: u32, flags: u32, offset: u64, length: u64, align: u64) {
    elf.extend(kind.to_le_bytes());
    elf.extend(flags.to_le_bytes());
    let address = u64::from(LOAD_ADDRESS) + offset;
    for word in [offset, address, address, length, length, align] {
        elf.extend(word.to_le_bytes());
    }
}

/// A lab in which every build of the kernel is this guest. None, with a remark, where there is no
/// QEMU.
pub fn lab(name: &str, guest: &Guest) -> Option<Lab> {
    let qemu = match Qemu::find() {
        Ok(qemu) => qemu,
        Err(error) => {
            eprintln!("left out: {error}");
            return None;
        }
    };
    let boot = scratch(name).join("boot");
    std::fs::create_dir_all(&boot).expect("a directory below the target directory");
    let write = |file: &str, bytes: &[u8]| std::fs::write(boot.join(file), bytes).expect("written");
    for kernel in ["aurora", "aurora-nofast", "aurora-chaos"] {
        write(kernel, &guest.elf());
    }
    write("boot.tar", &archive_of(&["bench", "samples", "stress", "test"]));
    let program = |name: &str| format!(r#"{{"name":"{name}","elf":"/nowhere"}}"#);
    let programs = ["init", "bench", "samples", "stress", "kerntest"].map(program).join(",");
    write("boot.json", format!("[{programs}]").as_bytes());
    Some(Lab::new(qemu, Artifacts::new(&boot)))
}

/// Makes a boot archive that has systems of these names, which nobody reads.
fn archive_of(systems: &[&str]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for system in systems {
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        archive.append_data(&mut header, format!("systems/{system}"), &[][..]).expect("written to memory");
    }
    archive.into_inner().expect("written to memory")
}

pub fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

pub fn job(label: &str, mode: Mode) -> Job {
    Job {
        label: label.to_owned(),
        variant: String::new(),
        command_line: String::new(),
        mode,
        cpus: 1,
        counted: None,
        limit: std::time::Duration::from_secs(20),
    }
}
