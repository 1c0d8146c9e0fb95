//! System calls that set and read rules for labels and the audit. The room
//! [`Security`](crate::rooms::Security) implements both.

use abi::audit::{
    AUDIT_BYTES_MAX, AUDIT_LOG2, AUDIT_READ_MAX, AuditEvent, LABELS, RECORD_WORDS, Record, may,
};
use abi::{Cap, Error, Op};
use kern_base::audit::Audit;
use kern_base::machine::Machine;
use smp::cpu::CpuId;
use smp::ring::{Read, Reader};
use smp::sync::Ordering::Relaxed;

use crate::args::Args;
use crate::caps::ahead::Layout;
use crate::rooms::Caps;
use crate::{Answer, MachineObject, OpenTask, Refusal, Result, refuse_if};

/// Records that one entry examines, including lost ones.
const LOOKS: usize = 2 * AUDIT_READ_MAX;

impl<'k, M: Machine> Caps<'k, M> {
    /// Carries out [`Op::AuditStart`].
    pub fn audit_start(self, me: OpenTask<'k>, machine: Cap, source: Cap, log2: u64) -> Result<Answer> {
        self.operand::<MachineObject, { Op::AuditStart as u8 }, 0>(me, machine)?;
        let source = self.find_untyped(me, source)?;
        let cpus = self.k.cpu_count();
        let log2 = u8::try_from(log2).ok().filter(|log2| AUDIT_LOG2.contains(log2));
        let log2 = log2.filter(|log2| Audit::bytes(cpus, *log2) <= AUDIT_BYTES_MAX);
        let log2 = log2.ok_or(Refusal::argument(2))?;
        refuse_if(!self.k.audit.is_null(), Error::InUse)?;
        let layout = Layout::cleared([0; 2], size_of::<Audit>() as u64, Audit::bytes(cpus, log2), 64);
        self.clear_ahead(source, layout)?;
        {
            let guard = self.open_or_leave(source.untyped)?;
            let region = &guard.region;
            let _root = self.lock_to_make(source)?;
            refuse_if(!self.k.audit.is_null(), Error::InUse)?;
            refuse_if(!layout.is_ahead(region), Refusal::More)?;
            let piece = region.carve_cleared(layout.head, layout.size, layout.align);
            let audit = piece.and_then(|piece| Audit::make(piece, self.pin(), cpus, log2));
            let audit = audit.ok_or(Refusal::new(Error::NoMemory, region.free()))?;
            // Counted first: the audit may end as soon as others can find it.
            self.k.told.add_audit();
            // A CPU may have started an audit of another root sooner; then this memory is unused
            // until it is reset.
            if !self.k.audit.claim(audit) {
                self.k.told.end_audit();
                return Err(Error::InUse.into());
            }
        }
        let places = 1 << log2;
        let memory = &source.untyped.get().header;
        self.security().audit_object(AuditEvent::Began, Op::AuditStart, memory, places);
        Ok(Answer::one(cpus as u64))
    }

    /// Carries out [`Op::AuditRead`].
    pub fn audit_read(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        self.operand::<MachineObject, { Op::AuditRead as u8 }, 0>(me, args.cap())?;
        let number = abi::Target(args.a0).index();
        let no_cpu = Refusal::new(Error::NoCpu, self.k.cpu_count() as u64);
        let cpu = self.k.cpus.get_masked(self.pin(), number as usize).ok_or(no_cpu)?.get().id();
        let audit = self.k.audit.get(self.pin()).ok_or(Refusal::from(Error::BadState))?.get();
        let (count, lost, next) = self.copy_records(me, audit, cpu, args.a1);
        Ok(Answer::Values([count, next, lost, 0]))
    }

    /// Copies records of a CPU's ring to the caller's bulk words. Returns how many it copied, how
    /// many were overwritten, and the next position.
    fn copy_records(self, me: OpenTask<'k>, audit: &Audit, cpu: CpuId, first: u64) -> (u64, u64, u64) {
        let mut reader = Reader::at(first);
        let (mut count, mut lost) = (0, 0);
        let mut places = me.get().utcb(self.pin()).bulk.chunks_exact(RECORD_WORDS).take(AUDIT_READ_MAX);
        for _ in 0..LOOKS {
            if count == AUDIT_READ_MAX as u64 {
                break;
            }
            match audit.read(self.pin(), cpu, &mut reader) {
                Some(Read::Lost(more)) => lost += more,
                Some(Read::Event(words)) => {
                    let place = places.next().unwrap_or_default();
                    place.iter().zip(words).for_each(|(word, value)| word.store(value, Relaxed));
                    count += 1;
                }
                None => break,
            }
        }
        (count, lost, reader.position())
    }

    /// Carries out [`abi::Op::LabelRule`].
    pub fn label_rule(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        self.operand::<MachineObject, { Op::LabelRule as u8 }, 0>(me, args.cap())?;
        let label = |raw: u64, position| u32::try_from(raw).map_err(|_| Refusal::argument(position));
        let (subject, object) = (label(args.a1, 1)?, label(args.a2, 2)?);
        refuse_if(subject == 0, Refusal::argument(1))?;
        let allowed = u8::try_from(args.a3).ok().filter(|allowed| allowed & !may::ALL == 0);
        let forbidden = may::ALL & !allowed.ok_or(Refusal::argument(3))?;
        let position = if subject >= LABELS { 1 } else { 2 };
        let before =
            self.k.rules.change(self.pin(), subject, object, forbidden).ok_or(Refusal::argument(position))?;
        self.security().audit(AuditEvent::Rule, |record| Record {
            op: Some(Op::LabelRule),
            to: u64::from(subject) << 32 | u64::from(object),
            detail: u64::from(may::ALL & !before) << 32 | u64::from(may::ALL & !forbidden),
            ..record
        });
        Ok(Answer::one(u64::from(may::ALL & !before)))
    }
}
