//! Detects that all tasks are blocked or done.
//!
//! Every CPU has an idler of the lowest priority, which runs when all other tasks of its CPU are
//! blocked. The director waits for all idlers several times, so that messages between CPUs have
//! arrived and the tasks that they woke have run. After that, every task that is not done is
//! blocked. No test has to guess how long that takes.

use alloc::vec::Vec;

use abi::Cap;
use guest_tests::board::Row;
use guest_tests::words;
use user_rt::Result;
use user_rt::arch;
use user_rt::arch::shared::Shared;
use user_rt::cap::{Handle, Notification, Untyped};
use user_rt::spawn::{Home, Nursery, Run, TaskSpec, own, task};

use crate::block::Board;

/// The lowest priority: no task of a test has it.
const PRIORITY: u8 = 1;
/// Places of idlers in the address space, apart from the tests' tasks.
const FIRST_INDEX: u32 = 3000;
/// Rounds after which messages between CPUs have been handled: a call and its reply, and both ways
/// to the director.
const ROUNDS: u32 = 4;

words! {
    /// One idler's words.
    pub enum IdlerWord: Published {
        Asked,
        Answered,
        /// Slots: an Untyped, of which the idler makes the Notification that asks it, and the
        /// director's Notification.
        Memory,
        Note,
        Done,
    }
}

fn words(cpu: u64) -> &'static Row<IdlerWord> {
    &Board::open().idlers[cpu as usize]
}

extern "C" fn idler(cpu: u64) -> ! {
    let words = words(cpu);
    let cap = |word| Cap(words.get(word) as u32);
    // A Notification belongs to the CPU of the task that made it.
    let made = Untyped::at(cap(IdlerWord::Memory)).retype::<Notification>(
        0,
        own::cnode().slot(cap(IdlerWord::Note)),
        1,
    );
    made.expect("an idler's Notification");
    let (asked, done) = (Notification::at(cap(IdlerWord::Note)), Notification::at(cap(IdlerWord::Done)));
    loop {
        words.set(IdlerWord::Answered, words.get(IdlerWord::Asked));
        done.notify(1 << 63).expect("the director hears");
        asked.wait().expect("the director asks");
    }
}

/// The idlers of all CPUs.
pub struct Idlers {
    notes: Vec<Notification>,
}

impl Idlers {
    /// Makes the idlers, for the rest of the run.
    pub fn new(nursery: &mut Nursery, _shared: &Shared, cpus: u32, done: &Notification) -> Result<Idlers> {
        let mut notes = Vec::new();
        for cpu in 0..cpus {
            let memory: Untyped = nursery.make(12)?;
            let note = nursery.take_slot()?;
            let words = words(u64::from(cpu));
            for (word, value) in [
                (IdlerWord::Asked, 1),
                (IdlerWord::Memory, memory.cap().0),
                (IdlerWord::Note, note.0),
                (IdlerWord::Done, done.cap().0),
            ] {
                words.set(word, u64::from(value));
            }
            let spec = TaskSpec {
                index: FIRST_INDEX + cpu,
                cpu,
                priority: PRIORITY,
                stack_pages: 1,
                run: Run::Function(idler),
                argument: u64::from(cpu),
            };
            Home::own(|home| task(nursery, home, &spec))?.task.resume()?;
            notes.push(Notification::at(note));
        }
        Ok(Idlers { notes })
    }

    fn answered(&self) -> bool {
        (0..self.notes.len() as u64)
            .map(words)
            .all(|words| words.get(IdlerWord::Answered) == words.get(IdlerWord::Asked))
    }

    fn wait(&self, done: &Notification, deadline: u64) -> bool {
        while !self.answered() {
            if arch::now() >= deadline || done.wait_until(deadline).is_err() {
                return self.answered();
            }
        }
        true
    }

    /// Waits until nothing runs on any CPU, or until the deadline. Returns whether nothing runs.
    pub fn quiet(&self, done: &Notification, deadline: u64) -> bool {
        for _ in 0..ROUNDS {
            if !self.wait(done, deadline) {
                return false;
            }
            for (cpu, note) in (0..).zip(&self.notes) {
                words(cpu).add(IdlerWord::Asked, 1);
                // If this fails, the idler does not answer, which the director sees.
                let _ = note.notify(1);
            }
        }
        self.wait(done, deadline)
    }
}
