//! The file of rules: who may publish and subscribe what. Sans-io.
//!
//! ```toml
//! admins = ["ops"]                    # may use the admin pages
//!
//! [[rule]]
//! deny = "all"                        # "publish", "subscribe" or "all"
//! client = "test-*"                   # patterns; `*` is any text
//! topic = "factory/#"
//!
//! [[rule]]
//! allow = "publish"
//! user = ["sensor-*", "gauge-*"]
//! address = "10.0.0.0/8"
//! topic = "sensors/${user}/#"         # also ${client}; %u and %c are the same
//! ```
//!
//! The first rule that matches decides, and what none matches is denied. A rule matches when all that it names does;
//! what it does not name matches everybody, and `user = ""` matches those without a user.

mod address;
pub(crate) mod pattern;
mod program;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use toml::Spanned;

use crate::error::TextError;
use address::Block;
pub(crate) use program::Program;
use program::{Places, Template};

/// The rules of a file, or of one answer of the call-out.
#[derive(Debug, Default)]
pub(crate) struct Acl {
    admins: Vec<Box<str>>,
    rules: Vec<Rule>,
    /// Programs of rules without placeholders, by the rules they are of: connections share them.
    shared: Mutex<HashMap<Box<[u32]>, Arc<Program>>>,
}

/// Whom rules are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) client: &'a str,
    pub(crate) address: IpAddr,
}

#[derive(Debug)]
struct Rule {
    does: Does,
    user: Option<Vec<String>>,
    client: Option<Vec<String>>,
    address: Option<Vec<Block>>,
    topics: Vec<Template>,
}

/// What a rule says about which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Does {
    pub(crate) allow: bool,
    pub(crate) publish: bool,
    pub(crate) subscribe: bool,
}

/// A rule as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    allow: Option<Action>,
    deny: Option<Action>,
    user: Option<Words>,
    client: Option<Words>,
    address: Option<Words>,
    topic: Words,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Publish,
    Subscribe,
    All,
}

/// One text, or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    admins: Vec<String>,
    #[serde(default, rename = "rule")]
    rules: Vec<Spanned<Written>>,
}

impl Acl {
    /// Reads the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self, TextError> {
        let line = |at: usize| text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1;
        let file: File = toml::from_str(text).map_err(|error| TextError {
            line: error.span().map_or(1, |span| line(span.start)),
            reason: error.message().replace('\n', ", "),
        })?;
        let mut rules = Vec::with_capacity(file.rules.len());
        for written in file.rules {
            let at = line(written.span().start);
            rules.push(Rule::new(written.into_inner()).map_err(|reason| TextError { line: at, reason })?);
        }
        let admins = file.admins.into_iter().map(String::into_boxed_str).collect();
        Ok(Self { admins, rules, shared: Mutex::default() })
    }

    /// Rules that were written elsewhere.
    pub(crate) fn of(written: Vec<Written>) -> Result<Self, String> {
        let rules = written.into_iter().map(Rule::new).collect::<Result<_, _>>()?;
        Ok(Self { rules, ..Self::default() })
    }

    /// How many rules there are.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether this user is an administrator.
    pub(crate) fn administers(&self, user: Option<&str>) -> bool {
        user.is_some_and(|user| self.admins.iter().any(|admin| **admin == *user))
    }

    /// The rules for one subject, ready to be asked often.
    pub(crate) fn program(&self, subject: Subject<'_>) -> Arc<Program> {
        let places = Places { user: subject.user, client: subject.client };
        let rules: Vec<(u32, &Rule)> =
            (0..).zip(&self.rules).filter(|(_, rule)| rule.is_for(&subject)).collect();
        let compile = || {
            let lines = rules.iter().flat_map(|(_, rule)| rule.topics.iter().map(|topic| (rule.does, topic)));
            Arc::new(Program::new(lines, places))
        };
        if rules.iter().any(|(_, rule)| rule.topics.iter().any(Template::has_places)) {
            return compile();
        }
        let key: Box<[u32]> = rules.iter().map(|(index, _)| *index).collect();
        let mut shared = self.shared.lock();
        if shared.len() >= SHARED_MAX {
            shared.clear();
        }
        Arc::clone(shared.entry(key).or_insert_with(compile))
    }
}

/// How many programs are kept to be shared.
const SHARED_MAX: usize = 1024;

impl Rule {
    fn new(written: Written) -> Result<Self, String> {
        let (allow, action) = match (written.allow, written.deny) {
            (Some(action), None) => (true, action),
            (None, Some(action)) => (false, action),
            (None, None) | (Some(_), Some(_)) => {
                return Err(
                    "a rule has one of allow and deny: \"publish\", \"subscribe\" or \"all\"".to_owned()
                );
            }
        };
        let does = Does {
            allow,
            publish: !matches!(action, Action::Subscribe),
            subscribe: !matches!(action, Action::Publish),
        };
        let address = written.address.map(|words| words.all().iter().map(|text| text.parse()).collect());
        let topics = written.topic.all();
        if topics.is_empty() {
            return Err("a rule names at least one topic; \"#\" is all".to_owned());
        }
        Ok(Self {
            does,
            user: written.user.map(Words::all),
            client: written.client.map(Words::all),
            address: address.transpose()?,
            topics: topics.iter().map(|topic| Template::parse(topic)).collect::<Result<_, _>>()?,
        })
    }

    fn is_for(&self, subject: &Subject<'_>) -> bool {
        let user = |pattern: &String| match subject.user {
            None => pattern.is_empty(),
            Some(user) => !pattern.is_empty() && is_like(pattern, user),
        };
        self.user.as_ref().is_none_or(|all| all.iter().any(user))
            && self.client.as_ref().is_none_or(|all| all.iter().any(|text| is_like(text, subject.client)))
            && self.address.as_ref().is_none_or(|all| all.iter().any(|block| block.has(subject.address)))
    }
}

impl Words {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(list) => list,
        }
    }
}

/// Whether `text` is like `pattern`, in which each `*` is any text.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        // The earliest place leaves the most text to those that follow.
        let Some(at) = text.find(part) else { return false };
        text = text.get(at + part.len()..).unwrap_or_default();
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests;
