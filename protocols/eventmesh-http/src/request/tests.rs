//! What is read from requests, and what is said of wrong ones.

use std::net::Ipv4Addr;

use http::{HeaderName, HeaderValue};

use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    pairs.collect()
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    Fields(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn codes_are_numbers_that_are_known() {
    assert_eq!(Command::parse(Some(" 104 ")).unwrap(), Command::Publish);
    for code in [None, Some(""), Some("999"), Some("abc"), Some("105"), Some("603")] {
        let answer = Command::parse(code).unwrap_err();
        assert_eq!((answer.code, answer.status.as_u16()), (Code::Command, 400), "{code:?}");
    }
}

#[test]
fn paths_are_told_by_how_they_begin() {
    for (path, want) in [
        ("/", None),
        ("/eventmesh", None),
        ("/eventmesh/publishers", None),
        ("/eventmesh/publish", Some(Place::Publish(None))),
        ("/eventmesh/publish/", Some(Place::Publish(None))),
        ("/eventmesh/publish/a/b", Some(Place::Publish(Some("a/b".to_owned())))),
        ("/eventmesh/publish/a%2Fb%20c+d", Some(Place::Publish(Some("a/b c+d".to_owned())))),
        ("/eventmesh/publish/batch", Some(Place::Publish(Some("batch".to_owned())))),
        ("/eventmesh/bridge/publish", Some(Place::Bridge)),
        ("/eventmesh/subscribe/local", Some(Place::Subscribe)),
        ("/eventmesh/unsubscribe/local/", Some(Place::Unsubscribe)),
        ("/eventmesh/subscribe/remote", Some(Place::Remote)),
        ("/eventmesh/subscrition/query", Some(Place::Query)),
    ] {
        assert_eq!(Place::parse(path), want, "{path}");
    }
}

#[test]
fn bodies_are_read_as_texts() {
    let form = Fields::form("a=1&b=%C4%85+%26%3D&a=2&c=%20".as_bytes()).unwrap();
    assert_eq!(
        (form.get("a"), form.get("b"), form.get("c"), form.get("d")),
        (Some("1"), Some("ą &="), None, None)
    );
    assert_eq!(form.to_json(), r#"{"a":"1","b":"ą &=","c":" "}"#.as_bytes());
    let json = Fields::json(br#"{"url":"u","topic":[{"topic":"t"}],"n":1,"nothing":null}"#).unwrap();
    assert_eq!(
        (json.get("topic"), json.get("n"), json.get("nothing")),
        (Some(r#"[{"topic":"t"}]"#), Some("1"), None)
    );
    for body in ["", "{broken", "[]", "\"text\""] {
        assert_eq!(Fields::json(body.as_bytes()).unwrap_err().code, Code::Body, "{body}");
    }
    assert_eq!(Fields::form("a=1&".repeat(257).as_bytes()).unwrap_err().code, Code::Body);
}

#[test]
fn who_asks_is_checked() {
    let all = [("idc", "i"), ("pid", "12"), ("sys", "s"), ("username", "u"), ("passwd", "p")];
    let caller = Caller::of(&headers(&all), PEER).unwrap();
    assert_eq!((&*caller.env, &*caller.ip, &*caller.name()), ("env", "127.0.0.1", "http/127.0.0.1/12"));
    assert!(matches!(caller.credentials, Credentials::Password { user: Some(user), .. } if user == "u"));
    for name in ["idc", "pid", "sys"] {
        for blank in [None, Some("  ")] {
            let mut less = headers(&all);
            less.remove(name);
            if let Some(blank) = blank {
                less.insert(name, HeaderValue::from_static(blank));
            }
            assert_eq!(Caller::of(&less, PEER).unwrap_err().code, Code::Header, "{name}");
            assert!(Caller::with_defaults(&less, PEER).is_ok(), "{name}");
        }
    }
    let mut long = headers(&all);
    long.insert("sys", HeaderValue::from_str(&"x".repeat(513)).unwrap());
    assert_eq!(Caller::of(&long, PEER).unwrap_err().code, Code::Header);
    let mut wrong = headers(&all);
    wrong.insert("pid", HeaderValue::from_static("12x"));
    assert_eq!(Caller::of(&wrong, PEER).unwrap_err().code, Code::Header);
    assert_eq!(Caller::with_defaults(&wrong, PEER).unwrap_err().code, Code::Header);
}

#[test]
fn the_strongest_proof_is_shown() {
    let shown = |pairs: &[(&'static str, &'static str)]| credentials(&headers(pairs));
    assert!(matches!(shown(&[]), Ok(Credentials::None)));
    let both = [("username", "u"), ("token", "t")];
    assert!(matches!(shown(&both), Ok(Credentials::Token(token)) if token == "t"));
    let all = [("token", "t"), ("authorization", "Bearer b")];
    assert!(matches!(shown(&all), Ok(Credentials::Token(token)) if token == "b"));
    assert_eq!(shown(&[("authorization", "Nonsense")]).unwrap_err().code, Code::Acl);
}

#[test]
fn what_is_asked_is_checked_then() {
    let list = r#"[{"topic":"t","mode":"CLUSTERING","type":"SYNC"},"bare"]"#;
    let good = [("url", "http://h/"), ("consumerGroup", "g"), ("topic", list)];
    let wanted = interest(&fields(&good)).unwrap();
    assert_eq!((&*wanted.group, wanted.items.len(), &*wanted.items[1].topic), ("g", 2, "bare"));
    for missing in 0..3 {
        let mut less = good.to_vec();
        less.remove(missing);
        assert_eq!(interest(&fields(&less)).unwrap_err().code, Code::Body, "{missing}");
    }
    for list in ["{{{", "[]", "{}", r#"[""]"#, r#"[{"topic":"t","mode":"UNRECOGNIZED"}]"#] {
        let wrong = [("url", "http://h/"), ("consumerGroup", "g"), ("topic", list)];
        assert_eq!(interest(&fields(&wrong)).unwrap_err().code, Code::Body, "{list}");
    }
    let entities = r#"[{"topic":"t","url":"u","serviceId":"s"}]"#;
    let alive = heartbeat(&fields(&[("consumerGroup", "g"), ("heartbeatEntities", entities)])).unwrap();
    assert_eq!(alive, ("g".to_owned(), vec!["t".to_owned()]));
    assert!(heartbeat(&fields(&[("consumerGroup", "g"), ("heartbeatEntities", "[]")])).is_err());
}

#[test]
fn a_batch_has_as_many_messages_as_it_says() {
    let contents = r#"[{"bizSeqNo":"1","topic":"t","msg":"m","ttl":"1","tag":"x"},{"topic":"t","msg":"n"}]"#;
    let of = |size, contents| fields(&[("batchId", "b"), ("size", size), ("contents", contents)]);
    assert_eq!(batch(&of("2", contents), 2).unwrap().len(), 2);
    for (size, contents, most) in [
        ("2", contents, 1),
        ("1", contents, 9),
        ("x", contents, 9),
        ("0", "[]", 9),
        ("1", "{", 9),
        ("", contents, 9),
    ] {
        assert_eq!(batch(&of(size, contents), most).unwrap_err().code, Code::Body, "{size} {contents}");
    }
}
