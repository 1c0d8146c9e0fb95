# What clients ask of their pager, and who started it and admits them: the manager. Who asks is told by the custom bits of
# the caller's member record: 0 is the manager, others are clients.
#
# A request is four words, so that it travels in registers, unless it has something of another size.
@0xfb28eadfa11042ae;

struct Request {
  union {
    anonymous :group {
      # A region of zeroes.
      pages @0 :UInt32;
      access @1 :Access;
    }
    open :group {
      # Find a file of the boot archive. The manager may ask this, too.
      name @2 :Text;
    }
    file :group {
      # A region with a file's bytes, and zeroes behind them; a writable one is the client's own.
      bytes @3 :Bytes;
      pages @4 :UInt32;
      access @5 :Access;
    }
    cloneOf :group {
      # A region with what another one has now; pages are copied when one side writes.
      address @6 :UInt64;
    }
    share :group {
      # Let another client attach a region.
      address @7 :UInt64;
      with @8 :UInt16;
      access @9 :Access;
    }
    attach :group {
      # A view of a region that somebody shares.
      key @10 :UInt64;
    }
    giveBack :group {
      # Give a region back.
      address @11 :UInt64;
    }
    pin :group {
      # Bring pages in and keep them.
      address @12 :UInt64;
      pages @13 :UInt32;
    }
    unpin :group {
      # Let them go again.
      address @14 :UInt64;
      pages @15 :UInt32;
    }
    onError :group {
      # Where the next fault that cannot be served is to continue, once, with its reason in RDI and the address in RSI;
      # 0: the process is torn down.
      handler @16 :UInt64;
    }
    account @17 :Void;
    # What the account holds.
    split :group {
      # Split off a part of the account, for another process: whatever that has counts here, too.
      limits @18 :Limits;
    }
    close :group {
      # End a part, and whatever was split off of it.
      part @19 :UInt16;
    }
    register :group {
      # Manager: admit a client, whose address space is in the pager's slot.
      client @20 :UInt16;
      limits @21 :Limits;
    }
    admit :group {
      # Manager: a process was made a client, by the number of a part.
      part @22 :UInt16;
      of @23 :UInt16;
      # The client that split it off.
    }
    forget :group {
      # Manager: a client is no more; its memory is free.
      client @24 :UInt16;
    }
    fate :group {
      # Manager: why a client was ended.
      client @25 :UInt16;
    }
    counts @26 :Void;
    # Manager: figures.
    place :group {
      # Manager: a region at a place in a client.
      client @27 :UInt16;
      access @28 :Access;
      pages @29 :UInt32;
      at @30 :Placement;
    }
  }
}

struct Answer {
  union {
    refused @0 :Refusal;
    anonymous :group {
      address @1 :UInt64;
    }
    open :group {
      file @2 :File;
    }
    file :group {
      address @3 :UInt64;
    }
    cloneOf :group {
      address @4 :UInt64;
    }
    share :group {
      key @5 :UInt64;
      # To attach it with.
    }
    attach :group {
      address @6 :UInt64;
      pages @7 :UInt32;
    }
    giveBack @8 :Void;
    pin @9 :Void;
    unpin @10 :Void;
    onError @11 :Void;
    account :group {
      account @12 :Account;
    }
    split :group {
      part @13 :UInt16;
      # Its number, by which the manager makes a process a client.
    }
    close @14 :Void;
    register @15 :Void;
    admit @16 :Void;
    forget @17 :Void;
    fate :group {
      fate @18 :Fate;
    }
    counts :group {
      counts @19 :Counts;
    }
    place @20 :Void;
  }
}

enum Access {
  read @0;
  write @1;
  execute @2;
}

enum Refusal {
  badRequest @0;
  # There is no such request, or an argument is out of range.
  notYou @1;
  # The caller is not registered, or may not ask this.
  noRegion @2;
  # No region is there.
  access @3;
  # The region does not allow this access.
  lost @4;
  # The paging store lost the page, or gave back something else.
  limit @5;
  # The account's limit.
  memory @6;
  # There is no memory, and the policy said no.
  ended @7;
  # The client was ended to make room.
  noFile @8;
  # No such file.
  notShared @9;
  # No such key, or it is not shared with the caller.
  occupied @10;
  # Something is mapped there that the pager did not map, or another region is there.
  noTables @11;
  # The address space has no page table left.
  gone @12;
  # The address space is no more.
  full @13;
  # The same client again, or more than there is room for.
  notMemory @14;
  # The fault is none of memory.
  noPager @15;
  # The pager could not be reached, or did not answer: no pager says this.
  closed @16;
  # The account was a part of one that closed it, or is no more.
}

struct Bytes {
  # Of a file.
  file @0 :UInt64;
  first @1 :UInt64;
  count @2 :UInt64;
}

struct Placement {
  address @0 :UInt64;
  bytes @1 :Bytes;
  # Left out: zeroes.
}

struct Limits {
  # What a client may hold: frames at a time, of these pinned, and pages of all its regions, in memory or not.
  frames @0 :UInt32;
  pinned @1 :UInt32;
  pages @2 :UInt32;
}

struct File {
  number @0 :UInt64;
  bytes @1 :UInt64;
}

struct Account {
  frames @0 :UInt64;
  # That it holds, and may hold.
  limit @1 :UInt64;
  pages @2 :UInt64;
  # Of its regions.
  faults @3 :UInt64;
}

struct Fate {
  ended @0 :Bool;
  reason @1 :Refusal;
  address @2 :UInt64;
  # Where it faulted then.
  faults @3 :UInt64;
}

struct Counts {
  faults @0 :UInt64;
  denied @1 :UInt64;
  # Faults taken, and those of them that were not served.
  zeroed @2 :UInt64;
  loaded @3 :UInt64;
  copied @4 :UInt64;
  # Pages made of zeroes, read from files, copied because one side wrote.
  puts @5 :UInt64;
  # Calls by which pages were put into the store.
  stored @6 :UInt64;
  fetched @7 :UInt64;
  dropped @8 :UInt64;
  # Pages put into the store and got back; pages given up whose contents were elsewhere, too.
  refused @9 :UInt64;
  lost @10 :UInt64;
  # What the store refused to take, and what it could not give back.
  asked @11 :UInt64;
  ended @12 :UInt64;
  # Times the policy was asked, and clients that it ended.
  noticed @13 :UInt64;
  # Clients that it noticed to be no more.
  spared @14 :UInt64;
  # Pages that were kept because they had been used.
  beside @15 :UInt64;
  # Pages that were mapped beside one that was wanted.
  frames @16 :UInt64;
  free @17 :UInt64;
  # Frames that there are, and that are free.
}
