//! A loopback HTTP server that answers as a test says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

pub(super) struct Server {
    pub(super) url: String,
    received: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    /// Answers request after request, counted from 0, with a status and a body; its thread ends with
    /// the test process.
    pub(super) fn start(
        answer: impl Fn(usize, &Value) -> (&'static str, String) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let received = Arc::<Mutex<Vec<Value>>>::default();
        let log = Arc::clone(&received);
        thread::spawn(move || {
            for (nth, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let request = read(&stream);
                let (status, body) = answer(nth, &request);
                log.lock().unwrap().push(request);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                stream.write_all((head + &body).as_bytes()).unwrap();
            }
        });
        Self { url, received }
    }

    pub(super) fn received(&self) -> Vec<Value> {
        self.received.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Value {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "the head is cut off");
    }
    assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.expect("the client says how long its body is")];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}
