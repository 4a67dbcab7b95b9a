//! A name server and broker on one port of loopback that answers as the test says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use remoting::code::{request, response};
use remoting::{Command, Decoder, Encoding, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The fake. Its connections end with it.
pub(crate) struct FakeBroker {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    /// Tells all connections that members changed.
    notices: broadcast::Sender<()>,
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
    /// Pulls are answered with this code.
    busy: Option<i32>,
    /// Pulls are held for ever.
    patient: bool,
    /// The name server knows no broker.
    no_brokers: bool,
    /// Bodies of the sends that came, those of a batch together.
    sends: Vec<Vec<String>>,
    /// Offsets that were committed.
    commits: Vec<i64>,
    /// What the queues hold, as stored messages.
    queues: [Vec<Bytes>; QUEUES],
    released: u64,
    /// Those that were committed without a pull, with the group.
    committed: Vec<(String, i64)>,
    /// Where the next pull of a group whose name has this in it is sent, instead of an answer.
    moved: Option<(String, i64)>,
    /// Clients that sent a heartbeat, with their groups.
    clients: BTreeMap<String, Vec<String>>,
    /// Others that the test put into every group.
    members: BTreeSet<String>,
    /// Messages that were given back: offset and delay level.
    returned: Vec<(i64, i64)>,
    /// It does not say who is in the group.
    silent: bool,
    /// Somebody else has the locks of the queues.
    locked: bool,
    /// Requests that came, by their code, without heartbeats and routes.
    asked: Vec<i32>,
    /// A replica, and clients are told to read there.
    replica: Option<SocketAddr>,
}

const GET_BROKER_CLUSTER_INFO: i32 = 106;
/// Queues of every topic here.
pub(crate) const QUEUES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);

impl FakeBroker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let changed = watch::channel(0).0;
        let mut tasks = JoinSet::new();
        let notices = broadcast::channel(16).0;
        let (shared, change, notice) = (Arc::clone(&state), changed.clone(), notices.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(
                    stream,
                    addr,
                    Arc::clone(&shared),
                    change.clone(),
                    notice.subscribe(),
                ));
            }
        });
        Self { addr, state, changed, notices, _tasks: tasks }
    }

    /// How the next send is answered; call again for the one after it. Others are answered with success.
    pub(crate) fn answer_next(&self, answer: Answer) {
        self.lock().answers.push_back(answer);
    }

    /// No topic exists, and none is created.
    pub(crate) fn forget_topics(&self) {
        self.lock().no_topics = true;
    }

    /// The name server forgets the broker and all that it had, or knows it again.
    pub(crate) fn unregister(&self, gone: bool) {
        let mut state = self.lock();
        (state.no_topics, state.no_brokers) = (gone, gone);
    }

    /// Lets late answers go.
    pub(crate) fn release(&self) {
        self.lock().released += 1;
        self.changed.send_modify(|count| *count += 1);
    }

    /// Puts a message into the first queue.
    pub(crate) fn store(&self, body: &str) {
        self.store_in(0, body);
    }

    /// Puts a message into a queue.
    pub(crate) fn store_in(&self, queue: usize, body: &str) {
        {
            let mut state = self.lock();
            let offset = state.queues[queue].len() as i64;
            state.queues[queue].push(stored(offset, body));
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Another client is in the group; members are told so.
    pub(crate) fn join(&self, member: &str) {
        self.lock().members.insert(member.to_owned());
        self.notices.send(()).ok();
    }

    /// It left; members are told so.
    pub(crate) fn part(&self, member: &str) {
        self.lock().members.remove(member);
        self.notices.send(()).ok();
    }

    /// Whether it refuses to say who is in the group.
    pub(crate) fn hide_members(&self, hidden: bool) {
        self.lock().silent = hidden;
    }

    /// Pulls are answered with `code`; `None`: with what is there. Those that may be held are held until there is something.
    pub(crate) fn refuse_pulls(&self, code: Option<i32>) {
        let mut state = self.lock();
        (state.busy, state.patient) = (code, true);
    }

    /// Another client has the locks of all queues, or gives them back.
    pub(crate) fn lock_queues(&self, locked: bool) {
        self.lock().locked = locked;
    }

    /// Pulls are answered with the wish that the next ones go to `replica`.
    pub(crate) fn suggest(&self, replica: SocketAddr) {
        self.lock().replica = Some(replica);
    }

    /// Requests so far, by their code, without heartbeats and questions for routes.
    pub(crate) fn asked(&self) -> Vec<i32> {
        self.lock().asked.clone()
    }

    /// Waits until a request of this code came.
    pub(crate) async fn until_asked(&self, code: i32) {
        self.until(|state| state.asked.contains(&code).then_some(())).await;
    }

    /// Waits until `count` messages were given back: their physical offset and the level of their delay.
    pub(crate) async fn until_returned(&self, count: usize) -> Vec<(i64, i64)> {
        self.until(|state| (state.returned.len() >= count).then(|| state.returned.clone())).await
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

    /// Waits until a group whose name has `part` in it committed `offset`.
    pub(crate) async fn until_committed_by(&self, part: &str, offset: i64) {
        let is_it = |(group, committed): &(String, i64)| group.contains(part) && *committed == offset;
        self.until(|state| state.committed.iter().any(is_it).then_some(())).await;
    }

    /// Sets the offset of a group whose name has `part` in it, as somebody at the broker may.
    pub(crate) fn set_offset(&self, part: &str, offset: i64) {
        self.lock().moved = Some((part.to_owned(), offset));
    }

    /// Offsets that groups with `part` in their names committed.
    pub(crate) fn committed_by(&self, part: &str) -> Vec<i64> {
        let state = self.lock();
        state.committed.iter().filter(|(group, _)| group.contains(part)).map(|(_, offset)| *offset).collect()
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
    stream: TcpStream,
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    mut notices: broadcast::Receiver<()>,
) {
    let (mut reader, mut writer) = stream.into_split();
    let (answers, mut ready) = mpsc::channel(64);
    let mut pulls = JoinSet::new();
    let mut input = BytesMut::new();
    loop {
        while let Some(command) = Decoder::default().decode(&mut input).unwrap() {
            // A held pull does not hold up what is behind it.
            let (state, changed, answers) = (Arc::clone(&state), changed.clone(), answers.clone());
            let work = async move {
                let answer = answer(&command, addr, &state, &changed).await.map(|mut answer| {
                    answer.opaque = command.opaque;
                    answer
                });
                changed.send_modify(|count| *count += 1);
                answers.send(answer).await.ok();
            };
            pulls.spawn(work);
        }
        tokio::select! {
            answer = ready.recv() => {
                let Some(Some(answer)) = answer else { return };
                if writer.write_all(&frame(&answer)).await.is_err() {
                    return;
                }
            }
            _ = notices.recv() => {
                let notice = Command::request(request::NOTIFY_CONSUMER_IDS_CHANGED).oneway();
                if writer.write_all(&frame(&notice)).await.is_err() {
                    return;
                }
            }
            read = reader.read_buf(&mut input) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
            }
        }
    }
}

fn frame(command: &Command) -> BytesMut {
    let mut output = BytesMut::new();
    encode(command, Encoding::Json, &mut output).unwrap();
    output
}

/// `None`: close the connection.
async fn answer(
    command: &Command,
    addr: SocketAddr,
    state: &Mutex<State>,
    changed: &watch::Sender<u64>,
) -> Option<Command> {
    let with = |code| Command::answer(command, code);
    if ![request::HEART_BEAT, request::GET_ROUTE_BY_TOPIC].contains(&command.code) {
        state.lock().unwrap().asked.push(command.code);
    }
    match command.code {
        request::GET_ROUTE_BY_TOPIC if state.lock().unwrap().no_topics => {
            Some(with(response::TOPIC_NOT_EXIST))
        }
        request::GET_ROUTE_BY_TOPIC => {
            let replica = state.lock().unwrap().replica;
            Some(with(0).with_body(route(addr, replica).into()))
        }
        GET_BROKER_CLUSTER_INFO if state.lock().unwrap().no_brokers => {
            Some(with(0).with_body(r#"{"brokerAddrTable":{},"clusterAddrTable":{}}"#.into()))
        }
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
            let offset = command.number("commitOffset").unwrap();
            let group = command.field("consumerGroup").unwrap().to_string();
            let mut state = state.lock().unwrap();
            state.commits.push(offset);
            state.committed.push((group, offset));
            Some(with(0))
        }
        request::HEART_BEAT => {
            let body: serde_json::Value = serde_json::from_slice(&command.body).unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let groups = body["consumerDataSet"].as_array().unwrap().iter();
            let groups = groups.map(|group| text(&group["groupName"])).collect();
            state.lock().unwrap().clients.insert(text(&body["clientID"]), groups);
            Some(with(0))
        }
        request::GET_CONSUMER_LIST_BY_GROUP if state.lock().unwrap().silent => {
            Some(with(response::NO_PERMISSION))
        }
        request::GET_CONSUMER_LIST_BY_GROUP => {
            let group = command.field("consumerGroup").unwrap().to_string();
            let state = state.lock().unwrap();
            let clients = state.clients.iter().filter(|(_, groups)| groups.contains(&group));
            let members = clients.map(|(client, _)| client.clone());
            let members: Vec<String> = members.chain(state.members.iter().cloned()).collect();
            let body = serde_json::json!({ "consumerIdList": members });
            Some(with(0).with_body(body.to_string().into()))
        }
        request::CONSUMER_SEND_MSG_BACK => {
            let number = |name| command.number(name).unwrap();
            state.lock().unwrap().returned.push((number("offset"), number("delayLevel")));
            Some(with(0))
        }
        request::LOCK_BATCH_MQ => {
            let body: serde_json::Value = serde_json::from_slice(&command.body).unwrap();
            let state = state.lock().unwrap();
            let given = if state.locked { serde_json::json!([]) } else { body["mqSet"].clone() };
            let body = serde_json::json!({ "lockOKMQSet": given });
            Some(with(0).with_body(body.to_string().into()))
        }
        request::PULL_MESSAGE => Some(pull(command, state, changed).await),
        request::QUERY_CONSUMER_OFFSET => Some(with(response::QUERY_NOT_FOUND)),
        request::GET_MIN_OFFSET | request::SEARCH_OFFSET_BY_TIMESTAMP => Some(with(0).with("offset", "0")),
        _ => Some(with(0)),
    }
}

async fn pull(command: &Command, state: &Mutex<State>, changed: &watch::Sender<u64>) -> Command {
    let (offset, queue) = (command.number("queueOffset").unwrap(), command.number("queueId").unwrap());
    // What members gave back does not come again here.
    let retries = command.field("topic").unwrap().starts_with("%RETRY%");
    if command.number("sysFlag").unwrap() & 1 == 1 && !retries {
        state.lock().unwrap().commits.push(command.number("commitOffset").unwrap());
    }
    if let Some(code) = state.lock().unwrap().busy {
        return Command::answer(command, code);
    }
    let group = command.field("consumerGroup").unwrap();
    let moved = state.lock().unwrap().moved.take_if(|(part, _)| !retries && group.contains(&**part));
    if let Some((_, offset)) = moved {
        return Command::answer(command, response::PULL_OFFSET_MOVED).with_number("nextBeginOffset", offset);
    }
    let mut changes = changed.subscribe();
    let there = async {
        loop {
            changes.mark_unchanged();
            let there = state.lock().unwrap().queues[queue as usize].get(offset as usize).cloned();
            match there {
                Some(body) if !retries => return body,
                _ => changes.changed().await.unwrap(),
            }
        }
    };
    let suggested = |state: &State| i64::from(state.replica.is_some());
    let next = |code, offset| {
        let from = suggested(&state.lock().unwrap());
        let answer = Command::answer(command, code).with_number("nextBeginOffset", offset);
        answer.with_number("suggestWhichBrokerId", from)
    };
    let hold_ms = match command.number("sysFlag").unwrap() & 2 {
        0 => 0,
        _ if state.lock().unwrap().patient => u64::MAX,
        // A real broker holds it longer.
        _ => 200,
    };
    match timeout(Duration::from_millis(hold_ms), there).await {
        Ok(body) => next(0, offset + 1).with_body(body),
        Err(_) => next(response::PULL_NOT_FOUND, offset),
    }
}

fn route(addr: SocketAddr, replica: Option<SocketAddr>) -> String {
    let replica = replica.map(|addr| format!(r#","1":"{addr}""#)).unwrap_or_default();
    format!(
        r#"{{"brokerDatas":[{{"brokerAddrs":{{"0":"{addr}"{replica}}},"brokerName":"b"}}],
            "queueDatas":[{{"brokerName":"b","perm":6,"readQueueNums":{QUEUES},"writeQueueNums":1}}]}}"#
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
    out.put_i64(1000 + offset);
    out.put_bytes(0, 4);
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
