//! Notices when nothing moves any more, and says what every worker does.

use abi::Cap;
use user_rt::cap::{Handle, Notification};
use user_rt::spawn::{Home, Nursery, Run, TaskSpec, task};
use user_rt::{arch, boot, report, supervisor};

use crate::board::{Board, Total};

/// Above everybody but process 1.
const PRIORITY: u8 = 240;
const STACK_PAGES: u32 = 6;
/// Looks that have to see the same before it gives up, and how long they take together: with a host's thread for each
/// CPU, the guest's share the host's with others.
const LOOKS: u32 = 8;
const PATIENCE_SECONDS: u64 = 40;

/// Starts it, in the program's own process.
pub fn start(nursery: &mut Nursery) -> user_rt::Result<()> {
    let alarm: Notification = nursery.make(0)?;
    let spec = TaskSpec {
        index: 1,
        cpu: 0,
        priority: PRIORITY,
        stack_pages: STACK_PAGES,
        run: Run::Function(watch),
        argument: u64::from(alarm.cap().0),
    };
    Home::own(|home| task(nursery, home, &spec))?.task.resume()
}

extern "C" fn watch(alarm: u64) -> ! {
    let alarm = Notification::at(Cap(alarm as u32));
    let board = Board::open();
    let mut same = 0;
    let mut last = 0;
    loop {
        let look = PATIENCE_SECONDS * boot::facts().tsc_hz / u64::from(LOOKS);
        let _ = alarm.wait_until(arch::now() + look);
        let life = board.get(Total::Life);
        same = if life == last { same + 1 } else { 0 };
        last = life;
        if board.get(Total::Silent) != 0 {
            // The director has the last word.
            let _ = alarm.wait();
        }
        if same >= LOOKS {
            give_up(board);
        }
    }
}

fn give_up(board: Board) -> ! {
    report!("error fuzz: nothing has moved for {PATIENCE_SECONDS} seconds");
    for worker in 0..board.get(Total::Workers) as usize {
        board.print_worker(worker);
    }
    board.add(Total::Divergences, 1);
    board.print();
    report!("done passed=0 failed=1");
    supervisor::finish(0, 1)
}
