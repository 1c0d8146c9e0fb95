# What a program says to its parent: that it is done, that one of its tasks panicked, that a task which it started is no
# more; and what it asks for: views of sensitive memory. The parent knows its child by the custom bits of its member record.
#
# A request is four words, so that it travels in registers: a panicking task has nothing else to rely on.
@0xc59d5138c148893c;

struct Request {
  union {
    done :group {
      # Finished: how many things passed, how many failed. It is not answered: the program is ended.
      passed @0 :UInt64;
      failed @1 :UInt64;
    }
    panicked :group {
      # A task panicked.
      task @2 :UInt64;
    }
    lost :group {
      # A task of a process that the program started is no more.
      task @3 :UInt64;
      address @4 :UInt64;
      reason @5 :UInt16;
      # Why its pager ended it, or 0.
    }
    view :group {
      # Lend a view.
      first @6 :UInt64;
      # Number of the first physical page.
      pages @7 :UInt32;
      slot @8 :UInt32;
      # An empty slot of the program's, for the frame.
      write @9 :Bool;
      dma @10 :Bool;
      shared @11 :Bool;
    }
    viewBack :group {
      # Take it back.
      first @12 :UInt64;
      pages @13 :UInt32;
    }
    alive @14 :Void;
    # A sign of life, which the program's description demands.
  }
}

struct Answer {
  union {
    refused @0 :Refusal;
    done @1 :Void;
    panicked @2 :Void;
    lost @3 :Void;
    view @4 :Void;
    viewBack @5 :Void;
    alive @6 :Void;
  }
}

enum Refusal {
  badRequest @0;
  # No such request; no pages, too many, or none that there could be; or to be shared and written.
  notAllowed @1;
  # The program's description does not have it.
  inUse @2;
  # Somebody has a page of it.
  noDevice @3;
  # It is memory, or the CPUs' interrupt controllers.
  full @4;
  # There are as many views as there can be, or as many holders of this one.
  badSlot @5;
  # The slot is not empty, or there is no such slot.
  pinned @6;
  # A page is pinned for a device.
  notHeld @7;
  # It is not the caller's.
  noKeeper @8;
  # The parent keeps no views.
  refused @9;
  # The kernel refused for another reason.
}
