//! Constants that know their names, for tables: the reference in the book is made from them.

/// A constant with its name and its documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Named<T: 'static> {
    pub name: &'static str,
    pub value: T,
    /// As in the source, line by line.
    pub doc: &'static str,
}
