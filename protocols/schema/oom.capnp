# A pager asks an out-of-memory policy before it refuses memory.
@0xb95977e2f9aa5062;

struct Request {
  shortage @0 :Shortage;
  asker @1 :UInt16;
  # Who wants a frame: the whole account, where a part of it does.
  before @2 :UInt32;
  # Times it was asked for this one frame before.
  holders @3 :List(Holder);
  # Who holds frames: whole accounts with all their parts; the largest, if there are too many to name.
}

struct Answer {
  union {
    refused @0 :Refusal;
    advice :group {
      # What to do: no memory for the asker, a page of this client's away, or the end of this client. With an account go
      # its parts.
      union {
        refuse @1 :Void;
        evict @2 :UInt16;
        kill @3 :UInt16;
      }
    }
  }
}

enum Refusal {
  badRequest @0;
}

enum Shortage {
  limit @0;
  # Every frame that the client may hold is pinned, or cannot be put away.
  memory @1;
  # No frame of anybody's can be put away.
}

struct Holder {
  client @0 :UInt16;
  frames @1 :UInt32;
  pinned @2 :UInt32;
  limit @3 :UInt32;
}
