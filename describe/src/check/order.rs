//! Orders processes so that each starts behind those that it needs; reports cycles.

use crate::problem::{Problem, Problems, Span};
use crate::written::Written;

/// A process, by its place in the file.
type Node = usize;

/// What processes need, and the order in which they start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Needs {
    /// For each process, by its place in the file, the places of those that it needs.
    pub of: Vec<Vec<usize>>,
    /// The places of all processes in the file, in the order of their start.
    pub order: Vec<usize>,
}

/// A process needs another one: the other one, the place in the file, and the reason.
struct Need {
    other: Node,
    span: Span,
    reason: String,
}

/// Returns the order of starts: each process as early as the file has it.
pub fn order(written: &Written, problems: &mut Problems) -> Option<Needs> {
    let needs: Vec<Vec<Need>> = (0..written.processes.len()).map(|node| needs_of(written, node)).collect();
    report_itself(written, problems);
    let mut order: Vec<Node> = Vec::new();
    while order.len() < needs.len() {
        let is_ready = |node: &Node| {
            !order.contains(node) && needs[*node].iter().all(|need| order.contains(&need.other))
        };
        let ready = (0..needs.len()).find(is_ready);
        let Some(ready) = ready else {
            problems.push(cycle(written, &needs, &order));
            return None;
        };
        order.push(ready);
    }
    let places = |needs: &Vec<Need>| {
        let mut places: Vec<Node> = needs.iter().map(|need| need.other).collect();
        places.sort_unstable();
        places.dedup();
        places
    };
    Some(Needs { of: needs.iter().map(places).collect(), order })
}

/// Collects what a process needs: what it names, and the servers of the groups that it uses, except
/// itself.
fn needs_of(written: &Written, node: Node) -> Vec<Need> {
    let process = &written.processes[node];
    let own = &process.name.value;
    let find = |name: &str| written.processes.iter().position(|other| other.name.value == name);
    let mut needs = Vec::new();
    for name in process.needs.iter().filter(|name| name.value != *own) {
        let reason = format!("`{own}` needs `{}`", name.value);
        needs.extend(find(&name.value).map(|other| Need { other, span: name.span.clone(), reason }));
    }
    if let Some(paged) = &process.pager {
        let (pager, span) = (&paged.by.value, paged.by.span.clone());
        let reason = format!("`{own}` gets pages of `{pager}`");
        needs.extend(find(pager).filter(|other| *other != node).map(|other| Need { other, span, reason }));
    }
    for used in &process.uses {
        let group = written.groups.iter().find(|group| group.name.value == used.group.value);
        for server in group.iter().flat_map(|group| &group.exposes).filter(|server| server.value != *own) {
            let reason = format!("`{own}` uses `{}`, which `{}` serves", used.group.value, server.value);
            let span = used.group.span.clone();
            needs.extend(find(&server.value).map(|other| Need { other, span, reason }));
        }
    }
    needs
}

fn report_itself(written: &Written, problems: &mut Problems) {
    for process in &written.processes {
        for name in process.needs.iter().filter(|name| name.value == process.name.value) {
            let title = format!("process `{}` needs itself", name.value);
            problems.push(Problem::new(name.span.clone(), title, "itself", "remove it from `needs`"));
        }
    }
}

/// Reports a cycle among the processes that cannot start.
fn cycle(written: &Written, needs: &[Vec<Need>], started: &[Node]) -> Problem {
    let waits = |node: Node| {
        let need = needs[node].iter().find(|need| !started.contains(&need.other));
        need.expect("a process that cannot start waits for another one")
    };
    let first = (0..needs.len()).find(|node| !started.contains(node)).expect("a process that cannot start");
    let mut path = vec![first];
    let start = loop {
        let next = waits(path[path.len() - 1]).other;
        if let Some(start) = path.iter().position(|node| *node == next) {
            break start;
        }
        path.push(next);
    };
    let ring = &path[start..];
    let names =
        ring.iter().chain(ring.first()).map(|node| format!("`{}`", written.processes[*node].name.value));
    let title = format!("no process of a cycle can start first: {}", names.collect::<Vec<_>>().join(" → "));
    let needs: Vec<&Need> = ring.iter().map(|node| waits(*node)).collect();
    let fix = "remove one of these, so that its process can start without the other one";
    let problem = Problem::new(needs[0].span.clone(), title, needs[0].reason.clone(), fix);
    needs[1..].iter().fold(problem, |problem, need| problem.also(need.span.clone(), need.reason.clone()))
}
