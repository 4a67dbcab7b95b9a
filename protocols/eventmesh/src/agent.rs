//! Who a client says it is (`UserAgent`).

use event::access::Credentials;
use serde::Deserialize;

/// What a client tells of itself. All but version, group and purpose is for people who look at clients.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct UserAgent {
    /// Environment.
    pub env: Option<String>,
    /// Name of the client's system.
    pub subsystem: Option<String>,
    /// Path of its program.
    pub path: Option<String>,
    /// Its process id.
    pub pid: i64,
    /// Its host, as it says.
    pub host: Option<String>,
    /// A port of it, as it says.
    pub port: i64,
    /// Version of its SDK.
    pub version: Option<String>,
    /// Its data centre.
    pub idc: Option<String>,
    /// The group it publishes for and takes events for (from 1.4).
    group: Option<String>,
    /// The same up to 1.3, for publishers.
    #[serde(rename = "producerGroup")]
    producer_group: Option<String>,
    /// The same up to 1.3, for subscribers.
    #[serde(rename = "consumerGroup")]
    consumer_group: Option<String>,
    purpose: Option<String>,
    username: Option<String>,
    password: Option<String>,
    token: Option<String>,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To publish.
    Publish,
    /// To take events; it may publish as well.
    Subscribe,
}

impl Purpose {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "pub",
            Self::Subscribe => "sub",
        }
    }
}

impl UserAgent {
    /// A client of `group`: for protocols in which nobody says hello.
    pub fn of(group: &str, purpose: Purpose) -> Self {
        let purpose = Some(purpose.as_str().to_owned());
        Self { group: Some(group.to_owned()), purpose, ..Self::default() }
    }

    /// The group; `None`: it names none.
    pub fn group(&self) -> Option<&str> {
        let old = match self.purpose() {
            Some(Purpose::Publish) => &self.producer_group,
            Some(Purpose::Subscribe) | None => &self.consumer_group,
        };
        [&self.group, old].into_iter().filter_map(filled).next()
    }

    /// The purpose; `None`: neither `pub` nor `sub`.
    pub fn purpose(&self) -> Option<Purpose> {
        match self.purpose.as_deref() {
            Some("pub") => Some(Purpose::Publish),
            Some("sub") => Some(Purpose::Subscribe),
            _ => None,
        }
    }

    /// What it shows to prove who it is: its token, else user name and password.
    pub fn credentials(&self) -> Credentials {
        if let Some(token) = filled(&self.token) {
            return Credentials::Token(token.into());
        }
        let (user, password) = (filled(&self.username), filled(&self.password));
        if user.is_none() && password.is_none() {
            return Credentials::None;
        }
        Credentials::Password { user: user.map(Into::into), password: password.map(|p| p.to_owned().into()) }
    }

    /// Forgets what proves who it is: only the gate has to see that.
    pub fn without_secrets(self) -> Self {
        Self { username: None, password: None, token: None, ..self }
    }
}

/// Shows no secrets: they must not get into logs.
impl std::fmt::Debug for UserAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("UserAgent");
        shown.field("group", &self.group()).field("purpose", &self.purpose()).field("version", &self.version);
        shown.field("subsystem", &self.subsystem).field("pid", &self.pid).finish_non_exhaustive()
    }
}

fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(json: &str) -> UserAgent {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn groups_of_all_releases_are_found() {
        for (json, group) in [
            (r#"{"group":"g","purpose":"pub"}"#, Some("g")),
            (r#"{"producerGroup":"p","consumerGroup":"c","purpose":"pub"}"#, Some("p")),
            (r#"{"producerGroup":"p","consumerGroup":"c","purpose":"sub"}"#, Some("c")),
            (r#"{"group":" ","purpose":"sub"}"#, None),
            (r#"{"group":null,"unack":0,"dcn":"x"}"#, None),
        ] {
            assert_eq!(agent(json).group(), group, "{json}");
        }
        assert_eq!(agent(r#"{"purpose":"both"}"#).purpose(), None);
        assert_eq!(agent(r#"{"purpose":"PUB"}"#).purpose(), None);
    }

    #[test]
    fn a_token_is_shown_before_a_password_and_nothing_is_shown_in_logs() {
        let both = agent(r#"{"username":"u","password":"secret1","token":"secret2","group":"g"}"#);
        assert!(matches!(both.credentials(), Credentials::Token(token) if token == "secret2"));
        assert!(!format!("{both:?}").contains("secret"));
        let user = agent(r#"{"username":"u","password":"p","token":""}"#);
        let Credentials::Password { user, password } = user.credentials() else { panic!("no password") };
        assert_eq!((user.as_deref(), password.as_deref()), (Some("u"), Some(&b"p"[..])));
        assert!(matches!(agent(r#"{"username":"","password":" "}"#).credentials(), Credentials::None));
        assert!(matches!(both.without_secrets().credentials(), Credentials::None));
    }
}
