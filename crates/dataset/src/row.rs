//! Rows on their way to a file.

use std::sync::Arc;

use serde_json::Value;
use understudy_ident::Digest;
use understudy_manifest::{
    GroupExample, LabelExample, Origin, PairExample, PromptExample, SftExample, Split,
    canonical_json,
};
use understudy_message::{Message, Role};
use understudy_redact::without_numbers;

use crate::{draft::file_name, groups::Group, key::Key, minhash::TELLING};

/// One example and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) prompt: Arc<[Message]>,
    /// Definitions of what could be called, which are part of what the model was asked.
    pub(crate) tools: Arc<[Value]>,
    pub(crate) lesson: Lesson,
    pub(crate) origin: Origin,
    /// Position of the judged step among the candidates; rows are ordered by it, groups after all
    /// others.
    pub(crate) candidate: usize,
    /// The other step of a pair, the other steps of a group.
    pub(crate) others: Vec<usize>,
}

/// What is learnt after the prompt.
#[derive(Debug, Clone)]
pub(crate) enum Lesson {
    Sft {
        completion: Message,
    },
    /// The margin is by how much, between 0 and 1, where that is known.
    Pair {
        chosen: Message,
        rejected: Message,
        margin: Option<f64>,
    },
    Label {
        completion: Message,
        label: bool,
        reward: f64,
        weight: f64,
    },
    Group(Box<Group>),
    /// Nothing: the answer is still to be given.
    Prompt,
}

/// Which file a row goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKind {
    Sft,
    Pairs,
    Labels,
    Groups,
    Prompts,
}

impl RowKind {
    pub const ALL: [Self; 5] = [Self::Sft, Self::Pairs, Self::Labels, Self::Groups, Self::Prompts];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Pairs => "pairs",
            Self::Labels => "labels",
            Self::Groups => "groups",
            Self::Prompts => "prompts",
        }
    }

    /// Whether versions that have none of these rows have no files of them either: they are older
    /// than the kind is, and stay what they were.
    pub(crate) fn is_optional(self) -> bool {
        matches!(self, Self::Groups | Self::Prompts)
    }

    /// The file of a version that holds these rows.
    pub fn file_name(self, split: Split) -> String {
        file_name(self, split)
    }
}

impl Row {
    pub(crate) fn kind(&self) -> RowKind {
        match self.lesson {
            Lesson::Sft { .. } => RowKind::Sft,
            Lesson::Pair { .. } => RowKind::Pairs,
            Lesson::Label { .. } => RowKind::Labels,
            Lesson::Group(_) => RowKind::Groups,
            Lesson::Prompt => RowKind::Prompts,
        }
    }

    /// The candidates it is made of.
    pub(crate) fn steps(&self) -> impl Iterator<Item = usize> {
        [self.candidate].into_iter().chain(self.others.iter().copied())
    }

    /// What was asked, in every spelling that the row stands for.
    pub(crate) fn prompts(&self) -> impl Iterator<Item = &[Message]> {
        let others = match &self.lesson {
            Lesson::Group(group) => group.other_prompts.as_slice(),
            _ => &[],
        };
        [&self.prompt].into_iter().chain(others).map(|prompt| &**prompt)
    }

    /// Everything that is said in it.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        let lesson: Vec<&Message> = match &self.lesson {
            Lesson::Sft { completion } | Lesson::Label { completion, .. } => vec![completion],
            Lesson::Pair { chosen, rejected, .. } => vec![chosen, rejected],
            Lesson::Group(group) => group.replies.iter().collect(),
            Lesson::Prompt => Vec::new(),
        };
        self.prompts().flatten().chain(lesson)
    }

    /// Equal for rows that teach the same.
    pub(crate) fn content_digest(&self) -> Digest {
        let prompt = canonical_json(&*self.prompt);
        let lesson = match &self.lesson {
            Lesson::Sft { completion } => canonical_json(completion),
            Lesson::Pair { chosen, rejected, .. } => canonical_json(&[chosen, rejected]),
            Lesson::Label { completion, label, .. } => canonical_json(&(completion, label)),
            Lesson::Group(group) => canonical_json(&(&group.prompt_ids, &group.attempts)),
            Lesson::Prompt => String::new(),
        };
        let mut parts = vec![self.kind().as_str(), &prompt, &lesson];
        // A row without tools teaches what it taught before rows could have any.
        let tools = canonical_json(&*self.tools);
        if !self.tools.is_empty() {
            parts.push(&tools);
        }
        Digest::of_parts(parts.into_iter().map(str::as_bytes))
    }

    /// What a label says.
    pub(crate) fn label(&self) -> Option<bool> {
        match self.lesson {
            Lesson::Label { label, .. } => Some(label),
            _ => None,
        }
    }

    /// What near-duplicates of the last turn are known by, and what they are told from.
    pub(crate) fn answers(&self) -> Option<(String, Option<String>)> {
        match &self.lesson {
            Lesson::Sft { completion } | Lesson::Label { completion, .. } => {
                Some((said(completion), None))
            }
            Lesson::Pair { chosen, rejected, .. } => Some((said(chosen), Some(said(rejected)))),
            Lesson::Group(_) => None,
            // Prompts are alike where their turns are.
            Lesson::Prompt => Some((String::new(), None)),
        }
    }

    /// What it teaches to say: of narrow tasks the class.
    pub(crate) fn answer(&self) -> Option<Key> {
        let answer = self.taught()?;
        Some(Key::of("answer", &without_numbers(&said(answer))))
    }

    /// The tools it teaches to call.
    pub(crate) fn calls(&self) -> Box<[Key]> {
        let calls = self.taught().map_or(&[][..], |taught| taught.tool_calls.as_slice());
        let mut names: Vec<&str> = calls.iter().map(|call| call.function.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| Key::of("tool", name)).collect()
    }

    fn taught(&self) -> Option<&Message> {
        match &self.lesson {
            Lesson::Sft { completion: taught }
            | Lesson::Label { completion: taught, .. }
            | Lesson::Pair { chosen: taught, .. } => Some(taught),
            Lesson::Group(_) | Lesson::Prompt => None,
        }
    }

    /// The line of the file.
    pub(crate) fn to_line(&self) -> String {
        let (prompt, tools) = (self.prompt.to_vec(), self.tools.to_vec());
        let origin = self.origin.clone();
        match self.lesson.clone() {
            Lesson::Sft { completion } => {
                canonical_json(&SftExample { prompt, completion: vec![completion], tools, origin })
            }
            Lesson::Pair { chosen, rejected, margin } => canonical_json(&PairExample {
                prompt,
                chosen: vec![chosen],
                rejected: vec![rejected],
                tools,
                margin,
                origin,
            }),
            Lesson::Label { completion, label, reward, weight } => canonical_json(&LabelExample {
                prompt,
                completion: vec![completion],
                label,
                reward,
                weight,
                tools,
                origin,
            }),
            Lesson::Group(group) => {
                let Group { prompt_ids, attempts, .. } = *group;
                canonical_json(&GroupExample { prompt_ids, attempts, origin })
            }
            Lesson::Prompt => canonical_json(&PromptExample { prompt, tools, origin }),
        }
    }
}

/// What the user said last and the tools after it; all that was said, where the user's last word
/// means something only as an answer to it.
pub(crate) fn last_turn(prompt: &[Message]) -> String {
    let last = prompt.iter().rposition(|message| message.role == Role::User);
    let turn = last.map_or(prompt, |last| &prompt[last..]);
    let text = turn.iter().map(said).collect::<Vec<_>>().join("\n");
    if text.split_whitespace().count() >= TELLING {
        return text;
    }
    let spoken = prompt.iter().filter(|message| message.role != Role::System);
    spoken.map(said).collect::<Vec<_>>().join("\n")
}

/// The text of a message and the calls beside it.
pub(crate) fn said(message: &Message) -> String {
    let calls = message.tool_calls.iter().map(|call| &call.function);
    let calls = calls.map(|function| format!("\n{} {}", function.name, function.arguments));
    message.text() + &calls.collect::<String>()
}
