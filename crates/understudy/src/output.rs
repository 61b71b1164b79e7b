//! What people and machines read: text or JSON on standard output, progress on standard error.
#![expect(clippy::print_stdout, reason = "the one module that talks to standard output")]

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Where a command's results go. With `--json`, text is silent and one value is printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    json: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// A line for people.
    pub(crate) fn say(self, text: impl AsRef<str>) {
        if !self.json {
            println!("{}", text.as_ref());
        }
    }

    /// A row of a listing that is a file format of its own, whatever was asked for.
    pub(crate) fn row(text: &str) {
        println!("{text}");
    }

    /// The result for machines.
    pub(crate) fn value(self, value: &impl Serialize) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(value)?);
        }
        Ok(())
    }

    /// One line of several for machines, from a command that goes on.
    pub(crate) fn line(self, value: &serde_json::Value) {
        if self.json {
            println!("{value}");
        }
    }

    /// Text for people or a value for machines, whichever was asked for.
    pub(crate) fn either(
        self,
        text: impl AsRef<str>,
        value: &impl Serialize,
    ) -> anyhow::Result<()> {
        self.say(text);
        self.value(value)
    }

    /// A bar over `length` steps; nothing at all when standard error is no terminal.
    pub(crate) fn bar(self, length: u64, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("  {prefix:<12} {bar:28} {pos}/{len} {msg}")
            .expect("the template is well formed");
        let bar = ProgressBar::with_draw_target(Some(length), self.target()).with_style(style);
        bar.set_prefix(what.to_owned());
        bar
    }

    /// A warning on standard error, above the bar where one is drawn.
    #[expect(clippy::print_stderr, reason = "the other stream this module talks to")]
    pub(crate) fn warn(bar: &ProgressBar, text: impl AsRef<str>) {
        bar.suspend(|| eprintln!("warning: {}", text.as_ref()));
    }

    /// A bar over bytes.
    pub(crate) fn byte_bar(self, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(
            "  {prefix:<12} {bar:28} {bytes}/{total_bytes} {bytes_per_sec} {msg}",
        )
        .expect("the template is well formed");
        let bar = ProgressBar::with_draw_target(Some(0), self.target()).with_style(style);
        bar.set_prefix(what.to_owned());
        bar
    }

    /// Something of unknown length.
    pub(crate) fn spinner(self, what: &str) -> ProgressBar {
        let spinner = ProgressBar::with_draw_target(None, self.target());
        spinner.set_message(what.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    fn target(self) -> ProgressDrawTarget {
        if !self.json && std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        }
    }
}
