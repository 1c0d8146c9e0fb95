//! Makes [`Op`](crate::Op) and its methods of the [list of operations](crate::syscall).

/// Defines the operations. An entry says what the operation takes and by which rules of authority
/// it goes: the number, the documentation, then
///
/// - `takes`: the capabilities of each form of the call, by the functions of `operands`;
/// - `acts_for`: the process that it acts for, if that is not the caller's;
/// - `labels`: what the rules between labels must allow; `same label`: two labels must be equal;
/// - `agreed`: what the other side must have agreed to;
/// - `told`: the events that the audit gets.
macro_rules! operations {
    (($dollar:tt) $(
        $(#[doc = $doc:expr])*
        $name:ident = $value:literal {
            takes $([$($operand:expr),* $(,)?] $(when $when:literal)?),+;
            $(acts_for $behalf:expr;)?
            $(labels $($label:ident)|+;)?
            $(same $same:ident;)?
            $(agreed $agreed:literal;)?
            $(told $($told:ident),+;)?
        }
    )*) => {
        /// Operation number, in the low byte of `rax`. The documentation of each variant is its
        /// reference: arguments by register, results, rights asked.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Op { $($(#[doc = $doc])* $name = $value,)* }

        /// Invokes another macro with the numbers of all operations, in order, behind arguments of
        /// its own: `operations!(table!(a, b))` is `table!(a, b; 0 1 2 …)`. The kernel's table of
        /// handlers is made so.
        #[macro_export]
        macro_rules! operations {
            ($dollar($dollar table:ident)::+ !($dollar($dollar argument:tt)*)) => {
                $dollar($dollar table)::+ !($dollar($dollar argument)*; $($value)*)
            };
        }

        impl Op {
            pub const ALL: &'static [Op] = &[$(Op::$name,)*];
            pub const COUNT: usize = Self::ALL.len();

            pub const fn from_raw(raw: u8) -> Option<Op> {
                match raw { $($value => Some(Op::$name),)* _ => None }
            }

            /// Returns the operation's documentation, as in the source.
            pub const fn doc(self) -> &'static str {
                match self { $(Op::$name => concat!($($doc, "\n",)*),)* }
            }

            /// Returns the forms of the call, and the capabilities that each takes.
            pub const fn forms(self) -> &'static [Form] {
                match self {
                    $(Op::$name => const { &[$(Form {
                        when: concat!($($when)?),
                        operands: const { &[$($operand),*] },
                    }),+] },)*
                }
            }

            /// Returns the process that the operation acts for.
            pub const fn behalf(self) -> Behalf {
                match self { $(Op::$name => or_else!(Own $(, $behalf)?),)* }
            }

            /// Returns the checks of labels that the operation needs. Messages need theirs if they
            /// carry capabilities or pages.
            pub const fn asks(self) -> Asks {
                match self {
                    $(Op::$name => Asks {
                        bits: 0 $($(| may::$label)+)?,
                        same: !concat!($(stringify!($same))?).is_empty(),
                    },)*
                }
            }

            /// Returns what the other side must have agreed to; empty if no agreement is needed.
            pub const fn agreed(self) -> &'static str {
                match self { $(Op::$name => concat!($($agreed)?),)* }
            }

            /// Returns the events that the audit gets when the operation is done. A refusal for
            /// lack of authority is always a Denial.
            pub const fn told(self) -> &'static [AuditEvent] {
                match self { $(Op::$name => &[$($(AuditEvent::$told),+)?],)* }
            }
        }
    };
}

/// Chooses the second, where there is one.
macro_rules! or_else {
    ($first:expr) => {
        $first
    };
    ($first:expr, $second:expr) => {
        $second
    };
}
