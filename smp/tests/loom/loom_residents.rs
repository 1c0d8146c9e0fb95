//! Places on a CPU: no task takes one on a CPU that is closed, and none is lost.

use std::sync::Arc;

use crate::common::model;
use loom::thread;
use smp::planted::{Fault, Planted};
use smp::residents::{Residents, Taken};

/// Two tasks come and one of them leaves, while a third CPU closes and opens.
fn explore() {
    model(3, || {
        let residents = Arc::new(Residents::default());
        let comes = |stays: bool| {
            let residents = Arc::clone(&residents);
            thread::spawn(move || {
                let came = residents.admit();
                if came {
                    assert!(!residents.is_closed(), "a CPU is closed that has a task");
                }
                if came && !stays {
                    residents.leave();
                }
                came && stays
            })
        };
        let (stays, goes) = (comes(true), comes(false));
        let closed = residents.close();
        if closed.is_ok() {
            assert_eq!((closed, residents.glance()), (Ok(false), (0, true)));
            assert!(residents.open());
        }
        goes.join().unwrap();
        let stays = stays.join().unwrap();
        assert_eq!(residents.glance(), (u64::from(stays), false));
        let again = residents.close();
        assert_eq!(again, if stays { Err(Taken(1)) } else { Ok(false) });
    });
}

#[test]
fn nobody_comes_to_a_closed_cpu() {
    explore();
}

#[test]
#[should_panic(expected = "a CPU is closed that has a task")]
fn caught_when_it_closes_between_the_look_and_the_step() {
    let _planted = Planted::new(Fault::ClosedMeanwhile);
    explore();
}
