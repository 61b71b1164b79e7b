use serde_json::json;
use understudy_manifest::Origin;
use understudy_model::{ChatTemplate, Family, ModelConfig};

use super::*;
use crate::tests::fixtures::here;

fn base() -> BaseModel {
    BaseModel::random(ModelConfig::tiny(Family::Llama), 1, &here()).unwrap()
}

fn with_template(source: &str) -> BaseModel {
    let template = ChatTemplate::new(source, serde_json::Map::new()).unwrap();
    BaseModel { template, ..base() }
}

fn origin() -> Origin {
    Origin { trajectory: "traj_7".to_owned(), steps: Vec::new(), because: Vec::new() }
}

fn sft(prompt: &str, completion: &str) -> SftExample {
    SftExample {
        prompt: vec![Message::system("be brief"), Message::user(prompt)],
        completion: vec![Message::assistant(completion)],
        tools: Vec::new(),
        origin: origin(),
    }
}

fn pair(chosen: &str, rejected: &str) -> PairExample {
    PairExample {
        prompt: vec![Message::user("hi")],
        chosen: vec![Message::assistant(chosen)],
        rejected: vec![Message::assistant(rejected)],
        tools: Vec::new(),
        margin: None,
        origin: origin(),
    }
}

fn only_row(base: &BaseModel, example: SftExample) -> Row {
    let examples = Examples::of_sft(base, &[example], 1024).unwrap();
    examples.kept[0].rows[0].clone()
}

#[test]
fn a_completion_is_its_content_and_the_stop_token_without_the_templates_newline() {
    let base = base();
    let row = only_row(&base, sft("hello", "{\"a\": 1}"));
    assert_eq!(base.tokenizer.decode(&row.said()).unwrap(), "{\"a\": 1}<|im_end|>");
}

#[test]
fn a_prompt_is_what_the_server_feeds_the_model() {
    let base = base();
    let example = sft("hello", "hi");
    let served = base.template.render(&example.prompt, None, true).unwrap();
    let row = only_row(&base, example);
    assert_eq!(&row.ids()[..row.prompt_len()], base.tokenizer.encode(&served).unwrap());
    assert!(served.ends_with("<|im_start|>assistant\n"));
}

#[test]
fn lessons_in_a_prompt_are_read_and_the_loss_is_on_the_answer_alone() {
    let base = base();
    let block = "<memory release=\"r\">\n- (m1) When asked, prefer answering.\n</memory>";
    let mut example = sft("hello", "hi");
    example.prompt[0] = Message::system(format!("be brief\n\n{block}"));
    let served = base.template.render(&example.prompt, None, true).unwrap();
    let (with, without) = (only_row(&base, example), only_row(&base, sft("hello", "hi")));
    assert_eq!(&with.ids()[..with.prompt_len()], base.tokenizer.encode(&served).unwrap());
    assert!(served.contains(block) && with.prompt_len() > without.prompt_len());
    // What is trained is the same as without them: the answer and its end, at their places.
    assert_eq!(with.said(), without.said());
    assert_eq!(base.tokenizer.decode(&with.said()).unwrap(), "hi<|im_end|>");
    assert!(with.trained().eq(with.prompt_len()..with.ids().len()));
}

fn lookup() -> Value {
    let parameters = json!({"type": "object", "properties": {}});
    json!({"type": "function", "function": {"name": "lookup", "parameters": parameters}})
}

#[test]
fn the_tools_of_an_example_are_shown_as_the_server_shows_them() {
    let shows = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}\
                 {% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}";
    for base in [base(), with_template(shows)] {
        let tools = vec![lookup()];
        let example = SftExample { tools: tools.clone(), ..sft("hello", "hi") };
        let served = Conversation { tools: &tools, ..Conversation::open(&example.prompt) };
        let served = base.encode_chat(&served).unwrap();
        let row = only_row(&base, example.clone());
        assert_eq!(row.ids()[..row.prompt_len()], served);
        assert!(base.tokenizer.decode(row.ids()).unwrap().contains("lookup"));
        let without = only_row(&base, sft("hello", "hi"));
        assert_ne!(row.ids(), without.ids());
        assert_eq!(row.said(), without.said());

        let (prompt, origin) = (example.prompt, example.origin);
        let completion = example.completion.clone();
        let label = LabelExample {
            prompt: prompt.clone(),
            completion: completion.clone(),
            label: true,
            reward: 1.0,
            weight: 1.0,
            tools: tools.clone(),
            origin: origin.clone(),
        };
        let rejected = vec![Message::assistant("no")];
        let pair =
            PairExample { prompt, chosen: completion, rejected, tools, margin: None, origin };
        let examples = [
            Examples::of_labels(&base, &[label], 1024).unwrap(),
            Examples::of_pairs(&base, &[pair], 1024).unwrap(),
        ];
        for row in examples.iter().flat_map(|examples| &examples.kept[0].rows) {
            assert_eq!(row.ids()[..row.prompt_len()], served);
        }
    }
}

#[test]
fn a_reply_that_quotes_the_stop_marker_is_not_cut_there() {
    let base = base();
    let row = only_row(&base, sft("hello", "say <|im_end|> twice"));
    let text = base.tokenizer.decode(&row.said()).unwrap();
    assert_eq!(text, "say <|im_end|> twice<|im_end|>");
}

#[test]
fn a_completion_that_does_not_begin_and_end_with_a_reply_is_an_error() {
    let base = base();
    let completions =
        [vec![], vec![Message::user("me")], vec![Message::assistant("a"), Message::user("b")]];
    for completion in completions {
        let example = SftExample { completion, ..sft("a", "b") };
        let error = Examples::of_sft(&base, &[example], 1024).unwrap_err();
        assert!(matches!(error, TrainError::NotOneReply { .. }));
    }
}

#[test]
fn a_template_that_rewrites_the_prompt_is_an_error_that_names_the_trajectory() {
    let source = "{% for m in messages %}{{ messages | length }}{{ m.content }}<|im_end|>\
                  {% endfor %}";
    let error = Examples::of_sft(&with_template(source), &[sft("a", "b")], 1024).unwrap_err();
    assert!(matches!(error, TrainError::PromptRewritten { .. }));
    assert!(error.to_string().contains("traj_7"));
}

#[test]
fn a_template_without_a_stop_token_is_an_error() {
    let source = "{% for m in messages %}{{ m.content }}\n{% endfor %}";
    let error = Examples::of_sft(&with_template(source), &[sft("a", "b")], 1024).unwrap_err();
    assert!(matches!(error, TrainError::NoStopToken { .. }));
}

#[test]
fn rows_that_are_too_long_are_left_out_and_counted() {
    let base = base();
    let rows = [sft("short", "yes"), sft(&"long ".repeat(40), "no")];
    let longest = only_row(&base, rows[0].clone()).ids().len();
    let examples = Examples::of_sft(&base, &rows, longest).unwrap();
    assert_eq!(examples.kept.len(), 1);
    assert_eq!(examples.left_out, LeftOut { too_long: 1, ..LeftOut::default() });

    let wider = [sft(&"x".repeat(2000), "no")];
    let examples = Examples::of_sft(&base, &wider, 1 << 20).unwrap();
    assert_eq!(examples.left_out.too_long, 1, "the model has 1024 positions");
}

#[test]
fn a_pair_is_left_out_whole() {
    let base = base();
    let pairs = [pair("good", "bad"), pair("same", "same"), pair("good", &"x".repeat(500))];
    let examples = Examples::of_pairs(&base, &pairs, 200).unwrap();
    assert_eq!(examples.kept.len(), 1);
    assert_eq!(examples.left_out, LeftOut { too_long: 1, no_difference: 1, unsound: 0 });
    let [chosen, rejected] = &examples.kept[0].rows[..] else { panic!("a pair") };
    assert_eq!(chosen.ids()[..chosen.prompt_len()], rejected.ids()[..rejected.prompt_len()]);
}

fn conversation() -> SftExample {
    let turns = [("look it up", "lookup(A17)"), ("it costs 12", "12 it is")];
    let mut messages: Vec<Message> = turns
        .iter()
        .flat_map(|(question, reply)| [Message::user(*question), Message::assistant(*reply)])
        .collect();
    let completion = messages.split_off(1);
    SftExample { prompt: messages, completion, tools: Vec::new(), origin: origin() }
}

#[test]
fn a_conversation_is_one_row_trained_on_what_the_model_said() {
    let base = base();
    let example = conversation();
    let row = only_row(&base, example.clone());
    let said = base.tokenizer.decode(&row.said()).unwrap();
    assert_eq!(said, "lookup(A17)<|im_end|>12 it is<|im_end|>");
    let whole = [example.prompt, example.completion].concat();
    let text = base.template.render(&whole, None, false).unwrap();
    // The template's last newline is not part of it: no sampler says that.
    assert_eq!(base.tokenizer.decode(row.ids()).unwrap() + "\n", text);
    assert_eq!(row.trained().count(), row.trained_tokens());
}

#[test]
fn a_template_that_rewrites_history_gives_a_row_for_every_reply() {
    // Earlier replies are shortened once another follows, as reasoning models' templates do.
    let source = "{% for m in messages %}{{ m.role }}:\
                  {% if loop.last or m.role == 'user' %}{{ m.content }}{% endif %}<|im_end|>\
                  {% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    let examples = Examples::of_sft(&with_template(source), &[conversation()], 1024).unwrap();
    assert_eq!((examples.kept[0].rows.len(), examples.rewritten), (2, 1));
}

#[test]
fn what_rows_share_is_counted_once() {
    let rows = |ids: &[&[u32]]| ids.iter().map(|ids| Row::new(&ids[..1], &ids[1..])).collect();
    let shared = |ids: &[&[u32]]| Example::imitate(rows(ids)).shared();
    assert_eq!(shared(&[&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 7]]), 4);
    assert_eq!(shared(&[&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]]), 4, "the last token is no input");
    assert_eq!(shared(&[&[1, 2, 3, 4, 5, 6, 7], &[1, 2, 3, 4, 5]]), 4);
    assert_eq!(shared(&[&[1, 2, 3, 4, 5]]), 0);
    assert_eq!(shared(&[&[1, 2, 3, 9], &[1, 2, 3, 4]]), 0, "too little to be worth it");
    let three: [&[u32]; 3] = [&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 7, 8], &[1, 2, 3, 4, 9]];
    assert_eq!(Example::imitate(rows(&three)).tokens(), 4 + 2 + 2 + 1);
}
