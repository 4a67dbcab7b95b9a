//! Names of topics and groups, as the core knows them.
//!
//! | EventMesh | the core |
//! |---|---|
//! | topic `t` | topic `t`; `/` divides levels as everywhere; it does not begin with `$` and has no control character |
//! | subscription to `t` | filter `t`; the wildcards `+` and `#` of MQTT are taken |
//! | group `g`, CLUSTERING | the shared subscription `$share/g/t`, whose members may speak any protocol |
//! | group `g`, BROADCASTING | each member subscribes `t` for itself |
//! | `/`, `+`, `#`, `%` in a group | percent-encoded in the shared subscription: `a/b` is `$share/a%2Fb/t` |

use std::fmt::Write as _;

use event::{TopicError, TopicFilter, TopicName};

use crate::Mode;

/// Why a name cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a topic of Weft.
    #[error("the topic is not usable: {0}")]
    Topic(#[from] TopicError),
    /// Topics that begin with `$` are not of applications.
    #[error("the topic begins with '$': such topics are not open to EventMesh clients")]
    Reserved,
    /// A group is needed.
    #[error("the group is blank")]
    NoGroup,
}

/// The topic `name` to publish to.
///
/// # Errors
/// It is empty, begins with `$`, or has a wildcard or a control character.
pub fn topic(name: &str) -> Result<TopicName, NameError> {
    if name.starts_with('$') {
        return Err(NameError::Reserved);
    }
    Ok(TopicName::parse(name)?)
}

/// What a member of `group` subscribes to get the events of `topic`.
///
/// # Errors
/// The topic is empty, begins with `$`, or has a misplaced wildcard or a control character; or the group is blank.
pub fn filter(group: &str, topic: &str, mode: Mode) -> Result<TopicFilter, NameError> {
    if group.trim().is_empty() {
        return Err(NameError::NoGroup);
    }
    if topic.starts_with('$') {
        return Err(NameError::Reserved);
    }
    // Of the topic alone: what is wrong with it must not be blamed on the group.
    let plain = TopicFilter::parse(topic)?;
    match mode {
        Mode::Broadcasting => Ok(plain),
        Mode::Clustering => Ok(TopicFilter::parse(format!("$share/{}/{topic}", level(group)))?),
    }
}

/// `group` as one level of a topic.
pub fn level(group: &str) -> String {
    let mut level = String::with_capacity(group.len());
    for c in group.chars() {
        match c {
            '/' | '+' | '#' | '%' => write!(level, "%{:02X}", u32::from(c)).unwrap_or(()),
            _ => level.push(c),
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_shared_subscriptions_and_broadcasts_are_plain_ones() {
        for (group, name, mode, want) in [
            ("g1", "orders", Mode::Clustering, "$share/g1/orders"),
            ("g1", "orders", Mode::Broadcasting, "orders"),
            ("a/b", "x/y", Mode::Clustering, "$share/a%2Fb/x/y"),
            ("a%2Fb", "x", Mode::Clustering, "$share/a%252Fb/x"),
            ("$g+#", "sensors/+/temp/#", Mode::Clustering, "$share/$g%2B%23/sensors/+/temp/#"),
        ] {
            assert_eq!(filter(group, name, mode).unwrap().as_str(), want);
        }
    }

    #[test]
    fn names_that_cannot_be_used_are_told_apart() {
        for (group, name, error) in [
            (" ", "t", NameError::NoGroup),
            ("g", "", NameError::Topic(TopicError::Empty)),
            ("g", "$SYS/x", NameError::Reserved),
            ("g", "$share/a/b", NameError::Reserved),
            ("g", "a#", NameError::Topic(TopicError::WildcardPlace)),
            ("g\n", "t", NameError::Topic(TopicError::Control)),
        ] {
            assert_eq!(filter(group, name, Mode::Clustering).unwrap_err(), error, "{group:?} {name:?}");
        }
        assert_eq!(topic("a/+").unwrap_err(), NameError::Topic(TopicError::Wildcard));
        assert_eq!(topic("$aws/x").unwrap_err(), NameError::Reserved);
        assert!(topic("a/b").is_ok());
    }
}
