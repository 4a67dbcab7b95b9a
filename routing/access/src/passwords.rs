//! The password file: users and the hashes of their passwords. Sans-io.
//!
//! ```text
//! # A comment. One user a line; a second line may give the same user a SCRAM secret beside the hash.
//! alice:$argon2id$v=19$m=19456,t=2,p=1$...$...
//! alice:SCRAM-SHA-256$15000:...$...:...
//! bob:$7$101$...$...
//! ```

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::error::TextError;
use crate::scram::ScramSecret;

/// The users of a password file.
#[derive(Debug, Default)]
pub struct Users {
    by_name: HashMap<Arc<str>, User>,
}

#[derive(Debug, Default)]
struct User {
    hash: Option<Hash>,
    scram: Option<ScramSecret>,
}

/// A hash that a password is checked against.
#[derive(Debug)]
enum Hash {
    /// A PHC string.
    Argon2(Box<str>),
    /// What `mosquitto_passwd` writes: `$7$ITERATIONS$SALT$HASH`, PBKDF2 with HMAC-SHA-512.
    Pbkdf2 { iterations: NonZeroU32, salt: Vec<u8>, hash: Vec<u8> },
}

impl Users {
    /// Reads the text of a password file.
    pub(crate) fn parse(text: &str) -> Result<Self, TextError> {
        let mut users = Self::default();
        for (at, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            users.add(line).map_err(|reason| TextError { line: at + 1, reason })?;
        }
        Ok(users)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let (name, secret) = line.split_once(':').ok_or("a line is USER:HASH; `weft passwd` writes it")?;
        check_name(name)?;
        let user = self.by_name.entry(Arc::from(name)).or_default();
        let secret = secret.trim_end();
        if let Some(scram) = ScramSecret::parse(secret) {
            return match user.scram.replace(scram) {
                None => Ok(()),
                Some(_) => Err(format!("user {name} has a SCRAM secret already")),
            };
        }
        match user.hash.replace(Hash::parse(secret)?) {
            None => Ok(()),
            Some(_) => Err(format!("user {name} has a hash already")),
        }
    }

    /// Whether there is such a user.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The SCRAM secret of a user.
    pub fn scram(&self, name: &str) -> Option<&ScramSecret> {
        self.by_name.get(name)?.scram.as_ref()
    }

    /// A SCRAM secret, if any user has one.
    pub(crate) fn scram_any(&self) -> Option<&ScramSecret> {
        self.by_name.values().find_map(|user| user.scram.as_ref())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The user's name, shared, if `password` is right. Takes milliseconds and much memory on purpose, and as long for a
    /// user that is not there.
    pub(crate) fn verify(&self, name: &str, password: &[u8]) -> Option<Arc<str>> {
        match self.by_name.get_key_value(name) {
            Some((name, User { hash: Some(hash), .. })) => hash.is_of(password).then(|| Arc::clone(name)),
            Some((name, User { hash: None, scram: Some(scram) })) => {
                scram.is_of(password).then(|| Arc::clone(name))
            }
            Some((_, User { hash: None, scram: None })) | None => {
                self.decoy().is_of(password);
                None
            }
        }
    }

    /// A hash like that of the other users, whose password nobody has.
    fn decoy(&self) -> Hash {
        let like = self.by_name.values().find_map(|user| match user.hash.as_ref()? {
            Hash::Argon2(text) => Some(Hash::Argon2(text.clone())),
            Hash::Pbkdf2 { iterations, salt, hash } => {
                Some(Hash::Pbkdf2 { iterations: *iterations, salt: salt.clone(), hash: hash.clone() })
            }
        });
        like.unwrap_or_else(|| Hash::Argon2(DECOY.into()))
    }
}

/// With the parameters of new hashes.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$\
                     p0qM8L2xVjQ0ZSrrj1ybIYJk3l9Vq9G1mZ1oP9bq9xM";

impl Hash {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("$7$") {
            return Self::mosquitto(rest).ok_or_else(|| "not $7$ITERATIONS$SALT$HASH".to_owned());
        }
        let hash = PasswordHash::new(text).map_err(|error| {
            format!("not a hash that is known ({error}): argon2 ($argon2id$...), SCRAM-SHA-256$... or mosquitto's $7$...")
        })?;
        if !hash.algorithm.as_str().starts_with("argon2") {
            return Err(format!("{} is not known; argon2id is", hash.algorithm));
        }
        let memory = hash.params.get_decimal("m").unwrap_or(0);
        if memory > MEMORY_MAX_KIB {
            return Err(format!("m={memory} KiB for each check is too much; at most {MEMORY_MAX_KIB}"));
        }
        Ok(Self::Argon2(text.into()))
    }

    fn mosquitto(text: &str) -> Option<Self> {
        let (iterations, rest) = text.split_once('$')?;
        let (salt, hash) = rest.split_once('$')?;
        let (salt, hash) = (BASE64.decode(salt).ok()?, BASE64.decode(hash).ok()?);
        Some(Self::Pbkdf2 { iterations: iterations.parse().ok()?, salt, hash })
    }

    fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(text) => Argon2::default().verify_password(password, &**text).is_ok(),
            Self::Pbkdf2 { iterations, salt, hash } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok()
            }
        }
    }
}

/// 1 GiB: a mistake in a file must not take the machine down.
const MEMORY_MAX_KIB: u32 = 1 << 20;

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains([':', '\n', '\r']) || name.starts_with('#') {
        return Err("a user's name has at least one character, no ':' and no '#' in front".to_owned());
    }
    Ok(())
}

/// A change of a password file.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The user has this password from now on, and is added if there is no such user. With `scram`, MQTT clients may
    /// prove it by SCRAM-SHA-256, too.
    Set {
        /// The password.
        password: &'a [u8],
        /// Write a SCRAM secret, too.
        scram: bool,
    },
    /// There is no such user any more.
    Delete,
}

/// The text of a password file after `change`; other lines and comments stay as they are.
///
/// # Errors
/// What is wrong with the text, the name or the password.
pub fn change(text: &str, user: &str, change: Change<'_>) -> Result<String, String> {
    check_name(user)?;
    let is_of_user = |line: &&str| line.split_once(':').is_some_and(|(name, _)| name == user);
    let mut lines: Vec<String> = Vec::new();
    match change {
        Change::Delete => {
            if !text.lines().any(|line| is_of_user(&line)) {
                return Err(format!("there is no user {user}"));
            }
        }
        Change::Set { password: [], .. } => return Err("the password is empty".to_owned()),
        Change::Set { password, scram } => {
            let hash: PasswordHash = Argon2::default().hash_password(password).map_err(|e| e.to_string())?;
            lines.push(format!("{user}:{hash}"));
            if scram {
                lines.push(format!("{user}:{}", ScramSecret::new(password)?));
            }
        }
    }
    // The user stays where it was.
    let at = text.lines().position(|line| is_of_user(&line)).unwrap_or(usize::MAX);
    let mut out = String::with_capacity(text.len() + 256);
    let mut push = |line: &str| out.extend([line, "\n"]);
    for (index, line) in text.lines().enumerate() {
        if index == at {
            lines.drain(..).for_each(|line| push(&line));
        }
        if !is_of_user(&line) {
            push(line);
        }
    }
    lines.iter().for_each(|line| push(line));
    Users::parse(&out).map_err(|error| format!("line {}: {}", error.line, error.reason))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(password: &str) -> Change<'_> {
        Change::Set { password: password.as_bytes(), scram: false }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = change("# ours\n\nbob:x\n", "alice", set("a")).unwrap_err();
        assert!(text.starts_with("line 3: not a hash"), "{text}");
        let text = change("# ours\n\n", "alice", set("a: b")).unwrap();
        let text = change(&text, "bob", Change::Set { password: b"b", scram: true }).unwrap();
        let text = change(&text, "alice", set("new")).unwrap();
        let names: Vec<&str> = text.lines().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(names, ["# ours", "", "alice", "bob", "bob"]);
        let users = Users::parse(&text).unwrap();
        assert_eq!(users.verify("alice", b"new").as_deref(), Some("alice"));
        assert_eq!(users.verify("alice", b"a: b"), None);
        assert_eq!(users.verify("bob", b"b").as_deref(), Some("bob"));
        assert_eq!(users.verify("carol", b"b"), None);
        assert!(users.scram("bob").unwrap().is_of(b"b") && users.scram("alice").is_none());
        let text = change(&text, "bob", Change::Delete).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert_eq!(change(&text, "bob", Change::Delete).unwrap_err(), "there is no user bob");
    }

    #[test]
    fn hashes_of_mosquitto_are_read() {
        let (iterations, salt) = (NonZeroU32::new(101).unwrap(), b"0123456789ab");
        let mut hash = [0; 64];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, salt, b"secret", &mut hash);
        let line = format!("old:$7$101${}${}", BASE64.encode(salt), BASE64.encode(hash));
        let users = Users::parse(&line).unwrap();
        assert_eq!(users.verify("old", b"secret").as_deref(), Some("old"));
        assert_eq!(users.verify("old", b"Secret"), None);
    }

    #[test]
    fn a_mistake_names_its_line() {
        let line = |text: &str| Users::parse(text).unwrap_err();
        assert_eq!(line("# x\n\nalice\n").line, 3);
        assert!(line("a:$2b$12$abc").reason.contains("argon2id"));
        assert!(line(":x").reason.contains("at least one character"));
        let huge = DECOY.replace("m=19456", "m=4000000");
        assert!(line(&format!("a:{huge}")).reason.contains("too much"));
        assert!(line(&format!("a:{DECOY}\na:{DECOY}")).reason.contains("already"));
    }

    #[test]
    fn the_decoy_is_a_hash() {
        assert!(Hash::parse(DECOY).is_ok());
    }
}
