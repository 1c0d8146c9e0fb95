//! Finds the functions that an operation visits, in the order of the first visit.
//!
//! Three rules say what is shown:
//!
//! - A function is *visited* if at least one executed instruction belongs to it, or to a library
//!   function (the core library, `abi`) that was inlined into it or that it called.
//! - A function that was inlined and whose body has at most three lines is left out: its
//!   instructions count for the function around it.
//! - A part of the operation begins where a CPU enters the kernel from a program. Within a part
//!   each CPU has its own list.
//!
//! A function is listed below the function that called it, or into which it was inlined; the
//! compiler's choice between the two does not matter to a reader. Functions below the same function
//! are in the order of their first visit.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::source::{Function, Sources};
use crate::explain::listing;
use crate::explain::story::Line;

/// Lines of an inlined function's body up to which it is left out.
const TRIVIAL: u32 = 3;
const KERNEL: &str = "kernel";

/// A visited function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Visit {
    pub function: Function,
    /// How many visited functions are around it.
    pub depth: usize,
    /// Its own, and those of library functions in it.
    pub instructions: u64,
}

/// What one CPU does in a part of an operation.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Stretch {
    pub cpu: u8,
    pub visits: Vec<Visit>,
}

/// A part of an operation: from one entry into the kernel to the next one. The CPU that enters
/// comes first.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Part {
    pub stretches: Vec<Stretch>,
}

impl Part {
    /// Counts the functions that are visited: one that two CPUs visit counts once.
    pub fn visited(&self) -> usize {
        let mut all: Vec<(&str, &str)> = self.visits().map(|visit| visit.function.key()).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }

    fn visits(&self) -> impl Iterator<Item = &Visit> {
        self.stretches.iter().flat_map(|stretch| &stretch.visits)
    }
}

/// A whole operation.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Walk {
    pub parts: Vec<Part>,
    /// Instructions of programs.
    pub user: u64,
    /// Instructions of the kernel that are in no function: those of entry slots, which are written
    /// at boot.
    pub slots: u64,
}

impl Walk {
    /// Sums up all instructions of the operation.
    pub fn total(&self) -> u64 {
        let visits = self.parts.iter().flat_map(Part::visits);
        self.user + self.slots + visits.map(|visit| visit.instructions).sum::<u64>()
    }
}

/// Functions by number, outermost first: who called whom, or is inlined into whom.
type Chain = Rc<[usize]>;

/// Follows the instructions of an operation.
pub fn walk(lines: &[Line], sources: &mut Sources) -> Walk {
    let mut names = Names { sources, functions: Vec::new(), chains: HashMap::new(), labels: HashMap::new() };
    let (mut cpus, mut parts, mut walk) = (BTreeMap::<u8, Cpu>::new(), Vec::<Begun>::new(), Walk::default());
    for line in lines {
        let cpu = cpus.entry(line.cpu).or_default();
        let counts = u64::from(line.counts());
        if line.program != KERNEL {
            *cpu = Cpu { in_program: true, calls: Vec::new() };
            walk.user += counts;
            continue;
        }
        let enters = std::mem::take(&mut cpu.in_program);
        let chain = cpu.follow(line, names.chain(line));
        walk.slots += part(&mut parts, line.cpu, enters).trail(line.cpu).note(&chain, counts);
    }
    walk.parts = parts.into_iter().map(|part| part.finish(&names.functions)).collect();
    walk
}

/// A part that has begun.
#[derive(Default)]
struct Begun {
    /// Whether a program has entered the kernel: other CPUs may do something before.
    entered: bool,
    trails: Vec<Trail>,
}

/// Finds the part that an instruction belongs to.
fn part(parts: &mut Vec<Begun>, cpu: u8, enters: bool) -> &mut Begun {
    if parts.last().is_none_or(|last| enters && last.entered) {
        parts.push(Begun::default());
    }
    let part = parts.last_mut().expect("there is one now");
    if enters {
        part.entered = true;
        part.trails.retain(|trail| trail.cpu != cpu);
        part.trails.insert(0, Trail { cpu, ..Trail::default() });
    }
    part
}

impl Begun {
    /// Finds the trail of a CPU, or begins it.
    fn trail(&mut self, cpu: u8) -> &mut Trail {
        let at = self.trails.iter().position(|trail| trail.cpu == cpu).unwrap_or_else(|| {
            self.trails.push(Trail { cpu, ..Trail::default() });
            self.trails.len() - 1
        });
        &mut self.trails[at]
    }

    /// Ends a part. An instruction in no function leaves no visit, so a CPU may have none.
    fn finish(self, functions: &[Function]) -> Part {
        let stretches = self.trails.iter().map(|trail| trail.finish(functions));
        Part { stretches: stretches.filter(|stretch| !stretch.visits.is_empty()).collect() }
    }
}

/// Where a CPU is.
#[derive(Default)]
struct Cpu {
    in_program: bool,
    /// The chain at each call that has not returned, without those further out.
    calls: Vec<Chain>,
}

impl Cpu {
    /// Follows an instruction. Returns its whole chain.
    fn follow(&mut self, line: &Line, own: Chain) -> Chain {
        let whole = self.calls.iter().flat_map(|chain| chain.iter()).chain(own.iter()).copied().collect();
        match line.mnemonic.as_str() {
            "call" => self.calls.push(own),
            "ret" => drop(self.calls.pop()),
            _ => {}
        }
        whole
    }
}

/// What a CPU executes in a part.
#[derive(Default)]
struct Trail {
    cpu: u8,
    /// Chains in the order of execution, without those that repeat the one before.
    chains: Vec<Chain>,
    /// Instructions of each function.
    own: HashMap<usize, u64>,
}

impl Trail {
    /// Notes executed instructions. Returns how many of them are in no function.
    fn note(&mut self, chain: &Chain, count: u64) -> u64 {
        let Some(function) = chain.last() else { return count };
        *self.own.entry(*function).or_default() += count;
        if self.chains.last() != Some(chain) {
            self.chains.push(Rc::clone(chain));
        }
        0
    }

    fn finish(&self, functions: &[Function]) -> Stretch {
        let tree = self.tree();
        let mut visits = Vec::new();
        // Those still to list, the next one last: a function, and how many are around it.
        let mut open: Vec<(usize, usize)> = roots(&tree, None).map(|function| (function, 0)).collect();
        while let Some((function, depth)) = open.pop() {
            let instructions = self.own[&function];
            visits.push(Visit { function: functions[function].clone(), depth, instructions });
            open.extend(roots(&tree, Some(function)).map(|inner| (inner, depth + 1)));
        }
        Stretch { cpu: self.cpu, visits }
    }

    /// Lists the visited functions in the order of the first visit, each with the visited function
    /// around it.
    fn tree(&self) -> Vec<(usize, Option<usize>)> {
        let mut tree: Vec<(usize, Option<usize>)> = Vec::new();
        for chain in &self.chains {
            let mut around = None;
            for function in chain.iter().filter(|function| self.own.contains_key(function)) {
                if tree.iter().all(|(known, _)| known != function) {
                    tree.push((*function, around));
                }
                around = Some(*function);
            }
        }
        tree
    }
}

/// Finds the functions right within one, the last visited first.
fn roots(tree: &[(usize, Option<usize>)], within: Option<usize>) -> impl Iterator<Item = usize> {
    tree.iter().rev().filter(move |(_, around)| *around == within).map(|(function, _)| *function)
}

/// The functions that were met, by number.
struct Names<'a> {
    sources: &'a mut Sources,
    functions: Vec<Function>,
    /// By the address of the instruction.
    chains: HashMap<u64, Chain>,
    labels: HashMap<String, Option<usize>>,
}

impl Names<'_> {
    /// Names the functions that an instruction of the kernel lies in.
    fn chain(&mut self, line: &Line) -> Chain {
        if let Some(known) = self.chains.get(&line.pc) {
            return Rc::clone(known);
        }
        let chain: Chain = if line.frames.is_empty() {
            self.label(line).into_iter().collect()
        } else {
            self.inlined(line).into()
        };
        self.chains.insert(line.pc, Rc::clone(&chain));
        chain
    }

    /// Returns the functions around an instruction by its frames. Frames outside the kernel's
    /// crates are library functions.
    fn inlined(&mut self, line: &Line) -> Vec<usize> {
        let (mut chain, mut around) = (Vec::new(), None);
        for (depth, frame) in line.frames.iter().rev().enumerate() {
            let found = match &frame.source {
                Some(source) => self.sources.at(&source.file, source.line),
                // The compiler made one instruction of several lines, and gives it none.
                None => around.and_then(|file| self.sources.named(file, last_name(&frame.function))),
            };
            around = frame.source.as_ref().map_or(around, |source| Some(&source.file));
            let Some(function) = found.filter(|function| depth == 0 || function.body > TRIVIAL) else {
                continue;
            };
            let function = function.clone();
            let number = self.number(function);
            // A closure stands in the text of the function that it is passed on by.
            if chain.last() != Some(&number) {
                chain.push(number);
            }
        }
        chain
    }

    /// Finds a routine of assembly: a line that a macro made stands in another file than the label.
    fn label(&mut self, line: &Line) -> Option<usize> {
        if let Some(known) = self.labels.get(&line.symbol) {
            return *known;
        }
        let here = line.source.as_ref().and_then(|source| source.split_once(':')).map(|(file, _)| file);
        let mut files = here.into_iter().chain(listing::files().map(|file| -> &str { file }));
        let function = files.find_map(|file| self.sources.named(file, &line.symbol).cloned());
        let number = function.map(|function| self.number(function));
        self.labels.insert(line.symbol.clone(), number);
        number
    }

    fn number(&mut self, function: Function) -> usize {
        self.functions.iter().position(|known| known.key() == function.key()).unwrap_or_else(|| {
            self.functions.push(function);
            self.functions.len() - 1
        })
    }
}

/// Returns a function's name without the path of its module.
fn last_name(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::listing::Source;
    use crate::explain::phase::Phase;
    use crate::explain::story::examples;
    use crate::explain::symbols::Frame;

    const NOP: &[u8] = &[0x90];
    const CALL: &[u8] = &[0xe8, 0, 0, 0, 0];
    const RET: &[u8] = &[0xc3];

    /// Functions by their lines: `serve` 1 to 9, `check` 11 to 19, `finish` 21 to 29, `id` 31 to
    /// 33, `leave` 35 to 40. The body of `id` is one line.
    const TEXT: &str = "\
fn serve() {
    1;\n    2;\n    3;\n    4;\n    5;\n    6;\n    7;
}

fn check() {
    1;\n    2;\n    3;\n    4;\n    5;\n    6;\n    7;
}

fn finish() {
    1;\n    2;\n    3;\n    4;\n    5;\n    6;\n    7;
}

fn id() {
    1;
}

fn leave() {
    1;
    2;
    3;
    4;
}
";
    const FILE: &str = "kern/a.rs";
    const CORE: &str = "core/src/cell.rs";

    fn program(cpu: u8, pc: u64) -> Line {
        Line { program: "bench".to_owned(), ..examples::line(cpu, pc, NOP, Phase::User) }
    }

    /// Makes an instruction of the kernel in these frames, innermost first.
    fn kernel(cpu: u8, pc: u64, bytes: &[u8], frames: &[(&str, u32)]) -> Line {
        let frame = |(file, line): &(&str, u32)| Frame {
            function: String::new(),
            source: Some(Source { file: (*file).to_owned(), line: *line }),
        };
        Line { frames: frames.iter().map(frame).collect(), ..examples::line(cpu, pc, bytes, Phase::Ipc) }
    }

    fn slot(cpu: u8) -> Line {
        Line { symbol: "entry slot".to_owned(), source: None, ..examples::line(cpu, 7, NOP, Phase::Entry) }
    }

    /// Returns each part as "CPU N:" and "depth name instructions".
    fn walked(lines: &[Line]) -> (Vec<Vec<String>>, Walk) {
        let mut sources = Sources::of(FILE, TEXT);
        let walk = walk(lines, &mut sources);
        let of_visit =
            |visit: &Visit| format!("{} {} {}", visit.depth, visit.function.name, visit.instructions);
        let of_stretch = |stretch: &Stretch| {
            let head = format!("CPU {}:", stretch.cpu);
            std::iter::once(head).chain(stretch.visits.iter().map(of_visit)).collect::<Vec<_>>()
        };
        let parts = walk.parts.iter().map(|part| part.stretches.iter().flat_map(of_stretch).collect());
        (parts.collect(), walk)
    }

    #[test]
    fn inlined_and_called_functions_are_nested_alike() {
        let (parts, walk) = walked(&[
            program(0, 1),
            slot(0),
            kernel(0, 10, NOP, &[(FILE, 2)]),
            kernel(0, 11, NOP, &[(FILE, 12), (FILE, 3)]),
            kernel(0, 12, CALL, &[(FILE, 4)]),
            kernel(0, 20, NOP, &[(FILE, 22)]),
            kernel(0, 21, RET, &[(FILE, 23)]),
            kernel(0, 13, NOP, &[(FILE, 5)]),
            kernel(0, 11, NOP, &[(FILE, 12), (FILE, 3)]),
            program(0, 2),
        ]);
        assert_eq!(parts, [["CPU 0:", "0 serve 3", "1 check 2", "1 finish 2"]]);
        assert_eq!((walk.user, walk.slots, walk.total()), (2, 1, 10));
    }

    #[test]
    fn what_a_function_calls_late_stands_within_it() {
        let (parts, _) = walked(&[
            program(0, 1),
            kernel(0, 10, NOP, &[(FILE, 2)]),
            kernel(0, 11, NOP, &[(FILE, 12), (FILE, 3)]),
            kernel(0, 20, NOP, &[(FILE, 37), (FILE, 4)]),
            kernel(0, 12, NOP, &[(FILE, 22), (FILE, 13), (FILE, 3)]),
        ]);
        assert_eq!(parts, [["CPU 0:", "0 serve 1", "1 check 1", "2 finish 1", "1 leave 1"]]);
    }

    #[test]
    fn library_functions_and_short_ones_count_for_the_function_around_them() {
        let (parts, _) = walked(&[
            program(0, 1),
            kernel(0, 10, NOP, &[(CORE, 5), (FILE, 12), (FILE, 3)]),
            kernel(0, 11, NOP, &[(FILE, 32), (FILE, 13), (FILE, 3)]), // short, inlined
            kernel(0, 12, CALL, &[(FILE, 14), (FILE, 3)]),
            kernel(0, 50, RET, &[(CORE, 9)]), // called
            kernel(0, 13, CALL, &[(FILE, 15), (FILE, 3)]),
            kernel(0, 60, RET, &[(FILE, 32)]), // short, not inlined
        ]);
        // `serve` has no instruction of its own.
        assert_eq!(parts, [["CPU 0:", "0 check 5", "1 id 1"]]);
    }

    #[test]
    fn an_instruction_without_a_line_is_found_by_the_functions_name() {
        let named = Frame { function: "kern::check".to_owned(), source: None };
        let around = kernel(0, 10, NOP, &[(FILE, 3)]);
        let frames = std::iter::once(named).chain(around.frames.iter().cloned()).collect();
        assert_eq!(walked(&[Line { frames, ..around }]).0, [["CPU 0:", "0 check 1"]]);
    }

    #[test]
    fn a_closure_is_of_the_function_whose_text_it_stands_in() {
        let (parts, _) = walked(&[kernel(0, 10, NOP, &[(FILE, 5), (CORE, 9), (FILE, 3)])]);
        assert_eq!(parts, [["CPU 0:", "0 serve 1"]]);
    }

    #[test]
    fn a_part_begins_where_a_program_enters_and_its_cpu_comes_first() {
        let (parts, walk) = walked(&[
            kernel(1, 20, NOP, &[(FILE, 22)]), // waits already
            program(0, 1),
            kernel(0, 10, NOP, &[(FILE, 2)]),
            kernel(1, 20, NOP, &[(FILE, 22)]),
            kernel(1, 11, NOP, &[(FILE, 3)]),
            program(1, 2),
            kernel(0, 21, NOP, &[(FILE, 23)]), // waits
            kernel(1, 10, CALL, &[(FILE, 2)]),
            program(1, 2), // leaves without returning
            kernel(1, 20, NOP, &[(FILE, 22)]),
        ]);
        // What CPU 0 does while it waits belongs to the part in which it does so.
        let expected: [&[&str]; 3] = [
            &["CPU 0:", "0 serve 1", "0 finish 1", "CPU 1:", "0 finish 2", "0 serve 1"],
            &["CPU 1:", "0 serve 1"],
            &["CPU 1:", "0 finish 1"],
        ];
        assert_eq!(parts, expected);
        assert_eq!(walk.parts[0].visited(), 2, "a function counts once");
    }

    #[test]
    fn instructions_that_do_not_count_lead_nowhere() {
        let mut faulted = program(0, 1);
        faulted.uncounted = Some(crate::explain::story::Uncounted::Faulted);
        let (parts, walk) = walked(&[faulted, kernel(0, 10, NOP, &[(FILE, 2)])]);
        assert_eq!((parts.len(), walk.user, walk.total()), (1, 0, 1));
    }
}
