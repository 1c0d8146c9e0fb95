# What a pager of a system asks its parent for: the address spaces of its clients, which the description names. The parent
# knows the pager by the custom bits of its member record.
#
# The pager knows a client by the custom bits of the client's member record: its number in the low byte, and in the high
# byte how often its process has been started, modulo 256. A request is four words, so that it travels in registers.
@0xe7b40d6f92a3c518;

const numberMax :UInt16 = 64;
# Clients of one pager have the numbers from 1 to this.
const framesMin :UInt32 = 4;
# Frames that a client needs: an instruction may touch two pages while a third is copied.

struct Request {
  # Give the address space of a client.
  client @0 :UInt16;
  # Its custom bits.
  slot @1 :UInt32;
  # An empty slot of the pager's, for the VSpace.
}

struct Answer {
  union {
    refused @0 :Refusal;
    give :group {
      # What the client may have at a time, in pages.
      frames @1 :UInt32;
      pinned @2 :UInt32;
      # Frames that stay in memory, among these.
      pages @3 :UInt32;
      # Pages of all its regions, in memory or not.
    }
  }
}

enum Refusal {
  badRequest @0;
  # No such request.
  unknown @1;
  # The pager has no such client, or that is not the one that runs.
  badSlot @2;
  # The slot is not empty, or there is no such slot.
  failed @3;
  # The kernel refused for another reason.
}
