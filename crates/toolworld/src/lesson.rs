//! What an agent understands of a memory block: the sentences, as a reader would.

/// One instruction, as far as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lesson {
    /// Before the second tool, call the first.
    First {
        call: String,
        before: String,
    },
    /// Pass an argument, with this value when one was named.
    Pass {
        tool: String,
        key: String,
        value: Option<String>,
    },
    /// When the first fails, call the second.
    Instead {
        failed: String,
        call: String,
    },
    Avoid {
        tool: String,
    },
}

/// The instructions in the lines of a block; a sentence that says nothing to do is passed over.
pub fn lessons(block: &str) -> Vec<Lesson> {
    block.lines().filter(|line| line.starts_with("- (m")).flat_map(of_line).collect()
}

fn of_line(line: &str) -> Vec<Lesson> {
    let split = [", prefer", ", avoid"].iter().find_map(|mark| line.find(mark));
    let Some(at) = split else { return Vec::new() };
    let (situation, strategy) = line.split_at(at);
    let (about, names) = (quoted(situation), quoted(strategy));
    let has = |text: &str| strategy.contains(text);
    if has("avoid") {
        let of_argument = has("avoid passing");
        let tool = names.first().or(about.first()).filter(|_| !of_argument);
        return tool.map(|tool| Lesson::Avoid { tool: tool.clone() }).into_iter().collect();
    }
    if has("prefer the workflow") {
        let pairs = names.windows(2);
        return pairs
            .map(|pair| Lesson::First { call: pair[0].clone(), before: pair[1].clone() })
            .collect();
    }
    let lesson = match (about.as_slice(), names.as_slice()) {
        ([.., tool], [call, ..]) if has("first") => {
            Some(Lesson::First { call: call.clone(), before: tool.clone() })
        }
        ([failed, ..], [call, ..]) if has("instead") => {
            Some(Lesson::Instead { failed: failed.clone(), call: call.clone() })
        }
        ([tool, ..], [key, value @ ..]) if has("passing") => {
            let (tool, key) = (tool.clone(), key.clone());
            Some(Lesson::Pass { tool, key, value: value.first().cloned() })
        }
        _ => None,
    };
    lesson.into_iter().collect()
}

fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_the_templates_are_understood() {
        let block = "<memory release=\"x\">\n\
            - (m1) When a task needs `b`, prefer calling `a` first, because runs did.\n\
            - (m2) When calling `t`, prefer passing `k` = `v`, because runs did.\n\
            - (m3) When `a` fails with a timeout, prefer calling `b` instead, because runs did.\n\
            - (m4) When `c` is available for a task of this kind, avoid `c`, because runs did.\n\
            - (m5) When it rains, stay at home.\n</memory>";
        let text = str::to_owned;
        assert_eq!(
            lessons(block),
            [
                Lesson::First { call: text("a"), before: text("b") },
                Lesson::Pass { tool: text("t"), key: text("k"), value: Some(text("v")) },
                Lesson::Instead { failed: text("a"), call: text("b") },
                Lesson::Avoid { tool: text("c") },
            ]
        );
    }
}
