//! Every frame that was recorded, and what the conversations show, against the code.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use bytes::BytesMut;
use bytestring::ByteString;
use defibus::property::REQUEST_ID;
use defibus::{Asked, Empty, Shared, Waiting, allocate, code, expires_ms, parse_members, pushed, request};
use remoting::code as rocketmq;
use remoting::properties::{Properties, parse};
use remoting::{Command, Decoder, Encoding, StoredMessage, decode_messages, encode, strict_json};

mod vectors;

use vectors::{Frame, conversation, golden, names};

#[test]
fn every_frame_is_read_and_written_again() {
    let mut frames = 0;
    for name in names() {
        for Frame { command, .. } in conversation(&name) {
            for encoding in [Encoding::Json, Encoding::Binary] {
                let mut out = BytesMut::new();
                encode(&command, encoding, &mut out).unwrap();
                let again = Decoder::default().decode(&mut out).unwrap().unwrap();
                // A binary header cannot tell an empty remark from none.
                let same = Command { remark: again.remark.clone(), ..command.clone() };
                assert_eq!((again, out.len()), (same, 0), "{name}");
            }
            frames += 1;
        }
    }
    assert_eq!(names().len(), 21);
    assert!(frames > 2000, "{frames} frames");
}

#[test]
fn every_message_that_was_pulled_is_read() {
    let mut messages = 0;
    for name in names() {
        for (asked, answer) in exchanges(&conversation(&name)) {
            if asked.code == rocketmq::request::PULL_MESSAGE && answer.code == 0 {
                let found = decode_messages(answer.body.clone()).unwrap();
                let next = answer.number("nextBeginOffset").unwrap();
                assert_eq!(found.last().unwrap().queue_offset + 1, next, "{name}");
                messages += found.len();
            }
        }
    }
    assert!(messages > 50, "{messages} messages");
}

#[test]
fn routes_and_clusters_have_bare_keys() {
    let route = golden("namesrv_route_response");
    let value: serde_json::Value = serde_json::from_slice(&strict_json(&route.body)).unwrap();
    assert_eq!(value["brokerDatas"][0]["brokerAddrs"]["0"], "127.0.0.1:20911");
    assert!(serde_json::from_slice::<serde_json::Value>(&route.body).is_err());
    let brokers = request::brokers(&golden("namesrv_cluster_info_response").body).unwrap();
    assert_eq!(brokers, ["127.0.0.1:20911"]);
    same_request(&request::cluster_info(), &golden("namesrv_cluster_info_request"));
}

#[test]
fn members_are_asked_for_and_read() {
    let recorded = golden("members_by_group_and_topic_request");
    same_request(&request::members("CG-rr", "FT0-s-80000000-01-0"), &recorded);
    let two = golden("members_by_group_and_topic_two_members_response");
    let two = parse_members(&two.body).unwrap();
    assert_eq!(two, ["127.0.0.1@28315#V1_0_0#GZ", "127.0.0.1@28441#V1_0_0#GZ"]);
    assert_ne!(golden("members_unknown_group_response").code, 0);
}

#[test]
fn a_reply_is_written_as_their_client_writes_it() {
    let found = decode_messages(golden("pull_found_rr_request_response").body).unwrap();
    let asked = Asked::of(&found[0]).unwrap();
    assert_eq!(expires_ms(&found[0]), Some(found[0].store_ms as u64 + 3000));
    let mut properties = Properties::default();
    asked.reply_properties(&mut properties);
    let recorded = golden("rr_reply_request");
    let reply = request::reply(
        "PG-replier",
        asked.cluster.as_deref().unwrap(),
        recorded.number("g").unwrap() as u64,
        properties.finish().unwrap(),
        recorded.body.clone(),
    );
    let all = |command: &Command| {
        let properties = map(&parse(&command.field("i").unwrap().into()).collect::<Vec<_>>());
        (fields(command, &["i"]), properties, command.body.clone(), command.code)
    };
    let (mut ours, mut theirs) = (all(&reply), all(&recorded));
    // A key of their client's, which replies need not have.
    theirs.1.remove("UNIQ_KEY").unwrap();
    // The two exemplars are of different runs.
    for side in [&mut ours, &mut theirs] {
        side.1.retain(|name, _| name != "RR_REQUEST_UNIQ_ID" && name != "REPLY_TO");
    }
    assert_eq!(ours, theirs);
    assert_eq!(&*asked.reply_to, "127.0.0.1@22245#V1_0_0#GZ");
}

#[test]
fn a_pushed_reply_is_a_message() {
    let push = golden("rr_reply_push_oneway");
    assert_eq!((push.code, push.is_oneway()), (code::request::PUSH_REPLY, true));
    let reply = pushed(&push, REQUEST_ID).unwrap();
    assert_eq!(&*reply.id, "w/805166be-bf5e-4f08-a498-0d9a0350a34c");
    assert_eq!(
        (&*reply.message.topic, &reply.message.body[..]),
        ("GZ-defibus-rr-reply-topic", &b"reply-to:req-0"[..])
    );
    assert_eq!((reply.message.born_ms, reply.message.store_ms), (1_795_462_487_650, 1_795_462_487_655));
    assert_eq!(reply.message.born_host, "127.0.0.1:54558".parse().unwrap());
    // Reply and request look alike but for their kind.
    assert_eq!(Asked::of(&reply.message), None);
    assert_eq!(
        pushed(&Command::request(code::request::PUSH_REPLY).with("properties", "a\u{1}b\u{2}"), REQUEST_ID),
        None
    );
}

#[test]
fn s04_s05_s16_every_request_gets_its_reply() {
    for name in ["s04", "s05", "s16"] {
        let outcome = replay(&conversation(name));
        assert!(outcome.asked > 0, "{name}: {outcome:?}");
        assert_eq!(outcome.replied.len(), outcome.asked, "{name}: {outcome:?}");
        assert_eq!((outcome.unknown.len(), outcome.open), (0, 0), "{name}: {outcome:?}");
    }
}

#[test]
fn s06_s07_a_request_ends_by_its_own_clock() {
    let nobody = replay(&conversation("s06"));
    assert!(nobody.replied.is_empty() && nobody.expired >= 2, "{nobody:?}");
    let late = replay(&conversation("s07"));
    assert!(
        late.expired > 0 && !late.unknown.is_empty(),
        "a reply comes after its request expired: {late:?}"
    );
}

#[test]
fn s20_replies_by_way_of_another_broker_are_lost() {
    let frames = conversation("s20");
    let outcome = replay(&frames);
    assert_eq!((outcome.replied.len(), outcome.expired), (2, 2));
    // Had they gone to the broker that stored the request, none would have been.
    for message in pulled(&frames) {
        assert_eq!(Asked::of(&message).unwrap().broker.as_deref(), Some("broker-a"));
    }
}

#[test]
fn s21_compressed_bodies_inflate() {
    let frames = conversation("s21");
    let mut bodies: Vec<StoredMessage> = pulled(&frames);
    bodies.extend(frames.iter().filter_map(|frame| Some(pushed(&frame.command, REQUEST_ID)?.message)));
    let compressed: Vec<&StoredMessage> = bodies.iter().filter(|message| message.sys_flag & 1 == 1).collect();
    assert!(compressed.len() >= 2);
    for message in compressed {
        let mut out = Vec::new();
        flate2::read::ZlibDecoder::new(&message.body[..]).read_to_end(&mut out).unwrap();
        assert!(out.len() >= 4096);
    }
}

#[test]
fn s09_a_queue_that_is_full_says_so() {
    let answers = exchanges(&conversation("s09"));
    let sends = answers.iter().filter(|(asked, _)| asked.code == rocketmq::request::SEND_MESSAGE_V2);
    let codes: BTreeSet<i32> = sends.map(|(_, answer)| answer.code).collect();
    assert_eq!(codes, BTreeSet::from([0, code::response::CIRCUIT_BREAK]));
}

#[test]
fn s10_members_share_queues_as_theirs_do() {
    let frames = conversation("s10");
    let (mut pulls, mut owners) = (BTreeMap::<String, BTreeSet<i64>>::new(), 0);
    // While both members are there and the topic has two queues.
    for frame in frames.iter().filter(|frame| frame.ms > 10_200.0 && frame.ms < 31_000.0) {
        if frame.up && frame.command.code == rocketmq::request::PULL_MESSAGE {
            let client = frame.command.field("clientId").unwrap().to_owned();
            pulls.entry(client).or_default().insert(frame.command.number("queueId").unwrap());
        }
    }
    let members: Vec<String> = pulls.keys().cloned().collect();
    let queues: Vec<Shared<i64>> =
        (0..2).map(|queue| Shared { cluster: "GZ-defibus".to_owned(), queue }).collect();
    for (member, queues_of_member) in &pulls {
        let ours = allocate(member, &members, &queues);
        assert_eq!(ours.into_iter().collect::<BTreeSet<_>>(), *queues_of_member, "{member}");
        owners += 1;
    }
    assert_eq!(owners, 2);
    let notices = frames.iter().filter(|frame| frame.command.code == code::request::TOPIC_CHANGED);
    assert!(notices.clone().count() >= 4 && notices.clone().all(|frame| frame.command.is_oneway()));
    assert!(notices.into_iter().all(|frame| frame.command.field("topic") == Some("FT0-e-80010004-01-1")));
}

#[test]
fn s11_a_locked_queue_is_no_empty_queue() {
    let verdicts: Vec<Empty> = exchanges(&conversation("s11"))
        .iter()
        .filter(|(asked, answer)| asked.code == rocketmq::request::PULL_MESSAGE && answer.code == 19)
        .map(|(_, answer)| Empty::of(answer))
        .collect();
    assert!(verdicts.contains(&Empty::Locked) && verdicts.contains(&Empty::Taken(4)), "{verdicts:?}");
    assert_eq!(Empty::of(&golden("pull_not_found_response")), Empty::Nothing);
}

#[test]
fn s12_a_direct_message_is_no_request() {
    let direct = golden("publish_direct_request");
    assert_eq!(direct.code, code::request::SEND_DIRECT_V2);
    assert!(pulled(&conversation("s12")).iter().all(|message| Asked::of(message).is_none()));
}

#[test]
fn s15_messages_of_a_batch_do_not_say_where_they_lie() {
    let messages = pulled(&conversation("s15"));
    assert!(messages.len() >= 3);
    let has = |message: &StoredMessage, name: &str| parse(&message.properties).any(|(have, _)| have == name);
    assert!(messages.iter().all(|message| has(message, "TTL") && !has(message, "CLUSTER")));
}

#[test]
fn s18_a_message_without_ttl_has_no_expiry() {
    let expiries: BTreeSet<bool> =
        pulled(&conversation("s18")).iter().map(|message| expires_ms(message).is_some()).collect();
    assert_eq!(expiries, BTreeSet::from([false, true]));
}

/// What became of the requests of a conversation.
#[derive(Debug, Default)]
struct Outcome {
    asked: usize,
    replied: Vec<ByteString>,
    /// Replies to what does not wait (any more).
    unknown: Vec<ByteString>,
    expired: usize,
    open: usize,
}

/// Plays the requester of a conversation: requests wait from when they are sent until their TTL is over.
fn replay(frames: &[Frame]) -> Outcome {
    let (mut waiting, mut outcome) = (Waiting::new(100), Outcome::default());
    for frame in frames {
        let now = frame.ms as u64;
        outcome.expired += waiting.expired(now).len();
        let command = &frame.command;
        if frame.up && command.code == rocketmq::request::SEND_MESSAGE_V2 {
            let properties = map(&parse(&command.field("i").unwrap().into()).collect::<Vec<_>>());
            if let Some(id) = properties.get("RR_REQUEST_UNIQ_ID") {
                let ttl: u64 = properties["TTL"].parse().unwrap();
                waiting.insert(id.clone(), now + ttl, ()).unwrap();
                outcome.asked += 1;
            }
        } else if !frame.up && command.code == code::request::PUSH_REPLY {
            let reply = pushed(command, REQUEST_ID).unwrap();
            match waiting.take(&reply.id) {
                Some(()) => outcome.replied.push(reply.id),
                None => outcome.unknown.push(reply.id),
            }
        }
    }
    outcome.expired += waiting.expired(frames.last().unwrap().ms as u64 + 1).len();
    outcome.open = waiting.len();
    outcome
}

/// The messages that were pulled, in order.
fn pulled(frames: &[Frame]) -> Vec<StoredMessage> {
    let mut messages = Vec::new();
    for (asked, answer) in exchanges(frames) {
        if asked.code == rocketmq::request::PULL_MESSAGE && answer.code == 0 {
            messages.extend(decode_messages(answer.body.clone()).unwrap());
        }
    }
    messages
}

/// Requests with their answers.
fn exchanges(frames: &[Frame]) -> Vec<(Command, Command)> {
    let (mut open, mut done) = (BTreeMap::new(), Vec::new());
    for frame in frames {
        let key = |up: bool| (frame.connection.clone(), up, frame.command.opaque);
        if !frame.command.is_answer() {
            open.insert(key(frame.up), frame.command.clone());
        } else if let Some(asked) = open.remove(&key(!frame.up)) {
            done.push((asked, frame.command.clone()));
        }
    }
    done
}

fn same_request(ours: &Command, theirs: &Command) {
    assert_eq!((ours.code, fields(ours, &[])), (theirs.code, fields(theirs, &[])));
}

fn fields(command: &Command, without: &[&str]) -> BTreeMap<ByteString, ByteString> {
    let mut all = map(&command.fields);
    all.retain(|name, _| !without.contains(&&**name));
    all
}

fn map(pairs: &[(ByteString, ByteString)]) -> BTreeMap<ByteString, ByteString> {
    pairs.iter().cloned().collect()
}
