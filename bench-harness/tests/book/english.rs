//! Plain English: refuses phrases that a reader who does not know Aurora stumbles over, and says
//! what to write instead. Reads the pages and the whole-line comments of the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use crate::prose::{Kind, Paragraph, comment, paragraphs};
use crate::{read, root};

/// Where a phrase is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Everywhere,
    /// At the beginning of a doc comment.
    DocOpening,
}

/// A phrase that is refused.
struct Rule {
    place: Place,
    /// A regular expression without regard to case, for whole words.
    phrase: &'static str,
    why: &'static str,
    instead: &'static str,
}

const fn rule(place: Place, phrase: &'static str, why: &'static str, instead: &'static str) -> Rule {
    Rule { place, phrase, why, instead }
}

use Place::{DocOpening, Everywhere};

const NO_ACTOR: &str = "a sentence names its actor";
const POINTS_BACK: &str = "a doc comment stands alone";
const NO_VERB: &str = "a doc comment opens with a verb and its object, or with a noun";
const PRIVATE: &str = "the field has a word for it";
const OLD: &str = "an old-fashioned word";

const RULES: &[Rule] = &[
    rule(DocOpening, "the same", POINTS_BACK, "what it says, once more, in three words"),
    rule(DocOpening, "of", NO_VERB, "`Returns the …`, or the noun: `The task's …`"),
    rule(DocOpening, "by (which|whom|what)", NO_VERB, "the noun: `The index that …`"),
    rule(DocOpening, "(to|for|from) wh(om|ich)", NO_VERB, "the noun: `The receiver`"),
    rule(DocOpening, "who", NO_ACTOR, "the noun: `The holder of …`"),
    rule(Everywhere, "whoever", NO_ACTOR, "the actor: the caller, the receiver, a reader"),
    rule(Everywhere, "whomever", NO_ACTOR, "the actor: the caller, the receiver, a reader"),
    rule(Everywhere, "who (has|have) (it|them)", NO_ACTOR, "the owner, the holder of a capability"),
    rule(Everywhere, "(to|for|of|by|from) whom", NO_ACTOR, "the receiver, the client, the owner"),
    rule(Everywhere, "that of the one", NO_ACTOR, "the noun, again"),
    rule(Everywhere, "such a one|such ones", NO_ACTOR, "the noun, again"),
    rule(Everywhere, "what (is|was) left", NO_ACTOR, "the rest of the …"),
    rule(Everywhere, "what there (is|was)", NO_ACTOR, "the noun: the objects, the state"),
    rule(Everywhere, "one's own", NO_ACTOR, "the caller's own"),
    rule(Everywhere, "graves?|bur(y|ies|ied)", PRIVATE, "zombie, to free"),
    rule(Everywhere, "mourners?", PRIVATE, "waiter"),
    rule(Everywhere, "spell(s|ed|ing)? out", PRIVATE, "to write out, to materialise"),
    rule(Everywhere, "at rest", PRIVATE, "stored; not running"),
    rule(Everywhere, "home again", PRIVATE, "back on its home CPU"),
    rule(Everywhere, "(in|takes|a) few steps", PRIVATE, "fast path"),
    rule(Everywhere, "not express", PRIVATE, "slow path"),
    rule(Everywhere, "(tell|hear)(s|ing)? of", OLD, "reports, learns about"),
    rule(Everywhere, "told of|heard of", OLD, "reported, learned about"),
    rule(Everywhere, "c(o|a)mes? by", OLD, "reaches, passes, arrives through"),
    rule(Everywhere, "anew", OLD, "again"),
    rule(Everywhere, "(but|save) for", OLD, "except"),
    rule(Everywhere, "mend(s|ed|ing)?", OLD, "fix"),
    rule(Everywhere, "and (its|their) like|the likes? of", OLD, "and similar"),
    rule(Everywhere, "torn down|tears? down", PRIVATE, "kills the process"),
    rule(Everywhere, "what (comes|came|becomes|became) of", NO_ACTOR, "the result, the fate"),
    rule(Everywhere, "so many of (which|whom)", OLD, "how many of the …"),
    rule(Everywhere, "somebody else", NO_ACTOR, "another task, another process, another CPU"),
    rule(Everywhere, "asked back", PRIVATE, "recalled"),
    rule(Everywhere, "at once", PRIVATE, "immediately; together; at the same time"),
    rule(Everywhere, "just then", OLD, "at that moment"),
    rule(Everywhere, "thereof|therein|hereby|thereby|whence|wherein", OLD, "the noun, again"),
];

/// Words of the longest sentence.
const LONGEST: usize = 45;
/// Columns of the longest line of prose.
const WIDEST: usize = 100;

/// Where a function's doc comment must open with a verb. Other directories have not been done yet.
const WITH_VERBS: &[&str] = &[
    "abi/src/",
    "bench-harness/src/",
    "confine/src/",
    "describe/src/",
    "kern/base/src/",
    "kern/core/src/",
    "kern/image/src/",
    "model/src/",
    "sched/src/",
    "user/",
];

/// This file has the refused phrases.
const THIS: &str = "bench-harness/tests/book/english.rs";
/// Pages that the host tool makes of doc comments, one line for each paragraph.
const GENERATED: &[&str] = &["docs/src/syscalls.md", "docs/src/authority.md"];

static PATTERNS: LazyLock<Vec<(Regex, &'static Rule)>> = LazyLock::new(|| {
    let pattern = |rule: &Rule| {
        let start = if rule.place == DocOpening { "^" } else { r"\b" };
        Regex::new(&format!(r"(?i){start}({})\b", rule.phrase)).expect("a pattern")
    };
    RULES.iter().map(|rule| (pattern(rule), rule)).collect()
});

/// Reports refused phrases, each with the line it is on.
fn phrases(paragraph: &Paragraph) -> Vec<(usize, String)> {
    let applies = |rule: &Rule| rule.place == Everywhere || paragraph.opens_doc;
    let mut found = Vec::new();
    for (pattern, rule) in PATTERNS.iter().filter(|(_, rule)| applies(rule)) {
        for phrase in pattern.find_iter(&paragraph.text) {
            let report = format!("`{}`: {}; write: {}", phrase.as_str(), rule.why, rule.instead);
            found.push((paragraph.line(phrase.start()), report));
        }
    }
    found
}

/// Reports sentences that are too long, each with the line it begins on. Lists of registers and
/// errors are no sentences.
fn long_sentences(paragraph: &Paragraph) -> Vec<(usize, String)> {
    static FIELD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(- \*\*)?(In|Out|Rights|Errors):").expect("a pattern"));
    if FIELD.is_match(&paragraph.text) {
        return Vec::new();
    }
    let sentences = paragraph.sentences().into_iter().filter_map(|range| {
        let sentence = &paragraph.text[range.clone()];
        let words = sentence.split_whitespace().count();
        let start: String = sentence.chars().take(40).collect();
        let report = format!("a sentence of {words} words (at most {LONGEST}), make two: `{start}…`");
        (words > LONGEST).then(|| (paragraph.line(range.start), report))
    });
    sentences.collect()
}

/// Reports lines of prose that are too wide. Tables, code blocks and addresses cannot be broken;
/// `just figures` writes what stands between its marks.
fn wide_lines(text: &str, kind: Kind) -> Vec<(usize, String)> {
    let mut code = false;
    let mut generated = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let prose = match kind {
            Kind::Markdown => Some(line),
            Kind::Rust => comment(line).map(|comment| comment.text.trim()),
        };
        code = prose.is_some_and(|prose| code ^ prose.starts_with("```"));
        generated = line.starts_with("<!-- figures:") || generated && !line.starts_with("<!-- end of");
        let breaks = prose.is_some_and(|prose| !code && !generated && !prose.starts_with(['|', '#']));
        let width = line.chars().count();
        if breaks && width > WIDEST && !line.contains("://") {
            found.push((number, format!("a line of {width} columns (at most {WIDEST})")));
        }
    }
    found
}

/// Reports doc comments of functions that do not open with a verb in the third person, each with its
/// line. The name of a test says what holds, and its comment may explain that.
fn without_verb(text: &str) -> Vec<(usize, String)> {
    static FUNCTION: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r#"^\s*(pub(\([a-z ]+\))? )?(const )?(unsafe )?(extern "C" )?fn \w"#;
        Regex::new(pattern).expect("a pattern")
    });
    static VERB: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(Whether|[A-Z][a-z]+s)\b").expect("a pattern"));
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let mut found = Vec::new();
    for (number, _) in text.lines().enumerate().filter(|(_, line)| FUNCTION.is_match(line)) {
        let above = |is: fn(&&&str) -> bool, end: usize| lines[..end].iter().rev().take_while(is).count();
        let attributes = number - above(|line| line.starts_with("#["), number);
        let first = attributes - above(|line| line.starts_with("///"), attributes);
        let is_test = lines[attributes..number].iter().any(|line| line.ends_with("test]"));
        let opening = lines[first].trim_start_matches('/').trim_start();
        if first < attributes && !is_test && !VERB.is_match(opening) {
            let start: String = opening.chars().take(40).collect();
            found.push((first + 1, format!("`{start}…`: {NO_VERB}; write: `Returns the …`, `Checks …`")));
        }
    }
    found
}

/// Reports everything in a file that the rules refuse, by lines.
fn refused(name: &str, text: &str) -> Vec<String> {
    let kind = if name.ends_with(".md") { Kind::Markdown } else { Kind::Rust };
    let mut found = Vec::new();
    for paragraph in paragraphs(text, kind) {
        found.extend(phrases(&paragraph));
        found.extend(long_sentences(&paragraph));
    }
    if !GENERATED.contains(&name) {
        found.extend(wide_lines(text, kind));
    }
    if kind == Kind::Rust && WITH_VERBS.iter().any(|directory| name.starts_with(directory)) {
        found.extend(without_verb(text));
    }
    found.sort();
    found.into_iter().map(|(line, report)| format!("{name}:{line}: {report}")).collect()
}

/// Returns all sources and pages below a directory, except what was built.
fn texts(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of the tree") {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(texts(&path));
        } else if name.ends_with(".rs") || name.ends_with(".md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn the_tree_is_in_plain_english() {
    let mut all = Vec::new();
    for path in texts(&root()) {
        let name = path.strip_prefix(root()).expect("a file of the tree").to_string_lossy().into_owned();
        if name != THIS {
            all.extend(refused(&name, &read(&path)));
        }
    }
    assert!(all.is_empty(), "{} times not plain English:\n{}", all.len(), all.join("\n"));
}

#[test]
fn a_refused_phrase_is_found_with_its_line() {
    let source = "//! Fine.\n\n/// The same for a task.\nfn f() {\n    // It goes to\n    // whoever asks, `whoever`.\n}\n";
    let found = refused("a.rs", source);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a.rs:3: `The same`: ") && found[1].starts_with("a.rs:6: `whoever`: "));
    let page = "| who has it | fine |\n\n```text\nwhoever\n```\n";
    assert_eq!(refused("a.md", page).len(), 1);
}

#[test]
fn a_function_whose_comment_has_no_verb_is_found() {
    let source = "/// The page.\n#[inline]\npub fn f() {}\n\n/// A page is free.\n#[test]\nfn t() {}\n\n\
                  /// Returns the page.\nfn g() {}\n\n/// The page.\nstruct S;\nfn h() {}\n";
    let found = refused("abi/src/a.rs", source);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("abi/src/a.rs:1: `The page.…`: "));
    assert_eq!(refused("other/src/a.rs", source), [""; 0]);
}

#[test]
fn a_long_sentence_and_a_wide_line_are_found() {
    let fine = format!("One. Two{}.\n", "\nwords".repeat(LONGEST - 1));
    assert_eq!(refused("a.md", &fine), [""; 0]);
    let long = fine.replacen("words", "more words", 1);
    assert_eq!(refused("a.md", &long).len(), 1);
    let wide = format!("// {}\n// {}\n", "x".repeat(WIDEST - 3), "y".repeat(WIDEST - 2));
    assert_eq!(refused("a.rs", &wide), [format!("a.rs:2: a line of 101 columns (at most {WIDEST})")]);
}
