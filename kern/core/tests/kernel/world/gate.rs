//! Kernel entry and exit on every CPU, as trap code and image do them.
//!
//! This module is separate from the [`World`](super::World), so that a kernel entry can stop
//! half-way ([`stop`](super::stop)) while the test continues with the world.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use kern_base::cpu::{CpuBlock, CpuEntry};
use kern_base::header::FLAG_DEAD;
use kern_base::notification::Notification;
use kern_base::task::{FLAG_VECTOR, SPECIAL, Task};
use kern_core::door::entry::{Interrupt, Interrupted};
use kern_core::door::timer::ShortEnd;
use kern_core::ipc::faults::Fault;
use kern_core::rooms::Door;
use kern_core::{Cx, Kernel};
use smp::cpu::Pin;
use smp::door::Ref;
use smp::host_test;
use smp::mailbox::Idle;
use smp::quiesce;

use super::fast::serve;
use super::{AFTER, Fake, PATIENCE};

/// Turns on the way out of the kernel behind which a CPU waits for one that stands still.
const TURNS: usize = 100;

/// What a CPU is doing between kernel entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    User,
    Idle(Idle),
}

/// Why a CPU enters the kernel.
#[derive(Clone, Copy)]
pub enum Why {
    /// The running task has made the system call that is in its frame.
    SystemCall,
    Interrupt(Interrupt),
    /// The interrupt of a device, by its place in the CPU's table.
    Device(u8),
    /// An interrupt whose handler raises a bit of a Notification.
    Bell(Ref<'static, Notification>),
    /// The running task has faulted.
    Fault(Fault),
    /// The CPU polls, and sees mail.
    Mail,
}

/// See the module's text. Clones are of one machine.
#[derive(Clone)]
pub struct Gate {
    pub k: &'static Kernel<Fake>,
    modes: Rc<[Cell<Mode>]>,
    /// How CPUs idle from now on.
    idle: Rc<Cell<Idle>>,
    /// Whether what the fastpath hands on goes that way.
    pub fast: bool,
    /// How many interrupts of the timer, and yields, the short way has served.
    pub short: Rc<Cell<usize>>,
    /// Where each task ran last, by its address.
    ran_on: Rc<RefCell<HashMap<u64, usize>>>,
}

impl Gate {
    pub fn new(k: &'static Kernel<Fake>, cpus: usize) -> Gate {
        Gate {
            k,
            modes: (0..cpus).map(|_| Cell::new(Mode::User)).collect(),
            idle: Rc::new(Cell::new(Idle::Halt)),
            fast: true,
            short: Rc::default(),
            ran_on: Rc::default(),
        }
    }

    pub fn cpus(&self) -> usize {
        self.modes.len()
    }

    pub fn mode(&self, n: usize) -> Mode {
        self.modes[n].get()
    }

    pub fn set_idle(&self, idle: Idle) {
        self.idle.set(idle);
    }

    pub fn block(&self, n: usize) -> &'static CpuBlock {
        self.k.block(host_test::pin(n), host_test::cpu(n))
    }

    /// The context of a look at CPU `n`, or of a kernel entry there.
    pub fn cx(&self, pin: Pin<'static>) -> Door<'static, Fake> {
        match self.block(pin.cpu().index()).here(pin) {
            Some(cpu) => Door::of(Cx { k: self.k, cpu }),
            None => panic!("{:?} has the block of another CPU", pin.cpu()),
        }
    }

    pub fn look(&self, n: usize) -> Door<'static, Fake> {
        self.cx(host_test::pin(n))
    }

    fn context<'e>(&self, entry: &'e CpuEntry) -> Door<'e, Fake> {
        Door::of(Cx { k: self.k, cpu: entry.here() })
    }

    /// The task that runs on a CPU.
    pub fn current(&self, n: usize) -> Option<Ref<'static, Task>> {
        self.look(n).hot.current.get(host_test::pin(n)).filter(|_| self.mode(n) == Mode::User)
    }

    /// From now on it is CPU `n` that acts.
    pub fn turn(&self, n: usize) {
        self.k.machine.cpu.store(n, Relaxed);
    }

    /// One whole kernel entry on CPU `n`.
    pub fn pass(&self, n: usize, why: Why) {
        self.turn(n);
        self.k.machine.hardware().now += 10;
        let mut entry = host_test::local_entry(self.block(n));
        match why {
            Why::SystemCall => self.system_call(&mut entry),
            Why::Interrupt(what) => self.interrupt(&mut entry, (what, 0), None),
            Why::Device(place) => self.interrupt(&mut entry, (Interrupt::Device, place.into()), None),
            Why::Bell(bell) => self.interrupt(&mut entry, (Interrupt::Other, 0), Some(bell)),
            Why::Fault(fault) => self.fault(&mut entry, fault),
            Why::Mail => self.poll(&mut entry),
        }
        let works_for = self.look(n).sched.works_for.get();
        assert_eq!(works_for, 0, "cpu{n}: the next entry would work for the task of this entry's mail");
    }

    fn system_call(&self, entry: &mut CpuEntry) {
        let n = entry.block().id().index();
        let Some(before) = self.current(n) else { panic!("cpu{n} runs nothing") };
        let regs = &before.get().hot.here(host_test::pin(n)).regs;
        regs.rip.set(AFTER);
        regs.full.set(0);
        if serve(self.context(entry), self.fast) {
            self.short.update(|count| count + 1);
        }
        if !self.look(n).hot.current.is(before) {
            self.leave(entry);
        }
        self.goes_on(n, before);
    }

    /// A task that goes on without its context being loaded has run nowhere else meanwhile.
    fn goes_on(&self, n: usize, task: Ref<'static, Task>) {
        if self.current(n) == Some(task) {
            let ran_on = self.ran_on.borrow().get(&task.addr()).copied();
            assert!(ran_on.is_none_or(|cpu| cpu == n), "cpu{n} goes on with registers that have changed");
        }
    }

    fn fault(&self, entry: &mut CpuEntry, fault: Fault) {
        let n = entry.block().id().index();
        let Some(task) = self.current(n) else { panic!("cpu{n} runs nothing") };
        task.get().hot.here(host_test::pin(n)).regs.full.set(1);
        self.context(entry).ipc().on_fault(fault);
        self.leave(entry);
    }

    /// An interrupt; of a device, also its place in the CPU's table.
    fn interrupt(
        &self,
        entry: &mut CpuEntry,
        (what, place): (Interrupt, usize),
        bell: Option<Ref<'static, Notification>>,
    ) {
        let n = entry.block().id().index();
        if let Mode::Idle(_) = self.mode(n) {
            quiesce::end_idle(entry);
            self.modes[n].set(Mode::User);
            if what == Interrupt::Timer
                && self.fast
                && let ShortEnd::Runs(task) = self.context(entry).on_idle_timer()
            {
                self.short.update(|count| count + 1);
                return self.load(n, task.object().ptr().get(host_test::pin(n)));
            }
            if what == Interrupt::Device
                && self.fast
                && let ShortEnd::Runs(task) = self.context(entry).on_idle_device(place)
            {
                self.short.update(|count| count + 1);
                return self.load(n, task.object().ptr().get(host_test::pin(n)));
            }
            match what {
                Interrupt::Device => self.context(entry).take_idle_device(place),
                _ => self.context(entry).on_idle_interrupt(what),
            }
            self.ring(entry, bell);
            let _ = self.context(entry).take_mail();
            return self.leave(entry);
        }
        let before = self.current(n);
        let has_vector = before.is_some_and(|task| {
            let hot = task.get().hot.open(host_test::pin(n));
            hot.is_some_and(|hot| hot.has_flag(FLAG_VECTOR))
        });
        let frame_full =
            |on| before.into_iter().for_each(|t| t.get().hot.here(host_test::pin(n)).regs.full.set(on));
        frame_full(1);
        self.k.machine.hardware().saved.clear();
        if self.goes_short(entry, (what, place), before.filter(|_| has_vector)) {
            return;
        }
        let arrives = |cx: Door<'_, Fake>, began| cx.events().interrupt_came(place, began);
        let rest = match self.context(entry).on_interrupt(what, arrives) {
            Interrupted::Message(_) => None,
            Interrupted::Rest(rest) => Some(rest),
        };
        self.ring(entry, bell);
        if self.context(entry).cpu.grace().is_unsettled() {
            self.settle(entry);
        }
        if rest.is_some_and(|rest| self.context(entry).end_interrupt(rest)) {
            frame_full(0);
            before.into_iter().for_each(|task| self.goes_on(n, task));
            host_test::left_by_iret(entry);
        } else {
            if let Some(task) = before.filter(|_| bell.is_none() && has_vector) {
                self.was_saved(n, task);
            }
            self.leave(entry);
        }
    }

    /// Serves an interrupt of a program on its short way, if it has one that fits. Returns whether
    /// it did. `with_vector` is the program's task, if that has vector state.
    fn goes_short(
        &self,
        entry: &mut CpuEntry,
        (what, place): (Interrupt, usize),
        with_vector: Option<Ref<'static, Task>>,
    ) -> bool {
        let n = entry.block().id().index();
        let before = self.current(n);
        let end = match what {
            Interrupt::Timer if self.fast => self.context(entry).on_timer(),
            Interrupt::Device if self.fast => self.context(entry).on_device(place),
            _ => return false,
        };
        match end {
            ShortEnd::General => return false,
            ShortEnd::Continues => {
                if let Some(task) = before {
                    task.get().hot.here(host_test::pin(n)).regs.full.set(0);
                    self.goes_on(n, task);
                }
                host_test::left_by_iret(entry);
            }
            ShortEnd::Runs(next) => {
                let next = next.object().ptr().get(host_test::pin(n));
                assert!(before != Some(next), "cpu{n}: the program goes on, and is said not to");
                with_vector.into_iter().for_each(|task| self.was_saved(n, task));
                self.load(n, next);
            }
        }
        self.short.update(|count| count + 1);
        true
    }

    /// A task that was interrupted, and that another one follows, has its vector registers saved.
    fn was_saved(&self, n: usize, task: Ref<'static, Task>) {
        if !task.get().header.has_flag(FLAG_DEAD) {
            let area = std::ptr::from_ref(task.get().vector(host_test::pin(n))).addr();
            let saved = self.k.machine.hardware().saved.contains(&area);
            assert!(saved, "cpu{n}: the vector registers of a preempted task are lost");
        }
    }

    /// Settles grace rounds, as the image does.
    fn settle(&self, entry: &mut CpuEntry) {
        let _ = quiesce::settle(self.k, entry.quiescent());
        self.context(entry).wake_waiters();
    }

    fn ring(&self, entry: &CpuEntry, bell: Option<Ref<'static, Notification>>) {
        let cx = self.context(entry);
        if let Some(hot) = bell.and_then(|bell| bell.get().hot.open(cx.pin())) {
            cx.events().raise(hot, 1);
        }
    }

    /// A polling CPU sees its mail.
    fn poll(&self, entry: &mut CpuEntry) {
        let n = entry.block().id().index();
        quiesce::end_idle(entry);
        self.modes[n].set(Mode::User);
        let _ = self.context(entry).take_mail();
        self.leave(entry);
    }

    /// The way out of the kernel, as the image goes it.
    pub fn leave(&self, entry: &mut CpuEntry) {
        let n = entry.block().id().index();
        for turn in 0..PATIENCE {
            if turn >= TURNS && host_test::others_wait() {
                // It waits for a producer that stands between its two steps of a push.
                let gone_on = Cell::new(false);
                host_test::contended(&|| gone_on.replace(true));
                self.turn(n);
            }
            let cx = self.context(entry);
            if cx.cpu.grace().is_unsettled() {
                self.settle(entry);
                continue;
            }
            if let Some(task) = self.look(n).hot.current.get(host_test::pin(n)) {
                if cx.has_to_attend() && cx.attends_to_mail() {
                    continue;
                }
                self.load(n, task);
                return;
            }
            let has_more = cx.sched.more_mail.get();
            if !has_more {
                if cx.sched.before_idle.take() {
                    cx.time().end_rest_above();
                    cx.time().look_before_idle(self.idle.get() as u8, Idle::Halt as u8);
                }
                cx.time().note_idle();
                cx.begin_work();
                let is_parked = cx.cpu.residents.is_closed();
                let halts = is_parked && cx.sched.waits_by.get() == Idle::Halt as u8;
                let idle = if halts { Idle::Halt } else { self.idle.get() };
                if quiesce::go_idle(entry, idle) {
                    self.modes[n].set(Mode::Idle(idle));
                    return;
                }
            }
            self.context(entry).time().end_rest_above();
            self.context(entry).begin_work();
            if has_more {
                self.context(entry).take_mail_left();
            } else {
                let _ = self.context(entry).take_mail();
            }
        }
        panic!("cpu{n} does not find its way out of the kernel");
    }

    /// The context of the task that runs next: address space and kind of exit.
    fn load(&self, n: usize, task: Ref<'static, Task>) {
        let hot = task.get().hot.here(host_test::pin(n));
        hot.regs.full.set(0);
        self.look(n).hot.special_on.set(hot.word() as u32 & SPECIAL);
        self.ran_on.borrow_mut().insert(task.addr(), n);
        let pin = host_test::pin(n);
        let vspace = hot.process_if_any(pin).and_then(|p| p.get().vspace.get(pin));
        let Some(vspace) = vspace else { panic!("cpu{n} runs a task without address space") };
        let look = self.look(n);
        if look.cpu.vspace.is(vspace) {
            return;
        }
        look.cpu.vspace.set(Some(vspace));
        // No point comes while the simulated hardware is borrowed.
        let cr3 = vspace.get().cr3();
        self.k.machine.hardware().switch_to(n, cr3);
        if vspace.get().has_changed(pin) {
            self.k.machine.hardware().flush_space(n, cr3);
        }
    }
}
