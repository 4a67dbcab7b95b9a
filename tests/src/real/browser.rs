//! A headless Chromium with a page of `tests/real`. The page comes from a small server of this process, and posts there
//! what it received. `browser.html` subscribes over WebSocket, comes back by itself whenever the connection is lost,
//! and acknowledges to Weft only what it posted.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
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
        let setting = json!({ "url": format!("ws://{weft}/ws?{query}"), "filter": filter });
        Self::show(vec![("/", root().join("tests/real/browser.html"))], &setting, on_event).await
    }

    /// Opens the first of `files`, each served under its path; the page finds `setting` behind `#`, and posts to
    /// `/received` what goes to `on_event`.
    pub async fn show(
        files: Vec<(&'static str, PathBuf)>,
        setting: &Value,
        on_event: impl FnMut(Value) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap();
        let setting: String = setting.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
        let page = format!("http://{own}{}#{setting}", files[0].0);
        let site = Arc::new(Site { files, on_event: Mutex::new(on_event) });
        let server = tokio::spawn(serve(listener, site));
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program().expect("Chromium is there"));
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display())).arg(page);
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

const FLAGS: [&str; 11] = [
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
    // Chromium takes a CA from a store of its own alone. `tests/tests/tls.rs` looks at certificates.
    "--ignore-certificate-errors",
];

struct Site<F> {
    files: Vec<(&'static str, PathBuf)>,
    on_event: Mutex<F>,
}

/// Serves the files, and takes `POST /received` with a JSON array of events.
async fn serve<F: FnMut(Value) + Send + 'static>(listener: TcpListener, site: Arc<Site<F>>) {
    let mut exchanges = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let site = Arc::clone(&site);
        exchanges.spawn(async move { exchange(stream, &site).await.unwrap_or(()) });
        while exchanges.try_join_next().is_some() {}
    }
}

/// One request and its answer.
async fn exchange<F: FnMut(Value)>(mut stream: TcpStream, site: &Site<F>) -> std::io::Result<()> {
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
    let path = text.split(' ').nth(1).unwrap_or_default();
    let found = site.files.iter().find(|(name, _)| *name == path);
    let answer = if text.starts_with("post /received ") {
        let events: Vec<Value> = serde_json::from_slice(&input[head..body])?;
        let mut on_event = site.on_event.lock().unwrap();
        events.into_iter().for_each(&mut *on_event);
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned()
    } else if let Some((_, file)) = found {
        let content = std::fs::read_to_string(file)?;
        let kind = if file.extension().is_some_and(|end| end == "js") { "javascript" } else { "html" };
        let length = content.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/{kind}; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{content}"
        )
    } else {
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
    };
    stream.write_all(answer.as_bytes()).await
}
