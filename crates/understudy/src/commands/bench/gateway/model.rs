//! A pretended model: one fixed answer, whole or as a stream, and nothing else.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::{Context, Result};

/// Serves until the program ends.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) address: String,
}

const WHOLE: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":{"role":"assistant","content":"delivery"},"finish_reason":"stop"}],"usage":{"prompt_tokens":200,"completion_tokens":2,"total_tokens":202}}"#;
const WORDS: [&str; 4] = ["late", " delivery", ", please", " track"];

impl Model {
    /// `stream` is what clients will ask for; it answers as each request says.
    pub(super) fn start(stream: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the model")?;
        let address = listener.local_addr().context("no address of the model")?.to_string();
        let answers = (whole(), streamed());
        tracing::debug!(stream, %address, "the pretended model listens");
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let answers = answers.clone();
                thread::spawn(move || serve(&socket, &answers.0, &answers.1));
            }
        });
        Ok(Self { address })
    }
}

fn whole() -> Vec<u8> {
    let length = WHOLE.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{WHOLE}"
    )
    .into_bytes()
}

fn streamed() -> Vec<u8> {
    let chunk = |choices: &str, more: &str| {
        let event = format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
             \"model\":\"mock\",\"choices\":[{choices}]{more}}}\n\n"
        );
        format!("{:x}\r\n{event}\r\n", event.len())
    };
    let delta = |text: &str, finish: &str| {
        format!("{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{finish}}}")
    };
    let mut text = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    transfer-encoding: chunked\r\n\r\n"
        .to_owned();
    for word in WORDS {
        text.push_str(&chunk(&delta(word, "null"), ""));
    }
    text.push_str(&chunk(&delta("", "\"stop\""), ""));
    let usage = ",\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":4,\"total_tokens\":204}";
    text.push_str(&chunk("", usage));
    text.push_str("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    text.into_bytes()
}

/// Until the client hangs up.
fn serve(socket: &TcpStream, whole: &[u8], streamed: &[u8]) {
    socket.set_nodelay(true).ok();
    let mut reader = BufReader::new(socket);
    let mut writer = socket;
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if line == "\r\n" {
                break;
            }
            let header = line.split_once(':');
            let value = header.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            length = value.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(length);
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let body = String::from_utf8_lossy(&body);
        let streams = body.contains("\"stream\":true") || body.contains("\"stream\": true");
        if writer.write_all(if streams { streamed } else { whole }).is_err() {
            return;
        }
    }
}
