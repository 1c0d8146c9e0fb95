# For tests: every kind of field, short messages and long ones, and a capability.
@0xf119d8ccfa8fb964;

struct Request {
  union {
    add :group {
      # Short: it travels in registers.
      left @0 :UInt32;
      right @1 :UInt32;
    }
    letter :group {
      # Of any length.
      letter @2 :Letter;
    }
    keep :group {
      # Carries a capability.
      what @3 :Capability;
    }
    nothing @4 :Void;
    fetch @5 :Void;
    # It is answered with a capability.
  }
}

struct Answer {
  union {
    refused @0 :Refusal;
    add :group {
      sum @1 :UInt32;
    }
    letter :group {
      digest @2 :Digest;
    }
    keep :group {
      used @3 :UInt64;
      # Bits that it was notified of, by that capability.
    }
    nothing @4 :Void;
    fetch :group {
      what @5 :Capability;
    }
  }
}

struct Digest {
  # What came: how many lines and bytes, and their sum.
  lines @0 :UInt32;
  bytes @1 :UInt64;
  sum @2 :UInt64;
  again @3 :UInt64;
  # The sum once more, when whoever sent it has had time to write there.
  place @4 :UInt64;
  # Address at which the attachment was read.
  denied @5 :UInt8;
  # What kept somebody from writing there: an error of the kernel's, or 0.
}

enum Refusal {
  badRequest @0;
  overflow @1;
}

enum Urgency {
  whenever @0;
  soon @1;
  now @2;
}

struct Letter {
  subject @0 :Text;
  urgency @1 :Urgency;
  lines @2 :List(Line);
  attachment @3 :Data;
  replies @4 :List(Letter);
  weights @5 :List(UInt16);
  signed @6 :Bool;
  offset @7 :Int32 = -1;
  enclosed @8 :Capability;
}

struct Line {
  number @0 :UInt32;
  text @1 :Text;
}
