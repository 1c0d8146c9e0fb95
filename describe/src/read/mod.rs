//! Reads a file's text into [`Written`]: syntax, keys, kinds and ranges of values.

mod devices;
mod groups;
mod labels;
pub mod process;
mod syntax;
pub mod time;

use toml::de::DeTable;

use crate::keys;
use crate::problem::Problems;
use crate::values::Fields;
use crate::written::Written;

/// The name of no label.
pub const NO_LABEL: &str = "none";

/// Reads a description. Its syntax must be right before anything else is looked at.
pub fn read(text: &str, problems: &mut Problems) -> Written {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        problems.extend(syntax::problems(text, table.get_ref(), &errors));
        return Written::default();
    }
    let system = Fields::new("the description".to_owned(), table.get_ref(), 0..0, keys::SYSTEM, problems);
    let about = system.need("about", problems).and_then(|about| about.line(problems));
    Written {
        about: about.unwrap_or_default(),
        options: system.get("options").and_then(|options| options.text(problems)),
        verdict: system.get("verdict").and_then(|verdict| verdict.text(problems)),
        labels: labels::labels(&system, problems),
        rules: labels::rules(&system, problems),
        devices: devices::devices(&system, problems),
        groups: groups::groups(&system, problems),
        processes: process::processes(&system, problems),
    }
}
