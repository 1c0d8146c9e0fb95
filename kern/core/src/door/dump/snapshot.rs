//! A snapshot of everything: what [surveys](crate::survey) record, as text, of all CPUs. They stand still meanwhile.

use kern_base::machine::Machine;
use smp::cpu::CpuId;
use smp::door::{Homed, Ref};
use smp::lock::Guarded;
use smp::standstill::Stopped;
use snapshot::text::Writer;

use crate::door::dump::names::NAMES;
use crate::rooms::Door;
use crate::survey::{Still, survey};
use crate::{Answer, Cx, Kernel, Refusal, Result};

/// Channel of snapshots on the log port.
const CHANNEL: u8 = 0x83;
/// Bytes that one record of the log port carries at most. Records are cut anywhere.
const RECORD: usize = 2048;

impl<M: Machine> Door<'_, M> {
    /// The other half of [`abi::Op::MachineDump`].
    pub fn machine_snapshot(self) -> Result<Answer> {
        // Who has the memory for it waits for this CPU to stand still: it has to be interruptible.
        let mut found = NAMES.try_lock(self.cpu).ok_or(Refusal::More)?;
        let stopped = self.k.standstill.stop(self.k, self.pin()).ok_or(Refusal::More)?;
        let mut port = Port { machine: &self.k.machine, bytes: [0; RECORD], used: 0 };
        let mut writer = Writer::new(|part| port.put(part));
        survey(&AllStopped { k: self.k, stopped: &stopped }, &mut found, &mut writer);
        writer.finish();
        port.flush();
        if found.is_full() {
            return Err(abi::Error::Full.into());
        }
        Ok(Answer::one(found.len() as u64))
    }
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
