//! What filters see, which texts are none, and what bounds them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails that way"
)]

mod support;

use event::{Language, Meta};
use filter::{EventView, Filter, Verdict};
use support::{plain, with_data};

fn judge(language: Language, text: &str, event: &event::Event) -> Verdict {
    let filter = Filter::compile(language, text).unwrap_or_else(|error| panic!("{text}: {error}"));
    filter.judge(&EventView::new(event)).verdict
}

fn refused(language: Language, text: &str) -> String {
    Filter::compile(language, text).expect_err(text).to_string()
}

#[test]
fn cel_filters_by_attributes_and_data() {
    let event = with_data(
        r#"{"t":21.5,"n":3,"big":18446744073709551615,"tags":["a","b"],"o":{"k":null,"s":"q\"x"},"list":[1,2,3],"es":[{"a":1},{"a":2}]}"#,
    );
    for text in [
        r#"event.type == "com.example.made""#,
        "event.type.startsWith('com.') && data.t > 21 && data.n >= 3",
        "data.n == 3.0 && 3u == data.n && data.n != '3'",
        "data.big > 9223372036854775807 && data.big == 18446744073709551615u",
        "data['t'] < 22 && data.list[2] == 3 && data.list[1.0] == 2",
        "'a' in data.tags && !('c' in data.tags) && 'k' in data.o && 2 in [1, 2, 3]",
        r#"data.o.s == "q\"x" && data.o.k == null && data.o.s.size() == 3"#,
        "has(data.o.k) && !has(data.o.missing) && has(event.n) && !has(event.other)",
        "data.missing == 1 || data.n == 3",
        "!(data.missing == 1 && data.n == 4)",
        "event.n + 1 == 6 && event.yes && event['word'] == 'x' && 'word' in event",
        "data.list.all(x, x > 0) && data.list.exists(x, x == 2) && data.list.exists_one(x, x > 2)",
        "data.es.map(e, e.a) == [1, 2] && data.es.filter(e, e.a > 1).size() == 1",
        "data.es.map(e, e.a > 1, e.a * 10) == [20]",
        "data.o.all(key, key in ['k', 's'])",
        "data.es.exists(e, data.list.exists(n, n == e.a + 1))",
        "data.list.exists(x, x / 0 == 1 || x == 3)",
        "event.type.matches('^com\\\\.[a-z]+\\\\.made$') && matches(event.type, r'\\.made$')",
        "(data.n > 2 ? 'high' : 'low') == 'high'",
        "topic == 'a/b' && event.wefttopic == topic",
        "int('7') == 7 && double(data.n) + 0.5 == 3.5 && string(data.n) == '3' && int(data.t) == 21 && bool('true')",
        "7 % 4 == 3 && -7 / 2 == -3 && 0x10 == 16 && 1.5e1 == 15.0 && -9223372036854775808 < 0",
        "'a' + 'b' == 'ab' && [1] + [2] == [1, 2] && size('äö') == 2",
        "'x'.upperAscii() == 'X' && 'ABC'.lowerAscii().contains('b') && 'abc'.endsWith('bc')",
        "event.source == '/s' // and a comment",
    ] {
        assert_eq!(judge(Language::Cel, text, &event), Verdict::Passes, "{text}");
    }
    for text in
        ["data.n == 4", "event.type == 'x' && data.missing > 1", "data.t > data.big", "1.0 / 0.0 < 0.0"]
    {
        assert_eq!(judge(Language::Cel, text, &event), Verdict::Fails, "{text}");
    }
    for text in [
        "data.missing == 1",
        "data.t + data.n > 1.0",
        "data.n > 'a'",
        "data.n",
        "data.list[3] == 1",
        "data.n / 0 == 1",
        "9223372036854775807 + data.n > 0",
        "data.n.x == 1",
        "data.n ? true : false",
        "event.other == 'x'",
        "data.list.all(x, x > 'a')",
        "int('x') == 1",
        "data.o.k.size() == 1",
    ] {
        assert_eq!(judge(Language::Cel, text, &event), Verdict::Error, "{text}");
    }
}

#[test]
fn a_plain_publish_has_the_attributes_that_readers_see() {
    let meta = Meta { content_type: None, user: vec![("A b".into(), "1".into())], ..Meta::default() };
    let event = plain("sensors/1", br#"{"t":20}"#, Some(meta));
    let cesql = "id = '0000000000000abc' AND source = '/clients/dev%201' AND type = 'weft.message' \
         AND subject = 'sensors/1' AND time = '2023-11-14T22:13:20Z' AND datacontenttype = 'application/json' \
         AND EXISTS userproperties AND NOT EXISTS replyto AND wefttopic LIKE 'sensors/%' AND specversion = '1.0'";
    assert_eq!(judge(Language::Cesql, cesql, &event), Verdict::Passes);
    assert_eq!(judge(Language::Cel, "data.t == 20 && topic.startsWith('sensors/')", &event), Verdict::Passes);
    let text = Meta { content_type: Some("text/plain".into()), ..Meta::default() };
    let event = plain("a", br#"{"t":20}"#, Some(text));
    assert_eq!(judge(Language::Cel, "data.t == 20", &event), Verdict::Error, "said to be no JSON");
    let event = plain("a", b"\xff", None);
    assert_eq!(judge(Language::Cel, "data.t == 20 || true", &event), Verdict::Passes);
}

#[test]
fn an_error_never_passes() {
    let event = with_data("1");
    assert_eq!(judge(Language::Cesql, "missing = 'x' OR yes", &event), Verdict::Error);
    assert_eq!(judge(Language::Cesql, "yes OR missing = 'x'", &event), Verdict::Passes, "not looked at");
    assert_eq!(judge(Language::Cesql, "NOT (missing = 'x')", &event), Verdict::Error);
    assert_eq!(judge(Language::Cesql, "n + 2147483647 != 0", &event), Verdict::Error);
    assert_eq!(judge(Language::Cesql, "word", &event), Verdict::Fails, "a text is not true");
    assert_eq!(judge(Language::Cesql, "n % -1 = 0 AND n = '5' AND '5' = n", &event), Verdict::Passes);
}

#[test]
fn cesql_binds_as_its_section_3_6_says() {
    let event = with_data("1");
    for text in [
        "FALSE AND TRUE OR TRUE",
        "NOT 'abc' LIKE 'x' OR TRUE",
        "1 + 2 * 3 = 7 AND 10 - 4 - 3 = 3 AND -2 * 3 = -6 AND 7 - -1 = 8 AND 4 -1 = 3",
        "2 = 2 = TRUE",
        "TRUE XOR TRUE XOR TRUE",
        "'a' IN ('a') AND 'b' NOT IN ('a', word) AND n IN (1, n)",
        "- 5 = -5 AND +5 = 5",
    ] {
        let expected = if text.starts_with("NOT") { Verdict::Error } else { Verdict::Passes };
        assert_eq!(judge(Language::Cesql, text, &event), expected, "{text}");
    }
}

#[test]
fn like_knows_any_character() {
    let event = with_data("1");
    for (text, pattern, like) in [
        ("äöü", "ä_ü", true),
        ("äöü", "_%_", true),
        ("ä", "__", false),
        ("abcabc", "%_bc", true),
        ("aab", "a%ab", true),
        ("ab", "ab%b", false),
        ("a.b.c", "a._.%_c", false),
        ("", "%", true),
        ("", "", true),
        ("x", "", false),
        ("a\\b", "a\\b", true),
        ("100%", "100\\%", true),
        ("1000", "100\\%", false),
        ("xaxbxcx", "%a%b%c%", true),
        ("xaxcxbx", "%a%b%c%", false),
    ] {
        let text = format!("'{text}' LIKE '{pattern}'");
        let expected = if like { Verdict::Passes } else { Verdict::Fails };
        assert_eq!(judge(Language::Cesql, &text, &event), expected, "{text}");
    }
}

#[test]
fn what_is_no_filter_is_refused_with_place_and_reason() {
    for (text, message) in [
        ("", "at character 1: an attribute, a literal or a function has to come here, not the end"),
        ("type = ", "at character 8: an attribute, a literal or a function has to come here, not the end"),
        ("type == 'x'", "at character 6: \"==\" is written \"=\" in CESQL"),
        ("type = 'x", "at character 8: this string has no end"),
        ("type = 'it''s'", "at character 12: a quote in a string is written \\'"),
        ("äö = 1", "at character 1: 'ä' means nothing here"),
        ("my_ext = 1", "at character 1: \"my_ext\" is no attribute: those have letters and digits only"),
        ("LENGHT(type) = 3", "at character 1: there is no function LENGHT; there are LENGTH, CONCAT"),
        ("LEFT(type) = 'x'", "at character 1: LEFT takes 2 arguments, not 1"),
        ("SUBSTRING(type) = 'x'", "at character 1: SUBSTRING takes 2 to 3 arguments, not 1"),
        ("data = 1", "at character 1: CESQL sees attributes, not data; CEL sees both"),
        ("LENGTH(type)", "at character 1: a filter is true or false; this expression yields something else"),
        ("n = 2147483648", "at character 5: 2147483648 is not within -2147483648 to 2147483647"),
        ("type LIKE source", "at character 11: LIKE wants a pattern in quotes"),
        ("type IN ()", "at character 10: a set has at least one element"),
        ("type NOT 'x'", "LIKE or IN has to come behind this NOT, not the string 'x'"),
        ("EXISTS (type)", "at character 8: EXISTS wants an attribute, not \"(\""),
        ("(type = 'x'", "at character 12: \")\" has to come here, not the end"),
        ("type = 'x' source", "at character 12: an operator or the end has to come here, not \"source\""),
        ("A1(type)", "at character 1: \"A1\" is no name of a function"),
    ] {
        assert!(
            refused(Language::Cesql, text).contains(message),
            "{text}: {}",
            refused(Language::Cesql, text)
        );
    }
    for (text, message) in [
        ("", "at character 1: a name, a literal or \"(\" has to come here, not the end"),
        ("event.type = 'x'", "at character 12: \"=\" is written \"==\" in CEL"),
        ("type == 'x'", "at character 1: \"type\" is not known; there are event.ATTRIBUTE, data and topic"),
        (
            "event.Type == 'x'",
            "at character 7: \"Type\" is no attribute: those have small letters and digits only",
        ),
        ("event.data.x == 1", "at character 7: the data of the event is \"data\", without \"event.\""),
        ("data.x.foo()", "at character 8: there is no function foo; there are size, contains"),
        ("startsWith(topic, 'x')", "at character 1: startsWith is called as x.startsWith(…)"),
        ("topic.startsWith()", "at character 7: startsWith takes 1 arguments, not 0"),
        ("topic.int() == 1", "at character 7: int is called as int(x)"),
        ("size(topic)", "at character 1: a filter is true or false"),
        ("event.type", "at character 1: a filter is true or false"),
        ("topic.matches('(')", "at character 7: no regular expression: error: unclosed group"),
        ("topic.matches('(a{1000}){1000}')", "at character 7: this regular expression is too large"),
        ("topic.matches('[ab]*a[ab]{200}b')", "at character 7: this regular expression is too large"),
        (
            "topic.matches(event.type)",
            "at character 7: the regular expression of matches has to be a literal",
        ),
        ("has(topic)", "at character 1: has takes one member, as in has(data.x)"),
        ("data.all(1, true)", "at character 10: all wants a variable first, as in x.all(e, e > 1)"),
        ("data.all(x)", "\",\" has to come here, not \")\""),
        ("data.x == 'a", "at character 11: this string has no end"),
        ("data.x == '\\q'", "at character 12: no such escape"),
        ("data.x == b'a'", "at character 11: bytes literals are not known here"),
        ("data.x == 1a", "at character 11: this is no number"),
        ("data.x == 9223372036854775808", "is not an integer of 64 bits"),
        ("x == 1 && data.all(x, x)", "at character 1: \"x\" is not known"),
        ("data == {'a': 1}", "at character 9: map literals are not known here"),
        ("data.x & 1", "at character 8: \"&\" is written \"&&\" in CEL"),
    ] {
        assert!(refused(Language::Cel, text).contains(message), "{text}: {}", refused(Language::Cel, text));
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = |open: &str, inner: &str, close: &str, n: usize| {
        format!("{}{inner}{}", open.repeat(n), close.repeat(n))
    };
    for (language, open, inner, close) in [
        (Language::Cesql, "(", "TRUE", ")"),
        (Language::Cesql, "NOT ", "TRUE", ""),
        (Language::Cesql, "BOOL(", "TRUE", ")"),
        (Language::Cel, "(", "true", ")"),
        (Language::Cel, "!", "true", ""),
        (Language::Cel, "bool(", "true", ")"),
        (Language::Cel, "[", "true", "][0]"),
        (Language::Cel, "true ? true : ", "true", ""),
    ] {
        assert!(Filter::compile(language, &deep(open, inner, close, 20)).is_ok(), "{open}");
        let error = refused(language, &deep(open, inner, close, 200));
        assert!(error.contains("nested deeper than 32"), "{open}: {error}");
    }
    let chain = |sign: &str, one: &str, n: usize| vec![one; n].join(sign);
    let event = with_data("true");
    for (language, sign, one) in [(Language::Cesql, " AND ", "yes"), (Language::Cel, " && ", "data")] {
        assert_eq!(judge(language, &chain(sign, one, 400), &event), Verdict::Passes);
        assert!(refused(language, &chain(sign, one, 2000)).contains("longer than 4096 bytes"));
    }
    assert!(refused(Language::Cel, &chain(" + ", "1", 800)).contains("more than 64 operations"));
}

/// A plain publish of MQTT has it as user property.
#[test]
fn a_trace_is_an_attribute_wherever_it_stands() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let user = vec![("traceparent".into(), parent.into()), ("tracestate".into(), "a=1".into())];
    let carried = plain("a/b", b"x", Some(Meta { user, ..Meta::default() }));
    let own = support::cloud_event(&serde_json::json!({
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "traceparent": parent, "tracestate": "a=1"
    }));
    for (language, text) in [
        (
            Language::Cel,
            "event.traceparent.startsWith('00-4bf9') && event['tracestate'] == 'a=1' && has(event.traceparent)",
        ),
        (Language::Cesql, "traceparent LIKE '00-4bf9%' AND tracestate = 'a=1' AND EXISTS traceparent"),
    ] {
        for event in [&carried, &own] {
            assert_eq!(judge(language, text, event), Verdict::Passes, "{text}");
        }
        let without = judge(language, text, &plain("a/b", b"x", None));
        assert_ne!(without, Verdict::Passes, "{text}");
    }
    let nonsense = Meta { user: vec![("traceparent".into(), "x".into())], ..Meta::default() };
    assert_eq!(
        judge(Language::Cel, "has(event.traceparent)", &plain("a/b", b"x", Some(nonsense))),
        Verdict::Fails
    );
}

/// Filters that are made to be slow, on events made for it: none takes more than its steps, and those that would, fail.
#[test]
fn cost_is_bounded() {
    let long = "a".repeat(60_000);
    let numbers = with_data(&format!("[{}0]", "1,".repeat(2000)));
    let nested = "data.all(a, data.all(b, data.all(c, a + b + c > 0)))";
    let extensions: serde_json::Map<_, _> = (0..200).map(|n| (format!("e{n}"), "v".into())).collect();
    let mut attributes = serde_json::json!({
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "long": long, "zeros": "0".repeat(60_000)
    });
    attributes.as_object_mut().unwrap().extend(extensions);
    let attributes = support::cloud_event(&attributes);
    let double = "CONCAT(long, long, long)";
    let data =
        serde_json::json!({ "s": long, "t": "ab".repeat(4000), "z": "0".repeat(60_000), "l": vec![0; 100] });
    let object = with_data(&data.to_string());
    let pairs: serde_json::Map<_, _> = (0..500).map(|n| (format!("member {n}"), n.into())).collect();
    let wide = with_data(&serde_json::Value::from(pairs).to_string());
    // A text that was made takes memory wherever it is copied to.
    let copies = format!("['x' + data.t].exists(x, data.l.map(y, [{}]).size() == 100)", ["x"; 100].join(","));
    let many = |sign: &str, one: &str| vec![one; filter::TEXT_MAX / (one.len() + sign.len())].join(sign);
    for (language, expression, event) in [
        (Language::Cel, nested, &numbers),
        (Language::Cel, "data.map(a, data.map(b, data)) == []", &numbers),
        (Language::Cel, "data.exists(a, data.exists(b, false))", &numbers),
        (Language::Cel, &copies, &object),
        (Language::Cel, "['x' + data.t].exists(x, data.l.all(y, x != 'a'))", &object),
        (Language::Cel, "['x' + data.t].exists(x, data.l.all(y, [x, x][1] != 'a'))", &object),
        (Language::Cel, "data.l.all(x, data.s <= data.s)", &object),
        (Language::Cel, &many(" || ", "data.s.matches('b$')"), &object),
        (Language::Cel, &many(" || ", "data.s.contains('ab')"), &object),
        (Language::Cel, &many(" || ", "int(data.z) == 1"), &object),
        (Language::Cel, &many(" || ", "event[data.s] == 1"), &object),
        (Language::Cel, &many(" && ", "data == data"), &wide),
        (Language::Cel, &many(" || ", "data['member 7'] == 1"), &wide),
        (Language::Cel, &many(" || ", "event.e7 == 'x'"), &attributes),
        (Language::Cesql, &many(" OR ", "e7 = 'x'"), &attributes),
        (Language::Cesql, &many(" OR ", "INT(zeros) = 1"), &attributes),
        (Language::Cesql, &format!("{double} = {double}"), &attributes),
        (Language::Cesql, "long LIKE '%_aaaaaaaab'", &attributes),
        (Language::Cesql, "long LIKE '%_aaaaaaaab%'", &attributes),
        (Language::Cesql, &format!("CONCAT({}) = ''", many(",", "1").get(..3999).unwrap()), &attributes),
    ] {
        let filter = Filter::compile(language, expression).unwrap();
        let view = EventView::new(event);
        let judgement = filter.judge(&view);
        assert!(judgement.steps <= view.steps_max(), "{expression}: {judgement:?}");
        if !expression.ends_with("b'") {
            let too_costly = filter::Judgement { verdict: Verdict::Error, steps: view.steps_max() };
            assert_eq!(judgement, too_costly, "{expression}");
        }
    }
}

/// The limit grows with the event: what looks at each part of the data once is never too costly.
#[test]
fn sensible_filters_take_a_small_part_of_their_steps() {
    let items = |count: usize| {
        let item =
            |n| serde_json::json!({ "sku": format!("B-{n}"), "count": n, "price": 9.95, "unit": "kg" });
        with_data(
            &serde_json::json!({ "total": 129.9, "items": (0..count).map(item).collect::<Vec<_>>() })
                .to_string(),
        )
    };
    let one_of = format!("type IN ({}'com.example.made')", "'com.example.other', ".repeat(100));
    for (language, text, part) in [
        (Language::Cesql, &*one_of, 10),
        (Language::Cesql, "type LIKE 'com.example.%' AND source LIKE '%/s%' AND n < 10", 50),
        (
            Language::Cel,
            "event.type.startsWith('com.example.') && data.total > 100 && data.items.size() == 3",
            50,
        ),
        (Language::Cel, r"event.type.matches('^com[.]\\w+[.](made|changed)$') || data.total < 0.0", 50),
        (Language::Cel, "data.items.exists(i, i.sku.startsWith('B-2') && i.count > 1)", 10),
    ] {
        let event = items(3);
        let view = EventView::new(&event);
        let judgement = Filter::compile(language, text).unwrap().judge(&view);
        assert_eq!(judgement.verdict, Verdict::Passes, "{text}");
        assert!(judgement.steps <= view.steps_max() / part, "{text}: {judgement:?}");
    }
    let text = "data.items.all(i, i.sku.startsWith('B-') && i.count >= 0 && i.price < 10.0 && i.unit in ['kg', 'l'])";
    let numbers = with_data(&format!("[{}9]", "1,".repeat(4000)));
    assert_eq!(judge(Language::Cel, "data.exists(n, n > 8)", &numbers), Verdict::Passes);
    for count in [1, 10, 100, 300] {
        assert_eq!(judge(Language::Cel, text, &items(count)), Verdict::Passes, "{count} items");
    }
}
