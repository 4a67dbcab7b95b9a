//! A webhook of the configuration whose settings and files are known to be right, so that starting it cannot fail.

use std::path::{Path, PathBuf};

use event::Select;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::{Certificate, Client};

use super::poster;
use crate::named::HookOptions;
use crate::push::Secret;
use crate::target::Target;

/// How one webhook is posted to.
pub(super) struct Plan {
    pub(super) options: HookOptions,
    files: Files,
    pub(super) select: Option<Select>,
    pub(super) target: Target,
    pub(super) client: Client,
    pub(super) secret: Option<Secret>,
}

/// What is in the files that settings name: a file that changed makes another webhook.
#[derive(PartialEq, Eq)]
pub(super) struct Files {
    token: Option<Vec<u8>>,
    secret: Option<Vec<u8>>,
    authorities: Option<Vec<u8>>,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// Names the key, the file, and what is wrong with it.
    pub(super) fn read(options: &HookOptions) -> Result<Self, String> {
        let read = |key: &str, file: &Option<PathBuf>| {
            let read = |file: &PathBuf| std::fs::read(file).map_err(|error| wrong(key, file, &error));
            file.as_ref().map(read).transpose()
        };
        Ok(Self {
            token: read(TOKEN, &options.token_file)?,
            secret: read(SECRET, &options.secret_file)?,
            authorities: read(AUTHORITIES, &options.ca_file)?,
        })
    }
}

impl Plan {
    /// # Errors
    /// A setting or a file cannot be used: says which, and why.
    pub(super) fn new(options: &HookOptions, files: Files) -> Result<Self, String> {
        options.check().map_err(|(key, reason)| format!("{key}: {reason}"))?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("weft/", env!("CARGO_PKG_VERSION"))));
        if let Some((file, bytes)) = options.token_file.as_ref().zip(files.token.as_ref()) {
            headers.insert(AUTHORIZATION, token(bytes).map_err(|why| wrong(TOKEN, file, &why))?);
        }
        let mut builder = poster::builder(options.timeout_ms).default_headers(headers);
        if let Some((file, bytes)) = options.ca_file.as_ref().zip(files.authorities.as_ref()) {
            builder =
                builder.tls_certs_only(authorities(bytes).map_err(|why| wrong(AUTHORITIES, file, &why))?);
        }
        let secret = match options.secret_file.as_ref().zip(files.secret.as_ref()) {
            Some((file, bytes)) => Some(secret(bytes).map_err(|why| wrong(SECRET, file, &why))?),
            None => None,
        };
        Ok(Self {
            select: options.select()?,
            target: Target::parse(&options.url, true).map_err(|error| format!("url: {error}"))?,
            client: builder.build().map_err(|error| error.to_string())?,
            secret,
            options: options.clone(),
            files,
        })
    }

    /// Whether it would be the same with these.
    pub(super) fn is_of(&self, options: &HookOptions, files: &Files) -> bool {
        self.options == *options && self.files == *files
    }
}

fn wrong(key: &str, file: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{key} {}: {why}", file.display())
}

/// The header that shows the token.
fn token(bytes: &[u8]) -> Result<HeaderValue, String> {
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut value = match text.trim() {
        "" => return Err("it is empty".to_owned()),
        token => HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| error.to_string())?,
    };
    value.set_sensitive(true);
    Ok(value)
}

fn secret(bytes: &[u8]) -> Result<Secret, String> {
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    Secret::parse(text).map_err(|error| error.to_string())
}

fn authorities(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    match Certificate::from_pem_bundle(pem) {
        Ok(all) if all.is_empty() => Err("no certificate in it".to_owned()),
        Ok(all) => Ok(all),
        Err(error) => Err(error.to_string()),
    }
}

const TOKEN: &str = "token_file";
const SECRET: &str = "secret_file";
const AUTHORITIES: &str = "ca_file";
