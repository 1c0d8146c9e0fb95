//! Processes of systems: each does what `role=` says in its description. The systems
//! `supervision`, `starved`, `sixty`, `restarts`, `charges`, `edu` and `vandals` are made of them.
//!
//! | role | what it does |
//! |---|---|
//! | `counter` | serves: counts its calls, and ends in the way that it is asked for |
//! | `asker` | tests what the clients of such servers see ([`asker`]) |
//! | `hoard` | a counter that writes into memory of its pager at each call ([`hoard`]) |
//! | `charges` | tests pagers and policies that end, and those in their charge ([`charges`]) |
//! | `edu` | asks a driver for factorials ([`factorials`]) |
//! | `load` | calls a counter all the time, and sees that each call is counted once |
//! | `killer` | kills the others at random, in the middle of requests ([`killer`]) |
//! | `vandal` | sends servers and process 1 whatever comes to its mind ([`vandals`]) |
//! | `witness` | sees that servers serve all the same |
//! | `beater` | serves: counts its calls, gives signs of life, and hangs when it is asked for that |
//! | `caller` | connects to a counter and leaves it, all the time |
//! | `hog` | runs all the time |
//! | `link` | serves: asks the next one by the name `next`, and adds 1 to the answer |
//! | `last` | the last of these: answers 1 |
//! | `head` | asks the first one, whose answer has to be `links=N` |
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

mod asker;
mod charges;
mod factorials;
mod hoard;
mod killer;
mod servers;
mod vandals;

use user_rt::boot;

user_rt::program!(begin);

fn begin(_: u64) -> ! {
    match boot::options().value("role") {
        Some("counter") => servers::count(),
        Some("hoard") => hoard::count(),
        Some("edu") => factorials::ask(),
        Some("charges") => charges::judge(),
        Some("beater") => servers::beat(),
        Some("caller") => servers::call(),
        Some("load") => servers::load(),
        Some("killer") => killer::kill(),
        Some("hog") => servers::run(),
        Some("link") => servers::link(),
        Some("last") => servers::last(),
        Some("head") => asker::head(),
        Some("asker") => asker::ask(),
        Some("vandal") => vandals::vandalise(),
        Some("witness") => vandals::witness(),
        role => panic!(
            "role={role:?}: want asker, beater, caller, charges, counter, edu, head, hoard, hog, killer, last, link, \
             load, vandal or witness"
        ),
    }
}
