//! A WebSocket client of `/ws` (subprotocol `cloudevents.json`).

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::cloud::CloudEvent;
use crate::util::PATIENCE;

/// A connection.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: u64,
}

impl Socket {
    /// Connects to `/ws?{query}`.
    pub async fn connect(weft: SocketAddr, query: &str) -> Result<Self, Error> {
        Self::open(&format!("ws://{weft}/ws?{query}"), "cloudevents.json").await
    }

    /// Connects to `url` for `protocol`.
    pub async fn open(url: &str, protocol: &str) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        let (stream, _) = connect_async(request).await?;
        Ok(Self { stream, asked: 0 })
    }

    /// Sends any message.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.stream.send(message).await
    }

    /// Publishes an event and waits until it is kept; panics if it is refused.
    pub async fn publish(&mut self, event: &CloudEvent) {
        self.send(Message::text(event.to_json())).await.unwrap();
        let answer = self.text().await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["type"], "weft.published", "{answer}");
        assert_eq!(answer["data"]["id"].as_str(), event.get("id"), "{answer}");
    }

    /// Says something to Weft itself.
    pub async fn ask(&mut self, ty: &str, data: Value) {
        self.asked += 1;
        let id = self.asked.to_string();
        let ask = json!({"specversion": "1.0", "id": id, "source": "/tests", "type": ty, "data": data});
        self.send(Message::text(ask.to_string())).await.unwrap();
    }

    /// Subscribes and waits for the answer.
    pub async fn subscribe(&mut self, filter: &str) {
        self.ask("weft.subscribe", json!({"topic": filter, "guarantee": 2})).await;
        let answer = self.text().await;
        assert!(answer.contains("weft.subscribed") && !answer.contains("reason"), "{answer}");
    }

    /// The next text; panics if there is none within 10 s.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("instead of a text: {other:?}"),
        }
    }

    /// The next binary message; panics if there is none within 10 s.
    pub async fn binary(&mut self) -> Vec<u8> {
        match self.next().await {
            Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
            other => panic!("instead of binary data: {other:?}"),
        }
    }

    /// The code that the peer closes with; panics if it does not close within 10 s. `None`: without a code.
    pub async fn closed(&mut self) -> Option<CloseCode> {
        let mut code = None;
        loop {
            match self.next().await {
                Some(Ok(Message::Close(frame))) => code = frame.map(|frame| frame.code),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return code,
            }
        }
    }

    async fn next(&mut self) -> Option<Result<Message, Error>> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            match next.expect("a message within 10 s") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    }
}
