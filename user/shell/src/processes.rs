//! Commands about processes, groups and devices, which process 1 answers.

use core::fmt::{self, Write};

use heapless::{String, Vec};
use protocols::Failure;
use protocols::manager::{Client, Refusal, State};
use protocols::system::{PROCESSES_MAX, text};
use user_rt::arch::now;
use user_rt::boot;
use user_rt::supervisor::to_parent;
use user_rt::talk::Line;

use crate::commands::{fail, usage};
use crate::{Shell, Status};

type Ran = Result<Status, fmt::Error>;
type Denied = Failure<Refusal, user_rt::Refusal>;

/// The longest name of a process, group or device.
const NAME_MAX: usize = 31;
/// Seconds that `top` measures, at most.
const SECONDS_MAX: u64 = 60;

type Name = String<NAME_MAX>;

/// A process, as process 1 describes it.
#[derive(Clone, Debug)]
struct Process {
    name: Name,
    program: Name,
    state: State,
    starts: u32,
    task: u64,
    priority: u8,
    cpu: u16,
    /// Bytes.
    memory: u64,
    /// Microseconds.
    used: u64,
    may_end: bool,
}

fn parent() -> Client<Line> {
    Client(to_parent())
}

fn name(of: protocols::capnp::Result<protocols::capnp::text::Reader<'_>>) -> Name {
    Name::try_from(text(of)).unwrap_or_default()
}

fn process(place: u16) -> Result<Process, Denied> {
    parent().process(
        |mut asked| asked.set_place(place),
        |told| {
            let it = told.get_process()?;
            Ok(Process {
                name: name(it.get_name()),
                program: name(it.get_program()),
                state: it.get_state()?,
                starts: it.get_starts(),
                task: it.get_task(),
                priority: it.get_priority(),
                cpu: it.get_cpu(),
                memory: it.get_memory(),
                used: it.get_used(),
                may_end: it.get_may_end(),
            })
        },
    )
}

/// Returns what `ask` says about places 0, 1, … until there is nothing more.
fn each<T>(ask: impl Fn(u16) -> Result<T, Denied>) -> impl Iterator<Item = Result<T, Denied>> {
    let told = (0..u16::MAX).map(ask);
    told.take_while(|told| !matches!(told, Err(Failure::Refused(Refusal::NoSuch))))
}

/// Tells the person why process 1 refused.
fn denied(shell: &mut Shell, of: &str, why: Denied) -> Ran {
    let refusal = match why {
        Failure::Refused(refusal) => refusal,
        Failure::Malformed => return fail(shell, format_args!("process 1 answers nonsense")),
        Failure::Transport(refusal) => {
            return fail(shell, format_args!("process 1 cannot be asked: {refusal}"));
        }
    };
    match refusal {
        Refusal::NotAllowed if of.is_empty() => fail(
            shell,
            format_args!("this shell may not look at processes: its description has no `controls`"),
        ),
        Refusal::NotAllowed => fail(
            shell,
            format_args!(
                "this shell may not do that to {of}: its description does not have it in `controls`"
            ),
        ),
        Refusal::NoSuch => fail(shell, format_args!("there is no process {of}; `processes` lists them")),
        Refusal::Running => fail(shell, format_args!("{of} runs, or is about to")),
        Refusal::Once => fail(
            shell,
            format_args!("{of} can be started only once: it has the verdict, or the rest of the memory"),
        ),
        Refusal::NoPager => fail(shell, format_args!("the pager of {of} has ended: start that first")),
        Refusal::NotRunning => fail(shell, format_args!("{of} does not run")),
        Refusal::TooLong => fail(shell, format_args!("too much to tell")),
        Refusal::BadRequest => fail(shell, format_args!("process 1 does not understand this shell")),
    }
}

pub fn list(shell: &mut Shell, words: &[&str]) -> Ran {
    if !words.is_empty() {
        return usage(shell, "processes");
    }
    writeln!(
        shell.out,
        "{:<16} {:<12} {:<5} {:>6} {:>8} {:>3} {:>9} {:>12}  end",
        "process", "program", "state", "starts", "priority", "cpu", "memory", "used"
    )?;
    for told in each(process) {
        let it = match told {
            Ok(it) => it,
            Err(why) => return denied(shell, "", why),
        };
        let end = if it.may_end { "may" } else { "-" };
        writeln!(
            shell.out,
            "{:<16} {:<12} {:<5} {:>6} {:>8} {:>3} {:>9} {:>12}  {end}",
            it.name,
            it.program,
            word(it.state, it.starts),
            it.starts,
            it.priority,
            it.cpu,
            Size(it.memory),
            Micros(it.used),
        )?;
    }
    Ok(Status::Done)
}

/// Returns how a process is that was started so often.
const fn word(state: State, starts: u32) -> &'static str {
    match state {
        State::Ended if starts == 0 => "new",
        State::Runs => "runs",
        State::Waits => "waits",
        State::Ended => "ended",
    }
}

/// The names of all processes, by their places.
type Names = Vec<Name, { PROCESSES_MAX as usize }>;

fn names() -> Result<Names, Denied> {
    each(process).map(|told| told.map(|it| it.name)).collect()
}

pub fn groups(shell: &mut Shell, words: &[&str]) -> Ran {
    if !words.is_empty() {
        return usage(shell, "groups");
    }
    let names = match names() {
        Ok(names) => names,
        Err(why) => return denied(shell, "", why),
    };
    for place in 0..u16::MAX {
        let mut lines: (String<512>, fmt::Result) = (String::new(), Ok(()));
        let told = parent().group(
            |mut asked| asked.set_place(place),
            |told| {
                let group = told.get_group()?;
                lines.1 = describe(&mut lines.0, group, &names);
                Ok(())
            },
        );
        match told {
            Ok(()) => writeln!(shell.out, "{}{}", lines.0, if lines.1.is_err() { " …" } else { "" })?,
            Err(Failure::Refused(Refusal::NoSuch)) => break,
            Err(why) => return denied(shell, "", why),
        }
    }
    Ok(Status::Done)
}

/// Returns the name of the process that is a member of a group with these custom bits. If several
/// have them, `?`.
pub fn sender_of(group: &str, custom: u16) -> Name {
    let senders = |place| {
        parent().group(
            |mut asked| asked.set_place(place),
            |told| {
                let told = told.get_group()?;
                if name_of(told) != group {
                    return Ok(None);
                }
                let customs = told.get_customs()?.iter().zip(told.get_members()?);
                let mut found = customs.filter(|(of, _)| *of == custom).map(|(_, member)| member);
                Ok(found.next().filter(|_| found.next().is_none()))
            },
        )
    };
    let found = each(senders).find_map(|told| told.ok().flatten());
    let named = found.and_then(|place| process(place).ok()).map(|it| it.name);
    named.unwrap_or_else(|| Name::try_from("?").unwrap_or_default())
}

/// Writes a group, its servers and its members.
fn describe(to: &mut impl Write, group: protocols::manager::group::Reader<'_>, names: &Names) -> fmt::Result {
    let name = |place: u16| names.get(usize::from(place)).map_or("?", |name| name.as_str());
    write!(to, "{}: served by", name_of(group))?;
    for place in group.get_servers().into_iter().flatten() {
        write!(to, " {}", name(place))?;
    }
    to.write_str("; members")?;
    for place in group.get_members().into_iter().flatten() {
        write!(to, " {}", name(place))?;
    }
    Ok(())
}

fn name_of(group: protocols::manager::group::Reader<'_>) -> Name {
    name(group.get_name())
}

pub fn devices(shell: &mut Shell, words: &[&str]) -> Ran {
    if !words.is_empty() {
        return usage(shell, "devices");
    }
    let device = |place| {
        parent().device(
            |mut asked| asked.set_place(place),
            |told| {
                let it = told.get_device()?;
                Ok((name(it.get_name()), it.get_driver()))
            },
        )
    };
    for told in each(device) {
        let driver = told.and_then(|(device, driver)| Ok((device, process(driver)?.name)));
        match driver {
            Ok((device, driver)) => writeln!(shell.out, "{device}: driven by {driver}")?,
            Err(why) => return denied(shell, "", why),
        }
    }
    Ok(Status::Done)
}

pub fn memory(shell: &mut Shell, words: &[&str]) -> Ran {
    if !words.is_empty() {
        return usage(shell, "memory");
    }
    let all = match parent().machine(|told| Ok(told.get_memory())) {
        Ok(all) => all,
        Err(why) => return denied(shell, "", why),
    };
    let mut given = 0;
    for told in each(process) {
        match told {
            Ok(it) => {
                given += it.memory;
                writeln!(shell.out, "{:>12}  {}", Size(it.memory), it.name)?;
            }
            Err(why) => return denied(shell, "", why),
        }
    }
    writeln!(shell.out, "{:>12}  of {} are set aside for processes", Size(given), Size(all))?;
    Ok(Status::Done)
}

pub fn kill(shell: &mut Shell, words: &[&str]) -> Ran {
    let ask = |name: &str| parent().kill(|mut asked| asked.set_name(name));
    order(shell, words, "kill", ask, "is ended")
}

pub fn restart(shell: &mut Shell, words: &[&str]) -> Ran {
    let ask = |name: &str| parent().restart(|mut asked| asked.set_name(name));
    order(shell, words, "restart", ask, "is started again")
}

pub fn run(shell: &mut Shell, words: &[&str]) -> Ran {
    let ask = |name: &str| parent().start(|mut asked| asked.set_name(name));
    order(shell, words, "run", ask, "is started")
}

/// Asks process 1 for something that one process undergoes, and notes its success in the log.
fn order(
    shell: &mut Shell,
    words: &[&str],
    command: &str,
    ask: impl Fn(&str) -> Result<(), Denied>,
    done: &str,
) -> Ran {
    let [name] = words else { return usage(shell, command) };
    match ask(name) {
        Ok(()) => {
            shell.note(format_args!("{name} {done}"));
            Ok(Status::Done)
        }
        Err(why) => denied(shell, name, why),
    }
}

pub fn top(shell: &mut Shell, words: &[&str]) -> Ran {
    let seconds = match words {
        [] => Some(1),
        [seconds] => seconds.parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds)),
        _ => None,
    };
    let Some(seconds) = seconds else {
        return fail(shell, format_args!("want: top [SECONDS], from 1 to {SECONDS_MAX}"));
    };
    let before: Result<Vec<(u64, u64), { PROCESSES_MAX as usize }>, Denied> =
        each(process).map(|told| told.map(|it| (it.task, it.used))).collect();
    let before = match before {
        Ok(before) => before,
        Err(why) => return denied(shell, "", why),
    };
    let begun = now();
    shell.out.flush()?;
    if let Err(refusal) = shell.bell.sleep_until(begun + seconds * boot::facts().tsc_hz) {
        return fail(shell, format_args!("cannot wait: {refusal}"));
    }
    let mut shares: Vec<(u64, Name), { PROCESSES_MAX as usize }> = Vec::new();
    for (told, before) in each(process).zip(&before) {
        match told {
            // One that was started again has begun to count again.
            Ok(it) => {
                let since = if it.task == before.0 { before.1 } else { 0 };
                _ = shares.push((it.used.saturating_sub(since), it.name));
            }
            Err(why) => return denied(shell, "", why),
        }
    }
    shares.sort_unstable_by_key(|(used, _)| core::cmp::Reverse(*used));
    let passed = u128::from(boot::micros(now().saturating_sub(begun)));
    for (used, name) in &shares {
        let permille = u128::from(*used) * 1_000 / passed.max(1);
        writeln!(shell.out, "{:>3}.{} %  {name}", permille / 10, permille % 10)?;
    }
    Ok(Status::Done)
}

/// Bytes, as a person reads them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text: String<24> = String::new();
        match self.0 {
            bytes if bytes >= 1 << 20 => write!(text, "{} MiB", bytes >> 20)?,
            bytes => write!(text, "{} KiB", bytes >> 10)?,
        }
        f.pad(&text)
    }
}

/// Microseconds, as a person reads them.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text: String<32> = String::new();
        write!(text, "{}.{:03} ms", self.0 / 1_000, self.0 % 1_000)?;
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_can_be_read() {
        assert_eq!(format!("{:>9}|{}", Size(64 << 10), Size(128 << 20)), "   64 KiB|128 MiB");
        assert_eq!(format!("{:>12}", Micros(1_234_567)), " 1234.567 ms");
    }
}
