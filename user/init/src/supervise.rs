//! Serving a program until its end, and judging it.

use core::fmt;

use abi::{Error, TaskId};
use user_rt::ipc::{Event, Message, Received, recv, reply_recv};
use user_rt::report;
use user_rt::supervisor::{Label, serve_views};

use user_rt::archive::Program;

use crate::launch::Launched;
use crate::programs;

/// Whether the program passed.
pub fn until_the_end(program: &Program<'_>, launched: &mut Launched) -> bool {
    let pass = serve(program, launched);
    // Nobody uses a device for it any more.
    match launched.views.ended(program.channel.into(), true) {
        Ok(0) => pass,
        Ok(taken) => {
            report!("note init: {} had {taken} views", program.name());
            pass
        }
        Err(denial) => {
            report!("error init: taking back the views of {}: {denial}", program.name());
            false
        }
    }
}

fn serve(program: &Program<'_>, launched: &mut Launched) -> bool {
    let granted = programs::of(program.name()).views;
    let Launched { child, views } = launched;
    let mut event = recv();
    loop {
        match event {
            Ok(Event::Call(call)) => {
                if let Some(answer) = serve_views(views, &call, granted, |slot| child.cnode.slot(slot)) {
                    event = reply_recv(&answer);
                    continue;
                }
                if let Some(pass) = judge(program.name(), &call, |text| report!("{text}")) {
                    return pass;
                }
                event = reply_recv(&Message::default());
            }
            Ok(Event::Bits(_)) => event = recv(),
            Err(refusal) => {
                report!("error init: listening to {}: {refusal}", program.name());
                return false;
            }
        }
    }
}

/// What a message means for the run; `None`: nothing, go on. What is to be known of it is said.
fn judge(name: &str, call: &Received, say: impl Fn(fmt::Arguments<'_>)) -> Option<bool> {
    let [first, second, third, _] = call.message.regs;
    match Label::from_raw(call.message.label) {
        Some(Label::Done) => Some(second == 0),
        Some(Label::Panicked) => {
            say(format_args!("died program={name}: task {first:#x} panicked"));
            Some(false)
        }
        Some(Label::Died) => {
            let error = Error::from_raw(first as u8);
            let who = TaskId::from_raw(third);
            say(format_args!(
                "died program={name}: its first task {:#x} is no more ({error:?}, {second:#x})",
                who.raw()
            ));
            Some(false)
        }
        Some(Label::Lost) => {
            say(format_args!("note init: {name} lost task {first:#x} (reason {second}, address {third:#x})"));
            None
        }
        _ => {
            say(format_args!("note init: {name} said something unknown: label {}", call.message.label));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(label: u32, regs: [u64; 4]) -> Received {
        let message = Message::new(label, regs);
        Received { message, exposure: 0, sender: TaskId::NONE, custom: 0, fault: false }
    }

    #[test]
    fn only_a_program_without_failures_passes() {
        assert_eq!(judge("x", &call(Label::Done as u32, [12, 0, 0, 0]), |_| ()), Some(true));
        assert_eq!(judge("x", &call(Label::Done as u32, [12, 1, 0, 0]), |_| ()), Some(false));
        assert_eq!(judge("x", &call(Label::Lost as u32, [7, 5, 0, 0]), |_| ()), None, "its own affair");
    }
}
