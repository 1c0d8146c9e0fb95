//! Says what every worker does when nothing moves any more.

use perf::watchdog::{PATIENCE_SECONDS, Watched};
use user_rt::cap::Notification;
use user_rt::{report, supervisor};

use crate::board::{Board, Total};

pub struct Fuzz;

impl Watched for Fuzz {
    fn life() -> u64 {
        Board::open().get(Total::Life)
    }

    fn is_over() -> bool {
        Board::open().get(Total::Silent) != 0
    }

    fn give_up(_: &Notification) -> ! {
        let board = Board::open();
        report!("error fuzz: nothing has moved for {PATIENCE_SECONDS} seconds");
        for worker in 0..board.get(Total::Workers) as usize {
            board.print_worker(worker);
        }
        board.add(Total::Divergences, 1);
        board.print();
        report!("done passed=0 failed=1");
        supervisor::finish(0, 1)
    }
}
