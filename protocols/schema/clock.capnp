# The time of day, and how fast the CPU's counter runs by another clock.
@0xd07b41c95ae8263f;

struct Request {
  union {
    now @0 :Void;
    # Tell the time.
    rate @1 :Void;
    # Tell how fast the CPU's counter runs.
  }
}

struct Answer {
  union {
    refused @0 :Refusal;
    now :group {
      micros @1 :UInt64;
      # Microseconds since the beginning of 1970 (UTC), without leap seconds. Later answers of the same process are
      # never smaller.
    }
    rate :group {
      hz @2 :UInt64;
      # TSC ticks in a second of the other clock (HPET), since the driver began.
      micros @3 :UInt64;
      # How long that is.
    }
  }
}

enum Refusal {
  badRequest @0;
  # No such request.
  notSet @1;
  # The clock does not show a date.
  noOther @2;
  # There is no other clock, or it has not been watched long enough.
}
