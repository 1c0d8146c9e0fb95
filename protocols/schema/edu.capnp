# What the driver of edu, a device for teaching, does.
@0xa94c07e3b15d6f28;

const numberMax :UInt32 = 12;
# The factorial of this number has 32 bits.

struct Request {
  # Compute a factorial.
  number @0 :UInt32;
}

struct Answer {
  union {
    refused @0 :Refusal;
    factorial :group {
      value @1 :UInt32;
      micros @2 :UInt64;
      # How long the device took, in microseconds.
    }
  }
}

enum Refusal {
  badRequest @0;
  # No such request.
  tooLarge @1;
  # The factorial does not fit in the device's register.
  noAnswer @2;
  # The device has not interrupted in time.
}
