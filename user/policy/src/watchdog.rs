//! The watchdog: asks all CPUs for signs of life, and reports those that give none.
//!
//! It is a process of its own, since it must not wait for what it watches. It asks no CPU for
//! anything that would have to be answered, and calls nobody. A policy that has asked a CPU for
//! something waits for ever if that CPU stops; the watchdog still tells which CPU it is.

use policy_core::orders::{Order, Verdict, Watch};
use user_rt::ipc::{Event, Message, Patience, recv_within, reply};
use user_rt::spawn::own;
use user_rt::watch::Watchdog;
use user_rt::{arch, info, warn};

/// Watches CPUs, and answers [`Order::Silent`].
pub fn run(watch: Watch) -> ! {
    let mut watchdog = Watchdog::new(watch.limit);
    info!("watches {} CPUs", watch.cpus);
    let mut next = 0;
    loop {
        // Before each call: a call that waits is received whatever the time is.
        if arch::now() >= next {
            next = arch::now().saturating_add(watchdog.pause());
            (0..watch.cpus).for_each(|cpu| look(&mut watchdog, cpu));
        }
        if let Ok(Event::Call(call)) = recv_within(Patience::Until(next)) {
            let order = Order::of_words(call.message.label, call.message.regs);
            // The caller may have gone.
            let _ = reply(&answer(order, &watchdog));
        }
    }
}

fn look(watchdog: &mut Watchdog, cpu: u32) {
    match watchdog.look(&own::machine(), cpu) {
        Ok(Some(true)) => warn!("CPU {} does not answer", cpu),
        Ok(Some(false)) => warn!("CPU {} answers again", cpu),
        Ok(None) => {}
        Err(refusal) => panic!("no watchdog: {refusal}"),
    }
}

fn answer(order: Option<Order>, watchdog: &Watchdog) -> Message {
    let (verdict, silent) = match order {
        Some(Order::Silent) => (Verdict::Done, watchdog.silent()),
        _ => (Verdict::BadOrder, 0),
    };
    Message { label: verdict as u32, regs: [silent, 0, 0, 0], ..Message::default() }
}
