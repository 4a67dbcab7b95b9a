//! Echoes messages through the same socket that carries MQTT, for suites that judge WebSocket itself, such as Autobahn's
//! fuzzing client: `cargo run --release -p weft-websocket --example echo [ADDRESS]`, subprotocol `echo`; without an address it
//! takes a free port. It prints where it listens. `tests/conformance/rfc6455.toml` has the result.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a program for the command line"
)]

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use websocket::{Messages, Options, accept};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await.unwrap();
    println!("ws://{}/", listener.local_addr().unwrap());
    let mut connections = JoinSet::new();
    // Autobahn's largest message.
    let message_bytes_max = event::ByteLimit::mib(16);
    let options = Options { message_bytes_max, deflate: true, ..Options::default() };
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let options = options.clone();
        connections.spawn(async move {
            let (then, mut echo) = tokio::sync::mpsc::channel(1);
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let accepted = accept(request, &["echo"], &options);
                accepted.then.map(|messages| then.try_send(Box::pin(messages)));
                async { Ok::<_, Infallible>(accepted.response) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let http = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
            if http.await.is_ok()
                && let Some(messages) = echo.recv().await
            {
                // What went wrong is what the suite looks at.
                serve(messages.await.unwrap()).await.unwrap_or_default();
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut messages: Messages<S>) -> io::Result<()> {
    while let Some(message) = poll_fn(|cx| messages.poll_message(cx)).await? {
        let mut message = Some(message);
        poll_fn(|cx| messages.poll_send(cx, || message.take().unwrap())).await?;
        poll_fn(|cx| messages.poll_flush(cx)).await?;
    }
    let end = async {
        poll_fn(|cx| messages.poll_close(cx)).await?;
        while poll_fn(|cx| messages.poll_message(cx)).await?.is_some() {}
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(1), end).await.unwrap_or(Ok(()))
}
