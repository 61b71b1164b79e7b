use std::error::Error;

use understudy_ident::Digest;
use understudy_manifest::SftExample;

use super::*;
use crate::{Builder, DatasetError, Lessons, Placed};

/// A lesson for every other prompt.
#[derive(Debug)]
struct Even;

const BLOCK: &str = "<memory release=\"r\">\n- (m1) When asked, prefer answering.\n</memory>";

impl Lessons for Even {
    fn release(&self) -> Digest {
        Digest::of(b"release")
    }

    fn place(
        &self,
        task: &TaskName,
        prompt: &[Message],
    ) -> Result<Placed, Box<dyn Error + Send + Sync>> {
        assert_eq!(*task, super::task());
        let text = prompt.last().unwrap().text();
        let number: u64 = text.rsplit(' ').next().unwrap().parse()?;
        if number.is_multiple_of(2) {
            let mut placed = vec![Message::system(BLOCK)];
            placed.extend_from_slice(prompt);
            Ok(Placed::Shown(placed))
        } else {
            Ok(Placed::NothingFits)
        }
    }
}

fn draft(share: f64, questions: impl Iterator<Item = u64>) -> Draft {
    let (task, now) = (task(), at(86_400_000));
    let data = Data { memory_slot: share, ..all_train() };
    let request = Request { task: &task, data: &data, seed: 17, sources: &[], suites: &[], now };
    let mut builder = Builder::new(request, &std::env::temp_dir()).unwrap().remembering(&Even);
    for trajectory in trajectories(questions.map(accepted)) {
        builder.add(trajectory).unwrap();
    }
    builder.finish().unwrap()
}

fn accepted(n: u64) -> JudgedStep {
    let prompt = format!("a question about topic {}{} number {n}", n % 7, word(n));
    with(step(&format!("s{n}"), &format!("step{n}"), &prompt, "an answer"), Signal::Accept)
}

/// Questions that differ in more than their numbers.
fn word(n: u64) -> String {
    ["north", "south", "east", "west", "up", "down", "left", "right"]
        .iter()
        .enumerate()
        .map(|(bit, word)| if n >> bit & 1 == 1 { format!(" {word}") } else { String::new() })
        .collect()
}

/// Rows of every kind: an accepted reply is an example and a label.
fn with_lessons(draft: &Draft) -> Vec<String> {
    let files = draft.manifest().files.iter().filter(|file| file.path.contains(".train."));
    let texts = files.map(|file| draft.file(&file.path).unwrap().unwrap());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|line| line.contains("(m1)")).collect()
}

#[test]
fn a_share_of_the_prompts_carries_the_lessons_that_fit() {
    let some = draft(0.5, 0..200);
    let slot = some.manifest().memory.clone().unwrap();
    assert_eq!((slot.share, slot.release), (0.5, Digest::of(b"release")));
    let (shown, none) = (slot.rows["shown"], slot.rows["nothing_fits"]);
    assert_eq!(shown as usize, with_lessons(&some).len());
    // Two rows a prompt, of which there are two hundred.
    assert!((140..260).contains(&(shown + none)), "about half were drawn: {shown} and {none}");
    assert!((50..150).contains(&shown), "and half of those had a lesson: {shown}");
    let all = draft(1.0, 0..200).manifest().memory.clone().unwrap();
    assert_eq!((all.rows["shown"], all.rows["nothing_fits"]), (200, 200));
    assert_eq!(count(&some, "remember", "shown"), shown);
    let (root, frozen) = freeze(&some);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("in a share of 0.5"), "{card}");
    drop(root);
}

#[test]
fn the_share_is_the_one_that_was_asked_for_and_answers_stay_as_they_were() {
    let (drafted, plain) = (draft(0.3, 0..256), draft(0.0, 0..256));
    let rows = |draft: &Draft| -> Vec<SftExample> {
        let text = draft.file("sft.train.jsonl").unwrap().unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let slot = drafted.manifest().memory.clone().unwrap();
    // A row to imitate and a label of each prompt, which are drawn together.
    let drawn = (slot.rows["shown"] + slot.rows["nothing_fits"]) as f64 / 512.0;
    let three_deviations = 3.0 * (0.3 * 0.7 / 256.0_f64).sqrt();
    assert!((drawn - 0.3).abs() < three_deviations, "{slot:?}");
    let (some, none) = (rows(&drafted), rows(&plain));
    let has_block = |row: &SftExample| row.prompt[0].text() == BLOCK;
    let with = some.iter().filter(|row| has_block(row)).count();
    assert_eq!((some.len(), none.len(), 2 * with as u64), (256, 256, slot.rows["shown"]));
    for row in &some {
        let lessons = usize::from(has_block(row));
        let same = none.iter().find(|other| other.origin == row.origin).unwrap();
        assert_eq!(row.prompt[lessons..], same.prompt);
        assert_eq!(row.completion, same.completion);
    }
}

#[test]
fn the_same_seed_draws_the_same_prompts_whatever_else_is_there() {
    let (one, two) = (draft(0.5, 0..100), draft(0.5, (0..100).rev()));
    assert_eq!(one.version(), two.version());
    let more = draft(0.5, 0..200);
    let few = with_lessons(&one);
    assert!(!few.is_empty() && few.iter().all(|line| with_lessons(&more).contains(line)));
}

#[test]
fn without_a_release_to_look_them_up_in_nothing_is_built() {
    let (task, now) = (task(), at(86_400_000));
    let data = Data { memory_slot: 0.3, ..all_train() };
    let request = Request { task: &task, data: &data, seed: 17, sources: &[], suites: &[], now };
    let refused = build(request, trajectories([accepted(2)])).unwrap_err();
    assert!(matches!(refused, DatasetError::NoLessons { .. }), "{refused}");
    assert!(refused.to_string().contains("understudy memory release"), "{refused}");
    let plain = build(Request { data: &all_train(), ..request }, trajectories([accepted(2)]));
    assert_eq!(plain.unwrap().manifest().memory, None);
}
