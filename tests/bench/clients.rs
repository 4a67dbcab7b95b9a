//! What mqload does not do: clients that come and go, and readers that are slow.
//!
//! * `bench_clients connect ADDRESS PID COUNT`: COUNT times CONNECT, CONNACK, DISCONNECT and the end of the connection, 64 at
//!   once; prints a line as mqload does, for the broker with that process id.
//! * `bench_clients slow ADDRESS QOS FILTER COUNT`: COUNT subscribers who take 1 KiB each 100 ms. Prints `ready` when all have
//!   subscribed, and runs until it is killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::wire::{self, Connect, Packet, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["connect", address, pid, count] => {
            connect(address.parse().unwrap(), pid.parse().unwrap(), count.parse().unwrap()).await;
        }
        ["slow", address, qos, filter, count] => {
            slow(address.parse().unwrap(), qos.parse().unwrap(), filter, count.parse().unwrap()).await;
        }
        _ => panic!("connect ADDRESS PID COUNT, or slow ADDRESS QOS FILTER COUNT"),
    }
}

const AT_ONCE: u8 = 64;

async fn connect(broker: SocketAddr, pid: u32, count: u32) {
    let left = Arc::new(AtomicU32::new(count));
    let (from, cpu) = (Instant::now(), cpu_seconds(pid));
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let left = Arc::clone(&left);
        // An address of its own for each: one has too few ports for all that come and go.
        let own = SocketAddr::from((Ipv4Addr::new(127, 0, 2, worker + 1), 0));
        workers.spawn(async move {
            let mut took = Vec::new();
            let next = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            while let Ok(number) = next() {
                took.push(come_and_go(own, broker, number).await.unwrap_or_else(|e| panic!("{number}: {e}")));
            }
            took
        });
    }
    let mut took: Vec<Duration> = workers.join_all().await.into_iter().flatten().collect();
    let (seconds, cpu) = (from.elapsed().as_secs_f64(), cpu_seconds(pid) - cpu);
    took.sort();
    let at = |hundredths: usize| took[(took.len() - 1) * hundredths / 100].as_micros();
    let line = json!({
        "mode": "connect", "connections": count, "seconds": seconds, "msgs_per_s": (f64::from(count) / seconds) as u64,
        "latency_us": { "p50": at(50), "p99": at(99) },
        "broker_cpu_us_per_msg": cpu * 1e6 / f64::from(count), "broker_peak_rss_mib": peak_mib(pid), "lost": 0,
    });
    println!("{line}");
}

/// How long it took from the first byte of TCP to CONNACK.
async fn come_and_go(own: SocketAddr, broker: SocketAddr, number: u32) -> std::io::Result<Duration> {
    let from = Instant::now();
    let socket = TcpSocket::new_v4()?;
    socket.bind(own)?;
    let mut stream = socket.connect(broker).await?;
    stream.write_all(&Connect::v4(&format!("come-{number}")).encode()).await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    let took = from.elapsed();
    if connack != [0x20, 2, 0, 0] {
        return Err(std::io::Error::other(format!("CONNACK {connack:?}")));
    }
    stream.write_all(&wire::DISCONNECT).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(took)
}

async fn slow(broker: SocketAddr, qos: u8, filter: &str, count: u32) {
    let mut readers = JoinSet::new();
    for number in 0..count {
        let stream = subscribe(broker, qos, filter, number).await.expect("a slow reader subscribes");
        readers.spawn(read_slowly(stream));
    }
    println!("ready");
    readers.join_all().await;
}

async fn subscribe(broker: SocketAddr, qos: u8, filter: &str, number: u32) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // A small window: else the system would take megabytes in the reader's place.
    socket.set_recv_buffer_size(4096)?;
    let mut stream = socket.connect(broker).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&Connect::v4(&format!("slow-{number}")).encode()).await?;
    stream.write_all(&wire::subscribe(Version::V4, 1, &[(filter, qos)])).await?;
    // CONNACK and SUBACK.
    let mut answers = [0; 9];
    stream.read_exact(&mut answers).await?;
    Ok(stream)
}

/// Acknowledges what it reads. A broker may end the connection: then there is a slow reader less, and the others gain.
async fn read_slowly(mut stream: TcpStream) {
    let (mut input, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        tests::pause(Duration::from_millis(100)).await;
        let Ok(len @ 1..) = stream.read(&mut piece).await else { return eprintln!("a slow reader was cut") };
        input.extend_from_slice(&piece[..len]);
        while let Some(packet) = wire::take(&mut input, Version::V4) {
            if let Packet::Publish(publish) = packet
                && publish.qos == 1
            {
                stream.write_all(&wire::ack(wire::Ack::PubAck, publish.id)).await.unwrap_or_default();
            }
        }
    }
}

/// Processor time that a process has used.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0.0 };
    // In hundredths of a second on every Linux.
    rest.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory that a process had resident.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0_u64) >> 10
}
