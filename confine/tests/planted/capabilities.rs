//! Capabilities that come and go.

use abi::Rights;
use abi::audit::may;
use abi::{machine_rights, process_rights};
use confine::OfferKind;
use snapshot::{Frame, Notification, State};

use crate::stage::*;
use crate::{Never, Plant};

fn nothing(_: &mut Stage) {}

const SOURCE: fn(&mut Stage) = |s| {
    s.hold(NOTE, Rights::NOTIFY.union(Rights::GRANT));
};
const INTO_OWN: fn(&mut Stage) = |s| {
    s.put(cnode(A), 9, NOTE, Rights::NOTIFY, 0);
};
const INTO_OTHERS: fn(&mut Stage) = |s| {
    s.put(cnode(B), 9, NOTE, Rights::NOTIFY, 0);
};
const SENDS: Rights = Rights(Rights::SEND.0 | Rights::GRANT.0);

pub const PLANTS: &[Plant] = &[
    Plant {
        rule: "held",
        what: "a copy takes a source with GRANT",
        set: |s| {
            s.hold(NOTE, Rights::NOTIFY);
        },
        needs: &[SOURCE],
        change: INTO_OWN,
    },
    Plant {
        rule: "held",
        what: "a copy has no more rights than its source",
        set: SOURCE,
        needs: &[|s| {
            s.hold(NOTE, Rights::NOTIFY.union(Rights::GRANT).union(Rights::LISTEN));
        }],
        change: |s| {
            s.put(cnode(A), 9, NOTE, Rights::LISTEN, 0);
        },
    },
    Plant {
        rule: "held",
        what: "a copy goes to a table that its giver may change",
        set: SOURCE,
        needs: &[|s| {
            s.hold(cnode(B), Rights::GRANT);
        }],
        change: INTO_OTHERS,
    },
    Plant {
        rule: "held",
        what: "a CNode's capability stands for its own slots, not for those behind it",
        set: |s| {
            SOURCE(s);
            s.hold(cnode(B), Rights::GRANT);
            s.s.cnodes.iter_mut().filter(|it| it.at == TABLE).for_each(|it| it.process = process(B));
            s.s.cnodes.iter_mut().filter(|it| it.at == cnode(B)).for_each(|it| it.more = TABLE);
        },
        needs: &[|s| {
            s.hold(TABLE, Rights::GRANT);
        }],
        change: |s| {
            s.put(TABLE, 1, NOTE, Rights::NOTIFY, 0);
        },
    },
    Plant {
        rule: "held",
        what: "a badge is chosen once",
        set: |s| {
            s.put(cnode(A), 8, NOTE, Rights::ALL, 5);
        },
        needs: &[SOURCE],
        change: |s| {
            s.put(cnode(A), 9, NOTE, Rights::NOTIFY, 7);
        },
    },
    Plant {
        rule: "held",
        what: "a message takes an offer, somebody exposed, a capability and its record, with GRANT",
        set: SOURCE,
        needs: &[
            |s| s.offer(B, OfferKind::Slots, 8, 2),
            |s| s.show(0, task(B), B),
            |s| {
                s.member(SENDS);
            },
            |s| s.joins(SENDS),
        ],
        change: INTO_OTHERS,
    },
    Plant {
        rule: "held",
        what: "an answer goes to a task that has called the one who answers",
        set: |s| {
            SOURCE(s);
            s.offer(B, OfferKind::Slots, 8, 2);
            s.its_task(task(B)).state = State::Await;
            s.its_task(task(B)).callee = task(C);
        },
        needs: &[|s| s.its_task(task(B)).callee = task(A)],
        change: INTO_OTHERS,
    },
    Plant {
        rule: "held",
        what: "the answer to a kept call takes SEND of the Reply",
        set: |s| {
            SOURCE(s);
            s.offer(B, OfferKind::Slots, 8, 2);
            s.its_task(task(B)).state = State::Await;
            s.its_task(task(B)).held = REPLY;
            s.hold(REPLY, Rights::GRANT);
        },
        needs: &[|s| {
            s.hold(REPLY, Rights::SEND);
        }],
        change: INTO_OTHERS,
    },
    Plant {
        rule: "held",
        what: "a message carries capabilities by a record with GRANT",
        set: |s| {
            SOURCE(s);
            s.offer(B, OfferKind::Slots, 8, 2);
            s.show(0, task(B), B);
            s.member(SENDS);
            s.joins(Rights::SEND);
        },
        needs: &[|s| s.joins(SENDS)],
        change: INTO_OTHERS,
    },
    Plant {
        rule: "held",
        what: "a new object is made of memory that its maker holds",
        set: nothing,
        needs: &[|s| {
            s.hold(UNTYPED, Rights::NONE);
        }],
        change: |s| {
            s.s.notifications.push(Notification { at: MEMORY, identity: 77, ..Notification::default() });
            s.put(cnode(A), 9, MEMORY, Rights::ALL, 0);
        },
    },
    Plant {
        rule: "held",
        what: "a new object stands in a table that its maker may change",
        set: |s| {
            s.hold(UNTYPED, Rights::NONE);
        },
        needs: &[|s| {
            s.hold(cnode(B), Rights::GRANT);
        }],
        change: |s| {
            s.s.notifications.push(Notification { at: MEMORY, identity: 77, ..Notification::default() });
            s.put(cnode(B), 9, MEMORY, Rights::ALL, 0);
        },
    },
    Plant {
        rule: "held",
        what: "a device's Frame is made with DEVICE of the Machine",
        set: |s| {
            s.hold(UNTYPED, Rights::NONE);
            s.hold(MACHINE, machine_rights::DMA);
        },
        needs: &[|s| {
            s.hold(MACHINE, machine_rights::DEVICE);
        }],
        change: |s| {
            s.s.frames.push(Frame { at: MEMORY, identity: 77, device: true, ..Frame::default() });
            s.put(cnode(A), 9, MEMORY, Rights::ALL, 0);
        },
    },
    Plant {
        rule: "taken",
        what: "who takes away may change the slot",
        set: |s| {
            s.put(cnode(B), 3, NOTE, Rights::ALL, 0);
        },
        needs: &[|s| {
            s.hold(cnode(B), Rights::GRANT);
        }],
        change: |s| s.clear(cnode(B) + 0x100 + 3 * 0x40),
    },
    Plant {
        rule: "taken",
        what: "or one that it was derived from",
        set: |s| {
            s.put(cnode(C), 1, NOTE, Rights::ALL, 0);
            let at = s.put(cnode(B), 3, NOTE, Rights::ALL, 0);
            let parent = cnode(C) + 0x140;
            let slot = s.s.slots.iter_mut().find(|slot| slot.at == at).expect("it is there");
            (slot.depth, slot.prev) = (1, parent);
        },
        needs: &[|s| {
            s.hold(cnode(C), Rights::GRANT);
        }],
        change: |s| s.clear(cnode(B) + 0x100 + 3 * 0x40),
    },
    Plant {
        rule: "table",
        what: "a table becomes another's with GRANT of it and CONFIGURE of the process",
        set: nothing,
        needs: &[
            |s| {
                s.hold(TABLE, Rights::GRANT);
            },
            |s| {
                s.hold(process(B), process_rights::CONFIGURE);
            },
        ],
        change: |s| {
            s.s.cnodes.iter_mut().filter(|it| it.at == TABLE).for_each(|it| it.process = process(B));
        },
    },
    Plant {
        rule: "label",
        what: "labels let a capability come to a table of another",
        set: |s| {
            SOURCE(s);
            s.hold(cnode(B), Rights::GRANT);
            s.s.cnodes.iter_mut().filter(|it| it.at == cnode(B)).for_each(|it| it.label = 1);
            s.forbid(1, 0, may::GRANT);
        },
        needs: &[|s| s.s.label_rules.clear()],
        change: INTO_OTHERS,
    },
    Plant {
        rule: "label",
        what: "a label is set with SECURITY of the Machine",
        set: |s| {
            s.hold(MACHINE, Rights::ALL.minus(machine_rights::SECURITY.rights()));
        },
        needs: &[|s| {
            s.hold(MACHINE, machine_rights::SECURITY);
        }],
        change: |s| s.s.notifications[0].label = 2,
    },
    Plant {
        rule: "label",
        what: "so are rules",
        set: nothing,
        needs: &[|s| {
            s.hold(MACHINE, machine_rights::SECURITY);
        }],
        change: |s| s.forbid(1, 2, may::READ),
    },
    Plant {
        rule: "label",
        what: "what is new has the label of its memory",
        set: |s| {
            s.hold(UNTYPED, Rights::NONE);
        },
        needs: &[|s| s.s.untypeds[0].label = 2],
        change: |s| {
            let note = Notification { at: MEMORY, identity: 77, label: 2, ..Notification::default() };
            s.s.notifications.push(note);
        },
    },
    Plant {
        rule: "bound",
        what: "what nobody gives away is never another's",
        set: |s| {
            SOURCE(s);
        },
        needs: &[|s| {
            s.hold(cnode(B), Rights::GRANT);
        }],
        change: INTO_OTHERS,
    },
    Plant {
        rule: "bound",
        what: "rights never grow",
        set: |s| {
            s.put(cnode(B), 1, NOTE, Rights::NOTIFY, 0);
        },
        needs: &[|s| {
            s.put(cnode(B), 2, NOTE, Rights::LISTEN.union(Rights::NOTIFY), 0);
        }],
        change: |s| {
            s.put(cnode(B), 9, NOTE, Rights::LISTEN, 0);
        },
    },
    Plant {
        rule: "bound",
        what: "a table that serves nobody becomes a process's by who has both",
        set: |s| {
            s.put(TABLE, 1, NOTE, Rights::NOTIFY, 0);
        },
        needs: &[
            |s| {
                s.hold(TABLE, Rights::GRANT);
            },
            |s| {
                s.hold(process(B), process_rights::CONFIGURE);
            },
        ],
        change: INTO_OTHERS,
    },
];

pub const NEVER: &[Never] = &[
    Never {
        rule: "held",
        what: "an Untyped is not copied",
        set: |s| {
            s.hold(UNTYPED, Rights::ALL);
        },
        change: |s| {
            s.put(cnode(A), 9, UNTYPED, Rights::ALL, 0);
        },
    },
    Never {
        rule: "held",
        what: "a copy of a group's capability names the same record",
        set: |s| {
            s.put(cnode(A), 8, GROUP, Rights::ALL, 8);
        },
        change: |s| {
            s.put(cnode(A), 9, GROUP, Rights::ALL, 16);
        },
    },
    Never {
        rule: "label",
        what: "a table serves a process of its own label",
        set: |s| {
            s.hold(TABLE, Rights::ALL);
            s.s.cnodes.iter_mut().filter(|it| it.at == TABLE).for_each(|it| it.label = 2);
        },
        change: |s| {
            s.s.cnodes.iter_mut().filter(|it| it.at == TABLE).for_each(|it| it.process = process(A));
        },
    },
];
