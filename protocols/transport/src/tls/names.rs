//! Which certificate a client is shown: by the server name it asks for (SNI, RFC 6066 §3).

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates by server name, and one for all other clients.
#[derive(Debug)]
pub(crate) struct Names {
    default: Arc<CertifiedKey>,
    exact: BTreeMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`: good for one level (RFC 9525 §6.3).
    below: BTreeMap<String, Arc<CertifiedKey>>,
}

impl Names {
    pub(crate) fn new(default: Arc<CertifiedKey>) -> Self {
        Self { default, exact: BTreeMap::new(), below: BTreeMap::new() }
    }

    /// `key` is for `name`. The first for a name stays.
    pub(crate) fn add(&mut self, name: &str, key: &Arc<CertifiedKey>) {
        let name = name.to_ascii_lowercase();
        let entry = match name.strip_prefix("*.") {
            Some(rest) => self.below.entry(rest.to_owned()),
            None => self.exact.entry(name),
        };
        entry.or_insert_with(|| Arc::clone(key));
    }

    fn find(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.to_ascii_lowercase();
        let below = || self.below.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(below).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = hello.server_name().map_or(&self.default, |name| self.find(name));
        Some(Arc::clone(key))
    }
}
