//! System calls that make CPUs report what they and SchedContexts do ([`crate::time::watch`]).

use abi::events::PoolSize;
use abi::status::{Doing, SchedEvent, Status};
use abi::{Error, Op};
use kern_base::events::EventPool;
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::sched_context::{OpenTime, SchedContext};
use kern_base::task::Request;
use smp::sync::Ordering::Relaxed;

use crate::args::Args;
use crate::rooms::Make;
use crate::{Answer, MachineObject, OpenTask, Refusal, Result, refuse_if};

/// What a SchedContext's status word is, and which events are reported: the words of a request.
#[derive(Clone, Copy)]
struct Wish {
    /// The policy that is told; 0: nobody.
    policy: u64,
    word: u16,
    events: u16,
}

impl Wish {
    const NONE: Wish = Wish { policy: 0, word: 0, events: 0 };

    fn to_words(self) -> [u64; 4] {
        [self.policy, u64::from(self.word), u64::from(self.events), 0]
    }

    fn from_words([policy, word, events, _]: [u64; 4]) -> Wish {
        Wish { policy, word: word as u16, events: events as u16 }
    }
}

/// Returns the number of a status word that a system call names in rdx.
fn status_word_of(args: &Args, size: PoolSize) -> Result<u16> {
    let word = u16::try_from(args.a2).ok().filter(|word| usize::from(*word) < size.status_words());
    word.ok_or(Refusal::argument(2))
}

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out [`Op::CpuWatch`].
    pub fn cpu_watch(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::CpuWatch as u8 }, 0>(me, args.cap())?;
        let cpu = self.cpu_named(args.target())?.get();
        if args.a1 == 0 {
            let _policies = self.time().lock_watching();
            cpu.watch.set(None);
            return Ok(Answer::DONE);
        }
        let pool = self.caps().operand::<EventPool, { Op::CpuWatch as u8 }, 1>(me, args.cap1())?;
        let word = status_word_of(args, pool.get().size())?;
        {
            let policies = self.time().lock_watching();
            refuse_if(pool.get().header.has_flag(FLAG_DYING), Error::Dying)?;
            refuse_if(pool.get().process.is_null(), Error::BadState)?;
            let is_free = cpu.watch.is_null() || cpu.watch.is(pool);
            refuse_if(!is_free, Error::InUse)?;
            if pool.get().policy.load(Relaxed) == 0 {
                policies.set(policies.get() + 1);
                pool.get().policy.store(policies.get(), Relaxed);
            }
            cpu.watch_word.store(u64::from(word), Relaxed);
            cpu.watch.set(Some(pool));
        }
        if cpu.id() != self.id() {
            return Err(self.outbox().ask(me, cpu.id(), Request::TellCpu));
        }
        self.time().tell_from_now();
        Ok(Answer::DONE)
    }

    /// Carries out [`Op::SchedWatch`]: on this CPU, or by a request to the CPU where the
    /// SchedContext is.
    pub fn sched_watch(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let sc = self.caps().operand::<SchedContext, { Op::SchedWatch as u8 }, 0>(me, args.cap())?;
        let wish = if args.a1 == 0 { Wish::NONE } else { self.wish_of(me, args)? };
        match self.open_time(sc) {
            Some(sc) => self.watch(sc, wish),
            None => {
                let to = sc.get().hot.mail_target(self.pin());
                Err(self.outbox().ask_with(me, to, Request::Watch(sc.ptr()), wish.to_words()))
            }
        }
    }

    fn wish_of(self, me: OpenTask<'k>, args: &Args) -> Result<Wish> {
        let pool = self.caps().operand::<EventPool, { Op::SchedWatch as u8 }, 1>(me, args.cap1())?;
        let word = status_word_of(args, pool.get().size())?;
        let events = u16::try_from(args.a3).ok().filter(|events| events & !SchedEvent::MASK == 0);
        let events = events.ok_or(Refusal::argument(3))?;
        let policy = pool.get().policy.load(Relaxed);
        refuse_if(policy == 0, Error::BadState)?;
        Ok(Wish { policy, word, events })
    }

    /// Serves [`Request::Watch`] on the CPU where the SchedContext is.
    pub fn serve_watch(self, sc: OpenTime<'k>, words: [u64; 4]) -> Result<Answer> {
        self.watch(sc, Wish::from_words(words))
    }

    /// Makes this CPU tell what a SchedContext does, or makes no CPU tell it any more.
    /// Errors: BadState, if this CPU does not report to that pool.
    fn watch(self, sc: OpenTime<'k>, wish: Wish) -> Result<Answer> {
        let policy = self.time().policy();
        refuse_if(![0, policy].contains(&wish.policy), Error::BadState)?;
        self.time().end_watch(sc);
        if wish.policy != 0 {
            let watch = &sc.watch;
            watch.policy.set(wish.policy);
            watch.word.set(wish.word);
            watch.events.set(wish.events);
            // What was seen before is out of date: settings were not counted meanwhile.
            let told = watch.told.get();
            let sequence = told.sequence.wrapping_add(1);
            watch.told.set(Status { doing: Doing::Unknown, sequence, ..told });
            sc.state.set_watched(true);
        }
        self.time().care_from_now(sc);
        if wish.policy != 0 {
            self.time().tell(sc, self.time().doing_of(sc));
        }
        Ok(Answer::DONE)
    }
}
