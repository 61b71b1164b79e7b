//! A loopback HTTP server that does what a test says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

/// One request as it came over the wire.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) head: String,
    pub(super) body: Value,
}

pub(super) struct Server {
    pub(super) url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Answers every connection once with what `answer` writes; its thread ends with the test
    /// process.
    pub(super) fn start(answer: impl Fn(&mut TcpStream, &Value) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let (log, answer) = (Arc::clone(&received), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let request = read(&stream);
                    log.lock().unwrap().push(request.clone());
                    answer(&mut stream, &request.body);
                });
            }
        });
        Self { url, received }
    }

    /// Answers with a chat completion of this text.
    pub(super) fn saying(text: impl Fn(&Value) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |stream, request| {
            let message = json!({"role": "assistant", "content": text(request)});
            reply(stream, "200 OK", &json!({"choices": [{"message": message}]}).to_string());
        })
    }

    pub(super) fn failing(status: &'static str, body: &'static str) -> Self {
        Self::start(move |stream, _| reply(stream, status, body))
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

fn reply(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let reply =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(reply.as_bytes()).unwrap();
}

fn read(stream: &TcpStream) -> Received {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "the head is cut off");
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.expect("the client says how long its body is")];
    reader.read_exact(&mut body).unwrap();
    Received { head, body: serde_json::from_slice(&body).unwrap() }
}
