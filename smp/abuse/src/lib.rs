//! Abuses of the doors to kernel memory: programs without unsafe code that the compiler must
//! refuse.
//!
//! Each file of `tests/cases` and `tests/cases_of_core` is one program, with a comment that says
//! what the abuse would break. Beside it is a file with the compiler's output. After a change of a
//! door, or of the compiler, run `TRYBUILD=overwrite cargo test --package abuse`, and read whether
//! the compiler still refuses each case for the reason in its comment.
#![no_std]
#![forbid(unsafe_code)]
