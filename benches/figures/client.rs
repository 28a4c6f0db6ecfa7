//! A client that keeps its connections and sends one ready-made request after the other.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// One connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// To a server on this machine.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8192) })
    }

    /// Sends a request; the head of the answer, whose body is read and forgotten.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<String> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let end = loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let unchanged = head.starts_with("HTTP/1.1 304");
        let length = if unchanged { 0 } else { header(&head, "content-length").unwrap_or("0").parse()? };
        while self.buffer.len() < end + length {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
        Ok(head)
    }
}

/// A header's value.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
}

/// Asks for `time` over so many connections, each going through all requests from another one on. Every answer must
/// be a 304. How many there were.
pub async fn load(
    address: &str,
    requests: &Arc<Vec<Vec<u8>>>,
    connections: usize,
    time: Duration,
) -> anyhow::Result<u64> {
    let until = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for nth in 0..connections {
        let mut connection = Connection::open(address).await?;
        let requests = requests.clone();
        tasks.spawn(async move {
            let mut answers = 0;
            for request in requests.iter().cycle().skip(nth * requests.len() / connections) {
                if Instant::now() >= until {
                    break;
                }
                let head = connection.ask(request).await?;
                if !head.starts_with("HTTP/1.1 304") {
                    bail!("expected a 304: {head}");
                }
                answers += 1;
            }
            Ok(answers)
        });
    }
    let mut answers = 0;
    while let Some(done) = tasks.join_next().await {
        answers += done??;
    }
    Ok(answers)
}
