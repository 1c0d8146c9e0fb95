# What a log keeps: lines of other processes, which came as events (`user_rt::journal`).
@0xc8f04e61b7a25d93;

const bytesMax :UInt16 = 400;
# Bytes of a line.

struct Request {
  # Find a line.
  from @0 :UInt64;
  # The first line with this number, or a later one, that fits.
  last @1 :UInt32;
  # Not 0: of the last so many lines only.
  sender @2 :UInt16;
  # Of the member with these custom bits only, if `ofSender`.
  ofSender @3 :Bool;
  level @4 :UInt8;
  # Lines of this level, or more urgent ones.
}

struct Answer {
  union {
    refused @0 :Refusal;
    read :group {
      number @1 :UInt64;
      time @2 :UInt64;
      # When it came, in microseconds since the machine began to count.
      sender @3 :UInt16;
      # The custom bits of its sender.
      level @4 :UInt8;
      text @5 :Data;
    }
  }
}

enum Refusal {
  badRequest @0;
  # No such request.
  noMore @1;
  # There is no such line, or not yet.
}
