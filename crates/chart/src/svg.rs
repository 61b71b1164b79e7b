//! Small multiples: one panel per metric, all series of a metric over the same axes.

mod panel;

use std::fmt::Write as _;

use crate::series::Panel;

/// Okabe and Ito's colours, told apart with every common kind of colour-blindness; the yellow of
/// theirs is too light for paper and is darker here.
const STYLE: &str = include_str!("svg/style.css");
const COLOURS: usize = 6;

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 210.0;
const MARGIN: f64 = 20.0;
const HEADER: f64 = 64.0;
/// Of the legend's letters; text cannot be measured without its font.
const LETTER: f64 = 6.8;

/// What a drawing is called and how it is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawing<'a> {
    pub title: &'a str,
    /// What the horizontal axis counts.
    pub steps: &'a str,
    /// Panels beside one another.
    pub columns: usize,
}

/// The panels as one self-contained SVG document.
pub fn svg(panels: &[Panel], drawing: Drawing<'_>) -> String {
    let names = names(panels);
    let columns = drawing.columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns);
    let width = 2.0 * MARGIN + columns as f64 * WIDTH;
    let height = HEADER + rows as f64 * HEIGHT + MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n\
         <text class=\"head\" x=\"{MARGIN}\" y=\"29\">{title}</text>\n",
        title = escaped(drawing.title),
    );
    legend(&mut out, &names);
    for (nth, panel) in panels.iter().enumerate() {
        let (column, row) = (nth % columns, nth / columns);
        let (x, y) = (MARGIN + column as f64 * WIDTH, HEADER + row as f64 * HEIGHT);
        put(&mut out, format_args!("<g transform=\"translate({x} {y})\">\n"));
        panel::draw(&mut out, panel, &names, drawing.steps);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// Names of all series, in the order they first appear.
fn names(panels: &[Panel]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for series in panels.iter().flat_map(|panel| &panel.series) {
        if !names.contains(&series.name.as_str()) {
            names.push(&series.name);
        }
    }
    names
}

fn legend(out: &mut String, names: &[&str]) {
    let mut x = MARGIN;
    for name in names {
        let class = class(names, name);
        put(out, format_args!("<path class=\"{class}\" d=\"M{x} 46h18\"/>\n"));
        let text = escaped(name);
        put(out, format_args!("<text x=\"{}\" y=\"50\">{text}</text>\n", x + 24.0));
        x += 24.0 + name.chars().count() as f64 * LETTER + 18.0;
    }
}

/// How a series is drawn; once the colours are used up they come again, dashed.
fn class(names: &[&str], name: &str) -> String {
    let nth = names.iter().position(|known| *known == name).unwrap_or(0);
    let again = if (nth / COLOURS) % 2 == 1 { " again" } else { "" };
    format!("line s{}{again}", nth % COLOURS)
}

/// Text as XML may hold it; characters that XML forbids are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(' '),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string cannot fail");
}
