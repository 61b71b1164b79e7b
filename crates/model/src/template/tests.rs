use serde_json::json;
use understudy_message::{FunctionCall, ToolCall};

use super::*;

fn rendered(source: &str, messages: &[Value], tools: Option<&Value>) -> Result<String> {
    ChatTemplate::new(source, Map::new())?.render_values(messages, tools, true)
}

#[test]
fn chatml_ends_with_a_generation_prompt_only_when_asked() {
    let template = ChatTemplate::chatml().unwrap();
    let messages = [Message::system("be brief"), Message::user("hi")];
    let text = template.render(&messages, None, false).unwrap();
    assert_eq!(text, "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n");
    let prompted = template.render(&messages, None, true).unwrap();
    assert_eq!(prompted, text + "<|im_start|>assistant\n");
}

#[test]
fn blocks_are_trimmed_as_transformers_does() {
    let source = "{% if true %}\nline\n    {% endif %}\nend\n";
    assert_eq!(rendered(source, &[], None).unwrap(), "line\nend");
}

#[test]
fn tojson_has_pythons_spacing_and_keeps_key_order() {
    let tools = json!([{"type": "function", "b": 1, "a": {"é": [1, 2.5, null]}}]);
    let text = rendered("{{ tools | tojson }}", &[], Some(&tools)).unwrap();
    assert_eq!(text, r#"[{"type": "function", "b": 1, "a": {"é": [1, 2.5, null]}}]"#);
}

#[test]
fn python_methods_loop_controls_and_namespaces_work() {
    let source = "{% set ns = namespace(n=0) %}{% for m in messages %}\
        {% if m.content.strip().startswith('skip') %}{% continue %}{% endif %}\
        {% set ns.n = ns.n + 1 %}{{ m.get('role', '?') }}:{{ m['content'].split('|')[-1] }};\
        {% for k, v in m.items() %}{{ k }}{% endfor %}{% endfor %}{{ ns.n }}";
    let messages = [json!({"role": "user", "content": "a|b"}), json!({"content": " skip "})];
    assert_eq!(rendered(source, &messages, None).unwrap(), "user:b;rolecontent1");
}

#[test]
fn a_template_may_refuse_and_may_not_read_the_clock_or_run_on() {
    let refused = rendered("{{ raise_exception('roles must alternate') }}", &[], None);
    assert!(refused.unwrap_err().to_string().contains("roles must alternate"));
    let dated = rendered("{{ strftime_now('%d %b %Y') }}", &[], None);
    assert!(dated.unwrap_err().to_string().contains("strftime_now"));
    // As in Llama 3.2's.
    let fixed =
        "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %}";
    assert_eq!(rendered(fixed, &[], None).unwrap(), "26 Jul 2024");
    let source = "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}";
    assert!(rendered(source, &[], None).is_err());
}

#[test]
fn marks_around_the_assistants_words_write_nothing() {
    let source = "{% for m in messages %}\n{%- if m.role == 'assistant' %}\n\
        {% generation %}\n{{ m.content }}<end>\n{%- endgeneration -%}\n  \
        {%- else %}{{ m.content }}|{% endif %}{% endfor %}";
    let messages =
        [json!({"role": "user", "content": "a"}), json!({"role": "assistant", "content": "b"})];
    // What transformers' extension of Jinja writes.
    assert_eq!(rendered(source, &messages, None).unwrap(), "a|b<end>");
}

#[test]
fn a_template_may_not_write_without_end() {
    let doubled = |times: usize| {
        let steps = "{% set x = x ~ x %}".repeat(times);
        rendered(&format!("{{% set x = '0123456789abcdef' %}}{steps}{{{{ x }}}}"), &[], None)
    };
    assert_eq!(doubled(19).unwrap().len(), 8 << 20);
    let error = doubled(21).unwrap_err().to_string();
    assert!(error.contains("it writes more than 16777216 bytes"), "{error}");
}

#[test]
fn tool_arguments_reach_the_template_as_an_object() {
    let source = "{% for m in messages %}{% for c in m.tool_calls %}\
        {{ c.function.name }}({{ c.function.arguments.id }}){% endfor %}{% endfor %}";
    let mut message = Message::assistant("");
    message.tool_calls.push(ToolCall {
        id: "c1".into(),
        kind: "function".into(),
        function: FunctionCall { name: "lookup".into(), arguments: r#"{"id": 7}"#.into() },
    });
    let template = ChatTemplate::new(source, Map::new()).unwrap();
    assert_eq!(template.render(&[message], None, true).unwrap(), "lookup(7)");
}

#[test]
fn the_digest_follows_source_and_special_tokens() {
    let plain = ChatTemplate::chatml().unwrap();
    let mut special = Map::new();
    special.insert("bos_token".into(), json!("<s>"));
    let with_bos = ChatTemplate::new(CHATML, special).unwrap();
    assert_ne!(plain.digest(), with_bos.digest());
    assert_eq!(plain.digest(), ChatTemplate::chatml().unwrap().digest());
}
