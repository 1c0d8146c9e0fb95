"""Helpers that show Aurora's kernel in gdb by name: `aurora help`.

Everything is read from the kernel's debug information: types, fields and enumerators by name, sizes and
offsets as the compiler laid them out. How words are packed is read from the static `kern_hal::words::AURORA_WORDS`. So there
is no layout number here, and a kernel of another layout needs no other script.

Objects are named as in the harness's text of the kernel's state (bench-harness/src/state): by type and the
order in which a walk finds them. The walk begins at the living processes, by number, goes through their capability
spaces and derivation trees, and so on. What is printed of an object are words that the text has of it, too, but
for what only a debugger sees.
A kernel that runs may be in the middle of a change: what does not fit is shown as it is.
"""

import re

import gdb

# Longer lists are cut off: what is in the middle of a change, or damaged, may go round in circles.
LIST_MAX = 1 << 16
# Callers that are shown.
DEPTH = 6


# --- reading ------------------------------------------------------------------------------------------------

def number(value):
    """The one word that a value is, however many wrappers are around it."""
    memory = gdb.selected_inferior().read_memory(int(value.address), value.type.sizeof)
    return int.from_bytes(bytes(memory), "little")


def at(type_name, address):
    """The object of a type at an address."""
    return gdb.Value(address).cast(gdb.lookup_type(type_name).pointer()).dereference()


def follow(value, path):
    """A field of a field."""
    for name in path.split("."):
        value = value[name]
    return value


def read(value, path):
    return number(follow(value, path))


def variant(type_name, value):
    """The name of an enumerator, as the text of a state has it: RecvTimed is recv-timed."""
    for field in gdb.lookup_type(type_name).fields():
        if field.enumval == value:
            return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", field.name.split("::")[-1]).lower()
    return "%s-%d" % (type_name, value)


def plain_table(value):
    """The smp::door::Table that a NamedTable, a FilledTable or the blocks of all CPUs are made of."""
    while "base" not in [field.name for field in value.type.fields()]:
        value = value[value.type.fields()[0]]
    return value


def table(value, element):
    """The elements of a smp::door::Table, or of what is made of one."""
    value = plain_table(value)
    base, count = number(value["base"]), number(value["len"])
    size = gdb.lookup_type(element).sizeof
    return [at(element, base + index * size) for index in range(count)]


class Words:
    """How words are packed."""

    def __init__(self):
        words = gdb.parse_and_eval("kern_hal::words::AURORA_WORDS")
        for index in range(words.type.range()[1] + 1):
            name, value = words[index]["__0"], words[index]["__1"]
            setattr(self, name["data_ptr"].string(length=int(name["length"])), int(value))

    def object_type(self, word):
        return word & self.type_mask

    def rights(self, word):
        return word >> self.rights_shift & (1 << self.rights_bits) - 1

    def address(self, word):
        signed = word - (1 << 64) if word >> 63 else word
        return (signed >> self.addr_shift) % (1 << 64) & ~(self.object_align - 1)


KINDS = {  # By ObjType: the type, and what it is called.
    "Untyped": ("kern_base::memory::Untyped", "untyped"),
    "CNode": ("kern_base::slot::CNode", "cnode"),
    "VSpace": ("kern_base::memory::VSpace", "vspace"),
    "Frame": ("kern_base::memory::Frame", "frame"),
    "Process": ("kern_base::process::Process", "process"),
    "Task": ("kern_base::task::Task", "task"),
    "SchedContext": ("kern_base::sched_context::SchedContext", "time"),
    "Group": ("kern_base::group::Group", "group"),
    "Notification": ("kern_base::notification::Notification", "note"),
    "Reply": ("kern_base::reply::Reply", "reply"),
    "Machine": ("kern_base::objects::MachineObject", "machine"),
    "EventPool": ("kern_base::events::EventPool", "pool"),
    "SchedControl": ("kern_base::sched_control::SchedControl", "control"),
}
SLOT = "kern_base::slot::Slot"
INFO = "kern_base::frames::FrameInfo"
TASK = KINDS["Task"][0]
TIME = KINDS["SchedContext"][0]


# The processor's, in entries of page tables.
PRESENT, WRITE, USER, LARGE, NO_EXECUTE = 1 << 0, 1 << 1, 1 << 2, 1 << 7, 1 << 63
FRAME = ((1 << 52) - 1) & ~0xfff


def object_types():
    fields = gdb.lookup_type("abi::object::ObjType").fields()
    return {field.enumval: field.name.split("::")[-1] for field in fields}


# --- the kernel ---------------------------------------------------------------------------------------------

class Kernel:
    """The kernel, and the objects that a walk finds, with their names."""

    def __init__(self):
        self.words = Words()
        self.types = object_types()
        kernel = gdb.lookup_type("kern_core::Kernel<kern_hal::pc::Pc>")
        once = gdb.parse_and_eval("aurora::boot::KERNEL")
        self.k = once["data"].address.cast(kernel.pointer()).dereference()
        block = kernel_field_target(plain_table(self.k["cpus"])["base"])
        self.cpus = table(self.k["cpus"], block)
        self.names = {}
        self.objects = []
        self.counts = {}
        self.trees = set()
        self.walk()

    # -- naming --

    def name(self, address):
        return "-" if address == 0 else self.names.get(address, "?")

    def member_grants(self, record):
        w = self.words
        others = record >> w.member_rights_shift & (w.member_no_send >> w.member_rights_shift) - 1
        rights = others << 1 | (0 if record & w.member_no_send else 1)
        return "%x %x" % (rights, record & (1 << w.member_rights_shift) - 1)

    def add(self, kind, address):
        if address == 0 or address in self.names:
            return
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.names[address] = "%s%d" % (KINDS[kind][1], self.counts[kind])
        self.objects.append((kind, address))

    def walk(self):
        self.add("Process", number(self.k["first"]))
        roots = self.k["roots"]["__0"]
        for root in range(roots.type.range()[1] + 1):
            process = number(roots[root]["processes"])
            walked = 0
            while process and walked < LIST_MAX:
                walked += 1
                self.add("Process", process)
                process = read(at(KINDS["Process"][0], process), "next")
        done = 0
        while done < len(self.objects):
            self.lead_on(*self.objects[done])
            done += 1

    def lead_on(self, kind, address):
        value = at(KINDS[kind][0], address)
        if kind == "Untyped":
            # CNodes that nobody refers to, and that must be emptied.
            self.add("CNode", number(value["zombies"]))
        elif kind == "CNode":
            self.add("CNode", read(value, "ring.next"))
            for slot in table(value["slots"], SLOT):
                self.add_slot(slot)
        elif kind == "Task":
            self.add("Process", read(value, "hot.value.process"))
        elif kind == "Process":
            self.add("CNode", number(value["cnode"]))
            self.add("VSpace", number(value["vspace"]))
            self.add("EventPool", number(value["pool"]))
            for entry in table(value["tasks"], "kern_base::process::TaskNumber"):
                self.add("Task", number(entry["task"]))

    def add_slot(self, slot):
        kind, address = self.target(slot)
        if kind is None or address in self.trees:
            return
        for member in self.tree(slot):
            kind, address = self.target(member)
            if kind is not None:
                self.add(kind, address)
                self.trees.add(address)

    def target(self, holder, field="word"):
        word = number(holder[field])
        kind = self.types.get(self.words.object_type(word))
        return (kind, self.words.address(word)) if kind in KINDS else (None, 0)

    def tree(self, slot):
        """All slots of a derivation tree, in its order."""
        for _ in range(LIST_MAX):
            previous = number(slot["prev"])
            if not previous:
                break
            slot = at(SLOT, previous)
        for _ in range(LIST_MAX):
            yield slot
            following = number(slot["next"])
            if not following:
                return
            slot = at(SLOT, following)

    def of_kind(self, *kinds):
        for kind, address in self.objects:
            if kind in kinds:
                yield self.name(address), at(KINDS[kind][0], address)

    def find(self, name):
        for kind, address in self.objects:
            if self.names[address] == name:
                return kind, at(KINDS[kind][0], address)
        raise gdb.GdbError("no object is called %s: `aurora objects` lists all" % name)

    # -- lists --

    def queue(self, cpu):
        """Who waits for a CPU: (priority, SchedContext), next first."""
        queue = follow(cpu, "own.sched.queue")
        links = "hot.value.state.links"
        front = number(queue["front"])
        if front:
            yield read(at(TIME, front), links + ".place") - 1, front
        for priority in range(255, -1, -1):
            time = read(queue["classes"][priority], "first")
            for _ in range(LIST_MAX):
                if not time:
                    break
                yield priority, time
                time = read(at(TIME, time), links + ".next")

    def waiting(self, queue):
        """Tasks of a BlockQueue: (priority, task)."""
        task = number(queue["__0"]["first"])
        for _ in range(LIST_MAX):
            if not task:
                return
            links = follow(at(TASK, task), "msg.value.queue")
            yield number(links["priority"]), task
            task = number(links["next"])

    def mail(self, cpu):
        """What is in a mailbox, oldest first: the addresses of nodes."""
        mailbox = cpu["mailbox"]
        node_type = kernel_field_target_of_atomic(mailbox["head"])
        # What was set aside is older than what is queued.
        node = read(mailbox, "sorted.first")
        for _ in range(LIST_MAX):
            if not node:
                break
            yield at(node_type, node)
            node = read(at(node_type, node), "next")
        node, newest = number(mailbox["first"]), number(mailbox["head"])
        if newest and not node:
            yield None
        for _ in range(LIST_MAX):
            if not node:
                return
            value = at(node_type, node)
            yield value
            following = number(value["next"])
            if not following and node != newest:
                yield None
            node = following

    def node_owner(self, node):
        """Of the objects that are known: whose node it is, and which."""
        address = int(node.address)
        for name, task in self.of_kind("Task"):
            if address == int(task["msg_node"].address):
                return name, "message"
            if address == int(follow(task, "ctl.node").address):
                return name, "control"
        for name, note in self.of_kind("Notification"):
            if address == int(follow(note, "remote.node").address):
                return name, "bits"
        return "?", "grace"


def kernel_field_target(pointer):
    """The name of the type that a pointer points to."""
    return pointer.type.strip_typedefs().target().name


def kernel_field_target_of_atomic(atomic):
    """The same of an atomic pointer, which is an Atomic<*mut T> in later compilers."""
    return re.search(r"Atomic(?:Ptr)?<(?:\*mut )?(.*)>$", atomic.type.strip_typedefs().name).group(1)


# --- lines --------------------------------------------------------------------------------------------------

def listed(items):
    return "[" + " ".join(items) + "]"


def header_words(value):
    return ["refs=%d" % read(value, "header.refs")]


def cpu_line(k, cpu):
    own = cpu["own"]
    words = ["cpu=%d" % number(cpu["id"])]
    if read(cpu, "mailbox.head"):
        words.append("mail")
    words += ["runs=" + k.name(read(own, "hot.current")), "with=" + k.name(read(own, "sched.current"))]
    words.append("in=" + k.name(read(cpu, "shared.vspace")))
    queued = ["%x:%s" % (priority, k.name(time)) for priority, time in k.queue(cpu)]
    words.append("queued=" + listed(queued))
    return words


def task_line(k, name, task):
    w, hot = k.words, follow(task, "hot.value")
    word = number(hot["word"])
    state = word & 0xff & ~w.state_plain
    words = [name] + header_words(task)
    words += ["id=%x" % number(task["id"]), "home=%d" % read(task, "hot.home")]
    state_name = variant("kern_base::task::state::State", state)
    words.append("state=%s#%d" % (state_name, word >> w.state_tag_shift))
    words.append("on=%d" % ((word & w.state_home_mask) >> w.state_home_shift))
    flags = word >> w.state_flags_shift & 0xff
    words += ["vector"] if flags & w.flag_vector else []
    words += ["suspended"] if flags & w.flag_suspended else []
    words.append("pending=%d" % number(hot["pending"]))
    for key, field in [("process", "process"), ("own-time", "time.own"), ("caller", "caller")]:
        words.append("%s=%s" % (key, k.name(read(hot, field))))
    senders = ["%x:%s" % (priority, k.name(other)) for priority, other in k.waiting(hot["callers"])]
    words.append("senders=" + listed(senders))
    posters = ["%x:%s" % (priority, k.name(other)) for priority, other in k.waiting(hot["posters"])]
    words.append("posters=" + listed(posters))
    words += ["bound=" + k.name(number(hot["bound"])), "waits-for=" + k.name(number(hot["waits_for"]))]
    words.append("callee=" + k.name(read(task, "msg.value.callee")))
    return words


def time_line(k, name, time):
    hot = follow(time, "hot.value")
    words = [name] + header_words(time) + ["priority=%d" % (read(hot, "state.rank") - 1)]
    words += ["with=" + k.name(number(hot["task"])), "of=" + k.name(number(hot["owner"]))]
    place = read(hot, "state.links.place")
    return words + (["queued=%d" % (place - 1)] if place else [])


def control_line(k, name, control):
    return [name] + header_words(control) + ["bound=%d" % number(control["bound"])]


def note_line(k, name, note):
    hot = follow(note, "hot.value")
    words = [name] + header_words(note) + ["remote=%x" % read(note, "remote.bits")]
    words += ["bits=%x" % number(hot["bits"])]
    return words + ["waiter=" + k.name(number(hot["waiter"])), "bound=" + k.name(number(hot["bound"]))]


def reply_line(k, name, reply):
    hot = follow(reply, "hot.value")
    links = ["%s=%s" % (key, k.name(number(hot[key]))) for key in ("caller", "server", "next", "prev")]
    return [name] + header_words(reply) + links


def pool_line(k, name, pool):
    reserved = number(pool["reserved"]["__0"])
    words = [name] + header_words(pool) + ["log2=%d" % number(pool["cells_log2"])]
    words.append("reserved=%d" % (reserved & ~(1 << 63)))
    if reserved >> 63:
        words.append("closed")
    _, reader = k.target(pool["reader"])
    words += ["of=" + k.name(number(pool["process"])), "reader=" + k.name(reader or 0)]
    return words + ["bits=%x" % number(pool["bits"])]


def group_line(k, name, group):
    places = table(group["memberships"], "kern_base::group::Membership")
    members = ["%x:%s %s" % (index, k.name(number(place["process"])), k.member_grants(number(record)))
               for index, (record, place) in enumerate(zip(table(group["members"], member_type(group)), places))
               if number(record)]
    exposed = []
    for index, exposure in enumerate(table(group["exposures"], "kern_base::group::Exposure")):
        kind, address = k.target(exposure["slot"])
        first, part_of = number(exposure["per_cpu"]), number(exposure["part_of"])
        if kind is None and not first and not part_of:
            continue
        owner = " owner=%x" % number(exposure["owner"])
        text = "%x:" % index + (" part-of=%d" % (part_of - 1) if part_of else "")
        text += " per-cpu=%d%s" % (first - 1, owner) if first else ""
        if kind is not None:
            tag = number(exposure["tag"]) >> k.words.state_tag_shift
            text += "%s tag=%x%s" % (k.name(address), tag, owner)
        exposed.append(text)
    return [name] + header_words(group) + ["members=" + listed(members), "exposed=" + listed(exposed)]


def member_type(group):
    return kernel_field_target(plain_table(group["members"])["base"])


def process_line(k, name, process):
    words = [name] + header_words(process)
    words += ["cnode=" + k.name(number(process["cnode"])), "vspace=" + k.name(number(process["vspace"]))]
    words.append("pool=" + k.name(number(process["pool"])))
    tasks = []
    for index, entry in enumerate(table(process["tasks"], "kern_base::process::TaskNumber")):
        task = number(entry["task"])
        if task:
            tasks.append("%x:%s" % (index, k.name(task)))
    return words + ["tasks=" + listed(tasks)]


def vspace_line(k, name, vspace):
    words = [name] + header_words(vspace) + ["of=" + k.name(number(vspace["process"]))]
    words += ["tables=%d" % number(vspace["used"]), "generation=%d" % number(vspace["generation"])]
    return words + ["pages=" + listed(space_pages(k, vspace))]


def frame_info(k, address):
    """What the frame table has of a physical address."""
    frames = k.k["frames"]["__0"]
    for index in range(frames.type.range()[1] + 1):
        infos = frames[index]["infos"]
        place = (address >> 12) - number(frames[index]["first"])
        if 0 <= place < number(infos["len"]):
            return at(INFO, number(infos["base"]) + place * gdb.lookup_type(INFO).sizeof)
    return None


def space_pages(k, vspace):
    """What the tables of an address space map, as the text of a state has it."""
    pages, base = [], read(vspace, "tables.base")
    for table_number in range(1, number(vspace["used"])):
        note = read(frame_info(k, base + table_number * 4096), "note")
        level, first = note & k.words.table_level_mask, note & ~k.words.table_level_mask
        for index, entry in enumerate(table_entries(k, base + table_number * 4096)):
            if not entry & PRESENT or (level != 1 and not entry & LARGE):
                continue
            access = 2 if not entry & NO_EXECUTE else 1 if entry & WRITE else 0
            text = "%x:" % (first + (index << 12 + 9 * (level - 1)) | access)
            info = None if entry & k.words.page_plain else frame_info(k, entry & FRAME)
            kind, frame = k.target(info, "owner") if info is not None else (None, 0)
            if kind == "Frame":
                value = at(KINDS[kind][0], frame)
                page = (entry & FRAME) - read(value, "memory.base") >> number(value["log2"])
                text += "%s+%d" % (k.name(frame), page)
            pages.append(text)
    return pages


def slot_line(k, slot):
    word, meta = number(slot["word"]), number(slot["meta"])
    badge = meta & (1 << k.words.badge_bits) - 1
    return ["depth=%d" % (meta >> k.words.badge_bits & 0xff), k.name(k.words.address(word)),
            "rights=%x" % k.words.rights(word), "badge=%x" % badge]


def plain_line(_, name, value):
    return [name] + header_words(value)


LINES = {
    "Task": task_line, "SchedContext": time_line, "SchedControl": control_line,
    "Notification": note_line, "Reply": reply_line,
    "Group": group_line, "EventPool": pool_line, "Process": process_line, "VSpace": vspace_line,
}


# --- commands -----------------------------------------------------------------------------------------------

def say(words):
    gdb.write(" ".join(words) + "\n")


def show(k, *kinds):
    for kind, address in k.objects:
        if kind in kinds:
            say(LINES.get(kind, plain_line)(k, k.name(address), at(KINDS[kind][0], address)))


def cmd_cpus(k, _):
    """CPUs: who runs, with whose time, in which address space, who is queued"""
    for cpu in k.cpus:
        say(cpu_line(k, cpu))


def cmd_queues(k, _):
    """run queues, the next first, with tasks"""
    for cpu in k.cpus:
        say(["cpu=%d" % number(cpu["id"])])
        for priority, time in k.queue(cpu):
            task = read(at(TIME, time), "hot.value.task")
            say(["  priority=%d" % priority, k.name(time), "with=" + k.name(task)])


def cmd_mailboxes(k, _):
    """mailboxes: what is in them, oldest first, and who is idle"""
    for cpu in k.cpus:
        mailbox = cpu["mailbox"]
        idle = {0: "running"}
        for field in gdb.lookup_type("smp::mailbox::Idle").fields():
            idle[field.enumval] = "idle-" + field.name.split("::")[-1].lower()
        say(["cpu=%d" % number(cpu["id"]), idle.get(number(mailbox["idle"]), "?")])
        for node in k.mail(cpu):
            if node is None:
                say(["  (a producer stands between exchange and link)"])
                continue
            name, what = k.node_owner(node)
            say(["  %s of %s" % (what, name)])


def cmd_tasks(k, _):
    """tasks: state, home, callers, queues"""
    show(k, "Task")


def cmd_times(k, _):
    """SchedContexts: priority, who has them"""
    show(k, "SchedContext")


def cmd_notes(k, _):
    """Notifications and Replies"""
    show(k, "Notification", "Reply")


def cmd_groups(k, _):
    """groups: members and exposures"""
    show(k, "Group")


def cmd_processes(k, _):
    """processes with their tasks"""
    show(k, "Process")


def cmd_objects(k, _):
    """all objects"""
    show(k, *KINDS)


def cmd_caps(k, argument):
    """the capability space of a process, as `caps process2`; of all without an argument"""
    if argument and k.find(argument)[0] != "Process":
        raise gdb.GdbError("%s is no process: `aurora processes` lists them" % argument)
    for name, process in k.of_kind("Process"):
        if argument and name != argument:
            continue
        if not number(process["cnode"]):
            say([name, "cnode=" + k.name(0)])
        for address, cnode in cspace(process):
            say([name, "cnode=" + k.name(address)])
            for index, slot in enumerate(table(cnode["slots"], SLOT)):
                if k.target(slot)[0] is not None:
                    say(["  at=%d" % index] + slot_line(k, slot))


def cspace(process):
    """The tables of a process's CSpace, with their addresses, in order."""
    address = number(process["cnode"])
    while address:
        cnode = at(KINDS["CNode"][0], address)
        yield address, cnode
        address = number(cnode["more"])


def cmd_trees(k, _):
    """derivation trees, slot by slot"""
    for _, cnode in k.of_kind("CNode"):
        for slot in table(cnode["slots"], SLOT):
            if k.target(slot)[0] is not None and not number(slot["prev"]):
                say(["tree"])
                for member in k.tree(slot):
                    say(slot_line(k, member))


def cmd_vspaces(k, _):
    """address spaces with their mappings"""
    show(k, "VSpace")


def table_entries(k, frame):
    memory = gdb.selected_inferior().read_memory(k.words.fast_map + frame, 4096)
    return [int.from_bytes(bytes(memory[at:at + 8]), "little") for at in range(0, 4096, 8)]


def walk_tables(k, frame, level, base):
    """Mappings below a table, as the processor reads them: (address, entry, level)."""
    for index, entry in enumerate(table_entries(k, frame)):
        address = base | index << (12 + 9 * (level - 1))
        if not entry & PRESENT:
            continue
        if level == 1 or (level < 4 and entry & LARGE):
            yield address, entry, level
        else:
            yield from walk_tables(k, entry & FRAME, level - 1, address)


def cmd_pages(k, argument):
    """page tables of an address space, as the processor reads them: `pages vspace1`"""
    if not argument:
        raise gdb.GdbError("which one? `aurora vspaces` lists them; then: aurora pages vspace1")
    kind, vspace = k.find(argument)
    if kind != "VSpace":
        raise gdb.GdbError("%s is no address space: `aurora vspaces` lists them" % argument)
    root = number(vspace["cr3"]) & FRAME
    for index, entry in enumerate(table_entries(k, root)[:256]):
        if not entry & PRESENT:
            continue
        for address, leaf, level in walk_tables(k, entry & FRAME, 3, index << 39):
            may = "r" + ("w" if leaf & WRITE else "-") + ("-" if leaf & NO_EXECUTE else "x")
            size = {1: "4K", 2: "2M", 3: "1G"}[level]
            say(["%x" % address, "to=%x" % (leaf & FRAME), size, may, "" if leaf & USER else "kernel"])


def announced(k):
    """Addresses of all nodes that are in a mailbox."""
    return {int(node.address) for cpu in k.cpus for node in k.mail(cpu) if node is not None}


def cmd_check(k, _):
    """bits that are up with nobody on the way to them (or a CPU that has raised them is about to push)"""
    wrong, queued = 0, announced(k)
    bits = [(name, task["ctl"]) for name, task in k.of_kind("Task")]
    bits += [(name, note["remote"]) for name, note in k.of_kind("Notification")]
    for name, coalesced in bits:
        node = coalesced["node"]
        if number(coalesced["bits"]) and int(node.address) not in queued:
            free = number(node["owner"]) == k.words.node_free
            wrong += free
            state = "nobody will look" if free else "cpu%d has the node" % number(node["owner"])
            say(["lost:" if free else "under way:", name, "bits=%x" % number(coalesced["bits"]), "are up;", state])
    say(["check: %d wrong" % wrong])


def interrupted():
    """Where the selected CPU was when an NMI stopped it, and its callers by frame pointers; where it is, if none did."""
    frame, here = gdb.newest_frame(), []
    while frame is not None and len(here) < DEPTH:
        if (frame.name() or "").endswith("::kernel_trap"):
            stopped = frame.read_var("frame")
            return [int(stopped["rip"])] + callers(int(stopped["rbp"]))
        if frame.type() != gdb.INLINE_FRAME:
            here.append(frame.pc())
        frame = frame.older()
    return here


def callers(base):
    """Return addresses up from a frame pointer, as long as they are the kernel's."""
    inferior, found = gdb.selected_inferior(), []
    while len(found) < DEPTH:
        try:
            pair = bytes(inferior.read_memory(base, 16))
        except gdb.MemoryError:
            break
        base, pc = (int.from_bytes(pair[at:at + 8], "little") for at in (0, 8))
        if gdb.block_for_pc(pc) is None:
            break
        found.append(pc)
    return found


def inlined_at(pc):
    """The functions that an address is in, the innermost first."""
    names, block = [], gdb.block_for_pc(pc)
    while block is not None and not block.is_global and not block.is_static:
        if block.function is not None:
            names.append(block.function.print_name)
        block = block.superblock
    return names


def cmd_where(_, __):
    """where each CPU executes, or did when the stop's NMI came"""
    selected = gdb.selected_thread()
    for thread in sorted(gdb.selected_inferior().threads(), key=lambda thread: thread.num):
        thread.switch()
        say(["cpu=%d" % (thread.num - 1)])
        for depth, pc in enumerate(interrupted()):
            # A return address is behind the call.
            pc -= depth > 0
            line = gdb.find_pc_line(pc)
            place = "%s:%d" % (line.symtab.filename, line.line) if line.symtab else "?"
            say(["  %x" % pc, place, " <- ".join(inlined_at(pc)[:3])])
    selected.switch()


def cmd_until(_, argument):
    """whether something is so: a Rust expression that is not 0, or HELPER ~ REGEX, a line that a helper prints"""
    helper, tilde, pattern = argument.partition(" ~ ")
    try:
        if tilde:
            said = gdb.execute("aurora " + helper, to_string=True).splitlines()
            found = [line for line in said if re.search(pattern, line)]
        else:
            value = gdb.parse_and_eval(argument)
            said, found = [str(value)], [str(value)] if int(value) else []
    except (gdb.error, re.error) as why:
        say(["until: %s" % why])
        return
    say(["until: yes" if found else "until: no"])
    for line in found or (said if not tilde else []):
        say([" ", line])


def cmd_help(_, __):
    """this"""
    for name, command in sorted(COMMANDS.items()):
        gdb.write("aurora %-10s %s\n" % (name, command.__doc__))


COMMANDS = {name[4:]: value for name, value in list(globals().items()) if name.startswith("cmd_")}
WITHOUT_KERNEL = {"help", "until", "where"}


class Aurora(gdb.Command):
    """Aurora's kernel by name: `aurora help`."""

    def __init__(self):
        super().__init__("aurora", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        name, _, rest = argument.strip().partition(" ")
        command = COMMANDS.get(name or "help")
        if command is None:
            raise gdb.GdbError(f"no helper {name}; aurora help lists them")
        # Names are Rust's wherever the processor stands just now.
        language = gdb.parameter("language")
        gdb.execute("set language rust", to_string=True)
        try:
            command(Kernel() if name and name not in WITHOUT_KERNEL else None, rest.strip())
        finally:
            gdb.execute("set language " + language, to_string=True)

    def complete(self, text, word):
        return sorted(name for name in COMMANDS if name.startswith(word))


Aurora()
