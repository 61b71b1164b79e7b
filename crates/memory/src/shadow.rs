//! Repeating a run without consequences: what reads may read, and what writes only seems to write.
//!
//! The executor is never given anything that can write. It holds a [`Reader`], asks it for tools the
//! catalogue declares as `read` and for nothing else, and answers every other call itself.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Access, Called, Catalogue, Failure};

/// Something that can read the world and cannot change it.
pub trait Reader {
    fn read(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure>;
}

/// Reads nothing: for replays from a recording alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReader;

impl Reader for NoReader {
    fn read(&mut self, tool: &str, _: &Value) -> Result<Value, Failure> {
        let message = format!("no recording of `{tool}` fits, and nothing may be read live");
        Err(Failure { message, code: None })
    }
}

/// How a call finds its recorded answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matching {
    /// The same arguments, in any order of their keys.
    #[default]
    Strict,
    /// The next one of the tool; where arguments differ, that is reported as drift.
    Fifo,
}

/// What happens to a read that no recording answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Miss {
    #[default]
    Fail,
    /// Answered with an example made from the schema.
    Stub,
    LiveRead,
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ShadowReport {
    pub recorded_reads: usize,
    pub live_reads: usize,
    pub stubbed_reads: usize,
    /// Writes that only seemed to happen. Never one that did.
    pub stubbed_writes: usize,
    pub missed: usize,
    /// Calls answered by a recording of other arguments.
    pub drifted: usize,
    /// Recordings nobody asked for, by tool.
    pub unconsumed: BTreeMap<String, usize>,
}

impl ShadowReport {
    /// Counts another replay with this one.
    pub(crate) fn add(&mut self, other: &Self) {
        self.recorded_reads += other.recorded_reads;
        self.live_reads += other.live_reads;
        self.stubbed_reads += other.stubbed_reads;
        self.stubbed_writes += other.stubbed_writes;
        self.missed += other.missed;
        self.drifted += other.drifted;
        for (tool, count) in &other.unconsumed {
            *self.unconsumed.entry(tool.clone()).or_default() += count;
        }
    }
}

/// A replay of one run.
pub struct Shadow<'a> {
    catalogue: &'a Catalogue,
    matching: Matching,
    miss: Miss,
    reader: &'a mut dyn Reader,
    recording: Vec<(Called, bool)>,
    /// What the run believes it wrote.
    written: Vec<(String, Map<String, Value>)>,
    report: ShadowReport,
}

impl fmt::Debug for Shadow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow").field("report", &self.report).finish_non_exhaustive()
    }
}

impl<'a> Shadow<'a> {
    pub fn new(
        catalogue: &'a Catalogue,
        recording: Vec<Called>,
        (matching, miss): (Matching, Miss),
        reader: &'a mut dyn Reader,
    ) -> Self {
        let recording = recording.into_iter().map(|call| (call, false)).collect();
        let (written, report) = (Vec::new(), ShadowReport::default());
        Self { catalogue, matching, miss, reader, recording, written, report }
    }

    /// Answers a call of the run that is repeated.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        let access = self.catalogue.tool(tool).map(|at| self.catalogue.schema(at).access);
        match access.unwrap_or(Access::Unknown) {
            Access::Read => self.read(tool, arguments).map(|value| self.overlaid(arguments, value)),
            Access::Write | Access::Unknown => Ok(self.write(tool, arguments)),
        }
    }

    pub fn finish(mut self) -> ShadowReport {
        for (call, used) in &self.recording {
            if !used {
                *self.report.unconsumed.entry(call.tool.clone()).or_default() += 1;
            }
        }
        self.report
    }

    fn read(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        if let Some(at) = self.recorded(tool, arguments) {
            let (call, used) = &mut self.recording[at];
            *used = true;
            self.report.recorded_reads += 1;
            self.report.drifted += usize::from(canonical(&call.arguments) != canonical(arguments));
            return call.result.clone().map(|text| parsed(&text));
        }
        match self.miss {
            Miss::Fail => {
                self.report.missed += 1;
                NoReader.read(tool, arguments)
            }
            Miss::Stub => {
                self.report.stubbed_reads += 1;
                Ok(self.example(tool, arguments))
            }
            Miss::LiveRead => {
                self.report.live_reads += 1;
                self.reader.read(tool, arguments)
            }
        }
    }

    /// The shape of what the tool answered when it really wrote, without what it said; else an
    /// example. The arguments are remembered for later reads.
    fn write(&mut self, tool: &str, arguments: &Value) -> Value {
        self.report.stubbed_writes += 1;
        if let Value::Object(fields) = arguments {
            self.written.push((tool.to_owned(), fields.clone()));
        }
        let answer = match self.recorded(tool, arguments) {
            Some(at) => {
                let (call, used) = &mut self.recording[at];
                *used = true;
                self.report.drifted +=
                    usize::from(canonical(&call.arguments) != canonical(arguments));
                call.result.as_ref().ok().map(|text| masked(&parsed(text)))
            }
            None => None,
        };
        answer.unwrap_or_else(|| self.example(tool, arguments))
    }

    fn recorded(&self, tool: &str, arguments: &Value) -> Option<usize> {
        self.recording.iter().position(|(call, used)| {
            let fits = self.matching == Matching::Fifo
                || canonical(&call.arguments) == canonical(arguments);
            !used && call.tool == tool && fits
        })
    }

    fn example(&self, tool: &str, arguments: &Value) -> Value {
        let mut fields = Map::new();
        fields.insert("ok".to_owned(), Value::Bool(true));
        let declared = self.catalogue.tool(tool).map(|at| self.catalogue.schema(at));
        for argument in declared.map(|schema| schema.arguments.as_slice()).unwrap_or_default() {
            if let Some(value) = arguments.get(&argument.name) {
                fields.insert(argument.name.clone(), value.clone());
            }
        }
        Value::Object(fields)
    }

    /// A read of something that was written shows it as written: an object, found by an argument
    /// that names a record in both calls, has the written fields.
    fn overlaid(&self, arguments: &Value, mut value: Value) -> Value {
        let Value::Object(result) = &mut value else { return value };
        for (_, written) in &self.written {
            let mut names = written.iter().filter(|(key, _)| is_name(key));
            let same = names.any(|(key, name)| {
                arguments.get(key) == Some(name) || result.get(key) == Some(name)
            });
            if same {
                let fields = written.iter().filter(|(key, _)| !is_name(key));
                result.extend(fields.map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        value
    }
}

/// Whether an argument names a record.
fn is_name(key: &str) -> bool {
    key == "id" || key.ends_with("_id") || key.ends_with("Id") || key == "key" || key == "name"
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// The same shape with nothing said.
fn masked(value: &Value) -> Value {
    match value {
        Value::String(_) => Value::String("…".to_owned()),
        Value::Array(values) => values.iter().map(masked).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), masked(value))).collect()
        }
        Value::Number(_) | Value::Bool(_) | Value::Null => value.clone(),
    }
}

/// Keys in order, so that equal arguments are equal texts.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, String> =
                fields.iter().map(|(key, value)| (key, canonical(value))).collect();
            format!("{sorted:?}")
        }
        Value::Array(values) => format!("{:?}", values.iter().map(canonical).collect::<Vec<_>>()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
