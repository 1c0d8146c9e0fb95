//! Notices when nothing moves any more in a program, and lets it say what everybody does; and says now and then that
//! something moves.

use abi::Cap;
use user_rt::cap::{Handle, Notification};
use user_rt::spawn::{Entry, Home, Nursery, Run, TaskSpec, task};
use user_rt::{arch, boot, report};

/// Above everybody but process 1.
pub const PRIORITY: u8 = 240;
pub const STACK_PAGES: u32 = 6;
/// Looks that have to see the same before it gives up.
const LOOKS: u32 = 8;
/// How long they take together, usually: with a host's thread for each CPU, the guest's share the host's with others.
pub const PATIENCE_SECONDS: u64 = 40;
/// How often it says that something moves: a host that has little time for the guest must not take it for silent.
const SAY_SECONDS: u64 = 30;

/// A program that is watched.
pub trait Watched {
    /// Ticks without a sign of life that are too many.
    fn patience() -> u64 {
        PATIENCE_SECONDS * boot::facts().tsc_hz
    }

    /// What changes as long as something moves.
    fn life() -> u64;

    /// Whether somebody else has the last word now.
    fn is_over() -> bool;

    /// Nothing moves any more. `alarm` is the watchdog's own.
    fn give_up(alarm: &Notification) -> !;
}

/// Starts it, in the program's own process: its alarm.
pub fn start<W: Watched>(nursery: &mut Nursery) -> user_rt::Result<Notification> {
    let alarm: Notification = nursery.make(0)?;
    let spec = TaskSpec {
        index: 1,
        cpu: 0,
        priority: PRIORITY,
        stack_pages: STACK_PAGES,
        run: Run::Function(watch::<W> as Entry),
        argument: u64::from(alarm.cap().0),
    };
    Home::own(|home| task(nursery, home, &spec))?.task.resume()?;
    Ok(alarm)
}

extern "C" fn watch<W: Watched>(alarm: u64) -> ! {
    let alarm = Notification::at(Cap(alarm as u32));
    let (mut same, mut last, mut said) = (0, 0, arch::now());
    loop {
        let _ = alarm.wait_until(arch::now() + W::patience() / u64::from(LOOKS));
        let life = W::life();
        same = if life == last { same + 1 } else { 0 };
        if same == 0 && arch::now() - said > SAY_SECONDS * boot::facts().tsc_hz {
            report!("progress still moving: {life} signs of life");
            said = arch::now();
        }
        last = life;
        if W::is_over() {
            let _ = alarm.wait();
        }
        if same >= LOOKS {
            W::give_up(&alarm);
        }
    }
}
