//! Settings that all protocols of EventMesh share.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Apache EventMesh's protocols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Also listen on EventMesh's own ports of the IPv4 loopback address: TCP 10000, HTTP 10105, gRPC 10205, and 10106
    /// for operators. Default false, `--eventmesh` sets it.
    /// For other addresses, or with TLS, write tables `[listener.NAME]` with these protocols.
    pub standard_ports: bool,
    /// Longest data of one event, in characters as Java counts them (UTF-16). Default 1000, as EventMesh's own
    /// `eventMesh.server.maxEventSize`; 1..=16777216. A longer event is refused, and its publisher told so.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub max_event_chars: u32,
    /// Requests that may wait for their reply, of all clients together. Default 10000; 1..=1000000. More are refused as
    /// an overload.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_max: u32,
    /// How long a request without `ttl` waits for its reply, milliseconds. Default 3000; 1..=3600000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub request_ttl_ms: u32,
    /// The longest that a request waits, whatever its `ttl` says, milliseconds. Default 60000; 1..=3600000. Too long, and
    /// requests that nobody answers fill `requests_max`.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub request_ttl_max_ms: u32,
    /// What Weft calls its cluster towards webhooks and clients of HTTP, as `eventMesh.server.cluster`. Default "weft".
    pub cluster: String,
    /// The same for its environment, as `eventMesh.server.env`. Default "weft".
    pub env: String,
    /// The same for its data centre, as `eventMesh.server.idc`. Default "DEFAULT".
    pub idc: String,
    /// The same for its address, as `eventMesh.server.hostIp`. Default "127.0.0.1".
    pub ip: String,
    /// As whom Weft asks webhooks whether it may post to them, as `eventMesh.server.webhook.origin`. Default
    /// "eventmesh.DEFAULT". Webhooks that allow others only are refused.
    pub webhook_origin: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            standard_ports: false,
            max_event_chars: 1000,
            requests_max: 10_000,
            request_ttl_ms: 3000,
            request_ttl_max_ms: 60_000,
            cluster: "weft".to_owned(),
            env: "weft".to_owned(),
            idc: "DEFAULT".to_owned(),
            ip: "127.0.0.1".to_owned(),
            webhook_origin: "eventmesh.DEFAULT".to_owned(),
        }
    }
}

impl Options {
    /// How long a request waits whose `ttl` is this text. `None`: the text is no number of milliseconds.
    pub fn request_ttl(&self, ttl: Option<&str>) -> Option<Duration> {
        let wanted = match ttl {
            None => u64::from(self.request_ttl_ms),
            Some(text) => text.trim().parse().ok()?,
        };
        Some(Duration::from_millis(wanted.clamp(1, u64::from(self.request_ttl_max_ms.max(1)))))
    }

    /// The headers that tell who Weft is.
    pub fn headers(&self) -> [(&'static str, &str); 4] {
        [
            ("eventmeshcluster", &self.cluster),
            ("eventmeship", &self.ip),
            ("eventmeshenv", &self.env),
            ("eventmeshidc", &self.idc),
        ]
    }

    /// Whether all names can be headers; the key of the first that cannot.
    ///
    /// # Errors
    /// It is empty, longer than 128 bytes, or has other characters than those of ASCII that can be seen.
    pub fn check(&self) -> Result<(), &'static str> {
        let names = [
            ("cluster", &self.cluster),
            ("env", &self.env),
            ("idc", &self.idc),
            ("ip", &self.ip),
            ("webhook_origin", &self.webhook_origin),
        ];
        let wrong = |name: &String| {
            !(1..=128).contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        names.iter().find(|(_, name)| wrong(name)).map_or(Ok(()), |(key, _)| Err(*key))
    }

    /// Whether data of an event is not too long.
    pub fn takes(&self, data: &[u8]) -> bool {
        let most = usize::try_from(self.max_event_chars).unwrap_or(usize::MAX);
        // No text has more characters than bytes.
        data.len() <= most
            || std::str::from_utf8(data).is_ok_and(|text| text.encode_utf16().take(most + 1).count() <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_a_number_within_limits() {
        let options = Options::default();
        let ms = |ttl| options.request_ttl(ttl).map(|ttl| ttl.as_millis());
        assert_eq!(ms(None), Some(3000));
        assert_eq!(ms(Some(" 2000 ")), Some(2000));
        assert_eq!(ms(Some("99999999999")), Some(60_000));
        assert_eq!(ms(Some("0")), Some(1));
        assert_eq!(ms(Some("soon")), None);
        assert_eq!(ms(Some("-1")), None);
    }

    #[test]
    fn names_have_to_be_headers() {
        assert_eq!(Options::default().check(), Ok(()));
        for wrong in ["", "with space", "zażółć", "a\nb", &"x".repeat(129)] {
            let options = Options { idc: wrong.to_owned(), ..Options::default() };
            assert_eq!(options.check(), Err("idc"), "{wrong:?}");
        }
    }

    #[test]
    fn characters_are_counted_as_java_does() {
        let options = Options { max_event_chars: 4, ..Options::default() };
        for (text, taken) in
            [("abcd", true), ("abcde", false), ("żółć", true), ("🚀🚀", true), ("🚀🚀x", false)]
        {
            assert_eq!(options.takes(text.as_bytes()), taken, "{text}");
        }
        assert!(!options.takes(b"\xff\xff\xff\xff\xff"));
    }
}
