//! What clients ask, read and checked. Sans-io.
//!
//! | style | what is asked | with |
//! |---|---|---|
//! | command | the header `code`, whatever the path; for GET the `code` of the query | a form, for GET the query |
//! | path | a path below `/eventmesh/` | a JSON object, or a form |
//!
//! The checks come in EventMesh's order: first who asks (`retCode` 6), then what (7).

use std::net::IpAddr;

use event::access::Credentials;
use eventmesh::{Purpose, Subscription, UserAgent};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;

use crate::error::{Answer, Code};

/// What is asked by a `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// 101: publish a request, and wait for its reply.
    Ask,
    /// 102: publish a list of messages.
    Batch,
    /// 104: publish.
    Publish,
    /// 107: publish one message of a batch.
    BatchOne,
    /// 203: a sign of life of a subscriber.
    Heartbeat,
    /// 206: post events to a webhook.
    Subscribe,
    /// 207: no more.
    Unsubscribe,
    /// 301: the reply to a request.
    Reply,
}

impl Command {
    /// The command of this code.
    ///
    /// # Errors
    /// There is none, or none such.
    pub fn parse(code: Option<&str>) -> Result<Self, Answer> {
        match code.map(str::trim) {
            Some("101") => Ok(Self::Ask),
            Some("102") => Ok(Self::Batch),
            Some("104") => Ok(Self::Publish),
            Some("107") => Ok(Self::BatchOne),
            Some("203") => Ok(Self::Heartbeat),
            Some("206") => Ok(Self::Subscribe),
            Some("207") => Ok(Self::Unsubscribe),
            Some("301") => Ok(Self::Reply),
            Some(other) => Err(Answer::new(
                Code::Command,
                format!("code {:?} is none of 101, 102, 104, 107, 203, 206, 207, 301", short(other)),
            )),
            None => Err(Answer::new(Code::Command, "the header code is missing")),
        }
    }
}

/// What is asked by a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Publish to the topic; `None`: the body names it.
    Publish(Option<String>),
    /// Publish the body's `content` to its `topic`.
    Bridge,
    /// Post events to a webhook.
    Subscribe,
    /// No more.
    Unsubscribe,
    /// The same at another EventMesh, which Weft does not do.
    Remote,
    /// Create topics, which always are there.
    CreateTopics,
    /// Forget that they were created.
    DeleteTopics,
    /// Look at subscriptions.
    Query,
}

impl Place {
    /// What `path` asks; `None`: the header `code` says that. Paths are told by how they begin, as EventMesh does.
    pub fn parse(path: &str) -> Option<Self> {
        let below = |start: &str| {
            let rest = path.strip_prefix(start)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/'))
        };
        if let Some(topic) = below("/eventmesh/publish") {
            return Some(Self::Publish(Some(decoded(topic)).filter(|topic| !topic.is_empty())));
        }
        for (start, place) in [
            ("/eventmesh/bridge/publish", Self::Bridge),
            ("/eventmesh/subscribe/local", Self::Subscribe),
            ("/eventmesh/unsubscribe/local", Self::Unsubscribe),
            ("/eventmesh/subscribe/remote", Self::Remote),
            ("/eventmesh/unsubscribe/remote", Self::Remote),
            ("/eventmesh/topic/create", Self::CreateTopics),
            ("/eventmesh/topic/delete", Self::DeleteTopics),
            ("/eventmesh/subscrition/query", Self::Query),
            ("/eventmesh/subscription/query", Self::Query),
        ] {
            if below(start).is_some() {
                return Some(place);
            }
        }
        None
    }
}

/// Texts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a form (URL Standard §5.1). Of a name that is there twice the first counts.
    ///
    /// # Errors
    /// It has too many fields.
    pub fn form(body: &[u8]) -> Result<Self, Answer> {
        let mut fields = Vec::new();
        for (name, value) in form_urlencoded::parse(body) {
            if fields.len() == FIELDS_MAX {
                return Err(Answer::new(Code::Body, format!("more than {FIELDS_MAX} fields")));
            }
            fields.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(fields))
    }

    /// Reads a JSON object. Members that are no texts are JSON themselves.
    ///
    /// # Errors
    /// It is none, or has too many members.
    pub fn json(body: &[u8]) -> Result<Self, Answer> {
        let wrong = |why: String| Answer::new(Code::Body, format!("the body is no JSON object: {why}"));
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
        if members.len() > FIELDS_MAX {
            return Err(wrong(format!("more than {FIELDS_MAX} members")));
        }
        Ok(Self(members.into_iter().filter_map(|(name, value)| Some((name, as_text(value)?))).collect()))
    }

    /// Reads the body of a request in the path style: a form if it says so, JSON otherwise.
    ///
    /// # Errors
    /// It is neither.
    pub fn of(headers: &HeaderMap, body: &[u8]) -> Result<Self, Answer> {
        if is_form(headers) { Self::form(body) } else { Self::json(body) }
    }

    /// The text of this name, if it is not blank.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.trim().is_empty())
    }

    /// The text of this name.
    ///
    /// # Errors
    /// It is missing or blank.
    pub fn need(&self, name: &'static str) -> Result<&str, Answer> {
        self.get(name).ok_or_else(|| Answer::new(Code::Body, format!("{name} is missing or blank")))
    }

    /// All as a JSON object.
    pub fn to_json(&self) -> Vec<u8> {
        let members: serde_json::Map<String, serde_json::Value> =
            self.0.iter().rev().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        serde_json::Value::Object(members).to_string().into_bytes()
    }
}

/// A member of a JSON object as a text: what is none is JSON itself, and `null` is not there.
pub(crate) fn as_text(value: serde_json::Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let text = value.as_str().map(str::to_owned);
    Some(text.unwrap_or_else(|| value.to_string()))
}

/// Whether the body is a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Environment.
    pub env: String,
    /// Its data centre.
    pub idc: String,
    /// Its address, as it says; else the one it has.
    pub ip: String,
    /// Its process id.
    pub pid: String,
    /// Its system.
    pub sys: String,
    /// What its SDK is written in.
    pub language: String,
    /// What it shows to prove who it is.
    pub credentials: Credentials,
}

impl Caller {
    /// Who sent a request with these `headers` from `peer`, in the command style.
    ///
    /// # Errors
    /// `retCode` 6: it does not say who it is.
    pub fn of(headers: &HeaderMap, peer: IpAddr) -> Result<Self, Answer> {
        for name in ["idc", "pid", "sys"] {
            if text(headers, name).is_none() {
                return Err(Answer::new(Code::Header, format!("header {name} is missing or blank")));
            }
        }
        Self::with_defaults(headers, peer)
    }

    /// The same in the path style, where EventMesh has a default for each header.
    ///
    /// # Errors
    /// `retCode` 6: `pid` is no number, a header is too long, or Authorization is wrong.
    pub fn with_defaults(headers: &HeaderMap, peer: IpAddr) -> Result<Self, Answer> {
        for name in ["env", "idc", "ip", "pid", "sys", "language"] {
            let length = headers.get(name).map_or(0, |value| value.len());
            if length > NAME_MAX {
                let reason = format!("header {name} has {length} bytes, at most {NAME_MAX} are taken");
                return Err(Answer::new(Code::Header, reason));
            }
        }
        let header = |name: &str, default: &str| text(headers, name).unwrap_or(default).to_owned();
        let pid = header("pid", "0");
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Answer::new(
                Code::Header,
                format!("header pid is {:?}, which is no number", short(&pid)),
            ));
        }
        Ok(Self {
            env: header("env", "env"),
            idc: header("idc", "idc"),
            ip: text(headers, "ip").map_or_else(|| peer.to_string(), str::to_owned),
            pid,
            sys: header("sys", "1234"),
            language: header("language", "JAVA"),
            credentials: credentials(headers)?,
        })
    }

    /// A name for it that its next requests have as well.
    pub fn name(&self) -> String {
        format!("http/{}/{}", self.ip, self.pid)
    }

    /// What operators see of it, as a member of `group`.
    pub fn agent(&self, group: &str) -> UserAgent {
        let mut agent = UserAgent::of(group, Purpose::Subscribe);
        agent.env = Some(self.env.clone());
        agent.subsystem = Some(self.sys.clone());
        agent.pid = self.pid.parse().unwrap_or_default();
        agent.host = Some(self.ip.clone());
        agent.idc = Some(self.idc.clone());
        agent
    }
}

/// The header of this name, if it is not blank.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?;
    Some(value.trim()).filter(|value| !value.is_empty())
}

/// What a request shows: the header Authorization, else `token`, else `username` and `passwd`.
fn credentials(headers: &HeaderMap) -> Result<Credentials, Answer> {
    if let Some(value) = headers.get(http::header::AUTHORIZATION) {
        let read = Credentials::of_request(Some(value.as_bytes()), None);
        return read.map_err(|reject| Answer::of(&reject, Code::Acl));
    }
    if let Some(token) = text(headers, "token") {
        return Ok(Credentials::Token(token.into()));
    }
    let (user, password) = (text(headers, "username"), text(headers, "passwd"));
    if user.is_none() && password.is_none() {
        return Ok(Credentials::None);
    }
    Ok(Credentials::Password {
        user: user.map(Into::into),
        password: password.map(|password| password.to_owned().into()),
    })
}

/// A wish to get events, or no more of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// For which group.
    pub group: String,
    /// Where they are posted to.
    pub url: String,
    /// Which.
    pub items: Vec<Subscription>,
}

/// What `fields` want to subscribe, or not to get any more.
///
/// # Errors
/// `retCode` 7: something is missing, or not what it should be.
pub fn interest(fields: &Fields) -> Result<Interest, Answer> {
    let (url, group, list) = (fields.need("url")?, fields.need("consumerGroup")?, fields.need("topic")?);
    let items: Vec<Subscription> = list_of(list, "topic")?;
    if items.is_empty() || items.iter().any(|item| item.topic.trim().is_empty()) {
        return Err(Answer::new(Code::Body, "topic names no topic, or one that is blank"));
    }
    Ok(Interest { group: group.to_owned(), url: url.to_owned(), items })
}

/// A sign of life: the group, and the topics that the client believes to have subscribed.
///
/// # Errors
/// `retCode` 7.
pub fn heartbeat(fields: &Fields) -> Result<(String, Vec<String>), Answer> {
    #[derive(Deserialize)]
    struct Entity {
        topic: String,
    }
    let group = fields.need("consumerGroup")?;
    let entities: Vec<Entity> = list_of(fields.need("heartbeatEntities")?, "heartbeatEntities")?;
    if entities.len() > TOPICS_MAX {
        return Err(Answer::new(Code::Body, format!("heartbeatEntities has more than {TOPICS_MAX} members")));
    }
    if entities.is_empty() || entities.iter().any(|entity| entity.topic.trim().is_empty()) {
        return Err(Answer::new(Code::Body, "heartbeatEntities is empty, or has one without a topic"));
    }
    Ok((group.to_owned(), entities.into_iter().map(|entity| entity.topic).collect()))
}

/// One message of a batch.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Item {
    /// The publisher's number of it.
    #[serde(rename = "bizSeqNo", default)]
    pub seq: Option<String>,
    /// Where it is published.
    pub topic: String,
    /// The text.
    pub msg: String,
    /// Its tag.
    #[serde(default)]
    pub tag: Option<String>,
    /// How long it is of use, milliseconds.
    #[serde(default)]
    pub ttl: Option<String>,
}

/// The messages of a batch, `most` of them at most.
///
/// # Errors
/// `retCode` 7.
pub fn batch(fields: &Fields, most: usize) -> Result<Vec<Item>, Answer> {
    fields.need("batchId")?;
    let items: Vec<Item> = list_of(fields.need("contents")?, "contents")?;
    let size = fields.need("size")?;
    if items.is_empty() || size.trim().parse() != Ok(items.len()) {
        let reason = format!("size is {:?}, and contents has {} messages", short(size), items.len());
        return Err(Answer::new(Code::Body, reason));
    }
    if items.len() > most {
        return Err(Answer::new(Code::Body, format!("{} messages, at most {most} are taken", items.len())));
    }
    Ok(items)
}

fn list_of<'a, T: Deserialize<'a>>(json: &'a str, name: &str) -> Result<Vec<T>, Answer> {
    let wrong =
        |error| Answer::new(Code::Body, format!("{name} is not the JSON list that is needed: {error}"));
    serde_json::from_str(json).map_err(wrong)
}

/// A part of a path, without percent-encoding.
fn decoded(path: &str) -> String {
    // What is special in a form is not in a path.
    let path = path.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(path.as_bytes()).map(|(name, _)| name).collect()
}

/// The beginning of what a client sent, to tell it what was wrong.
pub(crate) fn short(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(at, _)| text.get(..at).unwrap_or(text))
}

/// The longest header that says who asks, bytes: it is remembered for each subscriber.
const NAME_MAX: usize = 512;

/// Topics of one heartbeat.
const TOPICS_MAX: usize = 4096;

/// Fields of a form, or members of an object.
const FIELDS_MAX: usize = 256;

#[cfg(test)]
mod tests;
