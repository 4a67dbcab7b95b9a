//! Tenants: whose a publish is, for the ledger and for quotas.

use std::collections::BTreeMap;

use event::Principal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::Tenant;

/// Who belongs to a tenant: clients of these users, else clients with these ids, else those that came by these listeners. Who
/// could belong to several belongs to the first of them by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TenantOptions {
    /// Its users; `*` at the end of one is any text. Default none.
    pub users: Vec<String>,
    /// Ids of its clients, in the same way. Default none. Clients choose their ids: only where they are checked (see `access`)
    /// is this a proof.
    pub clients: Vec<String>,
    /// Listeners by which only its clients come. Default none.
    pub listeners: Vec<String>,
}

/// All tenants, sorted by name.
#[derive(Debug, Default)]
pub(crate) struct Tenants(Vec<(String, TenantOptions)>);

impl TenantOptions {
    /// What is wrong with it: the key, and why.
    ///
    /// # Errors
    /// Nobody can belong to it, or a name has `*` before its end.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let Self { users, clients, listeners } = self;
        let empty = |names: &[String]| names.iter().any(String::is_empty);
        match () {
            () if users.is_empty() && clients.is_empty() && listeners.is_empty() => {
                Err(("users", "nobody belongs to it; name users, clients or listeners"))
            }
            () if empty(users) => Err(("users", "no user is named \"\"")),
            () if empty(clients) => Err(("clients", "no client is named \"\"")),
            () if !users.iter().all(|user| is_pattern(user)) => Err(("users", PATTERN)),
            () if !clients.iter().all(|client| is_pattern(client)) => Err(("clients", PATTERN)),
            () if empty(listeners) => Err(("listeners", "no listener is named \"\"")),
            () => Ok(()),
        }
    }
}

impl Tenants {
    pub(crate) fn new(options: &BTreeMap<String, TenantOptions>) -> Self {
        Self(options.iter().map(|(name, options)| (name.clone(), options.clone())).collect())
    }

    /// The name of the tenant that a client belongs to. Parts of Weft belong to none.
    pub(crate) fn name_of(&self, who: &Principal) -> Option<&str> {
        let (_, listener) = who.peer.as_ref().filter(|_| !self.0.is_empty())?;
        let user = who.user.as_deref();
        let one = |names: &[String], name: &str| names.iter().any(|wanted| is_like(wanted, name));
        let find = |belongs: &dyn Fn(&TenantOptions) -> bool| {
            self.0.iter().find(|(_, tenant)| belongs(tenant)).map(|(name, _)| name.as_str())
        };
        find(&|tenant| user.is_some_and(|user| one(&tenant.users, user)))
            .or_else(|| find(&|tenant| one(&tenant.clients, who.client.as_str())))
            .or_else(|| find(&|tenant| tenant.listeners.iter().any(|wanted| *wanted == **listener)))
    }

    /// As [`Self::name_of`], for the ledger.
    pub(crate) fn of(&self, who: &Principal) -> Tenant {
        self.name_of(who).map_or(Tenant::NONE, Tenant::named)
    }
}

/// What is wrong with what [`is_pattern`] does not take.
pub(crate) const PATTERN: &str = "`*` stands for any text at the end only";

/// Whether there is no `*` but at the end, where [`is_like`] knows it.
pub(crate) fn is_pattern(wanted: &str) -> bool {
    !wanted.strip_suffix('*').unwrap_or(wanted).contains('*')
}

/// Whether `name` is the one that is meant, or begins with it.
pub(crate) fn is_like(wanted: &str, name: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => wanted == name,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn users_go_before_clients_and_those_before_listeners() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let tenant = |users: &[&str], clients: &[&str], listeners: &[&str]| TenantOptions {
            users: names(users),
            clients: names(clients),
            listeners: names(listeners),
        };
        let tenants = Tenants::new(&BTreeMap::from([
            ("a".to_owned(), tenant(&[], &[], &["tls"])),
            ("b".to_owned(), tenant(&[], &["b-*"], &[])),
            ("c".to_owned(), tenant(&["carol", "c-*"], &[], &["tls"])),
        ]));
        let who = |user: Option<&str>, client: &str, listener: &str| Principal {
            user: user.map(Arc::from),
            peer: Some(("127.0.0.1:1".parse().unwrap(), Arc::from(listener))),
            ..Principal::anonymous(client)
        };
        assert_eq!(tenants.name_of(&who(Some("carol"), "b-1", "tls")), Some("c"));
        assert_eq!(tenants.name_of(&who(Some("c-7"), "x", "tcp")), Some("c"));
        assert_eq!(tenants.name_of(&who(Some("other"), "b-1", "tls")), Some("b"));
        assert_eq!(tenants.name_of(&who(None, "x", "tls")), Some("a"));
        assert_eq!(tenants.name_of(&who(None, "x", "tcp")), None);
        assert_eq!(tenants.name_of(&Principal { peer: None, ..who(Some("carol"), "x", "tls") }), None);
    }

    #[test]
    fn one_that_nobody_can_belong_to_is_wrong() {
        assert_eq!(TenantOptions::default().check().unwrap_err().0, "users");
        let listeners = vec![String::new()];
        let tenant = TenantOptions { listeners, ..TenantOptions::default() };
        assert_eq!(tenant.check().unwrap_err().0, "listeners");
    }
}
