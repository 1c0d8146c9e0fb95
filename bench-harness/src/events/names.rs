//! Names of tasks: the id, and the program that the task belongs to.
//!
//! The kernel knows only ids. The maker of a task reports more when the kernel traces: process 1
//! reports which program it starts as which task, and every program reports which tasks it makes.
//! Such tasks count as part of the program that made them.

use std::collections::HashMap;

use abi::TaskId;

/// Programs of tasks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Names {
    programs: HashMap<TaskId, String>,
}

impl Names {
    /// Takes in a report line: `program task=0x… name=…` or `spawned task=0x… by=0x…`.
    pub fn learn(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or_default();
        let field = |key: &str| rest.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let task_in = |key: &str| {
            let id = u64::from_str_radix(field(key)?.strip_prefix("0x")?, 16).ok()?;
            Some(TaskId::from_raw(id))
        };
        let Some(task) = task_in("task") else { return };
        let name = match word {
            "program" => field("name").map(str::to_owned),
            "spawned" => task_in("by").and_then(|by| self.program(by)).map(str::to_owned),
            _ => None,
        };
        if let Some(name) = name {
            self.programs.insert(task, name);
        }
    }

    fn program(&self, task: TaskId) -> Option<&str> {
        let known = self.programs.get(&task).map(String::as_str);
        // Everything else is started by it.
        known.or((task == TaskId::FIRST).then_some("init"))
    }

    /// Names a task for a reader: the id, and the program if it is known.
    pub fn of(&self, task: TaskId) -> String {
        match self.program(task) {
            Some(program) => format!("t{} {program}", task.raw()),
            None => format!("t{}", task.raw()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_have_short_names() {
        let names = Names::default();
        assert_eq!(names.of(TaskId::from_raw(3)), "t3");
        assert_eq!(names.of(TaskId::FIRST), "t1 init");
    }

    #[test]
    fn tasks_belong_to_the_program_that_made_them() {
        let mut names = Names::default();
        names.learn("spawned task=0x2 by=0x1");
        names.learn("program task=0x2 name=stress");
        names.learn("spawned task=0x3 by=0x2");
        names.learn("program task=2 name=nonsense");
        names.learn("spawned task=0x4 by=0x9");
        assert_eq!(names.of(TaskId::from_raw(2)), "t2 stress");
        assert_eq!(names.of(TaskId::from_raw(3)), "t3 stress");
        assert_eq!(names.of(TaskId::from_raw(4)), "t4", "its maker's program is not known");
    }
}
