use serde_json::json;

use super::*;

/// What TensorBoard's own writer makes of the same events (`RecordWriter` of tensorboard 2.21).
const VERSION: &str =
    "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";
const RESTART: &str = "100000000000000095fbfe1809000000000000f83f10ac023a020801713b788a";
const SCALARS: &str = "33000000000000000ca7205609000000000000f83f10ac022a250a0b0a046c6f737315\
                       0000803e0a160a0f726577617264732f6d617267696e7315000000c0a0ee164e";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// An event as it is read back.
#[derive(Debug, Default, PartialEq)]
struct Event {
    step: u64,
    version: String,
    restarts: bool,
    scalars: Vec<(String, f32)>,
}

/// Splits off so many bytes.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = take(rest, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

/// A message's fields: number, and content as bytes or as a number.
fn fields(mut rest: &[u8]) -> Vec<(u64, &[u8], u64)> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        fields.push(match key & 7 {
            0 => (key >> 3, &[][..], varint(&mut rest)),
            1 => (key >> 3, take(&mut rest, 8), 0),
            2 => {
                let length = varint(&mut rest) as usize;
                (key >> 3, take(&mut rest, length), 0)
            }
            5 => (key >> 3, take(&mut rest, 4), 0),
            other => panic!("wire type {other}"),
        });
    }
    fields
}

fn scalar(value: &[u8]) -> (String, f32) {
    let fields = fields(value);
    let number = f32::from_le_bytes(fields[1].1.try_into().unwrap());
    (String::from_utf8(fields[0].1.to_vec()).unwrap(), number)
}

/// Every event of a file, its checksums checked.
fn events(path: &Path) -> Vec<Event> {
    let content = fs::read(path).unwrap();
    let mut rest = content.as_slice();
    let mut events = Vec::new();
    let checked = |data: &[u8], crc: &[u8]| assert_eq!(wire::masked_crc(data).to_le_bytes(), crc);
    while !rest.is_empty() {
        let length = take(&mut rest, 8);
        checked(length, take(&mut rest, 4));
        let data = take(&mut rest, u64::from_le_bytes(length.try_into().unwrap()) as usize);
        checked(data, take(&mut rest, 4));
        let mut event = Event::default();
        for (field, bytes, number) in fields(data) {
            match field {
                2 => event.step = number,
                3 => event.version = String::from_utf8(bytes.to_vec()).unwrap(),
                5 => event.scalars = fields(bytes).iter().map(|value| scalar(value.1)).collect(),
                7 => event.restarts = bytes == [8, 1],
                _ => {}
            }
        }
        events.push(event);
    }
    events
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn events_are_the_bytes_that_tensorboard_itself_writes() {
    assert_eq!(hex(&wire::record(&wire::version(1.5))), VERSION);
    assert_eq!(hex(&wire::record(&wire::start(1.5, 300))), RESTART);
    let scalars = [("loss".to_owned(), 0.25), ("rewards/margins".to_owned(), -2.0)];
    assert_eq!(hex(&wire::record(&wire::scalars(1.5, 300, &scalars))), SCALARS);
}

#[test]
fn every_number_of_a_step_is_a_scalar_under_its_key() {
    let home = tempfile::tempdir().unwrap();
    let mut files_of_stage =
        EventFiles::beside(&home.path().join("0-grpo.metrics.jsonl"), 0).unwrap();
    let metrics = json!({
        "step": 1, "loss": 0.5, "grad_norm": null, "num_tokens": 100, "advice": "lower it",
        "rewards": {"length": 0.25, "match": 1.0},
    });
    files_of_stage.append(1, &metrics).unwrap();
    let files = files(&home.path().join("0-grpo.tensorboard"));
    let events = events(&files[0]);
    assert_eq!((files.len(), events.len()), (1, 3));
    assert_eq!(events[0].version, "brain.Event:2");
    let scalar = |tag: &str, number| (tag.to_owned(), number);
    assert_eq!(
        events[2].scalars,
        [
            scalar("loss", 0.5),
            scalar("num_tokens", 100.0),
            scalar("rewards/length", 0.25),
            scalar("rewards/match", 1.0)
        ]
    );
    let name = files[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("events.out.tfevents.1") && name.ends_with(".understudy"), "{name}");
}

#[test]
fn a_stage_that_goes_on_voids_the_steps_it_takes_again() {
    let home = tempfile::tempdir().unwrap();
    let metrics = home.path().join("0-sft.metrics.jsonl");
    let folder = home.path().join("0-sft.tensorboard");
    let write = |steps: u64, until: u64| {
        let mut events = EventFiles::beside(&metrics, steps).unwrap();
        for step in steps + 1..=until {
            events.append(step, &json!({"step": step, "loss": step as f64})).unwrap();
        }
    };
    write(0, 5);
    write(3, 4);
    // A finished stage that is asked again adds nothing.
    write(4, 4);
    let files_now = files(&folder);
    assert_eq!(files_now.len(), 2);
    let second = events(&files_now[1]);
    assert!(second[1].restarts);
    let steps: Vec<u64> = second.iter().map(|event| event.step).collect();
    assert_eq!(steps, [0, 4, 4]);

    write(0, 1);
    let files_now = files(&folder);
    assert_eq!(files_now.len(), 1, "a new run keeps files of the run before: {files_now:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_an_error_that_names_the_place() {
    let home = tempfile::tempdir().unwrap();
    let metrics = home.path().join("0-sft.metrics.jsonl");
    let mut events = EventFiles::beside(&metrics, 0).unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    events.open = Some((PathBuf::from("/dev/full"), full));
    let error = events.append(1, &json!({"loss": 1.0})).unwrap_err();
    assert_eq!(error.to_string(), "could not write TensorBoard events to /dev/full");
}
