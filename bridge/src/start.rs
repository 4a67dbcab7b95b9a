//! The program around a [`Bridge`]: command line, settings, runtime, signals, exit code.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use config::{Config, Flag, Loaded, Mistake, Sources};
use event::Health;
use parts::FileError;
use transport::TlsError;

use crate::args::{Arguments, Command, Start};
use crate::log::args::{Folder, Log, Trace};
use crate::shutdown::StopSignals;
use crate::{Bridge, cert, client, greeting, listen, look, passwd, process, telemetry};

/// Read from the current folder when nobody names a file.
const DEFAULT_FILE: &str = "weft.toml";

/// Runs what the command line asks for.
pub fn command_line() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        None => start(arguments.start),
        Some(Command::Check { file }) => check(file),
        Some(Command::Cert(wanted)) => cert::make(&wanted),
        Some(Command::Passwd(wanted)) => passwd::run(&wanted),
        Some(Command::Log(wanted)) => log(wanted),
        Some(Command::Trace(wanted)) => trace(&wanted),
        Some(Command::Sessions(wanted)) => look::sessions(wanted),
        Some(Command::Subscriptions(wanted)) => look::subscriptions(wanted),
        Some(Command::Retained(wanted)) => look::retained(wanted),
        Some(Command::Ledger { publishes, tenant, site }) => {
            look::ledger(publishes, tenant.as_deref(), &site)
        }
        Some(Command::Pub(publish)) => client::publish(publish),
        Some(Command::Sub(subscribe)) => client::subscribe(subscribe),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("weft: {error:#}");
        if error.is::<Mistake>() { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

/// Prints to standard output; a reader that is gone is no reason to fail.
pub(crate) fn print(text: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).unwrap_or(());
}

fn start(arguments: Start) -> anyhow::Result<ExitCode> {
    let sources = sources(arguments);
    let loaded = config::load(&sources)?;
    files(&loaded)?;
    telemetry::start_logs(&loaded.config.log)?;
    process::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("weft").build();
    let runtime = runtime.context("no threads to run on")?;
    let outcome = runtime.block_on(run(loaded, sources));
    // What is left are threads that wait for a disk or a name server: they hold no acknowledged event.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn run(loaded: Loaded, sources: Sources) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::listen()?;
    let metrics = telemetry::start_metrics()?;
    let starting = Bridge::build(loaded.config, sources, metrics);
    let mut bridge = tokio::select! {
        biased;
        name = signals.next() => {
            tracing::info!(signal = name, "stopped while starting");
            return Ok(ExitCode::SUCCESS);
        }
        bridge = starting => bridge?,
    };
    let program = std::env::args_os().next().unwrap_or_else(|| OsString::from("weft"));
    print(&greeting::text(&bridge, loaded.file.as_deref(), &program.to_string_lossy()));
    let broken = tokio::select! {
        biased;
        name = signals.next() => {
            tracing::info!(signal = name, "stopping");
            None
        }
        error = bridge.broken() => Some(error),
    };
    let code = signals.or_at_once(bridge.stop()).await?;
    match broken {
        Some(error) => Err(error),
        None => Ok(code),
    }
}

fn log(wanted: Log) -> anyhow::Result<ExitCode> {
    let config = of_folder(&wanted.folder)?;
    crate::log::run(wanted.command, &config)
}

fn trace(wanted: &Trace) -> anyhow::Result<ExitCode> {
    crate::log::trace(wanted, &of_folder(&wanted.folder)?)
}

/// The configuration of who looks at a data folder.
fn of_folder(folder: &Folder) -> Result<Config, Mistake> {
    let Folder { data, config } = folder.clone();
    let start = Start { config, data, ..Start::default() };
    Ok(config::load(&sources(start))?.config)
}

fn check(file: PathBuf) -> anyhow::Result<ExitCode> {
    let loaded = config::load(&Sources { file: Some(file.clone()), ..Sources::default() })?;
    files(&loaded)?;
    let config = loaded.config;
    let (routes, clusters, bridges) = (config.routes.len(), config.clusters().count(), config.bridges.len());
    let file = file.display();
    print(&format!(
        "{file}: fine ({routes} routes, {clusters} clusters of RocketMQ or DeFiBus, {bridges} bridges)\n"
    ));
    Ok(ExitCode::SUCCESS)
}

/// Reads all files that settings name: one that cannot be used stops the start, whether or not it will be needed.
fn files(loaded: &Loaded) -> anyhow::Result<()> {
    let config = &loaded.config;
    for (name, table) in config.listeners() {
        listen::open_tls(name, &table, &Health::default()).map_err(|error| {
            let TlsError { key, path, reason } = error;
            // The key of one `sni` of several is not told apart: the path is.
            let key = key.split('.').next().unwrap_or(key);
            loaded.mistake(&format!("listener.{name}.tls.{key}"), format!("{}: {reason}", path.display()))
        })?;
    }
    access::Access::check(&config.access()).context("access")?;
    let wrong = |table: &str, FileError { key, path, reason }: FileError| {
        loaded.mistake(&format!("{table}.{key}"), format!("{}: {reason}", path.display()))
    };
    webhook::check_files(&config.webhook).map_err(|error| wrong("webhook", error))?;
    for (name, kind, cluster) in config.clusters() {
        rocketmq::check_files(cluster).map_err(|error| wrong(&format!("{}.{name}", kind.name()), error))?;
    }
    for (name, hook) in &config.hooks {
        webhook::check(hook).map_err(|reason| anyhow::anyhow!("hook.{name}: {reason}"))?;
    }
    Ok(())
}

fn sources(arguments: Start) -> Sources {
    let here = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| Path::exists(file));
    let flag = |name, key, value: Option<String>| value.map(|value| Flag { name, key, value });
    let allow = arguments.allow_anonymous.then(|| "true".to_owned());
    let eventmesh = arguments.eventmesh.then(|| "true".to_owned());
    let flags = [
        flag("--data", "data", arguments.data),
        flag("--mqtt", "mqtt.listen", arguments.mqtt),
        flag("--http", "http.listen", arguments.http),
        flag("--eventmesh", "eventmesh.standard_ports", eventmesh),
        flag("--allow-anonymous", "allow_anonymous", allow),
    ];
    Sources {
        file: arguments.config.or_else(here),
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        flags: flags.into_iter().flatten().collect(),
    }
}
