//! Says what every worker does when nothing moves any more.

use perf::watchdog::{PATIENCE_SECONDS, Watched};
use user_rt::cap::Notification;
use user_rt::{report, supervisor};

use crate::board::{Board, Of, Total};
use crate::ops;

pub struct Torture;

impl Watched for Torture {
    fn life() -> u64 {
        Board::open().get(Total::Life)
    }

    fn is_over() -> bool {
        Board::open().get(Total::Over) != 0
    }

    fn give_up(_: &Notification) -> ! {
        let board = Board::open();
        report!("error torture: nothing has moved for {PATIENCE_SECONDS} seconds");
        report!("state director: {}", crate::director::step_name(board.get(Total::Director)));
        for worker in 0..board.get(Total::Workers) as usize {
            board.print_worker(worker, ops::name(board.of(worker, Of::Doing)));
        }
        board.add(Total::Stuck, 1);
        board.print();
        report!("done passed=0 failed=1");
        supervisor::finish(0, 1)
    }
}
