//! IrqHandlers get their lines, and are bound to Notifications.

use abi::devices::{CPU_LINES, is_msi, line};
use abi::{Error, Op};
use kern_base::header::FLAG_DYING;
use kern_base::irq::{IrqHandler, Line, NoLine, Route};
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::sched_control::SchedControl;
use kern_base::slot::Place;
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::sync::Ordering::SeqCst;
use smp::sync::fence;

use crate::args::Args;
use crate::life::reclaim::Pins;
use crate::outbox::mail::rank_with;
use crate::rooms::Make;
use crate::{Answer, MachineObject, NOT_COVERED, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out [`abi::Op::IrqAllow`].
    pub fn irq_allow(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::IrqAllow as u8 }, 0>(me, args.cap())?;
        if args.a1 == 0 {
            return self.irq_message(args.a2);
        }
        let irq = self.caps().operand::<IrqHandler, { Op::IrqAllow as u8 }, 1>(me, args.cap1())?;
        let number = u32::try_from(args.a2).ok().filter(|number| self.k.machine.has_line(*number));
        let number = number.ok_or(Refusal::argument(2))?;
        let known = if is_msi(number) { 0 } else { line::ALL };
        refuse_if(args.a3 & !known != 0, Refusal::argument(3))?;
        let free_since = self.k.lines.free_since(number);
        let is_reusable = self.k.cpus.epoch.is_reusable(free_since);
        refuse_if(!is_reusable, Refusal::Restart { epoch: free_since + 2 })?;
        let given = self.k.lines.give(Line { number, how: args.a3 as u8 }, irq);
        given.map_err(|why| match why {
            NoLine::Missing => Refusal::argument(2),
            NoLine::HasOne => Error::BadState.into(),
            NoLine::Taken => Error::InUse.into(),
        })?;
        fence(SeqCst);
        if irq.get().header.has_flag(FLAG_DYING) {
            // The CPU that ends it may not have seen that.
            self.k.lines.take_back(irq, self.k.cpus.epoch.now());
            return Err(Error::Dying.into());
        }
        Ok(Answer::DONE)
    }

    /// Returns the message that a device has to write to interrupt by a line.
    fn irq_message(self, number: u64) -> Result<Answer> {
        let number = u32::try_from(number).ok().filter(|number| is_msi(*number));
        let number = number.ok_or(Refusal::argument(2))?;
        let owner = self.k.lines.owner(number, self.pin()).map(Ref::get);
        // One that is about to find out that it has another line is no owner.
        let owner = owner.filter(|irq| irq.line().is_some_and(|line| line.number == number));
        let route = owner.and_then(IrqHandler::route);
        let message = route.and_then(|route| self.k.machine.message_to(route));
        let (address, word) = message.ok_or(Error::BadState)?;
        Ok(Answer::Values([address, word.into(), 0, 0]))
    }

    /// Carries out [`abi::Op::IrqBind`].
    pub fn irq_bind(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let (control, irq) =
            self.caps().operands::<SchedControl, IrqHandler, { Op::IrqBind as u8 }>(me, args)?;
        if args.a2 == 0 {
            return self.irq_unbind(me, irq);
        }
        let cap = args.cap2();
        let source = self.caps().slot_of(me.process(self.pin()), cap)?;
        let word = source.get().word.load(self.pin());
        let bits = self.caps().typed_operand::<Notification, { Op::IrqBind as u8 }, 2>(word, cap)?;
        refuse_if(args.a3 == 0, Refusal::argument(3))?;
        let cpu = self.cpu_for(control.get(), args.a4)?;
        let line = irq.get().line().ok_or(Error::BadState)?;
        let slot = irq.map(|irq| &irq.target);
        self.caps().claim(Place { slot, table: &irq.get().header }).map_err(|refusal| match refusal {
            Refusal::Error { error: Error::SlotOccupied, .. } => Error::InUse.into(),
            other => other,
        })?;
        let bound = self.route(irq, line, cpu).and_then(|()| {
            irq.get().set_bits(args.a3, self.running().map_or(0, |sc| rank_with(&sc)));
            let root = self.caps().lock_root(&bits.get().header);
            self.caps().check_parent(&root, source, word)?;
            self.caps().fill_derived(slot, source, word, abi::Rights::NONE, 0);
            Ok(Answer::DONE)
        });
        bound.inspect_err(|_| self.caps().unclaim(slot))
    }

    /// Returns the CPU with this number, if a SchedControl covers it.
    fn cpu_for(self, control: &SchedControl, number: u64) -> Result<CpuId> {
        let count = self.k.cpu_count();
        let cpu = usize::try_from(number).ok().filter(|cpu| *cpu < count).and_then(CpuId::new);
        let cpu = cpu.ok_or(Refusal::new(Error::NoCpu, count as u64))?;
        refuse_if(!control.covers(cpu), NOT_COVERED)?;
        Ok(cpu)
    }

    /// Makes the interrupts of an IrqHandler, whose slot is claimed, arrive at a CPU. The line is
    /// masked.
    fn route(self, irq: Ref<'k, IrqHandler>, line: Line, cpu: CpuId) -> Result<()> {
        let before = irq.get().route();
        let stays = before.filter(|before| before.cpu == cpu);
        // The device goes on to write to the CPU that it was told, where the place is not free.
        refuse_if(
            is_msi(line.number) && stays != before,
            Refusal::new(Error::NoCpu, self.k.cpu_count() as u64),
        )?;
        let lines = &self.k.block(self.pin(), cpu).lines;
        let place = stays.map(|stays| stays.place).or_else(|| lines.take(irq));
        let to = Route { cpu, place: place.ok_or(Refusal::new(Error::Full, CPU_LINES as u64))? };
        if !self.k.machine.route_line(line, Some(to)) {
            if stays.is_none() {
                self.leave_place(irq, to);
            }
            return Err(Refusal::new(Error::NoCpu, self.k.cpu_count() as u64));
        }
        irq.get().set_route(Some(to));
        if let Some(before) = before.filter(|before| *before != to) {
            self.leave_place(irq, before);
        }
        Ok(())
    }

    fn leave_place(self, irq: Ref<'k, IrqHandler>, route: Route) {
        self.life().leave_line_place(irq, route);
    }

    /// Makes interrupts go nowhere.
    fn irq_unbind(self, me: OpenTask<'k>, irq: Ref<'k, IrqHandler>) -> Result<Answer> {
        if let Some(line) = irq.get().line() {
            self.k.machine.mask_line(line.number);
        }
        self.life().delete_slot(me, irq.map(|irq| &irq.target), Pins::Hold)?;
        Ok(Answer::DONE)
    }

    /// Carries out [`abi::Op::IrqAck`].
    pub fn irq_ack(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let irq = self.caps().operand::<IrqHandler, { Op::IrqAck as u8 }, 0>(me, args.cap())?.get();
        let is_bound = irq.target.word.load(self.pin()).object_type() != 0;
        let line = irq.line().filter(|_| is_bound).ok_or(Error::BadState)?;
        let until = irq.rests_until();
        refuse_if(self.k.machine.now() < until, Refusal::new(Error::WouldBlock, until))?;
        self.k.machine.open_line(line.number);
        Ok(Answer::DONE)
    }
}
