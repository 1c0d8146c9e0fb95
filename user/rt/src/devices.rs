//! Devices: their interrupts, their I/O ports, and [views](crate::views) of their memory.
//!
//! A driver binds an [`IrqHandler`] to a Notification of its own, and asks for the first interrupt
//! by [`IrqHandler::next`]. It waits for the bits, asks for the next interrupt, and then looks what
//! its device wants, until that wants nothing any more. In this order nothing is missed.
//! [`Interrupt`] does this for a driver that also has clients.
//!
//! A driver asks its parent for what its description gives it: [`interrupt`], [`ports`],
//! [`memory`], [`map`]. It names a device by its place in `devices` of the description.

use abi::devices::line;
use abi::{Cap, Error, Op};
use protocols::Failure;
use protocols::devices::{Client, Refusal as Denial};

use core::sync::atomic::AtomicU32;

use crate::arch::memory::map_views;
use crate::arch::{Args, now, syscall};
use crate::cap::{Access, Frame, Handle, IoPort, IrqHandler, Machine, Notification, SchedControl};
use crate::ipc::{Event, Patience, Received, recv_within};
use crate::spawn::{Nursery, own};
use crate::supervisor::{self, to_parent};
use crate::talk::Line;
use crate::views::{Allows, PAGES_MAX, Range, ViewDenial, Wanted};
use crate::{Refusal, Result, invoke};

/// Why the parent gives nothing: it refused, or could not be asked.
pub type DeviceError = Failure<Denial, Refusal>;

fn parent() -> Client<Line> {
    Client(to_parent())
}

/// Gets the interrupt of a device. `slot` is empty.
pub fn interrupt(device: u16, slot: Cap) -> core::result::Result<IrqHandler, DeviceError> {
    parent().interrupt(|mut asked| {
        asked.set_device(device);
        asked.set_slot(slot.0);
    })?;
    Ok(IrqHandler::at(slot))
}

/// Makes a device that interrupts by messages (MSI) send them to the CPU to which its handler is
/// bound. After this the driver looks at its device. A device with a line interrupts without being
/// asked.
pub fn send(device: u16) -> core::result::Result<(), DeviceError> {
    parent().send(|mut asked| asked.set_device(device))
}

/// Gets a range of a device's I/O ports: by its place, 0 for the first. Returns the first port and
/// the last one, too. `slot` is empty.
pub fn ports(device: u16, range: u16, slot: Cap) -> core::result::Result<(IoPort, u16, u16), DeviceError> {
    let (first, last) = parent().ports(
        |mut asked| {
            asked.set_device(device);
            asked.set_range(range);
            asked.set_slot(slot.0);
        },
        |given| Ok((given.get_first(), given.get_last())),
    )?;
    Ok((IoPort::at(slot), first, last))
}

/// Finds a range of a device's memory, of which the parent can [lend a
/// view](crate::supervisor::view): by its place, 0 for the first.
pub fn memory(device: u16, range: u16) -> core::result::Result<Wanted, DeviceError> {
    parent().memory(
        |mut asked| {
            asked.set_device(device);
            asked.set_range(range);
        },
        |found| {
            let range = Range { first: found.get_first(), pages: found.get_pages() };
            let allows = if found.get_write() { Allows::WRITE } else { Allows::READ };
            Ok(Wanted::new(range, allows))
        },
    )
}

/// Maps a range of a device's memory at `address`, for ever: by its place, 0 for the first, and of
/// it as many pages as there are, but not more than `most`. Returns its words of 32 bits, which the
/// device may change at any time. It takes a view, and a slot of the nursery, for each 512 pages.
pub fn map(
    device: u16,
    range: u16,
    most: u32,
    nursery: &mut Nursery,
    address: u64,
) -> core::result::Result<&'static [AtomicU32], DeviceError> {
    let found = memory(device, range)?;
    let pages = found.range.pages.min(most);
    let views = pages.div_ceil(PAGES_MAX);
    let slots = nursery.take_slots(views).map_err(Failure::Transport)?;
    let part = |view: u32| {
        let first = found.range.first + u64::from(view * PAGES_MAX);
        Range { first, pages: (pages - view * PAGES_MAX).min(PAGES_MAX) }
    };
    let slot = |view: u32| Cap(slots.0 + view);
    for view in 0..views {
        let wanted = Wanted { range: part(view), ..found };
        supervisor::view(wanted, slot(view)).map_err(|denial| Failure::Refused(denied(denial)))?;
    }
    let access = if found.allows.write { Access::Write } else { Access::Read };
    let parts = (0..views).map(|view| (Frame::at(slot(view)), part(view).pages.into()));
    map_views(&own::vspace(), parts, address, access).map_err(Failure::Transport)
}

/// Returns why a device's memory is not given, if that is why there is no view of it.
fn denied(denial: ViewDenial) -> Denial {
    match denial {
        ViewDenial::BadRequest => Denial::BadRequest,
        ViewDenial::NotAllowed | ViewDenial::NoDevice => Denial::NotAllowed,
        ViewDenial::InUse => Denial::InUse,
        ViewDenial::Full => Denial::Full,
        ViewDenial::BadSlot => Denial::BadSlot,
        _ => Denial::Refused,
    }
}

/// How a line signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Signal {
    /// As long as the device wants something, and not by a change only.
    pub level: bool,
    /// By a low voltage.
    pub low: bool,
}

impl Signal {
    /// As old devices do (ISA).
    pub const ISA: Signal = Signal { level: false, low: false };
    /// As devices of a PCI bus do.
    pub const PCI: Signal = Signal { level: true, low: true };

    /// Returns the bits of [`abi::devices::line`].
    pub const fn bits(self) -> u64 {
        (if self.level { line::LEVEL } else { 0 }) | if self.low { line::LOW } else { 0 }
    }
}

/// The interrupt of a device whose driver serves clients, too: the main task of the driver waits
/// for both. It comes to the CPU where that task runs.
///
/// ```ignore
/// loop {
///     let turn = interrupt.turn()?;
///     if turn.looks { /* what does the device want? */ }
///     if let Some(call) = turn.call { /* serve it */ }
/// }
/// ```
#[derive(Debug)]
pub struct Interrupt {
    irq: IrqHandler,
    /// When to ask for interrupts again, while the CPU rests from them.
    again: Option<u64>,
}

/// What a driver does next.
#[derive(Debug)]
pub struct Turn {
    /// It looks what the device wants, before all else. It has let the next interrupt come.
    pub looks: bool,
    /// It serves a call.
    pub call: Option<Received>,
}

impl Interrupt {
    /// Gets the interrupt of a device, and makes it raise these bits. The driver begins by looking
    /// at its device. `slot` is empty.
    pub fn of(
        device: u16,
        slot: Cap,
        to: &Notification,
        bits: u64,
    ) -> core::result::Result<Interrupt, DeviceError> {
        let irq = interrupt(device, slot)?;
        let (_, cpu) = invoke::who_am_i().map_err(Failure::Transport)?;
        irq.bind(&own::sched_control(), cpu, to, bits).map_err(Failure::Transport)?;
        send(device)?;
        Ok(Interrupt { irq, again: Some(0) })
    }

    /// Waits for a call, an interrupt (of a Notification that is bound to the task), or the time to
    /// look again.
    pub fn turn(&mut self) -> Result<Turn> {
        let patience = self.again.map_or(Patience::Forever, Patience::Until);
        let (looks, call) = match recv_within(patience) {
            // Calls come before the deadline as long as there are some.
            Ok(Event::Call(call)) => (self.again.is_some_and(|time| time <= now()), Some(call)),
            Ok(Event::Bits(_)) => (true, None),
            Err(refusal) if refusal.error == Error::Timeout => (true, None),
            Err(refusal) => return Err(refusal),
        };
        if looks {
            self.rearm()?;
        }
        Ok(Turn { looks, call })
    }

    /// Lets the next interrupt come. After this the driver looks at its device.
    pub fn rearm(&mut self) -> Result<()> {
        self.again = self.irq.next()?;
        Ok(())
    }

    /// Returns when to look at the device, if it does not interrupt before.
    pub const fn again(&self) -> Option<u64> {
        self.again
    }

    /// Makes the driver look at its device soon, whatever that does.
    pub fn soon(&mut self) {
        self.again = self.again.or_else(|| Some(now()));
    }
}

impl Machine {
    /// Gives an IrqHandler a line.
    pub fn allow_irq(&self, to: &IrqHandler, line: u32, signal: Signal) -> Result<()> {
        let args = Args::plain(Op::IrqAllow, self.arg(), to.arg(), line.into(), signal.bits());
        syscall(args).done()
    }

    /// Returns the address and the word that a device has to write to interrupt by a line from
    /// [`abi::devices::FIRST_MSI`] on, which is bound.
    pub fn message_of(&self, line: u32) -> Result<(u64, u32)> {
        let a = syscall(Args::plain(Op::IrqAllow, self.arg(), 0, line.into(), 0)).check()?;
        Ok((a.rdi, a.rsi as u32))
    }

    /// Gives an IoPort `count` ports from the first on.
    pub fn allow_ports(&self, to: &IoPort, first: u16, count: u32) -> Result<()> {
        let args = Args::plain(Op::PortAllow, self.arg(), to.arg(), first.into(), count.into());
        syscall(args).done()
    }
}

impl IrqHandler {
    /// Makes interrupts of the device come to a CPU, by the authority of a SchedControl that covers
    /// it, and raise these bits.
    pub fn bind(&self, by: &SchedControl, cpu: u32, to: &Notification, bits: u64) -> Result<()> {
        let args = Args::plain(Op::IrqBind, by.arg(), self.arg(), to.arg(), bits);
        syscall(Args { r9: cpu.into(), ..args }).done()
    }

    /// Makes interrupts of the device go nowhere.
    pub fn unbind(&self, by: &SchedControl) -> Result<()> {
        syscall(Args::plain(Op::IrqBind, by.arg(), self.arg(), 0, 0)).done()
    }

    /// Lets the next interrupt come. Returns `None` if it may, and otherwise when to ask again: the
    /// CPU rests from the interrupts of this device.
    pub fn next(&self) -> Result<Option<u64>> {
        match syscall(Args::plain(Op::IrqAck, self.arg(), 0, 0, 0)).done() {
            Err(refusal) if refusal.error == Error::WouldBlock => Ok(Some(refusal.detail)),
            other => other.map(|()| None),
        }
    }
}

macro_rules! widths {
    ($($read:ident $write:ident $width:ty: $text:literal)*) => {
        impl IoPort {$(
            #[doc = concat!("Reads ", $text, " of a port.")]
            pub fn $read(&self, port: u16) -> Result<$width> {
                let bytes = size_of::<$width>() as u64;
                let args = Args::plain(Op::PortRead, self.arg(), port.into(), bytes, 0);
                Ok(syscall(args).check()?.rdi as $width)
            }

            #[doc = concat!("Writes ", $text, " to a port.")]
            pub fn $write(&self, port: u16, value: $width) -> Result<()> {
                let bytes = size_of::<$width>() as u64;
                syscall(Args::plain(Op::PortWrite, self.arg(), port.into(), bytes, value.into())).done()
            }
        )*}
    };
}

widths! {
    read_u8 write_u8 u8: "a byte"
    read_u16 write_u16 u16: "two bytes"
    read_u32 write_u32 u32: "four bytes"
}
