//! Records, and the trait of their consumers.

/// A value of a record's field, as a word.
pub trait Word: Copy {
    /// Returns the value as a word.
    fn to_word(self) -> u64;
    /// Returns the value that a word stands for. Any other word gives some value.
    fn from_word(word: u64) -> Self;
}

impl Word for u64 {
    fn to_word(self) -> u64 {
        self
    }

    fn from_word(word: u64) -> u64 {
        word
    }
}

impl Word for u32 {
    fn to_word(self) -> u64 {
        u64::from(self)
    }

    fn from_word(word: u64) -> u32 {
        word as u32
    }
}

impl Word for u8 {
    fn to_word(self) -> u64 {
        u64::from(self)
    }

    fn from_word(word: u64) -> u8 {
        word as u8
    }
}

impl Word for bool {
    fn to_word(self) -> u64 {
        u64::from(self)
    }

    fn from_word(word: u64) -> bool {
        word != 0
    }
}

/// A record: a name, and fields that are words.
pub trait Record: Copy + Default {
    /// The record's name in texts.
    const NAME: &'static str;
    /// The names of the fields.
    const FIELDS: &'static [&'static str];

    /// Passes the value of each field to `show`, in the order of [`Record::FIELDS`].
    fn each_word(&self, show: impl FnMut(u64));

    /// Makes a record; `word` returns the value of the field with a number, which counts
    /// [`Record::FIELDS`] from 0.
    fn from_words(word: impl FnMut(usize) -> u64) -> Self;
}

/// A record of a kernel object.
pub trait Object: Record {
    /// Returns the object's address.
    fn at(&self) -> u64;
    /// Returns the reference count in the object's header.
    fn refs(&self) -> u32;
    /// Returns whether the object is being destroyed.
    fn is_dying(&self) -> bool;
    /// Returns whether the object is destroyed.
    fn is_dead(&self) -> bool;
    /// Returns the derivation root of the object's memory.
    fn root(&self) -> u32;
    /// Returns the object's identity, a number that no other object ever has.
    fn identity(&self) -> u64;
    /// Returns the object's security label.
    fn label(&self) -> u32;
}

/// Defines a record. `object` gives it the fields of an object's header first.
macro_rules! record {
    ($(#[$doc:meta])* object $name:ident = $text:literal { $($fields:tt)* }) => {
        record! {
            $(#[$doc])*
            $name = $text {
                /// Where the object is.
                at: u64,
                /// The reference count in the header.
                refs: u32,
                /// The object is being destroyed.
                dying: bool,
                /// The object is destroyed.
                dead: bool,
                /// The derivation root of the object's memory.
                root: u32,
                /// The number that no other object ever has.
                identity: u64,
                /// The security label; 0: none.
                label: u32,
                /// How far the destruction of the object's table has come.
                swept: u32,
                $($fields)*
            }
        }

        impl $crate::record::Object for $name {
            fn at(&self) -> u64 {
                self.at
            }

            fn refs(&self) -> u32 {
                self.refs
            }

            fn is_dying(&self) -> bool {
                self.dying
            }

            fn is_dead(&self) -> bool {
                self.dead
            }

            fn root(&self) -> u32 {
                self.root
            }

            fn identity(&self) -> u64 {
                self.identity
            }

            fn label(&self) -> u32 {
                self.label
            }
        }
    };
    (
        $(#[$doc:meta])*
        $name:ident = $text:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $crate::record::Record for $name {
            const NAME: &'static str = $text;
            const FIELDS: &'static [&'static str] = &[$(stringify!($field),)*];

            #[inline]
            fn each_word(&self, mut show: impl FnMut(u64)) {
                $(show($crate::record::Word::to_word(self.$field));)*
            }

            #[inline]
            fn from_words(mut word: impl FnMut(usize) -> u64) -> $name {
                let mut numbers = 0..;
                let mut next = || word(numbers.next().unwrap_or(usize::MAX));
                $name { $($field: $crate::record::Word::from_word(next()),)* }
            }
        }
    };
}

/// Calls a macro with all records: each as its type, the method of a [`Sink`] that takes it, and
/// the name of a list of them.
#[macro_export]
macro_rules! for_each_record {
    ($then:ident) => {
        $then! {
            Kernel kernel kernels;
            Root root roots;
            LabelRule label_rule label_rules;
            Cpu cpu cpus;
            Class class classes;
            Heap heap heaps;
            Mail mail mails;
            Hardware hardware hardwares;
            Translation translation translations;
            Seen seen seens;
            Range range ranges;
            Extent extent extents;
            Untyped untyped untypeds;
            CNode cnode cnodes;
            Slot slot slots;
            VSpace vspace vspaces;
            Table table tables;
            Entry entry entries;
            Frame frame frames;
            Info info infos;
            Device device devices;
            Process process processes;
            TaskNumber task_number task_numbers;
            Task task tasks;
            Registers registers registers;
            Call call calls;
            Context context contexts;
            Group group groups;
            Member member members;
            Exposure exposure exposures;
            Notification notification notifications;
            Reply reply replies;
            Pool pool pools;
            Control control controls;
            Irq irq irqs;
            Line line lines;
            Route route routes;
            Port port ports;
            Machine machine machines;
        }
    };
}

macro_rules! sink {
    ($($type:ident $method:ident $list:ident;)*) => {
        /// Takes records.
        pub trait Sink {
            $(
                #[doc = concat!("Takes a record of the type [`", stringify!($type), "`](crate::", stringify!($type), ").")]
                fn $method(&mut self, record: &$crate::$type);
            )*
        }
    };
}

for_each_record!(sink);
