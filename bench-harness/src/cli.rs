//! The command line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use abi::options;
use anyhow::Result;
use clap::builder::RangedI64ValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::artifacts::Artifacts;
use crate::lab::{Job, Lab, words_stand_once};
use crate::machine::{CPUS_MAX, Mode, Qemu};
use crate::session::{Ending, Event, SILENCE};
use crate::stretches::Collector;
use crate::terminal::Input;
use crate::trouble::{STATUS_HELP, Trouble};
use crate::{
    bench, bisect, campaign, count, decode, diff, events, explain, figures, files, fuzz, gdb, helptexts,
    hostile, iso, judge, mailbox, message, newprogram, pack, peers, probe, reference, restarts, rows, rules,
    scale, scheduling, seeded, shrink, stress, suite, systems, torture,
};

const MESSAGE_EXAMPLES: &str = "\
Where messages come from:
  a run with talk=show    programs report each message of the system's protocols that they send
  a kernel's dump         has the calls that are queued or on their way, without words beyond four
  gdb                     dump binary memory FILE FROM TO; then --as, since bytes do not say what they are

Examples:
  aurora-bench run run=test only=messages talk=show > run.txt; aurora-bench message run.txt
  aurora-bench message --as store.Request capture.bin    bytes, or words in hexadecimal
  echo 0001000200000000 1 7 0 | aurora-bench message --as store.Request
  aurora-bench message --list                            labels and what messages with them begin with
";

const EXAMPLES: &str = "\
Examples:
  aurora-bench run --cpus 4 run=test          boot, show everything it says
  aurora-bench bench                          all figures on 1, 2 and 4 CPUs
  aurora-bench bench --mode icount --check    the exact ones, against the baseline
  aurora-bench stress --seed 7 --cpus 4       one stress run
  aurora-bench campaign --help                many seeds, in shards
  aurora-bench explain null_syscall           its instructions, one by one
  aurora-bench trace test ipc --check         what ran when, and whether the rules held
  aurora-bench gdb run=test                   the debugger, with helpers that know the kernel
  aurora-bench message --help                 what a captured message says
  aurora-bench systems                        which systems are described
  aurora-bench iso run=bench                  an image for a machine without this tool
  aurora-bench decode serial.txt              the tables of what that machine said
  aurora-bench probe                          which accelerator gives cycles here
";

#[derive(Parser, Debug)]
#[command(name = "aurora-bench", version, about, after_help = format!("{EXAMPLES}\n{STATUS_HELP}"))]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// The heading of options that all commands have.
const COMMON: &str = "Options of all commands";

#[derive(Args, Debug)]
struct Common {
    /// Directory with the kernels and the boot archive
    #[arg(long, global = true, help_heading = COMMON, env = "AURORA_BOOT", hide_env_values = true, default_value = "target/boot", value_name = "DIR")]
    boot_dir: PathBuf,
    /// Seconds that one boot may take (default: by command)
    #[arg(long, global = true, help_heading = COMMON, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// Show all output of the guests
    #[arg(short, long, global = true, help_heading = COMMON)]
    verbose: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Boot once and show the guest's output
    #[command(after_help = "Example:\n  aurora-bench run --mode icount --cpus 2 run=test idle=poll")]
    Run(RunArgs),
    /// Measure, print the table, write the result file
    #[command(after_help = "Examples:\n  aurora-bench bench --mode icount --cpus 1\n  \
        aurora-bench bench --check\n  aurora-bench bench --cpus 1,2 --plot                  target/bench/pages-*.svg\n  aurora-bench bench --mode icount --update-baseline")]
    Bench(BenchArgs),
    /// Run random IPC across CPUs and count lost messages
    #[command(after_help = "Examples:\n  aurora-bench stress --cpus 4 --messages 1000000\n  \
        aurora-bench stress --mode icount --seeds 20 --replay\n  \
        aurora-bench stress --mode icount --seed 7 --shrink   a smaller run that fails in the same way")]
    Stress(StressCommand),
    /// Run all operations on mapped memory from all CPUs; check every access
    #[command(after_help = "Examples:\n  aurora-bench torture --cpus 4 --ops 10000000\n  \
        aurora-bench torture --mode icount --seed 7 --cpus 2")]
    Torture(seeded::Wanted),
    /// Run random system calls from all CPUs on shared objects; check their history against the
    /// model
    #[command(after_help = "Examples:\n  aurora-bench fuzz --cpus 4 --ops 10000000 --seed 1 --seeds 5\n  \
        aurora-bench fuzz --mode icount --seed 7 --cpus 2     the chaos build, which replays\n  \
        aurora-bench fuzz --storm revoke --ops 1000000        capabilities revoked in use, a million times\n  \
        aurora-bench fuzz --storm kill --ops 100000           tasks and processes killed, whatever they are about")]
    Fuzz(fuzz::Wanted),
    /// Let a process schedule tasks by a policy: static, balancing, or earliest deadline first
    #[command(
        after_help = "Examples:\n  aurora-bench policy --policy edf --cpus 1            jobs with deadlines, under icount\n  \
        aurora-bench policy --policy balance --cpus 4        64 workers, and the policy is killed half-way\n  \
        aurora-bench policy --mode tcg --seeds 5             CPUs that run at the same time\n  \
        aurora-bench policy --policy static --cpus 3 --hang  a CPU stops, and the watchdog reports it\n  \
        aurora-bench policy --policy static --cpus 2 --lie   a policy that makes wrong settings, and hangs"
    )]
    Policy(scheduling::Wanted),
    /// Make a program outside the tree, and a system in which it runs
    #[command(after_help = newprogram::EXAMPLES)]
    NewProgram(newprogram::Wanted),
    /// Kill random processes of a system under load, and see that they come back
    #[command(after_help = restarts::EXAMPLES)]
    Restarts(restarts::Wanted),
    /// Trace a run: JSON for Perfetto, invariants, longest waits
    #[command(after_help = events::command::EXAMPLES)]
    Trace(events::command::TraceArgs),
    /// Run the same random operations on kernels with and without fastpaths, and compare their
    /// states
    #[command(after_help = "Example:\n  aurora-bench diff --seed 100 --seeds 50 --steps 1000")]
    Diff(DiffArgs),
    /// Judge a snapshot of the kernel's state from a run
    #[command(after_help = "Example:\n  aurora-bench judge target/run/fuzz-tcg-4-1/snapshot.txt")]
    Judge {
        /// The snapshot
        file: PathBuf,
    },
    /// Run many seeds, in shards; a killed campaign continues where it stopped
    #[command(subcommand, after_help = campaign::args::EXAMPLES)]
    Campaign(campaign::args::Command),
    /// List every instruction of one operation of a bench row, by phase
    #[command(after_help = "Examples:\n  aurora-bench explain call_reply_cross_as\n  \
        aurora-bench explain call_reply_cross_cpu_polled\n  \
        aurora-bench explain yield_to --diff HEAD~1           what the last commit changed\n  \
        aurora-bench explain call_reply_cross_as --diff kernel:nofast\n  \
        aurora-bench explain call_reply_cross_cpu_polled --functions")]
    Explain(explain::args::ExplainArgs),
    /// Run gdb on the kernel: from its start, at an event of a stress seed, or on a recorded run
    #[command(after_help = gdb::args::EXAMPLES)]
    Gdb(gdb::args::GdbArgs),
    /// Measure what one operation costs and shares as CPUs are added: table, picture, words
    #[command(after_help = "Examples:\n  aurora-bench scale --cpus 1,2,4,8 --operations 200\n  \
        aurora-bench scale --check                          as committed in perf/scale.json?\n  \
        aurora-bench scale --update                         perf/scale.json anew; `figures` puts it into the book")]
    Scale(scale::Wanted),
    /// Let hostile programs attack others, and show what that costs: stolen time, interrupts off,
    /// lateness
    #[command(after_help = hostile::EXAMPLES)]
    Hostile(hostile::Wanted),
    /// Measure the mailbox against other queues on this machine's cores: ranked table, picture
    #[command(after_help = "Examples:\n  aurora-bench mailbox --runs 3\n  \
        aurora-bench mailbox --again          the table of the last runs once more")]
    Mailbox(mailbox::Wanted),
    /// Measure other kernels in the same way: seL4
    #[command(subcommand, after_help = peers::command::EXAMPLES)]
    Peers(peers::command::Command),
    /// List the systems that are described, check a description, or draw one
    #[command(after_help = systems::EXAMPLES)]
    Systems(systems::Wanted),
    /// Run all tests; the last line is `N passed, N failed`
    Test(TestArgs),
    /// Run the kernel tests on Bochs's processor models
    Bochs,
    /// Which accelerator gives cycle figures on this host, and why
    Probe,
    /// Make a bootable image, for a machine or QEMU without this tool
    #[command(after_help = iso::EXAMPLES)]
    Iso(iso::Wanted),
    /// Print the bench's tables or JSON from a capture of a machine's serial line
    #[command(after_help = decode::EXAMPLES)]
    Decode(decode::Wanted),
    /// Make the boot archive out of built programs
    Pack(PackArgs),
    /// Print the system call reference, a page of the book
    Reference,
    /// Print the rules of authority, a page of the book
    Rules,
    /// Write the help texts of the recipes
    HelpTexts {
        /// Where they go
        dir: PathBuf,
    },
    /// Print captured messages, field by field
    #[command(
        after_help = MESSAGE_EXAMPLES
    )]
    Message(MessageArgs),
    /// Put the committed figures into README and book, or compare them
    #[command(after_help = figures::command::EXAMPLES)]
    Figures(figures::command::FiguresArgs),
    /// Report how large the kernel is and how its parts depend on each other: lines, functions,
    /// methods, circles of calls
    #[command(after_help = count::EXAMPLES)]
    Count(count::Wanted),
}

#[derive(Args, Debug)]
struct RunArgs {
    /// How QEMU executes the guest
    #[arg(long, default_value = "tcg")]
    mode: Mode,
    /// Number of CPUs
    #[arg(long, default_value_t = 1, value_parser = cpus())]
    cpus: u32,
    /// Build of the kernel: nofast, chaos, … (default: the ordinary one)
    #[arg(long, default_value = "")]
    variant: String,
    /// Let the TCG plugin count and write this file
    #[arg(long, value_name = "FILE")]
    counted: Option<PathBuf>,
    /// Print how long interrupts were off, by operation, and write that to this file as JSON; more
    /// than 10,000 instructions are an error
    #[arg(long, value_name = "FILE", conflicts_with_all = ["counted", "print"])]
    stretches: Option<PathBuf>,
    /// Print QEMU's command line instead of starting it
    #[arg(long)]
    print: bool,
    /// Type the lines of this file at the system's shell, and end with the status of the last one
    #[arg(long, value_name = "FILE", conflicts_with = "print")]
    script: Option<PathBuf>,
    /// A program from outside the tree that the system's file names; may be given several times
    #[arg(long, value_name = "PROGRAM")]
    with: Vec<PathBuf>,
    /// The system to run, by name or file (`….toml`), and words for the kernel's command line
    words: Vec<String>,
}

#[derive(Args, Debug)]
struct BenchArgs {
    /// Only this mode (default: icount, and KVM or TCG by probing)
    #[arg(long)]
    mode: Option<Mode>,
    #[command(flatten)]
    figures: FigureArgs,
    /// Measure only these rows, with commas between them; `*` is any text
    #[arg(long, value_name = "PATTERNS", conflicts_with_all = ["check", "update_baseline"])]
    rows: Option<String>,
    /// Write every single sample of each row, too, into the result file and JSON
    #[arg(long, conflicts_with_all = ["check", "update_baseline"])]
    samples: bool,
    /// List all rows and what each measures; measure nothing
    #[arg(long, conflicts_with_all = ["rows", "samples", "json", "csv", "check", "update_baseline", "plot"])]
    list: bool,
    /// Print JSON instead of the table, and nothing else
    #[arg(long)]
    json: bool,
    /// Print one line of CSV a row instead of the table
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Compare icount figures with the baseline; fail if they are not as demanded
    #[arg(long)]
    check: bool,
    /// Take the icount figures as the baseline for this compiler and QEMU
    #[arg(long, conflicts_with = "check")]
    update_baseline: bool,
    /// More words for the kernel's command line, as label=1; figures are then compared with limits
    /// only
    #[arg(long, value_name = "WORDS", default_value = "")]
    options: String,
    /// Draw cost against number of pages for copied, moved, shared and copy-on-write: SVG beside
    /// the result file
    #[arg(long)]
    plot: bool,
}

#[derive(Args, Debug)]
struct FigureArgs {
    /// Numbers of CPUs to measure on
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_name = "N,…", value_parser = cpus())]
    cpus: Vec<u32>,
    /// The committed limits and figures
    #[arg(long, default_value = "perf/baseline.json", value_name = "FILE")]
    baseline: PathBuf,
    /// Where the results go
    #[arg(long, default_value = "target/bench/latest.json", value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct StressArgs {
    /// First seed (default: random)
    #[arg(long)]
    seed: Option<u32>,
    /// How many seeds to run, stopping at the first failure
    #[arg(long, default_value_t = 1, value_parser = one_or_more())]
    seeds: u32,
    /// Number of CPUs
    #[arg(long, default_value_t = 4, value_parser = cpus())]
    cpus: u32,
    /// Messages in all
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// icount runs the chaos build and replays exactly
    #[arg(long, default_value = "tcg")]
    mode: Mode,
    /// How idle CPUs wait (default: poll or mwait by the seed under icount, where halted ones may
    /// not replay; else halt)
    #[arg(long)]
    idle: Option<stress::Idle>,
    /// Run every seed twice and compare the hashes (icount)
    #[arg(long)]
    replay: bool,
    /// Bounds of the kernel: as they are, or tiny, so that all of them are reached
    #[arg(long, default_value = "normal", conflicts_with = "variant")]
    limits: seeded::Limits,
    /// Build of the kernel (default: chaos under icount, else dump)
    #[arg(long)]
    variant: Option<String>,
}

#[derive(Args, Debug)]
struct StressCommand {
    #[command(flatten)]
    run: StressArgs,
    #[command(flatten)]
    shrink: shrink::ShrinkArgs,
}

#[derive(Args, Debug)]
struct DiffArgs {
    /// First seed
    #[arg(long, default_value_t = diff::Wanted::USUAL.seed)]
    seed: u32,
    /// How many seeds
    #[arg(long, default_value_t = diff::Wanted::USUAL.seeds, value_parser = one_or_more())]
    seeds: u32,
    /// Operations of each game
    #[arg(long, default_value_t = diff::Wanted::USUAL.steps, value_parser = one_or_more())]
    steps: u32,
}

#[derive(Args, Debug)]
struct TestArgs {
    /// Only these kinds of tests
    #[arg(long, value_delimiter = ',', value_name = "STEP,…")]
    only: Vec<suite::Step>,
    /// Run only what a change breaks most often: unit tests of the host, the kernel tests under
    /// icount on 2 CPUs, exact figures of one CPU
    #[arg(long, conflicts_with_all = ["only", "cpus"])]
    quick: bool,
    /// Write the result of each test to this file, as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Runs recipes
    #[arg(long, default_value = "just", value_name = "PROGRAM", hide = true)]
    just: OsString,
    #[command(flatten)]
    figures: FigureArgs,
}

#[derive(Args, Debug)]
struct PackArgs {
    /// Where the programs were built
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// Directory with the descriptions of systems
    #[arg(long, value_name = "DIR", default_value = "systems")]
    systems: PathBuf,
    /// Packages whose binaries go in
    #[arg(required = true)]
    packages: Vec<String>,
}

#[derive(Args, Debug)]
struct MessageArgs {
    /// What was captured: what a run or a state.txt says, bytes, or words in hexadecimal (default:
    /// standard input)
    file: Option<PathBuf>,
    /// What a message without a label begins with
    #[arg(long = "as", value_name = "PROTOCOL.STRUCT")]
    begins: Option<String>,
    /// Only list the protocols that are known
    #[arg(long)]
    list: bool,
}

/// Parses a number of CPUs that the machine can have.
pub(crate) fn cpus() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(CPUS_MAX))
}

/// Parses a count of seeds, games or runs: none would pass without having tested anything.
pub(crate) fn one_or_more() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

/// Returns the command line's definition, for help texts.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Runs the command that the process was started with.
pub fn main() -> Result<()> {
    let Cli { common, command } = Cli::parse();
    match command {
        Command::Run(args) => run(&common.lab()?, &args),
        Command::Bench(args) if args.list => {
            print!("{}", rows::list());
            Ok(())
        }
        Command::Bench(args) => bench::bench(&common.lab()?, &args.wanted()),
        Command::Stress(StressCommand { run, shrink }) => match run.seed.filter(|_| shrink.shrink) {
            Some(seed) => shrink::shrink(&common.lab()?, &run.wanted(), seed, shrink.tries),
            None => stress::run(&common.lab()?, &run.wanted()),
        },
        Command::Torture(wanted) => torture::run(&common.lab()?, &wanted),
        Command::Fuzz(wanted) => fuzz::run(&common.lab()?, &wanted),
        Command::Policy(wanted) => scheduling::run(&common.lab()?, &wanted),
        Command::NewProgram(wanted) => newprogram::command(&wanted),
        Command::Restarts(wanted) => restarts::command(&common.lab()?, &wanted),
        Command::Trace(args) => events::command::command(&common.lab()?, &args),
        Command::Diff(DiffArgs { seed, seeds, steps }) => {
            diff::command(&common.lab()?, &diff::Wanted { seed, seeds, steps })
        }
        Command::Judge { file } => judge::command(&file),
        Command::Gdb(args) => match args.seed.filter(|_| args.bisect.bisect) {
            Some(seed) => bisect::command(&common.lab()?, &args.bisected(seed)),
            None => gdb::gdb(&common.lab()?, &args.wanted()?),
        },
        Command::Campaign(args) => run_campaign(&common, args),
        Command::Explain(args) => explain::args::run(&common.lab()?, &args),
        Command::Scale(wanted) => scale::command(&common.lab()?, &wanted),
        Command::Hostile(wanted) if wanted.list => {
            hostile::list();
            Ok(())
        }
        Command::Hostile(wanted) => hostile::command(&common.lab()?, &wanted),
        Command::Mailbox(wanted) => mailbox::command(&wanted),
        Command::Peers(command) => peers::command::run(&command, common.timeout),
        Command::Systems(wanted) => systems::command(&common.artifacts(), &wanted),
        Command::Test(args) => suite::run(&common.lab()?, &args.wanted()),
        Command::Bochs => bochs(&common.lab()?),
        Command::Probe => {
            let choice = probe::choose(&common.lab()?)?;
            println!("{}: {}", choice.mode, choice.reason);
            Ok(())
        }
        Command::Iso(wanted) => iso::command(&common.artifacts(), &wanted),
        Command::Decode(wanted) => decode::command(&wanted),
        Command::Reference => {
            print!("{}", reference::render());
            Ok(())
        }
        Command::Rules => {
            print!("{}", rules::render());
            Ok(())
        }
        Command::HelpTexts { dir } => helptexts::write(command_line(), &dir),
        Command::Message(MessageArgs { file, begins, list }) => {
            message::command(&message::Wanted { file, begins, list })
        }
        Command::Count(wanted) => count::command(&wanted),
        Command::Figures(args) => figures::command::run(&args),
        Command::Pack(args) => {
            let programs = pack::pack(&common.artifacts(), &args.programs, &args.packages, &args.systems)?;
            let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
            eprintln!("{}: {}", common.boot_dir.join("boot.tar").display(), names.join(", "));
            Ok(())
        }
    }
}

impl Common {
    fn artifacts(&self) -> Artifacts {
        Artifacts::new(&self.boot_dir)
    }

    fn lab(&self) -> Result<Lab> {
        Ok(Lab {
            verbose: self.verbose,
            limit: self.timeout.map(Duration::from_secs),
            ..Lab::new(Qemu::find()?, self.artifacts())
        })
    }
}

impl BenchArgs {
    fn wanted(&self) -> bench::Wanted {
        bench::Wanted {
            mode: self.mode,
            rows: self.rows.clone(),
            samples: self.samples,
            form: bench::Form::new(self.json, self.csv),
            check: self.check,
            update_baseline: self.update_baseline,
            plot: self.plot,
            options: self.options.clone(),
            ..self.figures.wanted()
        }
    }
}

impl FigureArgs {
    /// Returns the options of a bench run that measures icount figures, and prints nothing.
    fn wanted(&self) -> bench::Wanted {
        let mut cpus = self.cpus.clone();
        cpus.sort_unstable();
        cpus.dedup();
        bench::Wanted {
            mode: Some(Mode::Icount),
            cpus,
            options: String::new(),
            rows: None,
            samples: false,
            form: bench::Form::Table,
            plot: false,
            check: false,
            update_baseline: false,
            baseline: self.baseline.clone(),
            output: self.output.clone(),
        }
    }
}

impl StressArgs {
    pub(crate) fn wanted(&self) -> stress::Wanted {
        stress::Wanted {
            seed: self.seed,
            seeds: self.seeds,
            cpus: self.cpus,
            messages: self.messages,
            mode: self.mode,
            replay: self.replay,
            idle: self.idle,
            variant: self.limits.build(self.variant.clone(), self.mode),
            stop: stress::Stop::default(),
        }
    }
}

impl TestArgs {
    fn wanted(&self) -> suite::Wanted {
        suite::Wanted {
            only: self.only.clone(),
            quick: self.quick,
            junit: self.junit.clone(),
            just: self.just.clone(),
            bench: self.figures.wanted(),
        }
    }
}

fn run(lab: &Lab, args: &RunArgs) -> Result<()> {
    let with: Vec<PathBuf> = args.with.iter().map(|file| files::as_given(file)).collect();
    let (artifacts, words) = systems::named(&lab.artifacts, &args.words, &with)?;
    let lab = &Lab { artifacts, ..lab.beside() };
    words_stand_once(&words.join(" "))?;
    let input = input(lab, args, &words)?;
    let is_attached = input != Input::None;
    if input == Input::Person {
        lab.screen.leave();
    }
    let lab = &Lab { input, ..lab.beside() };
    let mut words = words.join(" ");
    if is_attached && options::value(&words, "level").is_none() {
        // Lines of the log would stand among those of the shell.
        words += " level=warn";
    }
    let job = Job {
        label: "run".to_owned(),
        variant: args.variant.clone(),
        command_line: words,
        mode: args.mode,
        cpus: args.cpus,
        counted: args.counted.as_deref().map(files::as_given),
        limit: SILENCE * 10,
    };
    if args.print {
        println!("{} {}", lab.qemu.program.display(), quoted(&lab.boot(&job)?.machine_arguments()));
        return Ok(());
    }
    args.counted.as_deref().map_or(Ok(()), files::demand_room_for)?;
    probe::check_mode(lab, args.mode)?;
    let mut collector = Collector::new(args.stretches.as_deref().map(files::as_given).as_deref())?;
    let mut print = |event: &Event| match event {
        // The terminal has shown it already, also what the kernel reports of the CPU.
        Event::Serial(_) if is_attached => {}
        Event::Report { line, .. } if is_attached && line.starts_with("mitigation ") => {}
        // A terminal at which a person types needs carriage returns.
        _ if is_attached => _ = write!(io::stdout(), "\r\n{}\r\n", event.text()),
        _ => println!("{}", event.text()),
    };
    let session = collector.run_with(lab, &job, &mut print)?;
    match session.ending {
        Ending::Left => {}
        Ending::Off => session.check_off()?,
        Ending::Fail if is_attached => {
            return Err(Trouble::CheckFailed(
                "the system ended as failed: the last command of its shell, or something else".to_owned(),
            )
            .into());
        }
        _ => session.check_did_something()?,
    }
    collector.finish()
}

/// Returns who is at the first serial line: somebody where a process of the system drives it.
fn input(lab: &Lab, args: &RunArgs, words: &[String]) -> Result<Input> {
    let line = words.join(" ");
    let drives = match options::value(&line, "run") {
        Some(name) => systems::drives_com1(&lab.artifacts, name)?,
        None => false,
    };
    match (drives, &args.script) {
        _ if args.print => Ok(Input::None),
        (true, script) => Input::of(script.as_deref().map(files::as_given).as_deref()),
        (false, None) => Ok(Input::None),
        (false, Some(_)) => {
            let text =
                "--script is for systems with a shell, such as demo: no process of this one drives COM1";
            Err(Trouble::Usage(text.to_owned()).into())
        }
    }
}

fn run_campaign(common: &Common, args: campaign::args::Command) -> Result<()> {
    match args.wanted(common.timeout)? {
        campaign::args::Wanted::Run { plan, shard, out } => campaign::run(common.lab()?, &plan, shard, &out),
        campaign::args::Wanted::Merge { dirs, out } => campaign::merge(&dirs, out.as_deref()),
    }
}

/// Quotes words for a shell.
fn quoted(words: &[std::ffi::OsString]) -> String {
    let quote = |word: &std::ffi::OsString| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

fn bochs(lab: &Lab) -> Result<()> {
    crate::bochs::find()?;
    let tally = suite::bochs_tests(lab)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        return Err(Trouble::CheckFailed("not everything passed on Bochs".to_owned()).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_documents_the_exit_statuses() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("a time-out") && help.contains("Examples:"), "{help}");
    }

    #[test]
    fn cpus_are_a_list() {
        let cli = Cli::parse_from(["aurora-bench", "bench", "--cpus", "1,3"]);
        let Command::Bench(args) = cli.command else { panic!("not bench") };
        assert_eq!(args.figures.cpus, [1, 3]);
        let cli = Cli::parse_from(["aurora-bench", "bench", "--cpus", "4,1,4"]);
        let Command::Bench(args) = cli.command else { panic!("not bench") };
        assert_eq!(args.wanted().cpus, [1, 4], "each once");
    }

    #[test]
    fn a_list_of_rows_is_that_and_nothing_else() {
        for more in ["--json", "--csv", "--rows=x", "--check"] {
            assert!(Cli::try_parse_from(["aurora-bench", "bench", "--list", more]).is_err(), "{more}");
        }
    }

    #[test]
    fn no_run_has_no_seed() {
        for command in [
            "stress",
            "torture",
            "fuzz",
            "policy",
            "diff",
            "trace stress",
            "campaign stress",
            "campaign test",
        ] {
            for (seeds, is_good) in [("0", false), ("1", true)] {
                let words = ["aurora-bench"].into_iter().chain(command.split(' ')).chain(["--seeds", seeds]);
                let out = command.starts_with("campaign").then_some(["--out", "x"]);
                let parsed = Cli::try_parse_from(words.chain(out.into_iter().flatten()));
                assert_eq!(parsed.is_ok(), is_good, "{command} --seeds {seeds}");
            }
        }
    }

    #[test]
    fn a_search_is_of_a_seed_and_of_one_kind() {
        let parses =
            |line: &str| Cli::try_parse_from(["aurora-bench"].into_iter().chain(line.split(' '))).is_ok();
        let good = ["", " --calm", " --rule wake-ups,lists", " --until x --from 5 --to 9", " --stress"];
        assert!(good.iter().all(|more| parses(&format!("gdb --bisect --seed 7{more}"))));
        let bad = [
            "gdb --bisect",
            "gdb --seed 7",
            "gdb --stress --seed 7 --calm",
            "gdb --bisect --seed 7 --calm --until x",
            "gdb --bisect --seed 7 --rule lists --calm",
            "gdb --bisect --seed 7 --from 0",
            "gdb --bisect --seed 7 --stop-at 5",
            "gdb --bisect --seed 7 --record",
            "gdb --bisect --seed 7 --batch",
            "gdb --bisect --seed 7 run=test",
            "stress --shrink",
            "stress --shrink --seed 7 --seeds 2",
            "stress --shrink --seed 7 --replay",
            "stress --seed 7 --tries 2",
            "trace stress --seed 7 --shrink",
        ];
        let taken: Vec<&&str> = bad.iter().filter(|line| parses(line)).collect();
        assert!(taken.is_empty(), "{taken:?}");
    }

    #[test]
    fn no_machine_has_no_cpu() {
        for command in [
            "run",
            "bench",
            "stress",
            "torture",
            "fuzz",
            "policy",
            "scale",
            "gdb",
            "explain row",
            "trace test",
            "trace stress",
        ] {
            for cpus in ["0", "256"] {
                let words = ["aurora-bench"].into_iter().chain(command.split(' ')).chain(["--cpus", cpus]);
                assert!(Cli::try_parse_from(words).is_err(), "{command} --cpus {cpus}");
            }
        }
    }
}
