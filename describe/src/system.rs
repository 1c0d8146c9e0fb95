//! A checked description as plain data: all names are resolved, all defaults filled in.

pub use protocols::system::When;

/// A process, group or device, by its place in the system's list.
pub type Place = u16;

/// A whole system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct System {
    pub name: String,
    pub about: String,
    /// The process whose verdict is the machine's.
    pub verdict: Option<Place>,
    pub labels: Vec<Label>,
    pub rules: Vec<Rule>,
    pub devices: Vec<Device>,
    pub groups: Vec<Group>,
    /// In the order in which they start.
    pub processes: Vec<Process>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    pub name: String,
    pub number: u8,
}

/// What subjects of one label may do with objects of another, in bits of [`abi::audit::may`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    pub subjects: u8,
    pub objects: u8,
    pub may: u8,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    pub name: String,
    pub about: String,
    /// First and last port of each range.
    pub ports: Vec<(u16, u16)>,
    pub memory: Vec<Memory>,
    pub found: Found,
    pub interrupt: Interrupt,
}

/// Where the ports and the memory of a device are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Where the description says.
    Fixed,
    /// Where the bus says.
    Pci(Pci),
    /// Where firmware says: it switches the machine off.
    Power,
}

/// How a device is found on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pci {
    pub vendor: u16,
    pub device: u16,
    /// What the bus calls prefetchable is mapped write-combining.
    pub write_combining: bool,
}

/// Pages of device memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    pub at: u64,
    pub pages: u32,
    pub write: bool,
    pub write_combining: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    None,
    Line { number: u16, level: bool, low: bool },
    Msi,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub name: String,
    pub about: String,
    /// The processes whose first tasks are exposed, by the index of the exposure.
    pub exposes: Vec<Place>,
    pub members: Vec<Member>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    pub process: Place,
    /// Rights as [`abi::Rights`] has them.
    pub rights: u32,
    pub custom: u16,
}

/// CPUs on which tasks of a process may run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cpus {
    All,
    /// In order, each once, at least one.
    These(Vec<u16>),
}

/// The size of the Untyped that a process gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Untyped {
    None,
    /// The base-2 logarithm of its bytes.
    Log2(u8),
    Rest,
}

/// Time in each period, both in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    pub time: u64,
    pub period: u64,
}

/// When a process that has ended is started again. Times are in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restart {
    pub when: When,
    /// Before the first restart; it doubles with each, up to `most`.
    pub wait: u64,
    pub most: u64,
    /// After more than so many ends `within` that time the process stays ended.
    pub limit: u32,
    pub within: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    pub name: String,
    pub about: String,
    pub program: String,
    /// The whole command line.
    pub options: String,
    pub priority: u8,
    pub ceiling: u8,
    /// Number of its label; 0 for none.
    pub label: u8,
    pub memory: Untyped,
    pub cpu: u16,
    pub cpus: Cpus,
    /// Microseconds.
    pub slice: u64,
    pub budget: Option<Budget>,
    /// Ten-thousandths of a CPU for all budgets that it sets; 0: without limit.
    pub room: u32,
    pub stack_pages: u16,
    pub tasks: u32,
    pub slots: u32,
    /// Rights to the Machine, as [`abi::Rights`] has them.
    pub machine: u32,
    pub vector: bool,
    pub archive: bool,
    pub devices: Vec<Place>,
    /// Names that it may look up, and the group that each means.
    pub uses: Vec<(String, Place)>,
    /// The processes that start before it, in order.
    pub needs: Vec<Place>,
    /// Groups in which its first task is exposed, and the index of the exposure.
    pub serves: Vec<(Place, u16)>,
    pub restart: Restart,
    /// The longest time between two signs of life, in microseconds; 0: it gives none.
    pub heartbeat: u64,
    /// It starts when a shell asks, and not with the system.
    pub when_asked: bool,
    /// The processes that it may start and end. `None`: it may not even look at processes.
    pub controls: Option<Vec<Place>>,
    /// The processes whose first tasks it places on CPUs.
    pub schedules: Vec<Place>,
    /// The group of its pager, in which its custom bits are its number, and what it may have.
    pub pager: Option<(Place, Pages)>,
}

/// What a pager gives a process at a time, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pages {
    pub frames: u32,
    /// Frames that stay in memory, among these.
    pub pinned: u32,
    /// Pages of all its regions, in memory or not.
    pub pages: u32,
}
