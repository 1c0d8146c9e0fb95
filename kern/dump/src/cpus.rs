//! The survey's records of CPUs.

use kern_base::cpu::Mail;
use kern_base::machine::Machine;
use kern_base::task::{LABEL_MASK, LABEL_SHIFT};
use smp::cpu::CpuId;
use snapshot::{Class, Cpu, MailKind, Sink};

use super::{Still, Survey};

impl<'k, M: Machine, V: Still<'k, M>, S: Sink> Survey<'_, 'k, M, V, S> {
    pub fn cpu(&mut self, id: CpuId) {
        let cx = self.still.cx(id);
        let (sched, hot) = (&cx.sched, &cx.hot);
        let queue = sched.queue.survey();
        let [shootdown_waiters, shootdown_waiters_last] = sched.forgetful.ends().map(|at| self.at(at));
        let (shootdowns_over, shootdowns_begun) = cx.cpu.shoot.numbers();
        let [word0, word1, word2, word3] = queue.words;
        let halves = [&hot.recv_half, &hot.await_half, &hot.plain_half, &hot.wait_half];
        let vector_halves = [&hot.recv_vector_half, &hot.await_vector_half];
        let halves = halves.into_iter().chain(vector_halves).map(|half| half.get() as u32);
        let expects_labels =
            halves.fold(0, |labels, half| labels | 1 << ((half & LABEL_MASK) >> LABEL_SHIFT));
        self.sink.cpu(&Cpu {
            id: id.index() as u32,
            busy: self.still.is_busy(id),
            current: self.at(hot.current.addr()),
            context: self.at(sched.current.addr()),
            vspace: self.at(cx.cpu.vspace.addr()),
            expects_labels,
            expects_receiver: hot.recv_half.get(),
            expects_caller: hot.await_half.get(),
            expects_plain: hot.plain_half.get(),
            idle: sched.idle.get(),
            until: sched.until.get(),
            front: self.at(queue.front),
            top: queue.top,
            summary: queue.summary,
            word0,
            word1,
            word2,
            word3,
            deadlines: self.at(sched.deadlines.root_addr()),
            soonest: sched.deadlines.soonest(),
            timer: sched.timer.get(),
            grace_busy: sched.grace.is_busy(),
            grace_waiters: self.at(sched.grace_waiters.addr()),
            shootdown_waiters,
            shootdown_waiters_last,
            more_mail: sched.more_mail.get(),
            has_mail: self.cx.k.block(self.pin(), id).mailbox().has_mail(),
            shootdowns_over,
            shootdowns_begun,
            steps: 0,
        });
        for priority in 0..=u8::MAX {
            let [first, last] = sched.queue.ends(priority);
            if first | last != 0 {
                let (first, last) = (self.at(first), self.at(last));
                let (cpu, priority) = (id.index() as u32, u32::from(priority));
                self.sink.class(&Class { cpu, priority, first, last });
            }
        }
        cx.cpu.inbox().each_message(|mail| self.mail(id, mail));
    }

    fn mail(&mut self, cpu: CpuId, mail: Mail) {
        let (kind, about) = match mail {
            Mail::Message(task) => (MailKind::Message, task.addr()),
            Mail::Arrival(task) => (MailKind::Arrival, task.addr()),
            Mail::Control(task) => (MailKind::Control, task.addr()),
            Mail::Bits(object) => (MailKind::Bits, object.addr()),
            Mail::Grace(_) => (MailKind::Grace, 0),
            Mail::Shoot(_) => (MailKind::Shootdown, 0),
            Mail::ShootAll(_) => (MailKind::ShootdownOfAll, 0),
        };
        let about = self.at(about);
        self.sink.mail(&snapshot::Mail { cpu: cpu.index() as u32, kind, about });
    }
}
