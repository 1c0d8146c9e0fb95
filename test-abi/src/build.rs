//! How a program finds out that the kernel is a test build: bits of
//! [`BootPage::features`](abi::BootPage::features) beside those of
//! [`cpu_features`](abi::cpu_features).

/// The kernel exports its state.
pub const DUMP: u64 = 1 << 33;
/// The kernel perturbs itself by seed.
pub const CHAOS: u64 = 1 << 34;
/// The kernel tries what its protections forbid.
pub const ATTEMPTS: u64 = 1 << 36;
