//! Finds CPUs that are stuck in the kernel, for the report of a stuck run.
//!
//! At its end the run exports the kernel's state, if the kernel can do that. All CPUs must stand
//! still for it, which never happens while one is stuck in the kernel. So each CPU has a *teller*,
//! a task that must answer first.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::Cap;
use guest_tests::watchdog::{PRIORITY, STACK_PAGES};
use test_abi::build;
use user_rt::cap::{Handle, Notification, Untyped};
use user_rt::spawn::{Entry, Home, Nursery, Run, TaskSpec, own, task};
use user_rt::{arch, boot, report};

/// Places of the tellers in the address space, apart from the other tasks.
const FIRST_TELLER: u32 = 3000;
/// Slots of the tellers' Notifications, by CPU.
static TELLERS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// Starts a teller on each CPU, in the program's own process. Tellers answer to the watchdog's
/// alarm.
pub fn start(nursery: &mut Nursery, alarm: &Notification) -> user_rt::Result<()> {
    if boot::has(build::DUMP) {
        for cpu in 0..boot::facts().cpus as u32 {
            start_teller(nursery, cpu, alarm)?;
        }
    }
    Ok(())
}

fn start_teller(nursery: &mut Nursery, cpu: u32, alarm: &Notification) -> user_rt::Result<()> {
    let memory: Untyped = nursery.make(12)?;
    let note = nursery.take_slot()?;
    let caps = [memory.cap(), note, alarm.cap()];
    let spec = TaskSpec {
        index: FIRST_TELLER + cpu,
        cpu,
        priority: PRIORITY,
        stack_pages: STACK_PAGES,
        run: Run::Function(tell as Entry),
        argument: caps.iter().rev().fold(0, |packed, cap| packed << 16 | u64::from(cap.0)),
    };
    TELLERS[cpu as usize % TELLERS.len()].store(u64::from(note.0), Relaxed);
    Home::own(|home| task(nursery, home, &spec))?.task.resume()
}

/// Answers when it is asked.
extern "C" fn tell(packed: u64) -> ! {
    let [memory, note, alarm] = [0, 16, 32].map(|shift| Cap((packed >> shift) as u16 as u32));
    // A Notification belongs to the CPU of the task that made it.
    let made = Untyped::at(memory).retype::<Notification>(0, own::cnode().slot(note), 1);
    made.expect("a teller's Notification");
    loop {
        let _ = Notification::at(note).wait();
        let _ = Notification::at(alarm).notify(1);
    }
}

/// Asks every CPU's teller. A CPU that does not answer is stuck in the kernel.
pub fn ask_all(alarm: &Notification) {
    if !boot::has(build::DUMP) {
        return;
    }
    for (cpu, note) in TELLERS.iter().enumerate().take(boot::facts().cpus as usize) {
        let _ = alarm.poll();
        let asked = Notification::at(Cap(note.load(Relaxed) as u32)).notify(1);
        let answered = asked.and_then(|()| alarm.wait_until(arch::now() + boot::facts().tsc_hz));
        if answered.is_err() {
            report!("note stress: CPU {cpu} does not answer, so no state comes");
        }
    }
}
