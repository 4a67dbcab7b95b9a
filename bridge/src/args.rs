//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::log::args as log;

/// Weft: an event mesh for the edge. MQTT, CloudEvents over HTTP and WebSocket, Apache EventMesh's protocols, one durable log, RocketMQ.
///
/// Without a command, weft starts and runs until it gets SIGTERM or Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "weft", version, args_conflicts_with_subcommands = true, after_help = AFTER)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) start: Start,
}

const AFTER: &str = "\
Settings come from the file, then from environment variables (WEFT_DATA, WEFT_MQTT__LISTEN, ...), then from these
options; what comes later wins. config/weft.toml lists every key.

Exit codes: 0 stopped as asked, 1 could not start or go on, 2 wrong configuration or command line.";

/// How to start.
#[derive(Debug, Default, Args)]
pub(crate) struct Start {
    /// Configuration file, also WEFT_CONFIG [default: weft.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "WEFT_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the event log [default: weft-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// Address for MQTT [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR")]
    pub(crate) mqtt: Option<String>,
    /// Address for HTTP and WebSocket [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Also listen on Apache EventMesh's own ports of 127.0.0.1, for clients with its SDKs
    #[arg(long)]
    pub(crate) eventmesh: bool,
    /// Let everybody connect who reaches an address that is not loopback
    #[arg(long)]
    pub(crate) allow_anonymous: bool,
}

/// What to do instead of starting.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a configuration file and say what is wrong with it
    Check {
        /// The file
        file: PathBuf,
    },
    /// Make a CA and a server's certificate, to try TLS
    Cert(Cert),
    /// Add a user to a password file, change its password, or delete it
    Passwd(Passwd),
    /// Publish one event over MQTT
    Pub(Publish),
    /// Print the events of topics as they come, over MQTT
    Sub(Subscribe),
    /// Look at the event log of a data folder, repair it, take events out of it and into it
    Log(log::Log),
    /// Follow an event through the log of a data folder: where it went, and what became of it
    Trace(log::Trace),
    /// Look at the sessions of a running Weft, and end them
    Sessions(Sessions),
    /// List subscriptions of a running Weft
    Subscriptions(Subscriptions),
    /// Look at the retained events of a running Weft, and forget them
    Retained(Retained),
    /// Show what became of the deliveries of each route and tenant: OWED is QUEUED and all that follows it
    Ledger {
        /// What became of publishes instead: IN is all that follows it
        #[arg(long)]
        publishes: bool,
        /// Those of this tenant's publishes only; "": of those that are no tenant's
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        #[command(flatten)]
        site: Site,
    },
}

/// Which certificate to make: for trying out, by a CA that only its maker trusts.
#[derive(Debug, Args)]
pub(crate) struct Cert {
    /// Name or IP address that clients connect to; may be repeated
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub(crate) host: Vec<String>,
    /// Folder for ca.pem, ca.key, server.pem and server.key; files that are there stay
    #[arg(long, value_name = "DIR", default_value = "weft-cert")]
    pub(crate) out: PathBuf,
}

/// Whom to let in. The password is asked for, or read from standard input (its first line) if that is no terminal.
#[derive(Debug, Args)]
pub(crate) struct Passwd {
    /// The password file (access.password_file); made if it is not there
    pub(crate) file: PathBuf,
    /// The user's name
    pub(crate) user: String,
    /// Delete the user
    #[arg(long, short = 'D', conflicts_with = "scram")]
    pub(crate) delete: bool,
    /// Also write what SCRAM-SHA-256 needs, so that MQTT 5 clients can prove the password without sending it
    #[arg(long)]
    pub(crate) scram: bool,
}

/// Which sessions.
#[derive(Debug, Args)]
pub(crate) struct Sessions {
    #[command(subcommand)]
    pub(crate) command: Option<SessionsCommand>,
    #[command(flatten)]
    pub(crate) site: Site,
}

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List all of them
    Ls,
    /// Show one, with what it subscribed
    Show {
        /// Client id
        id: String,
    },
    /// End the connection of one; its client is told that an operator did it
    End {
        /// Client id
        id: String,
        /// End the session as well, with its subscriptions and all events that wait for it
        #[arg(long)]
        forget: bool,
    },
}

/// Which subscriptions.
#[derive(Debug, Args)]
pub(crate) struct Subscriptions {
    /// Only those of this client
    #[arg(long, value_name = "ID")]
    pub(crate) client: Option<String>,
    /// Only those with this very filter
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// Only those that get the events of this topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
    #[command(flatten)]
    pub(crate) site: Site,
}

/// Which retained events.
#[derive(Debug, Args)]
pub(crate) struct Retained {
    #[command(subcommand)]
    pub(crate) command: Option<RetainedCommand>,
    #[command(flatten)]
    pub(crate) site: Site,
}

/// What to do with retained events.
#[derive(Debug, Subcommand)]
pub(crate) enum RetainedCommand {
    /// List those that a filter matches
    Ls {
        /// Topic filter
        #[arg(default_value = "#")]
        filter: String,
    },
    /// Print the data of one
    Show {
        /// Topic
        topic: String,
    },
    /// Forget those that a filter matches
    Rm {
        /// Topic filter; a topic is one, too
        filter: String,
    },
}

/// Which Weft to look at, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Site {
    /// Its HTTP address
    #[arg(long, global = true, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) http: String,
    /// Who asks, as NAME or NAME:PASSWORD; without a password, WEFT_PASSWORD holds it
    #[arg(long, global = true, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// JSON for scripts: one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to publish.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// Topic, such as sensors/kitchen
    pub(crate) topic: String,
    /// The data
    #[arg(conflicts_with = "file")]
    pub(crate) data: Option<String>,
    /// Read the data from this file; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// 0: at most once, 1: at least once, 2: exactly once
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,
    /// Keep it as the last event of its topic, for those that subscribe later
    #[arg(long, short)]
    pub(crate) retain: bool,
    #[command(flatten)]
    pub(crate) peer: Peer,
}

/// What to print.
#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// Topic filters, such as 'sensors/#'; + is one level, # the rest
    #[arg(required = true)]
    pub(crate) filters: Vec<String>,
    /// The strongest guarantee to receive with: 0, 1 or 2
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,
    /// Print the topic in front of the data
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Start in the past: "all", behind a position, at an RFC 3339 time, or some time ago, such as -10m
    #[arg(long, value_name = "START", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Only events that pass this expression of CloudEvents SQL, over attributes
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "filter_cel")]
    pub(crate) filter_cesql: Option<String>,
    /// Only events that pass this expression of CEL, over attributes and JSON data, such as 'data.t > 20'
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) filter_cel: Option<String>,
    /// Stop after this many events
    #[arg(long, short, value_name = "N")]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) peer: Peer,
}

/// Whom to talk to, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Peer {
    /// Address of a Weft, or of another MQTT 5 broker
    #[arg(long, alias = "mqtt", value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub(crate) addr: String,
    /// Client id [default: one made by the broker]
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(crate) id: String,
    /// User name; its password is read from the environment variable WEFT_PASSWORD, or asked for
    #[arg(long, short, value_name = "NAME")]
    pub(crate) user: Option<String>,
}
