//! A webhook of raw HTTP, for the tests of both kinds of webhooks.

#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A webhook that answers as told, 200 otherwise, each time once it has leave.
pub(crate) struct Webhook {
    pub(crate) url: String,
    pub(crate) got: Arc<Mutex<Vec<String>>>,
    pub(crate) answers: Arc<Mutex<VecDeque<&'static str>>>,
    pub(crate) leave: Arc<Semaphore>,
    /// The header by which it consents, if it has one.
    pub(crate) allowed: Arc<Mutex<String>>,
    _task: JoinSet<()>,
}

pub(crate) const OK: &str = "200 OK\r\ncontent-length: 13\r\n\r\n{\"retCode\":1}";
pub(crate) const RETRY: &str = "200 OK\r\ncontent-length: 13\r\n\r\n{\"retCode\":2}";
pub(crate) const BROKEN: &str = "500 Oh\r\ncontent-length: 0\r\n\r\n";
pub(crate) const GONE: &str = "410 Gone\r\ncontent-length: 0\r\n\r\n";

impl Webhook {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (got, answers) = (Arc::default(), Arc::new(Mutex::new(VecDeque::new())));
        let leave = Arc::new(Semaphore::new(1000));
        let (shared, script, gate) = (Arc::clone(&got), Arc::clone(&answers), Arc::clone(&leave));
        let allowed: Arc<Mutex<String>> = Arc::default();
        let consent = Arc::clone(&allowed);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (got, answers, leave) = (Arc::clone(&shared), Arc::clone(&script), Arc::clone(&gate));
                let allowed = Arc::clone(&consent);
                connections.spawn(async move {
                    let mut bytes: Vec<u8> = Vec::new();
                    loop {
                        let request = loop {
                            if let Some(request) = whole(&mut bytes) {
                                break request;
                            }
                            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                                return;
                            }
                        };
                        if request.starts_with("OPTIONS ") {
                            let allowed: String = allowed.lock().unwrap().clone();
                            let answer = format!("HTTP/1.1 200 OK\r\n{allowed}content-length: 0\r\n\r\n");
                            stream.write_all(answer.as_bytes()).await.unwrap();
                            continue;
                        }
                        let got: &Mutex<Vec<String>> = &got;
                        got.lock().unwrap().push(request);
                        leave.acquire().await.unwrap().forget();
                        let answer = answers.lock().unwrap().pop_front().unwrap_or(OK);
                        stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Self { url, got, answers, leave, allowed, _task: tasks }
    }

    pub(crate) fn answer(&self, answers: &[&'static str]) {
        self.answers.lock().unwrap().extend(answers);
    }

    pub(crate) fn got(&self) -> Vec<String> {
        self.got.lock().unwrap().clone()
    }
}

/// One request, if all of it is there.
fn whole(bytes: &mut Vec<u8>) -> Option<String> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length = length.map_or(0, |length| length.parse().unwrap());
    if bytes.len() < end + length {
        return None;
    }
    Some(String::from_utf8(bytes.drain(..end + length).collect()).unwrap())
}

/// Waits until it is so.
pub(crate) async fn until(what: impl Fn() -> bool) {
    let patience = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), patience).await.expect("it never came to be");
}
