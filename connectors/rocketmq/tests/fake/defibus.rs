//! A DeFiBus broker in memory, with its name server, on one port of loopback. It keeps what is sent, pushes replies, and
//! refuses as the test says. Like a real one it does not answer codes that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use defibus::code;
use remoting::code::{request, response};
use remoting::properties::parse;
use remoting::{Command, Decoder, Encoding, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The fake. Its connections end with it.
pub(crate) struct FakeDefibus {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    name: &'static str,
    cluster: &'static str,
    addr: SocketAddr,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// A message as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) code: i32,
    pub(crate) topic: String,
    pub(crate) queue: i32,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// How pulls of a queue are answered that bring nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Another member has it.
    Held,
    /// It is the asker's from this offset on; then there is no lock any more.
    Given(i64),
}

#[derive(Default)]
struct State {
    /// Queues by topic.
    topics: BTreeMap<String, Vec<Vec<Bytes>>>,
    /// Where clients sent their last heartbeat.
    clients: BTreeMap<String, mpsc::Sender<Command>>,
    /// Members of every group, beside those that send heartbeats.
    members: BTreeSet<String>,
    consumers: BTreeSet<String>,
    full: BTreeSet<i32>,
    locks: BTreeMap<i32, Lock>,
    sent: Vec<Sent>,
    asked: Vec<Command>,
    /// Brokers that the name server knows beside this one: name, cluster, address, and whether they have the topics.
    others: Vec<(&'static str, &'static str, SocketAddr, bool)>,
    no_route: bool,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl FakeDefibus {
    /// Broker `broker-a` of the cluster `GZ-defibus`, with the topics `Out` and `In` of one queue each.
    pub(crate) async fn start() -> Self {
        Self::named("broker-a", "GZ-defibus").await
    }

    pub(crate) async fn named(name: &'static str, cluster: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let topics = ["Out", "In"].map(|topic| (topic.to_owned(), vec![Vec::new()]));
        let state = State { topics: topics.into(), ..State::default() };
        let shared =
            Arc::new(Shared { name, cluster, addr, state: Mutex::new(state), changed: watch::channel(0).0 });
        let (mut tasks, served) = (JoinSet::new(), Arc::clone(&shared));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&served)));
            }
        });
        Self { addr, shared, _tasks: tasks }
    }

    /// The name server knows `other`, too; `has_topics`: as a broker of the same topics.
    pub(crate) fn knows(&self, other: &Self, has_topics: bool) {
        let entry = (other.shared.name, other.shared.cluster, other.addr, has_topics);
        self.lock().others.push(entry);
    }

    pub(crate) fn forget_topics(&self) {
        self.lock().no_route = true;
    }

    /// Changes the number of queues of each topic; `told`: consumers are told so (508).
    pub(crate) fn set_queues(&self, count: usize, told: bool) {
        let mut state = self.lock();
        state.topics.values_mut().for_each(|queues| queues.resize(count, Vec::new()));
        if told {
            let notice = Command::request(code::request::TOPIC_CHANGED).with("topic", "In").oneway();
            state.clients.values().for_each(|client| client.try_send(notice.clone()).unwrap());
        }
    }

    /// A queue takes no more (301), or does again.
    pub(crate) fn set_full(&self, queue: i32, full: bool) {
        let mut state = self.lock();
        if full {
            state.full.insert(queue);
        } else {
            state.full.remove(&queue);
        }
    }

    pub(crate) fn set_lock(&self, queue: i32, lock: Lock) {
        self.lock().locks.insert(queue, lock);
        self.changed();
    }

    /// A member of every group.
    pub(crate) fn join(&self, member: &str) {
        let mut state = self.lock();
        state.members.insert(member.to_owned());
        let notice = Command::request(request::NOTIFY_CONSUMER_IDS_CHANGED).oneway();
        state.clients.values().for_each(|client| client.try_send(notice.clone()).unwrap());
    }

    /// Another client sends to `In`. `age`: how long ago the broker stored it.
    pub(crate) fn store(&self, queue: usize, properties: &[(&str, &str)], body: &str, age: Duration) {
        let text: String =
            properties.iter().map(|(name, value)| format!("{name}\u{1}{value}\u{2}")).collect();
        self.shared.store("In", queue, &text, body.as_bytes(), 0, age);
        self.changed();
    }

    /// As [`Self::store`], compressed with zlib.
    pub(crate) fn store_compressed(&self, properties: &[(&str, &str)], body: &[u8]) {
        let text: String =
            properties.iter().map(|(name, value)| format!("{name}\u{1}{value}\u{2}")).collect();
        self.shared.store("In", 0, &text, body, 1, Duration::ZERO);
        self.changed();
    }

    /// Pushes a reply to the client that asked (400).
    pub(crate) fn push_reply(&self, to: &str, request: &str, body: &str) {
        let properties = format!(
            "msgType\u{1}reply\u{2}RR_REQUEST_UNIQ_ID\u{1}{request}\u{2}REPLY_TO\u{1}{to}\u{2}TTL\u{1}3000\u{2}LEAVE_TIME\u{1}1\u{2}city\u{1}Rome\u{2}"
        );
        let push = Command::request(code::request::PUSH_REPLY)
            .with("topic", "GZ-defibus-rr-reply-topic")
            .with("sysFlag", "0")
            .with("properties", properties)
            .with_body(Bytes::copy_from_slice(body.as_bytes()))
            .oneway();
        self.lock().clients[to].try_send(push).unwrap();
    }

    /// Waits until `count` messages were sent by Weft.
    pub(crate) async fn until_sent(&self, count: usize) -> Vec<Sent> {
        self.until(|state| (state.sent.len() >= count).then(|| state.sent.clone())).await
    }

    /// Waits until `find` finds something among what was asked.
    pub(crate) async fn until_asked<T>(&self, find: impl Fn(&[Command]) -> Option<T>) -> T {
        self.until(|state| find(&state.asked)).await
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.lock().sent.clone()
    }

    pub(crate) fn asked(&self, code: i32) -> Vec<Command> {
        self.lock().asked.iter().filter(|command| command.code == code).cloned().collect()
    }

    async fn until<T>(&self, find: impl Fn(&State) -> Option<T>) -> T {
        let mut changes = self.shared.changed.subscribe();
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

    fn changed(&self) {
        self.shared.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let (mut reader, mut writer) = stream.into_split();
    let (out, mut outgoing) = mpsc::channel::<Command>(1024);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(command) = outgoing.recv().await {
            let mut output = BytesMut::new();
            encode(&command, Encoding::Json, &mut output).unwrap();
            if writer.write_all(&output).await.is_err() {
                return;
            }
        }
    });
    let mut input = BytesMut::new();
    loop {
        while let Some(command) = Decoder::default().decode(&mut input).unwrap() {
            let (shared, out) = (Arc::clone(&shared), out.clone());
            tasks.spawn(async move {
                shared.state.lock().unwrap().asked.push(command.clone());
                let answer = shared.answer(&command, &out).await;
                shared.changed.send_modify(|count| *count += 1);
                if let Some(mut answer) = answer {
                    answer.opaque = command.opaque;
                    out.send(answer).await.ok();
                }
            });
        }
        if !matches!(reader.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

impl Shared {
    async fn answer(&self, command: &Command, out: &mpsc::Sender<Command>) -> Option<Command> {
        let with = |code| Command::answer(command, code);
        let topic = command.field("topic").unwrap_or_default();
        match command.code {
            request::GET_ROUTE_BY_TOPIC => {
                let state = self.state.lock().unwrap();
                let found = state.topics.get(topic).filter(|_| !state.no_route);
                Some(match found {
                    Some(queues) => with(0).with_body(self.route(&state, queues.len()).into()),
                    None => with(response::TOPIC_NOT_EXIST),
                })
            }
            code::request::CLUSTER_INFO => {
                let state = self.state.lock().unwrap();
                let all = std::iter::once((self.name, self.cluster, self.addr));
                let all =
                    all.chain(state.others.iter().map(|(name, cluster, addr, _)| (*name, *cluster, *addr)));
                let table: Vec<String> = all.map(|one| format!("\"{}\":{}", one.0, broker(one))).collect();
                Some(with(0).with_body(format!("{{\"brokerAddrTable\":{{{}}}}}", table.join(",")).into()))
            }
            request::HEART_BEAT => {
                let body: serde_json::Value = serde_json::from_slice(&command.body).unwrap();
                let client = body["clientID"].as_str().unwrap().to_owned();
                let mut state = self.state.lock().unwrap();
                if !body["consumerDataSet"].as_array().unwrap().is_empty() {
                    state.consumers.insert(client.clone());
                }
                state.clients.insert(client, out.clone());
                Some(with(0))
            }
            code::request::MEMBERS_OF_TOPIC => {
                let state = self.state.lock().unwrap();
                let all: Vec<&String> = state.members.iter().chain(&state.consumers).collect();
                Some(with(0).with_body(serde_json::json!({ "consumerIdList": all }).to_string().into()))
            }
            request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE | code::request::SEND_DIRECT_V2 => {
                Some(self.send(command))
            }
            request::PULL_MESSAGE => Some(self.pull(command).await),
            request::QUERY_CONSUMER_OFFSET => Some(with(response::QUERY_NOT_FOUND)),
            request::GET_MIN_OFFSET => Some(with(0).with("offset", "0")),
            request::UPDATE_CONSUMER_OFFSET | request::UNREGISTER_CLIENT => Some(with(0)),
            _ => None,
        }
    }

    fn send(&self, command: &Command) -> Command {
        let topic = command.field("b").unwrap().to_owned();
        let queue = command.number("e").unwrap() as i32;
        {
            let state = self.state.lock().unwrap();
            if command.code != code::request::SEND_DIRECT_V2 && !state.topics.contains_key(&topic) {
                let mut answer = Command::answer(command, response::SYSTEM_ERROR);
                answer.remark = Some("java.lang.NullPointerException".into());
                return answer;
            }
            if state.full.contains(&queue) && command.code != code::request::SEND_DIRECT_V2 {
                return Command::answer(command, code::response::CIRCUIT_BREAK);
            }
        }
        let messages = match command.code {
            request::SEND_BATCH_MESSAGE => batch(command.body.clone()),
            _ => vec![(command.field("i").unwrap().to_owned(), command.body.clone())],
        };
        for (properties, body) in messages {
            let map =
                parse(&properties.as_str().into()).map(|(n, v)| (n.to_string(), v.to_string())).collect();
            let body_text = String::from_utf8_lossy(&body).into_owned();
            let sent =
                Sent { code: command.code, topic: topic.clone(), queue, properties: map, body: body_text };
            self.state.lock().unwrap().sent.push(sent);
            let mut stamped = properties;
            if command.code == request::SEND_MESSAGE_V2 {
                stamped += &format!("CLUSTER\u{1}{}\u{2}BROKER\u{1}{}\u{2}", self.cluster, self.name);
            }
            if command.code != code::request::SEND_DIRECT_V2 {
                self.store(&topic, queue as usize, &stamped, &body, 0, Duration::ZERO);
            }
        }
        Command::answer(command, 0)
    }

    fn store(&self, topic: &str, queue: usize, properties: &str, body: &[u8], sys_flag: i32, age: Duration) {
        let mut state = self.state.lock().unwrap();
        let queue_list = &mut state.topics.get_mut(topic).unwrap()[queue];
        let message = stored(topic, queue, queue_list.len(), properties, body, sys_flag, age);
        queue_list.push(message);
    }

    async fn pull(&self, command: &Command) -> Command {
        let offset = command.number("queueOffset").unwrap();
        let queue = command.number("queueId").unwrap() as i32;
        let next = |code, offset| Command::answer(command, code).with_number("nextBeginOffset", offset);
        let mut changes = self.changed.subscribe();
        // A broker would hold it longer; this one gives other pulls their turn.
        for _ in 0..8 {
            changes.mark_unchanged();
            {
                let mut state = self.state.lock().unwrap();
                let mut empty = next(response::PULL_NOT_FOUND, offset);
                match state.locks.get(&queue).copied() {
                    Some(Lock::Held) => {
                        empty.remark = Some("mq is locked by other client.".into());
                        return empty;
                    }
                    Some(Lock::Given(from)) => {
                        state.locks.remove(&queue);
                        let mut given = next(response::PULL_NOT_FOUND, from);
                        given.remark = Some("lock a queue success, update pull offset.".into());
                        return given;
                    }
                    None => {}
                }
                let queues = state.topics.get(command.field("topic").unwrap());
                let message = queues.and_then(|queues| queues.get(queue as usize)?.get(offset as usize));
                if let Some(message) = message {
                    return next(0, offset + 1).with_body(message.clone());
                }
            }
            timeout(Duration::from_millis(250), changes.changed()).await.ok();
        }
        next(response::PULL_NOT_FOUND, offset)
    }

    fn route(&self, state: &State, queues: usize) -> String {
        let all = std::iter::once((self.name, self.cluster, self.addr));
        let others = state.others.iter().filter(|other| other.3).map(|other| (other.0, other.1, other.2));
        let all: Vec<_> = all.chain(others).collect();
        let brokers: Vec<String> = all.iter().map(|one| broker(*one)).collect();
        let queue_data = |name: &str| {
            format!(
                r#"{{"brokerName":"{name}","perm":6,"readQueueNums":{queues},"topicSynFlag":0,"writeQueueNums":{queues}}}"#
            )
        };
        let queues: Vec<String> = all.iter().map(|one| queue_data(one.0)).collect();
        format!(
            r#"{{"brokerDatas":[{}],"filterServerTable":{{}},"queueDatas":[{}]}}"#,
            brokers.join(","),
            queues.join(",")
        )
    }
}

/// As fastjson writes it: the key has no quotes.
fn broker((name, cluster, addr): (&str, &str, SocketAddr)) -> String {
    format!(r#"{{"brokerAddrs":{{0:"{addr}"}},"brokerName":"{name}","cluster":"{cluster}"}}"#)
}

fn batch(mut body: Bytes) -> Vec<(String, Bytes)> {
    use bytes::Buf as _;
    let mut messages = Vec::new();
    while !body.is_empty() {
        body.advance(16);
        let len = body.get_i32() as usize;
        let data = body.split_to(len);
        let len = body.get_i16() as usize;
        messages.push((String::from_utf8(body.split_to(len).to_vec()).unwrap(), data));
    }
    messages
}

fn stored(
    topic: &str,
    queue: usize,
    offset: usize,
    properties: &str,
    body: &[u8],
    sys_flag: i32,
    age: Duration,
) -> Bytes {
    let body = if sys_flag == 1 { zlib(body) } else { Bytes::copy_from_slice(body) };
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let stored_ms = (now - age).as_millis() as i64;
    let mut out = BytesMut::new();
    out.put_u32(0xDAA3_20A7);
    out.put_u32(crc32fast::hash(&body) & 0x7fff_ffff);
    out.put_i32(queue as i32);
    out.put_i32(0);
    out.put_i64(offset as i64);
    out.put_i64(1000 + offset as i64);
    out.put_i32(sys_flag);
    for _ in 0..2 {
        out.put_i64(stored_ms);
        out.put_u32(0x7f00_0001);
        out.put_i32(10911);
    }
    out.put_bytes(0, 12);
    out.put_i32(body.len() as i32);
    out.extend_from_slice(&body);
    out.put_u8(topic.len() as u8);
    out.extend_from_slice(topic.as_bytes());
    out.put_i16(properties.len() as i16);
    out.extend_from_slice(properties.as_bytes());
    let mut whole = BytesMut::new();
    whole.put_u32(out.len() as u32 + 4);
    whole.extend_from_slice(&out);
    whole.freeze()
}

fn zlib(data: &[u8]) -> Bytes {
    use std::io::Write as _;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap().into()
}
