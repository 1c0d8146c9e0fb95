//! `aurora-bench figures`: writes all pages again, or compares them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::data::Data;
use super::worst::{self, Worst};
use super::{RECIPE, marks, tables, with_named_table, with_table};
use crate::explain::steps;
use crate::files;
use crate::mailbox;
use crate::peers::page as peers_page;
use crate::scale;
use crate::trouble::Trouble;

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench figures             README and book get the committed figures
  aurora-bench figures --check     do they have them?
  aurora-bench figures --keep hostile=target/hostile/latest.json
                                   the longest stretches of a run, kept and put into the book";

#[derive(Args, Debug)]
pub struct FiguresArgs {
    /// Change nothing; fail if a page has other figures than the data
    #[arg(long)]
    check: bool,
    /// Keep the longest stretches that a run wrote to a file, under the name of the run
    #[arg(long, value_name = "RUN=FILE", value_parser = kept, conflicts_with = "check")]
    keep: Vec<(String, PathBuf)>,
    /// The project's root
    #[arg(long, default_value = ".", value_name = "DIR")]
    root: PathBuf,
}

/// A file that has figures, and its text with those of the data.
struct Page {
    file: PathBuf,
    was: String,
    is: String,
}

/// Parses the name of a run and its file.
fn kept(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("a name and a file, such as fuzz=target/fuzz.json".to_owned()),
    }
}

pub fn run(args: &FiguresArgs) -> Result<()> {
    if !args.keep.is_empty() {
        let path = args.root.join(worst::COMMITTED);
        let mut worst = Worst::read(&path)?;
        args.keep.iter().try_for_each(|(name, file)| worst.keep(name, file))?;
        worst.write(&path)?;
    }
    let stale: Vec<Page> = pages(&args.root)?.into_iter().filter(|page| page.is != page.was).collect();
    if args.check && !stale.is_empty() {
        let text = stale.iter().map(|page| format!("{}: {}", page.file.display(), first_difference(page)));
        let text = format!("{}\n`{RECIPE}` writes them again", text.collect::<Vec<_>>().join("\n"));
        return Err(Trouble::CheckFailed(text).into());
    }
    for page in stale {
        files::write(&page.file, &page.is)?;
        println!("{}: written", page.file.display());
    }
    Ok(())
}

/// Returns README, all chapters of the book, and the pictures that are drawn from data.
fn pages(root: &Path) -> Result<Vec<Page>> {
    let data = Data::read(root)?;
    let book = root.join("docs/src");
    let mut files = vec![root.join("README.md")];
    for entry in std::fs::read_dir(&book).with_context(|| format!("reading {}", book.display()))? {
        files.push(entry?.path());
    }
    files.sort();
    let made = [
        (root.join("README.md"), RECIPE, tables::readme(&data)),
        (book.join("results.md"), RECIPE, tables::results(&data)),
        (book.join("fastpath.md"), RECIPE, data.phases.table()),
        (book.join("stretches.md"), worst::RECIPE, data.worst.operations()),
        (book.join("hostile.md"), worst::RECIPE, data.worst.attacks()),
        (book.join("scaling.md"), scale::RECIPE, scale::page(&data.scale)),
        (book.join("mailbox-bench.md"), mailbox::RECIPE, data.mailbox.page()),
        (book.join("peers.md"), peers_page::RECIPE, peers_page::render(&data.peers)),
    ];
    let chapter = book.join("steps.md");
    let lists = steps::lists(&data.steps, root)?;
    let drawn = [
        (book.join("scaling.svg"), scale::picture(&data.scale)?),
        (book.join("mailbox-bench.svg"), data.mailbox.picture()?),
    ];
    let mut pages = Vec::new();
    for file in files.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "md")) {
        let was = read(&file)?;
        let within = || format!("in {}", file.display());
        let mut is = marks::fill(&was, &data).with_context(within)?;
        for (_, recipe, table) in made.iter().filter(|(page, ..)| *page == file) {
            is = with_table(&is, recipe, table).with_context(within)?;
        }
        for (row, list) in lists.iter().filter(|_| file == chapter) {
            is = with_named_table(&is, row, list).with_context(within)?;
        }
        pages.push(Page { file, was, is });
    }
    for (file, is) in drawn {
        pages.push(Page { was: read(&file)?, file, is });
    }
    Ok(pages)
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

fn first_difference(page: &Page) -> String {
    let mut lines = page.was.lines().zip(page.is.lines()).enumerate();
    lines.find(|(_, (was, is))| was != is).map_or_else(
        || "it has more or fewer lines than the data makes".to_owned(),
        |(number, (was, is))| format!("line {}: {was}\n  the data has: {is}", number + 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_the_committed_figures() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let args = FiguresArgs { check: true, keep: Vec::new(), root };
        run(&args).unwrap_or_else(|error| panic!("{error:#}"));
    }

    #[test]
    fn a_run_to_keep_has_a_name_and_a_file() {
        assert_eq!(kept("fuzz=a=b"), Ok(("fuzz".to_owned(), "a=b".into())));
        assert!(kept("fuzz").is_err() && kept("=a").is_err() && kept("fuzz=").is_err());
    }

    #[test]
    fn a_stale_figure_is_shown() {
        let page = Page { file: "page.md".into(), was: "a\n167\n".into(), is: "a\n168\n".into() };
        assert_eq!(first_difference(&page), "line 2: 167\n  the data has: 168");
    }
}
