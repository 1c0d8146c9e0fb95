//! Implements [`Machine`] for the PC, with this crate's modules.

use core::fmt;
use core::sync::atomic::Ordering;

use abi::audit::{AuditEvent, Record};
use abi::devices::is_msi;
use abi::{Error, TaskId};
use kern_base::fault_ring::Report;
use kern_base::irq::{Line, Route};
use kern_base::machine::{FaultEnd, Machine, VectorFormat};
use kern_base::paging::Pte;
use kern_base::phys::{Phys, PhysPage};
use kern_base::task::VectorArea;
use smp::cpu::{CpuId, Pin};
use smp::door::Vouched;
use test_abi::trace::Event;

use crate::cpu::{mitigations, percpu, time, vector};
use crate::dev::log::Shown;
use crate::dev::{exit, faults, ioapic, lapic, logport, msi, port};
use crate::layout::DIRECT_MAP;
use crate::mem::kernel;
use crate::mem::tlb;
use crate::trap::WAKE;

/// The machine. All its state is the hardware's and this crate's.
pub struct Pc;

/// Returns a task in the log, by its id.
fn task_name(task: TaskId) -> Shown<impl fmt::Display> {
    Shown(fmt::from_fn(move |f| match task {
        TaskId::NONE => f.write_str("nobody"),
        task => write!(f, "task {}", task.raw()),
    }))
}

/// Returns the name of an operation, an object's type or an event; or what stands for none.
fn name(of: Option<impl fmt::Debug>, none: &'static str) -> Shown<impl fmt::Display> {
    Shown(fmt::from_fn(move |f| match &of {
        Some(name) => write!(f, "{name:?}"),
        None => f.write_str(none),
    }))
}

impl Machine for Pc {
    fn now(&self) -> u64 {
        time::tsc()
    }

    fn set_timer(&self, at: Option<u64>) {
        lapic::set_timer(at);
    }

    fn wake(&self, cpu: CpuId) {
        if smp::trace::ENABLED
            && let Some(this) = percpu::this()
        {
            // SAFETY: the CPU that runs this, in the kernel with interrupts off, for this
            // statement.
            let pin = unsafe { Pin::new(this.id) };
            smp::trace::record(pin, || Event::IpiSent { to: cpu.raw() });
        }
        if let Some(target) = percpu::of(cpu) {
            lapic::send(target.apic_id, WAKE);
        }
    }

    fn has_line(&self, line: u32) -> bool {
        is_msi(line) || ioapic::has(line)
    }

    fn message_to(&self, to: Route) -> Option<(u64, u32)> {
        msi::message_to(to)
    }

    fn route_line(&self, line: Line, to: Option<Route>) -> bool {
        match is_msi(line.number) {
            true => to.is_none_or(|to| msi::message_to(to).is_some()),
            false => ioapic::route(line, to),
        }
    }

    fn open_line(&self, line: u32) {
        ioapic::open(line);
    }

    fn mask_line(&self, line: u32) {
        ioapic::mask(line);
    }

    fn mask_place(&self, place: u8) {
        if let Some(cpu) = percpu::this() {
            ioapic::mask_place(cpu.apic_id, place);
        }
    }

    fn end_of_interrupt(&self) {
        lapic::end_of_interrupt();
    }

    fn used_port(&self, first: u16, last: u16) -> Option<u16> {
        port::first_of_kernel(first, last)
    }

    fn read_port(&self, port: u16, bytes: u8) -> u32 {
        port::read_for_program(port, bytes)
    }

    fn write_port(&self, port: u16, bytes: u8, value: u32) {
        port::write_for_program(port, bytes, value);
    }

    fn phys(&self, addr: u64) -> Phys {
        Phys(addr - DIRECT_MAP)
    }

    fn virt(&self, at: Phys) -> u64 {
        DIRECT_MAP + at.0
    }

    fn is_device(&self, at: Phys, bytes: u64) -> bool {
        crate::boot::is_device_memory(at.0, bytes)
    }

    fn init_root_table(&self, at: Phys, set: &mut dyn FnMut(usize, Pte)) -> u64 {
        for (index, kernel) in (256..).zip(kernel::top_half()) {
            // SAFETY: what the kernel maps in its own half, it may map in every space.
            set(index, Pte::vouched(unsafe { Vouched::new(kernel.load(Ordering::Relaxed)) }));
        }
        at.0
    }

    fn take_pcid(&self) -> u64 {
        let pcid = percpu::this().map_or(0, |cpu| tlb::take_pcid(cpu.features));
        if pcid != 0 { u64::from(pcid) | tlb::NO_FLUSH } else { 0 }
    }

    fn end_space(&self, cr3: u64) {
        tlb::TAKEN.give((cr3 & tlb::PCID_MASK) as u16);
    }

    fn forget_page(&self, address: u64) {
        tlb::flush_page(address);
    }

    fn forget_space(&self) {
        tlb::flush_current();
    }

    fn forget_translations(&self, leave: bool) {
        if leave {
            // SAFETY: the kernel's own tables are never freed; PCID 0 flushes.
            unsafe { tlb::switch_to(kernel::root()) };
        }
        if let Some(cpu) = percpu::this() {
            tlb::flush_everything(cpu.features);
        }
    }

    fn clear(&self, page: PhysPage) {
        // SAFETY: a page that may be cleared, through the direct map. It is memory of a Frame,
        // which the kernel has no reference to.
        unsafe { core::ptr::write_bytes(self.virt(page.at()) as *mut u8, 0, 1 << page.log2()) }
    }

    fn read_word(&self, page: PhysPage, number: u64) -> u64 {
        let inside = number & ((1 << (page.log2() - 3)) - 1);
        let word = (self.virt(page.at()) + inside * 8) as *const core::sync::atomic::AtomicU64;
        // SAFETY: a word of a page that may be copied, through the direct map, aligned. Programs
        // may write it meanwhile; the kernel only reads it, and keeps no reference.
        unsafe { (*word).load(core::sync::atomic::Ordering::SeqCst) }
    }

    fn copy(&self, from: PhysPage, to: PhysPage) {
        assert!(
            from != to && from.log2() == to.log2(),
            "a page is copied to itself, or to one of another size"
        );
        let bytes = 1 << from.log2();
        let (from, to) = (self.virt(from.at()) as *const u8, self.virt(to.at()) as *mut u8);
        // SAFETY: as for `clear`, of two pages of one size.
        unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) }
    }

    fn flush_predictors(&self) {
        mitigations::flush_predictors();
    }

    fn set_bases(&self, fs: u64, gs: u64) {
        // SAFETY: FSGSBASE is a required feature; the kernel itself uses neither base, and both are
        // canonical (the caller checked them against the end of the user half).
        unsafe {
            core::arch::asm!("wrfsbase {}", "wrgsbase {}", in(reg) fs, in(reg) gs, options(nomem, nostack, preserves_flags));
        }
    }

    fn save_vector(&self, area: &VectorArea) {
        if let Some(cpu) = percpu::this() {
            // SAFETY: the area is part of the task, aligned by its type, large enough for every
            // component that is switched on (checked at boot), and only the task's home CPU, which
            // runs this, uses it.
            unsafe { vector::save(cpu.features, area.as_ptr()) };
        }
    }

    fn vector_format(&self) -> VectorFormat {
        vector::format()
    }

    fn init_vector(&self, area: &VectorArea) {
        // SAFETY: as in `save_vector`.
        unsafe { vector::init_area(area.as_ptr()) };
    }

    #[cold]
    fn report_fault(&self, end: &FaultEnd) {
        match percpu::this() {
            Some(cpu) => cpu.faults.put(end),
            None => faults::print(Report::Fault(*end)),
        }
    }

    #[cold]
    fn first_process_dies(&self) {
        faults::print_all();
        crate::println!("aurora: process 1 is dead: no program can judge the run");
        exit::exit(exit::Exit::Orphaned)
    }

    #[cfg(feature = "faults")]
    fn attempt(&self, what: test_abi::Attempt, address: u64) -> Option<u64> {
        Some(crate::trap::attempt::run(what, address))
    }

    #[cold]
    fn tell(&self, record: &Record) {
        let Record { event, op, error, actor, object, identity, to, detail, .. } = *record;
        let (actor, object) = (task_name(actor), name(object, ""));
        let has_op = op.is_some();
        // Of what another CPU refuses, and of a number that is no operation, there is no name.
        let op = name(op, "a system call");
        match event {
            AuditEvent::Denial => crate::debug!(
                "{} of {} refused: {} (detail {:#x}, first argument {:#x})",
                op,
                actor,
                error.map_or("", Error::name),
                detail,
                to
            ),
            AuditEvent::Kill if has_op => {
                crate::debug!("{} {:#x} ends: {} by {}", object, identity, op, actor)
            }
            AuditEvent::Kill => {
                crate::debug!("{} {:#x} ends: {} faulted, or ended its CNode", object, identity, actor)
            }
            AuditEvent::Death => crate::debug!("{} is dead", actor),
            _ => {
                let event = name(Some(event), "");
                crate::trace!(
                    "{} {} {:#x} by {} of {}, {:#x} {:#x}",
                    event,
                    object,
                    identity,
                    op,
                    actor,
                    to,
                    detail
                );
            }
        }
    }

    fn log(&self, channel: u8, bytes: &[u8]) {
        logport::record(channel, bytes);
    }

    fn exit(&self, pass: bool) -> ! {
        exit::exit(if pass { exit::Exit::Pass } else { exit::Exit::Fail })
    }
}
