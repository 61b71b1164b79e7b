//! Clients over kept connections, as many at once as they are told.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

/// Longer than this no answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sent, and how fast.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Host and port.
    pub(super) address: String,
    pub(super) connections: usize,
    pub(super) seconds: Duration,
    /// Requests a second over all connections; without one, each follows its answer.
    pub(super) rate: Option<f64>,
    pub(super) body: String,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of each answer, in rising order: from when its request was due until its last byte.
    pub(super) ms: Vec<f64>,
    pub(super) failed: u64,
    pub(super) seconds: f64,
}

pub(super) fn drive(job: &Job) -> Result<Seen> {
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
         authorization: Bearer sk-bench\r\ncontent-length: {}\r\n\r\n{}",
        job.address,
        job.body.len(),
        job.body
    );
    let (next, begun) = (AtomicU64::new(0), Instant::now());
    let mut all = Seen::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..job.connections)
            .map(|_| scope.spawn(|| send(job, request.as_bytes(), &next, begun)))
            .collect();
        for client in clients {
            let seen = client.join().map_err(|_| anyhow!("a client panicked"))??;
            all.ms.extend(seen.ms);
            all.failed += seen.failed;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    all.seconds = begun.elapsed().as_secs_f64();
    all.ms.sort_by(f64::total_cmp);
    if all.ms.is_empty() {
        bail!("{} answered none of {} requests", job.address, all.failed);
    }
    Ok(all)
}

fn send(job: &Job, request: &[u8], next: &AtomicU64, begun: Instant) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut connection = None;
    loop {
        let due = match job.rate {
            None => Instant::now(),
            Some(rate) => {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                begun + Duration::from_secs_f64(nth as f64 / rate)
            }
        };
        if due >= begun + job.seconds {
            return Ok(seen);
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let socket = match connection.take() {
            Some(socket) => socket,
            None => open(&job.address)?,
        };
        match exchange(socket, request) {
            Ok((socket, true)) => {
                seen.ms.push(due.elapsed().as_secs_f64() * 1e3);
                connection = Some(socket);
            }
            Ok((socket, false)) => {
                seen.failed += 1;
                connection = Some(socket);
            }
            // The next request opens another connection.
            Err(_) => seen.failed += 1,
        }
    }
}

fn open(address: &str) -> Result<BufReader<TcpStream>> {
    let socket = TcpStream::connect(address).with_context(|| format!("{address} takes nobody"))?;
    socket.set_nodelay(true).context("no such option")?;
    socket.set_read_timeout(Some(PATIENCE)).context("no such option")?;
    Ok(BufReader::new(socket))
}

/// Sends, and reads the whole answer; whether it was a good one.
pub(super) fn exchange(
    mut socket: BufReader<TcpStream>,
    request: &[u8],
) -> Result<(BufReader<TcpStream>, bool)> {
    socket.get_mut().write_all(request)?;
    let mut line = String::new();
    socket.read_line(&mut line)?;
    let good = line.split(' ').nth(1) == Some("200");
    let (mut length, mut chunked) = (0, false);
    loop {
        line.clear();
        if socket.read_line(&mut line)? == 0 {
            bail!("the answer's head is cut off");
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
            chunked |= name.eq_ignore_ascii_case("transfer-encoding");
        }
    }
    let mut body = Vec::new();
    if !chunked {
        body.resize(length, 0);
        socket.read_exact(&mut body)?;
        return Ok((socket, good));
    }
    loop {
        line.clear();
        socket.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).context("a chunk without a size")?;
        body.resize(size + 2, 0);
        socket.read_exact(&mut body)?;
        if size == 0 {
            return Ok((socket, good));
        }
    }
}
