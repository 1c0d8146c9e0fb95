//! A library that the harness preloads into QEMU (`LD_PRELOAD`). It gathers the bytes of the
//! guest's log and writes them in blocks.
//!
//! QEMU's debug console writes each byte of the guest by a system call. A snapshot of the kernel's
//! state has tens of thousands of bytes, so most of the time of a run with snapshots was spent in
//! these calls. The file has the same bytes in the same order. A byte is in the file
//!
//! - [`EVERY`] after the guest wrote it, or earlier when a block is full;
//! - before anything that QEMU writes to another file later, such as the serial line's;
//! - before QEMU ends, unless a signal kills it.
//!
//! Without this library a run only takes longer.
#![deny(unsafe_code)]

use std::io::Write;
use std::time::Duration;

#[cfg(not(test))] // a test binary writes by its own `writev`
mod preload;

/// How long gathered bytes wait at most: as long as the harness waits between two looks.
pub const EVERY: Duration = Duration::from_millis(5);
/// Bytes of a block.
const BLOCK: usize = 1 << 16;

/// Bytes on their way to a file.
pub struct Gathered<W> {
    file: W,
    bytes: Vec<u8>,
}

impl<W: Write> Gathered<W> {
    pub fn new(file: W) -> Gathered<W> {
        Gathered { file, bytes: Vec::with_capacity(BLOCK) }
    }

    /// Adds bytes, behind all earlier ones.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= BLOCK {
            self.flush();
        }
    }

    /// Writes what has been gathered. What a full disk does not take is lost, as it is when QEMU
    /// writes; the harness looks for room after each run.
    pub fn flush(&mut self) {
        if !self.bytes.is_empty() {
            let _ = self.file.write_all(&self.bytes);
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the writes to it.
    #[derive(Default)]
    struct File {
        bytes: Vec<u8>,
        writes: usize,
    }

    impl Write for &mut File {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.writes += 1;
            self.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_arrive_in_order_and_in_few_writes() {
        let mut file = File::default();
        let mut gathered = Gathered::new(&mut file);
        let bytes: Vec<u8> = (0..BLOCK as u32 * 2 + 5).map(|number| number as u8).collect();
        bytes.iter().for_each(|byte| gathered.push(&[*byte]));
        gathered.flush();
        gathered.flush();
        assert!(file.bytes == bytes, "other bytes");
        assert_eq!(file.writes, 3);
    }
}
