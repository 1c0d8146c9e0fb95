//! A `Cell` on two CPUs: the state is another CPU's.
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
