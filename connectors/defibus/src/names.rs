//! Names that DeFiBus makes, and what it reads in them. An IDC is a data centre: brokers say theirs in the name of their
//! cluster (`GZ-defibus`), clients at the end of their id (`10.0.0.5@4711#V1_0_0#GZ`).

/// The id of a client at `ip`; `instance` tells it from others there. What has a meaning in an id becomes `_`.
pub fn client_id(ip: &str, instance: &str, idc: Option<&str>) -> String {
    let clean: String = instance.chars().map(|c| if matches!(c, '#' | '@') { '_' } else { c }).collect();
    let idc = idc.map(|idc| format!("#{idc}")).unwrap_or_default();
    format!("{ip}@{clean}#V1_0_0{idc}")
}

/// The IDC of a client; `None`: its id has only two parts.
pub fn idc_of_client(id: &str) -> Option<&str> {
    id.split('#').nth(2).filter(|idc| !idc.is_empty())
}

/// The IDC of a cluster; `None`: its name has none.
pub fn idc_of_cluster(cluster: &str) -> Option<&str> {
    let (idc, _) = cluster.split_once('-')?;
    (!idc.is_empty()).then_some(idc)
}

/// Whether `name` can be an IDC. Brokers compare with the cluster in upper case, so lower case would match nothing.
pub fn is_idc(name: &str) -> bool {
    !name.is_empty() && name.len() <= 16 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// The topic to which replies to requests of `cluster` are sent. Every broker of the cluster has it; nobody consumes it.
pub fn reply_topic(cluster: &str) -> String {
    format!("{cluster}-rr-reply-topic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_two_or_three_parts() {
        let id = client_id("10.0.0.5", "4711-a#b@c", Some("GZ"));
        assert_eq!((&*id, idc_of_client(&id)), ("10.0.0.5@4711-a_b_c#V1_0_0#GZ", Some("GZ")));
        let id = client_id("10.0.0.5", "4711", None);
        assert_eq!((&*id, idc_of_client(&id)), ("10.0.0.5@4711#V1_0_0", None));
        assert_eq!(idc_of_client("weft"), None);
    }

    #[test]
    fn clusters_name_their_idc_first() {
        let idcs = ["GZ-defibus", "GZ-a-b", "defibus", "-x"].map(idc_of_cluster);
        assert_eq!(idcs, [Some("GZ"), Some("GZ"), None, None]);
        assert_eq!(reply_topic("GZ-defibus"), "GZ-defibus-rr-reply-topic");
        assert_eq!(["GZ", "SZ2", "gz", "", "G-Z"].map(is_idc), [true, true, false, false, false]);
    }
}
