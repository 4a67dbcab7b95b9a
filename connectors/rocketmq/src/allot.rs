//! Which queues of a topic a member of a group consumes, sans-io: the rule of RocketMQ's own clients
//! (AllocateMessageQueueAveragely), so that members of both kinds share a group.

/// The queues that `me` has to consume: a run of `queues`, which are in the order of broker name and number. Every
/// member works it out from the same list, so each queue is one member's. Nobody's, if `me` is no member.
pub(crate) fn allot<'a, Q>(queues: &'a [Q], members: &[String], me: &str) -> &'a [Q] {
    let mut members: Vec<&str> = members.iter().map(String::as_str).collect();
    // Java compares UTF-16 units.
    members.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    members.dedup();
    let Some(place) = members.iter().position(|member| *member == me) else { return &[] };
    let (each, left) = (queues.len() / members.len(), queues.len() % members.len());
    // The first `left` members have one more.
    let start = place * each + place.min(left);
    let count = each + usize::from(place < left);
    queues.get(start..start + count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn as_java_shares() {
        let queues: Vec<u32> = (0..8).collect();
        // Figures of AllocateMessageQueueAveragely.
        let members = names(&["b", "a", "c"]);
        assert_eq!(allot(&queues, &members, "a"), [0, 1, 2]);
        assert_eq!(allot(&queues, &members, "b"), [3, 4, 5]);
        assert_eq!(allot(&queues, &members, "c"), [6, 7]);
        assert_eq!(allot(&queues[..2], &members, "a"), [0]);
        assert_eq!(allot(&queues[..2], &members, "b"), [1]);
        assert_eq!(allot(&queues[..2], &members, "c"), [0_u32; 0]);
        assert_eq!(allot(&queues, &members, "d"), [0_u32; 0]);
        assert_eq!(allot(&queues, &names(&["a"]), "a"), queues);
        assert_eq!(allot(&[0_u32; 0], &members, "a"), [0_u32; 0]);
    }

    #[test]
    fn members_are_in_the_order_of_utf_16() {
        // U+1F600 is D83D DE00 in UTF-16, before U+FF5E; in UTF-8 it is behind.
        let members = names(&["\u{ff5e}", "\u{1f600}"]);
        assert_eq!(allot(&[0, 1], &members, "\u{1f600}"), [0]);
    }

    proptest! {
        /// However many there are, every queue is one member's, and shares differ by one at most.
        #[test]
        fn every_queue_has_one_member(queues in 0..40_usize, members in 1..20_usize) {
            let queues: Vec<usize> = (0..queues).collect();
            let members: Vec<String> = (0..members).map(|n| format!("m{n}")).collect();
            let shares: Vec<&[usize]> = members.iter().map(|me| allot(&queues, &members, me)).collect();
            let mut all: Vec<usize> = shares.concat();
            all.sort_unstable();
            prop_assert_eq!(&all, &queues);
            let sizes = shares.iter().map(|share| share.len());
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
        }
    }
}
