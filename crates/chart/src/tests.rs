use crate::{Drawing, Panel, Series, axis::Axis, short, sparkline, svg};

const DRAWING: Drawing<'_> = Drawing { title: "run", steps: "step", columns: 2 };

fn series(values: &[f64]) -> Series {
    let points = values.iter().enumerate().map(|(nth, value)| ((nth + 1) as f64, *value));
    Series { name: "loss".to_owned(), points: points.collect() }
}

fn drawn(series: Series) -> String {
    svg(&[Panel { title: series.name.clone(), series: vec![series] }], DRAWING)
}

/// Floats of every kind, evenly over their bit patterns, and the kinds a pattern rarely hits.
fn floats(seed: u64, count: usize) -> Vec<f64> {
    let special = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN];
    let small = [f64::MIN_POSITIVE, 5e-324, -5e-324, 1.0, 1.0 + f64::EPSILON, 1e16, 1e-300];
    let mut state = seed;
    let mut next = || {
        // Knuth's MMIX generator.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    };
    let any = |bits: u64| match bits >> 60 {
        0..=3 => special[(bits as usize >> 8) % special.len()],
        4..=7 => small[(bits as usize >> 8) % small.len()],
        8..=11 => (bits >> 11) as f64 / (1_u64 << 53) as f64 - 0.5,
        _ => f64::from_bits(bits.rotate_left(17)),
    };
    (0..count).map(|_| any(next())).collect()
}

/// The least an XML reader asks for: tags nest and close, text and attributes hold no bare `<`, `&`
/// or quote, and there is one root. Returns the names of all elements.
fn elements(xml: &str) -> Vec<String> {
    let (mut open, mut names): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        assert_entities(&rest[..at]);
        let end = rest.find('>').expect("every tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        assert!(!tag.contains('<'), "<{tag}>");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
        assert!(!open.is_empty() || names.is_empty(), "{name} is a second root");
        let attributes = tag[name.len()..].trim_end_matches('/');
        assert_entities(attributes);
        let quotes = attributes.matches('"').count();
        assert_eq!(quotes, 2 * attributes.matches('=').count(), "<{tag}>");
        if !tag.ends_with('/') {
            open.push(name.clone());
        }
        names.push(name);
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} is left open");
    names
}

fn assert_entities(text: &str) {
    for piece in text.split('&').skip(1) {
        let is_known = ["amp;", "lt;", "gt;", "quot;"].iter().any(|name| piece.starts_with(name));
        assert!(is_known, "&{piece}");
    }
}

#[test]
fn any_floats_are_drawn_as_well_formed_xml_without_a_number_that_is_none() {
    for seed in 0..300 {
        let count = seed as usize % 40;
        let (steps, values) = (floats(seed, count), floats(seed + 1000, count));
        let points = steps.into_iter().zip(values).collect();
        let series = Series { name: "any".to_owned(), points };
        let svg = drawn(series.clone());
        elements(&svg);
        let paths = svg.split("d=\"").skip(1).filter_map(|rest| rest.split('"').next());
        for path in paths {
            assert!(!path.contains("NaN") && !path.contains("inf"), "{seed}: {path}");
        }
        let width = seed as usize % 13;
        assert_eq!(sparkline(&series, width).chars().count(), count.min(width));
    }
}

#[test]
fn the_ticks_of_an_axis_are_few_and_cover_every_value() {
    for seed in 0..500 {
        let values = floats(seed, 2);
        let mut ends: Vec<f64> = values
            .iter()
            .filter(|value| value.is_finite())
            .map(|v| v.clamp(-1e300, 1e300))
            .collect();
        ends.sort_by(f64::total_cmp);
        let [low, high] = ends[..] else { continue };
        let axis = Axis::over(low, high, 4);
        let ticks = &axis.ticks;
        assert!((2..=8).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
        assert!(ticks[0] <= low && high <= ticks[ticks.len() - 1], "{low} to {high}: {ticks:?}");
        assert!(ticks.is_sorted_by(|a, b| a < b), "{ticks:?}");
        let labels = axis.labels();
        let distinct: std::collections::BTreeSet<&String> = labels.iter().collect();
        assert_eq!(distinct.len(), labels.len(), "{low} to {high}: {labels:?}");
    }
}

#[test]
fn ticks_are_round() {
    let labels = |low, high| Axis::over(low, high, 4).labels();
    assert_eq!(labels(0.13, 2.31), ["0", "1", "2", "3"]);
    assert_eq!(labels(0.41, 0.79), ["0.4", "0.5", "0.6", "0.7", "0.8"]);
    assert_eq!(labels(-3.0, 18.0), ["-10", "0", "10", "20"]);
    assert_eq!(labels(1200.0, 56_000.0), ["0", "20k", "40k", "60k"]);
    assert_eq!(labels(0.0, 2e-4), ["0", "5e-5", "1e-4", "1.5e-4", "2e-4"]);
    assert_eq!(Axis::of_steps(1.0, 3.0, 5).labels(), ["1", "2", "3"]);
    assert_eq!(Axis::of_steps(7.0, 7.0, 5).labels(), ["7"]);
    assert_eq!(Axis::of_steps(1.0, 100.0, 5).labels(), ["20", "40", "60", "80", "100"]);
}

#[test]
fn a_sparkline_climbs_from_the_least_to_the_most() {
    let climb: Vec<f64> = (0..8).map(f64::from).collect();
    assert_eq!(sparkline(&series(&climb), 8), "▁▂▃▄▅▆▇█");
    assert_eq!(sparkline(&series(&[-4.0, -1.0, -4.0]), 8), "▁█▁");
    assert_eq!(sparkline(&series(&[f64::MIN, 0.0, f64::MAX]), 8), "▁▅█");
}

#[test]
fn a_sparkline_shows_gaps_constants_and_lonely_points() {
    assert_eq!(sparkline(&series(&[1.0, f64::NAN, 2.0]), 8), "▁ █");
    assert_eq!(sparkline(&series(&[5.0; 4]), 8), "▄▄▄▄");
    assert_eq!(sparkline(&series(&[0.25]), 8), "▄");
    assert_eq!(sparkline(&series(&[f64::INFINITY, f64::NAN]), 8), "  ");
    assert_eq!(sparkline(&series(&[]), 8), "");
    assert_eq!(sparkline(&series(&[1.0, 2.0]), 0), "");
}

#[test]
fn a_sparkline_averages_what_it_has_no_room_for() {
    let steps: Vec<f64> = (0..40).map(|nth| if nth < 20 { 1.0 } else { 3.0 }).collect();
    assert_eq!(sparkline(&series(&steps), 4), "▁▁██");
    assert_eq!(sparkline(&series(&[1.0, f64::NAN, 3.0, 3.0]), 2), "▁█");
}

#[test]
fn numbers_are_as_long_as_a_person_needs() {
    let shown = [0.0, -0.5, 0.412_74, 12.345, 1234.4, 12_345.0, 2.5e6, 3.1e-5, f64::NAN].map(short);
    assert_eq!(shown, ["0", "-0.5", "0.4127", "12.35", "1234", "12.35k", "2.5M", "3.1e-5", "–"]);
}

#[test]
fn a_drawing_has_every_panel_every_name_and_no_script() {
    let two = |name: &str| Series { name: name.to_owned(), ..series(&[1.0, 2.0]) };
    let panels = [
        Panel { title: "loss".to_owned(), series: vec![two("a"), two("b")] },
        Panel { title: "<x> & \"y\"\u{1}".to_owned(), series: vec![two("b")] },
        Panel { title: "empty".to_owned(), series: Vec::new() },
    ];
    let svg = svg(&panels, DRAWING);
    let elements = elements(&svg);
    assert_eq!(elements.iter().filter(|name| *name == "g").count(), 3);
    assert!(!elements.iter().any(|name| name == "script"));
    assert!(svg.contains("&lt;x&gt; &amp; &quot;y&quot;\u{fffd}"), "{svg}");
    assert!(svg.contains("no values") && svg.contains("prefers-color-scheme:dark"));
    // A series has its colour wherever it appears: in the legend, and in both panels.
    assert_eq!(svg.matches("class=\"line s1\"").count(), 3);
    assert!(!svg.contains("href") && !svg.contains("url("), "needs something from outside");
}

#[test]
fn a_gap_breaks_the_line_and_a_spike_survives_thinning() {
    let svg = drawn(series(&[1.0, 2.0, f64::NAN, 3.0]));
    assert_eq!(svg.matches("class=\"line s0\"").count(), 2, "legend and line: {svg}");
    assert_eq!(svg.matches("class=\"line s0 dot\"").count(), 1, "{svg}");
    let mut many = vec![0.0; 20_000];
    many[12_345] = 7.0;
    let thinned = drawn(series(&many));
    assert!(thinned.len() < 40_000, "{} bytes", thinned.len());
    // The spike is the top of its axis, 8: an eighth of the plot's 144 units below its top at 30.
    assert!(thinned.contains(" 48.0L"), "the spike is gone");
}
