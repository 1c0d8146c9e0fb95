//! [`abi::Op::MachineDump`] of test builds: writes a [survey](crate::survey) of the kernel's state as
//! text. All CPUs stand still meanwhile, with interrupts off, for milliseconds.

use abi::{Cap, machine_rights};
use kern_base::machine::Machine;
use smp::cpu::CpuId;
use smp::door::{Homed, Ref};
use smp::lock::{Guarded, Lock};
use smp::standstill::Stopped;
use snapshot::text::Writer;

use crate::rooms::Door;
use crate::survey::found::Found;
use crate::survey::{Scope, Still, survey};
use crate::{Answer, Cx, Kernel, Me, Refusal, Result};

/// Channel of snapshots on the log port.
const CHANNEL: u8 = 0x83;
/// Bytes that one record of the log port carries at most. Records are cut anywhere.
const RECORD: usize = 2048;

/// The objects of a survey: too large for a kernel stack. One survey at a time.
static FOUND: Lock<Found> = Lock::new(Found::new());

impl<'k, M: Machine> Door<'k, M> {
    /// [`abi::Op::MachineDump`].
    pub fn machine_dump(self, me: Me<'k>, cap: Cap, how: u64) -> Result<Answer> {
        self.caps().find_machine(me, cap, machine_rights::DUMP)?;
        let scope = match how {
            0 => Scope::All,
            1 => Scope::WithoutMemory,
            _ => return Err(Refusal::argument(1)),
        };
        self.write_snapshot(scope)
    }

    /// Writes a snapshot to the log port, and answers how many objects there are.
    pub fn write_snapshot(self, scope: Scope) -> Result<Answer> {
        // The CPU that holds the lock waits for this CPU to stand still: it has to be interruptible.
        let mut found = FOUND.try_lock(self.cpu).ok_or(Refusal::More)?;
        let stopped = self.k.standstill.stop(self.k, self.pin()).ok_or(Refusal::More)?;
        let mut port = Port { machine: &self.k.machine, bytes: [0; RECORD], used: 0 };
        let mut writer = Writer::new(|part| port.put(part));
        survey(&AllStopped { k: self.k, stopped: &stopped }, scope, &mut found, &mut writer);
        writer.finish();
        port.flush();
        if found.is_full() {
            return Err(abi::Error::Full.into());
        }
        exported(found.len());
        Ok(Answer::one(found.len() as u64))
    }
}

/// Where a debugger stops to see the state that was just exported: all CPUs still stand still.
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

    /// The CPU that takes the snapshot is in a system call, which has changed nothing.
    fn is_busy(&self, _cpu: CpuId) -> bool {
        false
    }

    fn inside<T>(&self, state: Ref<'s, Homed<T>>) -> &'s T {
        self.stopped.inside(state)
    }

    fn guarded<T>(&self, state: &'s Guarded<T>) -> &'s T {
        self.stopped.guarded(state)
    }
}

/// Text on its way to the log port.
struct Port<'m, M: Machine> {
    machine: &'m M,
    bytes: [u8; RECORD],
    used: usize,
}

impl<M: Machine> Port<'_, M> {
    fn put(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.used == RECORD {
                self.flush();
            }
            self.bytes[self.used] = byte;
            self.used += 1;
        }
    }

    fn flush(&mut self) {
        if self.used > 0 {
            self.machine.log(CHANNEL, &self.bytes[..self.used]);
        }
        self.used = 0;
    }
}
