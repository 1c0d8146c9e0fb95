//! Requests: what one CPU asks another CPU to do with an object that the other CPU owns. A request
//! travels in the message block of the requesting task, which waits in
//! [`State::Restart`](kern_base::task::State::Restart). So a request needs no memory, and it is
//! served completely even if the task dies.
//!
//! A request names only live objects: its task, or the reclaim that the task carries out, keeps
//! each of them alive until the answer. If an object has moved, the request follows it only while
//! the object is alive. The exception is [`Request::Seek`], which names objects that nothing keeps
//! alive: [`crate::time::search`].

use kern_base::block::Block;
use kern_base::header::{FLAG_DEAD, FLAG_DYING, Header};
use kern_base::machine::Machine;
use kern_base::sched_context::SchedContext;
use kern_base::task::{Message, OpenTask, Request, Task};
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::shootdown::{ShootMail, What};

use crate::outbox::mail::Next;
use crate::rooms::Door;

impl<'k, M: Machine> Door<'k, M> {
    /// Serves a request that has arrived: answers it, sends it on, or keeps it.
    pub fn request_arrived(self, block: Block<'k>) {
        let next = match block.request() {
            Some(request) => self.serve(block.task(), &block, request),
            None => Next::Done,
        };
        match next {
            Next::Done => self.outbox().answer_request(block),
            Next::Go(to) => self.outbox().send_block(block, to),
            Next::Keep(queue) => self.outbox().keep(block, queue),
        }
        self.time().dispatch();
    }

    fn serve(self, task: Ref<'k, Task>, msg: &Message, request: Request) -> Next<'k> {
        match request {
            Request::Kill(victim) => self.life().serve_kill(victim.get(self.pin())),
            Request::StopTime(sc) => self.serve_stop_time(task, msg, sc.get(self.pin())),
            Request::StopBits(object) => {
                let object = object.get(self.pin());
                self.at(object.get().hot.mail_target(self.pin()), &object.get().header, || {
                    self.life().stop_bits(object)
                })
            }
            Request::StopReply(reply) => {
                let reply = reply.get(self.pin());
                self.at(reply.get().hot.mail_target(self.pin()), &reply.get().header, || {
                    self.life().stop_reply(reply)
                })
            }
            Request::Forgotten(stamp) => self.tlb().serve_forgotten(stamp),
            Request::Disown(sc) => {
                let sc = sc.get(self.pin());
                self.at(sc.get().hot.mail_target(self.pin()), &sc.get().header, || self.disown(task, sc))
            }
            Request::Fetch(sc) => self.serve_fetch(task, msg, sc.get(self.pin())),
            Request::Seek(search) => self.time().serve_search(task, msg, search),
        }
    }

    /// Runs `work` for a request if this CPU is its object's home. Otherwise returns the CPU to
    /// which the object has moved.
    fn at(self, home: CpuId, header: &Header, work: impl FnOnce()) -> Next<'k> {
        if home == self.id() {
            work();
        } else if !header.has_flag(FLAG_DEAD) {
            return Next::Go(home);
        }
        Next::Done
    }

    /// Ends a request whose answer is back: the task restarts its system call, or continues with
    /// the time that it asked for. If the task is being killed, continues the kill.
    pub fn request_done(self, block: Block<'k>, task: OpenTask<'k>) {
        if let Some(sc) = block.take_time(self.pin()).and_then(|sc| self.open_time(sc)) {
            // The task's own time, which it asked for. The context has no holder if the task does
            // not own it any more.
            sc.task.set(Some(task.object()).filter(|task| sc.owner.is(*task)));
        }
        let request = block.take_request();
        block.rest();
        if task.is_dying() {
            return self.life().go_on_dying(task);
        }
        match request {
            Some(Request::Seek(search)) => self.time().search_over(task, search),
            _ => self.time().make_ready(task),
        }
        self.time().dispatch();
    }

    /// Serves a request to make a SchedContext inert. First its holder loses it, on the holder's
    /// CPU; then its owner, on the owner's CPU, to which the context travels.
    fn serve_stop_time(self, asker: Ref<'k, Task>, msg: &Message, sc: Ref<'k, SchedContext>) -> Next<'k> {
        let home = sc.get().hot.mail_target(self.pin());
        if sc.get().header.has_flag(FLAG_DEAD) {
            return Next::Done;
        }
        if home != self.id() {
            return Next::Go(home);
        }
        msg.set_time(None);
        match self.life().stop_time(sc) {
            None => Next::Done,
            Some(owner) => {
                if let Some(sc) = self.open_time(sc) {
                    sc.task.set(Some(asker));
                }
                msg.set_time(Some(sc));
                Next::Go(owner)
            }
        }
    }

    /// Takes a SchedContext away from its dying owner.
    fn disown(self, owner: Ref<'k, Task>, sc: Ref<'k, SchedContext>) {
        if let Some(sc) = self.open_time(sc).filter(|sc| sc.owner.is(owner)) {
            sc.owner.set(None);
        }
    }

    /// Takes a SchedContext from the task that has it, and puts it into the message block of its
    /// owner, which asks. Sends the request on if the context is on another CPU. Does nothing if
    /// the context is dying or has another owner by now.
    fn serve_fetch(self, task: Ref<'k, Task>, msg: &Message, sc: Ref<'k, SchedContext>) -> Next<'k> {
        if sc.get().header.has_flag(FLAG_DYING) {
            return Next::Done;
        }
        let Some(sc) = self.open_time(sc) else { return Next::Go(sc.get().hot.mail_target(self.pin())) };
        if !sc.owner.is(task) {
            return Next::Done;
        }
        self.time().seize(sc);
        sc.task.set(Some(task));
        msg.set_time(Some(sc.object()));
        Next::Done
    }

    /// Serves a shootdown mail: flushes and answers, or wakes the tasks that waited for a shootdown
    /// that is over.
    #[inline(never)]
    pub fn shoot_arrived(self, mail: ShootMail, what: What) {
        if self.tlb().shoot_arrived(mail, what) {
            self.wake_waiters();
        }
    }
}
