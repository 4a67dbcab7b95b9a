//! What is due when, and which decision holds.

use super::*;

fn transaction(id: &str) -> Transaction {
    Transaction { topic: "t".into(), id: id.into() }
}

fn standing(until: Until) -> Standing {
    let plain = (Guarantee::AtLeastOnce, false);
    Standing::new((ClientId::from("c"), Tenant::NONE), plain, until, Position(64), 100)
}

fn ids(due: &[Due]) -> Vec<u64> {
    due.iter().map(|one| one.id).collect()
}

#[test]
fn what_is_due_is_taken_once_and_oldest_first() {
    let mut held = Held::default();
    for (id, at_ms) in [(1, 300), (2, 100), (3, 200), (4, 900)] {
        held.add(id, standing(Until::Time(at_ms)), 0);
    }
    assert_eq!((held.next_due(), held.len(), held.bytes()), (Some(100), 4, 400));
    assert_eq!(ids(&held.take_due(99, 1 << 20)), [0_u64; 0]);
    assert_eq!(ids(&held.take_due(300, 150)), [2, 3], "as many as are some bytes");
    assert_eq!(ids(&held.take_due(300, 1 << 20)), [1]);
    held.set_due(3, 400);
    held.remove(2);
    held.remove(1);
    assert_eq!(held.next_due(), Some(400));
    assert_eq!(ids(&held.take_due(1000, 1 << 20)), [3, 4]);
    held.remove(3);
    held.remove(4);
    assert_eq!((held.next_due(), held.len(), held.bytes(), held.publishing), (None, 0, 0, 0));
}

#[test]
fn a_record_further_back_changes_only_the_position() {
    let mut held = Held::default();
    held.add(1, standing(Until::Time(5)), 0);
    held.add(1, Standing { position: Position(900), ..standing(Until::Time(7)) }, 0);
    assert_eq!((held.len(), held.bytes(), held.next_due()), (1, 100, Some(5)));
    assert_eq!(held.behind(0).next().map(|(id, one)| (id, one.position)), Some((1, Position(900))));
    assert!(!held.moved(2, Position(1)));
}

#[test]
fn the_first_decision_holds_and_may_be_repeated() {
    let mut held = Held::default();
    held.add(1, standing(Until::Decision(transaction("a"))), 50);
    held.add(2, standing(Until::Decision(transaction("b"))), 60);
    assert!(held.is_open(&transaction("a")));
    assert_eq!(held.decide(&transaction("a"), true), Ok(Some(1)));
    assert_eq!(held.decide(&transaction("a"), true), Ok(Some(1)), "not kept yet: it is written again");
    assert!(held.decide(&transaction("a"), false).unwrap_err().contains("was committed"));
    assert!(held.decided(1, true, 55));
    assert!(!held.decided(1, true, 56));
    assert_eq!(held.next_due(), Some(55));
    assert_eq!(held.decide(&transaction("a"), true), Ok(None));
    assert!(held.decide(&transaction("a"), false).unwrap_err().contains("was committed"));
    assert!(held.decided(2, false, 57));
    assert!(held.decide(&transaction("b"), true).unwrap_err().contains("was rolled back"));
    assert!(held.decide(&transaction("c"), true).unwrap_err().contains("never begun"));
    assert_eq!(held.len(), 1);
}

#[test]
fn no_more_than_some_are_on_their_way() {
    let mut held = Held::default();
    for id in 0..2000 {
        held.add(id, standing(Until::Time(1)), 0);
    }
    assert_eq!(held.take_due(1, usize::MAX).len(), PUBLISHING);
    assert_eq!((held.next_due(), held.take_due(1, usize::MAX).len()), (None, 0));
    held.remove(0);
    assert_eq!(ids(&held.take_due(1, usize::MAX)), [1024]);
}

/// As of one that its store refused for good: its record stands before the one that says so, and is read at each start.
#[test]
fn what_is_forgotten_is_forgotten_whatever_it_waited_for() {
    let mut held = Held::default();
    held.add(1, standing(Until::Time(500)), 0);
    assert!(!held.decided(1, false, 10), "no transaction");
    assert_eq!((held.len(), held.bytes(), held.next_due()), (0, 0, None));
    held.add(2, standing(Until::Time(500)), 0);
    assert!(!held.decided(2, true, 10));
    assert_eq!(held.next_due(), Some(500), "there was nothing to decide");
}
