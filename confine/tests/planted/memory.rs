//! Pages that a process newly sees, and pins.

use abi::audit::may;
use abi::{Rights, frame_rights, machine_rights, process_rights, task_rights};
use confine::OfferKind;

use crate::stage::*;
use crate::{Never, Plant};

fn nothing(_: &mut Stage) {}

fn own_space(s: &mut Stage) {
    s.hold(space(A), Rights::MAP);
}

fn reads(s: &mut Stage) {
    s.map(space(A), PAGE, 0);
}

fn writes(s: &mut Stage) {
    s.map(space(A), PAGE, WRITE);
}

const SENDS: Rights = Rights(Rights::SEND.0 | Rights::MAP.0);
const WRITES: fn(&mut Stage) = |s| {
    s.hold(FRAME, Rights::MAP.union(frame_rights::WRITE.rights()));
};

pub const PLANTS: &[Plant] = &[
    Plant {
        rule: "mapped",
        what: "a page is mapped with MAP of space and frame",
        set: nothing,
        needs: &[own_space, |s| {
            s.hold(FRAME, Rights::MAP);
        }],
        change: reads,
    },
    Plant {
        rule: "mapped",
        what: "to be written it takes WRITE",
        set: |s| {
            own_space(s);
            s.hold(FRAME, Rights::MAP);
        },
        needs: &[WRITES],
        change: writes,
    },
    Plant {
        rule: "mapped",
        what: "a page that is seen already is written with WRITE",
        set: |s| {
            own_space(s);
            s.hold(FRAME, Rights::MAP);
            reads(s);
        },
        needs: &[WRITES],
        change: writes,
    },
    Plant {
        rule: "mapped",
        what: "a page of a pool is taken with MAP of both spaces",
        set: |s| s.map(space(B), PAGE, POOLED | WRITE),
        needs: &[own_space, |s| {
            s.hold(space(B), Rights::MAP);
        }],
        change: |s| {
            s.s.entries.clear();
            s.map(space(A), PAGE, POOLED | WRITE);
        },
    },
    Plant {
        rule: "mapped",
        what: "or sent to a window, with MAP in the group",
        set: |s| s.map(space(A), PAGE, POOLED | WRITE),
        needs: &[
            |s| s.offer(B, OfferKind::Addresses, ADDRESS, 0x1000),
            |s| s.show(0, task(B), B),
            |s| {
                s.member(SENDS);
            },
            |s| s.joins(SENDS),
        ],
        change: |s| {
            s.s.entries.clear();
            s.map(space(B), PAGE, POOLED | WRITE);
        },
    },
    Plant {
        rule: "mapped",
        what: "a message carries pages by a record with MAP",
        set: |s| {
            s.map(space(A), PAGE, POOLED | WRITE);
            s.offer(B, OfferKind::Addresses, ADDRESS, 0x1000);
            s.show(0, task(B), B);
            s.member(SENDS);
            s.joins(Rights::SEND);
        },
        needs: &[|s| s.joins(SENDS)],
        change: |s| {
            s.s.entries.clear();
            s.map(space(B), PAGE, POOLED | WRITE);
        },
    },
    Plant {
        rule: "mapped",
        what: "a UTCB is mapped by who configures its task",
        set: nothing,
        needs: &[
            |s| {
                s.hold(process(B), process_rights::CONFIGURE);
            },
            |s| {
                s.hold(task(B), task_rights::REGISTERS);
            },
        ],
        change: |s| s.map(space(B), utcb(B), PLAIN | WRITE),
    },
    Plant {
        rule: "mapped",
        what: "an event pool is mapped by who binds it",
        set: |s| s.s.pools[0].process = process(B),
        needs: &[
            |s| {
                s.hold(process(B), process_rights::CONFIGURE);
            },
            |s| {
                s.hold(POOL, Rights::LISTEN);
            },
        ],
        change: |s| s.map(space(B), POOL_PAGE, PLAIN | WRITE),
    },
    Plant {
        rule: "label",
        what: "labels let a page be read",
        set: |s| {
            own_space(s);
            s.hold(FRAME, Rights::MAP);
            s.s.vspaces.iter_mut().filter(|it| it.at == space(A)).for_each(|it| it.label = 1);
            s.forbid(1, 0, may::READ);
        },
        needs: &[|s| s.s.label_rules.clear()],
        change: reads,
    },
    Plant {
        rule: "label",
        what: "labels let a page be written",
        set: |s| {
            own_space(s);
            WRITES(s);
            s.s.vspaces.iter_mut().filter(|it| it.at == space(A)).for_each(|it| it.label = 1);
            s.forbid(1, 0, may::WRITE);
        },
        needs: &[|s| s.s.label_rules.clear()],
        change: writes,
    },
    Plant {
        rule: "label",
        what: "a page that comes back was there before, one that is newly mapped was not",
        set: |s| {
            own_space(s);
            s.hold(FRAME, Rights::MAP);
            s.s.vspaces.iter_mut().filter(|it| it.at == space(A)).for_each(|it| it.label = 1);
            s.forbid(1, 0, may::READ);
        },
        needs: &[|s| s.map(space(A), PAGE, POOLED | LENT)],
        change: |s| s.map(space(A), PAGE, POOLED | WRITE),
    },
    Plant {
        rule: "pins",
        what: "a pin takes DMA of the Machine and of the frame",
        set: nothing,
        needs: &[
            |s| {
                s.hold(MACHINE, machine_rights::DMA);
            },
            |s| {
                s.hold(FRAME, frame_rights::DMA);
            },
        ],
        change: |s| s.s.frames[0].pins = 1,
    },
    Plant {
        rule: "pins",
        what: "a pin is taken back with DMA of the Machine",
        set: |s| {
            s.s.frames[0].pins = 1;
            s.hold(FRAME, frame_rights::DMA);
        },
        needs: &[|s| {
            s.hold(MACHINE, machine_rights::DMA);
        }],
        change: |s| s.s.frames[0].pins = 0,
    },
    Plant {
        rule: "bound",
        what: "a page comes to be seen by who may ever map it",
        set: |s| {
            s.put(cnode(A), 8, space(A), Rights::MAP, 0);
        },
        needs: &[|s| {
            s.hold(FRAME, Rights::MAP);
        }],
        change: reads,
    },
    Plant {
        rule: "bound",
        what: "a space becomes another's with its pages, once its process has ended",
        set: |s| s.map(space(B), PAGE, WRITE),
        needs: &[
            |s| {
                s.hold(process(C), process_rights::CONFIGURE);
            },
            |s| {
                s.hold(space(B), Rights::MAP);
            },
        ],
        change: |s| {
            s.s.entries.clear();
            s.map(space(C), PAGE, WRITE);
        },
    },
    Plant {
        rule: "bound",
        what: "and to be written by who may ever write it",
        set: |s| {
            own_space(s);
            s.hold(FRAME, Rights::MAP);
        },
        needs: &[WRITES],
        change: writes,
    },
];

pub const NEVER: &[Never] = &[
    Never {
        rule: "mapped",
        what: "nobody writes a page of a pool that another sees",
        set: |s| {
            own_space(s);
            s.hold(space(B), Rights::MAP);
            s.map(space(B), PAGE, POOLED);
        },
        change: |s| s.map(space(A), PAGE, POOLED | WRITE),
    },
    Never {
        rule: "mapped",
        what: "the pages of an event pool that its reader may not write stay so",
        set: |s| {
            s.s.pools[0].process = process(B);
            s.hold(process(B), Rights::ALL);
            s.hold(POOL, Rights::ALL);
        },
        change: |s| s.map(space(B), POOL_PAGE + abi::PAGE_SIZE, PLAIN | WRITE),
    },
];
