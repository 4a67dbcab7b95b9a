//! `weft log cat`: the records, for people or for scripts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use embedded::inspect::{Log, Record};
use event::Event;
use event::event::rfc3339;
use routing::inspect::describe;
use serde_json::value::RawValue;

use super::args::Cat;
use super::output;
use super::progress::Progress;
use super::select::{self, Next};

/// So much of the data is shown to people.
const DATA_SHOWN: usize = 200;

pub(super) fn run(dir: &Path, wanted: &Cat) -> anyhow::Result<ExitCode> {
    let log = Log::open(dir)?;
    let mut out = output();
    let mut left = wanted.limit.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let met = select::each(&log, &wanted.selection, &mut Progress::none(), |record| {
        let line = if wanted.json { as_json(record)? } else { as_text(record) };
        writeln!(out, "{line}")?;
        left -= 1;
        Ok(if left == 0 { Next::Enough } else { Next::More })
    })?;
    out.flush()?;
    Ok(if met.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_text(record: &Record) -> String {
    let mut line = format!("{}  ", record.position.0);
    let note = describe(&record.note).text;
    match &record.event {
        None => line.push_str(&shown(note.as_bytes(), usize::MAX)),
        Some(event) => {
            let parts = event.parts();
            let publisher = match &*parts.publisher {
                "" => "-".to_owned(),
                name => shown(name.as_bytes(), DATA_SHOWN),
            };
            write!(
                line,
                "{}  {}  {publisher}  {} B  ",
                rfc3339(parts.received_ms),
                parts.topic,
                parts.data.len()
            )
            .unwrap_or(());
            line.push_str(&shown(&parts.data, DATA_SHOWN));
            if !note.is_empty() {
                write!(line, "  [{}]", shown(note.as_bytes(), usize::MAX)).unwrap_or(());
            }
        }
    }
    line
}

/// Bytes as text that harms no terminal: what is no printable UTF-8 is escaped, and so is a backslash.
pub(super) fn shown(bytes: &[u8], most: usize) -> String {
    let mut text = String::new();
    let cut = bytes.get(..most.min(bytes.len())).unwrap_or(bytes);
    for chunk in cut.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                // Controls, and the signs that turn the direction of what follows.
                c if c.is_control()
                    || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    write!(text, "\\u{{{:x}}}", u32::from(c)).unwrap_or(());
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").unwrap_or(());
        }
    }
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}

#[derive(serde::Serialize)]
struct Line<'a> {
    position: u64,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Box<RawValue>>,
}

fn as_json(record: &Record) -> anyhow::Result<String> {
    let event = record.event.as_ref();
    let cloud_event = |event: &Event| {
        RawValue::from_string(String::from_utf8(event::lines::encode(event, false).to_vec())?)
            .map_err(anyhow::Error::from)
    };
    let line = Line {
        position: record.position.0,
        bytes: record.bytes,
        received: event.map(|event| rfc3339(event.parts().received_ms)),
        publisher: event.map(|event| event.parts().publisher.as_ref()),
        note: &describe(&record.note).text,
        event: event.map(cloud_event).transpose()?,
    };
    Ok(serde_json::to_string(&line)?)
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn data_is_shown_safely() {
        assert_eq!(shown(b"{\"t\": 1}", 99), "{\"t\": 1}");
        assert_eq!(shown("ü \u{1b}[2J\\\n\u{202e}".as_bytes(), 99), "ü \\u{1b}[2J\\\\\\n\\u{202e}");
        assert_eq!(shown(b"a\xff\x00b", 99), "a\\xff\\u{0}b");
        assert_eq!(shown("aü".as_bytes(), 2), "a\\xc3…");
        assert_eq!(shown(b"abc", 3), "abc");
    }
}
