# To switch the machine off, or to reset it. The description says who may: it makes them members of the driver's group.
@0xa6d3f0815b2c497e;

struct Request {
  union {
    off @0 :Void;
    # Switch the machine off.
    reset @1 :Void;
    # Reset it.
  }
}

struct Answer {
  # If it is done there is no answer.
  union {
    refused @0 :Refusal;
    off @1 :Void;
    reset @2 :Void;
  }
}

enum Refusal {
  badRequest @0;
  # No such request.
  noWay @1;
  # Firmware's tables name no register for this, or no values.
  notHandedOver @2;
  # Firmware does not hand over its registers.
  stillOn @3;
  # The machine goes on all the same.
}
