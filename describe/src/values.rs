//! Reads values of the file with their spans, and reports those of a wrong kind.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::keys::{Key, SECTIONS};
use crate::near::{advice, nearest, one_of};
use crate::problem::{Problem, Problems, Span};

/// Bytes of the longest line of text.
const LINE_MAX: usize = 120;
/// Bytes of the longest name.
const NAME_MAX: usize = 31;

/// A value and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct At<T> {
    pub value: T,
    pub span: Span,
}

impl<T> At<T> {
    pub fn new(value: T, span: Span) -> At<T> {
        At { value, span }
    }
}

/// A key with its value, or an element of the key's list.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub key: Key,
    /// The name as the file has it: the key's, or one that the file chose.
    pub name: String,
    pub value: &'a DeValue<'a>,
    pub span: Span,
}

/// A table of which every key is known.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    /// The table as a sentence names it: "process `serial`".
    pub owner: String,
    table: &'a DeTable<'a>,
    /// The table's heading or braces.
    pub span: Span,
    keys: &'static [Key],
    /// Its keys that are not known.
    unknown: Vec<String>,
}

/// Returns the entries of a table in the order of the file.
pub fn in_order<'a>(table: &'a DeTable<'a>) -> Vec<(At<String>, &'a Spanned<DeValue<'a>>)> {
    let entry = |(name, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
        let text: &std::borrow::Cow<'a, str> = name.get_ref();
        (At::new(text.to_string(), name.span()), value)
    };
    let mut entries: Vec<_> = table.iter().map(entry).collect();
    entries.sort_by_key(|(name, _)| name.span.start);
    entries
}

impl<'a> Fields<'a> {
    /// Opens a table, and reports its unknown keys.
    pub fn new(
        owner: String,
        table: &'a DeTable<'a>,
        span: Span,
        keys: &'static [Key],
        problems: &mut Problems,
    ) -> Fields<'a> {
        let mut unknown = Vec::new();
        for (name, _) in in_order(table) {
            if keys.iter().any(|key| key.name == name.value) {
                continue;
            }
            unknown.push(name.value.clone());
            let names = keys.iter().map(|key| key.name);
            let section = SECTIONS.iter().find(|(_, keys)| keys.iter().any(|key| key.name == name.value));
            let fix = match (nearest(&name.value, names.clone()), section) {
                (Some(close), _) => format!("write `{close}`"),
                (None, Some((section, _))) => format!("move it to a section `[{section}]`, or remove it"),
                (None, None) => format!("remove it; {owner} takes {}", one_of(names)),
            };
            let title = format!("{owner} has no key `{}`", name.value);
            problems.push(Problem::new(name.span, title, "unknown key", fix));
        }
        Fields { owner, table, span, keys, unknown }
    }

    /// Returns whether a key of the table is not known, so that another one may be missing.
    pub fn has_unknown(&self) -> bool {
        !self.unknown.is_empty()
    }

    /// Returns the value of a key, if the file has it.
    ///
    /// # Panics
    /// If the table's list of keys lacks the key.
    pub fn get(&self, name: &str) -> Option<Entry<'a>> {
        let key = self.key(name);
        let value = self.table.get(name)?;
        Some(Entry { key, name: name.to_owned(), value: value.get_ref(), span: value.span() })
    }

    /// Returns the value of a key, and reports that it is missing, unless it is misspelt.
    pub fn need(&self, name: &str, problems: &mut Problems) -> Option<Entry<'a>> {
        let found = self.get(name);
        let names = || self.keys.iter().map(|key| key.name);
        let is_misspelt = self.unknown.iter().any(|wrong| nearest(wrong, names()) == Some(name));
        if found.is_none() && !is_misspelt {
            let Key { example, means, .. } = self.key(name);
            let title = format!("{} lacks `{name}`", self.owner);
            let fix = match example {
                "" => format!("add {means}"),
                _ => format!("add `{name} = {example}`: {means}"),
            };
            problems.push(Problem::new(self.span.clone(), title, format!("`{name}` is required"), fix));
        }
        found
    }

    fn key(&self, name: &str) -> Key {
        *self.keys.iter().find(|key| key.name == name).expect("a key of the table's list")
    }
}

/// Names the kind of a value with its article.
fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl<'a> Entry<'a> {
    /// Returns advice that shows an example.
    fn example(&self) -> String {
        let Key { example, means, .. } = self.key;
        match example {
            "" => format!("write {means}"),
            _ => format!("write it as in `{} = {example}`: {means}", self.name),
        }
    }

    /// Reports that the value has a wrong kind.
    pub fn wrong_kind(&self, wanted: &str, problems: &mut Problems) {
        let kind = kind_of(self.value);
        let title = format!("`{}` has {kind} where {wanted} belongs", self.name);
        problems.push(Problem::new(self.span.clone(), title, kind, self.example()));
    }

    /// Reports that the value is out of range, or not in its form.
    pub fn wrong(
        &self,
        title: impl Into<String>,
        label: impl Into<String>,
        fix: impl Into<String>,
        problems: &mut Problems,
    ) {
        problems.push(Problem::new(self.span.clone(), title, label, fix));
    }

    fn at<T>(&self, value: T) -> At<T> {
        At::new(value, self.span.clone())
    }

    /// Reads a string.
    pub fn text(&self, problems: &mut Problems) -> Option<At<String>> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_kind("a string", problems);
        }
        text.map(|text| self.at(text.to_owned()))
    }

    /// Reads one line of text for people.
    pub fn line(&self, problems: &mut Problems) -> Option<String> {
        let text = self.text(problems)?.value;
        let name = &self.name;
        let (what, label) = if text.trim().is_empty() {
            ("is empty", "no text")
        } else if text.chars().any(char::is_control) {
            ("has several lines", "more than one line")
        } else if text.len() > LINE_MAX {
            ("is too long", "more than 120 bytes")
        } else {
            return Some(text);
        };
        let fix = format!("write one line of at most {LINE_MAX} bytes: {}", self.key.means);
        // Of a line that is too long, the end that is too much.
        let excess = self.span.end.saturating_sub(1 + text.len().saturating_sub(LINE_MAX));
        let start = if text.len() > LINE_MAX { excess.max(self.span.start) } else { self.span.start };
        problems.push(Problem::new(start..self.span.end, format!("`{name}` {what}"), label, fix));
        None
    }

    /// Reads a number, which may be a string in hexadecimal.
    pub fn number(&self, range: RangeInclusive<u64>, problems: &mut Problems) -> Option<At<u64>> {
        let name = &self.name;
        let (shown, number) = match self.value {
            DeValue::Integer(number) => {
                (number.to_string(), u64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::String(text) => {
                let digits = text.strip_prefix("0x");
                let Some(number) = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
                    let fix = match text.parse::<u64>() {
                        Ok(number) => format!("write `{number}`, without quotes"),
                        Err(_) => self.example(),
                    };
                    let title = format!("`{name}` has a string that is no number");
                    self.wrong(title, "neither a number nor `\"0x…\"`", fix, problems);
                    return None;
                };
                (text.to_string(), Some(number))
            }
            _ => {
                self.wrong_kind("a number", problems);
                return None;
            }
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let fix = format!("write a number in its range: `{name}` is {}", self.key.means);
            self.wrong(format!("`{name}` cannot be {shown}"), "out of range", fix, problems);
        }
        number.map(|number| self.at(number))
    }

    /// Reads `true` or `false`.
    pub fn flag(&self, problems: &mut Problems) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.wrong_kind("`true` or `false`", problems);
        }
        flag
    }

    /// Reads one of several words.
    pub fn word(&self, words: &[&'static str], problems: &mut Problems) -> Option<At<&'static str>> {
        let text = self.text(problems)?;
        let found = words.iter().find(|word| **word == text.value);
        if found.is_none() {
            let title = format!("`{}` cannot be `{}`", self.name, text.value);
            let fix = advice(&text.value, words.iter().copied());
            self.wrong(title, "unknown word", fix, problems);
        }
        found.map(|word| self.at(*word))
    }

    /// Reads a list, or reports that there is none.
    pub fn list(&self, problems: &mut Problems) -> Vec<Entry<'a>> {
        let Some(list) = self.value.as_array() else {
            match self.value.as_str() {
                Some(text) => {
                    let title = format!("`{}` has a string where a list belongs", self.name);
                    let fix = format!("write `{} = [\"{text}\"]`", self.name);
                    self.wrong(title, "a string", fix, problems);
                }
                None => self.wrong_kind("a list", problems),
            }
            return Vec::new();
        };
        list.iter().map(|element| self.element(element)).collect()
    }

    fn element(&self, element: &'a Spanned<DeValue<'a>>) -> Entry<'a> {
        Entry { key: self.key, name: self.name.clone(), value: element.get_ref(), span: element.span() }
    }

    /// Reads a list, or one element without brackets.
    pub fn one_or_list(&self) -> Vec<Entry<'a>> {
        match self.value.as_array() {
            Some(list) => list.iter().map(|element| self.element(element)).collect(),
            None => vec![self.clone()],
        }
    }

    /// Reads a list of strings, of which no two are equal.
    pub fn texts(&self, problems: &mut Problems) -> Vec<At<String>> {
        let mut texts: Vec<At<String>> = Vec::new();
        for element in self.list(problems) {
            let Some(text) = element.text(problems) else { continue };
            if let Some(first) = texts.iter().find(|known| known.value == text.value) {
                let title = format!("`{}` has `{}` twice", self.name, text.value);
                let problem = Problem::new(text.span, title, "the second", "remove one of them");
                problems.push(problem.also(first.span.clone(), "the first"));
            } else {
                texts.push(text);
            }
        }
        texts
    }

    /// Opens a table with keys of its own.
    pub fn table(&self, owner: String, keys: &'static [Key], problems: &mut Problems) -> Option<Fields<'a>> {
        let Some(table) = self.value.as_table() else {
            let kind = kind_of(self.value);
            let fix = match self.value {
                DeValue::Array(_) => "write its heading in single brackets, `[…]`".to_owned(),
                _ => self.example(),
            };
            self.wrong(format!("{owner} is {kind} where a table belongs"), kind, fix, problems);
            return None;
        };
        Some(Fields::new(owner, table, self.span.clone(), keys, problems))
    }

    /// Returns the entries of a table whose keys are names, in the order of the file; and reports
    /// names that are none.
    pub fn named(&self, what: &str, problems: &mut Problems) -> Vec<(At<String>, Entry<'a>)> {
        let Some(table) = self.value.as_table() else {
            self.wrong_kind("a table", problems);
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in in_order(table) {
            check_name(what, &name, problems);
            let entry = Entry { name: name.value.clone(), ..self.element(value) };
            named.push((name, entry));
        }
        named
    }
}

/// Reports a name that does not have the form of names.
fn check_name(what: &str, name: &At<String>, problems: &mut Problems) {
    let text = &name.value;
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if starts && text.bytes().all(is_inner) && text.len() <= NAME_MAX {
        return;
    }
    let form = format!("names begin with a letter and have at most {NAME_MAX} of `a-z`, `0-9` and `-`");
    let changed = text.to_lowercase().replace(['_', ' ', '.'], "-");
    let is_good = changed.starts_with(|letter: char| letter.is_ascii_lowercase())
        && changed.bytes().all(is_inner)
        && changed.len() <= NAME_MAX;
    let fix = if is_good { format!("write `{changed}`: {form}") } else { form };
    let title = format!("`{text}` cannot be the name of {what}");
    problems.push(Problem::new(name.span.clone(), title, "not a name", fix));
}
