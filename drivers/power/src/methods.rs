//! Finds in the table of firmware's methods (DSDT) the values that switch the machine off.
//!
//! They are in the package `_S5_`: the values for both sleep registers (ACPI 6.5, 7.4.2). A package
//! of constants has the same bytes in each table, so no interpreter is needed to find it.

/// Codes of the language (ACPI 6.5, 20.2).
const NAME: u8 = 0x08;
const ROOT: u8 = b'\\';
const PACKAGE: u8 = 0x12;
const ZERO: u8 = 0x00;
const ONE: u8 = 0x01;
const BYTE: u8 = 0x0a;
const WORD: u8 = 0x0b;
const DWORD: u8 = 0x0c;

const OFF: &[u8] = b"_S5_";
/// A value has three bits of a sleep register.
const VALUE_MAX: u8 = 7;
/// Bytes of a definition with both values, at most.
pub const LONGEST: usize = 32;

/// Returns the values of both sleep registers that switch the machine off.
pub fn off_values(methods: &[u8]) -> Option<[u8; 2]> {
    let places = methods.windows(OFF.len()).enumerate().filter(|(_, name)| *name == OFF);
    places.map(|(place, _)| place).find_map(|place| {
        let (before, after) = (&methods[..place], &methods[place + OFF.len()..]);
        let is_defined = before.ends_with(&[NAME]) || before.ends_with(&[NAME, ROOT]);
        if is_defined { package(after) } else { None }
    })
}

/// Reads the first two numbers of a package.
fn package(bytes: &[u8]) -> Option<[u8; 2]> {
    let (code, rest) = bytes.split_first()?;
    // Its length takes one byte, and as many more as the topmost two bits of that say.
    let more = usize::from(rest.first()? >> 6);
    let count = *rest.get(1 + more)?;
    if *code != PACKAGE || count == 0 {
        return None;
    }
    let (first, rest) = number(rest.get(2 + more..)?)?;
    // Where there is one register, there may be one value.
    let second = if count > 1 { number(rest)?.0 } else { 0 };
    Some([first, second])
}

/// Reads a number of a sleep register. Returns what follows it, too.
fn number(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (code, rest) = bytes.split_first()?;
    let length = match *code {
        ZERO | ONE => return Some((*code, rest)),
        BYTE => 1,
        WORD => 2,
        DWORD => 4,
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    let is_small = value[0] <= VALUE_MAX && value[1..].iter().all(|byte| *byte == 0);
    is_small.then_some((value[0], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[u8]]) -> Option<[u8; 2]> {
        off_values(&parts.concat())
    }

    #[test]
    fn values_of_both_registers_are_found() {
        // As QEMU's firmware has them.
        assert_eq!(of(&[b"DSDT", &[NAME], b"_S5_", &[PACKAGE, 6, 4, 0, 0, 0, 0]]), Some([0, 0]));
        let of_board = [PACKAGE, 0x0a, 4, BYTE, 7, BYTE, 5, ZERO, ZERO];
        assert_eq!(of(&[&[NAME, ROOT], b"_S5_", &of_board]), Some([7, 5]));
        assert_eq!(of(&[&[NAME], b"_S5_", &[PACKAGE, 0x42, 1, 2, WORD, 6, 0, ONE]]), Some([6, 1]));
        assert_eq!(of(&[&[NAME], b"_S5_", &[PACKAGE, 3, 1, BYTE, 5]]), Some([5, 0]));
    }

    #[test]
    fn other_places_of_the_name_are_passed_over() {
        let used: &[u8] = b"_S5_";
        let right: &[u8] = &[PACKAGE, 5, 2, ONE, BYTE, 3];
        assert_eq!(of(&[used, right, &[NAME], used, right]), Some([1, 3]));
        assert_eq!(of(&[&[NAME], used, &[PACKAGE, 4, 2, BYTE, 8, ONE], &[NAME], used, right]), Some([1, 3]));
    }

    #[test]
    fn no_table_is_read_beyond_its_end() {
        let whole = [&[NAME][..], b"_S5_", &[PACKAGE, 0x48, 0, 2, BYTE, 7, DWORD, 5, 0, 0, 0]].concat();
        assert_eq!(off_values(&whole), Some([7, 5]));
        for length in 0..whole.len() {
            assert_eq!(off_values(&whole[..length]), None, "{length} bytes");
        }
    }
}
