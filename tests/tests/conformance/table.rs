//! The tables `tests/conformance/*.toml` and the tests agree: each statement is there once, each named test exists, each
//! test of a clause is named, and gaps only shrink.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tests::weft::root;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    gaps_max: usize,
    statements: usize,
    /// By their ids, without `MQTT-`. TOML refuses an id that comes twice.
    statement: BTreeMap<String, Statement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    says: String,
    #[serde(default)]
    tests: Vec<String>,
    reason: Option<String>,
}

/// The last number of each section of Appendix B, in its order: what makes a missing statement show.
const MQTT_5: &str = "1.5.4-3 1.5.5-1 1.5.7-1 2.1.3-1 2.2.1-6 2.2.2-1 3.1.0-2 3.1.2-30 3.1.3-12 3.1.4-6 3.2.0-2 3.2.2-22 \
    3.3.1-13 3.3.2-20 3.3.4-10 3.4.2-3 3.5.2-3 3.6.1-1 3.6.2-3 3.7.2-3 3.8.1-1 3.8.3-5 3.8.4-8 3.9.2-2 3.9.3-2 3.10.1-1 \
    3.10.3-2 3.10.4-6 3.11.2-2 3.11.3-2 3.12.4-1 3.14.0-1 3.14.1-1 3.14.2-4 3.14.4-3 3.15.1-1 3.15.2-3 4.1.0-2 4.2-1 \
    4.3.1-1 4.3.2-5 4.3.3-13 4.4.0-2 4.5.0-2 4.6.0-6 4.7.0-1 4.7.1-2 4.7.2-1 4.7.3-4 4.8.2-6 4.9.0-3 4.12.0-7 4.12.1-2 \
    4.13.1-1 4.13.2-1 6.0.0-4";
const MQTT_311: &str = "1.5.3-3 2.2.2-2 2.3.1-7 3.1.0-2 3.1.2-24 3.1.3-11 3.1.4-5 3.2.0-1 3.2.2-6 3.3.1-12 3.3.2-3 3.3.4-1 \
    3.3.5-2 3.6.1-1 3.8.1-1 3.8.3-4 3.8.4-6 3.9.3-2 3.10.1-1 3.10.3-2 3.10.4-6 3.12.4-1 3.14.1-1 3.14.4-3 4.1.0-2 \
    4.3.1-1 4.3.2-2 4.3.3-2 4.4.0-1 4.5.0-2 4.6.0-6 4.7.1-3 4.7.2-1 4.7.3-4 4.8.0-2 6.0.0-4 7.0.0-2 7.1.1-1 7.1.2-1";

#[test]
fn the_table_of_mqtt_5_is_whole() {
    // Appendix B leaves out 2.2.1-1.
    check(&read("mqtt5.toml"), MQTT_5, &["2.2.1-1"]);
}

#[test]
fn the_table_of_mqtt_3_1_1_is_whole() {
    check(&read("mqtt311.toml"), MQTT_311, &[]);
}

#[test]
fn every_test_of_a_clause_is_in_a_table() {
    let tables = [read("mqtt5.toml"), read("mqtt311.toml")];
    let named: BTreeSet<&String> =
        tables.iter().flat_map(|table| table.statement.values()).flat_map(|one| &one.tests).collect();
    // Rules that Appendix B does not number.
    let unnumbered =
        ["mqtt_2_2_2_2_", "mqtt_3_1_2_11_10_", "mqtt_3_8_2_", "mqtt_3_14_2_2_", "mqtt_4_8_2_each"];
    for test in functions() {
        let numbered = !unnumbered.iter().any(|prefix| test.starts_with(prefix));
        assert!(!numbered || named.contains(&test), "{test} is in no table");
    }
}

fn read(file: &str) -> Table {
    let text = std::fs::read_to_string(root().join("tests/conformance").join(file)).unwrap();
    toml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn check(table: &Table, sections: &str, absent: &[&str]) {
    let mut expected = BTreeSet::new();
    for last in sections.split_whitespace() {
        let (section, count) = last.split_once('-').unwrap();
        expected.extend((1..=count.parse::<u32>().unwrap()).map(|number| format!("{section}-{number}")));
    }
    absent.iter().for_each(|id| assert!(expected.remove(*id), "{id}"));
    let have: BTreeSet<String> = table.statement.keys().cloned().collect();
    assert!(have == expected, "wrong or missing: {:?}", have.symmetric_difference(&expected));
    assert_eq!(table.statements, have.len());
    let functions = functions();
    let mut gaps = 0;
    for (id, statement) in &table.statement {
        assert!(!statement.says.is_empty(), "{id}");
        for test in &statement.tests {
            assert!(functions.contains(test), "{id}: there is no test {test}");
        }
        match (&statement.reason, statement.tests.is_empty()) {
            (None, false) => {}
            (Some(reason), true) if reason.starts_with("gap: ") => gaps += 1,
            (Some(reason), true) => {
                let known =
                    reason == "client" || reason.starts_with("feature: ") || reason.starts_with("store: ");
                assert!(known, "{id}: {reason}");
            }
            (reason, _) => panic!("{id}: tests or a reason, not {reason:?} and {:?}", statement.tests),
        }
    }
    assert_eq!(
        gaps, table.gaps_max,
        "no more gaps than `gaps_max`; with fewer, lower it, so that they stay closed"
    );
}

/// The tests of this target.
fn functions() -> BTreeSet<String> {
    let folder = root().join("tests/tests/conformance");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = BTreeSet::new();
    for text in files.map(|file| std::fs::read_to_string(file).unwrap()) {
        let mut test = false;
        for line in text.lines() {
            let function = line.strip_prefix("async fn ").or(line.strip_prefix("fn "));
            let name = function.and_then(|rest| rest.split('(').next());
            found.extend(name.filter(|name| test && name.starts_with("mqtt_")).map(str::to_owned));
            test = line == "#[tokio::test]" || line == "#[test]";
        }
    }
    found
}
