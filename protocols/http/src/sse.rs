//! Server-sent events (HTML §9.2): the text, and which events go into it. Sans-io.
//!
//! ```text
//! id: 4711                      where the log holds the event; not there if no one could resume from it
//! data: {"specversion":…}       the CloudEvent; one line for each line of the JSON
//!                               (empty)
//! ```

use bytes::Bytes;
use event::hub::Delivery;
use event::store::Position;

/// What an idle stream says.
pub(crate) const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// The first words of a stream.
pub(crate) fn greeting(reconnect_ms: u32) -> Bytes {
    Bytes::from(format!("retry: {reconnect_ms}\n\n"))
}

/// The id to give `delivery`. Only numbered deliveries come in the order of the log, and retained ones are older than
/// what the reader has: with an id, a reader that resumes would miss events, or get them twice.
pub(crate) fn id_of(delivery: &Delivery) -> Option<Position> {
    delivery.position.filter(|_| delivery.number.is_some() && !delivery.retain)
}

/// Writes one event.
pub(crate) fn write(out: &mut Vec<u8>, id: Option<Position>, json: &[u8]) {
    if let Some(Position(id)) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    let mut rest = json;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
        let (line, tail) = rest.split_at(end);
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
        rest = match tail {
            [b'\r', b'\n', tail @ ..] | [_, tail @ ..] => tail,
            [] => break,
        };
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_json_is_a_line_of_data() {
        let text = |id, json: &str| {
            let mut out = Vec::new();
            write(&mut out, id, json.as_bytes());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(Some(Position(7)), "{}"), "id: 7\ndata: {}\n\n");
        assert_eq!(text(None, "{\n1\r\n2\r3}"), "data: {\ndata: 1\ndata: 2\ndata: 3}\n\n");
        assert_eq!(text(None, "1\n"), "data: 1\ndata: \n\n");
    }
}
