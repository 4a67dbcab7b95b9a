//! A network that a test can cut: what connects to the gate is connected to what is behind it, while it is open.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The gate. It and its connections end when it is dropped.
#[derive(Debug)]
pub struct Gate {
    state: watch::Sender<State>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing passes, and nobody is told: packets are lost.
    Silent,
    /// Connections end, new ones at once.
    Closed,
}

impl Gate {
    /// An open gate at `at`, with `to` behind it.
    pub async fn start(at: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let (state, watched) = watch::channel(State::Open);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(carry(stream, to, watched.clone()));
            }
        });
        Self { state, _tasks: tasks }
    }

    /// Everything passes, what was held up first.
    pub fn open(&self) {
        self.state.send_replace(State::Open);
    }

    /// Nothing passes any more, as if a cable were pulled.
    pub fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Ends all connections, and new ones at once.
    pub fn close(&self) {
        self.state.send_replace(State::Closed);
    }
}

async fn carry(stream: TcpStream, to: SocketAddr, mut state: watch::Receiver<State>) {
    if !passes(&mut state).await {
        return;
    }
    let Ok(behind) = TcpStream::connect(to).await else { return };
    let ((from, answers), (back, on)) = (stream.into_split(), behind.into_split());
    tokio::select! {
        () = pump(from, on, state.clone()) => {}
        () = pump(back, answers, state) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = tokio::select! {
            biased;
            _ = state.wait_for(|state| *state == State::Closed) => return,
            read = from.read(&mut buffer) => match read {
                Ok(count @ 1..) => count,
                Ok(0) | Err(_) => return,
            },
        };
        if !passes(&mut state).await || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// Waits until something passes, or the gate is closed (false).
async fn passes(state: &mut watch::Receiver<State>) -> bool {
    state.wait_for(|state| *state != State::Silent).await.is_ok_and(|state| *state == State::Open)
}
