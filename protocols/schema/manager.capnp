# What a shell asks process 1: which processes there are, and to start, end or restart one. The description says which processes
# may ask, and which ones they may
# start and end. The parent knows who asks by the custom bits of its member record.
@0x9e52c17f38ad0b64;

struct Request {
  union {
    process :group {
      # Tell of a process, by its place in the order of the start.
      place @0 :UInt16;
    }
    group :group {
      # Tell of a group, by its place in the description.
      place @1 :UInt16;
    }
    device :group {
      # Tell of a device, by its place in the description.
      place @2 :UInt16;
    }
    machine @3 :Void;
    # Tell of the machine.
    kill :group {
      # End a process. Its description says whether it is started again.
      name @4 :Text;
    }
    restart :group {
      # End a process if it runs, and start it again soon, whatever its description says of restarts.
      name @5 :Text;
    }
    start :group {
      # Start a process that does not run and is not about to.
      name @6 :Text;
    }
  }
}

struct Answer {
  union {
    refused @0 :Refusal;
    process :group {
      process @1 :Process;
    }
    group :group {
      group @2 :Group;
    }
    device :group {
      device @3 :Device;
    }
    machine :group {
      memory @4 :UInt64;
      # Bytes that processes can be made of.
      leaked @7 :UInt64;
      # Objects that process 1 has made of its own memory since the system began: none.
    }
    kill @5 :Void;
    restart @6 :Void;
    start @8 :Void;
  }
}

struct Process {
  name @0 :Text;
  program @1 :Text;
  state @2 :State;
  starts @3 :UInt32;
  # How often it has been started.
  task @4 :UInt64;
  # The id of its first task, while it runs.
  priority @5 :UInt8;
  # That of its description.
  cpu @6 :UInt16;
  # Of its first task, when it starts.
  memory @7 :UInt64;
  # Bytes that it and everything of it take of the machine.
  used @8 :UInt64;
  # CPU time of its first task since its start, in microseconds.
  mayEnd @9 :Bool;
  # Whether the process that asks may start and end it.
}

enum State {
  runs @0;
  waits @1;
  # It has ended, and is started again soon.
  ended @2;
}

struct Group {
  name @0 :Text;
  servers @1 :List(UInt16);
  # Places of the processes that serve it.
  members @2 :List(UInt16);
  # Places of the processes that may become members.
  customs @3 :List(UInt16);
  # Their custom bits.
}

struct Device {
  name @0 :Text;
  driver @1 :UInt16;
  # Place of the process that drives it.
}

enum Refusal {
  badRequest @0;
  # No such request.
  notAllowed @1;
  # The description does not allow the process to ask, or to end that one.
  noSuch @2;
  # There is nothing at this place, or no process of this name.
  notRunning @3;
  # The process has ended already.
  tooLong @4;
  # The answer would not fit in a message.
  running @5;
  # The process runs, or is about to.
  once @6;
  # The process can be started only once: it has the verdict, or the rest of the memory.
  noPager @7;
  # Its pager has ended.
}
