//! The kernel binary: wires the machine to the portable kernel.
#![no_std]
#![no_main]

use kern_base::cpu::CpuBlock;
use kern_hal::boot::{self, Boot, Kernel};
use kern_hal::cpu::{idle, percpu};
use kern_hal::dev::exit::{self, Exit};
use kern_hal::trap::Fault;
use kern_hal::{println, trap};
use smp::cpu::CpuId;

kern_hal::kernel!(Kernel { main, ap_main, on_interrupt, on_fault });

fn main(boot: &'static Boot) -> ! {
    defmt::info!("{=usize} CPUs, command line {=str}", boot.cpus, boot.command_line());
    boot::release_cpus();
    println!("aurora: up");
    exit::exit(Exit::Pass)
}

fn ap_main(_cpu: CpuId) -> ! {
    loop {
        idle::halt();
        if let Some(cpu) = percpu::this() {
            while cpu.arrived.take().is_some() {}
        }
    }
}

fn on_interrupt(block: &'static CpuBlock, vector: u8) {
    panic!("interrupt {vector:#x} from user mode on {:?}, where no user code runs", block.id)
}

fn on_fault(block: &'static CpuBlock, fault: Fault) {
    panic!("{fault:x?} from user mode on {:?}, where no user code runs", block.id)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    trap::die_of_panic(info)
}
