//! One pair of axes and the lines over them.

use super::{HEIGHT, WIDTH, class, escaped, put};
use crate::{
    axis::Axis,
    number::short,
    series::{Panel, Series, range},
};

/// The plot's rectangle inside the panel's.
const LEFT: f64 = 48.0;
const RIGHT: f64 = WIDTH - 24.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = HEIGHT - 36.0;

/// More points than pixels cannot be seen, only stored.
const MOST_BUCKETS: usize = (RIGHT - LEFT) as usize;

type Point = (f64, f64);

pub(super) fn draw(out: &mut String, panel: &Panel, names: &[&str], steps: &str) {
    let title = escaped(&panel.title);
    put(out, format_args!("<text class=\"name\" x=\"0\" y=\"16\">{title}</text>\n"));
    let drawn =
        || panel.series.iter().flat_map(|series| &series.points).filter(|point| is_finite(**point));
    let ranges = (range(drawn().map(|point| point.0)), range(drawn().map(|point| point.1)));
    let (Some((first, last)), Some((low, high))) = ranges else {
        put(out, format_args!("<text class=\"tick\" x=\"{LEFT}\" y=\"48\">no values</text>\n"));
        return;
    };
    if let [series] = panel.series.as_slice() {
        // With several series a last value would have to say whose.
        let last = short(series.last().unwrap_or(f64::NAN));
        let end = "text-anchor=\"end\"";
        put(out, format_args!("<text {end} x=\"{RIGHT}\" y=\"16\">{last}</text>\n"));
    }
    let across = Axis::of_steps(first, last, 5);
    let up = Axis::over(low, high, 4);
    axes(out, &across, &up, steps);
    for series in &panel.series {
        let class = class(names, &series.name);
        for points in lines(series) {
            line(out, &points, &class, &across, &up);
        }
    }
}

fn axes(out: &mut String, across: &Axis, up: &Axis, steps: &str) {
    for (tick, label) in up.ticks.iter().zip(up.labels()) {
        let y = height(up, *tick);
        let class = if y > BOTTOM - 0.5 { "axis" } else { "grid" };
        put(out, format_args!("<path class=\"{class}\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>\n"));
        let (x, y) = (LEFT - 6.0, y + 3.5);
        let place = format!("text-anchor=\"end\" x=\"{x}\" y=\"{y:.1}\"");
        put(out, format_args!("<text class=\"tick\" {place}>{label}</text>\n"));
    }
    for (tick, label) in across.ticks.iter().zip(across.labels()) {
        let x = width(across, *tick);
        put(out, format_args!("<path class=\"axis\" d=\"M{x:.1} {BOTTOM}v4\"/>\n"));
        let place = format!("text-anchor=\"middle\" x=\"{x:.1}\" y=\"{}\"", BOTTOM + 16.0);
        put(out, format_args!("<text class=\"tick\" {place}>{label}</text>\n"));
    }
    let place = format!("text-anchor=\"end\" x=\"{}\" y=\"{}\"", LEFT - 6.0, BOTTOM + 16.0);
    put(out, format_args!("<text class=\"tick\" {place}>{}</text>\n", escaped(steps)));
}

fn line(out: &mut String, points: &[Point], class: &str, across: &Axis, up: &Axis) {
    // A lonely point is a line of no length, which round ends make a dot.
    let (dot, end) = if points.len() == 1 { (" dot", "h0.01") } else { ("", "") };
    put(out, format_args!("<path class=\"{class}{dot}\" d=\""));
    for (nth, (step, value)) in points.iter().enumerate() {
        let command = if nth == 0 { 'M' } else { 'L' };
        put(out, format_args!("{command}{:.1} {:.1}", width(across, *step), height(up, *value)));
    }
    put(out, format_args!("{end}\"/>\n"));
}

/// The series from gap to gap. Of too many points, the lowest and the highest in every bucket stay:
/// a spike is what a reader looks for.
fn lines(series: &Series) -> Vec<Vec<Point>> {
    let size = series.points.len().div_ceil(MOST_BUCKETS).max(1);
    let runs = series.points.split(|point| !is_finite(*point)).filter(|run| !run.is_empty());
    runs.map(|run| match size {
        1 | 2 => run.to_vec(),
        _ => run.chunks(size).flat_map(extremes).collect(),
    })
    .collect()
}

fn extremes(bucket: &[Point]) -> Vec<Point> {
    let by_value = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
    let low = bucket.iter().min_by(by_value).copied();
    let high = bucket.iter().max_by(by_value).copied();
    let mut ends: Vec<Point> = low.into_iter().chain(high).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    ends.dedup();
    ends
}

fn is_finite(point: Point) -> bool {
    point.0.is_finite() && point.1.is_finite()
}

fn width(across: &Axis, step: f64) -> f64 {
    LEFT + across.share(step) * (RIGHT - LEFT)
}

fn height(up: &Axis, value: f64) -> f64 {
    BOTTOM - up.share(value) * (BOTTOM - TOP)
}
