//! Tasks, processes, CPU time.

use abi::{Rights, process_rights, sched_control_rights, sched_rights, task_rights};
use snapshot::State;

use crate::Plant;
use crate::stage::*;

fn nothing(_: &mut Stage) {}

fn registers(s: &mut Stage) {
    s.hold(task(B), task_rights::REGISTERS);
}

fn schedules(s: &mut Stage) {
    s.hold(task(B), task_rights::SCHEDULE);
}

fn allows(s: &mut Stage) {
    s.hold(CONTROL, sched_control_rights::SCHEDULE);
}

fn configures(s: &mut Stage) {
    s.hold(process(B), process_rights::CONFIGURE);
}

pub const PLANTS: &[Plant] = &[
    Plant {
        rule: "task",
        what: "to configure a task takes REGISTERS of it and CONFIGURE of its process",
        set: nothing,
        needs: &[configures, |s| {
            s.hold(NEW_TASK, task_rights::REGISTERS);
        }],
        change: |s| {
            let task = s.its_task(NEW_TASK);
            (task.id, task.owner) = (9, process(B));
        },
    },
    Plant {
        rule: "task",
        what: "who handles a task's faults takes REGISTERS",
        set: schedules,
        needs: &[registers],
        change: |s| s.its_task(task(B)).fault_handler = 7,
    },
    Plant {
        rule: "task",
        what: "to suspend takes SUSPEND",
        set: registers,
        needs: &[|s| {
            s.hold(task(B), task_rights::SUSPEND);
        }],
        change: |s| s.its_task(task(B)).suspended = true,
    },
    Plant {
        rule: "task",
        what: "CPU time takes SCHEDULE of the task and CONFIGURE of the SchedContext",
        set: nothing,
        needs: &[schedules, |s| {
            s.hold(CONTEXT, sched_rights::CONFIGURE);
        }],
        change: |s| s.its_task(task(B)).own_context = CONTEXT,
    },
    Plant {
        rule: "task",
        what: "to bind a Notification takes SCHEDULE of the task and LISTEN of it",
        set: nothing,
        needs: &[schedules, |s| {
            s.hold(NOTE, Rights::LISTEN);
        }],
        change: |s| s.its_task(task(B)).bound = NOTE,
    },
    Plant {
        rule: "task",
        what: "to wait for bits takes LISTEN",
        set: nothing,
        needs: &[|s| {
            s.hold(NOTE, Rights::LISTEN);
        }],
        change: |s| {
            let task = s.its_task(task(A));
            (task.state, task.waits_for) = (State::WaitBits, NOTE);
        },
    },
    Plant {
        rule: "task",
        what: "to end a task takes DESTROY of it",
        set: |s| {
            registers(s);
            s.put(cnode(B), 1, task(B), Rights::ALL, 0);
            s.put(cnode(B), 2, process(B), Rights::ALL, 0);
        },
        needs: &[|s| {
            s.hold(task(B), task_rights::DESTROY);
        }],
        change: |s| s.its_task(task(B)).ending = true,
    },
    Plant {
        rule: "process",
        what: "to end a process takes DESTROY of it",
        set: |s| {
            configures(s);
            s.put(cnode(B), 1, process(B), Rights::ALL, 0);
            s.put(cnode(B), 2, cnode(B), Rights::ALL, 0);
            s.put(cnode(B), 3, space(B), Rights::ALL, 0);
        },
        needs: &[|s| {
            s.hold(process(B), process_rights::DESTROY);
        }],
        change: |s| s.its_process(B).dying = true,
    },
    Plant {
        rule: "process",
        what: "to offer another's slot takes CONFIGURE",
        set: nothing,
        needs: &[configures],
        change: |s| {
            let process = s.its_process(B);
            (process.offer_slot, process.offer_from) = (5, GROUP);
        },
    },
    Plant {
        rule: "process",
        what: "who handles a process's faults takes CONFIGURE",
        set: nothing,
        needs: &[configures],
        change: |s| s.its_process(B).fault_handler = 7,
    },
    Plant {
        rule: "process",
        what: "an address space takes CONFIGURE of the process and MAP of the space",
        set: nothing,
        needs: &[configures, |s| {
            s.hold(SPACE, Rights::MAP);
        }],
        change: |s| s.its_process(B).vspace = SPACE,
    },
    Plant {
        rule: "process",
        what: "a CSpace takes CONFIGURE of the process and GRANT of the table",
        set: nothing,
        needs: &[configures, |s| {
            s.hold(TABLE, Rights::GRANT);
        }],
        change: |s| s.its_process(B).cnode = TABLE,
    },
    Plant {
        rule: "process",
        what: "an event pool takes CONFIGURE of the process and LISTEN of the pool",
        set: nothing,
        needs: &[configures, |s| {
            s.hold(POOL, Rights::LISTEN);
        }],
        change: |s| s.its_process(B).pool = POOL,
    },
    Plant {
        rule: "time",
        what: "a SchedContext is configured with CONFIGURE, and SCHEDULE of a SchedControl",
        set: |s| {
            s.hold(CONTEXT, sched_rights::OBSERVE);
        },
        needs: &[allows, |s| {
            s.hold(CONTEXT, sched_rights::CONFIGURE);
        }],
        change: |s| s.s.contexts[0].priority = 9,
    },
    Plant {
        rule: "time",
        what: "a SchedControl is extended with CONFIGURE, and SCHEDULE of one that allows as much",
        set: nothing,
        needs: &[allows, |s| {
            s.hold(CONTROL, sched_control_rights::CONFIGURE);
        }],
        change: |s| s.s.controls[0].cpus = 3,
    },
];
