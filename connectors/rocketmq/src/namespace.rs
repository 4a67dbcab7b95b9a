//! Namespaces: one cluster for several that may use the same names. Topics and groups are called NAMESPACE%NAME then.

/// What brokers call a topic or group of a namespace.
pub(crate) fn wrap(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) if !is_wrapped(namespace, name) => format!("{namespace}%{name}"),
        Some(_) | None => name.to_owned(),
    }
}

fn is_wrapped(namespace: &str, name: &str) -> bool {
    name.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_wrapped_once() {
        assert_eq!(wrap(None, "T"), "T");
        assert_eq!(wrap(Some("ns"), "T"), "ns%T");
        assert_eq!(wrap(Some("ns"), "ns%T"), "ns%T");
        assert_eq!(wrap(Some("ns"), "nsT"), "ns%nsT");
    }
}
