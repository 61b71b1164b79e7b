//! The report as people read it.

use std::{fmt::Write as _, ops::Range};

use comfy_table::{CellAlignment, Table, presets};

use super::{Entry, OwnFloor, Report};
use crate::commands::bench::{
    load::BUSY,
    profile::{How, Profile},
};

impl Report<'_> {
    pub(in crate::commands::bench) fn text(&self) -> String {
        let mut text = format!("\n{}\n", self.measured_table());
        if self.measurements.iter().any(|entry| entry.busy) {
            writeln!(
                text,
                "* the load average was above {BUSY} before it began (the measurement before \
                 counts towards it);\n  `others` is what other programs took of all processors \
                 meanwhile. Figures from a busy machine are not those of a quiet one."
            )
            .ok();
        }
        for entry in &self.measurements {
            if let Some(note) = entry.note.as_ref().or(entry.failed.as_ref()) {
                writeln!(text, "{} {}: {note}", entry.step.as_str(), entry.name()).ok();
            }
        }
        if let Some(why) = &self.peers.skipped {
            writeln!(text, "\npeers are skipped: {why}").ok();
        }
        if self.ratios.is_empty() {
            writeln!(text, "\nno ratios: no peer gave a figure").ok();
        } else {
            let heading = "ratios, our better precision beside the better peer";
            writeln!(text, "\n{heading}\n{}", self.ratio_table()).ok();
        }
        for own in &self.floors {
            let OwnFloor { dtype, floor, share } = own;
            writeln!(
                text,
                "\n{}: products run at {:.0} GFLOP/s, {:.0} MFLOP a token: no SFT step below {:.2} \
                 s ({:.0} % of ours)",
                dtype.as_str(),
                floor.gflop_per_second,
                floor.mflop_per_token,
                floor.step_seconds,
                share * 100.0
            )
            .ok();
            if let Some(own) = self.profiles.iter().find(|own| own.dtype == *dtype) {
                writeln!(text, "{}", profile_table(&own.profile)).ok();
            }
        }
        text.trim_end().to_owned()
    }

    fn measured_table(&self) -> Table {
        let heads = ["step", "who", "s a step", "tokens/s", "cpu s", "peak GB", "machine"];
        table(&heads, self.measurements.iter().map(Entry::row), 2..6)
    }

    fn ratio_table(&self) -> Table {
        let heads =
            ["step", "ours", "better peer", "time", "aim", "cpu time", "memory", "aim", "of least"];
        let rows = self.ratios.iter().map(|ratio| {
            vec![
                ratio.step.as_str().to_owned(),
                ratio.ours.as_str().to_owned(),
                format!("{} {}", ratio.peer.as_str(), ratio.peer_dtype.as_str()),
                format!("{:.2}x", ratio.time),
                format!(">= {}x", ratio.aim_time),
                format!("{:.2}x", ratio.cpu_time),
                format!("{:.2}x", ratio.memory),
                format!("<= {}x", ratio.aim_memory),
                format!("{:.2}x", ratio.memory_least),
            ]
        });
        table(&heads, rows, 3..9)
    }
}

impl Entry {
    fn row(&self) -> Vec<String> {
        let cell = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        vec![
            self.step.as_str().to_owned(),
            self.name(),
            cell(self.step_seconds, 2),
            cell(self.tokens_per_second, 0),
            cell(self.cpu_seconds, 2),
            cell(self.peak_rss_bytes.map(|bytes| bytes as f64 / 1e9), 2),
            if self.failed.is_some() { "failed".to_owned() } else { self.quiet() },
        ]
    }
}

fn profile_table(profile: &Profile) -> Table {
    let sum: f64 = profile.parts.iter().map(|part| part.seconds).sum();
    let rows = profile.parts.iter().map(|part| {
        let how = match part.how {
            How::Timed => "timed",
            How::Difference => "by difference",
            How::Reckoned => "reckoned from the rate",
            How::Remainder => "remainder",
        };
        let share = 100.0 * part.seconds / sum.max(1e-12);
        vec![
            part.name.clone(),
            format!("{:.3}", part.seconds),
            format!("{share:.0} %"),
            how.to_owned(),
        ]
    });
    table(&["part of our SFT step", "s", "share", "how it is known"], rows, 1..3)
}

fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>, numbers: Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(heads.to_vec()).add_rows(rows);
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
