//! A stage's metrics file, read back.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use understudy_chart::Series;

/// What a stage has written of its steps so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Curves {
    /// One for every number, in the order in which they first appear, under their keys.
    pub(super) series: Vec<Series>,
    /// Of the last line.
    pub(super) step: u64,
    pub(super) epoch: f64,
    /// What the checks of the run's health said, and at which step.
    pub(super) advice: Vec<(u64, String)>,
    /// The last line was cut short, by a kill or because it is being written now.
    pub(super) torn: bool,
}

impl Curves {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("failed to read the metrics {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("failed to understand {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut curves = Self::default();
        let last = text.lines().count();
        for (line, nth) in text.lines().zip(1..) {
            match serde_json::from_str::<Map<String, Value>>(line) {
                Ok(metrics) => curves.add(&metrics).with_context(|| format!("line {nth}"))?,
                Err(_) if nth == last => curves.torn = true,
                Err(why) => bail!("line {nth} of {last} is not a step's metrics: {why}"),
            }
        }
        Ok(curves)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }

    fn add(&mut self, metrics: &Map<String, Value>) -> Result<()> {
        let step = metrics.get("step").and_then(Value::as_u64).context("it has no `step`")?;
        self.step = step;
        self.epoch = metrics.get("epoch").and_then(Value::as_f64).unwrap_or_default();
        if let Some(advice) = metrics.get("advice").and_then(Value::as_str) {
            self.advice.push((step, advice.to_owned()));
        }
        for (key, value) in metrics.iter().filter(|(key, _)| *key != "step") {
            self.point(key, step, value);
        }
        Ok(())
    }

    /// What was not finite was written as `null` and is a gap; an object is its parts.
    fn point(&mut self, name: &str, step: u64, value: &Value) {
        let number = match value {
            Value::Null => f64::NAN,
            Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
            Value::Object(parts) => {
                for (part, value) in parts {
                    self.point(&format!("{name}/{part}"), step, value);
                }
                return;
            }
            _ => return,
        };
        let point = (step as f64, number);
        match self.series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => self.series.push(Series { name: name.to_owned(), points: vec![point] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Curves> {
        Curves::parse(&lines.join("\n"))
    }

    #[test]
    fn every_number_becomes_a_curve_with_gaps_where_it_was_none() {
        let curves = parse(&[
            r#"{"step":1,"epoch":0.5,"loss":2.0,"grad_norm":1.0,"rewards":{"length":0.5}}"#,
            r#"{"step":2,"epoch":1.0,"loss":null,"grad_norm":3,"advice":"lower the rate"}"#,
        ])
        .unwrap();
        let names: Vec<&str> = curves.series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["epoch", "loss", "grad_norm", "rewards/length"]);
        assert_eq!(curves.get("grad_norm").unwrap().points, [(1.0, 1.0), (2.0, 3.0)]);
        assert!(curves.get("loss").unwrap().points[1].1.is_nan());
        assert_eq!((curves.step, curves.epoch, curves.torn), (2, 1.0, false));
        assert_eq!(curves.advice, [(2, "lower the rate".to_owned())]);
    }

    #[test]
    fn a_torn_last_line_is_noted_and_a_damaged_one_before_it_is_an_error() {
        let curves = parse(&[r#"{"step":1,"loss":2.0}"#, r#"{"step":2,"lo"#]).unwrap();
        assert_eq!((curves.step, curves.torn), (1, true));
        let error = parse(&[r#"{"step":1,"lo"#, r#"{"step":2,"loss":1.0}"#]).unwrap_err();
        assert!(error.to_string().contains("line 1 of 2"), "{error}");
        assert_eq!(parse(&[]).unwrap(), Curves::default());
    }
}
