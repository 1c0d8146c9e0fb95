//! Names of tasks: process and number, and the program that the process belongs to.
//!
//! The kernel knows only numbers. The maker of a process reports more when the kernel traces:
//! process 1 reports which program it starts as which task, and every program which tasks it makes
//! in other processes. Such tasks count as part of the program that made them.

use std::collections::HashMap;

use abi::{ProcessKey, TaskId};

/// Programs of processes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Names {
    programs: HashMap<u64, String>,
}

impl Names {
    /// Takes in a report line: `program task=0x… name=…` or `spawned task=0x… by=0x…`.
    pub fn learn(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or_default();
        let field = |key: &str| rest.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let process = |key: &str| {
            let id = u64::from_str_radix(field(key)?.strip_prefix("0x")?, 16).ok()?;
            Some(TaskId::from_raw(id).process())
        };
        let Some(task) = process("task") else { return };
        let name = match word {
            "program" => field("name").map(str::to_owned),
            "spawned" => process("by").and_then(|by| self.program(by)).map(str::to_owned),
            _ => None,
        };
        if let Some(name) = name {
            self.programs.insert(task.raw(), name);
        }
    }

    fn program(&self, process: ProcessKey) -> Option<&str> {
        let known = self.programs.get(&process.raw()).map(String::as_str);
        // Everything else is started by it.
        known.or((process == ProcessKey::FIRST).then_some("init"))
    }

    /// Names a task for a reader: process and number, the generations if the task is not the first
    /// of that name, and the program if it is known.
    pub fn of(&self, task: TaskId) -> String {
        let mut name = format!("p{}.{}", task.process().number(), task.task());
        if task.generation() != 0 {
            name += &format!("#{:x}", task.generation());
        }
        if let Some(program) = self.program(task.process()) {
            name += &format!(" {program}");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(process: u32, generation: u16) -> TaskId {
        TaskId::new(ProcessKey::new(process, generation), 0, 0)
    }

    #[test]
    fn tasks_have_short_names() {
        let names = Names::default();
        assert_eq!(names.of(task(3, 0)), "p3.0");
        assert_eq!(names.of(TaskId::new(ProcessKey::new(3, 1), 7, 2)), "p3.7#1002");
        assert_eq!(names.of(task(1, 0)), "p1.0 init");
    }

    #[test]
    fn processes_belong_to_the_program_that_made_them() {
        let mut names = Names::default();
        names.learn(&format!("spawned task={:#x} by={:#x}", task(2, 0).raw(), task(1, 0).raw()));
        names.learn(&format!("program task={:#x} name=stress", task(2, 0).raw()));
        names.learn(&format!("spawned task={:#x} by={:#x}", task(3, 0).raw(), task(2, 0).raw()));
        names.learn("program task=2 name=nonsense");
        assert_eq!(names.of(task(2, 0)), "p2.0 stress");
        assert_eq!(names.of(TaskId::new(ProcessKey::new(3, 0), 9, 1)), "p3.9#1 stress");
        assert_eq!(names.of(task(3, 1)), "p3.0#1000", "another process of that number");
    }
}
