//! A figure in a sentence or a table: a number, followed by a comment that names its source and
//! that readers do not see. `**67,351**<!--=max_interrupts_off-->` is written with the emphasis
//! inside: `**67,351<!--=max_interrupts_off-->**`.

use anyhow::{Result, bail};

use super::data::Data;
use super::grouped;

const BEGIN: &str = "<!--=";
const END: &str = "-->";

/// Returns the text with the data's values for all marked figures.
///
/// Errors: a mark names no figure, or follows no number.
pub fn fill(text: &str, data: &Data) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let Some((name, after)) = after.split_once(END) else {
            bail!("a mark without its end: {BEGIN}{after}")
        };
        let words = before.trim_end_matches(|c: char| c.is_ascii_digit() || c == ',');
        if words.len() == before.len() {
            bail!("{BEGIN}{name}{END} follows no number");
        }
        filled += words;
        filled += &format!("{}{BEGIN}{name}{END}", grouped(data.figure(name)?));
        rest = after;
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::data::tests::committed;

    #[test]
    fn numbers_become_those_of_the_data() {
        let data = committed();
        let page = |figure: &str| format!("It takes {figure}<!--=remap_move_512p--> (1,024 pages).\n");
        let right = grouped(data.figure("remap_move_512p").expect("a row"));
        for figure in ["1", "18,296", &right] {
            assert_eq!(fill(&page(figure), &data).expect("filled"), page(&right));
        }
        assert_eq!(fill("no figures, 167\n", &data).expect("filled"), "no figures, 167\n");
    }

    #[test]
    fn what_marks_nothing_is_refused() {
        let data = committed();
        for (text, says) in [
            ("167<!--=nosuch-->", "no figure nosuch"),
            ("many<!--=null_syscall-->", "follows no number"),
            ("<!--=null_syscall-->", "follows no number"),
            ("28<!--=null_syscall", "without its end"),
        ] {
            let error = fill(text, &data).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
