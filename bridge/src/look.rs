//! `weft sessions`, `weft subscriptions`, `weft retained` and `weft ledger`: look at a running Weft, and end what has to end, over its
//! pages for administrators.

#![expect(clippy::indexing_slicing, reason = "a JSON value that is not there reads as null")]

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use reqwest::{Client, Method, Url};
use serde_json::Value;

use crate::args::{Retained, RetainedCommand, Sessions, SessionsCommand, Site, Subscriptions};
use crate::start::print;

/// `weft sessions`.
pub(crate) fn sessions(wanted: Sessions) -> anyhow::Result<ExitCode> {
    let Sessions { command, site } = wanted;
    run(&site, async |door| match &command {
        None | Some(SessionsCommand::Ls) => door.list("/admin/sessions", &[], "sessions", SESSIONS).await,
        Some(SessionsCommand::Show { id }) => {
            let page = door.ask(Method::GET, &["sessions", id], &[]).await?;
            door.show(&page)
        }
        Some(SessionsCommand::End { id, forget }) => {
            let forget = if *forget { "true" } else { "false" };
            let page = door.ask(Method::DELETE, &["sessions", id], &[("forget", forget)]).await?;
            if door.json { door.show(&page) } else { done(&format!("ended {id}")) }
        }
    })
}

/// `weft subscriptions`.
pub(crate) fn subscriptions(wanted: Subscriptions) -> anyhow::Result<ExitCode> {
    let Subscriptions { client, filter, topic, site } = wanted;
    let query = [("client", &client), ("filter", &filter), ("topic", &topic)];
    let query: Vec<(&str, &str)> =
        query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    run(&site, async |door| door.list("/admin/subscriptions", &query, "subscriptions", SUBSCRIPTIONS).await)
}

/// `weft retained`.
pub(crate) fn retained(wanted: Retained) -> anyhow::Result<ExitCode> {
    let Retained { command, site } = wanted;
    let command = command.unwrap_or(RetainedCommand::Ls { filter: "#".to_owned() });
    run(&site, async |door| match &command {
        RetainedCommand::Ls { filter } => {
            door.list("/admin/retained", &[("filter", filter)], "retained", RETAINED).await
        }
        RetainedCommand::Show { topic } => {
            let page = door.ask(Method::GET, &["retained"], &[("topic", topic)]).await?;
            if door.json {
                return door.show(&page);
            }
            let data = match (page["data"].as_str(), page["data_base64"].as_str()) {
                (None, Some(coded)) => base64::engine::general_purpose::STANDARD.decode(coded)?,
                (text, _) => text.unwrap_or_default().as_bytes().to_vec(),
            };
            done(&String::from_utf8_lossy(&data))
        }
        RetainedCommand::Rm { filter } => {
            let mut forgotten = 0;
            loop {
                let query = [("filter", &**filter), ("limit", "1000")];
                let page = door.ask(Method::DELETE, &["retained"], &query).await?;
                forgotten += page["forgotten"].as_u64().unwrap_or(0);
                if page["next"].is_null() {
                    break;
                }
            }
            if door.json {
                return door.show(&serde_json::json!({ "forgotten": forgotten }));
            }
            done(&format!("forgot {forgotten} retained events"))
        }
    })
}

/// `weft ledger`.
pub(crate) fn ledger(publishes: bool, tenant: Option<&str>, site: &Site) -> anyhow::Result<ExitCode> {
    let (name, columns) = if publishes { ("publishes", PUBLISHES) } else { ("deliveries", DELIVERIES) };
    let query: Vec<_> = tenant.map(|tenant| ("tenant", tenant)).into_iter().collect();
    run(site, async |door| door.list("/admin/ledger", &query, name, columns).await)
}

/// A column of a table: its head, and the name of its value.
pub(crate) type Column = (&'static str, &'static str);

const SESSIONS: &[Column] = &[
    ("CLIENT", "client"),
    ("USER", "user"),
    ("ADDRESS", "address"),
    ("PROTOCOL", "protocol"),
    ("CONNECTED", "since_ms"),
    ("DURABLE", "durable"),
    ("SUBS", "subscriptions"),
    ("INFLIGHT", "inflight"),
    ("QUEUED", "queued"),
    ("DROPPED", "dropped"),
];
const SUBSCRIPTIONS: &[Column] =
    &[("CLIENT", "client"), ("FILTER", "filter"), ("QOS", "qos"), ("SELECTS", "selects")];
const RETAINED: &[Column] = &[
    ("TOPIC", "topic"),
    ("QOS", "qos"),
    ("BYTES", "bytes"),
    ("PUBLISHER", "publisher"),
    ("RECEIVED", "received_ms"),
];

const PUBLISHES: &[Column] = &[
    ("ROUTE", "route"),
    ("TENANT", "tenant"),
    ("IN", "in"),
    ("UNDER WAY", "under_way"),
    ("KEPT", "kept"),
    ("PASSED", "passed"),
    ("REPEATED", "repeated"),
    ("HELD", "held"),
    ("UNANSWERED", "unanswered"),
    ("MALFORMED", "malformed"),
    ("UNPROVED", "unproved"),
    ("DENIED", "denied"),
    ("BUSY", "busy"),
    ("UNAVAILABLE", "unavailable"),
    ("CLOSED", "closed"),
];
const DELIVERIES: &[Column] = &[
    ("ROUTE", "route"),
    ("TENANT", "tenant"),
    ("OWED", "owed"),
    ("QUEUED", "queued"),
    ("ACKED", "acked"),
    ("SENT", "sent"),
    ("DEAD", "dead_lettered"),
    ("EXPIRED", "expired"),
    ("FULL", "queue_full"),
    ("SLOW", "slow_reader"),
    ("GONE", "record_gone"),
    ("FORBIDDEN", "forbidden"),
    ("LEFT", "left"),
    ("RETURNED", "returned"),
];

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way to the pages of one Weft.
struct Door {
    client: Client,
    base: Url,
    user: Option<(String, Option<String>)>,
    json: bool,
}

fn run(site: &Site, work: impl AsyncFn(&Door) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let base = if site.http.contains("://") { site.http.clone() } else { format!("http://{}", site.http) };
    let base = Url::parse(&base).with_context(|| format!("--http {}", site.http))?;
    let user = site.user.as_deref().map(|user| match user.split_once(':') {
        Some((name, password)) => (name.to_owned(), Some(password.to_owned())),
        None => (user.to_owned(), std::env::var("WEFT_PASSWORD").ok()),
    });
    rustls::crypto::ring::default_provider().install_default().unwrap_or(());
    let client = Client::builder().timeout(PATIENCE).no_proxy().build().context("no client for HTTP")?;
    let door = Door { client, base, user, json: site.json };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(work(&door))
}

impl Door {
    async fn ask(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("admin").extend(path);
        }
        url.query_pairs_mut().extend_pairs(query);
        let mut request = self.client.request(method, url);
        if let Some((name, password)) = &self.user {
            request = request.basic_auth(name, password.as_ref());
        }
        let base = &self.base;
        let response = request
            .send()
            .await
            .with_context(|| format!("no answer from {base}; is Weft running there? --http says where"))?;
        let status = response.status();
        let text = response.text().await.context("an answer that breaks off")?;
        let page: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(page);
        }
        let detail = page["detail"].as_str().unwrap_or("this does not look like Weft");
        match status.as_u16() {
            401 => bail!("{detail}; --user NAME says who you are, with the password in WEFT_PASSWORD"),
            403 => bail!("{detail}; `admins` of the file access.acl_file names who may"),
            code => bail!("{code}: {detail}"),
        }
    }

    /// Prints all pages of a list.
    async fn list(
        &self,
        path: &str,
        query: &[(&str, &str)],
        name: &str,
        columns: &[Column],
    ) -> anyhow::Result<ExitCode> {
        let path = path.trim_start_matches("/admin/");
        let mut after: Option<String> = None;
        let mut rows: Vec<Value> = Vec::new();
        loop {
            let mut query = query.to_vec();
            query.push(("limit", "1000"));
            query.extend(after.as_deref().map(|after| ("after", after)));
            let mut page = self.ask(Method::GET, &[path], &query).await?;
            let Some(Value::Array(some)) = page.get_mut(name).map(Value::take) else {
                bail!("an answer without {name}")
            };
            rows.extend(some);
            after = page["next"].as_str().map(str::to_owned);
            // Scripts get one object a line; people a table, as wide as what stands in it.
            if self.json {
                let lines: String = rows.drain(..).map(|row| format!("{row}\n")).collect();
                print(&lines);
            }
            if after.is_none() {
                break;
            }
        }
        if !self.json {
            print(&table(columns, &rows, now_ms()));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, page: &Value) -> anyhow::Result<ExitCode> {
        match page.as_object().filter(|_| !self.json) {
            None => done(&page.to_string()),
            Some(map) => {
                let width = map.keys().map(String::len).max().unwrap_or(0);
                let mut text = String::new();
                for (name, value) in map {
                    match value.as_array() {
                        None => writeln!(text, "{name:width$}  {}", cell(name, value, now_ms()))?,
                        Some(rows) => write!(
                            text,
                            "{name}\n{}",
                            table(SUBSCRIPTIONS.get(1..).unwrap_or_default(), rows, 0)
                        )?,
                    }
                }
                print(&text);
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn done(text: &str) -> anyhow::Result<ExitCode> {
    print(&format!("{text}\n"));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn table(columns: &[Column], rows: &[Value], now_ms: u64) -> String {
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|(head, _)| (*head).to_owned()).collect()];
    lines.extend(
        rows.iter().map(|row| columns.iter().map(|(_, name)| cell(name, &row[*name], now_ms)).collect()),
    );
    let width =
        |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let cells: Vec<String> = cells.collect();
        writeln!(text, "{}", cells.join("  ").trim_end()).unwrap_or(());
    }
    text
}

/// A value as people read it. Control characters of foreign names stay out of the terminal.
fn cell(name: &str, value: &Value, now_ms: u64) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64().filter(|_| name.ends_with("_ms")) {
            Some(at_ms) => ago(now_ms.saturating_sub(at_ms) / 1000),
            None => number.to_string(),
        },
        Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_as_wide_as_what_stands_in_it() {
        let rows = [
            json!({ "client": "a-long-name", "filter": "a/#", "qos": 1, "selects": "cel: data.t > 2" }),
            json!({ "client": "b\u{1b}[2J", "filter": "c", "qos": 0 }),
        ];
        assert_eq!(
            table(SUBSCRIPTIONS, &rows, 0),
            "CLIENT       FILTER  QOS  SELECTS\na-long-name  a/#     1    cel: data.t > 2\nb\u{fffd}[2J        c       0    -\n"
        );
    }

    #[test]
    fn times_are_told_as_people_tell_them() {
        assert_eq!(cell("since_ms", &json!(1000), 8000), "7 s ago");
        assert_eq!(cell("since_ms", &json!(0), 600_000), "10 min ago");
        assert_eq!(cell("since_ms", &Value::Null, 0), "-");
        assert_eq!(cell("queued", &json!(7), 0), "7");
    }
}
