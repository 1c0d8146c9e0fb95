//! Panics: a record in the log, a report line, a message to the parent, and the end of the task.

use core::panic::PanicInfo;

use abi::Cap;

use crate::arch;
use crate::cap::{Handle, Task};
use crate::log::Shown;
use crate::supervisor;
use crate::utcb::{self, Local};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let utcb = utcb::current();
    crate::error!("panic: {}", Shown(info));
    crate::report!("panic task={:#x} cpu={}: {info}", utcb.task_id().raw(), utcb.home_cpu());
    supervisor::say_panicked();
    let _ = Task::at(Cap(utcb.local(Local::OwnTask) as u32)).kill();
    // Without the right to end itself, the task ends by the fault.
    arch::die()
}
