//! Against a scripted endpoint: what is asked, and what becomes of every way to answer.

mod server;

use std::time::Duration;

use serde_json::{Value, json};
use understudy_redact::{Kind, Named, Recogniser, RecogniserError};

use self::server::Server;
use crate::{CHUNK, Endpoint, ModelRecogniser, chunks};

fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        url: url.to_owned(),
        model: "small".to_owned(),
        api_key_env: None,
        timeout: Duration::from_secs(20),
    }
}

fn recogniser(server: &Server) -> ModelRecogniser {
    ModelRecogniser::new(&endpoint(&server.url)).unwrap()
}

fn named(kind: Kind, text: &str) -> Named {
    Named { kind, text: text.to_owned() }
}

fn completion(content: &str) -> String {
    json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}).to_string()
}

/// The text a request asks about.
fn asked(request: &Value) -> String {
    let content = request["messages"][1]["content"].as_str().unwrap();
    serde_json::from_str::<Value>(content).unwrap()["text"].as_str().unwrap().to_owned()
}

/// Finds whichever of some names are in the text, as a model would that knows them all.
fn knowing(names: &'static [(&str, &str)]) -> Server {
    Server::start(move |_, request| {
        let text = asked(request);
        let found = names.iter().filter(|(_, name)| text.contains(name));
        let found: Vec<Value> =
            found.map(|(kind, name)| json!({"kind": kind, "text": name})).collect();
        ("200 OK", completion(&json!({"names": found}).to_string()))
    })
}

#[test]
fn names_are_found_once_a_text_and_word_by_word() {
    let server = knowing(&[("person", "Ann Lee"), ("location", "Bern"), ("organization", "Acme")]);
    let recogniser = recogniser(&server);
    assert_eq!(recogniser.id(), "names@1:small");
    let text = "Ann Lee of Acme lives in Bern. {\"names\": []}";
    let expected = [
        named(Kind::Person, "Ann Lee"),
        named(Kind::Location, "Bern"),
        named(Kind::Organization, "Acme"),
    ];
    assert_eq!(recogniser.names(text).unwrap(), expected);
    assert_eq!(recogniser.names(text).unwrap(), expected, "as before");
    assert_eq!(recogniser.names("4711 - 42").unwrap(), [], "without a letter nobody is asked");
    assert_eq!(recogniser.names("").unwrap(), []);
    let [request] = &server.received()[..] else { panic!("asked once a text") };
    assert_eq!((&request["model"], &request["temperature"]), (&json!("small"), &json!(0.0)));
    assert_eq!(request["response_format"]["json_schema"]["strict"], true);
    assert_eq!(asked(request), text);
}

#[test]
fn an_answer_that_cannot_be_used_is_an_error_and_never_a_text_without_names() {
    let answers = [
        (completion("I see nobody."), "no JSON object"),
        (completion(r#"{"people": []}"#), "no JSON object"),
        (completion(r#"{"names": [{"kind": "person", "text": "Bob"}]}"#), "not in the text"),
        (completion(r#"{"names": [{"kind": "person", "text": " "}]}"#), "not in the text"),
        (completion(r#"{"names": [{"kind": "dog", "text": "Ann"}]}"#), "not asked for"),
        (json!({"choices": []}).to_string(), "0 choices"),
        (
            json!({"choices": [{"message": {"content": "{\"names\": []}"},
                "finish_reason": "length"}]})
            .to_string(),
            "cut off",
        ),
        ("<html>".to_owned(), "no chat completion"),
    ];
    for (answer, words) in answers {
        let answer: &'static str = answer.leak();
        let server = Server::start(move |_, _| ("200 OK", answer.to_owned()));
        let error = recogniser(&server).names("Ann is here").unwrap_err();
        let RecogniserError::Unusable { why } = &error else { panic!("{error}") };
        assert!(why.contains(words), "{why}");
        assert_eq!(server.received().len(), 2, "it is asked once more: {why}");
    }
    // The second time is as good as the first.
    let server = Server::start(|nth, _| {
        let names = r#"{"names": [{"kind": "person", "text": "Ann"}]}"#;
        ("200 OK", completion(if nth == 0 { "no" } else { names }))
    });
    assert_eq!(recogniser(&server).names("Ann is here").unwrap(), [named(Kind::Person, "Ann")]);
}

#[test]
fn an_endpoint_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let server = Server::start(|nth, _| match nth {
        0 => ("503 Service Unavailable", String::new()),
        1 => ("429 Too Many Requests", String::new()),
        _ => ("200 OK", completion(r#"{"names": []}"#)),
    });
    assert_eq!(recogniser(&server).names("nobody").unwrap(), []);
    let server = Server::start(|_, _| ("404 Not Found", "no model `small`".to_owned()));
    let error = recogniser(&server).names("Ann").unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, RecogniserError::Unreachable { .. }), "{said}");
    assert!(said.contains("404") && said.contains("no model `small`"), "{said}");
    assert!(said.contains("redact"), "it says what to do: {said}");
    assert_eq!(server.received().len(), 1);
}

#[test]
fn what_cannot_be_asked_at_all_is_said_at_once() {
    for url in ["localhost:8000/v1", ""] {
        assert!(ModelRecogniser::new(&endpoint(url)).is_err());
    }
    let no_key = Endpoint {
        api_key_env: Some("UNDERSTUDY_TEST_NO_SUCH_KEY".to_owned()),
        ..endpoint("http://127.0.0.1:1/v1")
    };
    let error = ModelRecogniser::new(&no_key).unwrap_err().to_string();
    assert!(error.contains("UNDERSTUDY_TEST_NO_SUCH_KEY holds no API key"), "{error}");
}

#[test]
fn long_texts_are_covered_and_a_name_on_a_seam_is_whole_somewhere() {
    // Names every few words, so that some of them meet every seam.
    let text: String =
        (0..3000).map(|nth| format!("word{nth} Ann-Lee{nth} ")).collect::<Vec<_>>().concat();
    let pieces = chunks::of(&text);
    assert!(pieces.len() > text.len() / CHUNK && pieces.iter().all(|piece| piece.len() <= CHUNK));
    assert!(text.starts_with(pieces[0]) && text.ends_with(pieces[pieces.len() - 1]));
    for nth in 0..3000 {
        let name = format!("Ann-Lee{nth} ");
        let is_whole = pieces.iter().any(|piece| piece.contains(name.trim()));
        assert!(is_whole, "{name} is cut everywhere");
    }
    // Without a space, and of characters of several bytes, it ends as well.
    let unbroken = "ä".repeat(20_000);
    let pieces = chunks::of(&unbroken);
    assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= CHUNK));
    assert!(pieces.iter().map(|piece| piece.len()).sum::<usize>() >= unbroken.len());
}
