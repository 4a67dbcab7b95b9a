//! What clients ask, read and checked. Sans-io.
//!
//! Each request is a CloudEvent whose attributes say who asks; what it asks is in other attributes, or in JSON in its
//! data. The checks come in EventMesh's order: first who asks (status code 6), then what (7).

use event::access::Credentials;
use eventmesh::{Kind, PROTOCOL_TYPE, Purpose, Subscription, UserAgent};
use serde::Deserialize;

use crate::error::{Answer, Code};
use crate::proto::{Attr, CloudEvent, Data};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its environment.
    pub env: String,
    /// Its system.
    pub sys: String,
    /// Its data centre.
    pub idc: String,
    /// Its address, as it says.
    pub ip: String,
    /// Its process id.
    pub pid: String,
    /// What it shows to prove who it is.
    pub credentials: Credentials,
}

impl Caller {
    /// A name for it that its next requests have as well.
    pub fn name(&self) -> String {
        format!("grpc/{}/{}/{}", self.idc, self.ip, self.pid)
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

/// A wish to get events, or to get no more of them.
#[derive(Clone, Debug)]
pub struct Interest {
    /// Who.
    pub caller: Caller,
    /// For which group.
    pub group: String,
    /// Which events.
    pub items: Vec<Subscription>,
    /// The webhook to send them to.
    pub url: Option<String>,
}

/// A sign of life.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Of whom.
    pub caller: Caller,
    /// In which group.
    pub group: String,
    /// What it believes to have subscribed.
    pub items: Vec<HeartbeatItem>,
}

/// One subscription of a [`Heartbeat`].
#[derive(Clone, Debug, Deserialize)]
pub struct HeartbeatItem {
    /// The topic.
    pub topic: String,
    /// The webhook, or [`STREAM_URL`].
    #[serde(default)]
    pub url: Option<String>,
}

/// The longest attribute that says who asks, bytes: it is remembered for each subscriber. A password may be longer: it may be
/// a token.
const NAME_MAX: usize = 512;

/// What SDKs call the stream where a webhook has its URL.
pub const STREAM_URL: &str = "grpc_stream";

/// Who sent `message`.
///
/// # Errors
/// Status code 6: it does not say who it is.
pub fn caller(message: &CloudEvent) -> Result<Caller, Answer> {
    let secret = |name: &'static str| {
        let found = message.text(name).filter(|text| !text.is_empty());
        found.ok_or_else(|| Answer::new(Code::Header, format!("attribute {name} is missing or no string")))
    };
    let need = |name: &'static str| match secret(name)? {
        text if text.len() > NAME_MAX => {
            let reason = format!("attribute {name} has more than {NAME_MAX} bytes");
            Err(Answer::new(Code::Header, reason))
        }
        text => Ok(text),
    };
    let pid = need("pid")?;
    if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Answer::new(Code::Header, format!("attribute pid is {pid:?}, which is no number")));
    }
    need("language")?;
    let (user, password) = (need("username")?, secret("passwd")?);
    let credentials = match message.text("token").filter(|token| !token.is_empty()) {
        Some(token) => Credentials::Token(token.into()),
        None => Credentials::Password { user: Some(user.into()), password: Some(password.to_owned().into()) },
    };
    Ok(Caller {
        env: need("env")?.to_owned(),
        sys: need("sys")?.to_owned(),
        idc: need("idc")?.to_owned(),
        ip: need("ip")?.to_owned(),
        pid: pid.to_owned(),
        credentials,
    })
}

/// Checks an event that is to be published.
///
/// # Errors
/// Status code 7 if something is missing, 14 for a kind of payload that is not known.
pub fn check_event(message: &CloudEvent) -> Result<(), Answer> {
    for name in ["uniqueid", "producergroup", "subject", "ttl"] {
        if message.text(name).is_none_or(str::is_empty) {
            return Err(Answer::new(Code::Body, format!("attribute {name} is missing or no string")));
        }
    }
    let is_empty = match &message.data {
        None => true,
        Some(Data::Text(text)) => text.is_empty(),
        Some(Data::Binary(data)) => data.is_empty(),
        Some(Data::Proto(any)) => any.type_url.is_empty() && any.value.is_empty(),
    };
    if is_empty {
        return Err(Answer::new(Code::Body, "the event has no data"));
    }
    let name = message.text(PROTOCOL_TYPE);
    match Kind::parse(name) {
        Some(Kind::EventMeshMessage | Kind::CloudEvents) => Ok(()),
        Some(Kind::OpenMessage) | None => {
            let reason = format!(
                "protocoltype {:?} is not known; known are eventmeshmessage and cloudevents",
                name.unwrap_or("")
            );
            Err(Answer::new(Code::Send, reason))
        }
    }
}

/// What `message` wants to subscribe, or not to get any more.
///
/// # Errors
/// Status code 6 or 7.
pub fn interest(message: &CloudEvent) -> Result<Interest, Answer> {
    let caller = caller(message)?;
    let items: Vec<Subscription> = json(message)?;
    if items.is_empty() || items.iter().any(|item| item.topic.is_empty()) {
        return Err(Answer::new(Code::Body, "no subscription, or one without a topic"));
    }
    let url = message.text("url").filter(|url| !url.is_empty() && *url != STREAM_URL);
    Ok(Interest { caller, group: group(message)?, items, url: url.map(str::to_owned) })
}

/// Whose sign of life `message` is.
///
/// # Errors
/// Status code 6 or 7.
pub fn heartbeat(message: &CloudEvent) -> Result<Heartbeat, Answer> {
    /// `clienttype` of a subscriber.
    const SUB: i32 = 2;
    let caller = caller(message)?;
    let group = group(message)?;
    let is_subscriber = match message.value("clienttype") {
        Some(Attr::Integer(number)) => *number == SUB,
        Some(Attr::String(text)) => text == "2" || text == "SUB",
        Some(Attr::Boolean(_) | Attr::Bytes(_) | Attr::Uri(_) | Attr::UriRef(_) | Attr::Timestamp(_))
        | None => false,
    };
    if !is_subscriber {
        return Err(Answer::new(Code::Body, "attribute clienttype is not 2, which is a subscriber"));
    }
    let items: Vec<HeartbeatItem> = json(message)?;
    if items.iter().any(|item| item.topic.is_empty()) {
        return Err(Answer::new(Code::Body, "an item has no topic"));
    }
    Ok(Heartbeat { caller, group, items })
}

/// Whether `message` on a stream is the reply of a responder.
pub fn is_reply(message: &CloudEvent) -> bool {
    message.text("submessagetype") == Some("subscription_reply")
}

fn group(message: &CloudEvent) -> Result<String, Answer> {
    let group = message.text("consumergroup").filter(|group| !group.trim().is_empty());
    group
        .map(str::to_owned)
        .ok_or_else(|| Answer::new(Code::Body, "attribute consumergroup is missing or no string"))
}

fn json<'a, T: Deserialize<'a>>(message: &'a CloudEvent) -> Result<Vec<T>, Answer> {
    let parsed = match &message.data {
        Some(Data::Text(text)) => serde_json::from_str(text),
        Some(Data::Binary(data)) => serde_json::from_slice(data),
        Some(Data::Proto(_)) | None => {
            return Err(Answer::new(Code::Body, "no data: a JSON array is needed"));
        }
    };
    parsed.map_err(|error| {
        Answer::new(Code::Body, format!("the data is not the JSON array that is needed: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> CloudEvent {
        let mut message = CloudEvent { data: Some(Data::Text(json.to_owned())), ..CloudEvent::default() };
        for (name, value) in [
            ("env", "e"),
            ("idc", "i"),
            ("ip", "127.0.0.1"),
            ("pid", "12"),
            ("sys", "s"),
            ("language", "JAVA"),
            ("username", "u"),
            ("passwd", "p"),
            ("consumergroup", "g"),
            ("uniqueid", "1"),
            ("producergroup", "p"),
            ("subject", "t"),
            ("ttl", "4000"),
        ] {
            message.push_text(name, value);
        }
        message.push("clienttype", Attr::Integer(2));
        message
    }

    fn without(name: &str) -> CloudEvent {
        let mut message = message(r#"[{"topic":"t","mode":"CLUSTERING","type":"ASYNC"}]"#);
        message.attributes.retain(|entry| entry.name != name);
        message
    }

    #[test]
    fn who_asks_is_checked_first() {
        for name in ["env", "idc", "ip", "pid", "sys", "language", "username", "passwd"] {
            assert_eq!(caller(&without(name)).unwrap_err().code, Code::Header, "{name}");
            assert_eq!(interest(&without(name)).unwrap_err().code, Code::Header, "{name}");
            assert_eq!(heartbeat(&without(name)).unwrap_err().code, Code::Header, "{name}");
            let mut wrong_type = without(name);
            wrong_type.push(name, Attr::Integer(1));
            assert_eq!(caller(&wrong_type).unwrap_err().code, Code::Header, "{name}");
        }
        let mut sys = without("sys");
        sys.push_text("sys", "x".repeat(513));
        assert_eq!(caller(&sys).unwrap_err().code, Code::Header);
        let mut pid = without("pid");
        pid.push_text("pid", "12x");
        assert_eq!(caller(&pid).unwrap_err().code, Code::Header);
    }

    #[test]
    fn a_token_is_shown_before_a_password() {
        let mut with = message("x");
        assert!(matches!(caller(&with).unwrap().credentials, Credentials::Password { .. }));
        with.push_text("token", "t");
        assert!(matches!(caller(&with).unwrap().credentials, Credentials::Token(token) if token == "t"));
    }

    #[test]
    fn what_is_asked_is_checked_then() {
        for name in ["uniqueid", "producergroup", "subject", "ttl"] {
            assert_eq!(check_event(&without(name)).unwrap_err().code, Code::Body, "{name}");
        }
        assert_eq!(check_event(&message("")).unwrap_err().code, Code::Body);
        assert_eq!(check_event(&message("x")), Ok(()));
        for (kind, code) in [("nosuch", Code::Send), ("openmessage", Code::Send)] {
            let mut other = message("x");
            other.push_text(PROTOCOL_TYPE, kind);
            assert_eq!(check_event(&other).unwrap_err().code, code);
        }
        for json in ["", "[]", "{}", r#"[{"topic":""}]"#, r#"[{"topic":"t","mode":"UNRECOGNIZED"}]"#] {
            assert_eq!(interest(&message(json)).unwrap_err().code, Code::Body, "{json}");
        }
        assert_eq!(interest(&without("consumergroup")).unwrap_err().code, Code::Body);
        assert_eq!(heartbeat(&without("consumergroup")).unwrap_err().code, Code::Body);
        assert_eq!(heartbeat(&without("clienttype")).unwrap_err().code, Code::Body);
    }

    #[test]
    fn the_url_of_a_stream_is_no_webhook() {
        let mut with = without("url");
        with.push_text("url", STREAM_URL);
        assert_eq!(interest(&with).unwrap().url, None);
        with.set("url", Attr::String("http://h/".to_owned()));
        assert_eq!(interest(&with).unwrap().url.as_deref(), Some("http://h/"));
    }
}
