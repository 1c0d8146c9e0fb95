# A system, as process 1 reads it: its processes, groups, devices and labels. The host tool compiles `systems/NAME.toml` into
# one message, the file `systems/NAME` of the boot archive, and process 1 reads the message in place.
#
# All names are resolved: processes, groups and devices name each other by their places in the lists.
@0xd2f1a0c47b8e6395;

const none :UInt16 = 65535;
# The place of no process.
const memoryRest :UInt8 = 255;
# `Process.memory`: everything that the other processes and process 1 do not take.

# Limits, which the host tool checks.
const processesMax :UInt16 = 128;
const groupsMax :UInt16 = 128;
const devicesMax :UInt16 = 64;
const usesMax :UInt16 = 64;
# Groups that one process uses.
const cpusMax :UInt16 = 1024;
const priorityMax :UInt8 = 249;
# The priority of process 1 is one more.
const tasksMax :UInt32 = 4096;
const slotsMin :UInt32 = 128;
const slotsMax :UInt32 = 65536;
const stackPagesMax :UInt16 = 14;

struct System {
  name @0 :Text;
  about @1 :Text;
  verdict @2 :UInt16 = 65535;
  # The process whose verdict is the machine's, or `none`: then the machine runs until it is told to end.
  labels @3 :List(Label);
  rules @4 :List(Rule);
  # What they do not name is allowed.
  devices @5 :List(Device);
  groups @6 :List(Group);
  processes @7 :List(Process);
  # In the order in which they start: each behind those that it needs.
}

struct Label {
  name @0 :Text;
  number @1 :UInt8;
}

struct Rule {
  # What subjects of one label may do with objects of another, as LabelRule takes it.
  subjects @0 :UInt8;
  objects @1 :UInt8;
  may @2 :UInt8;
}

struct Device {
  name @0 :Text;
  about @1 :Text;
  ports @2 :List(Ports);
  memory @3 :List(Memory);
  bus :union {
    fixed @4 :Void;
    # It is where `ports` and `memory` say.
    pci :group {
      # It is found on the bus by these numbers, and has the memory that the bus tells.
      vendor @5 :UInt16;
      device @6 :UInt16;
      writeCombining @13 :Bool;
      # What the bus calls prefetchable is mapped write-combining.
    }
    power @12 :Void;
    # It has the ports by which the machine is switched off and reset, and the table of firmware's methods.
  }
  interrupt :union {
    none @7 :Void;
    line :group {
      number @8 :UInt16;
      level @9 :Bool;
      # Else by edge.
      low @10 :Bool;
      # Active low, else active high.
    }
    msi @11 :Void;
  }
}

struct Ports {
  first @0 :UInt16;
  last @1 :UInt16;
}

struct Memory {
  at @0 :UInt64;
  pages @1 :UInt32;
  write @2 :Bool;
  # Else it may only be read.
  writeCombining @3 :Bool;
  # Else it is uncached.
}

struct Group {
  name @0 :Text;
  about @1 :Text;
  exposes @2 :List(UInt16);
  # The processes whose first tasks are exposed, by the index of the exposure.
  members @3 :List(Member);
}

struct Member {
  process @0 :UInt16;
  custom @1 :UInt16;
  rights @2 :UInt32;
  # As abi's Rights.
}

struct Process {
  name @0 :Text;
  about @1 :Text;
  program @2 :Text;
  options @3 :Text;
  # Its whole command line: the system's options, then its own.
  priority @4 :UInt8;
  ceiling @5 :UInt8;
  label @6 :UInt8;
  memory @7 :UInt8;
  # Its Untyped: the base-2 logarithm of the bytes, 0 for none, or `memoryRest`.
  cpu @8 :UInt16;
  stackPages @9 :UInt16;
  cpus @10 :List(UInt64);
  # CPUs as bits, 64 a word; an empty list is all CPUs.
  slice @11 :UInt64;
  # Microseconds, as all times here.
  budget @12 :UInt64;
  # Time in each period; 0: it has no budget.
  period @13 :UInt64;
  room @14 :UInt32;
  # Ten-thousandths of a CPU for all budgets that it sets, as SchedAllow takes it; 0: without limit, or hardly any if it
  # has a budget.
  tasks @15 :UInt32;
  slots @16 :UInt32;
  machine @17 :UInt32;
  # Rights to the Machine, as abi's Rights.
  vector @18 :Bool;
  archive @19 :Bool;
  # It is given the whole boot archive in place of its own file.
  devices @20 :List(UInt16);
  uses @21 :List(Use);
  needs @22 :List(UInt16);
  # The processes that start before it: those that its description names, and the servers of the groups that it uses.
  serves @23 :List(Serves);
  restart :group {
    when @24 :When;
    wait @25 :UInt64;
    # Before the first restart; it doubles with each, up to `most`.
    most @26 :UInt64;
    limit @27 :UInt32;
    # More ends than so many `within` that time: the process stays ended.
    within @28 :UInt64;
  }
  manages @29 :Bool;
  # It may ask which processes there are, and how they are.
  controls @30 :List(UInt16);
  # The processes that it may start and end.
  heartbeat @31 :UInt64;
  # The longest time between two signs of life, in microseconds; 0: it gives none.
  whenAsked @32 :Bool;
  # It is started when a shell asks, and not with the system.
  schedules @33 :List(UInt16);
  # The processes whose first tasks it places on CPUs.
  pager :group {
    # Who gives it pages on demand.
    group @34 :UInt16 = 65535;
    # The group of a pager and its clients, in which the process's custom bits are its number as a client; or `none`.
    frames @35 :UInt32;
    # What it may have at a time, in pages.
    pinned @36 :UInt32;
    # Frames that stay in memory, among these.
    pages @37 :UInt32;
    # Pages of all its regions, in memory or not.
  }
}

struct Use {
  # The group that a name means to the process.
  name @0 :Text;
  group @1 :UInt16;
}

struct Serves {
  # A group in which the process's first task is exposed.
  group @0 :UInt16;
  exposure @1 :UInt16;
}

enum When {
  never @0;
  failure @1;
  always @2;
}
