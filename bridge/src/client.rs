//! `weft pub` and `weft sub`: enough to try Weft, or another MQTT 5 broker, from a shell.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use event::replay::parse_filter;
use event::{Guarantee, Language, Select, Start, TopicName};
use filter::Filter;
use mqtt::client::{Client, Hello, Message};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::args::{Peer, Publish, Subscribe};
use crate::passwd;
use crate::shutdown::StopSignals;

const CONNECT: Duration = Duration::from_secs(10);

/// `weft pub`: ends when the event is acknowledged.
pub(crate) fn publish(wanted: Publish) -> anyhow::Result<ExitCode> {
    let topic = TopicName::parse(&*wanted.topic).with_context(|| format!("topic {:?}", wanted.topic))?;
    let data = match (&wanted.data, &wanted.file) {
        (Some(data), _) => data.clone().into_bytes(),
        (None, None) => Vec::new(),
        (None, Some(file)) if file.as_os_str() == "-" => {
            let mut data = Vec::new();
            std::io::stdin().read_to_end(&mut data).context("standard input")?;
            data
        }
        (None, Some(file)) => std::fs::read(file).with_context(|| file.display().to_string())?,
    };
    runtime()?.block_on(async {
        let mut client = connect(&wanted.peer).await?;
        let kept = client.publish(topic.as_str(), &data, guarantee(wanted.qos), wanted.retain, &[]).await;
        kept.context("not published")?;
        client.disconnect().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// `weft sub`: ends on a signal, after `--count` events, or when the reader of its output is gone.
pub(crate) fn subscribe(wanted: Subscribe) -> anyhow::Result<ExitCode> {
    for filter in &wanted.filters {
        parse_filter(&**filter).with_context(|| format!("filter {filter:?}"))?;
    }
    if let Some(from) = &wanted.from {
        Start::parse(from).context("--from")?;
    }
    let cesql = wanted.filter_cesql.map(|text| Select::new(Language::Cesql, text));
    let select = cesql.or_else(|| wanted.filter_cel.map(|text| Select::new(Language::Cel, text)));
    if let Some(select) = &select {
        Filter::of(select).with_context(|| format!("--filter-{}", select.language))?;
    }
    runtime()?.block_on(async {
        let mut signals = StopSignals::listen()?;
        let mut client = connect(&wanted.peer).await?;
        let filters: Vec<&str> = wanted.filters.iter().map(String::as_str).collect();
        client
            .subscribe_with(&filters, guarantee(wanted.qos), wanted.from.as_deref(), select.as_ref())
            .await
            .context("not subscribed")?;
        eprintln!("subscribed to {}", filters.join(" "));
        let mut left = wanted.count.unwrap_or(u64::MAX);
        while left > 0 {
            let message = tokio::select! {
                biased;
                _ = signals.next() => break,
                message = client.next() => message?,
            };
            if show(&message, wanted.verbose).is_err() {
                break;
            }
            left -= 1;
        }
        client.disconnect().await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

async fn connect(peer: &Peer) -> anyhow::Result<Client<TcpStream>> {
    let addr = &peer.addr;
    let stream = match timeout(CONNECT, TcpStream::connect(addr)).await {
        Ok(stream) => stream
            .with_context(|| format!("no connection to {addr}; is Weft running there? --addr says where"))?,
        Err(_) => bail!("no connection to {addr} within {} s; --addr says where", CONNECT.as_secs()),
    };
    let password = peer.user.as_ref().map(|_| passwd::of_client()).transpose()?;
    let hello = Hello { client_id: peer.id.clone(), user: peer.user.clone(), password, ..Hello::default() };
    Client::connect(stream, hello).await.with_context(|| format!("{addr} takes no MQTT 5 client"))
}

/// One line for each event.
fn show(message: &Message, verbose: bool) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    if verbose {
        write!(output, "{} ", message.topic.as_ref().map_or("", TopicName::as_str))?;
    }
    output.write_all(&message.payload)?;
    output.write_all(b"\n")?;
    output.flush()
}

fn guarantee(qos: u8) -> Guarantee {
    match qos {
        0 => Guarantee::AtMostOnce,
        1 => Guarantee::AtLeastOnce,
        _ => Guarantee::ExactlyOnce,
    }
}
