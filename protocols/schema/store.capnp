# A pager asks its paging store. Pages travel in the window, a frame that both have mapped. A pager is known by the
# custom bits of its member record; 0 is the manager.
@0x9d7cf5d62200cfee;

struct Request {
  union {
    put :group {
      # Keep pages of the window.
      pages @0 :UInt16;
      # How many, from its first on.
    }
    get :group {
      # Put the contents of a slot into the window's first page.
      slot @1 :UInt64;
    }
    free :group {
      # A slot is not needed any more.
      slot @2 :UInt64;
    }
    fail :group {
      # Manager: how it is to fail, for tests.
      how @3 :Faulty;
    }
    counts @4 :Void;
    # Manager: its figures.
    allow :group {
      # Manager: how many slots a pager may have. Until it says so, all pagers may have as many.
      pager @5 :UInt16;
      slots @6 :UInt64;
    }
    forget :group {
      # Manager: a pager is no more; its slots are free.
      pager @7 :UInt16;
    }
    clear @8 :Void;
    # All slots of the caller's are free: it begins, and another one may have gone by its number before.
  }
}

struct Answer {
  union {
    refused @0 :Refusal;
    put :group {
      slots @1 :List(UInt64);
      # Where pages are kept: of these, from the first on, and at least one.
    }
    get @2 :Void;
    free @3 :Void;
    fail @4 :Void;
    counts :group {
      figures @5 :Counts;
    }
    allow @6 :Void;
    forget @7 :Void;
    clear @8 :Void;
  }
}

enum Refusal {
  badRequest @0;
  # There is no such request, or no such slot of the caller's.
  full @1;
  # All slots are in use, or all that the caller may have.
  failed @2;
  # The device failed.
}

struct Faulty {
  # Of 1,000 gets, puts: how many fail; how many gets give something else.
  gets @0 :UInt16;
  puts @1 :UInt16;
  spoiled @2 :UInt16;
  delay @3 :UInt64;
  # TSC ticks that a get takes.
  seed @4 :UInt64;
  atMost @5 :UInt64;
  # Gets that fail or give something else, at most.
}

struct Counts {
  used @0 :UInt64;
  slots @1 :UInt64;
  getsFailed @2 :UInt64;
  putsFailed @3 :UInt64;
}
