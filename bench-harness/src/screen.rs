//! What a person sees while a run goes on: a spinner on a terminal, plain lines elsewhere.
//!
//! Everything here goes to standard error; standard output carries results only.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The one line that moves, and the lines that stay.
pub struct Screen {
    bar: ProgressBar,
    /// Stands before each step.
    headline: Mutex<String>,
}

impl Screen {
    pub fn new() -> Screen {
        // Draws only if standard error is a terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let look = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg:.dim} {elapsed}");
        bar.set_style(look.expect("the template is constant"));
        bar.enable_steady_tick(Duration::from_millis(120));
        Screen { bar, headline: Mutex::default() }
    }

    /// Whether anybody sees what moves.
    pub fn is_drawn(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// What all further steps are part of.
    pub fn headline(&self, text: &str) {
        *self.lock() = format!("{text}  ");
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// What is going on.
    pub fn step(&self, what: &str) {
        self.bar.set_prefix(format!("{}{what}", self.lock()));
        self.bar.set_message("");
        self.bar.reset_elapsed();
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.headline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it has come.
    pub fn progress(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }
}

impl Default for Screen {
    fn default() -> Screen {
        Screen::new()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
