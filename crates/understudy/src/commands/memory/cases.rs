//! The cases of a suite as requests to learn from, judged by the suite's first scorer.
//!
//! A case asks for one reply, so a run of it is one reply: its calls are judged and answered by
//! nobody. Sealed cases are not for learning, and neither is a case that another suite decides by.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;
use understudy_dataset::SuiteFingerprints;
use understudy_evaluation::{CaseResult, check, score_of};
use understudy_ident::TrajectoryId;
use understudy_manifest::{Case, Suite, Tier};
use understudy_memory::{
    Called, Claim, Ending, Failure, MemoryError, Played, Practice, Task, Verifier, World,
};
use understudy_message::{FunctionCall, Message, Role, ToolCall};

/// The subject of what is claimed in an answer and not in a call.
const ANSWER: &str = "answer";

/// Cases of one suite that may be learnt from.
pub(super) struct Cases {
    suite: Suite,
    tasks: Vec<Task>,
}

/// The name a case has among the sources of a lesson, whatever suite it is in.
pub(super) fn origin(case: &Case) -> TrajectoryId {
    TrajectoryId::derived(&format!("case {}", case.digest()))
}

impl Cases {
    /// The first so many cases for which `may` is true, as requests to `agent`.
    pub(super) fn new(
        suite: Suite,
        agent: &str,
        declared: &[Value],
        (most, others): (usize, &[SuiteFingerprints]),
    ) -> Result<(Self, u64)> {
        ensure!(
            suite.tier != Tier::Sealed,
            "suite `{}` is sealed: nobody learns from its cases; name a dev or gate suite",
            suite.name
        );
        check(&suite)?;
        let decides = |case: &Case| others.iter().any(|other| other.find(&case.prompt).is_some());
        let all = suite.cases.len();
        let mut kept = Suite { cases: Vec::new(), ..suite };
        kept.cases.extend(suite.cases.into_iter().filter(|case| !decides(case)));
        let left_out = (all - kept.cases.len()) as u64;
        kept.cases.truncate(most);
        let task = |case: &Case| Task {
            source: origin(case),
            agent: Some(agent.to_owned()),
            subject: None,
            prompt: case.prompt.clone(),
            tools: if case.tools.is_empty() { declared.to_vec() } else { case.tools.clone() },
        };
        let tasks = kept.cases.iter().map(task).collect();
        Ok((Self { suite: kept, tasks }, left_out))
    }

    /// What settles on what runs disagree: the expected answers.
    pub(super) fn verifier(&self) -> ExpectedAnswers {
        let mut expected = BTreeMap::new();
        for case in &self.suite.cases {
            let user = case.prompt.iter().find(|message| message.role == Role::User);
            let goal = user.map(Message::text).unwrap_or_default();
            let value = serde_json::from_str(&case.expected).unwrap_or(Value::Null);
            // Of two cases with the same first words neither can be told from the other.
            let known = expected.insert(goal.clone(), value).is_some();
            if known {
                expected.insert(goal, Value::Null);
            }
        }
        ExpectedAnswers(expected)
    }
}

impl Practice for Cases {
    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn world(&mut self, task: usize) -> Box<dyn World + '_> {
        Box::new(Asked { suite: &self.suite, case: &self.suite.cases[task] })
    }
}

/// One reply to one case.
struct Asked<'a> {
    suite: &'a Suite,
    case: &'a Case,
}

impl World for Asked<'_> {
    /// The run ends with the reply that calls, so nobody hears what is said here.
    fn call(&mut self, _: &str, _: &Value) -> Result<Value, Failure> {
        Ok(Value::Null)
    }

    fn end(self: Box<Self>, played: &Played) -> Ending {
        let result = CaseResult {
            id: self.case.id.clone(),
            output: played.answer.clone(),
            calls: played.calls.iter().map(made).collect(),
            ..CaseResult::default()
        };
        // That every case can be judged was seen before anybody was asked.
        let reward = score_of(self.suite, self.case, &result, None).ok().flatten();
        let unfit = reward.is_none().then_some("the suite's first scorer could not judge it");
        Ending { reward, unfit, ..Ending::default() }
    }
}

fn made(call: &Called) -> ToolCall {
    let function = FunctionCall { name: call.tool.clone(), arguments: call.arguments.to_string() };
    ToolCall { id: String::new(), kind: "function".to_owned(), function }
}

/// Looks claims up in what the cases expect: fields of an answer, or arguments of calls
/// `[{"tool": {"argument": [allowed, …]}}]` that have one allowed value.
pub(super) struct ExpectedAnswers(BTreeMap<String, Value>);

impl Verifier for ExpectedAnswers {
    fn look(&mut self, claim: Claim<'_>, _: u32) -> Result<Option<String>, MemoryError> {
        let found = self.0.get(claim.goal).and_then(|expected| {
            if claim.subject == ANSWER {
                return at(expected, claim.predicate).cloned();
            }
            let calls = expected.as_array()?;
            let of_tool = calls.iter().find_map(|call| call.get(claim.subject))?;
            match at(of_tool, claim.predicate)?.as_array()?.as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            }
        });
        Ok(found.map(|value| match value {
            Value::String(text) => text,
            value => value.to_string(),
        }))
    }
}

/// The value at `outer.inner`.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use understudy_manifest::Scorer;

    use super::*;

    fn suite(tier: Tier) -> Suite {
        let parameters = json!({"type": "object", "properties": {"id": {"type": "string"}}});
        let tool = json!({"name": "orders.find", "parameters": parameters});
        let case = |id: &str, goal: &str, order: &str| Case {
            id: id.to_owned(),
            prompt: vec![Message::user(goal)],
            expected: json!([{"orders.find": {"id": [order]}}]).to_string(),
            tools: vec![tool.clone()],
            ..Case::default()
        };
        let cases = vec![case("a", "where is 7?", "7"), case("b", "and what of order 8?", "8")];
        let scorers = vec![Scorer::ToolCallAst];
        let name = "desk-dev".parse().unwrap();
        Suite { name, tier, scorers, rubrics: Vec::new(), cases }
    }

    fn cases(suite: Suite, others: &[SuiteFingerprints]) -> Result<(Cases, u64)> {
        Cases::new(suite, "desk", &[json!({"type": "function"})], (9, others))
    }

    #[test]
    fn a_run_of_a_case_is_worth_what_the_suite_says() {
        let (mut cases, left_out) = cases(suite(Tier::Dev), &[]).unwrap();
        assert_eq!((cases.tasks().len(), left_out), (2, 0));
        assert_eq!(cases.tasks()[0].source, origin(&suite(Tier::Gate).cases[0]));
        let mut ends = |id: &str| {
            let called = Called {
                tool: "orders.find".to_owned(),
                arguments: json!({"id": id}),
                result: Ok(String::new()),
                batch: 0,
                latency_ms: 0,
                tokens: 1,
            };
            let played = Played { calls: vec![called], ..Played::default() };
            cases.world(0).end(&played).reward
        };
        assert_eq!((ends("7"), ends("8")), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn sealed_cases_and_those_that_another_suite_decides_by_teach_nothing() {
        let why = cases(suite(Tier::Sealed), &[]).err().unwrap().to_string();
        assert!(why.contains("`desk-dev` is sealed"), "{why}");
        let mut sealed = suite(Tier::Sealed);
        sealed.cases.truncate(1);
        let (found, left_out) =
            cases(suite(Tier::Gate), &[SuiteFingerprints::of(&sealed)]).unwrap();
        assert_eq!((found.suite.cases[0].id.as_str(), left_out), ("b", 1));
    }

    #[test]
    fn expected_answers_settle_what_runs_disagree_on() {
        let (found, _) = cases(suite(Tier::Dev), &[]).unwrap();
        let mut verifier = found.verifier();
        let mut look = |goal, subject, predicate| {
            let claim = Claim { goal, subject, predicate, values: &[] };
            verifier.look(claim, 0).unwrap()
        };
        assert_eq!(look("where is 7?", "orders.find", "id").as_deref(), Some("7"));
        assert_eq!(look("where is 7?", "orders.find", "name"), None);
        assert_eq!(look("something else", "orders.find", "id"), None);
    }
}
