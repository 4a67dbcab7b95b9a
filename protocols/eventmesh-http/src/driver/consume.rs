//! Requests that subscribe webhooks, and those that look at what is there.

use std::collections::BTreeMap;

use webhook::Wanted;

use super::{Asked, CLIENT, Site};
use crate::binding;
use crate::error::{Answer, Code};
use crate::request::{self, Caller, Fields};

/// What operators call this protocol.
const PROTOCOL: &str = "HTTP";

impl Site {
    /// 206. Not cancel-safe: dropped, some topics may be subscribed.
    pub(super) async fn subscribe(
        &self,
        asked: &Asked,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Answer, Answer> {
        let interest = request::interest(fields)?;
        let hooks = &self.parts.hooks;
        let who = self.admit(asked, caller, &hooks.session_name(&interest.group)).await?;
        let wanted = Wanted {
            group: &interest.group,
            url: &interest.url,
            client: &caller.name(),
            items: &interest.items,
            // Programs with the SDK need not send heartbeats.
            watched: false,
            write: binding::push,
            shown: (caller.agent(&interest.group), asked.source.address, PROTOCOL),
        };
        hooks.subscribe(who, wanted).await.map_err(|refused| Answer::of_subscribe(&refused))?;
        Ok(Answer::new(Code::Success, ""))
    }

    /// 207. What is not there needs no ending. Not cancel-safe: dropped, some may be ended.
    pub(super) async fn unsubscribe(
        &self,
        asked: &Asked,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Answer, Answer> {
        let interest = request::interest(fields)?;
        let who = self.admit(asked, caller, CLIENT).await?;
        let topics = interest.items.iter().map(|item| item.topic.as_str());
        let client = caller.name();
        let hooks = &self.parts.hooks;
        hooks.unsubscribe(&interest.group, &interest.url, who.user, Some(&client), topics).await;
        Ok(Answer::new(Code::Success, ""))
    }

    /// 203. A client that is not known is not told so: EventMesh's SDK would not know what to do. Cancel-safe.
    pub(super) async fn heartbeat(
        &self,
        asked: &Asked,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Answer, Answer> {
        let (group, topics) = request::heartbeat(fields)?;
        self.admit(asked, caller, CLIENT).await?;
        let client = caller.name();
        for topic in topics {
            self.parts.hooks.touch(&group, &client, &topic);
        }
        Ok(Answer::new(Code::Success, ""))
    }

    /// Notes topics, between semicolons, as created; or that they are not any more. Cancel-safe.
    pub(super) async fn topics(
        &self,
        asked: &Asked,
        caller: &Caller,
        list: &str,
        create: bool,
    ) -> Result<Answer, Answer> {
        self.admit(asked, caller, CLIENT).await?;
        for topic in list.split(';').map(str::trim).filter(|topic| !topic.is_empty()) {
            match create {
                true => {
                    let created = self.parts.topics.create(topic);
                    created.map_err(|error| Answer::new(Code::Operation, format!("{topic:?}: {error}")))?;
                }
                false => {
                    self.parts.topics.delete(topic);
                }
            }
        }
        Ok(Answer::new(Code::Success, ""))
    }

    /// Who has webhooks for what: for administrators, as it is about others. Cancel-safe.
    pub(super) async fn query(&self, asked: &Asked, caller: &Caller) -> Result<Answer, Answer> {
        let who = self.admit(asked, caller, CLIENT).await?;
        if !who.rights.may_administer() {
            return Err(Answer::new(Code::Acl, "this is for administrators"));
        }
        let clients = self.parts.clients.list(|client| client.protocol == PROTOCOL, CLIENTS_MAX);
        let mut groups: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
        for client in &clients {
            let group = client.agent.group().unwrap_or_default().to_owned();
            let one = serde_json::json!({ "url": client.url, "topics": client.topics });
            groups.entry(group).or_default().push(one);
        }
        let topics: std::collections::BTreeSet<&String> =
            clients.iter().flat_map(|client| &client.topics).collect();
        let mut answer = Answer::new(Code::Success, "");
        // The first is spelt as EventMesh spells it.
        answer.members.insert("subsrciption".to_owned(), serde_json::json!(groups));
        answer.members.insert("localTopicSet".to_owned(), serde_json::json!(topics));
        Ok(answer)
    }
}

/// Clients that one answer tells of.
const CLIENTS_MAX: usize = 1000;
