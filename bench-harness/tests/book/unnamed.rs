//! Checks that every current figure in the book has its name. If a paragraph names a row of the
//! bench, and a number in it is near that row's figure, a mark must follow the number, by which the
//! number is compared with the committed data.

use bench_harness::figures::data::Data;
use bench_harness::rows;

use crate::{pages, prose, read, root};

/// Pages about a certain day, or about figures that are not ours.
const EXCEPT: [&str; 2] = ["peers.md", "holes.md"];
/// Numbers below are sizes and counts more often than figures.
const LEAST: u64 = 20;
/// How near a number is to a figure that it may be an old state of, in percent.
const NEAR: u64 = 20;

/// Text without what is made of data already: tables between markers, and numbers with marks.
fn unmarked(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("<!--") {
        let (comment, after) = after.split_once("-->").expect("a comment ends");
        if comment.starts_with('=') {
            text += before.trim_end_matches(|c: char| c.is_ascii_digit() || c == ',');
        } else {
            text += before;
        }
        let is_table = comment.starts_with(" figures:");
        rest = if is_table {
            after.split_once("<!-- end of figures -->").expect("a table ends").1
        } else {
            after
        };
    }
    text + rest
}

/// A paragraph's words in backticks, and its numbers outside of them.
fn names_and_numbers(paragraph: &str) -> (Vec<&str>, Vec<u64>) {
    let parts: Vec<&str> = paragraph.split('`').collect();
    let names = parts.iter().skip(1).step_by(2).copied().collect();
    let words = parts
        .iter()
        .step_by(2)
        .flat_map(|text| text.split(|c: char| c.is_whitespace() || "|()*".contains(c)));
    let number = |word: &str| word.trim_end_matches(['.', ',', ';', ':']).replace(',', "").parse().ok();
    (names, words.filter_map(number).collect())
}

/// Numbers of a page that look like figures of rows that are named beside them.
fn unnamed(page: &str, data: &Data) -> Vec<String> {
    // A line of a table is a paragraph.
    let text = unmarked(&prose(page)).replace("\n|", "\n\n|").replace(" %", "%");
    let mut found = Vec::new();
    for paragraph in text.split("\n\n") {
        let (names, numbers) = names_and_numbers(paragraph);
        for name in names.into_iter().filter(|name| rows::ROWS.iter().any(|row| row.name == *name)) {
            let Ok(figure) = data.figure(name).or_else(|_| data.figure(&format!("{name}@2"))) else {
                continue;
            };
            let near = |number: &u64| *number >= LEAST && number.abs_diff(figure) * 100 <= figure * NEAR;
            found.extend(numbers.iter().copied().filter(near).map(|number| format!("{name}: {number}")));
        }
    }
    found
}

#[test]
fn figures_have_names() {
    let data = Data::read(&root()).expect("the committed data");
    let mut all = Vec::new();
    for page in pages() {
        let name = page.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        if !EXCEPT.contains(&name.as_str()) {
            all.extend(unnamed(&read(&page), &data).into_iter().map(|found| format!("{name}: {found}")));
        }
    }
    assert!(
        all.is_empty(),
        "figures without a mark, as in `167<!--=call_reply_cross_as-->`:\n{}",
        all.join("\n")
    );
}

#[test]
fn a_figure_without_a_name_is_found() {
    let data = Data::read(&root()).expect("the committed data");
    let stale = "A call, `call_reply_cross_as`, takes **170** (of 1,000 samples).\n\nElsewhere 167.\n";
    assert_eq!(unnamed(stale, &data), ["call_reply_cross_as: 170"]);
    let marked = "A call, `call_reply_cross_as`, takes 170<!--=call_reply_cross_as-->.\n";
    assert_eq!(unnamed(marked, &data), [""; 0]);
}
