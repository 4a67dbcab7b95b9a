//! What a group wants of a topic, as brokers are told: all of it, some tags, or what an SQL92 expression takes.

use serde_json::{Value, json};

/// What the name of a group's retry topic begins with: its own consumers get again what they gave back.
pub(crate) const RETRY: &str = "%RETRY%";

/// A topic and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// The topic as brokers know it.
    pub(crate) topic: String,
    /// What of it.
    pub(crate) wanted: Wanted,
}

/// Which messages of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of them.
    #[default]
    All,
    /// Those with one of these tags.
    Tags(Vec<String>),
    /// Those of which this is true, in RocketMQ's SQL92.
    Sql(String),
}

impl Wanted {
    /// What a rule says: tags, as "a || b" or "*", or an SQL92 expression.
    pub(crate) fn of(tags: Option<&str>, sql: Option<&str>) -> Self {
        if let Some(sql) = sql {
            return Self::Sql(sql.to_owned());
        }
        let tags = tags.unwrap_or("*").split("||").map(str::trim).filter(|tag| !tag.is_empty());
        let tags: Vec<String> = tags.map(str::to_owned).collect();
        if tags.iter().any(|tag| tag == "*") { Self::All } else { Self::Tags(tags) }
    }

    /// The expression, as pulls and heartbeats have it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Tags(tags) => tags.join(" || "),
            Self::Sql(sql) => sql.clone(),
        }
    }

    /// Its language.
    pub(crate) fn language(&self) -> &'static str {
        match self {
            Self::All | Self::Tags(_) => "TAG",
            Self::Sql(_) => "SQL92",
        }
    }

    /// Whether a message with these `TAGS` is wanted. Brokers compare hashes of tags only; SQL is theirs alone.
    pub(crate) fn takes(&self, tags: &str) -> bool {
        match self {
            Self::All | Self::Sql(_) => true,
            Self::Tags(wanted) => wanted.iter().any(|tag| tag == tags.trim()),
        }
    }
}

impl Subscription {
    /// What a group gave back.
    pub(crate) fn of_retries(group: &str) -> Self {
        Self { topic: format!("{RETRY}{group}"), wanted: Wanted::All }
    }

    /// As a heartbeat has it (SubscriptionData).
    pub(crate) fn as_json(&self, version: u64) -> Value {
        let tags: &[String] = if let Wanted::Tags(tags) = &self.wanted { tags } else { &[] };
        json!({
            "topic": self.topic, "subString": self.wanted.text(), "tagsSet": tags,
            "codeSet": tags.iter().map(|tag| java_hash(tag)).collect::<Vec<_>>(),
            "subVersion": version, "expressionType": self.wanted.language(), "classFilterMode": false,
        })
    }
}

/// Java's `String.hashCode`.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        for (tags, sql, text, language) in [
            (None, None, "*", "TAG"),
            (Some("*"), None, "*", "TAG"),
            (Some("a||b"), None, "a || b", "TAG"),
            (Some(" a  || b || "), None, "a || b", "TAG"),
            (None, Some("n > 3"), "n > 3", "SQL92"),
        ] {
            let wanted = Wanted::of(tags, sql);
            assert_eq!((&*wanted.text(), wanted.language()), (text, language));
        }
    }

    #[test]
    fn tags_are_compared_by_their_text() {
        let wanted = Wanted::of(Some("a || Aa"), None);
        // "BB" has the hash of "Aa".
        assert_eq!(java_hash("BB"), java_hash("Aa"));
        assert!(wanted.takes("a") && wanted.takes("Aa") && !wanted.takes("BB") && !wanted.takes(""));
        assert!(Wanted::All.takes("") && Wanted::Sql("x".into()).takes("any"));
    }

    #[test]
    fn hashes_are_those_of_java() {
        for (text, hash) in [("", 0), ("a", 97), ("TagA", 2_598_919), ("a longer tag name", 227_905_449)] {
            assert_eq!(java_hash(text), hash, "{text}");
        }
        let data = Subscription { topic: "T".into(), wanted: Wanted::of(Some("TagA"), None) }.as_json(7);
        assert_eq!((&data["codeSet"], &data["tagsSet"]), (&json!([2_598_919]), &json!(["TagA"])));
    }
}
