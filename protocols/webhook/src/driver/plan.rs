//! A webhook of the configuration whose settings and files are known to be right, so that starting it cannot fail.

use event::Select;
use parts::{File, FileError};
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
    token: Option<File>,
    secret: Option<File>,
    authorities: Option<File>,
}

impl Files {
    /// Reads them.
    pub(super) fn read(options: &HookOptions) -> Result<Self, FileError> {
        Ok(Self {
            token: File::read("token_file", options.token_file.as_deref())?,
            secret: File::read("secret_file", options.secret_file.as_deref())?,
            authorities: File::read("ca_file", options.ca_file.as_deref())?,
        })
    }
}

impl Plan {
    /// # Errors
    /// A setting or a file cannot be used: says which, and why.
    pub(super) fn new(options: &HookOptions, files: Files) -> Result<Self, String> {
        options.check().map_err(|(key, reason)| format!("{key}: {reason}"))?;
        let wrong = |error: FileError| error.to_string();
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("weft/", env!("CARGO_PKG_VERSION"))));
        if let Some(file) = &files.token {
            headers.insert(AUTHORIZATION, token(file).map_err(wrong)?);
        }
        let mut builder = poster::builder(options.timeout_ms).default_headers(headers);
        if let Some(file) = &files.authorities {
            builder = builder.tls_certs_only(authorities(file).map_err(wrong)?);
        }
        Ok(Self {
            select: options.select()?,
            target: Target::parse(&options.url, true).map_err(|error| format!("url: {error}"))?,
            client: builder.build().map_err(|error| error.to_string())?,
            secret: files.secret.as_ref().map(poster::secret).transpose().map_err(wrong)?,
            options: options.clone(),
            files,
        })
    }

    /// Whether it would be the same with these.
    pub(super) fn is_of(&self, options: &HookOptions, files: &Files) -> bool {
        self.options == *options && self.files == *files
    }
}

/// The header that shows the token.
fn token(file: &File) -> Result<HeaderValue, FileError> {
    let value = HeaderValue::try_from(format!("Bearer {}", file.text()?));
    let mut value = value.map_err(|error| file.wrong(error))?;
    value.set_sensitive(true);
    Ok(value)
}

fn authorities(file: &File) -> Result<Vec<Certificate>, FileError> {
    match Certificate::from_pem_bundle(file.bytes()) {
        Ok(all) if all.is_empty() => Err(file.wrong("no certificate in it")),
        Ok(all) => Ok(all),
        Err(error) => Err(file.wrong(error)),
    }
}
