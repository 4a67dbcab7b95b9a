//! A name server and broker on one port of loopback that answers as the test says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use remoting::code::{request, response};
use remoting::{Command, Decoder, Encoding, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The fake. Its connections end with it.
pub(crate) struct FakeBroker {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

/// How a send is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// With this code.
    Code(i32),
    /// When the test calls [`FakeBroker::release`].
    Late,
    /// The connection is closed instead.
    Close,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    /// No topic exists and none is created.
    no_topics: bool,
    /// Bodies of the sends that came, those of a batch together.
    sends: Vec<Vec<String>>,
    /// Offsets that were committed.
    commits: Vec<i64>,
    /// What the queue holds, as stored messages.
    queue: Vec<Bytes>,
    released: u64,
}

const PATIENCE: Duration = Duration::from_secs(10);

impl FakeBroker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let changed = watch::channel(0).0;
        let mut tasks = JoinSet::new();
        let (shared, change) = (Arc::clone(&state), changed.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, addr, Arc::clone(&shared), change.clone()));
            }
        });
        Self { addr, state, changed, _tasks: tasks }
    }

    /// How the next send is answered; call again for the one after it. Others are answered with success.
    pub(crate) fn answer_next(&self, answer: Answer) {
        self.lock().answers.push_back(answer);
    }

    /// No topic exists, and none is created.
    pub(crate) fn forget_topics(&self) {
        self.lock().no_topics = true;
    }

    /// Lets late answers go.
    pub(crate) fn release(&self) {
        self.lock().released += 1;
        self.changed.send_modify(|count| *count += 1);
    }

    /// Puts a message into the queue, before any pull.
    pub(crate) fn store(&self, body: &str) {
        let mut state = self.lock();
        let offset = state.queue.len() as i64;
        state.queue.push(stored(offset, body));
    }

    /// Waits until `count` sends came, and tells their bodies.
    pub(crate) async fn until_sends(&self, count: usize) -> Vec<Vec<String>> {
        self.until(|state| (state.sends.len() >= count).then(|| state.sends.clone())).await
    }

    /// Waits until `offset` is committed; tells all commits so far.
    pub(crate) async fn until_committed(&self, offset: i64) -> Vec<i64> {
        self.until(|state| state.commits.contains(&offset).then(|| state.commits.clone())).await
    }

    /// Commits so far.
    pub(crate) fn commits(&self) -> Vec<i64> {
        self.lock().commits.clone()
    }

    async fn until<T>(&self, find: impl Fn(&State) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = find(&self.lock()) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, waiting).await.unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
) {
    let mut input = BytesMut::new();
    loop {
        while let Some(command) = Decoder::default().decode(&mut input).unwrap() {
            let Some(mut answer) = answer(&command, addr, &state, &changed).await else { return };
            answer.opaque = command.opaque;
            let mut output = BytesMut::new();
            encode(&answer, Encoding::Json, &mut output).unwrap();
            changed.send_modify(|count| *count += 1);
            if stream.write_all(&output).await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

/// `None`: close the connection.
async fn answer(
    command: &Command,
    addr: SocketAddr,
    state: &Mutex<State>,
    changed: &watch::Sender<u64>,
) -> Option<Command> {
    let with = |code| Command::answer(command, code);
    match command.code {
        request::GET_ROUTE_BY_TOPIC if state.lock().unwrap().no_topics => {
            Some(with(response::TOPIC_NOT_EXIST))
        }
        request::GET_ROUTE_BY_TOPIC => Some(with(0).with_body(route(addr).into())),
        request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE => {
            let (how, released) = {
                let mut state = state.lock().unwrap();
                state.sends.push(bodies(command));
                (state.answers.pop_front().unwrap_or(Answer::Code(0)), state.released)
            };
            changed.send_modify(|count| *count += 1);
            match how {
                Answer::Code(code) => Some(with(code)),
                Answer::Close => None,
                Answer::Late => {
                    let mut changes = changed.subscribe();
                    while state.lock().unwrap().released == released {
                        changes.changed().await.unwrap();
                    }
                    Some(with(0))
                }
            }
        }
        request::UPDATE_CONSUMER_OFFSET => {
            state.lock().unwrap().commits.push(command.number("commitOffset").unwrap());
            Some(with(0))
        }
        request::PULL_MESSAGE => Some(pull(command, state, changed).await),
        request::QUERY_CONSUMER_OFFSET => Some(with(response::QUERY_NOT_FOUND)),
        request::GET_MIN_OFFSET => Some(with(0).with("offset", "0")),
        _ => Some(with(0)),
    }
}

async fn pull(command: &Command, state: &Mutex<State>, changed: &watch::Sender<u64>) -> Command {
    let offset = command.number("queueOffset").unwrap();
    let body = {
        let mut state = state.lock().unwrap();
        if command.number("sysFlag").unwrap() & 1 == 1 {
            state.commits.push(command.number("commitOffset").unwrap());
        }
        state.queue.get(offset as usize).cloned()
    };
    changed.send_modify(|count| *count += 1);
    let next = |code, offset| Command::answer(command, code).with_number("nextBeginOffset", offset);
    match body {
        Some(body) => next(0, offset + 1).with_body(body),
        // A broker would hold it longer; this one gives other pulls their turn.
        None => {
            tokio::task::yield_now().await;
            let mut changes = changed.subscribe();
            timeout(Duration::from_millis(200), changes.changed()).await.ok();
            next(response::PULL_NOT_FOUND, offset)
        }
    }
}

fn route(addr: SocketAddr) -> String {
    format!(
        r#"{{"brokerDatas":[{{"brokerAddrs":{{"0":"{addr}"}},"brokerName":"b"}}],
            "queueDatas":[{{"brokerName":"b","perm":6,"readQueueNums":1,"writeQueueNums":1}}]}}"#
    )
}

fn bodies(command: &Command) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    if command.code == request::SEND_MESSAGE_V2 {
        return vec![text(&command.body)];
    }
    let (mut rest, mut list) = (command.body.clone(), Vec::new());
    while !rest.is_empty() {
        rest.advance(16);
        let len = rest.get_i32() as usize;
        list.push(text(&rest.split_to(len)));
        let len = rest.get_i16() as usize;
        rest.advance(len);
    }
    list
}

fn stored(offset: i64, body: &str) -> Bytes {
    use bytes::BufMut as _;
    let mut out = BytesMut::new();
    out.put_u32(0xDAA3_20A7);
    out.put_u32(crc(body.as_bytes()) & 0x7fff_ffff);
    out.put_bytes(0, 8);
    out.put_i64(offset);
    out.put_bytes(0, 12);
    out.put_bytes(0, 16);
    out.put_bytes(0, 16);
    out.put_bytes(0, 12);
    out.put_i32(body.len() as i32);
    out.extend_from_slice(body.as_bytes());
    out.put_u8(1);
    out.put_u8(b'T');
    out.put_i16(0);
    let mut whole = BytesMut::new();
    whole.put_u32(out.len() as u32 + 4);
    whole.extend_from_slice(&out);
    whole.freeze()
}

/// CRC-32, bit by bit.
fn crc(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}
