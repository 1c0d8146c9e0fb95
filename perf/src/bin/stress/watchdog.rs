//! Notices when nothing moves any more, and says what everybody is doing.

use abi::Cap;
use user_rt::cap::{Handle, Notification};
use user_rt::invoke::Dump;
use user_rt::spawn::{Entry, Home, Nursery, Run, TaskSpec, own, task};
use user_rt::{arch, boot, report, supervisor};

use crate::board::{Board, Of, Total};

/// Above everybody but process 1.
const PRIORITY: u8 = 240;
const STACK_PAGES: u32 = 6;
/// Looks that have to see the same before it gives up.
const LOOKS: u32 = 8;

/// Starts it, in the program's own process.
pub fn start(nursery: &mut Nursery) -> user_rt::Result<()> {
    let alarm: Notification = nursery.make(0)?;
    let spec = TaskSpec {
        index: 1,
        cpu: 0,
        priority: PRIORITY,
        stack_pages: STACK_PAGES,
        run: Run::Function(watch as Entry),
        argument: u64::from(alarm.cap().0),
    };
    Home::own(|home| task(nursery, home, &spec))?.task.resume()
}

/// How long without a sign of life is too long: where instructions are counted, four seconds of the
/// guest; elsewhere its CPUs share the host's with others.
fn patience() -> u64 {
    let seconds = if Board::open().get(Total::Hashing) != 0 { 4 } else { 30 };
    seconds * boot::facts().tsc_hz
}

extern "C" fn watch(alarm: u64) -> ! {
    let alarm = Notification::at(Cap(alarm as u32));
    let board = Board::open();
    let mut same = 0;
    let mut last = 0;
    loop {
        let _ = alarm.wait_until(arch::now() + patience() / u64::from(LOOKS));
        let life = board.get(Total::Life);
        same = if life == last { same + 1 } else { 0 };
        last = life;
        if board.get(Total::Over) != 0 {
            // The director has the last word.
            let _ = alarm.wait();
        }
        if same >= LOOKS {
            give_up(board);
        }
    }
}

fn give_up(board: Board) -> ! {
    report!("error stress: nothing has moved for {} ticks", patience());
    board.print_director();
    let seats = board.seats();
    (0..seats).for_each(|seat| board.print_seat(seat));
    let _ = own::machine().dump(Dump::ALL);
    let stuck = (0..seats).filter(|seat| board.of(*seat, Of::Finished) == 0).count();
    board.set(Total::Unanswered, board.get(Total::Unanswered) + stuck.max(1) as u64);
    board.print();
    report!("done passed=0 failed=1");
    supervisor::finish(0, 1)
}
