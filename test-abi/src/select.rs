//! Selection by name: patterns separated by commas, in which `*` stands for any text.

/// Returns whether one of the patterns matches a name. Without patterns, every name is wanted.
pub fn is_wanted(patterns: Option<&str>, name: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.split(',').any(|pattern| matches(pattern, name)))
}

/// Returns the first pattern that matches none of these names.
pub fn unknown<'a>(patterns: Option<&'a str>, names: &[&str]) -> Option<&'a str> {
    patterns?.split(',').find(|pattern| !names.iter().any(|name| matches(pattern, name)))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, rest)) => name.strip_prefix(before).is_some_and(|name| {
            // What the star stands for ends at any character.
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| matches(rest, &name[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, name) in [
            ("a", "a"),
            ("*", ""),
            ("*", "x"),
            ("call_*", "call_reply"),
            ("*_64w", "call_64w"),
            ("a*c*e", "abcde"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("", "a"), ("*b", "a"), ("a*c", "ab"), ("call_*", "xcall_")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_for_nothing_is_named() {
        assert_eq!(unknown(Some("b*,a"), &["a", "bc"]), None);
        assert_eq!(unknown(None, &[]), None);
        assert_eq!(unknown(Some("a,x*,nosuch"), &["a", "bc"]), Some("x*"));
        assert!(is_wanted(None, "a") && is_wanted(Some("x,a*"), "abc") && !is_wanted(Some("x"), "abc"));
    }
}
