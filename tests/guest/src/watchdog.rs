//! Notices when nothing moves any more in a [run](crate::run), lets it say what everybody does, and ends it; and says
//! now and then that something moves.

use abi::Cap;
use user_rt::cap::{Handle, Notification};
use user_rt::spawn::{Entry, Home, Nursery, TaskSpec, task};
use user_rt::{arch, boot, report, spawn};

use crate::run::Run;

/// Above everybody but process 1.
pub const PRIORITY: u8 = 240;
pub const STACK_PAGES: u32 = 6;
/// Looks that have to see the same before it gives up.
const LOOKS: u32 = 8;
/// How often it says that something moves: a host that has little time for the guest must not take it for silent.
const SAY_SECONDS: u64 = 30;

/// Starts it, in the program's own process: its alarm.
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
