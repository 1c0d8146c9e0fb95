# What a process asks by a name that its description gives it: a connection to the group that the name means. Its parent
# knows it by the custom bits of its member record.
@0xd6a1f0538e2c97b4;

struct Request {
  union {
    connect :group {
      # Become a member of the group. An earlier connection by this name ends. The answer comes when all servers of the
      # group run.
      name @0 :Text;
      slot @1 :UInt32;
      # An empty slot of the process's, for its capability of the group.
      dead @2 :UInt64;
      # The task of a server that the process knows to have died, or 0: it is to be started again before the answer comes.
    }
    leave :group {
      # End the connection.
      name @3 :Text;
    }
  }
}

struct Answer {
  union {
    refused @0 :Refusal;
    connect @1 :Void;
    leave @2 :Void;
  }
}

enum Refusal {
  badRequest @0;
  # No such request.
  unknown @1;
  # The process's description does not have this name.
  gone @2;
  # A server of the group has ended, and is not started again.
  badSlot @3;
  # The slot is not empty, or there is no such slot.
  busy @4;
  # Another task of the process waits for a connection.
  notConnected @5;
  # The process has no connection by this name.
  failed @6;
  # The kernel refused for another reason.
}
