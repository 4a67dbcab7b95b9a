//! The files of access control: read at the start, and again when they change.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Inner;
use crate::acl::Acl;
use crate::error::FileError;
use crate::options::{JwtOptions, Options, given};
use crate::passwords::Users;
use crate::policy::Policy;
use crate::token::Keys;

/// What the board of health calls it.
const PART: &str = "access";

/// Reads all files.
pub(super) fn read(options: &Options) -> Result<Policy, FileError> {
    let users = given(&options.password_file).map(read_users).transpose()?;
    let acl = given(&options.acl_file).map(read_acl).transpose()?;
    let keys = read_keys(&options.jwt)?;
    Ok(Policy { revision: 0, users, keys, acl })
}

fn read_users(path: &Path) -> Result<Arc<Users>, FileError> {
    let users = Users::parse(&read_text(path)?).map_err(|error| error.in_file(path))?;
    tracing::info!(file = %path.display(), users = users.len(), "password file read");
    Ok(Arc::new(users))
}

fn read_acl(path: &Path) -> Result<Arc<Acl>, FileError> {
    let acl = Acl::parse(&read_text(path)?).map_err(|error| error.in_file(path))?;
    tracing::info!(file = %path.display(), rules = acl.len(), "ACL file read");
    Ok(Arc::new(acl))
}

fn read_keys(options: &JwtOptions) -> Result<Keys, FileError> {
    let mut keys = Keys::default();
    let mut add = |path: &Path, parse: fn(&[u8]) -> Result<Keys, String>| {
        let Some(path) = given(path) else { return Ok(()) };
        let text = std::fs::read(path)
            .map_err(|error| FileError::Read { path: path.to_owned(), reason: error.to_string() })?;
        let found = parse(&text).map_err(|reason| FileError::Content { path: path.to_owned(), reason })?;
        tracing::info!(file = %path.display(), keys = found.len(), "keys of tokens read");
        keys.extend(&found);
        Ok(())
    };
    add(&options.secret_file, Keys::of_secret)?;
    add(&options.key_file, |text| Keys::of_pem(&String::from_utf8_lossy(text)))?;
    add(&options.jwks_file, Keys::of_jwks)?;
    Ok(keys)
}

fn read_text(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path)
        .map_err(|error| FileError::Read { path: path.to_owned(), reason: error.to_string() })
}

/// Reads the files again whenever one has changed, or on SIGHUP, until `drain` turns true. Cancel-safe.
pub(super) async fn watch(inner: &Arc<Inner>, mut drain: watch::Receiver<bool>) {
    let Options { password_file, acl_file, jwt, .. } = &inner.options;
    let files = [password_file, acl_file, &jwt.secret_file, &jwt.key_file, &jwt.jwks_file];
    let paths: Vec<PathBuf> = files.into_iter().filter_map(|path| given(path)).map(Path::to_owned).collect();
    let mut looks = tokio::time::interval(Duration::from_secs(u64::from(inner.options.reload_s.max(1))));
    let mut hangup = signal(SignalKind::hangup()).ok();
    let mut seen = look(&paths);
    loop {
        let asked = tokio::select! {
            biased;
            _ = drain.wait_for(|drain| *drain) => return,
            () = hung_up(&mut hangup) => true,
            _ = looks.tick() => false,
        };
        let now = look(&paths);
        if !asked && now == seen {
            continue;
        }
        let pairs = paths.iter().zip(now.iter().zip(&seen));
        let changed: Vec<PathBuf> =
            pairs.filter(|(_, (now, seen))| now != seen).map(|(path, _)| path.clone()).collect();
        seen = now;
        let options = inner.options.clone();
        let Ok(outcome) = tokio::task::spawn_blocking(move || read(&options)).await else { continue };
        let result = match outcome {
            Ok(policy) => {
                inner.current.replace(policy);
                inner.health.up(PART);
                tracing::info!("access files read again");
                tell(inner, &changed, None);
                "taken"
            }
            Err(error) => {
                tracing::error!(%error, "access files not taken; what was read before still holds");
                inner.health.down(PART, format!("{error}; what was read before still holds"));
                tell(inner, &changed, Some(&error));
                "broken"
            }
        };
        metrics::counter!("weft_access_reloads_total", "result" => result).increment(1);
    }
}

/// Tells those who watch over Weft.
fn tell(inner: &Inner, changed: &[PathBuf], refused: Option<&dyn std::fmt::Display>) {
    if let Some(audit) = inner.audit.get() {
        audit.files(changed, refused, Instant::now());
    }
}

async fn hung_up(hangup: &mut Option<tokio::signal::unix::Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// What shows that a file is another, or has changed; `None`: it is not there.
type Look = Option<(SystemTime, u64, u64)>;

fn look(paths: &[PathBuf]) -> Vec<Look> {
    let one = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len(), meta.ino()))
    };
    paths.iter().map(one).collect()
}
