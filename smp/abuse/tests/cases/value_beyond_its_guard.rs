//! A value on two CPUs: a reference outlives the guard, and the next holder changes the value.
#![forbid(unsafe_code)]

use smp::cpu::Pin;
use smp::lock::Lock;

fn read(lock: &Lock<u64>, pin: Pin<'_>) -> u64 {
    let guard = lock.lock(pin, &"an abuse");
    let value = &*guard;
    drop(guard);
    *value
}

fn main() {
    let _ = read;
}
