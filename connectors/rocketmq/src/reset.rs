//! Offsets that somebody sets for a group, as brokers of 4.9 tell its members (RESET_CONSUMER_CLIENT_OFFSET). Brokers of 5.x
//! say it in the answer to a pull.

use remoting::Command;
use serde::Deserialize;

/// A queue whose offset is set, for one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reset {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) broker: String,
    pub(crate) queue: i32,
}

/// The offsets that a request sets. Its body is JSON as only Java writes it: objects are the keys of `offsetTable`.
///
/// ```text
/// {"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:7,{"brokerName":"b","queueId":1,"topic":"T"}:9}}
/// ```
pub(crate) fn offsets(request: &Command) -> Vec<(Reset, i64)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Queue {
        topic: String,
        broker_name: String,
        queue_id: i32,
    }
    let Some(group) = request.field("group") else { return Vec::new() };
    let text = String::from_utf8_lossy(&request.body);
    let pairs = text.split_inclusive("}:").zip(text.split("}:").skip(1));
    let read = |(key, value): (&str, &str)| {
        let queue = key.get(key.rfind('{')?..)?.strip_suffix(':')?;
        let Queue { topic, broker_name: broker, queue_id: queue } = serde_json::from_str(queue).ok()?;
        let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
        let offset = value.get(..end)?.parse().ok()?;
        Some((Reset { group: group.to_owned(), topic, broker, queue }, offset))
    };
    pairs.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javas_maps_are_read() {
        let body = r#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:7,{"brokerName":"b","queueId":1,"topic":"T"}:90}}"#;
        let of = |body: &'static str| {
            offsets(&Command::request(220).with("group", "g").with_body(body.as_bytes().into()))
        };
        let reset = |queue| Reset { group: "g".into(), topic: "T".into(), broker: "b".into(), queue };
        assert_eq!(of(body), [(reset(0), 7), (reset(1), 90)]);
        for odd in ["", "}:", "{}:", "{\"offsetTable\":{}}", "{\"topic\":1}:5", "}:}:}:"] {
            assert_eq!(of(odd), [], "{odd}");
        }
    }
}
