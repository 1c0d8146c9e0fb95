//! Suggestions: the known word that is close to a misspelt one, and lists of words.

/// Returns the word that a person probably meant: the closest one, if no more than a third of its
/// letters are wrong, missing or swapped; or else one that begins or ends with the given word.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let known: Vec<&str> = known.into_iter().collect();
    let distance = |word: &str| strsim::osa_distance(&wrong, &word.to_lowercase());
    let closest = known.iter().copied().min_by_key(|word| distance(word))?;
    let most = (closest.len().max(wrong.len()) / 3).max(1);
    let extends = |word: &&str| {
        let (long, short) = if word.len() > wrong.len() { (*word, &*wrong) } else { (&*wrong, *word) };
        short.len() > 2 && (long.starts_with(short) || long.ends_with(short))
    };
    if distance(closest) <= most { Some(closest) } else { known.iter().copied().find(extends) }
}

/// Returns the words of a list in one line: `a, b or c`.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// Returns the advice for a word that is none of the known ones: the close one, or all of them.
pub fn advice<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(wrong, known.clone()) {
        Some(word) => format!("write `{word}`"),
        None => format!("write {}", one_of(known)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_found_and_others_are_not() {
        let known = ["priority", "ceiling", "cpu", "cpus", "serial"];
        for (wrong, wanted) in [
            ("prioriy", Some("priority")),
            ("Priority", Some("priority")),
            ("cieling", Some("ceiling")),
            ("cpuss", Some("cpus")),
            ("prio", Some("priority")),
            ("serial-driver", Some("serial")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(wrong, known), wanted, "{wrong}");
        }
    }

    #[test]
    fn lists_are_read_as_a_sentence() {
        assert_eq!(one_of(["a"]), "`a`");
        assert_eq!(one_of(["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!(advice("colour", ["a", "b"]), "write `a` or `b`");
    }
}
