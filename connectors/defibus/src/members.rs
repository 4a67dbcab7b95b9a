//! Who consumes which queue. All members of a group work it out by themselves and have to come to the same.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{idc_of_client, idc_of_cluster};

/// The members in an answer to [`crate::request::members`].
///
/// # Errors
/// It is no such answer.
pub fn parse_members(body: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        #[serde(default)]
        consumer_id_list: Vec<String>,
    }
    serde_json::from_slice::<Members>(body).map(|members| members.consumer_id_list)
}

/// A queue that members share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared<Q> {
    /// The cluster of its broker; empty: not known.
    pub cluster: String,
    /// What the caller calls it. Sorted by it: broker, then number.
    pub queue: Q,
}

/// The queues of `me` among `members`, as DeFiBus' own client shares them ("IDC nearby"): queues of an IDC among the
/// members there, one after another; those of an IDC without members among all members. A queue whose IDC is not known
/// goes to everyone.
pub fn allocate<Q: Clone + Ord>(me: &str, members: &[String], queues: &[Shared<Q>]) -> Vec<Q> {
    let mut members: Vec<&str> = members.iter().map(String::as_str).collect();
    members.sort_unstable();
    members.dedup();
    let mut by_idc: BTreeMap<Option<String>, Vec<Q>> = BTreeMap::new();
    for Shared { cluster, queue } in queues {
        let idc = idc_of_cluster(cluster).map(str::to_ascii_uppercase);
        by_idc.entry(idc).or_default().push(queue.clone());
    }
    let mut mine = Vec::new();
    for (idc, mut queues) in by_idc {
        let Some(idc) = idc else {
            mine.extend(queues);
            continue;
        };
        queues.sort();
        let is_near =
            |member: &&&str| idc_of_client(member).is_some_and(|theirs| theirs.eq_ignore_ascii_case(&idc));
        let near: Vec<&str> = members.iter().filter(is_near).copied().collect();
        let sharing = if near.is_empty() { &members } else { &near };
        let Some(place) = sharing.iter().position(|member| *member == me) else { continue };
        mine.extend(queues.into_iter().skip(place).step_by(sharing.len()));
    }
    mine.sort();
    mine
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(list: &[(&str, &'static str)]) -> Vec<Shared<&'static str>> {
        list.iter().map(|(cluster, queue)| Shared { cluster: (*cluster).to_owned(), queue: *queue }).collect()
    }

    fn shares(members: &[&str], list: &[(&str, &'static str)]) -> Vec<String> {
        let ids: Vec<String> = members.iter().map(|member| (*member).to_owned()).collect();
        let share = |me: &&str| allocate(me, &ids, &queues(list)).join(" ");
        members.iter().map(share).collect()
    }

    #[test]
    fn queues_stay_in_their_idc() {
        let two = [("GZ-c", "a0"), ("GZ-c", "a1"), ("SZ-c", "b0")];
        assert_eq!(shares(&["1@1#V#GZ", "1@2#V#SZ"], &two), ["a0 a1", "b0"]);
        assert_eq!(shares(&["1@1#V#GZ"], &two), ["a0 a1 b0"]);
        assert_eq!(shares(&["1@2#V#GZ", "1@1#V#GZ"], &two), ["a1", "a0 b0"]);
        // Who has no IDC gets what nobody is near to.
        assert_eq!(shares(&["1@1#V", "1@2#V#GZ"], &two), ["b0", "a0 a1"]);
        assert_eq!(shares(&["1@1#V#gz"], &two), ["a0 a1 b0"]);
    }

    #[test]
    fn queues_without_idc_go_to_everyone() {
        let one = [("defibus", "a0"), ("GZ-c", "b0")];
        assert_eq!(shares(&["1@1#V#GZ", "1@2#V#GZ"], &one), ["a0 b0", "a0"]);
    }

    #[test]
    fn who_is_no_member_gets_nothing() {
        assert_eq!(allocate("x", &["y".to_owned()], &queues(&[("GZ-c", "a0")])), Vec::<&str>::new());
    }
}
