use std::sync::{Arc, Mutex};

use understudy_inference::{FinishReason, Served, Sink, Timing, Usage};
use understudy_message::{FunctionCall, ToolCall};
use understudy_redact::Policy;

use super::*;
use crate::Redacted;

type Heard = Arc<Mutex<Vec<String>>>;

/// Notes what it is asked and answers with it, three bytes at a time.
#[derive(Debug)]
struct Echo(Heard);

impl Backend for Echo {
    fn base(&self) -> &'static str {
        "frontier"
    }

    fn submit(&self, request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        let Prompt::Chat(chat) = request.prompt else { panic!("not a chat") };
        let said: Vec<String> = chat.messages.iter().map(Message::text).collect();
        let calls = chat.messages.iter().flat_map(|message| message.tool_calls.clone());
        let calls: Vec<ToolCall> = calls.collect();
        let arguments = calls.iter().map(|call| call.function.arguments.clone());
        self.0.lock().unwrap().extend(said.iter().cloned().chain(arguments));
        let text = format!("you said: {}", said.join(" | "));
        let served = Served { base: "frontier".to_owned(), adapter: None };
        let _ = sink(Event::Started(served.clone()));
        for piece in text.as_bytes().chunks(3) {
            let _ = sink(Event::Delta(std::str::from_utf8(piece).unwrap().into()));
        }
        let end = FinishReason::Stop;
        let (usage, timing) = (Usage::default(), Timing::default());
        let completion = Completion::of_text(served, text, end, usage, timing);
        let _ = sink(Event::Finished(Box::new(Completion { tool_calls: calls, ..completion })));
        Ok(())
    }
}

fn echo() -> (Redacted, Heard) {
    let heard = Heard::default();
    (Redacted::new(Arc::new(Echo(Arc::clone(&heard))), Policy::Standard), heard)
}

const SECRET: &str = "sk-abcdefghijklmnopqrstuvwxyz0123456789";

#[test]
fn what_patterns_find_does_not_leave_and_stands_in_the_reply_again() {
    let (teacher, heard) = echo();
    let said = format!("I am ada@example.org, and ada@example.org pays; the key is {SECRET}.");
    let call = ToolCall {
        id: "1".to_owned(),
        kind: "function".to_owned(),
        function: FunctionCall {
            name: "mail".to_owned(),
            arguments: r#"{"to": "ada@example.org"}"#.to_owned(),
        },
    };
    let mut called = Message::assistant("");
    called.tool_calls = vec![call];
    let messages = vec![Message::user(&said), called];
    let request = GenerateRequest::new(Prompt::messages(messages), Sampling::greedy(64));
    let outcome = run(&teacher, request);
    let heard = heard.lock().unwrap().join("\n");
    assert!(!heard.contains("ada@") && !heard.contains(SECRET), "{heard}");
    assert!(heard.contains("<EMAIL_1>, and <EMAIL_1> pays") && heard.contains("<SECRET_1>"));
    assert!(heard.contains(r#"{"to": "<EMAIL_1>"}"#), "{heard}");
    let streamed = outcome.deltas.concat();
    let completion = outcome.completion();
    assert!(completion.text.contains(&said), "{}", completion.text);
    assert_eq!(streamed, completion.text, "streamed as it is kept");
    assert_eq!(completion.tool_calls[0].function.arguments, r#"{"to": "ada@example.org"}"#);
}

#[test]
fn who_says_a_pseudonym_of_their_own_gets_it_back() {
    let (teacher, heard) = echo();
    let said = "mail <EMAIL_1> or bob@example.org; 3 < 4 and <b>";
    let outcome = run(&teacher, ask(said));
    assert!(heard.lock().unwrap()[0].contains("<EMAIL_1> or <EMAIL_2>"), "{heard:?}");
    assert_eq!(outcome.deltas.concat(), format!("you said: {said}"));
}

#[test]
fn what_holds_nothing_is_passed_on_as_it_is() {
    let (teacher, heard) = echo();
    let outcome = run(&teacher, ask("a plain question"));
    assert_eq!(*heard.lock().unwrap(), ["a plain question"]);
    assert_eq!(outcome.completion().text, "you said: a plain question");
}
