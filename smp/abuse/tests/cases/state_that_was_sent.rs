//! A `Cell` on two CPUs: state is used after it was sent to another CPU.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::cpu::CpuId;
use smp::door::Held;

fn send(state: Held<'_, Cell<u64>>, to: CpuId) {
    state.leave_for(to);
    state.set(1);
}

fn main() {
    let _ = send;
}
