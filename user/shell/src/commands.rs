//! The commands: their names, their help, and what they run.

use core::fmt::{self, Write};

use crate::{Shell, Status, log, machine, processes, services};

type Ran = Result<Status, fmt::Error>;

/// A command of the shell.
pub struct Command {
    pub name: &'static str,
    /// What follows its name.
    pub arguments: &'static str,
    pub about: &'static str,
    /// What else a person may want to know.
    pub more: &'static str,
    run: fn(&mut Shell, &[&str]) -> Ran,
}

/// Words of a line.
const WORDS: usize = 8;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "help",
        arguments: "[COMMAND]",
        about: "lists the commands, or explains one",
        more: "",
        run: help,
    },
    Command {
        name: "processes",
        arguments: "",
        about: "lists the processes of the system",
        more: "`used` is the CPU time of the process's first task since its last start. `memory` is what\n\
               the machine gives for the process, all of it. `end` says which ones this shell may end.",
        run: processes::list,
    },
    Command {
        name: "groups",
        arguments: "",
        about: "lists the groups, with servers and members",
        more: "Members may become clients of the servers, as soon as they connect by name.",
        run: processes::groups,
    },
    Command {
        name: "devices",
        arguments: "",
        about: "lists the devices and their drivers",
        more: "",
        run: processes::devices,
    },
    Command {
        name: "top",
        arguments: "[SECONDS]",
        about: "measures the CPU time of all processes",
        more: "It measures for a second, or for as many as you say, up to 60. It sees the first task of\n\
               each process, and no time that the task spends for clients.",
        run: processes::top,
    },
    Command {
        name: "kill",
        arguments: "PROCESS",
        about: "ends a process",
        more: "If its description says so, the process is started again.",
        run: processes::kill,
    },
    Command {
        name: "restart",
        arguments: "PROCESS",
        about: "ends a process, and starts it again",
        more: "It also starts a process that has ended, whatever its description says of restarts.",
        run: processes::restart,
    },
    Command {
        name: "run",
        arguments: "PROCESS",
        about: "starts a process that does not run",
        more: "The processes of a system are in its description. With `start = \"asked\"` one does not start\n\
               with the system, but by this command. So does one that has ended.",
        run: processes::run,
    },
    Command {
        name: "cpus",
        arguments: "",
        about: "shows the CPUs",
        more: "`entries` counts system calls that took the general way, `fast` those that did not.",
        run: machine::cpus,
    },
    Command {
        name: "counters",
        arguments: "[CPU]",
        about: "shows the kernel's counters, of one CPU or of all",
        more: "Counters that are 0 are left out.",
        run: machine::counters,
    },
    Command {
        name: "memory",
        arguments: "",
        about: "shows who has the memory of the machine",
        more: "",
        run: processes::memory,
    },
    Command {
        name: "log",
        arguments: "[COUNT]",
        about: "shows the last lines of the system's log",
        more: "It shows 20 lines, or as many as you say, up to 500. The log keeps lines of processes that\n\
               use it, and not the records for the host.",
        run: log::show,
    },
    Command {
        name: "date",
        arguments: "",
        about: "shows the time of day",
        more: "It also shows how fast the CPU counts, if the machine has a clock to measure that.",
        run: services::date,
    },
    Command { name: "echo", arguments: "WORDS", about: "prints the words", more: "", run: echo },
    Command {
        name: "exit",
        arguments: "[pass|fail]",
        about: "ends the machine",
        more: "Without a word it passes if the last command did what it was to do. So does Ctrl-D.",
        run: exit,
    },
    Command {
        name: "off",
        arguments: "",
        about: "switches the machine off",
        more: "It does so without asking processes before.",
        run: services::off,
    },
    Command {
        name: "reset",
        arguments: "",
        about: "resets the machine",
        more: "It does so without asking processes before. QEMU ends, as the host tool starts it.",
        run: services::reset,
    },
];

/// Runs a line.
pub fn run(shell: &mut Shell, line: &str) -> Ran {
    let mut words = [""; WORDS];
    let mut count = 0;
    for word in line.split_ascii_whitespace() {
        let Some(place) = words.get_mut(count) else {
            return fail(shell, format_args!("that is more than {WORDS} words"));
        };
        *place = word;
        count += 1;
    }
    let Some((name, arguments)) = words[..count].split_first() else { return Ok(shell.status) };
    match COMMANDS.iter().find(|command| command.name == *name) {
        Some(command) => (command.run)(shell, arguments),
        None => fail(shell, format_args!("{name}: no such command; `help` lists them")),
    }
}

/// Tells the person why a command failed.
pub fn fail(shell: &mut Shell, why: fmt::Arguments<'_>) -> Ran {
    writeln!(shell.out, "{why}")?;
    Ok(Status::Failed)
}

/// Tells the person how a command is written.
pub fn usage(shell: &mut Shell, name: &str) -> Ran {
    let arguments = COMMANDS.iter().find(|command| command.name == name).map_or("", |it| it.arguments);
    match arguments {
        "" => fail(shell, format_args!("{name} takes no words")),
        _ => fail(shell, format_args!("want: {name} {arguments}")),
    }
}

fn help(shell: &mut Shell, words: &[&str]) -> Ran {
    match words {
        [] => {
            for Command { name, arguments, about, .. } in COMMANDS {
                write!(shell.out, "{name} {arguments}")?;
                for _ in name.len() + arguments.len()..24 {
                    shell.out.write_char(' ')?;
                }
                writeln!(shell.out, "{about}")?;
            }
            Ok(Status::Done)
        }
        [wanted] => {
            let Some(command) = COMMANDS.iter().find(|command| command.name == *wanted) else {
                return fail(shell, format_args!("{wanted}: no such command; `help` lists them"));
            };
            let Command { name, arguments, about, more, .. } = command;
            writeln!(shell.out, "{name} {arguments}\n{name} {about}.")?;
            if !more.is_empty() {
                writeln!(shell.out, "{more}")?;
            }
            Ok(Status::Done)
        }
        _ => usage(shell, "help"),
    }
}

fn echo(shell: &mut Shell, words: &[&str]) -> Ran {
    for (word, place) in words.iter().zip(0..) {
        write!(shell.out, "{}{word}", if place == 0 { "" } else { " " })?;
    }
    shell.out.write_char('\n')?;
    Ok(Status::Done)
}

fn exit(shell: &mut Shell, words: &[&str]) -> Ran {
    match words {
        [] => {}
        ["pass"] => shell.status = Status::Done,
        ["fail"] => shell.status = Status::Failed,
        _ => return usage(shell, "exit"),
    }
    shell.exit()?;
    Ok(Status::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_name_of_its_own_and_a_line_of_help() {
        for (place, command) in COMMANDS.iter().enumerate() {
            let others = &COMMANDS[place + 1..];
            assert!(others.iter().all(|other| other.name != command.name), "{}", command.name);
            assert!(command.name.len() + command.arguments.len() < 24, "{}", command.name);
            assert!(command.about.len() + 25 <= 80 && !command.about.ends_with('.'), "{}", command.name);
            assert!(command.more.lines().all(|line| line.trim().len() < 100), "{}", command.name);
        }
    }
}
