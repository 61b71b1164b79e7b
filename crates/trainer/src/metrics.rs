//! One JSON line per step, under the names TRL's users have dashboards for, and the same numbers as
//! TensorBoard events beside it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use understudy_objective::{
    label::LabelMetrics, policy::PolicyMetrics, preference::PreferenceMetrics,
};
use understudy_storage::atomic;

use crate::{
    error::{Result, TrainError},
    fresh::RolloutMetrics,
    tensorboard::EventFiles,
};

/// What is written of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Counted from 1.
    pub step: u64,
    /// Epochs finished, as a fraction.
    pub epoch: f64,
    pub loss: f64,
    pub learning_rate: f64,
    /// Before clipping. `null` when it was not finite, and then the step was skipped.
    pub grad_norm: Option<f64>,
    /// Tokens since the beginning of the stage, prompts included.
    pub num_tokens: u64,
    pub tokens_per_second: f64,
    pub step_time: f64,
    /// Steps skipped so far because something was not finite.
    pub skipped_steps: u64,
    pub mean_token_accuracy: f64,
    pub entropy: f64,
    #[serde(flatten)]
    pub preference: Option<PreferenceMetrics>,
    #[serde(flatten, skip_deserializing)]
    pub labels: Option<LabelMetrics>,
    #[serde(flatten, skip_deserializing)]
    pub policy: Option<PolicyMetrics>,
    #[serde(flatten, skip_deserializing)]
    pub rollout: Option<RolloutMetrics>,
    /// Checks of the run's health that failed at this step, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// The file the lines go to, and the event files with the same steps.
#[derive(Debug)]
pub(crate) struct MetricsFile {
    path: PathBuf,
    file: File,
    events: EventFiles,
}

impl MetricsFile {
    /// Opens the file for a run that has taken `steps` steps: lines of later steps, written by a
    /// process that was killed before its next checkpoint, are dropped.
    pub(crate) fn open(path: &Path, steps: u64) -> Result<Self> {
        let failed = |source| failed(path, source);
        let kept = kept_lines(path, steps).map_err(failed)?;
        atomic::write(path, &kept)?;
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, events: EventFiles::beside(path, steps)? })
    }

    pub(crate) fn append(&mut self, metrics: &StepMetrics) -> Result<()> {
        let value = serde_json::to_value(metrics);
        let value = value.map_err(|error| failed(&self.path, error.into()))?;
        let line = format!("{value}\n");
        self.file.write_all(line.as_bytes()).map_err(|source| failed(&self.path, source))?;
        self.events.append(metrics.step, &value)
    }
}

fn failed(path: &Path, source: io::Error) -> TrainError {
    TrainError::Io { attempt: "write metrics to", path: path.to_owned(), source }
}

fn kept_lines(path: &Path, steps: u64) -> io::Result<Vec<u8>> {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
    }
    let mut kept = Vec::new();
    if steps == 0 || !fs::exists(path)? {
        return Ok(kept);
    }
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        // A line torn by a crash does not parse, and nothing behind it is of an earlier step.
        match serde_json::from_str::<Line>(&line) {
            Ok(Line { step }) if step <= steps => kept.extend(line.bytes().chain([b'\n'])),
            _ => break,
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, preference: Option<PreferenceMetrics>) -> StepMetrics {
        StepMetrics {
            step,
            epoch: 0.5,
            loss: 0.25,
            learning_rate: 1e-3,
            grad_norm: Some(1.5),
            num_tokens: 100,
            tokens_per_second: 50.0,
            step_time: 2.0,
            skipped_steps: 0,
            mean_token_accuracy: 0.75,
            entropy: 1.0,
            preference,
            labels: None,
            policy: None,
            rollout: None,
            advice: None,
        }
    }

    #[test]
    fn a_resumed_run_has_one_line_per_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut file = MetricsFile::open(&path, 0).unwrap();
        for step in 1..=5 {
            file.append(&line(step, None)).unwrap();
        }
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"step\": 6, \"lo").unwrap();

        let mut file = MetricsFile::open(&path, 3).unwrap();
        file.append(&line(4, None)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let steps: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<StepMetrics>(line).unwrap().step)
            .collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    }

    #[test]
    fn preference_metrics_keep_the_names_of_trl() {
        let preference = PreferenceMetrics { accuracy: 1.0, ..PreferenceMetrics::default() };
        let value = serde_json::to_value(line(1, Some(preference))).unwrap();
        assert_eq!(value["rewards/accuracies"], 1.0);
        assert!(value.get("logps/chosen").is_some());
        let plain = serde_json::to_value(line(1, None)).unwrap();
        assert!(plain.get("rewards/accuracies").is_none());
    }
}
