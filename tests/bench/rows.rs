//! The rows of the table: what each puts on a broker.

/// A row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) load: Load,
}

/// What a row puts on a broker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// mqload with these flags, and so many messages of each publisher.
    Traffic { flags: &'static str, count: u32 },
    /// The same twice: alone, and beside so many subscribers that take far less than what comes.
    Storm { flags: &'static str, count: u32, slow: u32 },
    /// So many clients that connect and leave, 64 at once.
    Connect { count: u32 },
    /// So many clients that subscribe and do nothing else; fewer than are wanted if they need too many open files.
    Idle { count: u32, wanted: u32 },
}

pub(crate) const ROWS: [Row; 14] = [
    traffic("QoS 0", "--mode pair --qos 0", 100_000),
    traffic("QoS 1", "--mode pair --qos 1", 100_000),
    traffic("QoS 2", "--mode pair --qos 2", 20_000),
    traffic("QoS 1, MQTT 5", "--mode pair --qos 1 --v5", 100_000),
    traffic("fan-out 1 to 50", "--mode fan --pubs 1 --subs 50", 20_000),
    traffic("fan-out 1 to 50, QoS 1", "--mode fan --pubs 1 --subs 50 --qos 1", 10_000),
    traffic("shared subscription 4 to 4, QoS 1", "--mode shared --pubs 4 --subs 4 --qos 1 --v5", 50_000),
    traffic("calm: 10 × 200/s, QoS 1", "--mode pair --pubs 10 --rate 200 --qos 1", 2000),
    storm("storm: 2 × 150/s to 95, QoS 0", "--mode fan --pubs 2 --subs 95 --rate 150", 1500),
    storm("storm: 2 × 150/s to 95, QoS 1", "--mode fan --pubs 2 --subs 95 --rate 150 --qos 1", 1500),
    Row { name: "connects, 64 at once", load: Load::Connect { count: 20_000 } },
    idle("5000 idle connections", 5000),
    idle("10000 idle connections", 10_000),
    idle("20000 idle connections", 20_000),
];

const fn traffic(name: &'static str, flags: &'static str, count: u32) -> Row {
    Row { name, load: Load::Traffic { flags, count } }
}

/// Of 100 subscribers, 5 are slow.
const fn storm(name: &'static str, flags: &'static str, count: u32) -> Row {
    Row { name, load: Load::Storm { flags, count, slow: 5 } }
}

const fn idle(name: &'static str, count: u32) -> Row {
    Row { name, load: Load::Idle { count, wanted: count } }
}

impl Load {
    /// As much of it as a process with so many open files can carry; a twentieth of it if it is to be quick.
    pub(crate) fn fitting(self, files: u64, quick: bool) -> Self {
        let part = |count: u32| if quick { count.div_ceil(20) } else { count };
        match self {
            Self::Traffic { flags, count } => Self::Traffic { flags, count: part(count) },
            Self::Storm { flags, count, slow } => Self::Storm { flags, count: part(count), slow },
            Self::Connect { count } => Self::Connect { count: part(count) },
            Self::Idle { count, wanted } => {
                let most = u32::try_from(files.saturating_sub(OWN_FILES)).unwrap_or(u32::MAX);
                Self::Idle { count: part(count).min(most), wanted: part(wanted) }
            }
        }
    }
}

/// Files that a broker has open beside its connections: log, listeners, what its runtime needs.
const OWN_FILES: u64 = 200;
