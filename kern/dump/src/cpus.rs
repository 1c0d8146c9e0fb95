//! The survey's records of CPUs.

use kern_base::cpu::{BUSY, Mail};
use kern_base::machine::Machine;
use kern_base::task::{LABEL_MASK, LABEL_SHIFT};
use smp::cpu::CpuId;
use snapshot::{MailKind, Sink};

use crate::record::record;
use crate::{Still, Survey};

impl<'k, M: Machine, V: Still<'k, M>, S: Sink> Survey<'_, 'k, M, V, S> {
    pub fn cpu(&mut self, id: CpuId) {
        let cx = self.still.cx(id);
        let (cpu, sched, hot) = (&cx.cpu, &cx.sched, &cx.hot);
        let (front, top, summary, [word0, word1, word2, word3]) = sched.queue.survey();
        let [shootdown_waiters, shootdown_waiters_last] = self.ends(&sched.forgetful);
        let [unanswered, unanswered_last] = self.ends(&sched.unanswered);
        let [first, later] = sched.followers.queues();
        let [first_followers, first_followers_last] = self.ends(first);
        let [followers, followers_last] = self.ends(later);
        let [grace_waiters, grace_waiters_last] = sched.grace_waiters.ends().map(|at| self.at(at));
        let block = self.cx.k.block(self.cx.pin(), id);
        let (shootdowns_over, shootdowns_begun) = block.shootdowns();
        let halves = [&hot.recv_half, &hot.await_half, &hot.plain_half, &hot.wait_half];
        let vector_halves = [&hot.recv_vector_half, &hot.await_vector_half];
        let halves = halves.into_iter().chain(vector_halves).map(|half| half.get() as u32);
        let label_of = |half: u32| (half & LABEL_MASK) >> LABEL_SHIFT;
        self.sink.cpu(&record!(self, Cpu {
            [hot] current;
            [cpu] vspace, watch;
            [sched] until, timer, more_mail, expire_at, resting;
            [] top, summary, word0, word1, word2, word3, shootdown_waiters, shootdown_waiters_last;
            [] grace_waiters, grace_waiters_last, unanswered, unanswered_last;
            [] first_followers, first_followers_last, followers, followers_last;
            [] shootdowns_over, shootdowns_begun;
            id = id,
            busy = self.still.is_busy(id),
            context = sched.current,
            idle = sched.idle.get() != BUSY,
            ready = u32::from(sched.ready.get()),
            count_number = sched.count_number.get(),
            residents = cpu.residents.glance().0 as u32,
            parked = cpu.residents.is_closed(),
            owes_sign = cpu.sign.glance() != 0,
            sent_follower = sched.followers.sent(cx.pin()),
            expects_labels = halves.fold(0, |labels, half| labels | 1u32 << label_of(half)),
            expects_receiver = hot.recv_half,
            expects_caller = hot.await_half,
            expects_plain = hot.plain_half,
            front = self.at(front),
            soonest = sched.deadlines.queues().iter().map(|queue| queue.soonest(cx.pin())).min().unwrap_or(u64::MAX),
            grace_busy = cpu.grace().is_busy(),
            look_at = if cx.cpu.inbox().is_deferring() { sched.look_at.get() } else { u64::MAX },
            has_mail = block.mailbox().has_mail(),
            steps = 0u64,
        }));
        for (priority, queue) in (0u32..).zip(sched.deadlines.queues()).filter(|(_, queue)| !queue.is_empty())
        {
            let (root, soonest) = (self.at(queue.root_addr()), queue.soonest(cx.pin()));
            self.sink.heap(&record!(self, Heap { [] priority, root, soonest; cpu = id, }));
        }
        for priority in 0..=u8::MAX {
            let [first, last] = sched.queue.ends(priority).map(|at| self.at(at));
            if first | last != 0 {
                self.sink.class(&record!(self, Class { [] priority, first, last; cpu = id, }));
            }
        }
        cx.cpu.inbox().each_message(|mail| self.mail(id, mail));
    }

    fn mail(&mut self, cpu: CpuId, mail: &Mail) {
        let (kind, about) = match mail {
            Mail::Message(parcel) => (MailKind::Message, parcel.addr()),
            Mail::Arrival(task) => (MailKind::Arrival, task.addr()),
            Mail::Control(task) => (MailKind::Control, task.addr()),
            Mail::Bits(object) => (MailKind::Bits, object.addr()),
            Mail::Grace(_) => (MailKind::Grace, 0),
            Mail::Shoot(_) => (MailKind::Shootdown, 0),
            Mail::ShootAll(_) => (MailKind::ShootdownOfAll, 0),
            Mail::Sign => (MailKind::Sign, 0),
        };
        self.sink.mail(&record!(self, Mail { [] cpu, kind; about = self.at(about), }));
    }
}
