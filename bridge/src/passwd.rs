//! `weft passwd`: changes a password file as a whole, so that a Weft that reads it sees the old or the new one.

use std::fs::{self, File};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use access::Change;
use anyhow::{Context as _, bail};

use crate::args::Passwd;

/// Adds, changes or deletes a user.
pub(crate) fn run(wanted: &Passwd) -> anyhow::Result<ExitCode> {
    // A link stays a link: what it points to is replaced.
    let file = fs::canonicalize(&wanted.file).unwrap_or_else(|_| wanted.file.clone());
    let old = match fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(file.display().to_string()),
    };
    let password;
    let change = if wanted.delete {
        Change::Delete
    } else {
        password = ask_twice(&wanted.user)?;
        Change::Set { password: &password, scram: wanted.scram }
    };
    let new = access::change(old.as_deref().unwrap_or_default(), &wanted.user, change);
    let new = new.map_err(|reason| anyhow::anyhow!("{}: {reason}", wanted.file.display()))?;
    replace(&file, new.as_bytes(), old.is_some()).with_context(|| file.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The password with which `weft pub` and `weft sub` connect.
pub(crate) fn of_client() -> anyhow::Result<Vec<u8>> {
    if let Ok(password) = std::env::var("WEFT_PASSWORD") {
        return Ok(password.into_bytes());
    }
    if !std::io::stdin().is_terminal() {
        bail!("--user needs a password: set the environment variable WEFT_PASSWORD");
    }
    Ok(rpassword::prompt_password("Password: ")?.into_bytes())
}

fn ask_twice(user: &str) -> anyhow::Result<Vec<u8>> {
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context("standard input")?;
        return Ok(line.trim_end_matches(['\r', '\n']).as_bytes().to_vec());
    }
    let first = rpassword::prompt_password(format!("New password of {user}: "))?;
    if first != rpassword::prompt_password("Again: ")? {
        bail!("the two are not the same; nothing was changed");
    }
    Ok(first.into_bytes())
}

/// Writes a file beside `file` and puts it in its place: it is there as a whole, or not at all.
fn replace(file: &Path, text: &[u8], is_there: bool) -> std::io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside: PathBuf = file.with_file_name(name);
    let write = || {
        let mut new = File::options().write(true).create_new(true).open(&beside)?;
        // Whoever could read the old one can read the new one; nobody else can read a first one.
        let mode =
            if is_there { fs::metadata(file)?.permissions() } else { fs::Permissions::from_mode(0o600) };
        new.set_permissions(mode)?;
        new.write_all(text)?;
        new.sync_all()?;
        fs::rename(&beside, file)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().inspect_err(|_| fs::remove_file(&beside).unwrap_or(()))
}
