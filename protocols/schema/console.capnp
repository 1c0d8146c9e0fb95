# A line to a person: bytes both ways.
@0xe7a04b93d2c6158f;

const bytesMax :UInt16 = 448;
# Bytes of one request or answer.

struct Request {
  union {
    write :group {
      # Send bytes. The answer comes when all of them have been taken.
      bytes @0 :Data;
    }
    read :group {
      # Get what came, and wait until something comes.
      most @1 :UInt16;
      # So many bytes at most.
    }
  }
}

struct Answer {
  union {
    refused @0 :Refusal;
    write @1 :Void;
    read :group {
      bytes @2 :Data;
      lost @3 :UInt32;
      # Bytes that came and were lost before these.
    }
  }
}

enum Refusal {
  badRequest @0;
  # No such request, no bytes, or too many.
  busy @1;
  # As many calls wait as can.
}
