//! [`Op::MachineDump`]: writes a [survey](crate::survey()) of the kernel's state as text. All CPUs
//! stand still meanwhile, with interrupts off, for milliseconds.

use abi::{Cap, Counter, MsgInfo, Op, Target};
use heapless::String;
use kern_base::machine::Machine;
use kern_core::answer::write_values;
use kern_core::rooms::Door;
use kern_core::{Cx, Kernel, MachineObject, OpenTask, Refusal, Result};
use smp::cpu::CpuId;
use smp::door::{Homed, Ref};
use smp::lock::{LeftLock, Lock};
use smp::standstill::{Standstill, Stopped};
use snapshot::text::Writer;
use test_abi::Dump;

use crate::found::Found;
use crate::{Still, survey};

/// Channel of snapshots on the log port.
const CHANNEL: u8 = 0x83;
/// Bytes that one record of the log port carries at most. Records are cut anywhere.
const RECORD: usize = 1024;

/// The objects of a survey: too large for a kernel stack. One survey at a time.
static FOUND: Lock<Found> = Lock::new(Found::new());

/// A standstill, in which one CPU reads what all CPUs own.
static STANDSTILL: Standstill = Standstill::new();

/// Serves the operation [`Op::MachineDump`] in place of the kernel's own handler, which refuses it.
pub fn on_system_call<M: Machine>(door: Door<'_, M>) {
    let Some(me) = door.current() else { return };
    door.count(Counter::SlowEntry);
    let r = &me.regs;
    match machine_dump(door, me, Target(r.rdi.get()).cap(), r.rsi.get()) {
        Ok(objects) => write_values(r, MsgInfo(0), [objects, 0, 0, 0]),
        Err(refusal) => door.refuse(me, Some(Op::MachineDump), refusal),
    }
}

fn machine_dump<'k, M: Machine>(door: Door<'k, M>, me: OpenTask<'k>, cap: Cap, how: u64) -> Result<u64> {
    door.caps().operand::<MachineObject, { Op::MachineDump as u8 }, 0>(me, cap)?;
    write_snapshot(*door, Dump::from_raw(how).ok_or(Refusal::argument(1))?)
}

/// Stands still while another CPU reads what all CPUs own.
/// Requires: the CPU is at the beginning of an interrupt, with nothing half done.
#[inline(always)]
pub fn stand_still<M: Machine>(cx: Cx<'_, M>) {
    STANDSTILL.stand(cx.pin());
}

/// Writes a snapshot to the log port.
/// Returns: how many objects there are.
pub fn write_snapshot<M: Machine>(cx: Cx<'_, M>, scope: Dump) -> Result<u64> {
    // The CPU that holds the lock waits for this CPU to stand still: it has to be interruptible.
    let mut found = FOUND.try_lock(cx.cpu).ok_or(Refusal::More)?;
    let stopped = STANDSTILL.stop(cx.k, cx.pin()).ok_or(Refusal::More)?;
    let mut text = String::<RECORD>::new();
    let mut writer = Writer::new(|part| {
        if text.len() + part.len() > RECORD {
            cx.k.machine.log(CHANNEL, text.as_bytes());
            text.clear();
        }
        // A part, such as the name of a field, is shorter than a record.
        let _ = text.push_str(part);
    });
    survey(&AllStopped { k: cx.k, stopped: &stopped }, scope, &mut found, &mut writer);
    writer.finish();
    cx.k.machine.log(CHANNEL, text.as_bytes());
    if found.is_full() {
        return Err(abi::Error::Full.into());
    }
    let objects = found.objects().count();
    exported(objects);
    Ok(objects as u64)
}

/// Does nothing: a debugger stops at this function to see the state that was just exported, while
/// all CPUs still stand still.
#[inline(never)]
fn exported(objects: usize) {
    core::hint::black_box(objects);
}

/// All CPUs stand still.
struct AllStopped<'s, M: Machine> {
    k: &'s Kernel<M>,
    stopped: &'s Stopped<'s>,
}

impl<'s, M: Machine> Still<'s, M> for AllStopped<'s, M> {
    fn cx(&self, cpu: CpuId) -> Cx<'s, M> {
        let pin = self.stopped.pin(cpu);
        match self.k.block(pin, cpu).here(pin) {
            Some(cpu) => Cx { k: self.k, cpu },
            None => panic!("{cpu:?} has the block of another CPU"),
        }
    }

    /// Returns false: the CPU that takes the snapshot is in a system call that has changed nothing,
    /// and all other CPUs stand still with nothing half done.
    fn is_busy(&self, _cpu: CpuId) -> bool {
        false
    }

    fn inside<T>(&self, state: Ref<'s, Homed<T>>) -> &'s T {
        self.stopped.inside(state)
    }

    fn guarded<T>(&self, state: &'s LeftLock<T>) -> &'s T {
        self.stopped.guarded(state)
    }
}
