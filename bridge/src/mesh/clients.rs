//! What operators of EventMesh ask about clients, and order them: `/client/…` and `/clientManage/…`.
//!
//! | path | does |
//! |---|---|
//! | `GET /client/tcp`, `http`, `grpc` | lists clients |
//! | `DELETE` there, `{"host", "port"}` or `{"url"}` | sends them away |
//! | `/clientManage/show…` | lists, as text |
//! | `/clientManage/reject…` | sends clients of TCP away |
//! | `/clientManage/redirect…` | sends them to another EventMesh |
//!
//! Texts are those of EventMesh, whose scripts look for words in them. A wrong parameter is answered with 200 and
//! `params illegal!`, as there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use eventmesh::{Client, Clients, Order};
use serde_json::{Value, json};

/// What is asked with a query, or a form.
pub(super) type Asked = BTreeMap<String, String>;

/// Clients of `protocol` ("TCP", "HTTP", "GRPC"), as `/client/…` shows them.
pub(super) fn list(clients: &Clients, protocol: &str) -> Value {
    let found = clients.list(|client| client.protocol == protocol, CLIENTS_MAX);
    found.iter().map(of_client).collect()
}

fn of_client(client: &Client) -> Value {
    let agent = &client.agent;
    // EventMesh has the path of the program there where there is no webhook.
    let url = client.url.as_ref().or(agent.path.as_ref());
    json!({
        "env": agent.env,
        "subsystem": agent.subsystem,
        "url": url,
        "pid": agent.pid,
        "host": client.peer.ip().to_canonical(),
        "port": client.peer.port(),
        "version": agent.version,
        "idc": agent.idc,
        "group": agent.group(),
        "purpose": agent.purpose().map(eventmesh::Purpose::as_str),
        "protocol": client.protocol,
        "topics": client.topics,
    })
}

/// Sends clients of `protocol` away that `wanted` describes: by `url`, or by `host` and `port`. How many; `None`: it does
/// not say which.
pub(super) fn send_away(clients: &Clients, protocol: &str, wanted: &Asked) -> Option<usize> {
    let (url, place) = (text(wanted, "url"), place(wanted, "host"));
    if url.is_none() && place.is_none() {
        return None;
    }
    let chosen = |client: &Client| {
        client.protocol == protocol
            && url.is_none_or(|url| client.url.as_deref() == Some(url))
            && place.is_none_or(|place| is_at(client, place))
    };
    Some(clients.order(chosen, &Order::Leave).len())
}

/// Does what `/clientManage/{name}` asks; the text that answers. `None`: there is no such page.
pub(super) fn manage(clients: &Clients, name: &str, asked: &Asked) -> Option<String> {
    let answer = match name {
        "showClient" => Some(by_system(clients)),
        "showClientBySystem" => of_system(clients, asked),
        "showListenClientByTopic" => of_topic(clients, asked),
        "rejectAllClient" | "rejectClientByIpPort" | "rejectClientBySubSystem" => {
            reject(clients, name, asked)
        }
        "redirectClientByIpPort" | "redirectClientBySubSystem" | "redirectClientByPath" => {
            redirect(clients, name, asked)
        }
        _ => return None,
    };
    Some(answer.unwrap_or_else(|| "params illegal!".to_owned()))
}

fn by_system(clients: &Clients) -> String {
    let mut systems: BTreeMap<String, usize> = BTreeMap::new();
    for client in clients.list(of_tcp, CLIENTS_MAX) {
        *systems.entry(client.agent.subsystem.unwrap_or_default()).or_default() += 1;
    }
    let mut text = String::new();
    for (system, count) in systems {
        writeln!(text, "System={} | ClientNum={count}", plain(&system)).unwrap_or(());
    }
    text
}

fn of_system(clients: &Clients, asked: &Asked) -> Option<String> {
    let system = text(asked, "subsystem")?;
    let mut text = String::new();
    for client in clients.list(|client| is_of(client, system), CLIENTS_MAX) {
        let purpose = client.agent.purpose().map_or("", eventmesh::Purpose::as_str);
        writeln!(text, "{} | purpose={purpose}", line(&client)).unwrap_or(());
    }
    Some(text)
}

fn of_topic(clients: &Clients, asked: &Asked) -> Option<String> {
    let topic = text(asked, "topic")?;
    let listens = |client: &Client| of_tcp(client) && client.topics.iter().any(|have| have == topic);
    let mut text = String::new();
    for client in clients.list(listens, CLIENTS_MAX) {
        let version = plain(client.agent.version.as_deref().unwrap_or_default());
        writeln!(text, "{} | version={version}", line(&client)).unwrap_or(());
    }
    Some(text)
}

fn line(client: &Client) -> String {
    let (ip, port) = (client.peer.ip().to_canonical(), client.peer.port());
    let path = plain(client.agent.path.as_deref().unwrap_or_default());
    format!("pid={} | ip={ip} | port={port} | path={path}", client.agent.pid)
}

fn reject(clients: &Clients, name: &str, asked: &Asked) -> Option<String> {
    let (which, gone) = match name {
        "rejectAllClient" => (String::new(), clients.order(of_tcp, &Order::Leave)),
        "rejectClientByIpPort" => {
            let at = place(asked, "ip")?;
            let gone = clients.order(|client| of_tcp(client) && is_at(client, at), &Order::Leave);
            (format!(" {{ip={} port={}}},", at.0, at.1), gone)
        }
        _ => {
            let system = text(asked, "subsystem").or_else(|| text(asked, "subSystem"))?;
            let gone = clients.order(|client| is_of(client, system), &Order::Leave);
            (format!(" {{subsystem={}}},", plain(system)), gone)
        }
    };
    Some(format!("{name} success!{which} had reject {{{}}}", places(&gone)))
}

fn redirect(clients: &Clients, name: &str, asked: &Asked) -> Option<String> {
    let either = |one, other| text(asked, one).or_else(|| text(asked, other));
    let ip: IpAddr = either("desteventmeshIp", "destEventMeshIp")?.parse().ok()?;
    let port: u16 = either("desteventmeshport", "desteventmeshPort")?.parse().ok()?;
    let order = Order::Redirect { ip, port };
    let (which, gone) = match name {
        "redirectClientByIpPort" => {
            let at = place(asked, "ip")?;
            let gone = clients.order(|client| of_tcp(client) && is_at(client, at), &order);
            (format!("{{ip={} port={}}}", at.0, at.1), gone)
        }
        "redirectClientByPath" => {
            let path = text(asked, "path")?;
            let of = |client: &Client| {
                of_tcp(client) && client.agent.path.as_deref().is_some_and(|have| have.contains(path))
            };
            (format!("{{path={}}}", plain(path)), clients.order(of, &order))
        }
        _ => {
            let system = either("subsystem", "subSystem")?;
            let gone = clients.order(|client| is_of(client, system), &order);
            (format!("{{subSystem={}}}", plain(system)), gone)
        }
    };
    let to = format!("{{desteventmeshIp={ip} desteventmeshPort={port}}}");
    Some(format!("{name} success! {which}, {to} {{redirectResult={}}}", places(&gone)))
}

fn of_tcp(client: &Client) -> bool {
    client.protocol == "TCP"
}

fn is_of(client: &Client, system: &str) -> bool {
    of_tcp(client) && client.agent.subsystem.as_deref() == Some(system)
}

fn is_at(client: &Client, (ip, port): (IpAddr, u16)) -> bool {
    client.peer.ip().to_canonical() == ip.to_canonical() && client.peer.port() == port
}

/// The address that `name` and `port` say.
fn place(asked: &Asked, name: &str) -> Option<(IpAddr, u16)> {
    Some((text(asked, name)?.parse().ok()?, text(asked, "port")?.parse().ok()?))
}

fn text<'a>(asked: &'a Asked, name: &str) -> Option<&'a str> {
    asked.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
}

fn places(clients: &[Client]) -> String {
    let mut text = String::new();
    for client in clients.iter().take(CLIENTS_MAX) {
        let (ip, port) = (client.peer.ip().to_canonical(), client.peer.port());
        write!(text, "ip={ip},port={port}|").unwrap_or(());
    }
    text
}

/// What a client says of itself, without what would begin a new line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Clients that one page shows.
const CLIENTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use eventmesh::{Purpose, UserAgent};

    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Asked {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn client(protocol: &'static str, port: u16, url: Option<&str>) -> Client {
        let mut agent = UserAgent::of("g", Purpose::Subscribe);
        (agent.subsystem, agent.path) = (Some("5023".to_owned()), Some("/srv/app\n".to_owned()));
        let (url, topics) = (url.map(str::to_owned), vec!["t".to_owned()]);
        Client { agent, peer: ([127, 0, 0, 1], port).into(), protocol, url, topics }
    }

    #[test]
    fn orders_reach_those_they_are_for() {
        let clients = Clients::default();
        let (_one, first) = clients.register(client("TCP", 1, None));
        let (_two, second) = clients.register(client("TCP", 2, None));
        let (_web, third) = clients.register(client("HTTP", 1, Some("http://h/")));
        let manage = |name: &str, pairs: &[(&str, &str)]| manage(&clients, name, &asked(pairs)).unwrap();
        let at = [("ip", "127.0.0.1"), ("port", "2")];
        assert_eq!(
            manage("rejectClientByIpPort", &at),
            "rejectClientByIpPort success! {ip=127.0.0.1 port=2}, had reject {ip=127.0.0.1,port=2|}"
        );
        assert_eq!((first.borrow().clone(), second.borrow().clone()), (None, Some(Order::Leave)));
        let to = [("path", "/srv"), ("desteventmeshIp", "10.0.0.9"), ("desteventmeshport", "10999")];
        let said = manage("redirectClientByPath", &to);
        assert!(said.contains("{desteventmeshIp=10.0.0.9 desteventmeshPort=10999}"), "{said}");
        let redirect = Order::Redirect { ip: [10, 0, 0, 9].into(), port: 10999 };
        assert_eq!((first.borrow().clone(), third.borrow().clone()), (Some(redirect), None));
        assert_eq!(send_away(&clients, "HTTP", &asked(&[("url", "http://h/")])), Some(1));
        assert_eq!(third.borrow().clone(), Some(Order::Leave));
        assert_eq!(send_away(&clients, "TCP", &asked(&[("host", "127.0.0.1"), ("port", "3")])), Some(0));
        assert_eq!(send_away(&clients, "TCP", &asked(&[])), None, "nobody is not everybody");
    }

    #[test]
    fn what_is_asked_wrong_is_said_to_be() {
        let clients = Clients::default();
        for (name, pairs) in [
            ("rejectClientByIpPort", &[("ip", "127.0.0.1")][..]),
            ("rejectClientByIpPort", &[("ip", "nowhere"), ("port", "1")]),
            ("rejectClientBySubSystem", &[]),
            ("redirectClientByIpPort", &[("ip", "127.0.0.1"), ("port", "1")]),
            ("showClientBySystem", &[]),
        ] {
            assert_eq!(manage(&clients, name, &asked(pairs)).as_deref(), Some("params illegal!"), "{name}");
        }
        assert_eq!(manage(&clients, "nosuch", &asked(&[])), None);
    }

    #[test]
    fn lists_say_what_clients_say_of_themselves() {
        let clients = Clients::default();
        let (_one, _) = clients.register(client("TCP", 7, None));
        let (_web, _) = clients.register(client("GRPC", 8, Some("http://h/")));
        let tcp = list(&clients, "TCP");
        assert_eq!(
            (&tcp[0]["port"], &tcp[0]["group"], &tcp[0]["purpose"]),
            (&json!(7), &json!("g"), &json!("sub"))
        );
        assert_eq!(list(&clients, "GRPC")[0]["url"], "http://h/");
        assert_eq!(list(&clients, "HTTP"), json!([]));
        let manage = |name: &str, pairs: &[(&str, &str)]| manage(&clients, name, &asked(pairs)).unwrap();
        assert_eq!(manage("showClient", &[]), "System=5023 | ClientNum=1\n");
        assert_eq!(
            manage("showClientBySystem", &[("subsystem", "5023")]),
            "pid=0 | ip=127.0.0.1 | port=7 | path=/srv/app\u{fffd} | purpose=sub\n"
        );
        assert!(manage("showListenClientByTopic", &[("topic", "t")]).contains("port=7"));
        assert_eq!(manage("showListenClientByTopic", &[("topic", "other")]), "");
    }
}
