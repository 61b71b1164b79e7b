//! The desk as a place to practise in, and the scripted agents as models that can be asked there.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{ControlFlow, Range},
};

use serde_json::Value;
use understudy_ident::{Timestamp, TrajectoryId};
use understudy_inference::{
    Backend, Completion, Event, FinishReason, GenerateRequest, InferenceError, Prompt, Served,
    Sink, Timing, Usage,
};
use understudy_memory::{Ending, Failure, Played, Practice, Task, World, failure_in};
use understudy_message::{FunctionCall, Message, Role, ToolCall};

use crate::{Agent, Desk, Request, catalogue};

/// Requests of a seed, each with a desk of its own for every attempt.
#[derive(Debug)]
pub struct DeskPractice {
    requests: Vec<Request>,
    tasks: Vec<Task>,
}

impl DeskPractice {
    pub const NAME: &'static str = "desk";

    /// The requests of a seed from one to before another.
    pub fn new(seed: u64, requests: Range<u64>) -> Self {
        let requests: Vec<Request> = requests.map(|n| Request::draw(seed, n)).collect();
        let tools = catalogue().openai_tools();
        let task = |request: &Request| Task {
            source: TrajectoryId::derived(&format!("practice {}", request.session)),
            agent: Some("desk".to_owned()),
            subject: Some(request.user.clone()),
            prompt: vec![
                Message::system("You are the desk agent of Greyhaven Goods."),
                Message::user(request.goal.clone()),
            ],
            tools: tools.clone(),
        };
        Self { tasks: requests.iter().map(task).collect(), requests }
    }
}

impl Practice for DeskPractice {
    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn world(&mut self, task: usize) -> Box<dyn World + '_> {
        Box::new(AtDesk(Desk::new(&self.requests[task])))
    }
}

struct AtDesk(Desk);

impl World for AtDesk {
    fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        self.0.call(tool, arguments)
    }

    fn end(self: Box<Self>, _: &Played) -> Ending {
        let reward = Some(f64::from(u8::from(self.0.succeeded())));
        Ending { reward, ..Ending::default() }
    }
}

/// A scripted agent behind the interface of a model. It remembers nothing between two turns: from
/// what a conversation holds it plays from the beginning, up to the next call nobody has answered.
pub struct DeskModel {
    agent: Agent,
    requests: BTreeMap<String, Request>,
}

impl DeskModel {
    /// Knows the requests of a seed from one to before another.
    pub fn new(agent: Agent, seed: u64, requests: Range<u64>) -> Self {
        let requests = requests.map(|n| Request::draw(seed, n));
        Self { agent, requests: requests.map(|one| (one.goal.clone(), one)).collect() }
    }

    fn next(&self, messages: &[Message], seed: u64) -> Result<Message, InferenceError> {
        let goal = messages.iter().find(|message| message.role == Role::User).map(Message::text);
        let request = goal.and_then(|goal| self.requests.get(&goal)).ok_or_else(|| {
            InferenceError::invalid(
                "messages",
                "the first user's message is no request of the desk",
            )
        })?;
        let shown = messages.iter().find(|message| message.role == Role::System).map(Message::text);
        let mut answers = messages.iter().filter(|message| message.role == Role::Tool);
        let mut unanswered: Option<ToolCall> = None;
        let at = Timestamp::UNIX_EPOCH;
        let played =
            self.agent.play_with(request, (shown.as_deref(), seed, at), &mut |tool, arguments| {
                if let Some(answer) = answers.next() {
                    return answered(&answer.text());
                }
                let arguments = arguments.to_string();
                let function = FunctionCall { name: tool.to_owned(), arguments };
                unanswered.get_or_insert(ToolCall {
                    id: "call".to_owned(),
                    kind: "function".to_owned(),
                    function,
                });
                Err(Failure { message: "not answered yet".to_owned(), code: None })
            });
        Ok(match unanswered {
            Some(call) => Message { tool_calls: vec![call], ..Message::assistant("") },
            None => Message::assistant(played.answer),
        })
    }
}

fn answered(text: &str) -> Result<Value, Failure> {
    match failure_in(text) {
        Some(message) => Err(Failure { message, code: None }),
        None => Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))),
    }
}

impl fmt::Debug for DeskModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeskModel").field("agent", &self.agent).finish_non_exhaustive()
    }
}

impl Backend for DeskModel {
    fn base(&self) -> &str {
        match self.agent.part {
            understudy_memory::Part::Teacher => "toolworld-teacher",
            _ => "toolworld-student",
        }
    }

    fn submit(&self, request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        request.sampling.validate()?;
        let Prompt::Chat(chat) = &request.prompt else {
            return Err(InferenceError::Unsupported("anything but chats"));
        };
        let reply = self.next(&chat.messages, request.sampling.seed.unwrap_or_default())?;
        let served = Served { base: self.base().to_owned(), adapter: None };
        let usage = Usage { completion_tokens: 30, ..Usage::default() };
        let finish = match reply.tool_calls.as_slice() {
            [] => FinishReason::Stop,
            _ => FinishReason::ToolCalls,
        };
        let whole =
            Completion::of_text(served.clone(), reply.text(), finish, usage, Timing::default());
        let whole = Completion { tool_calls: reply.tool_calls, ..whole };
        if sink(Event::Started(served)).is_continue() {
            let _: ControlFlow<()> = sink(Event::Finished(Box::new(whole)));
        }
        Ok(())
    }
}
