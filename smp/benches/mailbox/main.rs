//! Measures the mailbox and other queues on the cores of this machine: many producers, one
//! consumer.
//!
//! | group | one iteration |
//! |---|---|
//! | `alone` | one thread sends and receives; the parameter is the number of messages at a time |
//! | `wake` | one thread: the consumer goes idle, one of the producers sends a message, the consumer wakes and receives it |
//! | `latency` | each producer sends one message and has it back: a round trip of each |
//! | `throughput` | one message of a stream, with as many messages under way as the queue has room for |
//!
//! The parameter of the last three is the number of producers. The consumer has a CPU for itself,
//! and the producers share the others. So with up to (CPUs − 1) producers each thread has a CPU of
//! its own. `./justw mailbox` runs this and makes a table and a picture of it.

mod job;
mod queues;

use std::collections::BTreeSet;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

use job::{IN_FLIGHT, Messages};
use queues::Queue;

/// Every number of producers up to this is measured; from there on the powers of two.
const EACH: usize = 8;
/// Messages that are sent before they are received, in `alone`.
const TOGETHER: [usize; 2] = [1, 32];
/// Producers of `wake`. One thread plays them all, so these don't depend on how many CPUs there
/// are.
const SENDERS: [usize; 4] = [1, 4, 16, 64];

/// The CPUs that this process may use.
fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None::<Pid>).expect("this thread has CPUs");
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
}

/// Puts a thread of the job on its CPU: the consumer, which is number 0, on the first, the others
/// on the rest in turn.
fn place(cpus: &[usize], thread: usize) {
    let cpu = match thread {
        0 => cpus[0],
        _ if cpus.len() == 1 => cpus[0],
        producer => cpus[1 + (producer - 1) % (cpus.len() - 1)],
    };
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None::<Pid>, &only).expect("a thread may choose among its CPUs");
}

/// Up to twice as many as there are CPUs, and no more than have a message each.
fn numbers_of_producers(cpus: usize) -> BTreeSet<usize> {
    let most = (2 * cpus).min(IN_FLIGHT);
    let few = 1..=most.min(EACH);
    let powers = (0..).map(|power| 1 << power).take_while(move |n| *n <= most);
    let edge = [cpus - 1, cpus].into_iter().filter(|n| (1..=most).contains(n));
    few.chain(powers).chain(edge).collect()
}

fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
    group
}

fn alone<Q: Queue>(group: &mut BenchmarkGroup<'_, WallTime>, together: usize, cpus: &[usize]) {
    place(cpus, 0);
    let (mut queue, messages) = (Q::new(1), Messages::new(1, together));
    group.throughput(Throughput::Elements(together as u64));
    group.bench_function(BenchmarkId::new(Q::NAME, together), |bencher| {
        bencher.iter_custom(|rounds| job::alone(&mut queue, &messages, rounds));
    });
}

fn wake<Q: Queue>(group: &mut BenchmarkGroup<'_, WallTime>, producers: usize, cpus: &[usize]) {
    place(cpus, 0);
    let (mut queue, messages) = (Q::new(producers), Messages::new(producers, 1));
    let turns = job::turns(producers);
    group.bench_function(BenchmarkId::new(Q::NAME, producers), |bencher| {
        bencher.iter_custom(|rounds| job::wake(&mut queue, &messages, &turns, rounds));
    });
}

fn latency<Q: Queue>(group: &mut BenchmarkGroup<'_, WallTime>, producers: usize, cpus: &[usize]) {
    let (mut queue, messages) = (Q::new(producers), Messages::new(producers, 1));
    group.bench_function(BenchmarkId::new(Q::NAME, producers), |bencher| {
        bencher.iter_custom(|trips| {
            let total = trips * producers as u64;
            job::run(&mut queue, &messages, total, |thread| place(cpus, thread))
        });
    });
}

fn throughput<Q: Queue>(group: &mut BenchmarkGroup<'_, WallTime>, producers: usize, cpus: &[usize]) {
    let (mut queue, messages) = (Q::new(producers), Messages::new(producers, IN_FLIGHT / producers));
    group.bench_function(BenchmarkId::new(Q::NAME, producers), |bencher| {
        bencher.iter_custom(|total| job::run(&mut queue, &messages, total, |thread| place(cpus, thread)));
    });
}

/// Calls a measurement for each parameter and each queue.
macro_rules! measure_all {
    ($criterion:ident, $measurement:ident, $parameters:expr, $cpus:ident) => {
        let mut group = group(&mut $criterion, stringify!($measurement));
        for parameter in $parameters {
            macro_rules! measure {
                ($queue:ty) => {
                    $measurement::<$queue>(&mut group, parameter, $cpus)
                };
            }
            for_each_queue!(measure);
        }
        group.finish();
    };
}

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(50)
        .nresamples(20_000)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let cpus = &cpus();
    let producers = numbers_of_producers(cpus.len());
    measure_all!(criterion, alone, TOGETHER, cpus);
    measure_all!(criterion, wake, SENDERS, cpus);
    measure_all!(criterion, latency, producers.iter().copied(), cpus);
    measure_all!(criterion, throughput, producers.iter().copied(), cpus);
    criterion.final_summary();
}
