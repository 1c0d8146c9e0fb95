//! Words that CPUs share: atomics, with a [point](crate::chaos) before each read, and before and
//! after each write.
//!
//! Only host tests have these points, and only code that they run with a hook
//! (`crate::host_test::at_points`): code of tests that only inspects the state passes no points. In
//! every other build a point compiles to nothing, and a word is a plain atomic.

use core::sync::atomic::{self, Ordering};

use crate::chaos::{Point, point_at};

/// Runs `write`, which writes a shared word, with a point before it and one after it.
#[inline(always)]
#[track_caller]
fn written<T, R>(word: *const T, write: impl FnOnce() -> R) -> R {
    point_at(word, Point::BeforeWrite);
    let result = write();
    point_at(word, Point::AfterWrite);
    result
}

/// What all the words can do.
macro_rules! word {
    ($name:ident, $value:ty $(, $parameter:ident)?) => {
        #[derive(Debug)]
        #[repr(transparent)]
        pub struct $name $(<$parameter>)? (atomic::$name $(<$parameter>)?);

        impl $(<$parameter>)? $name $(<$parameter>)? {
            pub const fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }

            pub const fn as_ptr(&self) -> *mut $value {
                self.0.as_ptr()
            }

            #[inline(always)]
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                point_at(self.as_ptr(), Point::BeforeRead);
                self.0.load(order)
            }

            #[inline(always)]
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                written(self.as_ptr(), || self.0.store(value, order));
            }

            #[inline(always)]
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                written(self.as_ptr(), || self.0.swap(value, order))
            }

            #[inline(always)]
            #[track_caller]
            pub fn compare_exchange(
                &self,
                from: $value,
                to: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                written(self.as_ptr(), || self.0.compare_exchange(from, to, success, failure))
            }
        }
    };
}

/// What integers can do besides.
macro_rules! integer {
    ($name:ident, $value:ty; $($operation:ident)*) => {
        word!($name, $value);

        impl Default for $name {
            fn default() -> Self {
                Self::new(Default::default())
            }
        }

        impl $name {
            $(
                #[inline(always)]
                #[track_caller]
                pub fn $operation(&self, value: $value, order: Ordering) -> $value {
                    written(self.as_ptr(), || self.0.$operation(value, order))
                }
            )*
        }
    };
}

word!(AtomicPtr, *mut T, T);
integer!(AtomicBool, bool; fetch_and fetch_or);
integer!(AtomicU8, u8; fetch_and fetch_or fetch_add fetch_sub fetch_max fetch_min);
integer!(AtomicU16, u16; fetch_and fetch_or fetch_add fetch_sub fetch_max fetch_min);
integer!(AtomicU32, u32; fetch_and fetch_or fetch_add fetch_sub fetch_max fetch_min);
integer!(AtomicU64, u64; fetch_and fetch_or fetch_add fetch_sub fetch_max fetch_min);
