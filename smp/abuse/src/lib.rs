//! Abuses of the doors to kernel memory: what a crate that forbids unsafe code tries, and the
//! compiler refuses.
//!
//! Each file of `tests/cases` and `tests/cases_of_core` is one program, with a comment that says
//! what the abuse would break. Beside it stands what the compiler says. After a change of a door,
//! or of the compiler: `TRYBUILD=overwrite cargo test --package abuse`, and read whether each is
//! still refused for the reason that its comment gives.
#![no_std]
#![forbid(unsafe_code)]
