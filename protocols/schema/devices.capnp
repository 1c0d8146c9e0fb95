# What a driver asks its parent for: interrupts, I/O ports and memory of the devices that its description gives it. The
# parent knows it by the custom bits of its member record. A device is named by its place in the description's list of the
# process's devices.
#
# A request is four words, so that it travels in registers.
@0xb1c9e2740d5f8a36;

struct Request {
  union {
    interrupt :group {
      # Get the handler of the device's interrupt.
      device @0 :UInt16;
      slot @1 :UInt32;
      # An empty slot of the process's, for the IrqHandler.
    }
    ports :group {
      # Get a range of the device's I/O ports.
      device @2 :UInt16;
      range @3 :UInt16;
      # Its place in the list of the device's ranges.
      slot @4 :UInt32;
      # An empty slot of the process's, for the IoPort.
    }
    memory :group {
      # Find a range of the device's memory, of which a view can be had.
      device @5 :UInt16;
      range @6 :UInt16;
    }
    send :group {
      # Make a device that interrupts by messages (MSI) send them to where its handler is bound. A device with a line does so
      # without being asked.
      device @7 :UInt16;
    }
  }
}

struct Answer {
  union {
    refused @0 :Refusal;
    interrupt @1 :Void;
    ports :group {
      first @2 :UInt16;
      last @3 :UInt16;
    }
    memory :group {
      first @4 :UInt64;
      # Number of the first physical page.
      pages @5 :UInt32;
      write @6 :Bool;
      # Whether it may be written.
    }
    send @7 :Void;
  }
}

enum Refusal {
  badRequest @0;
  # No such request.
  notAllowed @1;
  # The process does not drive so many devices, or the device has no such thing.
  badSlot @2;
  # The slot is not empty, or there is no such slot.
  inUse @3;
  # Somebody has the interrupt line: the process itself, for example.
  full @4;
  # The process's memory is used up.
  refused @5;
  # The kernel refused for another reason.
  notBound @6;
  # The device's handler is not bound yet.
}
