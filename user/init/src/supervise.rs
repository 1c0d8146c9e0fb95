//! Waiting for a program's end, and judging it.

use abi::{Error, TaskId};
use user_rt::ipc::{Event, Message, Received, recv, reply_recv};
use user_rt::report;
use user_rt::supervisor::Label;

use user_rt::archive::Program;

/// Whether the program passed.
pub fn until_the_end(program: &Program<'_>) -> bool {
    let mut event = recv();
    loop {
        match event {
            Ok(Event::Call(call)) => {
                if let Some(pass) = judge(program.name(), &call) {
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

/// What a message means for the run; `None`: nothing, go on.
fn judge(name: &str, call: &Received) -> Option<bool> {
    let [first, second, third, _] = call.message.regs;
    match Label::from_raw(call.message.label) {
        Some(Label::Done) => Some(second == 0),
        Some(Label::Panicked) => {
            report!("died program={name}: task {first:#x} panicked");
            Some(false)
        }
        Some(Label::Died) => {
            let error = Error::from_raw(first as u8);
            let who = TaskId::from_raw(third);
            report!(
                "died program={name}: its first task {:#x} is no more ({error:?}, {second:#x})",
                who.raw()
            );
            Some(false)
        }
        Some(Label::Lost) => {
            report!("note init: {name} lost task {first:#x} (reason {second}, address {third:#x})");
            None
        }
        None => {
            report!("note init: {name} said something unknown: label {}", call.message.label);
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
        assert_eq!(judge("x", &call(Label::Done as u32, [12, 0, 0, 0])), Some(true));
        assert_eq!(judge("x", &call(Label::Done as u32, [12, 1, 0, 0])), Some(false));
        assert_eq!(judge("x", &call(Label::Lost as u32, [7, 5, 0, 0])), None, "its own affair");
    }
}
