use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use understudy_message::{FunctionCall, Message, ToolCall};

use crate::{
    ChatTemplate, Conversation, Ending, Tokenizer,
    tokenizer::tests::{TRICKY, merging},
};

/// Trims what it is given, as Llama's and Mistral's do, and writes calls as Qwen's does.
const TRIMMING: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}\
    {% for c in m.tool_calls or [] %}<think>{{ c.function | tojson }}</think>{% endfor %}<|im_end|>\n\
    {% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn templates() -> [ChatTemplate; 2] {
    [ChatTemplate::chatml().unwrap(), ChatTemplate::new(TRIMMING, Map::new()).unwrap()]
}

fn encode(tokenizer: &Tokenizer, template: &ChatTemplate, chat: &Conversation<'_>) -> Vec<u32> {
    let rendered = template.write(chat, tokenizer.markers()).unwrap();
    tokenizer.encode_rendered(&rendered).unwrap()
}

/// How many ids are those of added tokens that structure something.
fn structure(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let known = |id: &&u32| tokenizer.markers().known().iter().any(|marker| marker.id == **id);
    ids.iter().filter(known).map(|id| tokenizer.token_text(*id).unwrap()).collect()
}

/// Everything that is cut out of these pieces and put together at random.
fn random_text(random: &mut ChaCha8Rng) -> String {
    let pieces = [
        "<|im_end|>",
        "<|im_start|>",
        "<|im",
        "_end|>",
        "im_start|>",
        "<",
        "|",
        ">",
        "|>",
        "<|",
        " ",
        "\n",
        "user",
        "hi ",
        "    ",
        "<think>",
        "</think>",
        "th",
        "é🙂",
        "[",
        "system",
        "<|endoftext|",
    ];
    let count = random.random_range(0..9);
    (0..count).map(|_| pieces[random.random_range(0..pieces.len())]).collect()
}

#[test]
fn without_markers_the_ids_are_those_of_the_whole_text() {
    let tokenizers = [Tokenizer::byte_level().unwrap(), merging()];
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut texts: Vec<String> = TRICKY.iter().map(|text| (*text).to_owned()).collect();
    texts.extend((0..300).map(|_| random_text(&mut random)));
    let whole = |text: &&String| {
        let bare = ["<|", "think>", "|>", "<th", "</th"];
        bare.iter().all(|piece| !text.contains(piece))
    };
    let texts: Vec<&String> = texts.iter().filter(whole).collect();
    assert!(texts.len() > 60, "{}", texts.len());
    for (tokenizer, template) in tokenizers.iter().flat_map(|t| templates().map(|c| (t, c))) {
        for pair in texts.windows(2) {
            let messages = [Message::system(pair[0]), Message::user(pair[1])];
            let text = template.render(&messages, None, true).unwrap();
            let ids = encode(tokenizer, &template, &Conversation::open(&messages));
            assert_eq!(ids, tokenizer.encode(&text).unwrap(), "{text:?}");
        }
    }
}

#[test]
fn whatever_a_message_holds_only_the_template_writes_markers() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for (tokenizer, template) in [Tokenizer::byte_level().unwrap(), merging()]
        .iter()
        .flat_map(|t| templates().map(|c| (t, c)))
    {
        let plain = [
            Message::system("a"),
            Message::user("b"),
            Message::new(understudy_message::Role::Tool, "c"),
        ];
        let expected =
            structure(tokenizer, &encode(tokenizer, &template, &Conversation::open(&plain)));
        for _ in 0..400 {
            let mut messages = plain.clone();
            for message in &mut messages {
                message.content = random_text(&mut random).as_str().into();
                message.name = Some(random_text(&mut random));
            }
            let chat = Conversation::open(&messages);
            let ids = encode(tokenizer, &template, &chat);
            assert_eq!(structure(tokenizer, &ids), expected, "{messages:?}");
            let text = template.render(&messages, None, true).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "not a character is lost");
        }
    }
}

#[test]
fn arguments_names_and_definitions_hold_no_markers_either() {
    let tokenizer = merging();
    let [_, template] = templates();
    let mut message = Message::assistant("<think>so</think>ok<|im_end|>");
    message.tool_calls.push(ToolCall {
        id: "<|im_end|>".into(),
        kind: "function".into(),
        function: FunctionCall {
            name: "<|im_start|>".into(),
            arguments: r#"{"<|im_end|>": ["</think>"]}"#.into(),
        },
    });
    let (messages, tools) = ([message], [json!({"<|im_start|>": "<think>"})]);
    let chat = Conversation { tools: &tools, ..Conversation::open(&messages) };
    let ids = encode(&tokenizer, &template, &chat);
    let expected = [
        "<|im_start|>",
        "<think>",
        "</think>",
        "<think>",
        "</think>",
        "<|im_end|>",
        "<|im_start|>",
    ];
    assert_eq!(structure(&tokenizer, &ids), expected, "the model's own thoughts stay its own");
}

#[test]
fn what_follows_a_prompt_is_the_same_whether_or_not_it_is_guarded() {
    let tokenizer = merging();
    let [template, _] = templates();
    let prompt = [Message::user("what is <|im_end|>?")];
    let whole = [prompt[0].clone(), Message::assistant("a marker")];
    let markers = tokenizer.markers();
    let before = template.write(&Conversation::open(&prompt), markers).unwrap();
    let after = template.write(&Conversation::closed(&whole), markers).unwrap();
    let reply = after.strip_prefix(&before).unwrap();
    assert_eq!(reply.text(), "a marker<|im_end|>\n");
    let ids = tokenizer.encode_rendered(&reply).unwrap();
    assert_eq!(ids.iter().filter(|id| tokenizer.is_eos(**id)).count(), 1);
    assert!(reply.strip_prefix(&before).is_none());
}

#[test]
fn a_continued_message_is_left_open() {
    let tokenizer = merging();
    let [plain, trimming] = templates();
    let text = |template: &ChatTemplate, last: &str| {
        let messages = [Message::user("q"), Message::assistant(last)];
        let chat = Conversation { ending: Ending::Continued, ..Conversation::open(&messages) };
        template.write(&chat, tokenizer.markers()).map(|rendered| rendered.text())
    };
    let opened = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(text(&plain, "Once ").unwrap(), format!("{opened}Once "));
    assert_eq!(text(&trimming, " Once ").unwrap(), format!("{opened}Once"));
    assert_eq!(text(&plain, "").unwrap(), opened);
    assert_eq!(text(&plain, "a <").unwrap(), format!("{opened}a <"));
    let blind = ChatTemplate::new("{{ messages[0].content }}", Map::new()).unwrap();
    assert!(text(&blind, "x").unwrap_err().to_string().contains("final message"));
}

#[test]
fn a_complaint_that_quotes_a_message_is_short_and_shows_no_seam() {
    let tokenizer = merging();
    let template =
        ChatTemplate::new("{{ raise_exception(messages[0].content) }}", Map::new()).unwrap();
    let messages = [Message::user(format!("<|im_end|>{}", "x".repeat(5_000)))];
    let error = template.write(&Conversation::open(&messages), tokenizer.markers()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("<|im_end|>xxx") && text.len() < 600, "{text}");
}

#[test]
fn variables_reach_the_template_and_cannot_replace_the_messages() {
    let tokenizer = merging();
    let source = "{{ messages | length }}{{ mood }}{{ bos_token }}";
    let special: Map<String, Value> =
        [("bos_token".to_owned(), json!("<s>"))].into_iter().collect();
    let template = ChatTemplate::new(source, special).unwrap();
    let given: Map<String, Value> = serde_json::from_value(
        json!({"mood": "calm<|im_end|>", "messages": [], "add_generation_prompt": 3}),
    )
    .unwrap();
    let messages = [Message::user("a")];
    let chat = Conversation { variables: Some(&given), ..Conversation::open(&messages) };
    let rendered = template.write(&chat, tokenizer.markers()).unwrap();
    assert_eq!(rendered.text(), "1calm<|im_end|><s>");
    assert_eq!(structure(&tokenizer, &tokenizer.encode_rendered(&rendered).unwrap()).len(), 0);
}

#[test]
fn a_template_without_a_place_for_tools_shows_them_all_the_same() {
    let tokenizer = merging();
    let [plain, trimming] = templates();
    let tools = [json!({"type": "function", "function": {"name": "look_up"}})];
    let mut call = Message::assistant("");
    call.tool_calls.push(ToolCall {
        id: "c".into(),
        kind: "function".into(),
        function: FunctionCall { name: "look_up".into(), arguments: r#"{"id": 7}"#.into() },
    });
    let messages = [Message::system("Be kind."), Message::user("q"), call];
    let text = |template: &ChatTemplate, messages: &[Message], tools: &[Value]| {
        let chat = Conversation { tools, ..Conversation::open(messages) };
        template.write(&chat, tokenizer.markers()).unwrap().text()
    };
    let shown = text(&plain, &messages, &tools);
    assert!(shown.starts_with("<|im_start|>system\nBe kind.\n\nYou may call functions"), "{shown}");
    assert!(
        shown.contains("{\"type\": \"function\", \"function\": {\"name\": \"look_up\"}}\n</tools>")
    );
    let called =
        "<tool_call>\n{\"name\": \"look_up\", \"arguments\": {\"id\": 7}}\n</tool_call><|im_end|>";
    assert!(shown.contains(called), "{shown}");
    assert!(text(&plain, &messages[1..2], &tools).starts_with("<|im_start|>system\nYou may"));
    let own = text(&trimming, &messages, &tools);
    assert!(!own.contains("You may") && own.contains("look_up"), "{own}");
}

#[test]
fn a_requests_own_template_runs_on_less() {
    let template = ChatTemplate::chatml().unwrap();
    let endless = "{% for i in range(9999) %}{% for j in range(99) %}x{% endfor %}{% endfor %}";
    let messages = [Message::user("a")];
    let write = |source: &str| {
        let own = template.replaced_by(source)?;
        own.write(&Conversation::open(&messages), merging().markers()).map(|text| text.text())
    };
    assert_eq!(write("[{{ messages[0].content }}]").unwrap(), "[a]");
    assert!(write(endless).unwrap_err().to_string().contains("fuel"));
    assert!(write("{% for %}").unwrap_err().to_string().contains("does not compile"));
    assert!(write(&"x".repeat(70_000)).is_err());
}
