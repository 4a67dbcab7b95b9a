//! A headless Chromium with a page (`tests/real/browser.html`) that subscribes over WebSocket and comes back by itself
//! whenever the connection is lost. What it receives it posts to a small server of this process, from which the page
//! came, and acknowledges to Weft only then.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::{JoinHandle, JoinSet};

use crate::process::Process;
use crate::weft::root;

/// A browser that runs until it is dropped.
#[derive(Debug)]
pub struct Browser {
    _chromium: Process,
    server: JoinHandle<()>,
    _profile: TempDir,
}

impl Browser {
    /// Opens the page, which connects to `ws://{weft}/ws?{query}` and subscribes to `filter`; each CloudEvent it gets goes
    /// to `on_event`.
    pub async fn open(
        weft: SocketAddr,
        query: &str,
        filter: &str,
        on_event: impl FnMut(Value) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Arc::new(Mutex::new(on_event))));
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program().expect("Chromium is there"));
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display()));
        let page = format!(
            "http://{own}/#{}",
            serde_json::json!({
                "url": format!("ws://{weft}/ws?{query}"), "filter": filter,
            })
            .to_string()
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<String>()
        );
        command.arg(page);
        Self { _chromium: Process::start("chromium", command, |_| ()), server, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The program, under the names that distributions give it.
pub(super) fn program() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.into_iter().find(|name| super::runs(name, &["--version"]))
}

const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
];

type OnEvent<F> = Arc<Mutex<F>>;

/// Serves the page, and takes `POST /received` with a JSON array of events.
async fn serve<F: FnMut(Value) + Send + 'static>(listener: TcpListener, on_event: OnEvent<F>) {
    let mut exchanges = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let on_event = on_event.clone();
        exchanges.spawn(async move { exchange(stream, on_event).await.unwrap_or(()) });
        while exchanges.try_join_next().is_some() {}
    }
}

/// One request and its answer.
async fn exchange<F: FnMut(Value)>(mut stream: TcpStream, on_event: OnEvent<F>) -> std::io::Result<()> {
    let mut input = Vec::new();
    let head = loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&input[..head]).to_ascii_lowercase();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let body = head + length.unwrap_or(0);
    while input.len() < body {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
    let answer = if text.starts_with("post /received ") {
        let events: Vec<Value> = serde_json::from_slice(&input[head..body])?;
        let mut on_event = on_event.lock().unwrap();
        events.into_iter().for_each(&mut *on_event);
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned()
    } else {
        let page = std::fs::read_to_string(page_file())?;
        let length = page.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
        )
    };
    stream.write_all(answer.as_bytes()).await
}

fn page_file() -> PathBuf {
    root().join("tests/real/browser.html")
}
