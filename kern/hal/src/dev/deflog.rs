//! The kernel's defmt logger: it builds a frame in a buffer of the CPU's desk, and sends it to the
//! log port as one record. It may be called in any context: see [`super::desk`].

use super::logport;
use crate::cpu::{percpu, time};

#[defmt::global_logger]
struct KernelLogger;

// SAFETY: frames of several CPUs never meet, since each is put together on its own CPU's desk, and
// neither do frames of one CPU that interrupt each other, since each depth has a page there. The
// raw encoding has no state between writes.
unsafe impl defmt::Logger for KernelLogger {
    fn acquire() {
        if let Some(desk) = logport::desk() {
            desk.enter();
        }
    }

    unsafe fn flush() {}

    unsafe fn release() {
        if let Some(desk) = logport::desk() {
            logport::complete(desk, logport::KERNEL_CHANNEL);
        }
    }

    unsafe fn write(bytes: &[u8]) {
        if let Some(desk) = logport::desk() {
            desk.append(bytes);
        }
    }
}

defmt::timestamp!("{=u64:us} {=u32}", time::microseconds(), percpu::this().map_or(0, |cpu| cpu.id.raw()));
