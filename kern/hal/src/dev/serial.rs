//! Plain text on COM1: boot lines, panics, exception dumps. It is polled, never on a hot path. A
//! [text screen](super::screen), if present, shows the same lines.
//!
//! A program may drive COM1, too ([`port`]). Then its bytes and the kernel's lines come in any
//! order, until the machine ends: the last lines are the kernel's alone.
//!
//! One lock keeps lines of different CPUs apart. A CPU that must print in any case (panic, NMI)
//! uses [`emergency`], which waits for the lock only a bounded time: the holder may be the very
//! code that was interrupted.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use super::screen::Screen;
use super::shared::Shared;
use super::{logport, port};
use crate::boot::info::TEXT_SCREEN;
use crate::layout::DIRECT_MAP;

const COM1: u16 = 0x3f8;
const COM2: u16 = 0x2f8;

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;

/// Values of the line control: eight bits without parity; the divisor in place of the data.
const LINE_8N1: u8 = 0x03;
const LINE_DIVISOR: u8 = 0x80;
/// The modem control without loopback.
const MODEM_READY: u8 = 0x03;

const TRANSMIT_READY: u8 = 1 << 5;
const TRANSMIT_IDLE: u8 = 1 << 6;

/// Polls of the line status before a stuck UART is given up: far longer than a byte takes.
const PATIENCE: u32 = 1_000_000;
/// Polls of the lock by [`emergency`].
const LOCK_PATIENCE: u32 = 10_000_000;

/// A 16550 UART.
pub struct Uart {
    base: u16,
    present: bool,
}

impl Uart {
    const fn absent(base: u16) -> Uart {
        Uart { base, present: false }
    }

    fn set(&mut self, register: u16, value: u8) {
        // SAFETY: a UART's registers; without interrupts and DMA it touches no memory.
        unsafe { port::write_u8(self.base + register, value) }
    }

    /// Sets 115200 baud, 8N1, no interrupts; finds out whether there is a UART at all.
    fn init(&mut self) {
        self.set(INTERRUPT_ENABLE, 0);
        self.set(LINE_CONTROL, LINE_DIVISOR);
        self.set(DATA, 1);
        self.set(INTERRUPT_ENABLE, 0);
        self.set(LINE_CONTROL, LINE_8N1);
        self.set(FIFO_CONTROL, 0x07);
        self.set(MODEM_CONTROL, MODEM_READY);
        // An absent device reads as all ones.
        self.present = self.status() != 0xff;
    }

    /// Makes the UART send what is written, in whatever state a driver has left it. What it has yet
    /// to send is not lost.
    fn take_back(&mut self) {
        self.set(LINE_CONTROL, LINE_8N1);
        self.set(INTERRUPT_ENABLE, 0);
        self.set(MODEM_CONTROL, MODEM_READY);
    }

    fn status(&self) -> u8 {
        // SAFETY: reading the line status clears error bits only.
        unsafe { port::read(self.base + LINE_STATUS) }
    }

    fn wait(&mut self, bit: u8) {
        for _ in 0..PATIENCE {
            if self.status() & bit != 0 {
                return;
            }
            core::hint::spin_loop();
        }
        self.present = false;
    }

    pub fn send(&mut self, byte: u8) {
        if !self.present {
            return;
        }
        self.wait(TRANSMIT_READY);
        // SAFETY: the transmit register of a UART without DMA.
        unsafe { port::write_u8(self.base + DATA, byte) }
    }

    /// Waits until the last byte is on the wire.
    pub fn drain(&mut self) {
        if self.present {
            self.wait(TRANSMIT_IDLE);
        }
    }
}

impl Write for Uart {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            if byte == b'\n' {
                self.send(b'\r');
            }
            self.send(byte);
        }
        Ok(())
    }
}

/// The screen of a PC, which shows a letter by a cell's number.
type TextScreen = Screen<fn(usize, u8)>;

/// COM1, and the screen if there is one.
struct Console {
    uart: Uart,
    screen: Option<TextScreen>,
    /// Lines that were ended.
    lines: u32,
}

impl Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.uart.write_str(s)?;
        self.lines = self.lines.wrapping_add(s.bytes().filter(|byte| *byte == b'\n').count() as u32);
        self.screen.as_mut().map_or(Ok(()), |screen| screen.write_str(s))
    }
}

static CONSOLE: Shared<Console> = Shared::new(Console { uart: Uart::absent(COM1), screen: None, lines: 0 });
/// Whether there is a UART at COM2.
static HAS_SECOND: AtomicBool = AtomicBool::new(false);

/// Prepares COM1.
pub fn init() {
    CONSOLE.lock().uart.init();
}

/// Shows on the screen what is printed from now on.
///
/// # Safety
/// From now on there is a text screen at [`TEXT_SCREEN`], which the direct map shows.
pub unsafe fn add_screen() {
    let mut screen: TextScreen = Screen::new(|cell, letter| {
        /// Light grey on black.
        const LOOK: u16 = 0x0700;
        let first = (DIRECT_MAP + TEXT_SCREEN) as *mut u16;
        // SAFETY: one of the screen's cells, which are in the page that the direct map shows
        // (caller). Nothing refers to them.
        unsafe { first.add(cell).write_volatile(LOOK | u16::from(letter)) }
    });
    screen.redraw();
    CONSOLE.lock().screen = Some(screen);
}

/// Prepares COM2.
pub fn init_second() {
    let mut uart = Uart::absent(COM2);
    uart.init();
    HAS_SECOND.store(uart.present, Ordering::Relaxed);
}

/// Sends bytes of binary log records on COM2. The caller holds the log port's lock.
/// There is none here, because a CPU that ends the machine might find it taken.
pub fn send_second(bytes: &[u8]) {
    let mut uart = Uart { base: COM2, present: HAS_SECOND.load(Ordering::Relaxed) };
    bytes.iter().for_each(|byte| uart.send(*byte));
    // One that is stuck is waited for once.
    HAS_SECOND.store(uart.present, Ordering::Relaxed);
}

/// Prints under the lock. After a panic elsewhere it prints nothing. The log port gets the number
/// of lines at that point, without the lock, because it may have to wait for its turn there.
///
/// Never inlined: it would lengthen the entries that print only after a failure.
#[inline(never)]
pub fn print(args: fmt::Arguments<'_>) {
    let Some(mut console) = CONSOLE.lock_unless_silenced() else { return };
    // Neither a UART nor a screen returns an error.
    let _ = console.write_fmt(args);
    let lines = console.lines;
    drop(console);
    logport::count_lines(lines);
}

/// Returns how many lines COM1 has got.
pub fn lines() -> u32 {
    CONSOLE.lock().lines
}

/// Prints one whole line, even if the lock's holder cannot continue.
pub fn emergency(args: fmt::Arguments<'_>) {
    let _ = match CONSOLE.try_lock(LOCK_PATIENCE, core::hint::spin_loop) {
        Some(mut console) => console.write_fmt(args),
        // The holder is stuck: a second writer beats silence. The screen is the holder's.
        None => Uart { base: COM1, present: true }.write_fmt(args),
    };
}

/// Keeps every other CPU from printing, because the machine is about to end, and takes COM1 back
/// from its driver.
pub fn silence_others() {
    CONSOLE.silence_others();
    port::take_com1();
    Uart { base: COM1, present: true }.take_back();
}

/// Waits until all printed bytes have left COM1.
pub fn drain() {
    Uart { base: COM1, present: true }.drain();
}

/// Prints a line on COM1.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::dev::serial::print(format_args!("{}\n", format_args!($($arg)*))) };
}

/// Prints a line on COM1 although another CPU may hold the lock forever.
#[macro_export]
macro_rules! eprintln {
    ($($arg:tt)*) => { $crate::dev::serial::emergency(format_args!("{}\n", format_args!($($arg)*))) };
}
