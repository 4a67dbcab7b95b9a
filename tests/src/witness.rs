//! A well-behaved pair of clients beside a test that misbehaves: it must not notice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::raw::Client;
use crate::util::pause;
use crate::wire::{Connect, Publish};

/// The pair. It sends a message of each QoS in turn and waits for its arrival, over and over.
#[derive(Debug)]
pub struct Witness {
    stop: watch::Sender<bool>,
    task: JoinHandle<Seen>,
}

/// The longest that one message may take: the debug build shares few cores with all that goes on.
const UNDISTURBED: Duration = Duration::from_secs(20);

/// What it saw.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Messages that made it from one to the other.
    messages: u32,
    /// The longest time one took.
    slowest: Duration,
}

impl Witness {
    /// Connects both and starts.
    pub async fn start(address: SocketAddr) -> Self {
        let (mut reader, _) = Client::connect(address, &Connect::v5("witness-reader")).await.unwrap();
        assert_eq!(reader.subscribe(&[("witness/#", 2)]).await, [2]);
        let (writer, _) = Client::connect(address, &Connect::v4("witness-writer")).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(run(writer, reader, stopped)) }
    }

    /// Ends it; panics if a message was lost, a connection broken, or one message stood still with what went on beside it.
    pub async fn finish(self) {
        self.stop.send_replace(true);
        let seen = self.task.await.expect("the witness was not disturbed");
        assert!(seen.messages > 3, "only {} messages: too few to tell", seen.messages);
        assert!(seen.slowest < UNDISTURBED, "a message of an uninvolved pair took {:?}", seen.slowest);
    }
}

async fn run(mut writer: Client, mut reader: Client, stop: watch::Receiver<bool>) -> Seen {
    let mut seen = Seen::default();
    while !*stop.borrow() || seen.messages <= 3 {
        let qos = u8::try_from(seen.messages % 3).unwrap();
        let text = seen.messages.to_string();
        let start = Instant::now();
        writer.publish(Publish::new("witness/t", text.as_str(), qos)).await.expect("the publish is answered");
        let message =
            reader.message().await.expect("the message arrives").expect("the reader stays connected");
        assert_eq!(message.payload, text.as_bytes());
        seen.slowest = seen.slowest.max(start.elapsed());
        seen.messages += 1;
        pause(Duration::from_millis(10)).await;
    }
    seen
}
