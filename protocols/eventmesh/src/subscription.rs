//! What a client wants to get (`SubscriptionItem`).

use event::{Language, Select};
use serde::{Deserialize, Serialize, Serializer};

/// How the members of a group share the events of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Mode {
    /// Each event goes to one of them.
    #[default]
    #[serde(rename = "CLUSTERING")]
    Clustering,
    /// Each event goes to all of them.
    #[serde(rename = "BROADCASTING")]
    Broadcasting,
}

/// Whether answers are expected of a subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum SubscriptionType {
    /// It takes events.
    #[default]
    #[serde(rename = "ASYNC")]
    Async,
    /// It answers them.
    #[serde(rename = "SYNC")]
    Sync,
}

/// A topic, and how to get it. SDKs up to 1.1 send the bare topic: CLUSTERING, ASYNC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "Item")]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// How the group shares it.
    pub mode: Mode,
    /// Whether the subscriber answers.
    #[serde(rename = "type")]
    pub kind: SubscriptionType,
    /// Which of its events: `"filter": { "cel": "data.total > 100" }`, or `cesql`. What EventMesh's own SDKs do not know.
    #[serde(rename = "filter", skip_serializing_if = "Option::is_none", serialize_with = "write_filter")]
    pub select: Option<Select>,
}

/// An expression under the name of its language.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Filter {
    Cesql(String),
    Cel(String),
}

impl From<Filter> for Select {
    fn from(filter: Filter) -> Self {
        match filter {
            Filter::Cesql(text) => Self::new(Language::Cesql, text),
            Filter::Cel(text) => Self::new(Language::Cel, text),
        }
    }
}

fn write_filter<S: Serializer>(select: &Option<Select>, serializer: S) -> Result<S::Ok, S::Error> {
    let filter = select.as_ref().map(|select| match select.language {
        Language::Cesql => Filter::Cesql(select.text.to_string()),
        Language::Cel => Filter::Cel(select.text.to_string()),
    });
    filter.serialize(serializer)
}

/// The body of a subscription by TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Topics {
    /// Which.
    #[serde(rename = "topicList", default)]
    pub list: Vec<Subscription>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Bare(String),
    Full {
        topic: String,
        #[serde(default)]
        mode: Mode,
        #[serde(rename = "type", default)]
        kind: SubscriptionType,
        filter: Option<Filter>,
    },
}

impl From<Item> for Subscription {
    fn from(item: Item) -> Self {
        match item {
            Item::Bare(topic) => {
                Self { topic, mode: Mode::default(), kind: SubscriptionType::default(), select: None }
            }
            Item::Full { topic, mode, kind, filter } => {
                Self { topic, mode, kind, select: filter.map(Select::from) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_all_releases_are_read() {
        let read = |json: &str| serde_json::from_str::<Topics>(json).map(|topics| topics.list);
        let full = read(r#"{"topicList":[{"topic":"t","mode":"BROADCASTING","type":"SYNC"}]}"#).unwrap();
        assert_eq!((full[0].mode, full[0].kind), (Mode::Broadcasting, SubscriptionType::Sync));
        let bare = read(r#"{"topicList":["t"]}"#).unwrap();
        assert_eq!(
            (&*bare[0].topic, bare[0].mode, bare[0].kind),
            ("t", Mode::Clustering, SubscriptionType::Async)
        );
        for wrong in [
            r#"{"topicList":[{"topic":"t","mode":"UNRECOGNIZED"}]}"#,
            r#"{"topicList":[{"mode":"CLUSTERING"}]}"#,
            r#"{"topicList":[{"topic":"t","filter":"data.x"}]}"#,
            r#"{"topicList":[{"topic":"t","filter":{"sql":"a"}}]}"#,
            r#"{"topicList":"t"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let some = read(r#"{"topicList":[{"topic":"t","filter":{"cel":"data.x > 1"}}]}"#).unwrap();
        assert_eq!(some[0].select, Some(Select::new(Language::Cel, "data.x > 1")));
        assert_eq!(serde_json::to_value(&some[0]).unwrap()["filter"]["cel"], "data.x > 1");
        assert_eq!(read("{}").unwrap(), []);
    }
}
