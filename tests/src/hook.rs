//! A webhook that a test scripts, over HTTP or HTTPS. It takes all unless it is told otherwise. Shares no code with Weft.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::util::PATIENCE;

/// The webhook. Dropped, it is gone, and so are its connections.
#[derive(Debug)]
pub struct Hook {
    /// Where it is.
    pub address: SocketAddr,
    script: Script,
    posts: mpsc::Receiver<Post>,
    _task: JoinSet<()>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Post {
    /// Such as "POST".
    pub method: String,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Post {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// How posts are answered, one after the other, and how OPTIONS always is.
#[derive(Clone, Debug, Default)]
struct Script(Arc<Mutex<(VecDeque<Reply>, String)>>);

#[derive(Clone, Debug)]
enum Reply {
    With(String),
    Never,
}

impl Hook {
    /// One on a free port.
    pub async fn start() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// One at this address.
    pub async fn at(address: SocketAddr) -> Self {
        Self::serve(address, None).await
    }

    /// One on a free port, over TLS.
    pub async fn over_tls(config: Arc<ServerConfig>) -> Self {
        Self::serve((Ipv4Addr::LOCALHOST, 0).into(), Some(TlsAcceptor::from(config))).await
    }

    async fn serve(address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, posts) = mpsc::channel(1024);
        let script = Script::default();
        let told = script.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, script, tls) = (sender.clone(), told.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => converse(stream, sender, script).await,
                        // Who does not believe the certificate leaves.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, sender, script).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, script, posts, _task: task }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The next post that has no answer yet is answered so: `headers` are lines with their ends.
    pub fn answer(&self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        let reply = format!("HTTP/1.1 {status} So\r\n{headers}content-length: {length}\r\n\r\n{body}");
        self.script.0.lock().unwrap().0.push_back(Reply::With(reply));
    }

    /// The next one that has no answer yet gets none.
    pub fn never_answer(&self) {
        self.script.0.lock().unwrap().0.push_back(Reply::Never);
    }

    /// OPTIONS is answered with these header lines from now on.
    pub fn consent(&self, headers: &str) {
        headers.clone_into(&mut self.script.0.lock().unwrap().1);
    }

    /// The next request. Panics after [`PATIENCE`] without one.
    pub async fn next(&mut self) -> Post {
        self.next_within(PATIENCE).await.expect("a request in time")
    }

    /// The next request; `None`: none came in time. Cancel-safe.
    pub async fn next_within(&mut self, limit: Duration) -> Option<Post> {
        tokio::time::timeout(limit, self.posts.recv()).await.ok().flatten()
    }
}

impl Script {
    /// What is written back; `None`: nothing, ever.
    fn reply(&self, method: &str) -> Option<String> {
        let mut script = self.0.lock().unwrap();
        if method == "OPTIONS" {
            return Some(format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", script.1));
        }
        match script.0.pop_front() {
            None => Some("HTTP/1.1 204 So\r\n\r\n".to_owned()),
            Some(Reply::With(reply)) => Some(reply),
            Some(Reply::Never) => None,
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    posts: mpsc::Sender<Post>,
    script: Script,
) {
    let mut input = Vec::new();
    while let Some((first, headers, body)) = whole(&mut stream, &mut input).await {
        let method = first.split(' ').next().unwrap().to_owned();
        let reply = script.reply(&method);
        posts.send(Post { method, headers, body }).await.unwrap_or(());
        let Some(reply) = reply else { return std::future::pending().await };
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// First line, headers and body of the next message; `None` at the end of the connection.
pub(crate) async fn whole<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut Vec<u8>,
) -> Option<(String, BTreeMap<String, String>, Vec<u8>)> {
    loop {
        if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(input[..end].to_vec()).unwrap();
            let mut lines = head.split("\r\n");
            let first = lines.next().unwrap().to_owned();
            let headers: BTreeMap<String, String> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            if input.len() >= end + 4 + length {
                let message: Vec<u8> = input.drain(..end + 4 + length).collect();
                return Some((first, headers, message[end + 4..].to_vec()));
            }
        }
        if stream.read_buf(input).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}
