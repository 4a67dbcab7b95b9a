//! The consumer group of a shared subscription, sans-io.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use event::TopicFilter;

/// What of the name of a shared subscription is in that of its consumer group, for people: at most so many letters.
const SHOWN: usize = 32;
/// What a name has at most behind the store's `group`: a dash and 16 digits have to be there.
pub(crate) const DIGITS: usize = 17;

/// The consumer group of `$share/NAME/FILTER`: `{base}-{NAME}-{digits}`, the digits being the first 16 of the SHA-256, in
/// hexadecimal, of NAME, a zero byte, and FILTER. What RocketMQ does not take in NAME becomes `_`; it is cut so that the whole has at most
/// `most` letters.
pub(crate) fn consumer_group(base: &str, filter: &TopicFilter, most: usize) -> String {
    let name = filter.share().unwrap_or_default();
    let hash = digest(&SHA256, [name, "\0", filter.pattern()].concat().as_bytes());
    let room = most.saturating_sub(base.len() + DIGITS + 1).min(SHOWN);
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    let shown: String = name.chars().take(room).map(plain).collect();
    let mut group = base.to_owned();
    if !shown.is_empty() {
        group.push('-');
        group.push_str(&shown);
    }
    group.push('-');
    for byte in hash.as_ref().iter().take((DIGITS - 1) / 2) {
        write!(group, "{byte:02x}").unwrap_or(());
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(filter: &str, most: usize) -> String {
        consumer_group("weft-store", &TopicFilter::parse(filter.to_owned()).unwrap(), most)
    }

    #[test]
    fn every_node_comes_to_the_same_name_and_no_other_group_has_it() {
        // Nodes of two versions may share a cluster: it never changes. sha256sum says the same of "workers\0jobs/#".
        assert_eq!(group("$share/workers/jobs/#", 120), "weft-store-workers-9b1e43f6ad818d1c");
        let names = ["$share/a/b/c", "$share/a/b", "$share/b/a", "$share/a%2Fb/c", "$share/a_2Fb/c"];
        let groups: std::collections::BTreeSet<String> = names.iter().map(|name| group(name, 120)).collect();
        assert_eq!(groups.len(), names.len());
    }

    #[test]
    fn names_are_what_rocketmq_takes() {
        let long = format!("$share/{}/jobs", "ä b%".repeat(40));
        for most in [27, 28, 29, 60, 120] {
            let group = group(&long, most);
            assert!(group.len() <= most, "{group}");
            assert!(group.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter)));
        }
    }
}
