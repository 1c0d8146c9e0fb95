//! The log port: binary records for the host (defmt frames, report lines).
//!
//! Record: 0xA5, channel, length (u16, little-endian), payload. Records of different CPUs, and of
//! code that interrupts other code of one CPU, never mix and are never lost: [`super::desk`]. The
//! port is only for logs and reports; no hot path uses it.
//!
//! `log=text` is for machines without a host tool: report lines go to COM1 and the screen as lines
//! of text, each after [`TEXT_MARK`], so that no program can imitate the kernel's lines. The
//! kernel's own log is text there, too ([`super::log`]). Other records are not text and are left
//! out.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};

use spin::mutex::TicketMutex;

use super::desk::Desk;
use super::{port, serial};
use crate::cpu::percpu;

/// Channel of the kernel's own defmt frames; programs have 1..=0x7f.
pub const KERNEL_CHANNEL: u8 = 0;
/// Channel of report lines (text).
pub const REPORT_CHANNEL: u8 = 0x80;
/// Channel of how many lines COM1 has got (u32, little-endian).
const LINES_CHANNEL: u8 = 0x84;
/// Begins a report line among the kernel's own lines.
const TEXT_MARK: &str = "| ";
/// Longest report line of the kernel itself.
const REPORT_LINE: usize = 160;
/// QEMU's isa-debugcon, and Bochs's port E9 hack.
const DEBUG_CONSOLE: u16 = 0xe9;
/// How often a CPU that ends the machine looks whether the one that sends is done: longer than the
/// longest record takes on a serial line.
const PATIENCE: u32 = 10_000_000;
/// [`CLOSED_BY`] of a port that no CPU has closed yet.
const NOBODY: u32 = u32::MAX;

/// Where records go.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sink(u8);

impl Sink {
    const OFF: Sink = Sink(0);
    const DEBUG_CONSOLE: Sink = Sink(1);
    const SECOND_SERIAL: Sink = Sink(2);
    const TEXT: Sink = Sink(3);
}

/// A [`Sink`]; set once, at boot.
static SINK: AtomicU8 = AtomicU8::new(Sink::OFF.0);
/// Held by the CPU that sends.
static PORT: TicketMutex<()> = TicketMutex::new(());
/// A CPU ends the machine: no other begins to send.
static IS_CLOSED: AtomicBool = AtomicBool::new(false);
/// Bytes that belong to the record on the wire and were not sent yet.
static LEFT: AtomicUsize = AtomicUsize::new(0);
/// The CPU that ends the machine: it sends without the lock, and is the only one.
static CLOSED_BY: AtomicU32 = AtomicU32::new(NOBODY);
static LOST: AtomicU32 = AtomicU32::new(0);

fn sink() -> Sink {
    Sink(SINK.load(Ordering::Relaxed))
}

/// Chooses where records go; `choice` is the value of the boot option `log`. Returns whether the
/// option has that value.
pub fn choose(choice: Option<&str>) -> bool {
    let sink = match choice {
        None | Some("off") => Sink::OFF,
        Some("e9") => Sink::DEBUG_CONSOLE,
        Some("com2") => Sink::SECOND_SERIAL,
        Some("text") => Sink::TEXT,
        Some(_) => return false,
    };
    if sink == Sink::SECOND_SERIAL {
        serial::init_second();
    }
    SINK.store(sink.0, Ordering::Relaxed);
    count_lines(serial::lines());
    true
}

/// Returns whether records leave the machine in binary form.
pub fn takes_records() -> bool {
    matches!(sink(), Sink::DEBUG_CONSOLE | Sink::SECOND_SERIAL)
}

/// Writes one record.
pub fn record(channel: u8, payload: &[u8]) {
    match (sink(), desk()) {
        (Sink::TEXT, _) if channel == REPORT_CHANNEL => {
            serial::print(format_args!("{TEXT_MARK}{}\n", printable(payload)));
        }
        (Sink::DEBUG_CONSOLE | Sink::SECOND_SERIAL, Some(desk)) => {
            desk.enter();
            desk.append(payload);
            complete(desk, channel);
        }
        _ => {}
    }
}

/// Completes and ends the record that was begun last on this CPU's desk. If it is the outermost
/// one, sends all finished records.
pub(super) fn complete(desk: &Desk, channel: u8) {
    if !desk.finish(channel) {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
    loop {
        if is_closed_by_this_cpu() {
            desk.send(send);
        } else if desk.is_outermost() {
            let _turn = PORT.lock();
            if !IS_CLOSED.load(Ordering::Relaxed) {
                desk.send(send);
            }
        }
        if !desk.leave() || IS_CLOSED.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Keeps other CPUs from sending records from now on, because this CPU ends the machine. Completes
/// a record that was cut: with its own bytes if this CPU has them, else with zeros, so that later
/// records can be read.
pub fn close() {
    let (Some(desk), Some(this)) = (desk(), percpu::this()) else { return };
    if IS_CLOSED.swap(true, Ordering::Relaxed) {
        return;
    }
    // For ever in vain, if the CPU that sends is this one, or a CPU was stopped while it waited.
    for _ in 0..PATIENCE {
        if PORT.try_lock().is_some() {
            break;
        }
        core::hint::spin_loop();
    }
    CLOSED_BY.store(this.id.raw(), Ordering::Relaxed);
    if desk.is_cut() {
        desk.send(send);
    }
    for left in (0..LEFT.load(Ordering::Relaxed)).rev() {
        send(&[0], left);
    }
    desk.send(send);
}

fn is_closed_by_this_cpu() -> bool {
    percpu::this().is_some_and(|cpu| cpu.id.raw() == CLOSED_BY.load(Ordering::Relaxed))
}

/// Returns this CPU's desk for records; `None` before the CPU has one.
pub(super) fn desk() -> Option<&'static Desk> {
    percpu::this().map(|cpu| &cpu.desk)
}

/// In the `faults` build: the next record of several parts is cut by a panic.
#[cfg(feature = "faults")]
static CUTS: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

#[cfg(feature = "faults")]
pub fn cut_next() {
    CUTS.store(true, Ordering::Relaxed);
}

/// Sends bytes of a record, of which `left` bytes follow.
fn send(bytes: &[u8], left: usize) {
    #[cfg(feature = "faults")]
    if left > 0 && LEFT.load(Ordering::Relaxed) > 0 && CUTS.swap(false, Ordering::Relaxed) {
        panic!("asked for by fault=log-cut");
    }
    match sink() {
        // SAFETY: the debug console port takes bytes and touches no memory.
        Sink::DEBUG_CONSOLE => unsafe { port::write_all(DEBUG_CONSOLE, bytes) },
        Sink::SECOND_SERIAL => serial::send_second(bytes),
        _ => {}
    }
    LEFT.store(left, Ordering::Relaxed);
}

/// Returns bytes as text of one line: what is no letter of ASCII is a question mark.
fn printable(bytes: &[u8]) -> impl fmt::Display {
    let letter = |byte: u8| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' };
    fmt::from_fn(move |f| bytes.iter().try_for_each(|byte| f.write_char(letter(*byte))))
}

/// Tells a host that listens to both ports how many lines COM1 has got, so that it shows them where
/// they stand among the records.
pub fn count_lines(lines: u32) {
    if sink() == Sink::DEBUG_CONSOLE {
        record(LINES_CHANNEL, &lines.to_le_bytes());
    }
}

/// Writes one report line (no newline) for the host's results.
pub fn report(line: fmt::Arguments<'_>) {
    let mut text = heapless::String::<REPORT_LINE>::new();
    // A line that is too long is cut.
    let _ = text.write_fmt(line);
    record(REPORT_CHANNEL, text.as_bytes());
}

/// Returns how many records were lost, because they were too long, or came at a depth for which
/// there is no page.
pub fn lost() -> u32 {
    LOST.load(Ordering::Relaxed)
}
