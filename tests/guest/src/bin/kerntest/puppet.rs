//! What a puppet runs: it makes the system calls that it is told to make, and shows their results.

use core::arch::asm;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::fence;

use abi::{Cap, Error, MSG_UTCB_WORDS, MsgInfo, Utcb};
use user_rt::arch::{Answer, Args};
use user_rt::cap::{Group, Handle, Notification, Untyped};
use user_rt::invoke::yield_now;
use user_rt::spawn::own;
use user_rt::utcb;

use crate::block::{Block, Word};
use crate::fate::survive;

/// In the control group: the Notification that informs the director of a completed command.
pub const EXPOSURE_DONE: u32 = 0;
/// In the control group: the Notification of puppet 0, which announces a command.
pub const EXPOSURE_COMMANDS: u32 = 1;

/// Entry of every puppet; the argument is its number.
pub extern "C" fn puppet(index: u64) -> ! {
    let block = Block::at(index as u32);
    // A Notification belongs to the CPU of the task that made it, so each puppet makes its own.
    let memory = Untyped::at(Cap(block.get(Word::Untyped) as u32));
    let place = Cap(block.get(Word::Note) as u32);
    memory.retype::<Notification>(0, own::cnode().slot(place), 1).expect("a puppet's Notification");
    let commands = Notification::at(place);
    let control = Group::at(Cap(block.get(Word::Control) as u32));
    control.expose_notification(EXPOSURE_COMMANDS + index as u32, &commands).expect("its exposure");
    let director = control.exposure(EXPOSURE_DONE);
    let bit = 1 << (index % 64);
    block.set(Word::Ready, 1);
    director.notify(bit).expect("the director hears");
    let mut finished = 0;
    loop {
        match commands.wait().map_err(|refusal| refusal.error) {
            Ok(_) => {}
            // Without time of its own it cannot wait: it looks again on its caller's.
            Err(Error::NoTime) => _ = yield_now(),
            // The puppet's Notification is gone: the test is over.
            Err(_) => survive(),
        }
        fence(Acquire);
        let asked = block.get(Word::Asked);
        if asked == finished {
            continue;
        }
        carry_out(block);
        finished = asked;
        fence(Release);
        block.set(Word::Finished, finished);
        director.notify(bit).expect("the director hears");
    }
}

/// Makes one system call, puts message words in the UTCB before, and copies them after it.
fn carry_out(block: &'static Block) {
    if block.get(Word::Scribble) != 0 {
        block.set(Word::Scribble, 0);
        scribble();
    }
    block.put_grants(own_utcb());
    let words = utcb::current().message();
    let count = (block.get(Word::Sent) as usize).min(MSG_UTCB_WORDS);
    for (to, from) in words.iter().zip(&block.sent).take(count) {
        to.store(from.load(Relaxed), Relaxed);
    }
    let (answer, dirt) = observed(&block.args());
    for (to, from) in block.got.iter().zip(words) {
        to.store(from.load(Relaxed), Relaxed);
    }
    block.show_grants(own_utcb());
    block.set_answer(&answer);
    block.set(Word::Dirt, dirt);
}

fn own_utcb() -> &'static Utcb {
    let utcb = user_rt::arch::fs_base() as *const Utcb;
    // SAFETY: the FS base is this task's UTCB, whose words are atomics.
    unsafe { &*utcb }
}

/// Overwrites all of the UTCB except the program's own words.
fn scribble() {
    let utcb = own_utcb();
    let own = [&utcb.preempt_pending, &utcb.task_id, &utcb.home_cpu, &utcb.wants_notice];
    for word in utcb.msg.iter().chain(own).chain(&utcb.bulk) {
        word.store(0xdead_beef_dead_beef, Relaxed);
    }
}

/// Makes a system call and observes every register. Returns the answer that the ABI defines, and
/// all other registers ORed, which must be zero. All registers that are no arguments hold a pattern
/// before. RCX and R11 must be RIP and RFLAGS, as SYSRET takes them; or zero, if a task wrote the
/// caller's registers and the caller continued through IRET.
pub fn observed(args: &Args) -> (Answer, u64) {
    let (info, rdi, rsi, rdx, r8, r9, r10, r12, mut dirt): (u64, u64, u64, u64, u64, u64, u64, u64, u64);
    let (rcx, r11, rip, flags): (u64, u64, u64, u64);
    // SAFETY: as in the runtime's general stub; rbx and rbp are saved on the stack, all else is
    // named.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov rbx, 0x5ec2e7",
            "mov rbp, rbx",
            "syscall",
            "3:",
            "pushfq",
            "or r13, rbx",
            "or r13, rbp",
            "or r13, r14",
            "or r13, r15",
            "pop r15",
            "lea r14, [rip + 3b]",
            "pop rbp",
            "pop rbx",
            inlateout("rax") args.info.0 => info,
            inlateout("rdi") args.rdi => rdi,
            inlateout("rsi") args.rsi => rsi,
            inlateout("rdx") args.rdx => rdx,
            inlateout("r8") args.r8 => r8,
            inlateout("r9") args.r9 => r9,
            inlateout("r10") args.r10 => r10,
            inlateout("r12") 0x5ec2e7u64 => r12,
            inlateout("r13") 0x5ec2e7u64 => dirt,
            inlateout("r14") 0x5ec2e7u64 => rip,
            inlateout("r15") 0x5ec2e7u64 => flags,
            lateout("rcx") rcx,
            lateout("r11") r11,
        );
    }
    if rcx | r11 != 0 {
        dirt |= (rcx ^ rip) | (r11 ^ flags);
    }
    (Answer { info: MsgInfo(info), rdi, rsi, rdx, r8, r9, r10, r12 }, dirt)
}
