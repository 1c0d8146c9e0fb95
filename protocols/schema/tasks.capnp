# What a scheduling policy of a system asks its parent for: the first tasks of the processes that its description says it
# schedules, and to be told when one of these starts or ends. The parent knows the policy by the custom bits of its member
# record.
#
# A request is four words, so that it travels in registers.
@0xf3c85a1e60d7b294;

const changedBit :UInt8 = 32;
# The bit of the Notification's word that says that a process has started or ended.

struct Request {
  union {
    give :group {
      # Give a task.
      place @0 :UInt16;
      # That of its process in the list of the description.
      task @1 :UInt32;
      sched @2 :UInt32;
      # Empty slots of the policy's, for the Task and its SchedContext.
    }
    bell :group {
      # Give the Notification that tells of changes.
      slot @3 :UInt32;
    }
  }
}

struct Answer {
  union {
    refused @0 :Refusal;
    give :group {
      # What its description says of its CPU time. Times are in microseconds.
      priority @1 :UInt8;
      mayMove @2 :Bool;
      # It may run on all CPUs.
      slice @3 :UInt64;
      budget @4 :UInt64;
      # 0: it has none.
      period @5 :UInt64;
    }
    bell @6 :Void;
  }
}

enum Refusal {
  badRequest @0;
  # No such request.
  notAllowed @1;
  # The description does not say that the process schedules so many others.
  notRunning @2;
  # The process does not run: it will be told when it does.
  badSlot @3;
  # A slot is not empty, or there is no such slot.
  full @4;
  # There is no memory for the Notification.
  failed @5;
  # The kernel refused for another reason.
}
