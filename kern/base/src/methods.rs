//! Short methods of structures with private fields.

/// Defines what may be read of a structure and what may happen to it: one row each.
macro_rules! methods {
    ($of:ty: $(
        $(#[$doc:meta])*
        fn $name:ident $(<$life:lifetime>)? ($self:ident $(, $argument:ident: $type:ty)*) $(-> $result:ty)? = $body:expr;
    )*) => {
        impl $of {
            $(
                $(#[$doc])*
                pub fn $name $(<$life>)? (&$self $(, $argument: $type)*) $(-> $result)? {
                    $body
                }
            )*
        }
    };
}
pub(crate) use methods;
