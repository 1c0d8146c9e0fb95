//! defmt's global logger. Every task writes its own record, so acquiring takes no lock.

use super::{Local, current};
use crate::arch;
use crate::cap::{Handle, Machine};
use crate::invoke::Channel;
use crate::layout::slot;

#[defmt::global_logger]
struct Sink;

/// Marks a record that became too long: it is left out, and a report line says so.
const TOO_LONG: u64 = u64::MAX;

// SAFETY: frames of concurrent tasks never meet: each is written to its task's own UTCB between
// `acquire` and `release`, which defmt calls in pairs within one task. The raw encoding has no
// state between writes.
unsafe impl defmt::Logger for Sink {
    fn acquire() {
        current().set_local(Local::LogLength, 0);
        defmt::Encoder::new().start_frame(append);
    }

    unsafe fn flush() {}

    unsafe fn release() {
        defmt::Encoder::new().end_frame(append);
        let length = current().local(Local::LogLength);
        if length == TOO_LONG {
            crate::report!("note a log record longer than {} bytes was left out", abi::LOG_MAX);
        } else {
            let _ = Machine::at(slot::MACHINE).log(length as usize, Channel::Log);
        }
    }

    unsafe fn write(bytes: &[u8]) {
        defmt::Encoder::new().write(bytes, append);
    }
}

fn append(bytes: &[u8]) {
    let utcb = current();
    let length = utcb.local(Local::LogLength);
    let fits = length != TOO_LONG && utcb.write_bytes(length as usize, bytes);
    let length = if fits { length + bytes.len() as u64 } else { TOO_LONG };
    utcb.set_local(Local::LogLength, length);
}

defmt::timestamp!("{=u64:us} {=u32}", microseconds(), current().home_cpu());

/// Returns the time in microseconds, by this CPU's TSC.
fn microseconds() -> u64 {
    abi::time::microseconds(arch::now(), crate::boot::facts().tsc_hz)
}
