//! The display during a run: a spinner on a terminal, plain lines elsewhere.
//!
//! Everything here goes to standard error; standard output carries results only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The one line that moves, and the lines that stay.
pub struct Screen {
    bar: Arc<Bar>,
    /// Stands before each step.
    headline: Mutex<String>,
    /// The lines that have stayed since somebody took them.
    said: Mutex<Vec<String>>,
}

/// The line that moves; it is cleared when its last screen goes.
struct Bar(ProgressBar);

impl Screen {
    pub fn new() -> Screen {
        // Draws only if standard error is a terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let look = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg:.dim} {elapsed}");
        bar.set_style(look.expect("the template is constant"));
        bar.enable_steady_tick(Duration::from_millis(120));
        Screen { bar: Arc::new(Bar(bar)), headline: Mutex::default(), said: Mutex::default() }
    }

    /// Returns another screen in the same place, for work beside this one's: it keeps its own
    /// lines.
    pub fn beside(&self) -> Screen {
        let headline = Mutex::new(lock(&self.headline).clone());
        Screen { bar: Arc::clone(&self.bar), headline, said: Mutex::default() }
    }

    /// Returns whether a person can see lines that move: the output is a terminal.
    pub fn is_drawn(&self) -> bool {
        !self.bar.0.is_hidden()
    }

    /// Shows no more lines that move: a person works at the terminal.
    pub fn leave(&self) {
        self.bar.0.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Sets the text before all further steps.
    pub fn headline(&self, text: &str) {
        *lock(&self.headline) = format!("{text}  ");
    }

    /// Prints a line that stays.
    pub fn say(&self, line: &str) {
        self.bar.0.suspend(|| eprintln!("{line}"));
        lock(&self.said).push(line.to_owned());
    }

    /// Takes the lines that were printed to stay since the last call.
    pub fn take_said(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.said))
    }

    /// Shows the present step.
    pub fn step(&self, what: &str) {
        self.bar.0.set_prefix(format!("{}{what}", lock(&self.headline)));
        self.bar.0.set_message("");
        self.bar.0.reset_elapsed();
    }

    /// Shows how far the step has come.
    pub fn progress(&self, text: &str) {
        self.bar.0.set_message(text.to_owned());
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Screen {
    fn default() -> Screen {
        Screen::new()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
