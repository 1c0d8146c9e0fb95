//! Notices when nothing progresses in a [run](crate::run), lets the run report what its tasks do,
//! and ends it. Reports progress from time to time.

use abi::Cap;
use user_rt::cap::{Handle, Notification};
use user_rt::spawn::{Entry, Home, Nursery, TaskSpec, task};
use user_rt::{arch, boot, report, spawn};

use crate::run::Run;

/// Above all tasks except process 1.
pub const PRIORITY: u8 = 240;
pub const STACK_PAGES: u32 = 6;
/// Checks without a change before the watchdog gives up.
const LOOKS: u32 = 8;
/// Seconds between reports of progress: a host with little time for the guest must not take it for
/// silent.
const SAY_SECONDS: u64 = 30;

/// Starts the watchdog, in the program's own process. Returns its alarm.
pub fn start<R: Run>(nursery: &mut Nursery) -> user_rt::Result<Notification> {
    let alarm: Notification = nursery.make(0)?;
    let spec = TaskSpec {
        index: 1,
        cpu: 0,
        priority: PRIORITY,
        stack_pages: STACK_PAGES,
        run: spawn::Run::Function(watch::<R> as Entry),
        argument: u64::from(alarm.cap().0),
    };
    Home::own(|home| task(nursery, home, &spec))?.task.resume()?;
    Ok(alarm)
}

extern "C" fn watch<R: Run>(alarm: u64) -> ! {
    let alarm = Notification::at(Cap(alarm as u32));
    let run = R::open();
    let (mut same, mut last, mut said) = (0, 0, arch::now());
    loop {
        let _ = alarm.wait_until(arch::now() + run.patience() / u64::from(LOOKS));
        let life = run.get(R::LIFE);
        same = if life == last { same + 1 } else { 0 };
        if same == 0 && arch::now() - said > SAY_SECONDS * boot::facts().tsc_hz {
            report!("progress still moving: {life} signs of life");
            said = arch::now();
        }
        last = life;
        if run.get(R::OVER) != 0 {
            let _ = alarm.wait();
        }
        if same >= LOOKS {
            give_up(run, &alarm);
        }
    }
}

fn give_up<R: Run>(run: &R, alarm: &Notification) -> ! {
    let seconds = run.patience() / boot::facts().tsc_hz.max(1);
    report!("error {}: nothing has moved for {seconds} seconds", R::PROGRAM);
    run.print_state(alarm);
    run.add(R::STUCK, 1);
    run.end(Ok(()))
}
