//! Groups: members, exposures, calls, bits.

use abi::Rights;
use abi::audit::may;
use confine::Judge;
use snapshot::State;

use crate::stage::*;
use crate::{Never, Plant};

const ADDS: Rights = Rights(Rights::ADD.0 | Rights::SEND.0);

/// Makes process B agree to become a member.
fn agrees(s: &mut Stage) {
    let process = s.its_process(B);
    (process.offer_slot, process.offer_from) = (5, GROUP);
}

fn b_joins(s: &mut Stage) {
    s.record(2, B, Rights::SEND, 0);
}

fn shows_b(s: &mut Stage) {
    s.show(0, task(B), B);
}

pub const PLANTS: &[Plant] = &[
    Plant {
        rule: "member",
        what: "who adds a member has ADD in capability and record",
        set: agrees,
        needs: &[
            |s| {
                s.member(ADDS);
            },
            |s| s.joins(ADDS),
        ],
        change: b_joins,
    },
    Plant {
        rule: "member",
        what: "ADD of the capability",
        set: |s| {
            agrees(s);
            s.member(Rights::SEND);
            s.joins(ADDS);
        },
        needs: &[|s| {
            s.member(ADDS);
        }],
        change: b_joins,
    },
    Plant {
        rule: "member",
        what: "ADD of the record",
        set: |s| {
            agrees(s);
            s.member(ADDS);
            s.joins(Rights::SEND);
        },
        needs: &[|s| s.joins(ADDS)],
        change: b_joins,
    },
    Plant {
        rule: "member",
        what: "a member has no more rights than the record of who adds it",
        set: |s| {
            agrees(s);
            s.member(Rights::ALL.minus(Rights::DELETE));
            s.joins(Rights::ADD);
        },
        needs: &[|s| s.joins(ADDS)],
        change: b_joins,
    },
    Plant {
        rule: "member",
        what: "nor than the capability, which may be the maker's",
        set: |s| {
            agrees(s);
            s.hold(GROUP, Rights::ADD.union(Rights::DELETE));
        },
        needs: &[|s| {
            s.hold(GROUP, ADDS.union(Rights::DELETE));
        }],
        change: b_joins,
    },
    Plant {
        rule: "member",
        what: "a member gives its own custom bits",
        set: |s| {
            agrees(s);
            s.member(ADDS);
            s.joins(ADDS);
        },
        needs: &[|s| s.record(1, A, ADDS, 3)],
        change: |s| s.record(2, B, Rights::SEND, 3),
    },
    Plant {
        rule: "member",
        what: "to remove takes REMOVE",
        set: b_joins,
        needs: &[
            |s| {
                s.member(Rights::REMOVE);
            },
            |s| s.joins(Rights::REMOVE),
        ],
        change: |s| s.s.members.retain(|member| member.number != 2),
    },
    Plant {
        rule: "consent",
        what: "a process agrees to be a member",
        set: |s| {
            s.member(ADDS);
            s.joins(ADDS);
        },
        needs: &[agrees],
        change: b_joins,
    },
    Plant {
        rule: "label",
        what: "labels let a process join",
        set: |s| {
            agrees(s);
            s.member(ADDS);
            s.joins(ADDS);
            s.its_process(B).label = 1;
            s.forbid(1, 0, may::JOIN);
        },
        needs: &[|s| s.s.label_rules.clear()],
        change: b_joins,
    },
    Plant {
        rule: "exposure",
        what: "to expose takes LISTEN in the group, and of the object",
        set: |_| (),
        needs: &[
            |s| {
                s.member(Rights::LISTEN);
            },
            |s| s.joins(Rights::LISTEN),
            |s| {
                s.hold(task(B), Rights::LISTEN);
            },
        ],
        change: shows_b,
    },
    Plant {
        rule: "exposure",
        what: "what belongs to another's exposure of each CPU is its owner's",
        set: |s| {
            s.member(Rights::LISTEN);
            s.joins(Rights::LISTEN);
            s.hold(task(A), Rights::LISTEN);
            s.show(0, 0, B);
            s.s.exposures[0].per_cpu = 1;
        },
        needs: &[|s| s.s.exposures[0].owner = process(A)],
        change: |s| {
            let first = s.s.exposures[0];
            (s.s.slots, s.s.exposures) =
                (s.s.slots.iter().copied().filter(|it| it.table != GROUP).collect(), vec![]);
            s.show(0, task(A), A);
            s.s.exposures[0].owner = first.owner;
            s.s.exposures[0].per_cpu = first.per_cpu;
        },
    },
    Plant {
        rule: "exposure",
        what: "an exposure of one task for each CPU begins with LISTEN",
        set: |s| s.show(0, 0, A),
        needs: &[
            |s| {
                s.member(Rights::LISTEN);
            },
            |s| s.joins(Rights::LISTEN),
        ],
        change: |s| s.s.exposures[0].per_cpu = 1,
    },
    Plant {
        rule: "exposure",
        what: "to take back another's takes REMOVE",
        set: shows_b,
        needs: &[
            |s| {
                s.member(Rights::REMOVE);
            },
            |s| s.joins(Rights::REMOVE),
        ],
        change: |s| s.s.exposures.clear(),
    },
    Plant {
        rule: "called",
        what: "a call takes SEND in a group that shows a task of the called",
        set: |_| (),
        needs: &[
            shows_b,
            |s| {
                s.member(Rights::SEND);
            },
            |s| s.joins(Rights::SEND),
        ],
        change: |s| {
            let task_b = task(B);
            let caller = s.its_task(task(A));
            (caller.state, caller.callee) = (State::Sending, task_b);
        },
    },
    Plant {
        rule: "called",
        what: "SEND of the record",
        set: |s| {
            shows_b(s);
            s.member(Rights::SEND);
            s.joins(Rights::NOTIFY);
        },
        needs: &[|s| s.joins(Rights::SEND)],
        change: |s| {
            let caller = s.its_task(task(A));
            (caller.state, caller.callee) = (State::Await, task(B));
        },
    },
    Plant {
        rule: "bits",
        what: "bits are raised with NOTIFY of the Notification",
        set: |s| {
            s.hold(NOTE, Rights::LISTEN);
        },
        needs: &[|s| {
            s.hold(NOTE, Rights::NOTIFY);
        }],
        change: |s| s.s.notifications[0].bits = 4,
    },
    Plant {
        rule: "bits",
        what: "or in a group that exposes it",
        set: |_| (),
        needs: &[
            |s| s.show(0, NOTE, B),
            |s| {
                s.member(Rights::NOTIFY);
            },
            |s| s.joins(Rights::NOTIFY),
        ],
        change: |s| s.s.notifications[0].remote = 4,
    },
    Plant {
        rule: "reply",
        what: "a call is kept with SEND of the Reply",
        set: |s| {
            s.hold(REPLY, Rights::GRANT);
        },
        needs: &[|s| {
            s.hold(REPLY, Rights::SEND);
        }],
        change: |s| s.s.replies[0].caller = task(B),
    },
];

/// Gives process B the capability of a member that has joined, without a visible record.
fn b_has_it(s: &mut Stage) {
    s.put(cnode(B), 5, GROUP, Rights::SEND, 16);
}

pub const JOINS: &[Plant] = &[
    Plant {
        rule: "held",
        what: "a member's capability comes with its record",
        set: |s| {
            agrees(s);
            s.member(ADDS);
            s.joins(ADDS);
        },
        needs: &[|s| {
            s.member(ADDS.union(Rights::REMOVE));
            s.joins(ADDS.union(Rights::REMOVE));
        }],
        change: b_has_it,
    },
    Plant {
        rule: "held",
        what: "where it comes without, its member agreed and was added, and removed at once",
        set: |s| {
            s.member(Rights::SEND.union(Rights::REMOVE));
            s.joins(ADDS.union(Rights::REMOVE));
        },
        needs: &[
            |s| {
                s.member(ADDS.union(Rights::REMOVE));
            },
            agrees,
        ],
        change: b_has_it,
    },
    Plant {
        rule: "held",
        what: "it is no stronger than the one that added it",
        set: |s| {
            agrees(s);
            s.member(ADDS);
            s.joins(Rights::ALL);
        },
        needs: &[|s| {
            s.member(ADDS.union(Rights::NOTIFY));
        }],
        change: |s| {
            s.record(2, B, Rights::NOTIFY, 0);
            s.put(cnode(B), 5, GROUP, Rights::NOTIFY, 16);
        },
    },
];

pub const NEVER: &[Never] = &[
    Never {
        rule: "held",
        what: "a member's capability has no right that its record lacks",
        set: |s| {
            agrees(s);
            s.member(ADDS.union(Rights::NOTIFY));
            s.joins(Rights::ALL);
        },
        change: |s| {
            s.record(2, B, Rights::SEND, 0);
            s.put(cnode(B), 5, GROUP, Rights::NOTIFY, 16);
        },
    },
    Never {
        rule: "held",
        what: "a member's capability comes to the member",
        set: |s| {
            agrees(s);
            s.member(ADDS);
            s.joins(ADDS);
        },
        change: |s| {
            b_joins(s);
            s.put(cnode(C), 5, GROUP, Rights::SEND, 16);
        },
    },
    Never {
        rule: "member",
        what: "nobody acts by another's record",
        set: |s| {
            agrees(s);
            s.member(ADDS);
            s.record(1, C, ADDS, 0);
        },
        change: b_joins,
    },
    Never {
        rule: "exposure",
        what: "LISTEN does not take back what another has exposed",
        set: |s| {
            shows_b(s);
            s.member(Rights::LISTEN);
            s.joins(Rights::LISTEN);
        },
        change: |s| s.s.exposures.clear(),
    },
    Never {
        rule: "consent",
        what: "an offer is one to the process that it names",
        set: |s| {
            s.member(ADDS);
            s.joins(ADDS);
            let process = s.its_process(B);
            (process.offer_slot, process.offer_from) = (5, crate::stage::process(C));
        },
        change: b_joins,
    },
];

#[test]
fn a_task_is_told_bits_that_somebody_could_raise() {
    let told = |rights: Rights| {
        let mut stage = Stage::new();
        stage.hold(NOTE, rights);
        let picture = stage.picture();
        Judge::new(1 << 40).raised(&picture, &picture, &[process(A)], NOTE, 2 | 1 << 40).len()
    };
    assert_eq!([told(Rights::LISTEN), told(Rights::NOTIFY)], [1, 0]);
}
