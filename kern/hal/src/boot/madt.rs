//! Checks the list of processors and interrupt controllers (MADT) before it is walked.
//!
//! Its entries carry their own lengths, and a walk would not end at an entry of length 0. So the
//! kernel uses the table only if the lengths add up.

/// Bytes of an entry's head: type, length.
const HEAD: usize = 2;

/// Whether `entries`, the table's part after its fixed fields, is a whole number of entries.
pub fn is_well_formed(mut entries: &[u8]) -> bool {
    while !entries.is_empty() {
        let Some(&length) = entries.get(1) else {
            return false;
        };
        let length = usize::from(length);
        if length < HEAD || length > entries.len() {
            return false;
        }
        entries = &entries[length..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_well_formed;

    #[test]
    fn lengths_must_add_up() {
        assert!(is_well_formed(&[]));
        assert!(is_well_formed(&[0, 4, 1, 1, 9, 2]));
        assert!(!is_well_formed(&[0, 4, 1, 1, 9, 0]));
        assert!(!is_well_formed(&[0, 5, 1, 1]));
        assert!(!is_well_formed(&[0]));
    }
}
