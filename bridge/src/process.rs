//! This process: what it may use, and what the system knows of it, as Prometheus text (Linux; elsewhere nothing).

use std::fmt::Write as _;
use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `times` in `/proc/self/stat` count in hundredths of a second on every Linux (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// Takes as many file descriptors as the system allows: each connection needs one, and shells start with 1,024.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, ?current, "the limit of open files stays");
    }
}

/// Metrics of the process under the names that Prometheus has for them.
pub(crate) fn render() -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, meaning: &str, value: Option<f64>| {
        if let Some(value) = value {
            write!(text, "# HELP {name} {meaning}\n# TYPE {name} {kind}\n{name} {value}\n\n").unwrap_or(());
        }
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    metric("process_cpu_seconds_total", "counter", "Processor time, user and system.", cpu_seconds());
    let resident = field(&status, "VmRSS:").map(|kib| kib * 1024.0);
    metric("process_resident_memory_bytes", "gauge", "Memory that is resident.", resident);
    let peak = field(&status, "VmHWM:").map(|kib| kib * 1024.0);
    metric("process_resident_memory_max_bytes", "gauge", "The most memory that was resident.", peak);
    metric("process_threads", "gauge", "Threads.", field(&status, "Threads:"));
    metric("process_open_fds", "gauge", "Open files and sockets.", open_files());
    text
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold spaces.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_ascii_whitespace().skip(11).map(|text| text.parse::<f64>().unwrap_or(0.0));
    Some((times.next()? + times.next()?) / TICKS_PER_SECOND)
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    u32::try_from(count).ok().map(f64::from)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_process_is_seen() {
        let text = super::render();
        for name in ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds "] {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() >= 0.0, "{line}");
        }
    }
}
