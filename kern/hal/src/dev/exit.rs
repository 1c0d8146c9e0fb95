//! How a run ends: QEMU's isa-debug-exit, Bochs's shutdown port, or a halt.

use super::{faults, logport, port, serial};

/// The verdict of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Pass = 0x10,
    Fail = 0x11,
    Panic = 0x12,
    /// Process 1 is dead.
    Orphaned = 0x13,
}

impl Exit {
    fn text(self) -> &'static str {
        match self {
            Exit::Pass => "pass",
            Exit::Fail => "fail",
            Exit::Panic => "panic",
            Exit::Orphaned => "orphaned",
        }
    }
}

/// QEMU leaves with status (value << 1) | 1.
const ISA_DEBUG_EXIT: u16 = 0xf4;
/// Bochs ends when it reads "Shutdown" here.
const BOCHS_SHUTDOWN: u16 = 0x8900;

/// Ends the run. The last line on COM1 names the verdict, for machines without an exit status.
pub fn exit(verdict: Exit) -> ! {
    serial::silence_others();
    faults::print_all();
    logport::close();
    #[cfg(feature = "trace")]
    super::rings::export();
    let lost = logport::lost();
    if lost > 0 {
        serial::emergency(format_args!("aurora: {lost} log records had no room and are lost\n"));
    }
    #[cfg(feature = "chaos")]
    serial::emergency(format_args!("aurora: chaos: {} events\n", smp::chaos::events()));
    serial::emergency(format_args!("aurora: exit {}\n", verdict.text()));
    serial::drain();
    // SAFETY: ends the virtual machine, or goes to a port that nothing listens to.
    unsafe { port::write_u8(ISA_DEBUG_EXIT, verdict as u8) };
    // SAFETY: as above.
    unsafe { port::write_all(BOCHS_SHUTDOWN, b"Shutdown") };
    halt()
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
