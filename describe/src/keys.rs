//! Every key of the language: its meaning and an example, which reports show.

/// A key that a table may have.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    /// A value as the file has it; empty for what is written as sections.
    pub example: &'static str,
    /// The meaning, as the end of the sentence "`key` is …".
    pub means: &'static str,
}

const fn key(name: &'static str, example: &'static str, means: &'static str) -> Key {
    Key { name, example, means }
}

const ABOUT: Key = key("about", "\"what it is for\"", "a text for people");

pub const SYSTEM: &[Key] = &[
    key("about", "\"what this system is for\"", "the text that `./justw systems` shows"),
    key("options", "\"level=debug\"", "command-line words that every process sees besides its own"),
    key("verdict", "\"kerntest\"", "the process whose verdict is the machine's"),
    key("labels", "{ drivers = 1 }", "a table of security labels with their numbers"),
    key("rules", "", "sections `[[rules]]`, one for each rule"),
    key("devices", "", "sections `[devices.NAME]`, one for each device"),
    key("groups", "", "sections `[groups.NAME]`, one for each group"),
    key("processes", "", "sections `[processes.NAME]`, one for each process"),
];

pub const LABEL: Key = key("labels", "1", "the number of a security label, from 1 to 31");

pub const RULE: &[Key] = &[
    key("subjects", "\"users\"", "the label of the processes that are denied something"),
    key("objects", "\"drivers\"", "the label of the objects that they may not use, or `none`"),
    key("denies", "[\"read\", \"write\"]", "a list of `grant`, `join`, `read` and `write`"),
];

pub const DEVICE: &[Key] = &[
    ABOUT,
    key("ports", "\"0x3f8-0x3ff\"", "its first and last port, or a list of such ranges"),
    key("memory", "{ at = \"0xfed00000\", size = \"4 KiB\" }", "its memory, or a list of such ranges"),
    key("pci", "{ vendor = 0x1234, device = 0x11e8 }", "how it is found on the PCI bus"),
    key("power", "true", "whether it is what switches the machine off, which firmware describes"),
    key("interrupt", "{ line = 4 }", "its interrupt line"),
];

pub const MEMORY: &[Key] = &[
    key("at", "\"0xfed00000\"", "a physical address"),
    key("size", "\"4 KiB\"", "a size in whole pages of 4 KiB"),
    key("access", "\"read\"", "`read` or `write`"),
    CACHE,
];

/// How the processor may hold back accesses to device memory.
const CACHE: Key = key("cache", "\"write-combining\"", "`uncached` or `write-combining`");

pub const PCI: &[Key] = &[
    key("vendor", "0x1234", "the vendor's number, from 0 to 0xfffe"),
    key("device", "0x11e8", "the device's number, from 0 to 0xffff"),
    CACHE,
];

pub const INTERRUPT: &[Key] = &[
    key("line", "4", "the number of the interrupt line, from 0 to 191"),
    key("trigger", "\"level\"", "`edge` or `level`"),
    key("polarity", "\"low\"", "`high` or `low`"),
];

pub const PROCESS: &[Key] = &[
    ABOUT,
    key("program", "\"serial\"", "a program of the boot image"),
    key("options", "\"baud=115200\"", "the words of its command line"),
    key("priority", "180", "the priority of its first task, from 1 to 249"),
    key("ceiling", "185", "the highest priority that it may give its tasks, from 1 to 249"),
    key("cpu", "0", "the CPU on which its first task runs, from 0 to 1023"),
    key("cpus", "[0, 1]", "the CPUs on which its tasks may run: a list, `\"0-3\"` or `\"all\"`"),
    key("slice", "\"10 ms\"", "the longest time that its first task runs while others of its priority wait"),
    key(
        "budget",
        "{ time = \"2 ms\", period = \"10 ms\" }",
        "the time that its first task has in each period",
    ),
    key("room", "\"30 %\"", "the part of a CPU for all budgets that it sets"),
    key("memory", "\"4 MiB\"", "its memory: a power of two, `\"rest\"` or `\"none\"`"),
    key("tasks", "16", "how many tasks it can have, from 1 to 4096"),
    key("slots", "256", "how many capabilities it can hold, from 128 to 65536"),
    key("vector", "true", "whether its tasks have vector registers"),
    key("stack", "\"56 KiB\"", "the stack of its first task, from 4 KiB to 56 KiB"),
    key("label", "\"drivers\"", "its security label"),
    key("machine", "[\"log\", \"report\"]", "a list of its rights to the machine"),
    key("archive", "true", "whether it gets the whole boot image, to start other programs"),
    key("devices", "[\"com1\"]", "a list of the devices that it drives"),
    key("uses", "{ log = \"log\" }", "a table of names that it looks up, with the group that each means"),
    key("needs", "[\"pager\"]", "a list of processes that start before it"),
    key("controls", "[\"serial\"]", "`\"all\"`, or a list of the processes that it may start and end"),
    key("schedules", "[\"worker\"]", "a list of the processes whose first tasks it places on CPUs"),
    key("pager", "{ process = \"pager\", frames = 64, pages = 256 }", "who gives it pages on demand"),
    key("start", "\"asked\"", "when it starts: with the system (`boot`), or when a shell asks (`asked`)"),
    key("heartbeat", "\"1 s\"", "the longest time between two signs of life that it gives"),
    key("restart", "\"always\"", "`never`, `failure`, `always`, or a table with `when`"),
];

pub const BUDGET: &[Key] = &[
    key("time", "\"2 ms\"", "the CPU time in each period"),
    key("period", "\"10 ms\"", "the length of a period, at least `time`"),
];

pub const PAGER: &[Key] = &[
    key("process", "\"pager\"", "the process that is its pager"),
    key("frames", "64", "how many pages it may have in memory at a time, from 4"),
    key("pinned", "8", "how many of these may stay in memory for good, at most 4 less than `frames`"),
    key("pages", "256", "how many pages all its regions may have, at least 1"),
];

pub const RESTART: &[Key] = &[
    key("when", "\"always\"", "`never`, `failure` or `always`"),
    key("wait", "\"10 ms\"", "the time before the first restart, which doubles with each"),
    key("most", "\"1 s\"", "the longest time before a restart, at least `wait`"),
    key("limit", "5", "how many ends `within` a time are followed by a restart, from 1 to 1000"),
    key("within", "\"10 s\"", "the time in which ends are counted"),
];

pub const GROUP: &[Key] = &[
    ABOUT,
    key("exposes", "[\"serial\"]", "a list of the processes that serve it"),
    key("members", "", "sections `[groups.NAME.members.PROCESS]`, one for each member"),
];

pub const MEMBER: &[Key] = &[
    key("rights", "[\"send\"]", "a list of what the member may do"),
    key("custom", "0x0001", "16 bits that the server sees, from 0 to 0xffff"),
];

/// All sections of the language with their keys, in the order of the book's reference.
pub const SECTIONS: &[(&str, &[Key])] = &[
    ("system", SYSTEM),
    ("rules", RULE),
    ("devices.NAME", DEVICE),
    ("devices.NAME.memory", MEMORY),
    ("devices.NAME.pci", PCI),
    ("devices.NAME.interrupt", INTERRUPT),
    ("processes.NAME", PROCESS),
    ("processes.NAME.budget", BUDGET),
    ("processes.NAME.pager", PAGER),
    ("processes.NAME.restart", RESTART),
    ("groups.NAME", GROUP),
    ("groups.NAME.members.PROCESS", MEMBER),
];
