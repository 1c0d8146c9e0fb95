//! The loads: clients, servers and their CPUs.

use perf::mark::{REGION_ALL_TO_ONE, REGION_CROSSING, REGION_LOCAL, REGION_PER_CPU, REGION_STORM};
use user_rt::spawn::Entry;

use crate::roles::{caller, echo_server, hearer, notifier};

/// A load of `scale`.
pub struct Load {
    pub name: &'static str,
    pub pattern: Pattern,
    pub client: Entry,
    pub server: Entry,
}

/// The CPUs of clients and servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// Every CPU has a client and its server.
    Local,
    /// Every CPU has a client, whose server is on the next CPU.
    Crossing,
    /// One exposure for all clients, with a server on every CPU.
    PerCpu,
    /// One server, on CPU 0; a client on every other CPU.
    AllToOne,
    /// One waiting task on CPU 0, notified by a client on every other CPU.
    Storm,
}

pub const LOADS: [Load; 5] = [
    Load {
        name: "pairs_local",
        pattern: Pattern::Local,
        client: caller::<REGION_LOCAL, true>,
        server: echo_server::<REGION_LOCAL, false>,
    },
    Load {
        name: "server_per_cpu",
        pattern: Pattern::PerCpu,
        client: caller::<REGION_PER_CPU, true>,
        server: echo_server::<REGION_PER_CPU, false>,
    },
    Load {
        name: "pairs_crossing",
        pattern: Pattern::Crossing,
        client: caller::<REGION_CROSSING, false>,
        server: echo_server::<REGION_CROSSING, false>,
    },
    Load {
        name: "server_for_all",
        pattern: Pattern::AllToOne,
        client: caller::<REGION_ALL_TO_ONE, false>,
        server: echo_server::<REGION_ALL_TO_ONE, true>,
    },
    Load {
        name: "notify_storm",
        pattern: Pattern::Storm,
        client: notifier::<REGION_STORM>,
        server: hearer::<REGION_STORM>,
    },
];

impl Load {
    /// Returns the CPUs that have a client.
    pub fn clients(&self, cpus: u64) -> core::ops::Range<u64> {
        match self.pattern {
            Pattern::Local | Pattern::Crossing | Pattern::PerCpu => 0..cpus,
            // A client on the server's CPU would call on another path than all others.
            Pattern::AllToOne | Pattern::Storm => cpus.min(2) - 1..cpus,
        }
    }

    /// Returns the CPUs that have a server.
    pub fn servers(&self, cpus: u64) -> core::ops::Range<u64> {
        match self.pattern {
            Pattern::AllToOne | Pattern::Storm => 0..1,
            _ => 0..cpus,
        }
    }

    /// Returns the server that a CPU's client calls.
    pub fn server_of(&self, client: u64, cpus: u64) -> u64 {
        match self.pattern {
            Pattern::Local | Pattern::PerCpu => client,
            Pattern::Crossing => (client + 1) % cpus,
            Pattern::AllToOne | Pattern::Storm => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_talks_to_a_server_that_there_is() {
        for load in &LOADS {
            for cpus in 1..=64 {
                assert!(!load.clients(cpus).is_empty(), "{} on {cpus}", load.name);
                for client in load.clients(cpus) {
                    assert!(client < cpus);
                    assert!(load.servers(cpus).contains(&load.server_of(client, cpus)), "{}", load.name);
                }
            }
        }
    }

    #[test]
    fn a_crossing_pair_crosses() {
        let crossing = LOADS.iter().find(|load| load.pattern == Pattern::Crossing).expect("there is one");
        assert!((0..7).all(|client| crossing.server_of(client, 7) != client));
    }
}
