//! A gate that answers as the test says. Knows one method of several steps.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::access::{Asking, Exchange, Gate, Step};
use crate::{Pending, Principal, Reject, RejectKind};

/// A gate that answers as the test says. Cloning shares it.
#[derive(Clone, Debug)]
pub struct ScriptedGate {
    method: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    admit: Option<Result<Principal, Reject>>,
    steps: VecDeque<Result<Step, Reject>>,
    asked: Vec<Asking>,
    heard: Vec<Bytes>,
}

impl ScriptedGate {
    /// A gate that lets everybody in, and knows `method`.
    pub fn new(method: &'static str) -> Self {
        Self { method, state: Arc::default() }
    }

    /// How [`Gate::admit`] is answered from now on; the client id is the one asked for.
    pub fn admit_as(&self, answer: Result<Principal, Reject>) {
        self.lock().admit = Some(answer);
    }

    /// How the next [`Exchange::step`] is answered; call again for the one after it. Without an answer it is refused.
    pub fn step_next(&self, answer: Result<Step, Reject>) {
        self.lock().steps.push_back(answer);
    }

    /// Who asked to come in, or started an exchange.
    pub fn asked(&self) -> Vec<Asking> {
        self.lock().asked.clone()
    }

    /// What was said in exchanges.
    pub fn heard(&self) -> Vec<Bytes> {
        self.lock().heard.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for ScriptedGate {
    fn admit(&self, asking: Asking) -> Pending<Principal> {
        let mut state = self.lock();
        let client = asking.client.clone();
        state.asked.push(asking);
        let answer = match &state.admit {
            None => Ok(Principal::anonymous(client)),
            Some(answer) => answer.clone().map(|who| Principal { client, ..who }),
        };
        Box::pin(std::future::ready(answer))
    }

    fn exchange(&self, asking: Asking, method: &str) -> Option<Box<dyn Exchange>> {
        self.lock().asked.push(asking);
        (method == self.method).then(|| Box::new(self.clone()) as Box<dyn Exchange>)
    }
}

impl Exchange for ScriptedGate {
    fn step(&mut self, data: Bytes) -> Pending<Step> {
        let mut state = self.lock();
        state.heard.push(data);
        let unproved = || Err(Reject::new(RejectKind::Unproved, "not what was expected"));
        let answer = state.steps.pop_front().unwrap_or_else(unproved);
        Box::pin(std::future::ready(answer))
    }
}
